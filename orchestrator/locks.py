"""Locks that the kernel frees when their holder dies, and leases that say whether somebody writes a file."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold a lock file, waiting for it. The kernel frees it when the holder dies; never unlinked."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def hold_folder(path: str, wait: float) -> int:
    """Lock a folder itself; the descriptor that holds it. Raises BlockingIOError if another process has held it for
    `wait` seconds."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if take(fd, wait):
        return fd
    os.close(fd)
    raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), path)


def take(fd: int, seconds: float, kind: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file; False if another has held it for so long. Who only looks holds it for a moment."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)


def is_locked(path: str) -> bool:
    """Whether some living process holds the lock. Takes nothing that anybody could trip over for long.

    Raises OSError if it cannot be told: whoever took a lack of descriptors for a free lock would start a second run.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


QUIET_SECONDS = 1.0
_F_SETSIG = 10  # Linux; not in the standard library


def lease(fd: int, changed_at: float) -> bool:
    """Whether nobody has this file open for writing; if so, nobody can until `fd` is closed.

    On Linux a read lease (fcntl(2), F_SETLEASE) is refused while anybody writes, and makes a new
    writer wait until we close. Where leases do not work (another owner, another system, a network
    file system), a file counts as written until it has been quiet for QUIET_SECONDS.
    """
    if sys.platform == "linux":
        try:
            fcntl.fcntl(fd, _F_SETSIG, signal.SIGURG)  # ignored by default; SIGIO would end us
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            return True
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return False
    return time.time() - changed_at >= QUIET_SECONDS
