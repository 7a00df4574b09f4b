"""What is typed wrong gets an answer a person can act on: exit code 1 or 2, a line on stderr, no traceback."""

from __future__ import annotations

import pytest
from integration.driver import Driver

MISTAKES = [  # exit code 1: the queue says no; exactly one line
    (("add",), "say what to do"),
    (("add", ""), "say what to do"),
    (("add", "x", "--priority", "urgent"), "write high, normal or low"),
    (("add", "x", "--id", "a/b"), "may hold letters"),
    (("add", "x", "--id", ".."), "may hold letters"),
    (("add", "x", "--id", "a\nb"), "may hold letters"),
    (("add", "x", "--agent", "fakke"), "did you mean 'fake'"),
    (("add", "x", "--id", "me", "--depends-on", "me"), "depends on itself"),
    (("add", "x", "--depends-on", "a/b"), "dependencies"),
    (("add", "x", "--context-file", "/etc/passwd"), "leaves the root"),
    (("add", "x", "--context-file", "none.md"), "does not exist"),
    (("add", "x", "--timeout-minutes", "soon"), "write a number above 0"),
    (("add", "x", "--timeout-minutes", "nan"), "write a number above 0"),
    (("add", "x", "--max-retries", "-1"), "write a number from 0 to 100"),
    (("add", "x", "--created-at", "yesterday"), "write a time such as"),
    (("add", "--file", "none.yaml"), "there is no such file"),
    (("add", "--file", "bad.yaml"), "did you mean 'description'"),
    (("show", "tsk_001"), "no such task"),
    (("show", "../../etc/passwd"), "no such task"),
    (("logs", "nothing"), "no such task"),
    (("logs", "waits"), "has not run yet"),
    (("retry", "nothing"), "no such task"),
    (("cancel", "nothing"), "no such task"),
    (("wait", "nothing"), "no such task"),
    (("tasks", "--status", "done"), "write one of"),
    (("tasks", "--priority", "urgent"), "write high, normal or low"),
    (("tasks", "--since", "lately"), "is no time"),
    (("archive", "--older-than", "old"), "is no age"),
    (("start", "--agents", "nobody:2"), "no such agent"),
    (("service", "--kind", "cron"), "write systemd or launchd"),
    (("completion", "tcsh"), "write bash, zsh or fish"),
    (("--root", "/nowhere", "status"), "no queue here"),
]

USAGE = [  # exit code 2: the command line itself is wrong
    ("nonsense",),
    ("add", "x", "--prio", "high"),
    ("add", "x", "--id"),
    ("show",),
    ("cancel",),
    ("tasks", "--limit", "many"),
    ("wait", "--timeout", "-1"),
    ("stop", "--leave", "--now"),
    ("add", "--stdin", "--edit"),
]


@pytest.fixture
def queue(root: Driver) -> Driver:
    root.drop("waits", dependencies=["gate"])
    (root.root / "bad.yaml").write_text("desription: x\n")
    return root


def test_each_mistake_is_one_line_that_says_what_to_do_and_adds_nothing(queue: Driver) -> None:
    for words, text in MISTAKES:
        done = queue.run(*words)
        assert done.returncode == 1, (words, done)
        assert done.stderr.count("\n") == 1 and done.stderr.startswith("orchestrate: "), (words, done.stderr)
        assert text in done.stderr and done.stdout == "", (words, done)
    assert [path.name for path in (queue.root / "tasks/pending").iterdir()] == ["waits.yaml"]


def test_each_wrong_usage_is_answered_with_the_usage_and_code_2(queue: Driver) -> None:
    for words in USAGE:
        done = queue.run(*words)
        assert done.returncode == 2, (words, done)
        assert done.stderr.splitlines()[-1].startswith("Error: ") and "Traceback" not in done.stderr, (
            words,
            done.stderr,
        )
        assert done.stdout == "" and "\x1b" not in done.stderr, words
    assert [path.name for path in (queue.root / "tasks/pending").iterdir()] == ["waits.yaml"]


def test_a_broken_config_is_told_by_every_command_that_needs_it(queue: Driver) -> None:
    (queue.root / "config.yaml").write_text("agents:\n  fake: {command: x, max_instance: 2}\n")
    for words in (
        ("add", "x"),
        ("tasks",),
        ("agents",),
        ("show", "waits"),
        ("start",),
        ("start", "-f"),
        ("cancel", "waits"),
    ):
        done = queue.run(*words)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, (words, done.stderr)
        assert (
            "config.yaml: unknown key 'agents.fake.max_instance' (did you mean 'max_instances'?)"
            in done.stderr
        )
    assert queue.run("status").returncode == 0


def test_a_reader_that_has_seen_enough_is_no_error(queue: Driver) -> None:
    import subprocess
    import sys

    for number in range(300):
        queue.drop(f"held_{number}", "x" * 200, dependencies=["gate"])
    line = f"'{sys.executable}' -m orchestrator.cli tasks | head -1"
    done = subprocess.run(
        ["sh", "-c", line], cwd=queue.root, env=queue.environment, capture_output=True, text=True
    )
    assert done.stdout.count("\n") == 1 and done.stderr == ""


def test_one_refusal_does_not_keep_the_others(queue: Driver) -> None:
    done = queue.run("cancel", "nothing", "waits")
    assert done.returncode == 1 and "waits  cancelled" in done.stdout and "no such task" in done.stderr
    assert queue.places("waits") == ["failed"]
