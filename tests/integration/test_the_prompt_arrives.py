"""Each part of the prompt reaches the program, and stands readable in the run's folder."""

from __future__ import annotations

from integration.driver import Driver, until


def test_each_part_of_the_prompt_reaches_the_program(root: Driver) -> None:
    """The program prints what it got: description, parts, context, answers, output path, facts help."""
    (root.root / "docs").mkdir()
    (root.root / "docs/api.md").write_text("the api")
    long = "a long answer " * 500
    root.drop("first", "@say 'the answer of the first'")
    root.drop("second", f"@say '{long}'")
    root.drop(
        "main", "Keep the é, the 名 and the `code`.", "@prompt",
        dependencies=["first", "second"], context_files=["docs/api.md"], subtasks=["part one", "part two"],
    )  # fmt: skip
    root.start()
    root.reach("completed", "main")
    told = root.answer("main")
    assert told.strip() == root.prompt("main").strip()
    assert told.startswith("# Task main\n")
    for part in (
        "Do main\nKeep the é, the 名 and the `code`.",
        "- [ ] part one\n- [ ] part two",
        "- docs/api.md\n",
        "- context/project_overview.md\n",
        "- context/current_state.md\n",
        "### first (context/agent_outputs/first_output.md)\n\nthe answer of the first",
        "(cut here; all of it is in context/agent_outputs/second_output.md)",
        "Write your answer to `tasks/runs/main/1/output.md` (also in $ORCHESTRATE_OUTPUT_FILE)",
        "```orchestrate",
        'files_modified: ["src/auth.py"]',
        "known_issues:",
        "objectives:",
        "questions:",
    ):
        assert part in told, part
    assert "What went wrong" not in told and "From the person" not in told


def test_what_went_wrong_last_time_and_a_persons_note_reach_the_next_attempt(root: Driver) -> None:
    root.drop(
        "one",
        "@run 1 say 'the disk of the moon is full'",
        "@run 1 exit 3",
        "@run 2 exit 4",
        "@prompt",
        max_retries=1,
    )
    root.start()
    root.reach("review", "one")
    second = root.prompt("one", 2)
    assert second.startswith("# Task one (attempt 2)") and "## What went wrong last time" in second
    assert "exit status 3: the disk of the moon is full" in second
    root.ok("retry", "one", "--note", "use the other disk;\nreally")
    root.reach("completed", "one")
    told = root.answer("one")
    assert "## From the person who gave it back\n\nuse the other disk;\nreally" in told
    assert "exit status 4" in told and root.count("one") == 3


def test_an_answer_that_could_not_be_read_is_asked_for_in_clearer_words(root: Driver) -> None:
    root.drop("empty", "@run 1 exit 0", "@prompt")
    root.drop("block", "@run 1 say well", "@run 1 facts 'this: [is no yaml'", "@prompt")
    root.start()
    root.reach("completed", "empty", "block")
    for one in ("empty", "block"):
        assert root.result(one, 1)["status"] == "unreadable" and root.count(one) == 2
        assert "**Your last answer could not be read.**" in root.answer(one)
    assert "the orchestrate block in its answer" in root.answer("block")


def test_context_can_be_left_out_or_required_by_name(root: Driver) -> None:
    (root.root / "context").mkdir(exist_ok=True)
    (root.root / "context/style.md").write_text("tabs")
    root.drop("none", "@prompt", context_required=False)
    root.drop("some", "@prompt", context_required=["style"])
    root.drop("missing", "@prompt", context_required=["nowhere"])
    root.start()
    root.reach("completed", "none", "some")
    assert "## Context" not in root.answer("none")
    assert "- context/style.md\n" in root.answer("some") and "project_overview" not in root.answer("some")
    until(lambda: root.rejected("missing.yaml"))
    assert "'context/nowhere.md' does not exist" in root.rejected("missing.yaml")


def test_a_context_file_that_a_dependency_writes_need_not_be_there_yet(root: Driver) -> None:
    root.drop("user", "@prompt", dependencies=["writer"], context_files=["made.md"])
    root.drop("writer", "@write made.md 'made by it'", "@say well")
    root.start()
    root.reach("completed", "user")
    assert "- made.md" in root.answer("user")
