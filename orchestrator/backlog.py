"""Files in pending/ that nobody has read yet, the most urgent first as far as a glance at each tells.

A glance (its status, and its first bytes searched for a priority) costs a tenth of reading and parsing a file. So of
a million that lie there at a start, the urgent and the oldest are known long before all have been read; and what
comes meanwhile goes before them.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple

SLICE = 0.002  # seconds: of reading what lies in pending/, in one turn
SLICE_BESIDE = 0.000_05  # the same while something runs, whose end nobody shall wait to see
GLANCES = 0.003  # of glancing at what has just come, in any turn: an urgent one may be among it
FIRST_SLICE = 0.3  # the same at a start: as much as is there in most cases, so that the most urgent starts first


class Place(IntEnum):
    """Who is read first; within one, by priority and then by age."""

    NEWS = 0  # it came, or was changed, while we were here
    FOUND = 1  # it lay there
    DOUBTFUL = 2  # it is hardly a task: to put it aside takes longest, and delays no good one


class Found(NamedTuple):
    """The one that is read next."""

    name: str
    is_doubtful: bool


class Backlog:
    """Names, each once. Touches no file."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, float, str]] = []  # place, rank, time of its last change, name
        self._places: dict[str, int] = {}  # name → its last place
        self.news: deque[str] = deque()  # at which nobody has glanced yet
        self.unseen: list[str] = []  # nor at these, which lay there; the last one is the next

    def __len__(self) -> int:
        return len(self._places) + len(self.news) + len(self.unseen)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def hear(self, names: Iterable[str]) -> None:
        """Something happened to these files."""
        self.news.extend(names)

    def push(self, name: str, place: Place, rank: int = 0, changed: float = 0.0) -> None:
        """It is to be read; where it lay in the line before, it does no more."""
        self._places[name] = place
        heapq.heappush(self._heap, (place, rank, changed, name))

    def drop(self, name: str) -> None:
        """It need not be read any more."""
        self._places.pop(name, None)

    def _first(self) -> int:
        """The place of the first one; -1 if there is none."""
        while self._heap and self._places.get(self._heap[0][-1]) != self._heap[0][0]:
            heapq.heappop(self._heap)  # it was dropped, or has another place now
        return self._heap[0][0] if self._heap else -1

    @property
    def is_left(self) -> bool:
        """Whether there is one that may be a task."""
        return bool(self.news or self.unseen) or self._first() not in (-1, Place.DOUBTFUL)

    def pop(self, doubtful: bool) -> Found | None:
        """Take out the first one; None if there is none, or only `doubtful` ones that are not asked for."""
        if (place := self._first()) == -1 or (place == Place.DOUBTFUL and not doubtful):
            return None
        name = heapq.heappop(self._heap)[-1]
        del self._places[name]
        return Found(name, place == Place.DOUBTFUL)


class Survey:
    """A look at all of pending/, in slices; then the next one, if it is wanted."""

    def __init__(self, steps: Callable[[float], Iterator[None]], clock: Callable[[], float]) -> None:
        self._begin = steps  # at `now`: one file at each
        self._clock = clock
        self._steps: Iterator[None] | None = None
        self.wanted = False
        self.listed = False  # all names have been read, once
        self.took = 0.0  # seconds: what the last one has cost so far

    @property
    def is_on(self) -> bool:
        """Whether some of it is still to be done."""
        return self.wanted or self._steps is not None

    def go_on(self, now: float, until: float) -> None:
        """One step at least, and more until then, as the clock has it."""
        begun = self._clock()
        while self.is_on:
            if self._steps is None:
                self._steps, self.wanted, self.took = self._begin(now), False, 0.0
            for _ in self._steps:
                if self._clock() >= until:
                    self.took += self._clock() - begun
                    return
            self._steps = None
            self.took += self._clock() - begun
