"""What the rows share: fresh roots, programs run from outside, alternation, and how a figure is written."""

from __future__ import annotations

import atexit
import itertools
import json
import os
import platform
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
IN_MEMORY = ("tmpfs", "ramfs")
HELD = "run: 'true'\ndependencies: [gate]\n"  # waits for a task that has failed
RESULT = """\
task_id: {0}
agent_id: agent_01
completed_at: "2026-01-01T00:00:00Z"
status: {1}
files_modified: []
title: a task of the bench
agent_type: shell
run: 1
goes_to: {2}
"""
LOST_MINUTES = 3  # after which something that should have happened will not happen any more


class Bound(NamedTuple):
    """What a figure has to reach."""

    text: str
    met: bool


class Figure(NamedTuple):
    """One row of the table."""

    row: str
    what: str
    unit: str
    ours: Sequence[float]
    beside: str = ""  # what was measured at its side
    theirs: Sequence[float] = ()
    bounds: tuple[Bound, ...] = ()
    note: str = ""
    shown: str = ""  # instead of median (min–max)
    more_is_better: bool = False
    at: int = 0  # tasks that waited: a point of a curve

    @property
    def ratio(self) -> float | None:
        """Ours to theirs, by medians."""
        return median(self.ours) / median(self.theirs) if self.ours and self.theirs else None

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return {
            "row": self.row,
            "what": self.what,
            "unit": self.unit,
            "at": self.at or None,
            "ours": _spread(self.ours),
            "shown": self.shown or None,
            "beside": self.beside or None,
            "theirs": _spread(self.theirs),
            "ratio": self.ratio,
            "more_is_better": self.more_is_better,
            "bounds": [bound._asdict() for bound in self.bounds],
            "note": self.note or None,
        }


def _spread(values: Sequence[float]) -> dict[str, object] | None:
    if not values:
        return None
    every = [float(f"{value:.4g}") for value in values]
    return {"median": median(values), "min": min(values), "max": max(values), "count": len(values), "all": every}


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def within(text: str, value: float, limit: float) -> Bound:
    return Bound(text, value <= limit)


# -- places -----------------------------------------------------------------------------------


class Place:
    """A folder on a real disk for everything that a run of the bench makes; removed at the very end.

    Each row works in fresh folders: where much was just deleted, some file systems are slow for minutes.
    """

    def __init__(self, at: str = "") -> None:
        wanted = at or tempfile.gettempdir()
        if not at and file_system(wanted) in IN_MEMORY:
            wanted = os.path.join(REPOSITORY, ".venv")
        self.path = tempfile.mkdtemp(prefix="orchestrate-bench-", dir=wanted)
        spread(self.path)
        self._roots = itertools.count(1)
        self._pids: list[int] = []
        atexit.register(self.clear)

    def folder(self) -> str:
        """A new empty folder."""
        path = f"{self.path}/{next(self._roots)}-{os.urandom(3).hex()}"  # ext4 picks its place by its name
        os.makedirs(path)
        return path

    def root(self, slots: int = 4, more: str = "") -> str:
        """A new queue with a shell agent of so many slots, and no limit that the bench would meet."""
        path = self.folder()
        for one in ("tasks/pending", ".orchestrator"):
            os.makedirs(f"{path}/{one}")
        write(
            f"{path}/config.yaml",
            f"agents:\n  shell: {{max_instances: {slots}}}\nqueue: {{max_size: 10000000}}\n{more}",
        )
        return path

    def spend(self, root: str) -> None:
        """Take one queue away before the end, where that makes no disk slow: two of a million files need much memory."""
        if file_system(self.path) in IN_MEMORY:
            shutil.rmtree(root, ignore_errors=True)

    def clear(self) -> None:
        """Take it all away."""
        for pid in self._pids:
            try:
                os.killpg(pid, 9)
            except OSError:
                pass
        shutil.rmtree(self.path, ignore_errors=True)

    # -- the dispatcher, from outside ----------------------------------------------------------

    def start(self, root: str) -> int:
        """Start a dispatcher; its pid."""
        run_command("--root", root, "start")
        with open(f"{root}/.orchestrator/dispatcher.json", encoding="utf-8") as file:
            pid = int(json.load(file)["pid"])
        self._pids.append(pid)
        return pid

    def stop(self, root: str) -> None:
        """Stop it, and what it runs."""
        run_command("--root", root, "stop", "--now")
        self._pids.clear()


