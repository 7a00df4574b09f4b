"""One root with real processes: the command as users type it, the dispatcher, agents, and their end.

Nothing here sleeps and hopes: `until` looks until a condition is true or its time is over. Every
process of the root is dead after `close`, whatever the test did.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from integration.warm import Warm

REPOSITORY = str(Path(__file__).resolve().parents[2])
FAKE = str(Path(__file__).with_name("fake_agent.py"))
AGENT = f"{shlex.quote(sys.executable)} -S {shlex.quote(FAKE)}"
STATES = ("pending", "assigned", "completed", "failed", "review")
LONG = 40.0  # seconds: a deadline, not an expectation


def until(condition: Callable[[], Any], seconds: float = LONG, what: Callable[[], Any] | str = "") -> Any:
    """What `condition` gives as soon as it is true; fails if it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"was not true within {seconds:g} s: {what() if callable(what) else what}")
        time.sleep(0.01)


def environment(**more: str) -> dict[str, str]:
    """What every command here inherits: this repository, no queue from outside, no colour wishes."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ORCHESTRATE_", "COV_CORE_"))}
    for name in ("NO_COLOR", "FORCE_COLOR", "VISUAL", "EDITOR"):
        kept.pop(name, None)
    return {**kept, "PYTHONPATH": REPOSITORY, **more}


@functools.cache
def warm() -> Warm:
    """The interpreter that this process of tests shares."""
    made = Warm(environment())
    atexit.register(made.close)
    return made


def living(pid: int) -> bool:
    """Whether a process lives (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat[stat.rindex(b")") + 2 : stat.rindex(b")") + 3] not in (b"Z", b"X")


class Driver:
    """A root, and everything that is done to it from outside."""

    def __init__(self, folder: Path, name: str = "a root") -> None:
        self.root = folder / name
        self.root.mkdir(parents=True, exist_ok=True)
        self.started: list[subprocess.Popen[Any]] = []
        self.environment = environment()

    # -- set up -----------------------------------------------------------------------------

    def configure(self, agents: Mapping[str, Any] | None = None, **sections: Any) -> None:
        """Write config.yaml: JSON is YAML too. Without `agents`: one, called fake, with four slots."""
        values: dict[str, Any] = {
            "agents": agents if agents is not None else {"fake": {"command": AGENT, "max_instances": 4}},
            "retry": {"max_retries": 2, "retry_delay_seconds": 0.2},
            "limits": {"grace_seconds": 0.3},
        }
        for name, section in sections.items():
            merged = isinstance(section, dict) and isinstance(values.get(name), dict)
            values[name] = {**values[name], **section} if merged else section
        draft = self.root / "config.yaml.draft"
        draft.write_text(json.dumps(values))
        draft.rename(self.root / "config.yaml")

    def make(self, agents: Mapping[str, Any] | None = None, **sections: Any) -> Driver:
        """A queue with its folders and a config."""
        for state in (*STATES, "rejected", ".drafts"):
            (self.root / "tasks" / state).mkdir(parents=True, exist_ok=True)
        self.configure(agents, **sections)
        return self

    # -- the command ------------------------------------------------------------------------

    def run(self, *words: str | bytes, stdin: str | None = None, cwd: str | Path | None = None, **env: str) -> Any:
        """One command to its end: returncode, stdout, stderr."""
        inherited = {**self.environment, **env}
        place = str(cwd or self.root)
        usual = inherited["PYTHONPATH"] == REPOSITORY and "LD_PRELOAD" not in inherited
        if usual and not any(name.startswith(("PYTHON", "LC_", "LANG")) for name in env):
            return warm().run(words, place, inherited, stdin, 60)
        return subprocess.run(
            [sys.executable, "-m", "orchestrator.cli", *words],
            cwd=place,
            env=inherited,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
        )

    def ok(self, *words: str, **more: Any) -> str:
        """What a command printed that has to succeed."""
        done = self.run(*words, **more)
        assert done.returncode == 0, f"{words}: {done.returncode}: {done.stderr}{done.stdout}"
        return str(done.stdout)

    def json(self, *words: str) -> Any:
        """What a command that has to succeed prints with --json."""
        return json.loads(self.ok(*words, "--json"))

    def spawn(self, *words: str, **env: str) -> subprocess.Popen[str]:
        """A command that goes on by itself."""
        child = subprocess.Popen(
            [sys.executable, "-u", "-m", "orchestrator.cli", *words],
            cwd=self.root,
            env={**self.environment, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(child)
        return child

    # -- the dispatcher ---------------------------------------------------------------------

    def start(self, *words: str, **env: str) -> int:
        """Start the dispatcher as a user does; its pid."""
        self.ok("start", *words, **env)
        return self.pid

    @property
    def pid(self) -> int:
        """What the last dispatcher wrote of itself."""
        path = self.root / ".orchestrator/dispatcher.json"
        try:
            return int(json.loads(path.read_text())["pid"]) if path.is_file() else 0
        except (OSError, ValueError):
            return 0

    def kill(self) -> None:
        """The dispatcher dies as by a power cut: no chance to say anything."""
        pid = self.pid
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        until(lambda: not living(pid), what="the dispatcher to be gone")

    @property
    def log(self) -> str:
        path = self.root / ".orchestrator/dispatcher.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # -- tasks ------------------------------------------------------------------------------

    def drop(self, task_id: str, *orders: str, folder: str = "pending", **fields: Any) -> Path:
        """A task file, put there whole; its description is the orders for the fake agent."""
        path = self.root / "tasks" / folder / f"{task_id}.yaml"
        values = {"description": "\n".join((f"Do {task_id}", *orders)), **fields}
        draft = path.with_name(f".{path.name}.tmp")
        draft.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items()))
        draft.rename(path)
        return path

    def places(self, task_id: str) -> list[str]:
        """The state folders that hold a task."""
        return [state for state in STATES if (self.root / "tasks" / state / f"{task_id}.yaml").exists()]

    def reach(self, state: str, *ids: str, seconds: float = LONG) -> None:
        """Wait until these tasks are in a state, each there alone."""
        for one in ids:
            until(lambda one=one: self.places(one) == [state], seconds, lambda one=one: self.story(one))

    def story(self, task_id: str) -> str:
        """What is known of a task, for a failed test."""
        logs = "".join(
            path.read_text(errors="replace")[-500:] for path in sorted(self.runs(task_id).glob("*/std*.log"))
        )
        return f"{task_id} is in {self.places(task_id)}\n{logs}\n{self.log[-3000:]}"

    def runs(self, task_id: str) -> Path:
        return self.root / "tasks/runs" / task_id

    def count(self, task_id: str) -> int:
        """How many attempts there were."""
        return len(list(self.runs(task_id).glob("[0-9]*")))

    def result(self, task_id: str, run: int = 0) -> dict[str, Any]:
        """The verdict beside an ended task, or that of one attempt."""
        import yaml

        folder = self.runs(task_id) / str(run)
        path = (
            folder / "result.yaml" if run else self.root / "tasks" / self.places(task_id)[0] / f"{task_id}_result.yaml"
        )
        return dict(yaml.safe_load(path.read_text()))

    def answer(self, task_id: str) -> str:
        return (self.root / f"context/agent_outputs/{task_id}_output.md").read_text()

    def prompt(self, task_id: str, run: int = 1) -> str:
        return (self.runs(task_id) / str(run) / "prompt.md").read_text()

    def rejected(self, name: str) -> str:
        """The reason beside a rejected file; "" as long as there is none."""
        path = self.root / "tasks/rejected" / f"{name}.reason.txt"
        return path.read_text() if path.exists() else ""

    def ledger(self) -> list[str]:
        path = self.root / "ledger"
        return path.read_text().splitlines() if path.exists() else []

    def seen(self) -> None:
        """Wait until the dispatcher has looked at all that was dropped so far: it rejects what came after it."""
        probe = self.root / "tasks/pending/probe.yaml"
        probe.write_text("no_key: of a task\n")
        until(lambda: self.rejected("probe.yaml"), what=lambda: self.log[-3000:])
        for name in ("probe.yaml", "probe.yaml.reason.txt"):
            (self.root / "tasks/rejected" / name).unlink()

    def go(self, name: str = "go") -> None:
        """What `@wait go` waits for."""
        (self.root / name).touch()

    # -- the end ----------------------------------------------------------------------------

    def members(self, task_id: str = "") -> list[int]:
        """Living processes of the runs of this root (of one task), by what they inherited."""
        mark = f"ORCHESTRATE_RUN_FOLDER={self.runs(task_id) if task_id else self.root}/".encode()
        found = []
        for name in os.listdir("/proc"):
            if not name.isdecimal():
                continue
            try:
                inherited = Path(f"/proc/{name}/environ").read_bytes()
            except OSError:
                continue
            if mark in inherited and living(int(name)):
                found.append(int(name))
        return found

    def _own(self) -> set[int]:
        own = {pid for pid in (self.pid,) if pid and living(pid)}
        for name in os.listdir("/proc"):
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0") if name.isdecimal() else []
            except OSError:
                continue
            if b"orchestrator.app" in words and str(self.root).encode() in words and living(int(name)):
                own.add(int(name))
        return own

    def close(self) -> None:
        """Kill everything of this root; the dispatcher first, so that it starts nothing more."""
        for child in self.started:
            child.kill()
        deadline = time.monotonic() + 10
        while (left := self._own() or set(self.members())) and time.monotonic() < deadline:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.01)
        for child in self.started:
            child.communicate()
        assert not left, f"these processes could not be killed: {left}"
