"""How well each agent does: one small file an agent, .orchestrator/agents/<name>.runs, a line for each run that ended.

    task_001/1   +   12.3   1732190000.1   research   web   .   (mark, well, seconds, when, what it was about, whole)

Any number of processes append. A mark counts once, so that what a crash repeats does no harm; a torn line is passed
over. Only the last WINDOW runs of the last AGE seconds count: what an agent was, fades. The file may be deleted; it is
made again of the results (`rebuild`). What somebody said that an agent can do is no result: <name>.learned, beside it.
"""

from __future__ import annotations

import fcntl
import functools
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from orchestrator import files, locks, plain

WINDOW = 50  # runs
AGE = 14 * 86_400.0  # seconds
COMPACT_BYTES = 16_384  # then only what counts is kept
NEWCOMER = 5  # runs: those of them that a newcomer has not made yet are taken as gone well
TOLD = 5.0  # runs that a confidence somebody stated weighs as much as
GAINED = 0.7  # confidence from which a capability counts that nobody stated, after NEWCOMER runs of it
GONE = 0.5  # confidence below which one that was stated is gone
_LINE = re.compile(rb"([^\t\n]+)\t([+-])\t(\d+\.\d+)\t(\d+\.\d+)\t(.*)\.")  # whole, and not neutral

Row = tuple[bytes, bytes, bytes, bytes, bytes]


class Run(NamedTuple):
    """What one run says of its agent."""

    mark: str  # task/run; what is counted once
    well: bool | None  # None: it says nothing of the agent (a rate limit, a cancel, a lost machine)
    seconds: float = 0.0
    at: float = 0.0  # epoch seconds UTC: when it ended
    kinds: tuple[str, ...] = ()  # what it was about: the task's type and requirements

    def line(self) -> bytes:
        """The run as it is appended. It begins a line of its own, whatever was torn before it."""
        sign = "0" if self.well is None else "+" if self.well else "-"
        words = [self.mark, sign, f"{self.seconds:.3f}", f"{self.at:.3f}", *self.kinds, "."]
        return ("\n" + "\t".join(" ".join(word.split()) for word in words) + "\n").encode("utf-8", "replace")


class Standing(NamedTuple):
    """How an agent stands now."""

    runs: int = 0  # that say something of it
    well: int = 0
    seconds: float = 0.0  # that one which went well took, on average
    learned: Mapping[str, float] = {}  # capability → confidence

    @property
    def success_rate(self) -> float:
        """The share of runs that went well; 1.0 if there are none."""
        return self.well / self.runs if self.runs else 1.0

    @property
    def expected(self) -> float:
        """The same for the router: the first NEWCOMER runs count as gone well until they are made."""
        return (self.well + max(0, NEWCOMER - self.runs)) / max(self.runs, NEWCOMER)


