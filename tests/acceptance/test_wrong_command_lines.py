"""What is typed wrong gets an answer a person can act on: exit code 1 or 2, a line on stderr, no traceback."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from integration.driver import Driver, until

MISTAKES = [  # exit code 1: the queue says no; exactly one line
    (("add", "x", "--agent", "fakke"), "did you mean 'fake'"),
    (("add", "x", "--id", "me", "--depends-on", "me"), "depends on itself"),
    (("add", "x", "--context-file", "/etc/passwd"), "leaves the root"),
    (("add", "x", "--context-file", "none.md"), "does not exist"),
    (("add", "--file", "none.yaml"), "there is no such file"),
    (("add", "--file", "bad.yaml"), "did you mean 'description'"),
    (("show", "tsk_001"), "no such task"),
    (("show", "../../etc/passwd"), "no such task"),
    (("logs", "nothing"), "no such task"),
    (("logs", "waits"), "has not run: waits for gate (no such task)"),
    (("logs",), "no dispatcher has run here yet"),
    (("add", "x", "--context-required", "maybe"), "context/maybe.md does not exist; write true, false or names"),
    (("add", "--file", "agent.yaml"), "agent.yaml: unknown agent 'fakke' (did you mean 'fake'?)"),
    (("add", "x", "--agent", "fake", "--run", "true"), "agent 'fake' never runs; leave the agent out, or name shell"),
    (("add", "x", "--agent", "shell"), "agent 'shell' runs a 'run:' script and nothing else; give the task one"),
    (("add", "--file", "script.yaml"), "agent 'fake' never runs; leave the agent out"),
    (("cancel", "refused"), "was rejected: unknown key 'x'; correct tasks/rejected/refused.yaml and move it"),
    (("retry", "refused"), "was rejected: unknown key 'x'; correct tasks/rejected/refused.yaml and move it"),
    (("retry", "other_id"), "was rejected: unknown key 'x'; correct tasks/rejected/refused.yaml and move it"),
    (("logs", "refused"), "has not run: unknown key 'x'"),
    (("retry", "nothing"), "no such task"),
    (("cancel", "nothing"), "no such task"),
    (("wait", "nothing"), "no such task"),
    (("start", "--agents", "nobody:2"), "no such agent"),
    (("--root", "/nowhere", "status"), "no queue here"),
]

VALUES = [  # exit code 2: what no queue could take; exactly one line
    (("add",), "say what to do"),
    (("add", ""), "say what to do"),
    (("add", "x", "--priority", "urgent"), "write high, normal or low"),
    (("add", "x", "--id", "a/b"), "may hold letters"),
    (("add", "x", "--id", ".."), "may hold letters"),
    (("add", "x", "--id", "a\nb"), "may hold letters"),
    (("add", "x", "--depends-on", "a/b"), "dependencies"),
    (("add", "x", "--timeout-minutes", "soon"), "write a number above 0"),
    (("add", "x", "--timeout-minutes", "nan"), "write a number above 0"),
    (("add", "x", "--max-retries", "-1"), "write a number from 0 to 100"),
    (("add", "x", "--created-at", "yesterday"), "write a time such as"),
    (("tasks", "--status", "done"), "write one of"),
    (("tasks", "--priority", "urgent"), "write high, normal or low"),
    (("tasks", "--since", "lately"), "is no time"),
    (("archive", "--older-than", "old"), "is no age"),
    (("start", "--agents", "fake:0"), "leaves no agent"),
    (("start", "--agents", "fake:99999999"), "1000 of one agent are the most"),
    (("add", "x", "--run", " "), "run: is empty"),
    (("service", "--kind", "cron"), "write systemd or launchd"),
    (("completion", "tcsh"), "write bash, zsh or fish"),
    (("add", "--file", "good.yaml", "--priority", "urgent"), "orchestrate: priority: write high, normal or low"),
    (("add", "--edit", "--max-retries", "many"), "write a number from 0 to 100"),
]

USAGE = [  # exit code 2: the command line itself is wrong
    ("nonsense",),
    ("add", "x", "--prio", "high"),
    ("add", "x", "--id"),
    ("show",),
    ("cancel",),
    ("tasks", "--limit", "many"),
    ("wait", "--timeout", "-1"),
    ("register", "w", "--max", "0"),
    ("stop", "--leave", "--now"),
    ("add", "--stdin", "--edit"),
    ("add", "text", "--file", "good.yaml"),
    ("add", "text", "--stdin"),
    ("logs", "--run", "1"),
    ("logs", "-f", "--json"),
    ("start", "-f", "--json"),
]


@pytest.fixture
def queue(root: Driver) -> Driver:
    root.drop("waits", dependencies=["gate"])
    for name, text in (
        ("bad.yaml", "desription: x\n"),
        ("good.yaml", "description: x\n"),
        ("agent.yaml", "description: x\npreferred_agent: fakke\n"),
        ("script.yaml", "run: 'true'\npreferred_agent: fake\n"),
        ("tasks/rejected/refused.yaml", "description: x\nid: other_id\nx: 1\n"),
        ("tasks/rejected/refused.yaml.reason.txt", "tasks/pending/refused.yaml: unknown key 'x'\n"),
    ):
        (root.root / name).write_text(text)
    return root


def test_each_mistake_is_one_line_that_says_what_to_do_and_adds_nothing(queue: Driver) -> None:
    for code, words, text in [(1, *one) for one in MISTAKES] + [(2, *one) for one in VALUES]:
        done = queue.run(*words)
        assert done.returncode == code, (words, done)
        assert done.stderr.count("\n") == 1 and done.stderr.startswith("orchestrate: "), (words, done.stderr)
        assert text in done.stderr and done.stdout == "", (words, done)
    assert [path.name for path in (queue.root / "tasks/pending").iterdir()] == ["waits.yaml"]


def test_with_json_each_mistake_is_one_document_on_stdout_too(queue: Driver) -> None:
    for words in (
        ("add",),  # through the lane
        ("add", "--file", "good.yaml", "--file", "bad.yaml"),
        ("show", "nothing"),
        ("tasks", "--status", "done"),
        ("add", "text", "--stdin"),  # wrong usage
        ("nonsense",),
        ("--root", "/nowhere", "status"),
    ):
        done = queue.run(*words, "--json")
        [(key, problem)] = json.loads(done.stdout).items()
        assert key == "error" and problem in done.stderr and done.returncode in (1, 2), (words, done)


def test_with_json_an_interrupted_command_is_one_document_too(queue: Driver) -> None:
    queue.drop("free", "@say well")
    waiting = queue.spawn("wait", "free", "--json")
    assert waiting.stderr is not None
    assert waiting.stderr.readline() == "orchestrate: free: no dispatcher runs ('orchestrate start')\n"
    waiting.send_signal(signal.SIGINT)
    assert json.loads(waiting.communicate(timeout=30)[0]) == {"error": "interrupted"} and waiting.returncode == 130


def test_a_folder_that_is_gone_is_told(queue: Driver, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    line = f"rmdir ../gone && {shlex.quote(sys.executable)} -m orchestrator.cli status"
    done = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path / "gone", env=queue.environment, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.startswith("orchestrate: the current folder is gone; cd into")


def test_with_json_several_tasks_are_one_list(queue: Driver) -> None:
    queue.configure(queue={"max_size": 3})
    added = queue.run("add", "--file", "good.yaml", "--file", "good.yaml", "--json")
    assert [sorted(row) for row in json.loads(added.stdout)] == [["file", "root", "task_id"], ["error"]]
    assert added.returncode == 1 and json.loads(added.stdout)[1]["error"] in added.stderr
    rows = json.loads(queue.run("cancel", "waits", "nothing", "good", "--json").stdout)
    assert rows[0] == {"task_id": "waits", "done": "cancelled"} and "no such task" in rows[1]["error"]
    rows = json.loads(queue.run("retry", "nothing", "good", "waits", "--json").stdout)
    assert [row.get("done") for row in rows] == [None, "back to pending", "back to pending"]


def test_each_wrong_usage_is_answered_with_the_usage_and_code_2(queue: Driver) -> None:
    for words in USAGE:
        done = queue.run(*words)
        assert done.returncode == 2, (words, done)
        assert done.stderr.splitlines()[-1].startswith("Error: ") and "Traceback" not in done.stderr, (
            words,
            done.stderr,
        )
        assert (done.stdout == "" or "--json" in words) and "\x1b" not in done.stderr, words
    assert [path.name for path in (queue.root / "tasks/pending").iterdir()] == ["waits.yaml"]


BROKEN = "agents:\n  fake: {command: x, max_instance: 2}\n"
SAID = "config.yaml: unknown key 'agents.fake.max_instance' (did you mean 'max_instances'?)"


def test_while_config_is_broken_looking_adding_and_cancelling_go_on_with_the_last_good_one(queue: Driver) -> None:
    queue.ok("add", "x", "--id", "one")
    (queue.root / "config.yaml").write_text(BROKEN)
    for words in (
        ("add", "x"),
        ("add", "--stdin"),
        ("tasks",),
        ("agents",),
        ("agents", "--resume", "fake"),
        ("show", "waits"),
        ("wait", "waits", "--timeout", "0.01"),
        ("cancel", "waits"),
        ("retry", "waits"),
    ):
        done = queue.run(*words, stdin="words")
        assert done.returncode == (124 if words[0] == "wait" else 0), (words, done)
        said = [line for line in done.stderr.splitlines() if f"{SAID}; until it is mended the last good" in line]
        assert len(said) == (words[0] != "retry"), (words, done)  # retry has no need of it
    assert queue.json("agents")[0] | {"command": ""} == {
        "name": "fake", "adapter": "command", "command": "", "slots": 4, "busy": 0, "capabilities": [], "state": "ready",
        "learned": {}, "worker": False, "status": "healthy", "why": "", "success_rate": 1.0, "avg_completion_ms": 0.0,
        "runs": 0,
    }  # fmt: skip
    assert "did you mean 'fake'" in queue.run("add", "x", "--agent", "fakke").stderr
    for words in (("start",), ("start", "-f"), ("validate",), ("doctor",)):
        done = queue.run(*words)
        assert done.returncode == 1 and SAID.partition(": ")[2] in done.stderr + done.stdout, (words, done)
    page = queue.run("status")
    assert page.stderr == "" and f"{SAID}; until it is mended the last good settings count\n" in page.stdout
    assert queue.json("status")["problem"].endswith(SAID)
    queue.configure()
    assert queue.json("status")["problem"] is None and "config  " not in queue.ok("status")


def test_what_runs_is_cancelled_though_config_is_broken_and_no_dispatcher_runs(queue: Driver) -> None:
    queue.drop("runs", "@hang")
    queue.start()
    until(lambda: queue.members("runs"))
    queue.kill()
    (queue.root / "config.yaml").write_text(BROKEN)
    done = queue.run("cancel", "runs")
    assert (done.returncode, done.stdout) == (0, "runs  cancelled\n"), done.stderr
    assert queue.members("runs") == [] and queue.places("runs") == ["failed"]


def test_a_reader_that_has_seen_enough_is_no_error(queue: Driver) -> None:
    for number in range(300):
        queue.drop(f"held_{number}", "x" * 200, dependencies=["gate"])
    line = f"{shlex.quote(sys.executable)} -m orchestrator.cli tasks --limit 0 | head -1"
    done = subprocess.run(["sh", "-c", line], cwd=queue.root, env=queue.environment, capture_output=True, text=True)
    assert done.stdout.count("\n") == 1 and done.stderr == ""


FULL = "orchestrate: standard output: No space left on device"


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("add x --id new >&-", 0, ""),
        ("add x --id new >&- 2>&- <&-", 0, ""),
        ("status --json >&-", 0, ""),
        ("add x --id new >/dev/full", 1, f"{FULL}; what was asked for is done\n"),
        ("tasks --json >/dev/full", 1, f"{FULL}\n"),
        ("show nobody --json >/dev/full 2>/dev/full", 1, ""),
        ("--help >/dev/full", 1, f"{FULL}\n"),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_or_full_output_is_no_fault_of_what_was_done(
    queue: Driver, line: str, code: int, said: str, unbuffered: str
) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    done = subprocess.run(
        ["sh", "-c", f"exec {shlex.quote(sys.executable)} -m orchestrator.cli {line}"],
        cwd=queue.root, env=queue.environment | {"PYTHONUNBUFFERED": unbuffered}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr, done.stdout) == (code, said, "")
    assert queue.places("new") == (["pending"] if "new" in line else [])


def test_one_refusal_does_not_keep_the_others(queue: Driver) -> None:
    done = queue.run("cancel", "nothing", "waits")
    assert done.returncode == 1 and "waits  cancelled" in done.stdout and "no such task" in done.stderr
    assert queue.places("waits") == ["failed"]
