"""Open what others may have exchanged: an agent, or a person, can put a FIFO, a device or a folder in the place of
any file, and whoever opens that waits for ever or never comes to its end.

    with open(path, "rb", opener=plain.opener) as file: …
"""

from __future__ import annotations

import errno
import os
import stat
import time

from orchestrator import disk, files

# There is nothing of that name, or nothing that could ever be read.
_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.ENAMETOOLONG)


class NotPlain(OSError):
    """Something lies there that is no regular file."""


def is_lasting(error: OSError) -> bool:
    """Whether a file that could not be opened is none, or not ours to read: access(2) has to say so, too.

    All else may pass (no descriptors, no memory, a bad disk), and whoever took it for an empty file would judge by
    nothing.
    """
    if isinstance(error, PermissionError):
        return not os.access(error.filename or "", os.R_OK)
    return isinstance(error, NotPlain) or error.errno in _NOTHING


def opener(path: str, flags: int) -> int:
    """A descriptor of a regular file. Raises NotPlain for all else, and waits for nobody."""
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise NotPlain(errno.EINVAL, "is no regular file", path)


def unlinked(path: str, flags: int) -> int:
    """The same, and no link to one."""
    return opener(path, flags | os.O_NOFOLLOW)


def listed(folder: str) -> list[str]:
    """The names in a folder; none if there is no such folder. Raises OSError if that cannot be told now."""
    try:
        return os.listdir(folder)
    except OSError as error:
        if error.errno not in _NOTHING:
            raise
        return []


def append(path: str, content: bytes, sync: bool = False) -> None:
    """Add lines to the end of a file, as one write; after a torn last line they begin a new one."""
    fd = opener(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        size = os.fstat(fd).st_size
        torn = size and os.pread(fd, 1, size - 1) != b"\n"
        files.write_all(fd, b"\n" + content if torn else content)
        if sync:
            disk.sync(fd)
    finally:
        os.close(fd)


def is_there(path: str) -> bool:
    """Whether something has this name. Raises OSError if that cannot be told now, where `os.path` would say no: whoever
    took it for gone would end its run, or give its id again."""
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno not in _NOTHING:
            raise
        return False
    except ValueError:  # a NUL
        return False
    return True


def is_gone(path: str) -> bool:
    """Whether it is sure that nothing has this name."""
    try:
        return not is_there(path)
    except OSError:
        return False


def is_plain(path: str) -> bool:
    """Whether a regular file lies there; a link to one is none."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def is_folder(path: str) -> bool | None:
    """Whether what lies there is a folder (a link to one is none); None if nothing does. Raises OSError if that cannot be
    told now."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError as error:
        if error.errno not in _NOTHING:
            raise
        return None


def aside(path: str, files_too: bool = False) -> None:
    """What lies in the place of a file of ours and is none (a folder, a link, a FIFO) gets another name."""
    number = 1
    while is_there(path) and (files_too or not is_plain(path)):
        try:
            files.move(path, f"{path}.left{number}")
        except FileExistsError:
            number += 1


def same(first: str, second: str, patience: float = 0.0) -> bool:
    """Whether both are there and hold the same bytes. What is larger than a task may be is not compared. One that was
    made just now is given so many seconds to be written. Raises OSError if it cannot be told now."""
    while not (found := _same(first, second)) and patience > 0 and _is_new(second):
        time.sleep(0.01)
        patience -= 0.01
    return found


def _is_new(path: str) -> bool:
    try:
        return abs(time.time() - os.stat(path).st_mtime) < 1.0
    except OSError:
        return False


def _same(first: str, second: str) -> bool:
    try:
        with open(first, "rb", opener=unlinked) as one, open(second, "rb", opener=unlinked) as two:
            size = os.fstat(one.fileno()).st_size
            return size == os.fstat(two.fileno()).st_size <= 4 << 20 and one.read() == two.read()
    except OSError as error:
        if not is_lasting(error):
            raise
        return False


def holds(path: str, content: bytes) -> bool:
    """Whether a file holds these bytes, or nothing yet."""
    try:
        with open(path, "rb", opener=opener) as file:
            return file.read(len(content) + 1) in (b"", content)
    except OSError:
        return False


def drop_copy(path: str, kept: str, drafts: str) -> bool:
    """Remove a file if `kept` holds the same bytes; False, and nothing was done, if it does not.

    It is looked at once more under a name that nobody knows: it may have been saved anew in that very moment, or both
    be one entry of a folder that does not tell `A` from `a`.
    """
    if not same(path, kept):
        return False
    hidden = files.draft_name(drafts)
    files.move(path, hidden)
    dropped = False
    try:
        dropped = same(hidden, kept)
    finally:
        if not dropped:
            files.move(hidden, path)
    os.unlink(hidden)
    return True
