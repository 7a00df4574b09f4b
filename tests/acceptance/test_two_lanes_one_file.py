"""The short lane and Typer answer the same argv with the same file: no way to type a task is a lesser one.

`-C ROOT` goes through the lane, `--root=ROOT` through Typer; both end in the same functions.
"""

from __future__ import annotations

import os
import re
import time

import pytest
from integration.driver import AGENT, Driver

ARGVS: list[tuple[str | bytes, ...]] = [
    ("Fix the login",),
    ("Fix", "the", "login", "of é and 名"),
    ("two\nlines\n", "--priority", "high"),
    ("  spaces around  ",),
    ("x", "-p", "0"),
    ("x", "--priority=LOW"),
    ("--priority", "1", "x"),
    ("x", "--id", "my-task.1"),
    ("x", "--depends-on", "a,b", "-d", "c"),
    ("x", "--context-file", "docs/a.md", "--context-file", "docs/b c.md"),
    ("x", "--context-required", "false"),
    ("x", "--context-required", "objectives,known_issues"),
    ("x", "--agent", "fake"),
    ("x", "-a", "fake", "--timeout-minutes", "0.5"),
    ("x", "--timeout-minutes", "90"),
    ("x", "--subtask", "one, two", "--subtask", "three"),
    ("x", "--type", "code", "--requires", "python,sql"),
    (
        "--run",
        "make test\nmake check",
    ),
    ("x", "--run", "echo 'quotes' \"and\" $HOME"),
    ("x", "--max-retries", "0"),
    ("x", "--created-at", "2025-01-15T10:00:00Z"),
    ("yes",),
    ("12:30", "no", "~"),
    ("# not a comment", "~ - nor a list", "{nor: a map}", "*nor &an !alias"),
    ('"quoted" \\ back\tslash',),
    (b"not \xff utf-8",),
    # wrong in both
    ("x", "--priority", "urgent"),
    ("x", "--agent", "nobody"),
    ("x", "--id", "a/b"),
    ("x", "--timeout-minutes", "0"),
    ("x", "--context-file", "none.md"),
    ("",),
    ("x", "--id", "-dash"),
]


@pytest.fixture
def queue(root: Driver) -> Driver:
    root.configure({"fake": {"command": AGENT}, "shell": {}})
    (root.root / "docs").mkdir()
    for name in ("a.md", "b c.md"):
        (root.root / "docs" / name).touch()
    (root.root / "context").mkdir()
    for name in ("objectives.md", "known_issues.md"):
        (root.root / "context" / name).touch()
    return root


def outcome(queue: Driver, place: tuple[str, ...], argv: tuple[str | bytes, ...]) -> tuple[int, str, str, bytes]:
    """What one call gives: its code, what it says, and the file; the queue is as new afterwards."""
    done = queue.run(*place, "add", *argv)
    files = list((queue.root / "tasks/pending").glob("*.yaml"))
    content = files[0].name.encode() + b"\n" + files[0].read_bytes() if files else b""
    for path in (*files, queue.root / ".orchestrator/last_id"):
        path.unlink(missing_ok=True)
    return done.returncode, done.stdout, done.stderr, content


def test_both_lanes_make_the_same_file_of_the_same_words(queue: Driver) -> None:
    for argv in ARGVS:
        lane = outcome(queue, ("-C", str(queue.root)), argv)
        typer = outcome(queue, (f"--root={queue.root}",), argv)
        assert lane == typer, argv
        assert bool(lane[3]) == (lane[0] == 0), (argv, lane)


def test_both_lanes_agree_on_an_option_that_is_given_twice(queue: Driver) -> None:
    argv = ("x", "--context-required", "objectives", "--context-required", "known_issues")
    assert outcome(queue, ("-C", str(queue.root)), argv) == outcome(queue, (f"--root={queue.root}",), argv)


LISTED: list[tuple[str, ...]] = [
    (),
    ("--json",),
    ("--status", "active"),
    ("-s", "pending,failed", "--json"),
    ("--status=waiting", "-s", "failed"),
    ("--type", "code", "--priority", "high", "--since", "3d"),
    ("--agent=shell", "--until", "2h", "-n", "1", "--offset", "1"),
    ("--limit", "2"),
    ("--limit", "0", "--offset=2"),
    # wrong in both, or for Typer alone
    ("--status", "gone"),
    ("--status", ""),
    ("--since", "lately"),
    ("--priority", "urgent", "--json"),
    ("--limit", "-1"),
    ("-n", "two"),
    ("-n2",),
    ("-n", "00000000002"),
    ("--offset",),
    ("--limit", "--json"),
    ("page",),
    ("--no-such",),
    ("--", "x"),
    ("--help",),
]


def test_both_lanes_list_the_same(queue: Driver) -> None:
    for number in range(4):
        path = queue.drop(f"t{number}", priority=number % 3, task_type="code", preferred_agent="shell")
        os.utime(path, (time.time() - 90_000 - number, time.time() - 90_000 - number))
    for argv in LISTED:
        lane = queue.run("-C", str(queue.root), "tasks", *argv)
        typer = queue.run(f"--root={queue.root}", "tasks", *argv)
        said = [re.sub(r'"seconds": \d+', "", f"{one.returncode} {one.stdout} {one.stderr}") for one in (lane, typer)]
        assert said[0] == said[1], argv


def test_what_add_accepts_the_dispatcher_accepts(queue: Driver) -> None:
    """Nothing that got an id is rejected afterwards."""
    for argv in ARGVS:
        queue.run("add", *argv)
    names = {path.name for path in (queue.root / "tasks/pending").glob("*.yaml")}
    assert len(names) == 26
    queue.configure({"fake": {"command": "false"}, "shell": {}})
    queue.ok("validate")
    queue.start()
    queue.seen()
    assert list((queue.root / "tasks/rejected").iterdir()) == []
