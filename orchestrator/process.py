"""Trusted verbs on processes: who is alive, who belongs to a run, how to signal without hitting a stranger.

A pid alone proves nothing: it is used again. So a process is known by its pid, its start time
and the boot it belongs to; and everything that a run started is known by what it inherited,
the variable RUN_FOLDER in its environment, whatever session it moved to. On systems without
/proc only the process group is known (stated in docs/design.md).
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Iterable
from typing import NamedTuple

RUN_FOLDER = "ORCHESTRATE_RUN_FOLDER"
HAS_PROC = os.path.exists("/proc/self/stat")
TICKS = os.sysconf("SC_CLK_TCK")


class Identity(NamedTuple):
    """One process and no other: pid, start (clock ticks since boot), boot."""

    pid: int
    started: int
    boot: str


class Stat(NamedTuple):
    """What /proc says of a process."""

    state: str
    parent: int
    group: int
    session: int
    cpu: int  # user and system time, in clock ticks
    started: int


@functools.cache  # another boot is another process
def boot_id() -> str:
    """Another boot, another id. Where the kernel has none: empty, and a restart shows by the start times."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def stat(pid: int) -> Stat | None:
    """None if there is no such process."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(fd, 4096)
        finally:
            os.close(fd)
    except OSError:
        return None
    rest = text[text.rindex(b")") + 2 :].split()  # a program's name may hold anything
    return Stat(
        rest[0].decode(), int(rest[1]), int(rest[2]), int(rest[3]), int(rest[11]) + int(rest[12]), int(rest[19])
    )


def identity(pid: int) -> Identity:
    """Who has this pid now; `started` is 0 where that cannot be told."""
    found = stat(pid)
    return Identity(pid, found.started if found else 0, boot_id())


def is_same(known: Identity) -> bool:
    """Whether that very process still lives (a zombie does not)."""
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
    """Whether a process was started, however indirectly, by the run of this folder."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read()
    except OSError:
        return False
    ours = f"\0{RUN_FOLDER}={folder}\0".encode("utf-8", "surrogateescape")
    return ours in b"\0" + environment + b"\0"


def holds(pid: int, path: str) -> bool:
    """Whether a process has this file open: what shed its environment still has the lock."""
    try:
        real = os.path.realpath(path)
        return any(os.readlink(f"/proc/{pid}/fd/{fd}") == real for fd in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
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
        with open(f"/proc/self/task/{this}/children", "rb", buffering=0) as file:
            found = set(map(int, file.readall().split()))
    except OSError:  # no such file in this kernel: every process whose parent we are
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


def cpu_ticks(folders: Iterable[tuple[str, int]]) -> dict[str, int]:
    """CPU used so far by each run's living tree: (folder, its first pid) → clock ticks, in one pass."""
    stats = {pid: found for pid in _pids() if (found := stat(pid))}
    roots = {pid: folder for folder, pid in folders}
    totals = dict.fromkeys(roots.values(), 0)
    for pid, status in stats.items():
        walk, steps = pid, 0
        while walk > 1 and steps < 100:
            if walk in roots or (stats[walk].session in roots if walk in stats else False):
                totals[roots.get(walk) or roots[stats[walk].session]] += status.cpu
                break
            walk = stats[walk].parent if walk in stats else 0
            steps += 1
    return totals


def signal_group(leader: Identity, number: int) -> bool:
    """Signal a run's process group, if its leader is still the one that we started."""
    if not is_same(leader):
        return False
    try:
        os.killpg(leader.pid, number)
    except (ProcessLookupError, PermissionError):
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
    except (OSError, ProcessLookupError):
        pass
