"""Folders that people, git and clean-up scripts take away under a running dispatcher."""

from __future__ import annotations

import os
import shutil
import signal

from integration.driver import Driver, living, until

from orchestrator import app, locks
from orchestrator.config import load
from orchestrator.hold import Hold
from orchestrator.watcher import Bell


def take_away(root: Driver, folder: str) -> None:
    """Delete a folder though somebody writes in it."""
    away = root.root.with_name(f"away {folder.replace('/', ' ')}")
    (root.root / folder).rename(away)
    shutil.rmtree(away, ignore_errors=True)


def test_folders_that_are_deleted_come_back_and_nothing_waits_for_them(root: Driver) -> None:
    """git removes each folder that it empties, with no regard to who writes there."""
    pid = root.start()
    root.drop("before", "@say well")
    root.reach("completed", "before")
    for folder in ("rejected", "completed", "review", "failed", ".drafts", "pending"):
        take_away(root, f"tasks/{folder}")
    take_away(root, "context")
    (root.root / "tasks/pending").mkdir()
    root.drop("after", "@say well", "@facts 'notes: [\"seen\"]'")
    root.drop("bad", desription="x")
    os.kill(pid, signal.SIGUSR1)  # look at everything now
    root.reach("completed", "after")
    until(lambda: root.rejected("bad.yaml"), what=lambda: root.log)
    assert root.answer("after").startswith("well")
    assert "seen" in (root.root / "context/notes/fake.md").read_text()
    assert living(pid) and "Traceback" not in root.log


def test_a_run_whose_folder_is_deleted_has_a_verdict_and_another_attempt(root: Driver) -> None:
    root.drop("one", "@ledger ledger", "@run 1 wait go", "@say well")
    root.start()
    until(root.ledger)
    take_away(root, "tasks/runs")
    root.drop("other", "@say well")
    root.reach("completed", "other")
    root.go()
    root.reach("completed", "one")
    assert root.result("one", 1)["status"] == "lost" and root.ledger()[0] == "one 1"
    assert not root.json("agents")[0]["state"].startswith("paused")


def test_a_run_whose_folder_is_deleted_while_nobody_watches_is_not_started_twice(root: Driver) -> None:
    root.drop("one", "@ledger ledger", "@run 1 wait go", "@say well")
    root.start()
    until(root.ledger)
    root.kill()
    take_away(root, "tasks/runs")
    root.start()
    root.drop("other", "@say well")  # a whole life of another task: the dispatcher has looked
    root.reach("completed", "other")
    assert root.ledger() == ["one 1"] and root.places("one") == ["assigned"]
    root.go()
    root.reach("completed", "one")


def test_tasks_that_run_when_assigned_is_deleted_are_late_and_others_go_on(root: Driver) -> None:
    root.drop("one", "@wait go", "@say well")
    pid = root.start()
    until(lambda: root.members("one"))
    take_away(root, "tasks/assigned")
    root.drop("other", "@say well")
    root.reach("completed", "other")
    root.go()
    until(lambda: "one late" in root.log, what=lambda: root.log)
    assert root.result("one", 1)["status"] == "success" and living(pid)


def test_the_right_to_dispatch_outlives_its_lock_file(root: Driver) -> None:
    """git clean -fdx takes .orchestrator/ away: a second dispatcher must not come in by that."""
    pid = root.start()
    root.drop("one", "@wait go", "@say well")
    until(lambda: root.members("one"))
    take_away(root, ".orchestrator")
    second = root.run("start")
    assert second.returncode == 1 and "a dispatcher runs already" in second.stderr
    os.kill(pid, signal.SIGUSR1)
    until(lambda: root.pid == pid and root.json("status")["dispatcher"])
    root.go()
    root.reach("completed", "one")
    until(lambda: "one completed" in root.log)
    assert list((root.root / ".orchestrator/events").glob("*.jsonl"))
    root.ok("stop")
    until(lambda: not living(pid))


def test_who_dispatches_is_said_again_with_the_next_turn_also_if_no_look_is_due(root: Driver) -> None:
    lock, bell = Hold(str(root.root)), Bell()
    dispatcher = app.build(str(root.root), load(str(root.root)), {}, bell, [], False)
    kept: list[bool] = []
    dispatcher.keep = lambda: kept.append(lock.keep())
    dispatcher.recover()
    try:
        dispatcher.turn()
        dispatcher._scan_at = float("inf")
        take_away(root, ".orchestrator")
        dispatcher.turn()
        assert kept == [False, True] and locks.is_locked(str(root.root / ".orchestrator/dispatcher.lock"))
    finally:
        dispatcher.watcher.stop()
        bell.close()
        lock.release()


def test_a_deleted_root_is_not_made_again_and_its_dispatcher_goes(root: Driver) -> None:
    root.drop("one", "@ledger ledger", "@wait go", "@say well")
    pid = root.start()
    until(lambda: root.ledger() == ["one 1"])  # it runs and has found its folder
    moved = root.root.with_name("moved")
    root.root.rename(moved)
    os.kill(pid, signal.SIGUSR1)
    log = moved / ".orchestrator/dispatcher.log"
    until(lambda: "is gone; goes when nothing runs any more" in log.read_text())
    assert living(pid) and root.members("one") and not root.root.exists()
    for run in root.members("one"):
        os.kill(run, signal.SIGKILL)
    until(lambda: not living(pid))
    assert not root.root.exists() and (moved / "tasks/assigned/one.yaml").exists()
