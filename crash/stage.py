"""One root to be killed in, and the world around it: what survives a crash because it happened.

<stage>/root    the queue
<stage>/world   agent.sh; ledger: every execution that began; live/: those that go on; said.*: what
                commands printed; go: what a waiting agent waits for
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple

from trap import REAL, REAL_OPEN

from orchestrator import app, process
from orchestrator.cli import main as command_line
from orchestrator.states import ENDED, State

LIMIT = 30.0  # seconds: a deadline, not an expectation
REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Sourced by each task's script. It says that an execution began, and whether another of that task goes on (its number
# may be somebody else's by now).
AGENT = r"""
T="$ORCHESTRATE_TASK_ID" R="$ORCHESTRATE_RUN"
for other in "$CRASH_WORLD/live/$T".*; do
  if [ -e "$other" ] && grep -qs '^State:.[^ZX]' "/proc/${other##*.}/status" &&
    grep -qsaF "CRASH_WORLD=$CRASH_WORLD" "/proc/${other##*.}/environ"; then
    echo "double $T $R" >>"$CRASH_WORLD/ledger"
  fi
done
: >"$CRASH_WORLD/live/$T.$$"
echo "begin $T $R" >>"$CRASH_WORLD/ledger"
trap 'rm -f "$CRASH_WORLD/live/$T.$$"' EXIT
hold() { while [ ! -e "$CRASH_WORLD/go" ]; do sleep 0.01; done; }
fail() { if [ "$R" -le "$1" ]; then echo "$2" >&2; exit 1; fi; }
events() { echo '{"type":"result","subtype":"success","is_error":false,"result":"the answer of '"$T"' ``` "}'; }
say() {
  printf 'the answer of %s\n```orchestrate\nnotes: ["note of %s"]\nobjectives: ["objective of %s"]\n' "$T" "$T" "$T"
  printf 'known_issues: ["issue of %s"]\ncode_structure: ["structure of %s"]\n```\n' "$T" "$T"
}
"""

CONFIG = """\
agents:
  shell: {max_instances: 2}