class Performance:
    """The records of one root's agents. Decides nothing."""

    def __init__(self, own: str) -> None:
        self.folder = f"{own}/agents"
        self._kept: dict[str, tuple[tuple[object, ...], Standing]] = {}

    def note(self, name: str, *ended: Run) -> None:
        """Runs have ended. What cannot be written is not missed: it can be made again of the results."""
        try:
            if self._append(f"{name}.runs", b"".join(run.line() for run in ended)) > COMPACT_BYTES:
                self._compact(f"{name}.runs", _shortened)
        except OSError:
            pass

    def learn(self, name: str, capability: str, confidence: float, at: float) -> None:
        """Somebody says that it can do this. Raises OSError."""
        line = f"\n{capability}\t{confidence:.4f}\t{at:.3f}\n".encode()
        if self._append(f"{name}.learned", line) > COMPACT_BYTES:
            self._compact(
                f"{name}.learned",
                lambda path: [f"\n{k}\t{c:.4f}\t{t:.3f}\n".encode() for k, (c, t) in _told(path).items()],
            )

    def of(self, name: str, now: float) -> Standing:
        """How it stands. Read again only if something was added, or a minute is over."""
        paths = (f"{self.folder}/{name}.runs", f"{self.folder}/{name}.learned")
        key = (*map(_stamp, paths), now // 60)
        kept = self._kept.get(name)
        if kept is None or kept[0] != key:
            try:
                kept = self._kept[name] = (key, _standing(_runs(paths[0], now - AGE), _told(paths[1])))
            except OSError:  # what was known before holds
                return kept[1] if kept else Standing()
        return kept[1]

    def is_empty(self) -> bool:
        """Whether no run of any agent is on record."""
        try:
            return not any(name.endswith(".runs") for name in os.listdir(self.folder))
        except FileNotFoundError:
            return True

    def rebuild(self, found: Iterable[tuple[str, Run]]) -> None:
        """Make the files again, of (agent, run) in any order."""
        for name, run in sorted(found, key=lambda row: row[1].at):
            self.note(name, run)

    def sweep(self, now: float) -> None:
        """Remove records in which nothing counts any more: their agents have been away for long."""
        for name in os.listdir(self.folder) if os.path.isdir(self.folder) else ():
            path = f"{self.folder}/{name}"
            if name.endswith(".runs") and now - os.stat(path).st_mtime > AGE:
                os.unlink(path)

    # -- files ------------------------------------------------------------------------------

    def _append(self, name: str, line: bytes) -> int:
        """One write at the end; the file's size then. Waits for no process that was stopped."""
        path = f"{self.folder}/{name}"
        for attempt in range(45):  # for a second in all
            try:
                fd = plain.opener(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            except FileNotFoundError:
                files.make_folders(os.path.dirname(self.folder), self.folder)  # and no root that was deleted
                continue
            try:
                if attempt == 44 or (locks.take(fd, 0, fcntl.LOCK_SH) and _is_at(fd, path)):
                    os.write(fd, line)
                    return os.fstat(fd).st_size
            finally:
                os.close(fd)
            time.sleep(0.001 * attempt)  # it is being compacted
        return 0

    def _compact(self, name: str, kept: Callable[[str], list[bytes]]) -> None:
        path = f"{self.folder}/{name}"
        fd = plain.opener(path, os.O_RDONLY)
        try:
            if locks.take(fd, 0) and _is_at(fd, path):  # else somebody is writing: next time
                files.replace(path, b"".join(kept(path)), sync=False)
        finally:
            os.close(fd)


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.fstat(fd).st_ino == os.stat(path).st_ino
    except FileNotFoundError:
        return False


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _content(path: str) -> bytes:
    try:
        with open(path, "rb", opener=plain.opener) as file:
            return file.read()
    except OSError as error:
        if not plain.is_lasting(error):
            raise  # or a record that could not be opened once would be made short to nothing
        return b""


def _shortened(path: str) -> list[bytes]:
    return [b"\n" + b"\t".join(row) + b".\n" for row in reversed(_runs(path, 0.0))]


@functools.lru_cache(maxsize=4096)  # the last ones are read again at each run that ends
def _row(line: bytes) -> Row | None:
    found = _LINE.fullmatch(line)
    return (found[1], found[2], found[3], found[4], found[5]) if found else None


def _runs(path: str, since: float) -> list[Row]:
    """The lines that count, in words: mark, sign, seconds, when, the rest. The last first."""
    found: dict[bytes, Row] = {}
    for line in reversed(_content(path).split(b"\n")):
        if (row := _row(line)) and row[0] not in found and float(row[3]) >= since:
            found[row[0]] = row
            if len(found) == WINDOW:
                break
    return list(found.values())


def _told(path: str) -> dict[str, tuple[float, float]]:
    """Capability → (confidence, when it was stated); the last word counts."""
    found: dict[str, tuple[float, float]] = {}
    if not plain.is_there(path):
        return found  # as for most: looking is a tenth of trying to open it
    for line in _content(path).split(b"\n"):
        try:
            capability, confidence, at = line.decode("utf-8", "replace").split("\t")
            found[capability] = (float(confidence), float(at))
        except ValueError:
            continue
    return found


def _standing(found: list[Row], told: Mapping[str, tuple[float, float]]) -> Standing:
    seconds = [float(words[2]) for words in found if words[1] == b"+"]
    about: dict[bytes, list[Row]] = {}
    for words in found:
        about.setdefault(words[4], []).append(words)
    kinds: dict[str, list[Row]] = {kind: [] for kind in told}
    for rest, rows in about.items():
        for kind in rest.decode("utf-8", "replace").split("\t")[:-1]:
            kinds[kind] = [*kinds.get(kind, ()), *rows]
    learned = {}
    for kind, rows in sorted(kinds.items()):
        confidence, at = told.get(kind, (0.5, 0.0))
        mine = [words[1] for words in rows if not at or float(words[3]) >= at]
        confidence = (TOLD * confidence + mine.count(b"+")) / (TOLD + len(mine))
        if confidence >= GONE if kind in told else (len(mine) >= NEWCOMER and confidence >= GAINED):
            learned[kind] = round(confidence, 4)
    return Standing(len(found), len(seconds), sum(seconds) / len(seconds) if seconds else 0.0, learned)
