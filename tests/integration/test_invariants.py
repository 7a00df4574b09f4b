"""What holds at every instant, whoever dies: DESIGN's invariants, each by what it looks like from outside."""

from __future__ import annotations

import fcntl
import os
import random
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from integration.driver import AGENT, LONG, Driver, living, until


def test_forty_tasks_survive_fifteen_kills_each_completed_once_in_one_folder_and_run_once(
    root: Driver,
) -> None:
    """Invariants 1, 2 and 4: kill -9 at random moments loses nothing, doubles nothing, repeats nothing."""
    chance = random.Random(20250115)
    ids = [f"job_{number:02d}" for number in range(40)]
    for one in ids:
        root.drop(one, "@say well", f"@ledger '{root.root}/ledger'", "@facts 'notes: [\"seen\"]'", max_retries=0)
    kills = 0
    while kills < 15 or any(root.places(one) != ["completed"] for one in ids):
        root.start()
        if kills == 15:
            root.reach("completed", *ids)
            break
        time.sleep(chance.uniform(0.0, 0.35))  # the moment is the test
        root.kill()
        kills += 1
        for one in ids:
            assert len(root.places(one)) == 1, f"{one} is in {root.places(one)} after kill {kills}"
    assert sorted(root.ledger()) == [f"{one} 1" for one in ids]
    rows = re.findall(r'"mark": "([^"]*)"', (root.root / "context/completed_tasks.json").read_text())
    assert sorted(rows) == [f"{one}/1" for one in ids]
    notes = (root.root / "context/notes/fake.md").read_text()
    assert [notes.count(f"<!-- {one}/1 -->") for one in ids] == [1] * len(ids)
    assert until(lambda: not list((root.root / "tasks/assigned").glob("*.yaml")))


def test_a_restart_takes_up_living_runs_and_learns_how_those_ended_that_ended_meanwhile(root: Driver) -> None:
    """Invariant 2: agents outlive the dispatcher, and their exact exit statuses are not lost."""
    root.drop("lives", "@wait go", "@say 'lived on'", max_retries=0)
    root.drop("seven", "@wait away", "@exit 7", max_retries=0)
    root.drop("well", "@wait away", "@say 'done while you were away'", max_retries=0)
    root.start()
    until(lambda: len({task for task in ("lives", "seven", "well") if root.members(task)}) == 3)
    before = root.members("lives")
    root.kill()
    root.go("away")
    until(lambda: not root.members("seven") and not root.members("well"))
    assert root.members("lives") == before
    root.start()
    root.reach("review", "seven")
    root.reach("completed", "well")
    assert root.result("seven")["exit_code"] == 7
    assert root.answer("well").strip() == "done while you were away"
    assert root.places("lives") == ["assigned"] and root.members("lives") == before
    root.go()
    root.reach("completed", "lives")
    assert [root.count(one) for one in ("lives", "seven", "well")] == [1, 1, 1]


def test_as_long_as_anything_of_a_run_lives_no_second_one_starts(root: Driver) -> None:
    """Invariant 2: wrapper and dispatcher are dead, the agent is not: the kernel's lock keeps the second out."""
    root.drop("one", f"@ledger '{root.root}/ledger'", "@run 1 wait go", "@say well")
    root.start()
    until(root.ledger)
    root.kill()
    wrapper = min(root.members("one"))
    assert b"orchestrate-run" in Path(f"/proc/{wrapper}/cmdline").read_bytes()
    os.kill(wrapper, signal.SIGKILL)
    root.start()
    root.drop("other", "@say well")  # a whole life of another task: the dispatcher has looked
    root.reach("completed", "other")
    assert root.ledger() == ["one 1"] and root.places("one") == ["assigned"]
    root.go()
    root.reach("completed", "one")
    assert root.ledger() == ["one 1", "one 2"] and root.result("one", 1)["status"] == "lost"


