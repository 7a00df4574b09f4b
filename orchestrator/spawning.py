"""Start programs without standing still until each has taken its place.

Whoever starts a program is stopped by the kernel until it is loaded (vfork), and Python's own ways hold
the interpreter's lock all that time: on a busy machine longer than all else that a task costs. Here two
threads stand still, in posix_spawn(3), and the loop goes on. They start nothing by themselves and know
nothing of tasks. Where the system lacks a part of it, `subprocess` does the same, one after the other.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

KEPT = 3  # the number that the one descriptor has which a program inherits besides 0, 1 and 2
THREADS = 2
_SETSIGDEF, _SETSID = 0x04, 0x80
_ROOM = 1024  # bytes; more than any C library takes for one of its three structures


class Child(Protocol):
    """A program that was started, as `subprocess.Popen` shows it."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None:
        """Its exit status (of a signal: negative), once it has ended."""
        ...


class _Spawned:
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else took it; as subprocess sees that
                pid, status = self.pid, 0
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class Spawner:
    """Starts programs, each the leader of a session of its own, with nothing but one descriptor of ours."""

    def __init__(self) -> None:
        self._wanted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._threads = 0

    def begin(self, argv: Sequence[str], env: Mapping[str, str], folder: str, kept: int) -> Callable[[], Child]:
        """Begin to start it in `folder`; what is returned waits for it. Both raise OSError, and ValueError for words
        that no program can be given. `kept` is inherited; it has to stay open until then."""
        if not _library():
            child = subprocess.Popen(
                argv, cwd=folder, env=env, start_new_session=True, pass_fds=(kept,),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            return lambda: child
        call, said = _prepared(argv, env, folder, kept), queue.SimpleQueue[tuple[int, int]]()
        self._hire()
        self._wanted.put(lambda: said.put(call()))

        def wait() -> Child:
            code, pid = said.get()
            if code:
                raise OSError(code, os.strerror(code), folder if not os.path.isdir(folder) else argv[0])
            return _Spawned(pid)

        return wait

    def _hire(self) -> None:
        if self._threads < THREADS:
            try:
                threading.Thread(target=self._serve, name="spawn", daemon=True).start()
                self._threads += 1
            except RuntimeError as error:  # a thread counts as a process
                if not self._threads:
                    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error

    def _serve(self) -> None:
        while True:
            self._wanted.get()()


@functools.cache
def _library() -> Any:
    """The C library, if it has all of this; else None."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    needed = ("posix_spawn_file_actions_addchdir_np", "posix_spawn_file_actions_addclosefrom_np")
    return library if all(hasattr(library, name) for name in needed) else None


def _prepared(argv: Sequence[str], env: Mapping[str, str], folder: str, kept: int) -> Callable[[], tuple[int, int]]:
    """The call, with all that it points to: it gives (error, pid)."""
    library = _library()
    actions, attributes, signals = (ctypes.create_string_buffer(_ROOM) for _ in range(3))
    words = _words([os.fsencode(word) for word in argv])
    settings = _words([os.fsencode(f"{name}={value}") for name, value in env.items()])
    made = [library.posix_spawn_file_actions_init(actions), library.posix_spawnattr_init(attributes)]
    made += [
        library.posix_spawn_file_actions_addopen(actions, number, os.fsencode(os.devnull), os.O_RDWR, 0)
        for number in range(3)
    ]
    library.sigemptyset(signals)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and a program would inherit that
        library.sigaddset(signals, number)
    made += [
        library.posix_spawn_file_actions_adddup2(actions, kept, KEPT),
        library.posix_spawn_file_actions_addclosefrom_np(actions, KEPT + 1),
        library.posix_spawn_file_actions_addchdir_np(actions, _words([os.fsencode(folder)])[0]),
        library.posix_spawnattr_setsigdefault(attributes, signals),
        library.posix_spawnattr_setflags(attributes, ctypes.c_short(_SETSIGDEF | _SETSID)),
    ]
    program, pid = os.fsencode(argv[0]), ctypes.c_int(0)

    def call() -> tuple[int, int]:
        code = next(filter(None, made), 0)
        code = code or library.posix_spawn(ctypes.byref(pid), program, actions, attributes, words, settings)
        library.posix_spawn_file_actions_destroy(actions)
        library.posix_spawnattr_destroy(attributes)
        return code, pid.value

    return call


def _words(words: Sequence[bytes]) -> Any:
    """As C wants them. Raises ValueError for a NUL, which would end one early."""
    if any(b"\0" in word for word in words):
        raise ValueError("embedded null byte")
    return (ctypes.c_char_p * (len(words) + 1))(*words, None)
