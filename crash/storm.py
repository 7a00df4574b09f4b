"""Kill at random, for a time, while several people use the queue and git moves it under their feet.

    make crash ARGS="storm --seconds 600 --seed 7"

The dispatcher is the real one, the agents are real programs that write a ledger. At the end everything
is left alone until the queue is empty, and then counted: what was acknowledged and is not there, what
was done twice, what lives on. The choices follow the seed; their moments are the machine's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator

from storm_people import People

from orchestrator import process
from orchestrator.files import _DRAFT as DRAFT
from orchestrator.places import Places
from orchestrator.states import ENDED, State

AGENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "storm_agent.py")
KINDS = ("dispatcher", "agent", "wrapper", "child", "group", "everything", "stop and go on")
WEIGHTS = (30, 24, 14, 8, 10, 4, 10)
DRAIN_SECONDS = 120.0
STALE_ZOMBIE = 5.0  # seconds


def main(argv: list[str]) -> int:
    """Run it, print the table; how many violations there were."""
    parser = argparse.ArgumentParser(prog="storm", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--quick", action="store_true", help="12 seconds")
    parser.add_argument("--keep", action="store_true", help="leave the root where it is")
    options = parser.parse_args(argv)
    seconds = 12.0 if options.quick else options.seconds
    sys.setswitchinterval(0.0005)  # its people are threads, and none of them may wait long for the others
    storm = Storm(tempfile.mkdtemp(prefix="orchestrate-storm-"), options.seed)
    try:
        storm.rage(seconds)
        storm.settle()
        storm.check()
    finally:
        storm.end()
    storm.print_table(seconds)
    if storm.violations or options.keep:
        print(f"kept: {storm.folder}")
    else:
        shutil.rmtree(storm.folder, ignore_errors=True)
    if storm.violations:
        print(f'to repeat: make crash ARGS="storm --seconds {seconds:g} --seed {options.seed}"')
    return len(storm.violations)


class Storm:
    """One root, its people, and everything that is done to it."""

    def __init__(self, folder: str, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        self.root = f"{folder}/a root"
        self.places = Places(self.root)
        self.chance = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.violations: list[str] = []
        self.recoveries: list[float] = []
        self.over = threading.Event()
        self.stopped_until = 0.0  # the dispatcher is held by SIGSTOP
        self._killed_at = 0.0
        self._last = 0
        self._dispatchers: set[int] = set()
        self._spared_until = 0.0
        self._zombies: dict[tuple[int, int], float] = {}
        self._kept: dict[str, str] = {}
        self.zombies = 0
        os.makedirs(f"{folder}/locks")
        process.become_subreaper()  # what a dead dispatcher leaves behind is ours to see, and to reap
        self.people = People(self.root, seed, self.over, self.blame)
        agent = {
            "command": f"{shlex.quote(sys.executable)} -S -E {shlex.quote(AGENT)}",
            "max_instances": 16,
            "timeout_seconds": 5,
            "env": {"STORM": folder, "STORM_SEED": str(seed)},
        }
        self.people.begin(
            {
                "agents": {"storm": agent},
                "queue": {"max_size": 100000},
                "retry": {"max_retries": 3, "retry_delay_seconds": 0.2, "max_delay_seconds": 1},
                "limits": {"grace_seconds": 0.3, "linger_seconds": 0.5},
            }
        )

    def blame(self, what: str) -> None:
        """Something that must never be."""
        self.violations.append(what)

    # -- the storm --------------------------------------------------------------------------

    def rage(self, seconds: float) -> None:
        """Kill, and start again, until the time is over."""
        threads = [threading.Thread(target=one, daemon=True) for one in (self._keep_one_running, *self.people.lives())]
        for one in threads:
            one.start()
        deadline = time.monotonic() + seconds
        watched = 0.0
        while time.monotonic() < deadline:
            if self.stopped_until and time.monotonic() > self.stopped_until:
                self._go_on()
            self._strike()
            if time.monotonic() - watched > 0.5:
                watched = time.monotonic()
                self._watch()
            time.sleep(self.chance.uniform(0.0, 0.3))
        self.over.set()
        self._go_on()
        for one in threads:
            one.join(60)

    def _strike(self) -> None:
        """One blow, at one of those who are there."""
        dispatcher, members = self._dispatcher(), self._members()
        there = {kind for _, _, kind in members} | ({"group"} if members else set())
        # Mostly it is given the time to do something; sometimes it dies before it is up.
        spared = time.monotonic() < self._spared_until and self.chance.random() > 0.05
        if dispatcher and not self.stopped_until and not spared:
            there |= {"dispatcher", "everything", "stop and go on"}
        kinds = [kind for kind in KINDS if kind in there]
        if not kinds:
            return
        kind = self.chance.choices(kinds, [WEIGHTS[KINDS.index(kind)] for kind in kinds])[0]
        hit = []
        if kind in ("dispatcher", "everything"):
            self._killed_at = time.monotonic()
            hit.append(_signal(dispatcher, signal.SIGKILL))
        if kind == "everything":
            hit += [_signal(pid, signal.SIGKILL) for pid, _, _ in members]
        elif kind == "stop and go on":
            self.stopped_until = time.monotonic() + self.chance.uniform(0.05, 1.0)
            hit.append(_signal(dispatcher, signal.SIGSTOP))
        elif kind == "group":
            hit.append(_signal_group(self.chance.choice(members)[0]))
        elif kind != "dispatcher":
            hit.append(_signal(self.chance.choice([pid for pid, _, one in members if one == kind]), signal.SIGKILL))
        self.kills[kind] += any(hit)

    def _go_on(self) -> None:
        self.stopped_until = 0.0
        if pid := self._dispatcher():
            _signal(pid, signal.SIGCONT)

    def _keep_one_running(self) -> None:
        while not self.over.wait(0.05):
            self._bury()
            if not self._dispatcher():
                self._look_at_the_dead()
                self._start()

    def _start(self) -> None:
        """Start a dispatcher as a person does, and wait for its first turn; the time since the last one's death."""
        self._spared_until = time.monotonic() + 60
        killed_at, begun, place = self._killed_at, time.monotonic(), len(self._journal().encode())
        said = self.people.wait(self.people.spawn("start"))
        if up := re.match(r"dispatcher running \(pid (\d+)\)", said):
            self._dispatchers.add(int(up[1]))
        elif (
            self._killed_at < begun and "runs already" not in said
        ):  # somebody cancels where none runs: it takes a moment
            self.blame(f"start said: {said}")
        while self._dispatcher():
            if '"kind": "dispatching"' in self._journal(place):
                self._spared_until = time.monotonic() + self.chance.uniform(0.0, 1.5)
                if killed_at and self._killed_at == killed_at:
                    self.recoveries.append(time.monotonic() - killed_at)
                return
            if time.monotonic() - begun > 60:
                self.blame("a dispatcher made no turn within 60 s")
                return
            time.sleep(0.03)

    def _journal(self, place: int = 0) -> str:
        """What the dispatchers told, from a place on."""
        folder = f"{self.root}/.orchestrator/events"
        text = ""
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            size = os.stat(f"{folder}/{name}").st_size
            with open(f"{folder}/{name}", encoding="utf-8", errors="replace") as file:
                file.seek(min(place, size))
                text += file.read()
            place -= min(place, size)
        return text

    # -- who lives --------------------------------------------------------------------------

    def _dispatcher(self) -> int:
        """The pid of the dispatcher of this root; 0 if none lives."""
        for pid in (self._last, *_pids()):
            words = _read(f"/proc/{pid}/cmdline").split("\0")
            if "orchestrator.app" in words and self.root in words and _state(pid) not in "ZX":
                self._last = pid
                return pid
        return 0

    def _members(self) -> list[tuple[int, str, str]]:
        """(pid, run folder below tasks/runs/, what it is) of all that lives of any run."""
        found = []
        mark = f"{process.RUN_FOLDER}={self.root}/tasks/runs/"
        for pid in _pids():
            folder = next((x[len(mark) :] for x in _read(f"/proc/{pid}/environ").split("\0") if x.startswith(mark)), "")
            if folder and _state(pid) not in "ZX":
                line = _read(f"/proc/{pid}/cmdline")
                kind = "wrapper" if "orchestrate-run" in line else "agent" if AGENT in line else "child"
                found.append((pid, folder, kind))
        return found

    def _watch(self) -> None:
        """What must not be seen at any moment: two runs of one task, a zombie that stays."""
        by_task: dict[str, dict[str, tuple[int, int]]] = {}
        for pid, folder, _ in self._members():
            task_id, _, number = folder.partition("/")
            by_task.setdefault(task_id, {})[number] = (pid, process.identity(pid).started)
        for task_id, found in by_task.items():
            # One may have ended and the other begun while we were looking: both must live now.
            if len(found) > 1 and all(process.identity(pid).started == began for pid, began in found.values()):
                self.blame(f"{task_id}: two runs live: {found}")
        self._bury()
        dispatcher = self._dispatcher()
        now = time.monotonic()
        present = {}
        for pid in _pids():
            status = process.stat(pid)
            if dispatcher and status and status.state == "Z" and status.parent == dispatcher and not self.stopped_until:
                since = self._zombies.get((pid, status.started), now)
                present[pid, status.started] = since
                if now - since > STALE_ZOMBIE:
                    self.zombies += 1
                    self.blame(f"a zombie of the dispatcher for {now - since:.1f} s: {pid}")
                    since = now + 1e9
        self._zombies = present
        self._remember()

    def _bury(self) -> None:
        for pid, status in self.people.reap():
            if pid in self._dispatchers:
                self._dispatchers.discard(pid)  # its number will be another's soon
                if not os.WIFSIGNALED(status):
                    self.blame(f"dispatcher {pid} ended by itself with {os.waitstatus_to_exitcode(status)}")

    def _remember(self) -> None:
        """Results that are there must stay as they are."""
        for name in self.places.names(State.COMPLETED):
            path = f"tasks/completed/{name}"
            if path not in self._kept and name.endswith(".yaml"):
                self._kept[path] = _digest(f"{self.root}/{path}")
                if name.endswith("_result.yaml"):
                    self._remember_runs(name.removesuffix("_result.yaml"))

    def _remember_runs(self, task_id: str) -> None:
        for number in self.places.run_numbers(task_id):
            path = f"tasks/runs/{task_id}/{number}/result.yaml"
            self._kept[path] = _digest(f"{self.root}/{path}")

    def _look_at_the_dead(self) -> None:
        """Between two dispatchers nobody moves what was claimed: it is nowhere else."""
        claimed = {name for name in self.places.names(State.ASSIGNED) if "_agent_" not in name}
        for state in ENDED:
            if twice := claimed.intersection(self.places.names(state)):
                self.blame(f"in assigned/ and in {state}/ at once: {sorted(twice)[:5]}")

    # -- afterwards -------------------------------------------------------------------------

    def settle(self) -> None:
        """Leave it alone until nothing waits and nothing runs; then stop."""
        self.people.git_home()
        if not self._dispatcher():
            self._start()
        deadline = time.monotonic() + DRAIN_SECONDS
        while left := self._left():
            if time.monotonic() > deadline:
                self.blame(f"not done {DRAIN_SECONDS:g} s after the last kill: {left[:10]}")
                break
            self._watch()
            time.sleep(0.1)
        self.people.wait(self.people.spawn("stop", *(["--now"] if left else [])))
        deadline = time.monotonic() + 10
        while self._members() and time.monotonic() < deadline:
            time.sleep(0.1)

    def _left(self) -> list[str]:
        return [
            name for state in (State.PENDING, State.ASSIGNED) for name in self.places.names(state) if name[0] != "."
        ]

    def check(self) -> None:
        """Count."""
        self.orphans = [(pid, folder, kind) for pid, folder, kind in self._members()] + self._holders()
        if self.orphans:
            self.blame(f"lives on: {self.orphans[:5]}")
        where: dict[str, list[str]] = {}
        for state in (State.PENDING, State.ASSIGNED, *ENDED):
            for task_id in self.places.ids(state):
                where.setdefault(task_id, []).append(str(state))
        self.lost = [task_id for task_id in self.people.acknowledged if task_id not in where]
        twice = {task_id: states for task_id, states in where.items() if len(states) > 1}
        self.strangers = sorted(where.keys() - self.people.acknowledged - self.people.attempted)
        rejected = [name for name in self.places.names(State.REJECTED) if name != ".gitkeep"]
        for what, found in (
            ("lost", self.lost), ("in two folders", list(twice.items())), ("nobody added", self.strangers),
            ("rejected", rejected), ("drafts", self._drafts()),
            ("no result beside", [f"{s}/{i}" for s in ENDED for i in self.places.ids(s)
                                  if not os.path.exists(self.places.result_path(s, i))]),
            ("changed after they were there", [p for p, was in self._kept.items() if _digest(f"{self.root}/{p}") != was]),
        ):  # fmt: skip
            if found:
                self.blame(f"{what}: {len(found)}, such as {found[:5]}")
        self.doubled = len(twice) + self._check_ledger() + self._check_pages()
        for line in _read(f"{self.root}/.orchestrator/dispatcher.log").splitlines():
            if "Traceback" in line or "Error" in line.split(" ")[0]:
                self.blame(f"dispatcher.log: {line}")
        self.where = Counter(states[0] for states in where.values())

    def _check_ledger(self) -> int:
        begun: Counter[tuple[str, int]] = Counter()
        doubled = 0
        for line in _read(f"{self.folder}/ledger").splitlines():
            word, task_id, number, *rest = line.split(" ")
            if word == "begin":
                begun[task_id, int(number)] += 1
            elif word == "overlap":
                doubled += 1
                self.blame(f"{task_id}: run {number} began while another lived: {rest}")
        for (task_id, number), times in begun.items():
            if times > 1:
                doubled += 1
                self.blame(f"{task_id}: run {number} was started {times} times")
        completed = set(self.places.ids(State.COMPLETED))
        ended = Counter(re.findall(r'"kind": "completed", "task_id": "([^"]*)"', self._journal()))
        for task_id in completed:
            last = max((number for one, number in begun if one == task_id), default=0)
            found = re.search(r"^run: (\d+)$", _read(self.places.result_path(State.COMPLETED, task_id)), re.MULTILINE)
            if found and int(found[1]) != last:
                doubled += 1
                self.blame(f"{task_id}: completed by run {found[1]}, but run {last} began")
            if ended[task_id] > 1:
                doubled += 1
                self.blame(f"{task_id}: was completed {ended[task_id]} times")
        self.runs = sum(begun.values())
        return doubled

    def _check_pages(self) -> int:
        """Every entry once. completed_tasks.json lies in git: there it may be missing, if git took the page back."""
        notes = Counter(re.findall(r"<!-- (\S+/\d+) -->", _read(f"{self.root}/context/notes/storm.md")))
        rows = Counter(row["mark"] for row in json.loads(_read(f"{self.root}/context/completed_tasks.json") or "[]"))
        doubled = [mark for page in (notes, rows) for mark, times in page.items() if times > 1]
        if doubled:
            self.blame(f"merged twice: {len(doubled)}, such as {doubled[:5]}")
        ours = {}
        for task_id in self.places.ids(State.COMPLETED):
            found = re.search(r"^run: (\d+)$", _read(self.places.result_path(State.COMPLETED, task_id)), re.MULTILINE)
            ours[f"{task_id}/{found[1] if found else 0}"] = task_id
        self.taken_by_git = len(ours.keys() - rows)
        missing = sorted(ours.keys() - notes)
        if missing:
            self.blame(f"never merged: {len(missing)}, such as {missing[:5]}")
        return len(doubled)

    def _drafts(self) -> list[str]:
        return [
            os.path.relpath(f"{folder}/{name}", self.root)
            for folder, _, names in os.walk(self.root)
            for name in names
            if DRAFT.fullmatch(name) and "/.git" not in folder
        ]

    def _holders(self) -> list[tuple[int, str, str]]:
        """Who has the lock of a run, whatever it has shed."""
        found = []
        for pid in _pids():
            for link in _links(pid):
                if link.startswith(f"{self.root}/tasks/runs/") or link.startswith(f"{self.folder}/locks/"):
                    found.append((pid, link, "holds it"))
        return found

    def end(self) -> None:
        """Nothing of this storm lives on, whatever was found."""
        self.over.set()
        for _ in range(100):
            left = [self._dispatcher()] if self._dispatcher() else []
            left += [pid for pid, _, _ in (*self._members(), *self._holders())]
            if not left:
                break
            for pid in left:
                _signal(pid, signal.SIGKILL)
            time.sleep(0.05)
        self.people.reap()

    def print_table(self, seconds: float) -> None:
        """What it came to."""
        ways = ", ".join(f"{self.kills[kind]} {kind}" for kind in KINDS)
        folders = ", ".join(f"{count} {state}" for state, count in self.where.most_common())
        slow = sorted(self.recoveries)
        rows = (
            ("seconds, seed", f"{seconds:g}, {self.seed}"),
            ("kills", f"{sum(self.kills.values()):,} ({ways})"),
            ("tasks acknowledged, runs", f"{len(self.people.acknowledged):,} ({folders}), {self.runs:,}"),
            ("what people did", ", ".join(f"{n} {what}" for what, n in self.people.done.most_common())),
            ("lost", str(len(self.lost))),
            ("doubled", str(self.doubled)),
            ("orphans", str(len(self.orphans))),
            ("zombies", str(self.zombies)),
            ("rows that git took back with its page", str(self.taken_by_git)),
            ("recovery, kill → end of the first turn", f"median {slow[len(slow) // 2]:.2f} s, longest {slow[-1]:.2f} s"
             if slow else "none"),
            ("violations", str(len(self.violations))),
        )  # fmt: skip
        print("| storm | |\n|---|---|")
        for what, value in rows:
            print(f"| {what} | {value} |")
        for one in self.violations[:40]:
            print(f"VIOLATION: {one}")


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            return file.read()
    except OSError:
        return ""


def _links(pid: int) -> list[str]:
    found = []
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    except OSError:
        pass
    return found


def _state(pid: int) -> str:
    status = process.stat(pid)
    return status.state if status else "X"


def _digest(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return "gone"


def _signal_group(pid: int) -> bool:
    try:
        os.killpg(os.getpgid(pid), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
