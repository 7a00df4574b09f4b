"""`orchestrate events` with real processes: what a dispatcher, workers and commands tell; followed in a pipe."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from integration.driver import Driver, until


def kinds(root: Driver, task_id: str) -> list[str]:
    return [row["kind"] for row in root.json("events", "--task", task_id)]


def test_a_task_is_told_from_its_coming_to_its_end(root: Driver) -> None:
    root.ok("add", "@say well", "--id", "before")  # while nobody is there to see it
    (root.root / "tasks/pending/dropped.yaml").write_text('description: "@say well"\n')
    root.start()
    root.reach("completed", "before", "dropped")
    root.ok("add", "@say well", "--id", "beside")
    root.reach("completed", "beside")
    (root.root / "tasks/pending/seen.yaml").write_text('description: "@wait go"\n')
    until(lambda: root.places("seen") == ["assigned"])
    root.ok("cancel", "seen")
    root.reach("failed", "seen")
    until(lambda: kinds(root, "seen")[-1] == "cancelled")  # it is written down when the turn ends
    root.kill()
    root.ok("add", "two", "--id", "later", "--agent", "fake", "--depends-on", "nobody")
    root.start()
    root.ok("stop")
    whole = ["submitted", "claimed", "started", "completed"]
    assert [kinds(root, one) for one in ("before", "dropped", "beside")] == [whole, whole, whole]
    assert kinds(root, "seen") == [*whole[:3], "cancelled"]
    assert kinds(root, "later") == ["submitted"]
    lines = [line for path in root.root.glob(".orchestrator/events/*") for line in path.read_text().splitlines()]
    came = [json.loads(line)["task_id"] for line in lines if '"submitted"' in line]
    assert sorted(came) == ["before", "beside", "dropped", "later", "seen"], "each is written down once"
    assert "dropped submitted" not in root.log, "what lay there at the start is no line of the log"


def follow(root: Driver, *words: str, **more: Any) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli", "events", "-f", *words],
        cwd=root.root, env=root.environment, stdin=subprocess.DEVNULL, text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more},
    )  # fmt: skip
    root.started.append(child)
    return child


def lines(child: subprocess.Popen[str]) -> Iterator[str]:
    assert child.stdout is not None
    return iter(child.stdout.readline, "")


def write(root: Driver, text: str, seconds: float = 0.0, **more: str) -> Path:
    name = time.strftime("%Y-%m-%d.jsonl", time.gmtime(time.time() + seconds))
    path = root.root / ".orchestrator/events" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps({"at": time.time() + seconds, "kind": "warning", "text": text, **more}) + "\n")
    return path


def test_it_is_followed_over_midnight_and_rotation_until_it_is_interrupted(root: Driver) -> None:
    for number in range(12):
        path = write(root, f"old {number}")
    child = follow(root, "--type", "warning")
    told = lines(child)
    assert [next(told).split("\t")[3] for _ in range(10)] == [f"old {n}\n" for n in range(2, 12)]
    root.ok("add", "x")  # of another kind
    write(root, "first")
    assert next(told).endswith("\twarning\t\tfirst\n"), "each line is there at once"
    path.rename(f"{path}.1")
    write(root, "second")
    assert next(told).endswith("second\n")
    write(root, "tomorrow", 86400)
    assert next(told).endswith("tomorrow\n")
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=20)
    assert (child.returncode, out, err) == (0, "", "")


def test_it_ends_when_its_reader_goes(root: Driver) -> None:
    write(root, "one")
    child = follow(root, "--json", "--since", "1h")
    assert json.loads(next(lines(child)))["text"] == "one"
    assert child.stdout is not None
    child.stdout.close()
    child.stdout = None
    assert child.communicate(timeout=20)[1] == "" and child.returncode in (0, 141)


def test_what_a_terminal_gets_cannot_drive_it(root: Driver) -> None:
    write(root, "a\x1b]0;title\x07b\nc\u202e")
    write(root, "of \x1b[2Jit", task_id="t\x1b[2J")
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli", "events"],
        cwd=root.root, env={**root.environment, "NO_COLOR": "1"}, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # its end
        pass
    os.close(ours)
    assert child.wait(20) == 0
    assert shown.count(b"\n") == 2 and b"\x1b" not in shown and b"\x07" not in shown and b"\xe2\x80\xae" not in shown
    assert b"a\\x1b]0;title\\x07b c\\u202e" in shown and b"t\\x1b[2J  of \\x1b[2Jit" in shown


def test_a_fifo_in_the_place_of_a_day_holds_nobody_up(root: Driver) -> None:
    folder = root.root / ".orchestrator/events"
    folder.mkdir(parents=True)
    os.mkfifo(folder / time.strftime("%Y-%m-%d.jsonl", time.gmtime()))
    os.mkfifo(folder / "2025-01-15.jsonl")
    root.ok("add", "@say well", "--id", "one")
    done = root.run("events")
    assert (done.returncode, done.stdout) == (0, "") and "no such event" in done.stderr
    root.start()
    root.reach("completed", "one")


def test_wrong_words_are_refused_in_one_line(root: Driver) -> None:
    for words, said in (
        (("--type", "sumbitted"), "did you mean 'submitted'"),
        (("--since", "tomorrow"), "write 2h, 3d, yesterday"),
    ):
        done = root.run("events", *words, "--json")
        assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1
        assert said in json.loads(done.stdout)["error"]