def test_a_run_whose_record_was_never_written_but_whose_end_is_known_is_judged_not_repeated(
    root: Driver,
) -> None:
    """Invariant 4: the dispatcher record was lost; the run itself ended well."""
    root.drop("one", "@say well", f"@ledger '{root.root}/ledger'")
    root.start()
    root.reach("completed", "one")
    root.ok("stop")
    _back_to_assigned(root, "one")
    for name in ("alive", "result.yaml"):
        (root.runs("one") / "1" / name).unlink()
    root.start()
    root.reach("completed", "one")
    assert root.ledger() == ["one 1"]


def _back_to_assigned(root: Driver, task_id: str) -> None:
    """As it lay before its commit."""
    tasks = root.root / "tasks"
    (tasks / f"completed/{task_id}.yaml").rename(tasks / f"assigned/{task_id}.yaml")
    (tasks / f"assigned/{task_id}_agent_01.yaml").write_text(
        f"task_id: {task_id}\nagent_id: agent_01\nagent_type: fake\nrun: 1\n"
    )


def test_nothing_is_overwritten_when_a_task_ends_where_a_file_of_its_name_lies(root: Driver) -> None:
    """Invariant 3: both files stay, and it is said where."""
    root.drop("one", "@wait go", "@say well")
    root.start()
    until(lambda: root.members("one"))
    foreign = root.root / "tasks/completed/one.yaml"
    foreign.write_text("description: somebody put this here\n")
    task = (root.root / "tasks/assigned/one.yaml").read_bytes()
    root.go()
    until(lambda: "holds a file of that id" in root.rejected("one.yaml"), what=lambda: root.story("one"))
    assert foreign.read_text() == "description: somebody put this here\n"
    assert (root.root / "tasks/rejected/one.yaml").read_bytes() == task


def test_what_was_merged_before_a_crash_is_not_merged_again(root: Driver) -> None:
    """Invariant 4: everything before the commit may happen twice without harm."""
    root.drop("one", "@say well", "@facts 'known_issues: [\"a crack\"]' 'notes: [\"a hint\"]'")
    root.start()
    root.reach("completed", "one")
    root.ok("stop")
    pages = [root.root / "context" / name for name in ("known_issues.md", "notes/fake.md", "completed_tasks.json")]
    before = [page.read_text() for page in pages]
    assert "a crack" in before[0] and "a hint" in before[1]
    _back_to_assigned(root, "one")
    root.start()
    root.reach("completed", "one")
    assert [page.read_text() for page in pages] == before
    assert root.count("one") == 1


def test_a_run_whose_task_was_taken_away_reports_to_its_folder_only(root: Driver) -> None:
    """Invariant 5: late is late; the result is kept and not applied."""
    root.drop("one", "@wait go", "@say 'too late'", "@facts 'known_issues: [\"never seen\"]'")
    root.start()
    until(lambda: root.members("one"))
    (root.root / "tasks/assigned/one.yaml").rename(root.root / "tasks/review/one.yaml")
    root.go()
    until(lambda: "one late" in root.log, what=lambda: root.log)
    assert root.places("one") == ["review"] and root.result("one", 1)["status"] in ("success", "cancelled")
    assert not (root.root / "context/agent_outputs/one_output.md").exists()
    assert "never seen" not in (root.root / "context/known_issues.md").read_text()


def test_a_task_put_back_by_hand_while_it_runs_waits_for_the_end_of_that_run(root: Driver) -> None:
    """Invariants 2 and 5: never two live runs of one task, and the first one cannot report."""
    root.drop("one", f"@ledger '{root.root}/ledger'", "@run 1 wait go", "@say well")
    root.start()
    until(root.ledger)
    (root.root / "tasks/assigned/one.yaml").rename(root.root / "tasks/pending/one.yaml")
    root.drop("other", "@say well")
    root.reach("completed", "other")
    assert root.members("one") and root.count("one") == 1, "a second run began while the first lived"
    root.reach("completed", "one", seconds=LONG)  # the first is ended, for nobody wants its result; then it runs again
    assert root.ledger() == ["one 1", "one 2"] and root.result("one", 1)["goes_to"] == "pending"


