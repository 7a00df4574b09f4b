"""Who reads the files of pending/: this thread, or, where the disk may keep a reader waiting, a process of its own.

A read that does not come back cannot be given up by who made it, nor by killing him: what waits for a file system that
does not answer dies when that answers, and holds all its locks until then. So there it is made by a process that holds
nothing: one thread a file, and while some wait the others go on. `Near` is the rule, and costs nothing; `Apart` is for
file systems that ask somebody else (a network, FUSE).
"""

from __future__ import annotations

import os
import pickle
import select
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import NamedTuple

from orchestrator.fetching import HEAD, LIGHT, WHOLE, is_same
from orchestrator.reading import read_bytes
from orchestrator.syncing import file_system

SLOW_SECONDS = 3.0  # without an answer: then it is named, and others are asked in its place
LEAST_FRESH = 1.0  # seconds: for so long an answer counts as what is there now
MOST_FRESH = 30.0  # the same of one that took long
AT_ONCE = 32  # files that are asked for at the same time, the slow ones not counted
MOST = 256  # the slow ones counted: of a disk that does not answer at all, no more is asked
END_SECONDS = 1.0  # for the process to end when it is not needed any more; one whose disk does not answer is left
AGAIN_SECONDS = 1.0  # between two starts of the process
# statfs(2): ext, xfs, btrfs, tmpfs, overlayfs, f2fs, zfs, bcachefs, jfs, vfat, exfat, ntfs3, ramfs, nilfs2
_LOCAL = {0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x794C7630, 0xF2F52010, 0x2FC12FC1, 0xCA451A4E, 0x3153464A,
          0x4D44, 0x2011BAB0, 0x7366746E, 0x858458F6, 0x3434}  # fmt: skip


class NotYet(Exception):
    """It has been asked for. Whoever asked is told when the answer is here."""


class Near:
    """Reads files of one folder, at once."""

    is_apart = False

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def status(self, name: str, whole: bool = True) -> os.stat_result:
        """As lstat(2). Raises OSError, NotYet. `whole`: its content will be asked for, too."""
        return os.lstat(f"{self._folder}/{name}")

    def content(self, name: str) -> bytes:
        """As `read_bytes` of a settled file. Raises what that raises, and NotYet."""
        return read_bytes(f"{self._folder}/{name}", settled=True)

    def is_still(self, name: str, status: os.stat_result) -> bool:
        """Whether it is as it was before it was read. Raises OSError."""
        return is_same(os.lstat(f"{self._folder}/{name}"), status)

    def forget(self, name: str) -> None:
        """Something has happened to it: what was read before does not count."""

    def give_up(self, name: str) -> None:
        """It is not there any more: no answer counts."""

    def answered(self, seconds: float = 0.0) -> str:
        """The next file that was asked for and can be told of now, or within so many seconds; "" if there is none."""
        return ""

    def under_way(self) -> int:
        """How many are asked for, and not known to be slow."""
        return 0

    def slow(self) -> list[str]:
        """Those that do not answer, the longest first."""
        return []

    def is_due(self) -> bool:
        """Whether an answer lies here already."""
        return False

    def descriptors(self) -> tuple[int, ...]:
        """Readable when there is an answer."""
        return ()

    def close(self) -> None:
        """Wait for nothing any more."""


class Answer(NamedTuple):
    """What was found; `until` when it counts as what is there now (seconds of the monotonic clock)."""

    until: float
    status: os.stat_result | None
    content: bytes | None  # if it was asked for
    problem: Exception | None  # of the status, if there is none; else of the content


