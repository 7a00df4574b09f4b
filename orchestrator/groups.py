"""Control groups (cgroup v2). Where we may make one, the kernel itself holds a run to its memory: it ends that run in the
moment in which it takes too much, and nobody beside it. Where we may not, a run is watched once a second all the same.

The rules are those of https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from contextlib import suppress

from orchestrator import files, plain

_PREFIX = "orchestrate-"
_OURS = f"{_PREFIX}dispatcher"
# Its own pid into the group, then the program: the wrapper stays outside, and tells how it ended.
_ENTER = '{ echo 0 >"$0/cgroup.procs"; } 2>/dev/null; exec "$@"'


def home(proc: str = "/proc/self") -> str:
    """The folder in which groups with a limit of memory can be made; "" if there is none. May move this process into a
    group below its own, for a group that has others below it may hold no process itself."""
    try:
        mount, root = _mount(_read(f"{proc}/mountinfo"))
        own = next(line[3:] for line in _read(f"{proc}/cgroup").splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return ""
    inner = os.path.relpath(own, root)
    folder = mine = mount if inner == "." else f"{mount}/{inner}"
    while len(folder) >= len(mount) and not inner.startswith(".."):
        if _gives_memory(folder) and os.access(folder, os.W_OK) and os.access(f"{folder}/cgroup.procs", os.W_OK):
            return folder
        folder = os.path.dirname(folder)
    return mine if not inner.startswith("..") and _enable(mine) else ""


@functools.cache
def _home() -> str:
    found = home()
    with suppress(OSError):  # of runs that ended while nobody looked; one with a process in it stays
        for name in os.listdir(found) if found else ():
            if name.startswith(_PREFIX) and name != _OURS:
                with suppress(OSError):
                    os.rmdir(f"{found}/{name}")
    return found


def make(folder: str, most: float, base: str | None = None) -> str:
    """A group for the run in `folder`, of so many bytes at most; "" if there can be none."""
    base = _home() if base is None else base
    if not base:
        return ""
    group = f"{base}/{_name(folder)}"
    try:
        with suppress(FileExistsError):
            os.mkdir(group)
        _write(f"{group}/memory.max", f"{most:.0f}")
        _write(f"{group}/memory.oom.group", "1")  # all of it: half an agent is none
        with suppress(FileNotFoundError):
            _write(f"{group}/memory.swap.max", "0")
        files.write(f"{folder}/cgroup", f"{group}\n".encode())
    except OSError:
        return ""
    return group


def inside(group: str, argv: tuple[str, ...]) -> tuple[str, ...]:
    """The command that runs `argv` in that group."""
    return ("/bin/sh", "-c", _ENTER, group, *argv) if group else argv


def was_ended(folder: str) -> bool:
    """Whether the kernel ended the run in `folder`, for it took more memory than its group may."""
    try:
        said = re.search(r"^oom_kill (\d+)$", _read(f"{_of(folder)}/memory.events"), re.MULTILINE)
    except OSError:
        return False
    return bool(said and int(said[1]))


def remove(folder: str) -> None:
    """The run in `folder` is over, and its group with it."""
    with suppress(OSError):
        os.rmdir(_of(folder))


def _name(folder: str) -> str:
    return _PREFIX + hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]


def _of(folder: str) -> str:
    """As it was written down; only the name that is this run's own counts, for its agent may write there, too."""
    group = _read(f"{folder}/cgroup").rstrip("\n")
    if os.path.basename(group) != _name(folder):
        raise FileNotFoundError(folder)
    return group


def _mount(table: str) -> tuple[str, str]:
    """Where cgroup v2 is mounted, and which of its folders is seen there. Raises StopIteration."""
    row = next(line.split() for line in table.splitlines() if " - cgroup2 " in line)
    place, root = (re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), one) for one in (row[4], row[3]))
    return place, root


def _gives_memory(folder: str) -> bool:
    try:
        return "memory" in _read(f"{folder}/cgroup.subtree_control").split()
    except OSError:
        return False


def _enable(folder: str) -> bool:
    """Let groups below our own have a limit, if nobody but us is in it (systemd: Delegate=yes)."""
    try:
        if "memory" not in _read(f"{folder}/cgroup.controllers").split():
            return False
        with suppress(OSError):
            _write(f"{folder}/cgroup.subtree_control", "+memory")
            return True
        with suppress(FileExistsError):
            os.mkdir(f"{folder}/{_OURS}")
        # We, and whoever has started us: a command or a script that may be about to end.
        mine = {str(os.getpid()), str(os.getppid())} & set(_read(f"{folder}/cgroup.procs").split())
        for pid in mine:
            _write(f"{folder}/{_OURS}/cgroup.procs", pid)
        try:
            _write(f"{folder}/cgroup.subtree_control", "+memory")
            return True
        except OSError:  # others are in it: a login session, a container's first process
            for pid in mine:
                _write(f"{folder}/cgroup.procs", pid)
            os.rmdir(f"{folder}/{_OURS}")
    except OSError:
        pass
    return False


def _read(path: str) -> str:
    with open(path, "rb", opener=plain.opener) as file:
        return file.read(1 << 20).decode("utf-8", "replace")


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
