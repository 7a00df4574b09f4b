"""What waits, in memory: an index of pending/ that is thrown away and built again at will.

Entries lie in lines by arrival: those that could start now in one for each kind of route (which agent,
which capabilities) and priority, so that picking the next one looks at a few heads however many wait; those
that are held in others. Of each only what choosing needs is kept. Nothing here touches a file or a clock.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from orchestrator.names import natural
from orchestrator.states import Priority
from orchestrator.task import Task

Stamp = int  # inode, mtime in ns and size, in one number
Route = tuple[str, tuple[str, ...], bool]  # preferred agent, requirements, has a script of its own


def stamp_of(status: os.stat_result) -> Stamp:
    """By which a file is known again; exact, and a third of the memory of three numbers."""
    return status.st_ino << 128 | status.st_mtime_ns << 48 | status.st_size


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


FRESH = Attempt()


class Entry:
    """One waiting task. A million of them are kept at once: see `forget`."""

    __slots__ = (
        "_name", "_task", "arrival", "attempt", "dependencies", "id", "line", "priority", "route", "stamp", "title",
        "unmet",
    )  # fmt: skip

    def __init__(
        self, task: Task, name: str, arrival: float, stamp: Stamp, priority: Priority, attempt: Attempt
    ) -> None:
        self.id = task.id
        self.title = task.title
        self.dependencies = task.dependencies
        self.arrival = arrival  # epoch seconds: when its file was last written
        self.stamp = stamp
        self.priority = priority
        self.attempt = FRESH if attempt == FRESH else attempt
        self.unmet: tuple[str, ...] = ()  # dependencies that are not completed
        self.line: Line | None = None  # in which it lies
        self.route = route_of(task)
        self._name = "" if name == f"{task.id}.yaml" else name
        self._task: Task | None = task

    @property
    def name(self) -> str:
        """Of its file in pending/."""
        return self._name or f"{self.id}.yaml"

    @property
    def task(self) -> Task:
        """All that its file states."""
        assert self._task is not None, f"{self.id}: was not kept; `Intake.current` reads it again"
        return self._task

    @task.setter
    def task(self, task: Task) -> None:
        self._task = task

    @property
    def is_whole(self) -> bool:
        """Whether all that its file states is known."""
        return self._task is not None

    def forget(self) -> None:
        """Keep only what choosing needs; the file is read again at the claim, where its bytes are needed anyway."""
        self._task = None

    def __lt__(self, other: Entry) -> bool:
        if self.arrival != other.arrival:
            return self.arrival < other.arrival
        return (natural(self.id), self.id) < (natural(other.id), other.id)


class Line:
    """Entries by arrival. Who has left is passed over, and cleared away now and then."""

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._most = 64  # from which it is cleared

    def push(self, entry: Entry) -> None:
        """It lies in this line from now on, and in no other."""
        if len(self._heap) >= self._most:
            self._heap = list(dict.fromkeys(one for one in self._heap if one.line is self))
            heapq.heapify(self._heap)
            self._most = 64 + 2 * len(self._heap)
        entry.line = self
        heapq.heappush(self._heap, entry)

    def head(self) -> Entry | None:
        """The first one."""
        while self._heap and self._heap[0].line is not self:
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else None

    def __iter__(self) -> Iterator[Entry]:
        """In order; whoever needs the first few pays for those."""
        last, edge = None, [(self._heap[0], 0)] if self._heap else []
        while edge:
            entry, place = heapq.heappop(edge)
            if entry.line is self and entry is not last:
                yield entry
                last = entry
            for below in (2 * place + 1, 2 * place + 2):
                if below < len(self._heap):
                    heapq.heappush(edge, (self._heap[below], below))


class Kind:
    """All that take one route."""

    def __init__(self, route: Route) -> None:
        preferred, requirements, has_script = route
        # Who can do this one can do all of them.
        self.task = Task(
            id="", description="", preferred_agent=preferred or None, requirements=requirements,
            run="true" if has_script else None,
        )  # fmt: skip
        self.count = 0
        self.lines: dict[Priority, Line] = {}  # of those that could start


class Waiting:
    """The index. `promote_after` is in seconds; LOW counts as NORMAL once it has waited so long."""

    def __init__(self, promote_after: float) -> None:
        self.promote_after = promote_after
        self.by_id: dict[str, Entry] = {}
        self.kinds: dict[Route, Kind] = {}
        self._named: dict[str, Entry] = {}  # those whose file has another name than their id
        self._folded: dict[str, str] = {}  # ids in lower case → those that have upper case letters
        self._dependents: dict[str, set[str]] = {}
        self._held: dict[Priority, Line] = {}  # those that could not start
        self._later: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self.by_id)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.by_id.values())

    def named(self, name: str) -> Entry | None:
        """The entry whose file has this name."""
        entry = self.by_id.get(name.removesuffix(".yaml"))
        return entry if entry is not None and entry.name == name else self._named.get(name)

    def same_but_case(self, task_id: str) -> str:
        """The waiting id that differs from this one in upper and lower case only; or ""."""
        folded = task_id.casefold()
        other = folded if folded != task_id and folded in self.by_id else self._folded.get(folded, task_id)
        return other if other != task_id else ""

    def put(self, entry: Entry, unmet: Iterable[str], now: float) -> None:
        """Take an entry up; `unmet` are those of its dependencies that are not completed."""
        self.by_id[entry.id] = entry
        if entry.name != f"{entry.id}.yaml":
            self._named[entry.name] = entry
        if (folded := entry.id.casefold()) != entry.id:
            self._folded[folded] = entry.id
        if entry.route not in self.kinds:
            self.kinds[entry.route] = Kind(entry.route)
        self.kinds[entry.route].count += 1
        found = tuple(unmet)
        entry.unmet = entry.dependencies if found == entry.dependencies else found  # one is kept, not two
        for one in entry.unmet:
            self._dependents.setdefault(one, set()).add(entry.id)
        self._queue(entry, now)

    def _queue(self, entry: Entry, now: float) -> None:
        if later := entry.attempt.not_before > now:
            heapq.heappush(self._later, (entry.attempt.not_before, entry.id))
        lines = self._held if later or entry.unmet else self.kinds[entry.route].lines
        line = lines.setdefault(entry.priority, Line())
        if entry.line is not line:
            line.push(entry)

    def take(self, task_id: str) -> Entry | None:
        """Remove an entry: it was claimed, moved or deleted."""
        entry = self.by_id.pop(task_id, None)
        if entry is not None:
            self._named.pop(entry.name, None)
            if self._folded.get(folded := task_id.casefold()) == task_id:
                del self._folded[folded]
            for one in entry.unmet:
                self._dependents[one].discard(task_id)
                if not self._dependents[one]:
                    del self._dependents[one]  # nothing is kept of what waits no more
            self.kinds[entry.route].count -= 1
            if not self.kinds[entry.route].count:
                del self.kinds[entry.route]
            entry.line = None
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
                entry.unmet = tuple(one for one in entry.unmet if one != task_id)
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
        for kind in self.kinds.values():
            heads = [head for line in kind.lines.values() if (head := line.head())]
            found += sorted((self.effective(one.priority, one.arrival, now), one) for one in heads)[:1]
        return sorted(found)

    def best(self, now: float, may_start: Callable[[Entry], bool]) -> Entry | None:
        """The task to start next among the routes that could start one: by priority, then by arrival. Whether one may
        start is the same for all of a route, or the more urgent may."""
        return next((entry for _, entry in self.heads(now) if may_start(entry)), None)

    def effective(self, priority: Priority, arrival: float, now: float) -> int:
        """LOW that has waited long enough counts as NORMAL."""
        promoted = priority is Priority.LOW and now - arrival >= self.promote_after
        return int(Priority.NORMAL if promoted else priority)

    def in_order(self, now: float) -> Iterator[Entry]:
        """All of them, as they would be served if nothing held them; whoever needs the first few pays for those."""
        lines = [*self._held.values(), *(line for kind in self.kinds.values() for line in kind.lines.values())]
        return heapq.merge(*lines, key=lambda one: (self.effective(one.priority, one.arrival, now), one))

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
                    stack.append(iter(entry.dependencies))
                    break
            else:
                stack.pop()
                path.pop()
        return []