class Apart(Near):
    """Has a process read. Only the loop's thread may call it; nothing here waits."""

    is_apart = True

    def __init__(self, folder: str, children: set[int]) -> None:
        super().__init__(folder)
        self._children = children  # of this process that belong to no run
        self._line: dict[str, bool] = {}  # to be asked for → its content, too
        self._asked: dict[str, tuple[float, bool]] = {}  # under way → since when, the first first; content, too
        self._again: set[str] = set()  # touched since it was asked for
        self._kept: dict[str, Answer] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._received = bytearray()
        self._start_at = 0.0

    def status(self, name: str, whole: bool = True) -> os.stat_result:
        answer = self._answer(name, whole)
        if answer.status is None:
            raise answer.problem or FileNotFoundError(name)
        return answer.status

    def content(self, name: str) -> bytes:
        answer = self._answer(name, True)
        if answer.problem is not None:
            raise answer.problem
        return answer.content or b""

    def is_still(self, name: str, status: os.stat_result) -> bool:
        return True  # it was, and whatever was written since comes as news

    def _answer(self, name: str, whole: bool) -> Answer:
        kept = self._kept.get(name)
        if kept and time.monotonic() <= kept.until and (kept.problem or not whole or kept.content is not None):
            return kept
        if name not in self._asked:
            self._line[name] = whole or self._line.get(name, False)
            self._ask()
        elif whole and not self._asked[name][1]:
            self._again.add(name)
        raise NotYet(name)

    def forget(self, name: str) -> None:
        self._kept.pop(name, None)
        if name in self._asked:
            self._again.add(name)

    def give_up(self, name: str) -> None:
        self._asked.pop(name, None)
        self._line.pop(name, None)

    def under_way(self) -> int:
        return len(self._line) + len(self._asked) - len(self.slow())

    def slow(self) -> list[str]:
        before = time.monotonic() - SLOW_SECONDS
        return [name for name, (at, _) in self._asked.items() if at < before]

    def is_due(self) -> bool:
        return len(self._received) >= HEAD.size + self._length()

    def descriptors(self) -> tuple[int, ...]:
        return (self._socket.fileno(),) if self._socket else ()

    def answered(self, seconds: float = 0.0) -> str:
        while True:
            if seconds and not self.is_due():
                select.select(self.descriptors(), (), (), seconds)
            if not self.is_due() and not self._receive():
                self._ask()  # some may have become slow
                return ""
            end = HEAD.size + self._length()
            name, status, content, problem = pickle.loads(self._received[HEAD.size : end])
            del self._received[:end]
            now = time.monotonic()
            since, _ = self._asked.pop(name, (now, True))
            if name in self._again:
                self._again.discard(name)
                self._line[name] = True
                continue
            self._kept.pop(name, None)  # so that the first are the oldest
            fresh = min(max(LEAST_FRESH, 50 * (now - since)), MOST_FRESH)
            self._kept[name] = Answer(now + fresh, status, content, problem)
            while len(self._kept) > AT_ONCE:
                del self._kept[next(iter(self._kept))]
            self._ask()
            return str(name)

    def _length(self) -> int:
        return int(HEAD.unpack_from(self._received)[0]) if len(self._received) >= HEAD.size else 1

    def _receive(self) -> bool:
        """Whether there is a whole answer now."""
        while self._socket and not self.is_due():
            try:
                part = self._socket.recv(1 << 20, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except OSError:
                part = b""
            if not part:  # it was killed: another is asked for the same
                self._lost()
                return False
            self._received += part
        return self.is_due()

    def _lost(self) -> None:
        self.close()
        self._line |= dict.fromkeys(self._asked, True)
        self._asked.clear()
        self._ask()

    def _ask(self) -> None:
        """As many as may be."""
        if not self._line or not (self._socket or self._start()):
            return
        room = min(MOST, AT_ONCE + len(self.slow())) - len(self._asked)
        while self._line and self._socket and room > 0:
            name = next(iter(self._line))
            whole = self._line.pop(name)
            content = (WHOLE if whole else LIGHT) + os.fsencode(name)
            self._asked[name] = time.monotonic(), whole
            room -= 1
            with suppress(OSError):  # it has died: told by the end of what it says
                self._socket.sendall(HEAD.pack(len(content)) + content)

    def _start(self) -> bool:
        if (now := time.monotonic()) < self._start_at:
            return False
        self._start_at = now + AGAIN_SECONDS
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.fetching", self._folder],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:  # no processes: in a moment
            ours.close()
            return False
        finally:
            theirs.close()
        self._socket = ours
        self._children.add(self._process.pid)
        return True

    def close(self) -> None:
        if self._socket:
            self._socket.close()  # by this it ends
            self._socket = None
        self._received.clear()
        if self._process:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)
                self._children.discard(self._process.pid)
            self._process = None


def choose(folder: str, said: str, children: set[int]) -> Near:
    """Who reads this folder's files: as config.yaml says, and by its file system if that says `auto`."""
    return Apart(folder, children) if said == "always" or (said == "auto" and may_wait(folder)) else Near(folder)


def may_wait(folder: str) -> bool:
    """Whether this folder's file system is none that is known to be this machine's own."""
    return sys.platform == "linux" and file_system(folder) not in (0, *_LOCAL)
