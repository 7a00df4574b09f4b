"""Wait for many files to be on the disk at once, without a thread for each.

One after the other, each `fsync` costs a round to the disk of its own; in threads of ours, each costs
a dozen changes of hands of the interpreter's lock. So the kernel is given all of them in one call
(io_submit(2), IOCB_CMD_FSYNC) and waits in its own threads. Where it takes none (another system,
another processor, a container that forbids it), they are waited for one after the other.

Of very many new files each would still cost a round of its own, which passes beside the others; syncfs(2) is one
round for all (docs/decisions/0016).
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import platform
import re
import struct
import sys
import threading
from collections.abc import Callable, Sequence

ROOM = 256  # files that may be under way at once; the rest is waited for here
# io_setup, io_submit, io_getevents
_NUMBERS = {"x86_64": (206, 209, 208), "aarch64": (0, 2, 4)}
_REQUEST = struct.Struct("=QIIHhIQQqQII")  # struct iocb
_EVENT = struct.Struct("=QQqq")  # struct io_event
_FSYNC = 2
# ext, xfs, btrfs, f2fs, tmpfs: their syncfs(2) waits for the disk, and since Linux 5.8 it says what could not be written
_WHOLE = {0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, 0x01021994}


class _Kernel:
    """One context of the kernel's, for all files of this process."""

    def __init__(self) -> None:
        setup, self._submit, self._events = _NUMBERS[platform.machine()]
        self._call = ctypes.CDLL(None, use_errno=True).syscall
        self._context = ctypes.c_ulong(0)
        self._under_way: set[int] = set()
        self._failed: dict[int, int] = {}  # request → errno
        self._last = 0
        if self._call(setup, ROOM, ctypes.byref(self._context)):
            raise OSError(ctypes.get_errno(), "io_setup")

    def submit(self, fds: Sequence[int]) -> list[int]:
        """Begin with as many as there is room for; their numbers."""
        count = min(len(fds), ROOM - len(self._under_way))
        requests = ctypes.create_string_buffer(_REQUEST.size * max(1, count))
        first = self._last + 1
        for place, fd in enumerate(fds[:count]):
            _REQUEST.pack_into(requests, place * _REQUEST.size, first + place, 0, 0, _FSYNC, 0, fd, 0, 0, 0, 0, 0, 0)
        start = ctypes.addressof(requests)
        pointers = (ctypes.c_void_p * max(1, count))(*(start + place * _REQUEST.size for place in range(count)))
        taken = self._call(self._submit, self._context, ctypes.c_long(count), pointers) if count else 0
        begun = list(range(first, first + max(0, taken)))
        self._last += len(begun)
        self._under_way.update(begun)
        return begun

    def wait(self, numbers: Sequence[int]) -> None:
        """Until all of these are over. Raises OSError, of the first that failed."""
        events = ctypes.create_string_buffer(_EVENT.size * ROOM)
        while left := self._under_way.intersection(numbers):
            least = ctypes.c_long(len(left))  # woken once for all of them
            count = self._call(self._events, self._context, least, ctypes.c_long(ROOM), events, ctypes.c_void_p())
            if count < 0 and (code := ctypes.get_errno()) != errno.EINTR:  # a signal: SIGCHLD comes all the time
                raise OSError(code, os.strerror(code))
            for place in range(max(0, count)):
                number, _, result, _ = _EVENT.unpack_from(events, place * _EVENT.size)
                self._under_way.discard(number)
                if result < 0:
                    self._failed[number] = -result
        codes = [code for number in numbers if (code := self._failed.pop(number, 0))]
        if codes:
            raise OSError(codes[0], os.strerror(codes[0]))


@functools.cache
def _kernel() -> _Kernel | None:
    if sys.platform != "linux" or platform.machine() not in _NUMBERS:
        return None
    try:
        return _Kernel()
    except (OSError, AttributeError):
        return None


def begin(fds: Sequence[int]) -> Callable[[], None]:
    """Begin to make the data of these open files durable (of a folder: its names).

    What is returned waits for the end of all, and raises OSError if one failed; they have to stay open
    until then. What the kernel is given is the main thread's; in others they are waited for one after the other.
    """
    ours = len(fds) > 1 and threading.current_thread() is threading.main_thread()
    kernel = _kernel() if ours else None
    begun = kernel.submit(fds) if kernel else []

    def wait() -> None:
        try:
            for fd in fds[len(begun) :]:
                os.fsync(fd)
        finally:
            if kernel:
                kernel.wait(begun)

    return wait


def open_whole(folder: str) -> int | None:
    """What `wait_whole` takes, for the file system of this folder; None where it cannot be relied on. Raises OSError."""
    if sys.platform != "linux" or file_system(folder) not in _WHOLE:
        return None
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    if not release or (int(release[1]), int(release[2])) < (5, 8):
        return None
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def wait_whole(fd: int) -> None:
    """Until all that was written to this file system is on the disk, whoever wrote it. Raises OSError if anything could
    not be, since `fd` was opened."""
    if ctypes.CDLL(None, use_errno=True).syncfs(fd):
        raise OSError(code := ctypes.get_errno(), os.strerror(code))


def file_system(folder: str) -> int:
    """Of which kind the file system of a folder is, in the numbers of statfs(2); 0 if that cannot be told."""
    found = ctypes.create_string_buffer(256)  # struct statfs, which begins with the kind
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(folder), found):
        return 0
    return ctypes.c_long.from_buffer(found).value & 0xFFFFFFFF
