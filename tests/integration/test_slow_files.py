"""A file that the disk does not give out delays no other, and nothing else; it is taken up as soon as it is given.

Real files whose opening really waits: another process holds a write lease on them (fcntl(2), F_SETLEASE), and the kernel
lets nobody open them until it gives that up.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import withheld
from integration.driver import AGENT, Driver, living, until

from orchestrator.apart import LEAST_FRESH

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="leases are Linux's")


@contextmanager
def slow(root: Driver) -> Iterator[None]:
    """A task `slow` comes whose file nobody can open until the end of this."""
    path = root.drop("slow", "@say x", folder=".drafts")
    with withheld(path):
        path.rename(root.root / "tasks/pending/slow.yaml")
        yield


def reader(root: Driver) -> int:
    """The process that reads for the dispatcher; 0 if there is none."""
    for pid in Path(f"/proc/{root.pid}/task/{root.pid}/children").read_text().split():
        if b"orchestrator.fetching" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return int(pid)
    return 0


def test_a_file_that_is_not_given_out_delays_nothing_and_is_run_in_the_end(root: Driver) -> None:
    root.configure(queue={"read_apart": "always"})
    root.drop("early", "@hang")
    root.start()
    root.reach("assigned", "early")
    with slow(root):
        names = [f"good_{number}" for number in range(12)]
        for name in names:
            root.drop(name, "@say x")
        root.drop("bad", preferred_agent="nobody")
        root.reach("completed", *names)
        until(lambda: root.rejected("bad.yaml"))
        unread = until(lambda: root.json("status")["unread"], what=lambda: root.log)
        assert unread.startswith("tasks/pending/slow.yaml: its disk does not answer")
        assert "unread      tasks/pending/slow.yaml: its disk" in root.ok("status")
        away = root.root / "slow.yaml"
        (root.root / "tasks/pending/slow.yaml").rename(away)  # given up
        os.kill(root.pid, signal.SIGUSR1)
        until(lambda: root.json("status")["unread"] is None, what=lambda: root.log)
        away.rename(root.root / "tasks/pending/slow.yaml")
        root.ok("cancel", "early")  # what runs is watched
        root.reach("failed", "early")
        assert root.log.count("slow.yaml: its disk does not answer") == 1 and root.places("slow") == ["pending"]
        root.ok("stop")
        root.start()
        root.drop("late", "@say x")
        root.reach("completed", "late")
        os.kill(until(lambda: reader(root)), signal.SIGKILL)  # the file is asked for again
        root.drop("later", "@say x")
        root.reach("completed", "later")
        assert root.places("slow") == ["pending"]
    root.reach("completed", "slow")
    until(lambda: root.json("status")["unread"] is None)
    assert [root.count(one) for one in ("slow", "later", *names)] == [1] * 14


def test_what_reads_for_a_dispatcher_that_was_killed_keeps_no_other_from_starting(root: Driver) -> None:
    root.configure(queue={"read_apart": "always"})
    root.start()
    root.drop("first", "@say x")
    root.reach("completed", "first")
    left = until(lambda: reader(root))
    os.kill(left, signal.SIGSTOP)  # as if its disk kept it from ending
    try:
        root.kill()
        root.start()
        root.drop("second", "@say x")
        root.reach("completed", "second")
        assert living(left)
    finally:
        os.kill(left, signal.SIGCONT)
    until(lambda: not living(left))


def test_what_waits_is_read_again_before_it_is_claimed(root: Driver) -> None:
    go = root.root / "go"
    root.configure({"fake": {"command": AGENT, "max_instances": 1}}, queue={"read_apart": "always"})
    root.start()
    root.drop("first", f"@wait {shlex.quote(str(go))}", "@say x")
    root.reach("assigned", "first")
    for name in ("changed", "gone", "same"):
        root.drop(name, "@say the old text")
    until(lambda: all(f"{name} submitted" in root.log for name in ("changed", "gone", "same")), what=lambda: root.log)
    read = time.monotonic()
    root.drop("changed", "@say the new text")
    (root.root / "tasks/pending/gone.yaml").unlink()
    until(lambda: time.monotonic() > read + LEAST_FRESH)
    go.touch()
    root.reach("completed", "first", "changed", "same")
    assert "the new text" in root.answer("changed") and "the old text" in root.answer("same")
    assert root.count("gone") == 0 and root.log.count("same submitted") == 1