def file_system(path: str) -> str:
    """The kind of file system that a path lies on; "" where the system does not say."""
    found, longest = "", -1
    try:
        with open("/proc/mounts", encoding="utf-8") as file:
            for line in file:
                _, mount, kind, *_ = line.split(" ")
                inside = os.path.realpath(path).startswith(mount.rstrip("/") + "/") or mount == os.path.realpath(path)
                if inside and len(mount) >= longest:
                    found, longest = kind, len(mount)
    except OSError:
        pass
    return found


def spread(path: str) -> None:
    """Ask ext4 to put what is made in this folder far apart (chattr +T), away from where others deleted
    a lot just now; elsewhere nothing happens."""
    try:
        import fcntl

        fd = os.open(path, os.O_RDONLY)
        try:
            get, put, top = 0x80086601, 0x40086602, 0x20000  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_TOPDIR_FL
            flags = struct.unpack("q", fcntl.ioctl(fd, get, b"\0" * 8))[0]
            fcntl.ioctl(fd, put, struct.pack("q", flags | top))
        finally:
            os.close(fd)
    except (ImportError, OSError):
        pass


def strain(folder: str) -> str:
    """What a new file and a sync cost here and now: the figures of the disk behind all others."""
    made, synced = [], []
    for number in range(200):
        begun = time.perf_counter()
        fd = os.open(f"{folder}/{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        made.append(time.perf_counter() - begun)
        if number % 4 == 0:
            os.write(fd, b"x" * 300)
            begun = time.perf_counter()
            os.fsync(fd)
            synced.append(time.perf_counter() - begun)
        os.close(fd)
    return f"a new file {1000 * median(made):.3f} ms, an fsync {1000 * median(synced):.2f} ms"


def write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def fill(root: str, count: int, lines: str, name: str = "t") -> None:
    """So many waiting tasks, on disk before anything is timed."""
    for number in range(1, count + 1):
        write(f"{root}/tasks/pending/{name}_{number:05d}.yaml", f"description: a task of the bench\n{lines}")
    os.sync()


def verify(root: str, count: int) -> None:
    """Raises RuntimeError unless every task is where it belongs, once."""
    ids = {f"t_{number:05d}" for number in range(1, count + 1)}
    names = set(os.listdir(f"{root}/tasks/completed"))
    with open(f"{root}/context/completed_tasks.json", encoding="utf-8") as file:
        rows = [row["task_id"] for row in json.load(file)]
    left = os.listdir(f"{root}/tasks/pending") + os.listdir(f"{root}/tasks/assigned")
    if names != {f"{one}{end}" for one in ids for end in (".yaml", "_result.yaml")}:
        raise RuntimeError(f"completed/ holds {len(names)} files; {2 * count} were expected")
    if set(rows) != ids or len(rows) != count:
        raise RuntimeError(f"completed_tasks.json has {len(rows)} rows for {count} tasks")
    if left:
        raise RuntimeError(f"left over: {', '.join(left[:5])}")
    if missing := [one for one in ids if not os.path.exists(f"{root}/context/agent_outputs/{one}_output.md")]:
        raise RuntimeError(f"{len(missing)} outputs are missing")


def ended(root: str, task_id: str, state: str) -> None:
    """A task that has `completed` or `failed`: its file, its result, its run."""
    folder = f"{root}/tasks/runs/{task_id}/1"
    os.makedirs(folder)
    os.makedirs(f"{root}/tasks/{state}", exist_ok=True)
    write(f"{root}/tasks/{state}/{task_id}.yaml", "description: a task of the bench\nrun: 'true'\n")
    result = RESULT.format(task_id, "success" if state == "completed" else "agent_error", state)
    for path in (f"{root}/tasks/{state}/{task_id}_result.yaml", f"{folder}/result.yaml"):
        write(path, result)


def hold(root: str, count: int) -> None:
    """So many that wait for a task which has failed, and one behind them that may run; all on the disk: while that
    writes what was made a moment ago, it keeps others waiting."""
    ended(root, "gate", "failed")
    fill(root, count, HELD)
    write(f"{root}/tasks/pending/zz_last.yaml", "description: the last\nrun: 'true'\n")
    os.sync()


def until_read(root: str, seconds: float = 60) -> None:
    """Until a dispatcher has read all that `hold` put there: the last has run. Raises RuntimeError."""
    Journal(root).until("completed", 1, seconds)


# -- programs ---------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    """Ours, with compiled modules allowed: an installed program has them."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "ORCHESTRATE_ROOT")}


def command() -> list[str]:
    """The installed command of this very venv."""
    script = os.path.join(os.path.dirname(sys.executable), "orchestrate")
    return [script] if os.access(script, os.X_OK) else [sys.executable, "-m", "orchestrator.cli"]


def run_command(*words: str) -> None:
    """Run it. Raises RuntimeError with what it said."""
    done = subprocess.run([*command(), *words], env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"orchestrate {' '.join(words)}: {(done.stderr or done.stdout).strip() or done.returncode}")


def whole_process(argv: Sequence[str], stdin: str = os.devnull) -> float:
    """Seconds from the spawn to the end. Raises RuntimeError if it fails."""
    files = [
        (os.POSIX_SPAWN_OPEN, 0, stdin, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    env = environment()
    begun = time.perf_counter()
    _, status = os.waitpid(os.posix_spawnp(argv[0], list(argv), env, file_actions=files), 0)
    took = time.perf_counter() - begun
    if status:
        raise RuntimeError(f"{' '.join(argv[:6])}: ended with {os.waitstatus_to_exitcode(status)}")
    return took


def alternate(times: int, *measures: Callable[[], float]) -> list[list[float]]:
    """Each once, then each again: whatever the machine does meanwhile is done to all. One warm-up round."""
    found: list[list[float]] = [[] for _ in measures]
    for turn in range(times + 1):
        for measure, values in zip(measures, found, strict=True):
            value = measure()
            if turn:
                values.append(value)
    return found


def timed(call: Callable[[], object]) -> Callable[[], float]:
    """A measure of a call in this process, in milliseconds."""

    def measure() -> float:
        begun = time.perf_counter()
        call()
        return (time.perf_counter() - begun) * 1000

    return measure


# -- what a dispatcher says of itself ------------------------------------------------------------


class Journal:
    """The events of a root, read as they are written."""

    def __init__(self, root: str) -> None:
        self._folder = f"{root}/.orchestrator/events"
        self._places: dict[str, int] = {}

    def new(self) -> Iterator[dict[str, object]]:
        """Those since the last call, oldest first."""
        names = sorted(os.listdir(self._folder)) if os.path.isdir(self._folder) else []
        for name in names:
            with open(f"{self._folder}/{name}", "rb") as file:
                file.seek(self._places.get(name, 0))
                content = file.read()
            whole = content.rfind(b"\n") + 1
            self._places[name] = self._places.get(name, 0) + whole
            yield from map(json.loads, content[:whole].splitlines())

    def until(self, kind: str, count: int, seconds: float = LOST_MINUTES * 60) -> list[dict[str, object]]:
        """All events from now to the `count`th of this kind. Raises RuntimeError after some minutes."""
        found: list[dict[str, object]] = []
        seen, deadline = 0, time.monotonic() + seconds
        while seen < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{seen} of {count} tasks {kind} after {seconds:.0f} s")
            time.sleep(0.05)
            for event in self.new():
                found.append(event)
                seen += event["kind"] == kind
        return found


def cpu_seconds(pid: int) -> float:
    """What a process has used, in user and in system, all threads; by the scheduler's own clock where it has one."""
    try:
        total = 0
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0])
        return total / 1e9
    except OSError:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            rest = file.read().rpartition(")")[2].split()
        return (int(rest[11]) + int(rest[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> tuple[float, float]:
    """(resident, private) megabytes."""
    kept: dict[str, float] = {}
    for path in (f"/proc/{pid}/status", f"/proc/{pid}/smaps_rollup"):
        try:
            with open(path, encoding="ascii") as file:
                for line in file:
                    name, _, value = line.partition(":")
                    if value.endswith("kB\n"):
                        kept[name] = int(value.split()[0]) * 1024 / 1e6
        except OSError:
            continue
    return kept["VmRSS"], kept.get("Private_Dirty", 0.0) + kept.get("Private_Clean", 0.0)


def machine(place: Place) -> str:
    """The line without which no figure means anything."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    kind = file_system(place.path) or "unknown file system"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.release()}"
    return f"{os.cpu_count()} cores{load}, {python}, {system}, {kind} in {place.path}: {strain(place.folder())}"
