"""What waits, in memory: an index of pending/ that is thrown away and built again at will.

Entries that could start now lie in heaps by arrival, one for each kind of route (which agent,
which capabilities) and priority, so that picking the next one looks at a few heads however
many wait. Nothing here touches a file or a clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from orchestrator.names import natural
from orchestrator.states import Priority
from orchestrator.task import Task

Stamp = tuple[int, int, int]  # inode, mtime in ns, size
Route = tuple[str, tuple[str, ...], bool]  # preferred agent, requirements, has a script of its own


def route_of(task: Task) -> Route:
    """What decides who can do a task."""
    return (task.preferred_agent or "", task.requirements, task.run is not None)


class Attempt(NamedTuple):
    """What is known of the attempts made so far."""

    made: int = 0  # all of them: the next run's number is one more
    counted: int = 0  # those that count against max_retries since a person gave it back
    not_before: float = 0.0  # epoch seconds UTC
    last_slot: str = ""
    spent: tuple[str, ...] = ()  # agents that have failed at it as often as one may: others first
    last_reason: str = ""
    last_status: str = ""
    last_at: float = 0.0  # epoch seconds UTC: when the last one ended
    limited: int = 0  # the last attempts in a row that hit a limit, a login, a lack of room
    note: str = ""  # what a person said with `retry --note`


class Entry:
    """One waiting task."""

    __slots__ = ("arrival", "attempt", "name", "priority", "queued", "route", "stamp", "task", "unmet")

    def __init__(
        self, task: Task, name: str, arrival: float, stamp: Stamp, priority: Priority, attempt: Attempt
    ) -> None:
        self.task = task
        self.name = name  # of its file in pending/
        self.arrival = arrival  # epoch seconds: when its file was last written
        self.stamp = stamp
        self.priority = priority
        self.attempt = attempt
        self.unmet: set[str] = set()  # dependencies that are not completed
        self.queued = False  # lies in a heap
        self.route = route_of(task)


class Waiting:
    """The index. `promote_after` is in seconds; LOW counts as NORMAL once it has waited so long."""

    def __init__(self, promote_after: float) -> None:
        self.promote_after = promote_after
        self.by_id: dict[str, Entry] = {}
        self.by_name: dict[str, Entry] = {}
        self._folded: dict[str, str] = {}
        self._dependents: dict[str, set[str]] = {}
        self._ready: dict[Route, dict[Priority, list[tuple[float, tuple[object, ...], str]]]] = {}
        self._later: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self.by_id)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.by_id.values())

    def same_but_case(self, task_id: str) -> str:
        """The waiting id that differs from this one in upper and lower case only; or ""."""
        other = self._folded.get(task_id.casefold(), task_id)
        return other if other != task_id else ""

    def put(self, entry: Entry, unmet: Iterable[str], now: float) -> None:
        """Take an entry up; `unmet` are those of its dependencies that are not completed."""
        self.by_id[entry.task.id] = self.by_name[entry.name] = entry
        self._folded[entry.task.id.casefold()] = entry.task.id
        entry.unmet = set(unmet)
        for one in entry.unmet:
            self._dependents.setdefault(one, set()).add(entry.task.id)
        self._queue(entry, now)

    def _queue(self, entry: Entry, now: float) -> None:
        if entry.unmet or entry.queued:
            return
        if entry.attempt.not_before > now:
            heapq.heappush(self._later, (entry.attempt.not_before, entry.task.id))
            return
        heaps = self._ready.setdefault(entry.route, {})
        heapq.heappush(heaps.setdefault(entry.priority, []), (entry.arrival, natural(entry.task.id), entry.task.id))
        entry.queued = True

    def take(self, task_id: str) -> Entry | None:
        """Remove an entry: it was claimed, moved or deleted."""
        entry = self.by_id.pop(task_id, None)
        if entry is not None:
            self.by_name.pop(entry.name, None)
            self._folded.pop(task_id.casefold(), None)
            for one in entry.unmet:
                self._dependents[one].discard(task_id)
                if not self._dependents[one]:
                    del self._dependents[one]  # nothing is kept of what waits no more
            entry.queued = False
        return entry

    def postpone(self, task_id: str, until: float, now: float) -> None:
        """Not before then (epoch seconds): others first."""
        if entry := self.take(task_id):
            entry.attempt = entry.attempt._replace(not_before=max(until, entry.attempt.not_before))
            self.put(entry, entry.unmet, now)

    def completed(self, task_id: str, now: float) -> None:
        """A task has completed: those that waited for it alone may start."""
        for dependent in self._dependents.pop(task_id, set()):
            entry = self.by_id.get(dependent)
            if entry is not None:
                entry.unmet.discard(task_id)
                self._queue(entry, now)

    def is_awaited(self, task_id: str) -> bool:
        """Whether something waits for this task."""
        return task_id in self._dependents

    def unmet(self) -> set[str]:
        """Every id that something waits for."""
        return set(self._dependents)

    def wake(self, now: float) -> float | None:
        """Queue those whose back-off has ended; when the next one ends (epoch seconds)."""
        while self._later and self._later[0][0] <= now:
            _, task_id = heapq.heappop(self._later)
            entry = self.by_id.get(task_id)
            if entry is not None and entry.attempt.not_before <= now:
                self._queue(entry, now)
        return self._later[0][0] if self._later else None

    def heads(self, now: float) -> list[tuple[int, Entry]]:
        """The first task of each route that could start now, with its rank (lower is more urgent), the first first."""
        found = []
        for route, heaps in self._ready.items():
            first: tuple[int, tuple[float, tuple[object, ...], str]] | None = None
            for priority, heap in heaps.items():
                while heap and not self._is_current(heap[0], route, priority):
                    heapq.heappop(heap)
                if heap:
                    key = (self.effective(priority, heap[0][0], now), heap[0])
                    first = key if first is None else min(first, key)
            if first is not None:
                found.append(first)
        return [(rank, self.by_id[item[2]]) for rank, item in sorted(found)]

    def best(self, now: float, may_start: Callable[[Entry], bool]) -> Entry | None:
        """The task to start next among the routes that could start one: by priority, then by arrival. Whether one may
        start is the same for all of a route, or the more urgent may."""
        return next((entry for _, entry in self.heads(now) if may_start(entry)), None)

    def effective(self, priority: Priority, arrival: float, now: float) -> int:
        """LOW that has waited long enough counts as NORMAL."""
        promoted = priority is Priority.LOW and now - arrival >= self.promote_after
        return int(Priority.NORMAL if promoted else priority)

    def _is_current(self, item: tuple[float, tuple[object, ...], str], route: Route, priority: Priority) -> bool:
        entry = self.by_id.get(item[2])
        return (
            entry is not None
            and entry.queued
            and entry.arrival == item[0]
            and entry.route == route
            and entry.priority is priority
        )

    def in_order(self, now: float) -> list[Entry]:
        """All of them, as they would be served if nothing held them."""
        return sorted(self, key=lambda e: (self.effective(e.priority, e.arrival, now), e.arrival, natural(e.task.id)))

    def cycle(self, task: Task) -> list[str]:
        """The path of a dependency cycle that `task` would close: [a, b, a]; [] if there is none."""
        if not self.is_awaited(task.id):
            return []  # else each of a long chain would walk all of it
        path: list[str] = [task.id]
        seen: set[str] = set()
        stack = [iter(task.dependencies)]
        while stack:
            for one in stack[-1]:
                if one == task.id:
                    return [*path, task.id]
                entry = self.by_id.get(one)
                if entry is not None and one not in seen:
                    seen.add(one)
                    path.append(one)
                    stack.append(iter(entry.task.dependencies))
                    break
            else:
                stack.pop()
                path.pop()
        return []