retry: {max_retries: 3, retry_delay_seconds: 0}
limits: {grace_seconds: 0.2}
"""


class Stage:
    """A root in a folder of its own."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.root = f"{folder}/root"
        self.world = f"{folder}/world"

    def make(self) -> Stage:
        """An empty queue, and a world in which nothing has happened."""
        for state in State:
            os.makedirs(f"{self.root}/tasks/{state}")
        os.makedirs(f"{self.world}/live")
        self.write("config.yaml", CONFIG)
        for name, text in (("agent.sh", AGENT), ("ledger", "")):
            with open(f"{self.world}/{name}", "w", encoding="utf-8") as file:
                file.write(text)
        return self

    def copy(self, folder: str) -> Stage:
        """Another stage like this one."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Stage(folder)

    def remove(self) -> None:
        """Nothing of it is left."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, name: str, text: str) -> None:
        """A file below the root, whole at once."""
        path = f"{self.root}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(f"{path}.tmp", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(f"{path}.tmp", path)

    def task(self, task_id: str, script: str = "say", state: str = "pending", more: str = "") -> None:
        """A task file, as a person drops it."""
        self.write(f"tasks/{state}/{task_id}.yaml", task_text(task_id, script, more))

    # -- what happened ----------------------------------------------------------------------

    def ledger(self) -> list[str]:
        """One line an execution: `begin task run`; `double task run` if another of that task went on."""
        with REAL_OPEN(f"{self.world}/ledger") as file:
            return file.read().splitlines()

    def said(self) -> list[str]:
        """Every line that a command printed."""
        lines = []
        for name in sorted(os.listdir(self.world)):
            if name.startswith("said."):
                with open(f"{self.world}/{name}", encoding="utf-8") as file:
                    lines += file.read().splitlines()
        return lines

    def is_drained(self) -> bool:
        """Whether nothing waits and nothing runs."""
        twice = ("pending", "assigned", "pending", "assigned")  # it may move on between two looks
        names = (name for s in twice for name in REAL["listdir"](f"{self.root}/tasks/{s}"))
        return not any(name.endswith(".yaml") and not name.startswith(".") for name in names)

    def members(self) -> list[int]:
        """Living processes of the runs of this root."""
        mark, found = f"{process.RUN_FOLDER}={self.root}/".encode(), []
        for name in os.listdir("/proc"):
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    inherited = file.read() if name.isdecimal() else b""
            except OSError:
                continue
            status = process.stat(int(name)) if mark in inherited else None
            if status and status.state not in "ZX":
                found.append(int(name))
        return found

    def end_members(self) -> None:
        """Whatever goes on is killed."""
        deadline = time.monotonic() + 5
        while (left := self.members()) and time.monotonic() < deadline:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    # -- what is done, in this very process -------------------------------------------------

    def enter(self) -> None:
        """Be a process of this stage: its environment, its folder."""
        os.environ.update(CRASH_WORLD=self.world, ORCHESTRATE_ROOT=self.root)
        os.chdir(self.root)

    def command(self, words: Sequence[str]) -> int:
        """A command line, to its end, as `orchestrate` runs it; its exit status. What it prints is kept."""
        number = len([name for name in REAL["listdir"](self.world) if name.startswith("said.")])
        out = REAL_OPEN(f"{self.world}/said.{number}", "w", encoding="utf-8")
        err = REAL_OPEN(f"{self.world}/erred.{number}", "w", encoding="utf-8")
        before = sys.argv, sys.stdout, sys.stderr
        sys.argv, sys.stdout, sys.stderr = ["orchestrate", *words], out, err
        try:
            return command_line()
        finally:
            sys.argv, sys.stdout, sys.stderr = before
            out.close()
            err.close()

    def serve(self, step: Serve) -> None:
        """Be the dispatcher until the step's condition is met, and stop as the step says."""

        def ready(problem: str) -> None:
            thread = threading.Thread(target=self._watch, args=(step,), daemon=True)
            thread.outside = True  # type: ignore[attr-defined]
            thread.start()

        app.serve(self.root, {}, False, ready)

    def _watch(self, step: Serve) -> None:
        deadline, nudged, late = time.monotonic() + LIMIT, 0.0, True
        try:
            while time.monotonic() < deadline and not step.until(self):
                if step.meanwhile(self) and time.monotonic() - nudged > 0.05:
                    nudged = time.monotonic()
                    os.kill(os.getpid(), signal.SIGUSR1)
                time.sleep(0.002)
            late = time.monotonic() >= deadline
        except BaseException:  # a fault of ours here would leave the dispatcher waiting for ever
            traceback.print_exc()
        os.kill(os.getpid(), step.number)
        if late:
            time.sleep(1.0)
            os.kill(os.getpid(), signal.SIGKILL)


Condition = Callable[[Stage], bool]


def drained(stage: Stage) -> bool:
    """Nothing waits and nothing runs."""
    return stage.is_drained()


def begun(*runs: str) -> Condition:
    """These executions have begun, each as `task run`."""
    return lambda stage: {f"begin {one}" for one in runs} <= set(stage.ledger())


def nothing(stage: Stage) -> bool:
    """Nobody else is there."""
    return False


class Serve(NamedTuple):
    """Be the dispatcher for a while."""

    until: Condition = drained
    number: int = signal.SIGINT
    meanwhile: Condition = nothing  # what somebody else does, again and again; whether he nudges


def task_text(task_id: str, script: str = "say", more: str = "") -> str:
    """A task whose script keeps the ledger."""
    return f'description: Do {task_id}\n{more}run: |\n  . "$CRASH_WORLD/agent.sh"\n  {script}\n'


def states_of(root: str, task_id: str) -> list[str]:
    """Where a task is: state folders, archive/<month>/<state>."""
    found = [state for state in (State.PENDING, State.ASSIGNED, *ENDED, State.REJECTED) if _is(root, state, task_id)]
    archive = f"{root}/tasks/archive"
    for month in os.listdir(archive) if os.path.isdir(archive) else ():
        found += [f"archive/{month}/{state}" for state in ENDED if _is(root, f"archive/{month}/{state}", task_id)]  # type: ignore[misc]
    return [str(one) for one in found]


def _is(root: str, folder: str, task_id: str) -> bool:
    return os.path.lexists(f"{root}/tasks/{folder}/{task_id}.yaml")


def real_command(stage: Stage, words: Sequence[str], **more: object) -> subprocess.Popen[bytes]:
    """A command line as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli", *words],
        cwd=stage.root,
        env={**os.environ, "CRASH_WORLD": stage.world, "ORCHESTRATE_ROOT": stage.root, "PYTHONPATH": REPOSITORY},
        stdin=subprocess.DEVNULL,
        **more,  # type: ignore[call-overload]
    )
