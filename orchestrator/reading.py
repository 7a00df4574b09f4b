"""Read a file that anybody may have put there: bounded, never raising anything but `InvalidTask`."""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import Any

from orchestrator import lines, locks
from orchestrator.errors import InvalidTask

SIZE_LIMIT = 4 * 1024 * 1024  # bytes

_LIKELY = re.compile(rb"(?:description|content|run)[\"']?\s*:")  # what has none of these is hardly a task
_PRIORITY = re.compile(rb"(?:^|[{,])\s*[\"']?priority[\"']?\s*:\s*[\"']?(\w+)", re.MULTILINE)


class StillWritten(Exception):
    """Some process has the file open for writing: look again later."""


def glance(path: str, status: os.stat_result) -> str | None:
    """The priority that a file seems to state ("" for none); None if it is hardly a task. By this it is decided which
    of many is read first, and nothing else: a glance costs a tenth of reading and parsing it."""
    if not stat.S_ISREG(status.st_mode):
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return ""  # whoever reads it says why not
    try:
        content = os.read(fd, 4096)
    except OSError:
        return ""
    finally:
        os.close(fd)
    if status.st_size <= 4096 and not _LIKELY.search(content):
        return None
    match = _PRIORITY.search(content)
    return match[1].decode("ascii", "replace").lower() if match else ""


def read_bytes(path: str, limit: int = SIZE_LIMIT, settled: bool = False, wait: bool = False) -> bytes:
    """The whole content of a regular file. Follows no symlink, waits for no FIFO; with `wait`, for whoever has it now.

    With `settled`, a file that somebody still writes raises StillWritten, and nobody can start
    to write it while it is read. Raises InvalidTask (what is wrong with the file), and OSError
    (FileNotFoundError, …) for what is not the file's fault.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | (0 if wait else os.O_NONBLOCK))
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENODEV):
            raise  # not there, or no descriptors, no memory, a bad disk: no fault of the file's
        if isinstance(error, PermissionError) and os.access(path, os.R_OK):
            raise  # it may be read, and could not: that passes
        raise InvalidTask(_not_a_file(path) or f"cannot be read: {error.strerror}") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidTask(_kind(status.st_mode))
        if status.st_size > limit:
            raise InvalidTask(f"has {status.st_size:,} bytes; a task file has at most {limit:,}")
        if settled and locks.lease(fd, status.st_mtime) is False:
            raise StillWritten(path)
        content = b""
        while part := os.read(fd, min(status.st_size, limit - len(content)) + 1):  # asks for no buffer of `limit`
            content += part
            if len(content) > limit:
                raise InvalidTask(f"has more than {limit:,} bytes")
        return content
    finally:
        os.close(fd)


def _kind(mode: int) -> str:
    name = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
    }.get(stat.S_IFMT(mode), "a device")
    return f"is {name}, not a file; put the file itself here"


def _not_a_file(path: str) -> str:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return ""
    return "" if stat.S_ISREG(mode) else _kind(mode)


def parse_mapping(content: bytes) -> dict[str, Any]:
    """The one mapping of a YAML document. Raises InvalidTask with line and reason."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidTask(f"is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    if (found := lines.mapping(text)) is not None:
        return found
    from orchestrator import strict

    return strict.mapping(text)


def line_of(content: bytes, key: str) -> str:
    """`line 3: ` for the line on which a key of the outermost mapping stands; "" if it cannot be told."""
    if len(key) > 100:
        return ""  # a pattern of megabytes takes seconds to compile
    text = content.decode("utf-8-sig", "replace")
    word = rf"""["']?{re.escape(key)}["']?\s*:"""
    match = re.search(rf"^{word}", text, re.MULTILINE) or re.search(rf"[{{,]\s*{word}", text)
    return f"line {text.count(chr(10), 0, match.end()) + 1}: " if match else ""


def typed(content: bytes, key: str) -> str:
    """The word behind a key of the outermost mapping, as it was typed; "" if it is none, or on no line of its own."""
    text = content.decode("utf-8-sig", "replace")
    match = re.search(rf"^{re.escape(key)}:[ \t]*([\w.+-]{{1,40}})[ \t]*(?:[ \t]#.*)?\r?$", text, re.MULTILINE)
    return match[1] if match else ""
