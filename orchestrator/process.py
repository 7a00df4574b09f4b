"""Trusted verbs on processes: who is alive, who belongs to a run, how to signal without hitting a stranger.

A pid alone proves nothing: it is used again. So a process is known by its pid, its start time
and the boot it belongs to; and everything that a run started is known by what it inherited,
the variable RUN_FOLDER in its environment, whatever session it moved to. On systems without
/proc only the process group is known (stated in docs/design.md).
"""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from typing import NamedTuple

RUN_FOLDER = "ORCHESTRATE_RUN_FOLDER"
HAS_PROC = os.path.exists("/proc/self/stat")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Identity(NamedTuple):
    """One process and no other: pid, start (clock ticks since boot), boot."""

    pid: int
    started: int
    boot: str


class Child:
    """A process that we started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = (
            None  # negative: the signal that ended it; None: it had not ended at the last look
        )

    def poll(self) -> int | None:
        """Look whether it has ended, and take its exit status."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else took it, and how it ended is not known
                pid, status = self.pid, signal.SIGKILL
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class Stat(NamedTuple):
    """What /proc says of a process."""

    state: str
    parent: int
    group: int
    session: int
    cpu: int  # user and system time of itself and of its children that have ended, in clock ticks
    started: int
    resident: int  # bytes


class Tree(NamedTuple):
    """What the living processes of a run take together."""

    cpu: int  # clock ticks so far
    resident: int  # bytes; what two of them share is counted twice
    pids: tuple[int, ...]


_TO_GROUP = 4  # PIDFD_SIGNAL_PROCESS_GROUP, pidfd_send_signal(2)

# There is no such process, or it is somebody else's. Every other error says that it cannot be told: no descriptors,
# no memory. Whoever took that for death would end what lives.
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


@functools.cache  # another boot is another process
def boot_id() -> str:
    """Another boot, another id. Where the kernel has none: empty, and a restart shows by the start times."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def stat(pid: int) -> Stat | None:
    """None if there is no such process. Raises OSError if it cannot be told."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(fd, 4096)
        finally:
            os.close(fd)
    except _GONE:
        return None
    rest = text[text.rindex(b")") + 2 :].split()  # a program's name may hold anything
    parent, group, session = map(int, rest[1:4])
    cpu = sum(map(int, rest[11:15]))
    return Stat(rest[0].decode(), parent, group, session, cpu, int(rest[19]), int(rest[21]) * PAGE)


def identity(pid: int) -> Identity:
    """Who has this pid now; `started` is 0 where that cannot be told."""
    found = stat(pid)
    return Identity(pid, found.started if found else 0, boot_id())


def is_same(known: Identity) -> bool:
    """Whether that very process still lives (a zombie does not). Raises OSError if it cannot be told."""
    if known.pid <= 0 or known.boot != boot_id():
        return False
    if not HAS_PROC:
        try:
            os.kill(known.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True
    found = stat(known.pid)
    return found is not None and found.state not in "ZX" and known.started in (0, found.started)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()] if HAS_PROC else []


def belongs(pid: int, folder: str) -> bool:
    """Whether a process was started, however indirectly, by the run of this folder. Raises OSError if it cannot be told."""
    return os.fsencode(folder) in _folders(pid)


