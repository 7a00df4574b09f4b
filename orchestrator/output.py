"""Bound what a run prints: it goes straight to a file, and nobody stands in between.

So the file is watched, and the middle of one that outgrew its limit is given back to the disk.
"""

from __future__ import annotations

import os
import sys

from orchestrator import files, plain
from orchestrator.errors import is_lack, said


def cap(path: str, limit: int) -> int:
    """Give back the disk space of a growing file's middle; its size in bytes. Head and tail are kept.

    A hole is punched (fallocate(2)) where the system can; the writer does not notice. Elsewhere
    the middle is cut out, which may tear the line that is being written.
    """
    half = limit // 2 // 4096 * 4096 or 4096
    fd = plain.opener(path, os.O_RDWR)
    try:
        status = os.fstat(fd)
        start, length = half, (status.st_size - 2 * half) // 4096 * 4096
        if status.st_size <= limit or length <= 0 or status.st_blocks * 512 <= limit:
            return status.st_size
        if not _punch(fd, start, length):
            tail = os.pread(fd, half, status.st_size - half)
            os.ftruncate(fd, half)
            os.pwrite(fd, tail, half)
        return status.st_size
    finally:
        os.close(fd)


def _punch(fd: int, start: int, length: int) -> bool:
    if sys.platform != "linux":
        return False
    import ctypes

    try:
        call = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):
        return False
    return bool(call(fd, 3, ctypes.c_int64(start), ctypes.c_int64(length)) == 0)  # PUNCH_HOLE | KEEP_SIZE


_CUT = "left out: max_output_mb …]"


def was_cut(path: str) -> bool:
    """Whether `compact` had to leave something out of this file."""
    import mmap

    try:
        with open(path, "rb", opener=plain.opener) as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
            return content.find(_CUT.encode()) >= 0
    except (OSError, ValueError):
        return False


def compact(path: str, limit: int) -> None:
    """Write a file that outgrew `limit` anew: its head, a line that says how much is gone, its tail."""
    size = os.stat(path).st_size
    if size <= limit:
        return
    half = limit // 2
    with open(path, "rb", opener=plain.opener) as file:
        head = file.read(half).rstrip(b"\0")
        file.seek(size - half)
        tail = file.read(half).lstrip(b"\0")
    gone = size - len(head) - len(tail)
    files.replace(path, head + f"\n[… {gone:,} bytes {_CUT}\n".encode() + tail, sync=False)


def text(path: str, limit: int) -> str:
    """So many characters of a file, whatever bytes are in it; "" if there is none. Raises OSError for a lack of room."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="", opener=plain.opener) as file:
            return file.read(limit)
    except FileNotFoundError:
        return ""
    except OSError as error:
        if is_lack(error):
            raise
        return f"(it cannot be read: {said(error)})"  # for good, perhaps; whoever reads this can try
