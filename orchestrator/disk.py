"""Wait for the disk, or trust the system to write: the one switch behind every sync of this process.

Only a dispatcher is ever told to trust it (`durability: relaxed` in config.yaml). A crash of a program
loses nothing then, as the system keeps what was written; a crash of the machine may take back what the
system had not written yet.
"""

from __future__ import annotations

import os

_RELAXED: list[bool] = []  # holds one word while nothing is waited for


def relax(relaxed: bool) -> None:
    """From now on do not wait for the disk, or do so again. What was not waited for is on the disk before that."""
    if _RELAXED and not relaxed:
        os.sync()
    _RELAXED[:] = [True] * relaxed


def is_relaxed() -> bool:
    """Whether nothing is waited for."""
    return bool(_RELAXED)


def sync(fd: int) -> None:
    """Wait until the data of this open file are on the disk; of a folder: its names. Raises OSError."""
    if not _RELAXED:
        os.fsync(fd)
