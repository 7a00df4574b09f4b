"""What becomes of a run: again, when and where, or to a person, with a reason; and never a full disk."""

from __future__ import annotations

import time

from integration.driver import AGENT, Driver, until


def test_a_failed_attempt_is_made_again_on_another_slot_then_a_person_is_asked(root: Driver) -> None:
    root.drop("one", "@say 'it broke'", "@exit 3")
    root.start()
    root.reach("review", "one")
    assert root.count("one") == 3  # max_retries: 2
    slots = [root.result("one", number)["agent_id"] for number in (1, 2, 3)]
    assert slots[0] != slots[1] != slots[2]
    result = root.result("one")
    assert result["status"] == "agent_error" and result["exit_code"] == 3
    assert (
        "exit status 3: it broke (after 3 attempts)" in result["reason"] and "orchestrate retry one" in result["reason"]
    )
    assert "attempt 1 of 3: agent_error: exit status 3: it broke" in root.log


def test_without_retries_one_failure_is_enough(root: Driver) -> None:
    root.configure({"fake": {"command": AGENT}, "once": {"command": AGENT, "retry_on_failure": False}})
    root.drop("zero", "@exit 3", max_retries=0)
    root.drop("once", "@exit 3", preferred_agent="once")
    root.start()
    root.reach("review", "zero")
    root.reach("failed", "once")
    assert root.count("zero") == root.count("once") == 1
    assert "retry_on_failure: false" in root.result("once")["reason"]


def waiting_for_its_back_off(root: Driver) -> None:
    """A task that failed once and is not due for a long time."""
    root.configure(retry={"max_retries": 3, "retry_delay_seconds": 1000, "max_delay_seconds": 1e6})
    root.drop("one", f"@ledger '{root.root}/ledger'", "@run 1 exit 3", "@say well")
    root.start()
    until(lambda: root.places("one") == ["pending"] and "one retried" in root.log)


def test_the_back_off_survives_a_restart_and_says_until_when(root: Driver) -> None:
    waiting_for_its_back_off(root)
    root.kill()
    root.start()
    root.drop("other", "@say well")
    root.reach("completed", "other")
    assert root.places("one") == ["pending"] and root.ledger() == ["one 1"]
    [row] = root.json("tasks", "--status", "pending")
    assert row["reason"].startswith("tries again at ") and "exit status 3" in row["reason"]
    root.kill()
    root.ok("retry", "one")
    root.start()
    root.reach("completed", "one")


def test_a_person_may_cut_the_back_off_short_while_the_dispatcher_runs(root: Driver) -> None:
    waiting_for_its_back_off(root)
    root.ok("retry", "one")
    root.reach("completed", "one", seconds=8)


def test_no_attempt_comes_before_its_back_off_is_over(root: Driver) -> None:
    root.configure(retry={"max_retries": 2, "retry_delay_seconds": 1})
    ids = [f"t{number}" for number in range(4)]
    for one in ids:
        root.drop(one, "@run 1 exit 3", "@say well")
    root.start()
    root.reach("completed", *ids)
    for one in ids:
        ended = (root.runs(one) / "1/exit").stat().st_mtime
        begun = (root.runs(one) / "2/prompt.md").stat().st_mtime
        assert begun - ended >= 0.9


def test_an_unreadable_answer_is_asked_for_again_at_once_then_a_person_sees_why(root: Driver) -> None:
    root.configure(retry={"max_retries": 1, "retry_delay_seconds": 1000})
    root.drop("one", "@exit 0")
    root.start()
    root.reach("review", "one")
    assert root.count("one") == 2 and root.result("one")["status"] == "unreadable"
    assert "it succeeded, but printed nothing" in root.result("one")["reason"]


def test_half_an_answer_of_a_program_that_failed_is_kept_but_is_no_success(root: Driver) -> None:
    root.drop("one", "@half 'half an answ'", "@exit 9", max_retries=0)
    root.start()
    root.reach("review", "one")
    assert (root.runs("one") / "1/stdout.log").read_text() == "half an answ"
    assert not (root.root / "context/agent_outputs/one_output.md").exists()


def test_one_that_runs_too_long_is_ended_and_goes_to_another_slot(root: Driver) -> None:
    root.configure({"fake": {"command": AGENT, "max_instances": 2, "timeout_seconds": 0.5}})
    root.drop("agents", "@run 1 ignore INT", "@run 1 spin 60", "@say well")
    root.drop("tasks", "@hang", timeout_minutes=0.01, max_retries=0)
    root.start()
    root.reach("completed", "agents")
    root.reach("review", "tasks")
    first = root.result("agents", 1)
    assert first["status"] == "timeout" and first["agent_id"] != root.result("agents")["agent_id"]
    assert root.result("tasks")["status"] == "timeout" and "timeout_minutes" in root.result("tasks")["reason"]
    assert root.members() == []