def test_the_same_file_that_comes_back_is_not_run_again_and_other_text_is_refused_by_name(
    root: Driver,
) -> None:
    """Invariant 6: git checkout, git reset and sync tools bring files back."""
    path = root.drop("one", "@say well", f"@ledger '{root.root}/ledger'")
    content = path.read_bytes()
    root.start()
    root.reach("completed", "one")
    path.write_bytes(content)
    root.reach("completed", "one")  # the copy is gone
    path.write_text("description: quite another thing\n")
    until(lambda: root.rejected("one.yaml"))
    assert "one exists already (tasks/completed/one.yaml)" in root.rejected("one.yaml")
    assert (root.root / "tasks/rejected/one.yaml").read_text() == "description: quite another thing\n"
    # git reset --hard: the file itself is back where it came from, and its result is gone
    (root.root / "tasks/completed/one_result.yaml").unlink()  # first: the dispatcher looks at the rename at once
    (root.root / "tasks/completed/one.yaml").rename(path)
    root.reach("completed", "one")
    assert root.result("one")["status"] == "success" and root.ledger() == ["one 1"]


def test_a_file_that_is_still_written_is_not_read_though_it_is_valid_already(root: Driver) -> None:
    """Invariant 7: whoever has it open for writing, has not finished."""
    root.start()
    with open(root.root / "tasks/pending/slow.yaml", "w", encoding="utf-8") as file:
        file.write("description: |\n  Do slow\n  @say half\n")
        file.flush()
        root.drop("quick", "@say well")
        root.reach("completed", "quick")
        assert root.places("slow") == ["pending"]
        file.write("  @say whole\n")
    root.reach("completed", "slow")
    assert root.answer("slow").split() == ["half", "whole"]


def test_files_of_which_no_event_told_are_found_by_the_scan(root: Driver) -> None:
    """Invariant 8: the whole folder is exchanged for another; no event tells of what lies in it."""
    root.start()
    root.drop("before", "@say well")
    root.reach("completed", "before")
    pending = root.root / "tasks/pending"
    other = root.root / "tasks/.other"
    shutil.copytree(pending, other)
    other.joinpath("unseen.yaml").write_text("description: |\n  Do it\n  @say well\n")
    pending.rename(root.root / "tasks/.old")
    other.rename(pending)
    root.reach("completed", "unseen")
    root.drop("after", "@say well")
    root.reach("completed", "after")


def test_a_waiting_task_has_an_honest_reason(root: Driver) -> None:
    """Invariant 10: what a person reads is what was acted on."""
    root.configure({"fake": {"command": AGENT, "max_instances": 1, "capabilities": ["python"]}})
    root.drop("holds", "@wait go", "@say well")
    root.start()
    root.reach("assigned", "holds")
    root.drop("behind", "@say well")
    root.drop("after", "@say well", dependencies=["holds"])
    root.drop("nobody", "@say well", dependencies=["missing"])
    root.drop("sql", "@say well", requirements=["sql"])
    root.seen()
    reasons = {row["task_id"]: row["reason"] for row in root.json("tasks", "--status", "pending")}
    assert reasons == {
        "behind": "no free slot of fake (1 of 1 busy)",
        "after": "waits for holds (running)",
        "nobody": "waits for missing (no such task)",
        "sql": "needs capability sql; agents have python",
    }
    root.go()
    root.reach("completed", "holds", "behind", "after")


def test_a_second_dispatcher_on_one_root_is_refused_and_the_first_goes_on(root: Driver) -> None:
    """Invariant 2's ground: one dispatcher, held by a lock of the kernel."""
    pid = root.start()
    for words in (("start",), ("start", "-f")):
        refused = root.run(*words)
        assert refused.returncode == 1 and refused.stderr.count("\n") == 1
        assert f"a dispatcher runs already (pid {pid})" in refused.stderr
    assert living(pid) and root.pid == pid
    with open(root.root / ".orchestrator/dispatcher.lock", "rb") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    root.drop("one", "@say well")
    root.reach("completed", "one", seconds=LONG)
