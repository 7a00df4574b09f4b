"""What agents hand back is in the pages for every later one; what people wrote stays."""

from __future__ import annotations

import json

from integration.driver import Driver, until


def test_facts_land_in_the_pages_each_with_its_task(root: Driver) -> None:
    facts = (
        '\'files_modified: ["src/auth.py", "tests/test_auth.py"]\' \'notes: ["mind the gap"]\''
        " 'known_issues: [\"login is slow\"]' 'objectives: [\"make it fast\"]' 'code_structure: [\"src/auth.py: login\"]'"
    )
    root.drop("one", "@say well", f"@facts {facts}")
    root.start()
    root.reach("completed", "one")
    context = root.root / "context"
    for page, line in (
        ("notes/fake.md", "- mind the gap (one, fake)"),
        ("known_issues.md", "- login is slow (one, fake)"),
        ("objectives.md", "- make it fast (one, fake)"),
        ("code_structure.md", "- src/auth.py: login (one, fake)"),
    ):
        assert line in (context / page).read_text().splitlines(), page
    [row] = json.loads((context / "completed_tasks.json").read_text())
    assert row["task_id"] == "one" and row["files_modified"] == ["src/auth.py", "tests/test_auth.py"]
    assert row["output_file"] == "context/agent_outputs/one_output.md"
    root.drop("two", "@prompt")
    root.reach("completed", "two")
    for page in (
        "notes/fake.md",
        "known_issues.md",
        "objectives.md",
        "code_structure.md",
        "current_state.md",
    ):
        assert f"- context/{page}\n" in root.answer("two"), page


def test_what_people_wrote_is_kept_while_the_checklist_is_kept_up_to_date(root: Driver) -> None:
    root.ok("init")
    state, overview = (root.root / "context" / name for name in ("current_state.md", "project_overview.md"))
    overview.write_text("# Ours\n\nEvery word of it.\n")
    state.write_text("My own plan\n\n" + state.read_text() + "\nand what I noted below it\n")
    root.drop("one", "@say well")
    root.drop("bad", "@exit 3", max_retries=0)
    root.drop("held", "@say well", dependencies=["gate"])
    root.start()
    root.reach("completed", "one")
    root.reach("review", "bad")
    until(lambda: all(word in state.read_text() for word in ("one", "bad", "held")), what=state.read_text)
    text = state.read_text()
    assert text.startswith("My own plan\n\n# Current state\n") and text.endswith("\nand what I noted below it\n")
    begin, end = text.index("<!-- orchestrate: tasks -->"), text.index("<!-- orchestrate: end -->")
    assert begin < text.index("held") < end
    root.ok("stop")
    assert overview.read_text() == "# Ours\n\nEvery word of it.\n"
    assert state.read_text().startswith("My own plan") and "noted below it" in state.read_text()


def test_a_person_may_rewrite_the_checklist_page_at_any_time_and_the_marks_come_back(root: Driver) -> None:
    root.start()
    state = root.root / "context/current_state.md"
    state.write_text("nothing but my words")
    root.drop("one", "@say well")
    root.reach("completed", "one")
    until(
        lambda: "<!-- orchestrate: end -->" in state.read_text() and "one" in state.read_text(),
        what=state.read_text,
    )
    assert state.read_text().startswith("nothing but my words\n")


def test_people_may_write_into_a_page_to_which_agents_add(root: Driver) -> None:
    root.start()
    page = root.root / "context/known_issues.md"
    page.write_text("# Known issues\n\n- mine, without a line's end")
    ids = [f"t{number}" for number in range(8)]
    for one in ids:
        root.drop(one, "@say well", f"@facts 'known_issues: [\"found by {one}\"]'")
    root.reach("completed", *ids)
    lines = page.read_text().splitlines()
    assert lines[:3] == ["# Known issues", "", "- mine, without a line's end"]
    assert sorted(line for line in lines if "found by" in line) == [f"- found by {one} ({one}, fake)" for one in ids]


def test_a_deleted_list_of_completed_tasks_comes_back_with_everything_in_it(root: Driver) -> None:
    root.start()
    root.drop("one", "@say well")
    root.reach("completed", "one")
    page = root.root / "context/completed_tasks.json"
    page.unlink()
    root.drop("two", "@say well")
    root.reach("completed", "two")
    assert {row["task_id"] for row in json.loads(page.read_text())} == {"one", "two"}


def test_a_torn_list_of_completed_tasks_comes_back_with_each_of_them_once(root: Driver) -> None:
    root.start()
    root.drop("one", "@say well")
    root.reach("completed", "one")
    page = root.root / "context/completed_tasks.json"
    page.write_text(page.read_text()[:-20])
    root.drop("two", "@say well")
    root.reach("completed", "two")
    assert sorted(row["task_id"] for row in json.loads(page.read_text())) == ["one", "two"]