def test_one_that_neither_says_nor_computes_anything_is_stuck_one_that_computes_is_not(root: Driver) -> None:
    root.configure({"fake": {"command": AGENT, "max_instances": 2, "stuck_after_seconds": 1.5}})
    root.drop("stuck", "@hang", max_retries=0)
    root.drop("busy", "@spin 4", "@say well", max_retries=0)
    root.start()
    root.reach("review", "stuck")
    root.reach("completed", "busy")
    assert root.result("stuck")["status"] == "stuck" and "no output and no CPU" in root.result("stuck")["reason"]


def test_thirty_megabytes_of_output_are_cut_to_the_limit_and_head_and_tail_are_kept(root: Driver) -> None:
    root.configure(limits={"max_output_mb": 1})
    root.drop("one", "@say 'the very first'", "@print_mb 30", "@say 'the very last'")
    root.start()
    root.reach("completed", "one")
    log = root.runs("one") / "1/stdout.log"
    assert log.stat().st_size < 1_100_000
    text = log.read_text()
    assert text.startswith("the very first\n000000000 x") and text.endswith("x\nthe very last\n")
    assert "bytes left out: max_output_mb" in text
    assert root.answer("one").rstrip().endswith("the very last")


def test_a_run_that_goes_on_printing_never_holds_more_disk_than_the_limit_and_a_moment(root: Driver) -> None:
    root.configure(limits={"max_output_mb": 1})
    root.drop("one", "@print_mb 30", "@wait go", "@say 'the very last'")
    root.start()
    log = root.runs("one") / "1/stdout.log"
    until(lambda: log.exists() and log.stat().st_size >= 30_000_000 and log.stat().st_blocks * 512 < 1_200_000)
    root.go()
    root.reach("completed", "one")
    assert log.stat().st_size < 1_100_000 and log.read_text().endswith("the very last\n")


def test_questions_bring_a_task_to_a_person_and_the_answer_brings_it_back(root: Driver) -> None:
    root.drop("one", "@run 1 say unsure", "@run 1 facts 'questions: [\"blue or red?\"]'", "@prompt")
    root.start()
    root.reach("review", "one")
    assert root.count("one") == 1
    assert root.json("show", "one")["questions"] == ["blue or red?"]
    assert "--note" in root.result("one")["reason"]
    root.ok("retry", "one", "--note", "red")
    root.reach("completed", "one")
    assert "red" in root.answer("one")


def test_an_agent_that_writes_about_rate_limits_is_not_rate_limited(root: Driver) -> None:
    words = "error: rate limit reached, 429 too many requests, please run /login, context window exceeded"
    root.drop("one", f"@say '{words}'")
    root.drop("two", f"@say '{words}'", "@exit 1", max_retries=0)
    root.start()
    root.reach("completed", "one")
    root.reach("review", "two")
    assert root.result("two")["status"] == "agent_error"
    assert {row["state"] for row in root.json("agents")} == {"ready"}


def test_a_retry_from_review_counts_anew_and_a_completed_task_is_never_run_again(root: Driver) -> None:
    root.drop("one", *(f"@run {number} exit 3" for number in (1, 2, 3, 4)), "@say well")
    root.start()
    root.reach("review", "one")
    before = time.time()
    root.ok("retry", "one")
    root.reach("completed", "one")
    assert root.count("one") == 5 and root.result("one")["run"] == 5 and time.time() > before
    refused = root.run("retry", "one")
    assert refused.returncode == 1 and "is completed; a finished result never changes" in refused.stderr


def test_a_nul_is_a_mistake_of_the_task_and_rests_no_agent(root: Driver) -> None:
    root.configure({"shell": {}, "fake": {"command": AGENT, "env": {"X": "a\0b"}}}, retry={"max_retries": 0})
    root.drop("script", run="echo a\0b")
    for name in ("one", "two", "three", "four"):
        root.drop(name, preferred_agent="fake")
    root.start()
    root.reach("review", "one", "two", "three", "four")
    assert "holds a NUL" in root.rejected("script.yaml")
    assert "embedded null byte" in root.result("four")["reason"] and "paused" not in root.log


def test_a_status_for_which_the_disk_has_no_room_is_learned_from_the_wrapper_itself(root: Driver) -> None:
    """A folder in its place stands for a disk that takes none; else the work would be done once more."""
    root.configure({"shell": {}}, retry={"max_retries": 0})
    for name, end in (("well", "echo done"), ("ill", "exit 3")):
        root.drop(name, run=f'echo x >>"{root.root}/ledger"; mkdir "$ORCHESTRATE_RUN_FOLDER/exit"; {end}')
    root.start()
    root.reach("completed", "well")
    root.reach("review", "ill")
    assert root.result("ill")["exit_code"] == 3 and len(root.ledger()) == 2
