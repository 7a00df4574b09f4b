"""The journal, read: all days, also what was rolled over, packed or put into a folder below; and as it grows."""

from __future__ import annotations

import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from orchestrator import plain

LINE_BYTES = 1 << 22  # of an event; what is longer is none
DAY = 86400.0
LAST = 1e11  # epoch seconds: what says to have happened later is no event
ROW_BYTES = 400  # of the beginning of a line, with an id
_SUBMITTED = re.compile(rb'"kind": "submitted", "task_id": "([^"]*)"')  # as `events.Journal` writes it
_NAME = re.compile(r"(\d{4}-\d\d-\d\d)\.jsonl(?:\.(\d+))?(\.gz)?")


class Reading:
    """The events of one root since a moment (epoch seconds), as they were written.

    `must`: what a line has to hold to be looked at. What is no event is passed over; that a task came is told once.
    """

    def __init__(self, own: str, since: float = 0.0, must: Sequence[str] = ()) -> None:
        self._folder = f"{own}/events"
        self._since = since
        self._from = since  # of the days that are still looked at
        self._must = [one.encode("utf-8", "replace") for one in must]
        self._came: set[str] = set()  # tasks
        self._places: dict[tuple[int, int], int] = {}  # file, whatever its name → what was read of it
        self._again = False

    def rows(self, follow: bool = False) -> Iterator[dict[str, Any]]:
        """Those that have come since the last call; at the first, all. With `follow`, a last line that has no end yet
        is left for the next call."""
        for path, packed in self._files():
            try:
                with open(path, "rb", opener=plain.opener) as file:
                    if packed and not self._again:
                        yield from self._told(_lines(_unpacked(file), False))
                    elif not packed:
                        yield from self._told(self._grown(file, follow))
            except (OSError, EOFError, zlib.error):  # gone, a FIFO, cut off
                continue
        self._again, self._from = True, max(self._since, time.time() - DAY)

    def submitted(self) -> set[bytes]:
        """The ids of all that came in those days, as we write them: a hundred thousand in the time that it takes to parse
        a thousand lines. What was written in another way is missing."""
        found: set[bytes] = set()
        for path, packed in self._files():
            try:
                with open(path, "rb", opener=plain.opener) as file:
                    stream = _unpacked(file) if packed else file
                    part = b""
                    while new := stream.read(1 << 20):
                        part = part[-ROW_BYTES:] + new
                        found.update(_SUBMITTED.findall(part))
            except (OSError, EOFError, zlib.error):
                continue
        return found

    def _files(self) -> list[tuple[str, bool]]:
        """(path, whether it is packed), the oldest first: `.jsonl.2` is older than `.jsonl.1`, and that than `.jsonl`."""
        first, found = time.strftime("%Y-%m-%d", time.gmtime(max(0.0, self._from))), []
        for folder, _, names in os.walk(self._folder):
            for name in names:
                if (match := _NAME.fullmatch(name)) and match[1] >= first:
                    found.append((match[1], -int(match[2] or 0), f"{folder}/{name}", bool(match[3])))
        return [row[2:] for row in sorted(found)]

    def _grown(self, file: IO[bytes], follow: bool) -> Iterator[bytes]:
        """The lines that nobody has read yet."""
        status = os.fstat(file.fileno())
        key = (status.st_dev, status.st_ino)
        place = self._places.get(key, 0)
        place = self._places[key] = place if place <= status.st_size else 0  # emptied
        file.seek(place)
        for line in _lines(file, follow):
            place += len(line)
            self._places[key] = place
            yield line

    def _told(self, lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
        for line in lines:
            if not all(one in line for one in self._must):
                continue
            try:
                row = json.loads(line)
                if not isinstance(row["kind"], str) or not self._since <= row["at"] < LAST:
                    continue
            except (ValueError, TypeError, KeyError, RecursionError):  # torn, or foreign
                continue
            if row["kind"] == "submitted":
                task_id = str(row.get("task_id"))
                if task_id in self._came:  # by whoever added it, and by a dispatcher that came in that moment
                    continue
                self._came.add(task_id)
            yield row


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    import gzip  # only days that somebody packed need it

    return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]


def _lines(file: IO[bytes], whole: bool) -> Iterator[bytes]:
    while line := file.readline(LINE_BYTES):
        if whole and not line.endswith(b"\n") and len(line) < LINE_BYTES:
            return
        yield line


def untold(own: str, since: float) -> Callable[[str, float], bool]:
    """Of a task that lies there when a dispatcher comes: whether nobody has told that it came (its id, and when it came,
    in epoch seconds). `since`: when the last dispatcher lived; of what came before that the journal is not asked."""
    told: list[set[bytes]] = []

    def is_untold(task_id: str, came: float) -> bool:
        if came >= since and not told:
            told.append(Reading(own, since - 60.0).submitted())
        return came >= since and task_id.encode() not in told[0]

    return is_untold
