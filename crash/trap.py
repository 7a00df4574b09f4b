"""A trap before every call that changes the file system, for the process that sets it.

The product speaks to the file system through `os`, `open` and one `renameat2`; all of them are taken
over here, in a forked child that is going to die anyway. What the trap does is up to its rule: count,
kill, fail, record. A thread holds the trap while its call is made, so calls are counted one by one.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from orchestrator import files, syncing

CHANGING = (
    "open", "write", "pwrite", "fsync", "link", "unlink", "remove", "rename", "replace", "mkdir", "rmdir",
    "ftruncate", "chmod", "utime",
)  # fmt: skip
LOOKING = ("open", "read", "listdir", "scandir", "stat", "lstat")
_NAMES = ("open", "mkdir", "link", "rename", "replace", "renameat2")
# Which calls can fail of what. (A bad disk that does not even let names go leaves drafts; nothing can be done.)
CAN_FAIL = {
    errno.ENOSPC: (*_NAMES, "write", "pwrite", "fsync"),
    errno.EIO: (*_NAMES, "write", "pwrite", "fsync", "read", "listdir", "scandir", "stat", "lstat"),
    errno.EMFILE: ("open", "listdir", "scandir"),
    errno.EACCES: (*_NAMES, "stat", "lstat"),
}
REAL: dict[str, Any] = {name: getattr(os, name) for name in {*CHANGING, *LOOKING, "readlink"}}
REAL_OPEN = builtins.open
_WRITES = os.O_CREAT | os.O_TRUNC


class Call(NamedTuple):
    """One call, as it is about to be made."""

    number: int  # from 1
    name: str
    args: tuple[Any, ...]
    act: Callable[[], Any]  # makes it

    def __str__(self) -> str:
        shown = [os.path.relpath(one, "/") if isinstance(one, str) else f"{one!r:.30}" for one in self.args[:2]]
        return f"{self.name}({', '.join(shown)})"


Rule = Callable[[Call], Any]  # makes the call, or does not; what the caller gets


class Trap:
    """Set once, in a process of its own; there is no way back."""

    def __init__(self, rule: Rule, looking: bool = False) -> None:
        self.rule = rule
        self.count = 0
        self._looking = looking
        self._turn = threading.RLock()
        self._inside = False
        self.away = False  # what is done now is not the product's doing

    def set(self) -> None:
        """Take the calls over."""
        for name in {*CHANGING, *(LOOKING if self._looking else ())}:
            setattr(os, name, self._stand_in(name, REAL[name]))
        builtins.open = self._open  # type: ignore[assignment]
        syncing._kernel = lambda: None  # type: ignore[assignment]  # one `fsync` each, so that they can be counted
        files.has_atomic_move()  # looks the real one up
        move = files._rename_with_flags[0]
        if move is not None:
            files._rename_with_flags[0] = self._stand_in("renameat2", move)

    def _stand_in(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            if name == "open" and not self._looking and not args[1] & _WRITES:
                return real(*args, **more)
            if self.away or getattr(threading.current_thread(), "outside", False) or _is_strange(args):
                return real(*args, **more)
            with self._turn:
                if self._inside:  # made by the rule itself
                    return real(*args, **more)
                self._inside = True
                try:
                    self.count += 1
                    return self.rule(Call(self.count, name, args, lambda: real(*args, **more)))
                finally:
                    self._inside = False

        return call

    def _open(self, file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **more: Any) -> Any:
        """`open` by way of `os.open`, and with writes that go by way of `os.write`."""
        opener = more.pop("opener", None) or (lambda path, flags: os.open(path, flags, 0o666))
        if isinstance(file, int) or not set(mode) & set("wax+"):
            return REAL_OPEN(file, mode, buffering, *rest, **more, opener=None if isinstance(file, int) else opener)
        raw = _Raw(file, mode.replace("b", "").replace("t", ""), opener=opener)
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered if buffering else raw
        return io.TextIOWrapper(buffered, *rest, **more, line_buffering=buffering == 1)


class _Raw(io.FileIO):
    def write(self, content: Any) -> int:
        return os.write(self.fileno(), content)


def _is_strange(args: tuple[Any, ...]) -> bool:
    """Whether a call is about what is no file of a queue: /proc, a pipe, the terminal."""
    first = args[0] if args else ""
    if isinstance(first, int):
        try:
            first = REAL["readlink"](f"/proc/self/fd/{first}")
        except OSError:
            return True
    path = os.fsdecode(first)
    return path.startswith(("/proc", "/dev/", "/sys", "pipe:", "socket:", "anon")) and not path.startswith("/dev/shm")


# -- rules --------------------------------------------------------------------------------------


def killing(number: int, when: str) -> Rule:
    """Die before the call of this number, after it, or in the midst of it (`half` a write)."""

    def rule(call: Call) -> Any:
        if call.number != number:
            return call.act()
        if when == "half" and call.name in ("write", "pwrite"):
            fd, content, *place = call.args
            REAL[call.name](fd, bytes(content)[: len(content) // 2], *place)
        elif when == "after":
            call.act()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("dead")

    return rule


def failing(numbers: range, code: int) -> Rule:
    """These calls fail with this error, and the disk stays as it was; but half a write may come through."""

    def rule(call: Call) -> Any:
        if call.number not in numbers or call.name not in CAN_FAIL[code]:
            return call.act()
        if call.name == "renameat2":
            return code
        if call.name in ("write", "pwrite") and code == errno.ENOSPC:
            fd, content, *place = call.args
            if len(content) > 1 and call.number == numbers[0]:  # the last bytes that there was room for
                return REAL[call.name](fd, bytes(content)[: len(content) // 2], *place)
        names = [one for one in call.args[:2] if isinstance(one, str)]
        raise OSError(code, os.strerror(code), *names[:1])

    return rule