def _folders(pid: int) -> list[bytes]:
    """Each value that RUN_FOLDER has in the environment of a process."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read()
    except _GONE:
        return []
    mark = f"{RUN_FOLDER}=".encode()
    return [one[len(mark) :] for one in environment.split(b"\0") if one.startswith(mark)]


def holds(pid: int, path: str) -> bool:
    """Whether a process has this file open: what shed its environment still has the lock. Raises OSError likewise."""
    try:
        real = os.path.realpath(path)
        return any(os.readlink(f"/proc/{pid}/fd/{fd}") == real for fd in os.listdir(f"/proc/{pid}/fd"))
    except _GONE:
        return False


def members(folder: str) -> list[int]:
    """Every living process of a run, in whatever session; not zombies."""
    found = []
    for pid in _pids():
        if belongs(pid, folder) or holds(pid, f"{folder}/alive"):
            status = stat(pid)
            if status and status.state not in "ZX":
                found.append(pid)
    return found


def children_of_this_process() -> set[int]:
    """Direct children: with a child subreaper, also every orphan of a run."""
    this = os.getpid()
    try:
        # Only the main thread starts processes, and it is the one that the kernel gives orphans to.
        fd = os.open(f"/proc/self/task/{this}/children", os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = set(map(int, b"".join(iter(partial(os.read, fd, 1 << 16), b"")).split()))
        finally:
            os.close(fd)
    except FileNotFoundError:  # no such file in this kernel: every process whose parent we are
        found = {pid for pid in _pids() if (status := stat(pid)) and status.parent == this}
    return found


def become_subreaper() -> bool:
    """Orphans below this process become its children instead of init's (prctl(2)); Linux only."""
    if sys.platform != "linux":
        return False
    import ctypes

    try:
        return bool(ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


class Measure:
    """What runs take, all of them in one pass over /proc."""

    def __init__(self) -> None:
        self._strays: dict[tuple[int, int], str] = {}  # (pid, start) → the run that its environment names

    def trees(self, roots: Mapping[int, str]) -> dict[str, Tree]:
        """The first pid of each run → its folder; each folder → what its living processes take.

        They are known by whom they come from, by their session, and by the environment if they left both.
        """
        stats = {pid: seen for pid in _pids() if (seen := stat(pid))}
        found: dict[str, list[int]] = {folder: [] for folder in roots.values()}
        strays = {}
        for pid, status in stats.items():
            walk, steps, folder = pid, 0, ""
            while walk > 1 and steps < 100 and not folder:
                folder = roots.get(walk) or (roots.get(stats[walk].session, "") if walk in stats else "")
                walk, steps = (stats[walk].parent if walk in stats else 0), steps + 1
            if not folder:
                key = (pid, status.started)
                strays[key] = self._strays[key] if key in self._strays else _stray(pid)
                folder = strays[key]
            if folder in found:
                found[folder].append(pid)
        self._strays = strays
        return {
            folder: Tree(sum(stats[pid].cpu for pid in pids), sum(stats[pid].resident for pid in pids), tuple(pids))
            for folder, pids in found.items()
        }


def _stray(pid: int) -> str:
    return next((os.fsdecode(folder) for folder in _folders(pid)), "")


def proportional(pids: Iterable[int]) -> int:
    """Memory of these processes in bytes, what they share counted once. Dear: only asked in doubt."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                total += sum(int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:"))
        except _GONE:
            continue
    return total


def signal_group(leader: Identity, number: int) -> bool:
    """Signal a run's process group, if its leader is still the one that we started.

    The leader is held by a descriptor before it is looked at: the number of a process that died in between may be
    another's by then, the descriptor never is. Raises OSError if it cannot be told who it is.
    """
    if leader.pid <= 0:
        return False
    handle = -1
    try:
        handle = os.pidfd_open(leader.pid) if hasattr(os, "pidfd_open") else -1
        if not is_same(leader):
            return False
        if handle < 0 or not _signal_held_group(handle, number):
            os.killpg(leader.pid, number)
        return True
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        if handle >= 0:
            os.close(handle)


def _signal_held_group(handle: int, number: int) -> bool:
    """False: this kernel knows no such thing (before Linux 6.9)."""
    try:
        signal.pidfd_send_signal(handle, number, None, _TO_GROUP)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def signal_member(pid: int, folder: str, number: int) -> None:
    """Signal one process of a run; by pidfd, so that a pid used again in between is not hit."""
    try:
        if hasattr(os, "pidfd_open"):
            handle = os.pidfd_open(pid)
            try:
                if belongs(pid, folder) or holds(pid, f"{folder}/alive"):
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)
        elif belongs(pid, folder):
            os.kill(pid, number)
    except OSError:
        pass
