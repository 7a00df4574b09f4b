"""The process that reads for `Apart`: `python -m orchestrator.fetching FOLDER`, with its socket as standard input.

One thread a file, for as long as that takes. It holds no lock and changes nothing; it ends when nobody asks any more, or,
if it waits for a file system then, as soon as that answers.
"""

from __future__ import annotations

import os
import pickle
import socket
import stat
import struct
import sys
import threading
from contextlib import suppress

from orchestrator.errors import InvalidTask
from orchestrator.reading import StillWritten, read_bytes

HEAD = struct.Struct("=I")  # bytes that follow
WHOLE, LIGHT = b"+", b"-"  # whether the content is asked for, too; the file's name follows


def serve(folder: str, client: socket.socket) -> None:
    """Answer until nobody asks any more."""
    turn = threading.Lock()

    def answer(name: str, whole: bool) -> None:
        content = pickle.dumps((name, *look(f"{folder}/{name}", whole)))
        with turn, suppress(OSError):
            client.sendall(HEAD.pack(len(content)) + content)

    with suppress(ConnectionResetError), client.makefile("rb") as asked:
        while head := asked.read(HEAD.size):
            said = asked.read(HEAD.unpack(head)[0])
            what = os.fsdecode(said[1:]), said[:1] == WHOLE
            threading.Thread(target=answer, args=what, daemon=True).start()
    os._exit(0)  # whatever still waits


def look(path: str, whole: bool) -> tuple[os.stat_result | None, bytes | None, Exception | None]:
    """Status, content if it is asked for, and what is wrong; as long as it takes."""
    status = None
    try:
        status = os.lstat(path)
        if not whole:
            return status, None, None
        content = read_bytes(path, settled=True, wait=stat.S_ISREG(status.st_mode))
        if not is_same(os.lstat(path), status):
            raise StillWritten(path)
        return status, content, None
    except (OSError, InvalidTask, StillWritten) as problem:
        return status, None, problem


def is_same(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether both are of one file, unchanged."""
    return (one.st_ino, one.st_mtime_ns, one.st_size) == (other.st_ino, other.st_mtime_ns, other.st_size)


if __name__ == "__main__":
    serve(sys.argv[1], socket.socket(fileno=0))
