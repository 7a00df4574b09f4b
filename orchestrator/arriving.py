"""From a file in pending/ to a waiting entry, or to rejected/ with a reason.

A file that is still written is left alone until it is whole. An id that was used is not run
again because its file came back (`returned.py`).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence

from orchestrator import history, needs, plain
from orchestrator.apart import SLOW_SECONDS, Near, NotYet
from orchestrator.aside import Aside
from orchestrator.backlog import Backlog, Place
from orchestrator.config import Config
from orchestrator.errors import InvalidTask
from orchestrator.names import PRIORITIES, printable
from orchestrator.reading import StillWritten, glance
from orchestrator.registry import wants
from orchestrator.returned import came_back, waits_already
from orchestrator.spool import Spool
from orchestrator.states import Priority, State
from orchestrator.task import Task, parse
from orchestrator.waiting import Attempt, Entry, Waiting, stamp_of

SETTLE_SECONDS = 0.05  # before a file that is being written is looked at again
EMPTY_SECONDS = 2.0  # an editor creates an empty file first and fills it then
KEPT = 1000  # tasks that are kept whole; of more only what choosing needs

Tell = Callable[..., None]  # kind, task id, one line; more, if there is


class Arrivals:
    """What becomes of one file, by its name."""

    def __init__(
        self,
        queue: Spool,
        config: Config,
        agents: Sequence[str],
        tell: Tell,
        lives: Callable[[str], bool] = lambda task_id: False,
        slice: float = math.inf,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.queue = queue
        self.config = config
        self.agents = agents
        self.who: Callable[[], Sequence[str]] = lambda: self.agents  # after another look: config.yaml may be new
        self.waiting = Waiting(config.queue.promote_low_after_minutes * 60)
        self.slice = slice
        self._clock = clock
        self.reader = Near(f"{queue.tasks}/{State.PENDING}")
        self.silent: dict[str, str] = {}  # name → why it cannot be read now, as it was told
        self._tell = tell
        self._lives = lives  # whether a run of that task lives
        self._begun = 0.0  # when all of pending/ was looked at for the first time (epoch seconds)
        self._looked = False  # it was all read, once
        # Of what lies there at the start, by id and when it came: whether nobody has told of it yet.
        self.untold: Callable[[str, float], bool] = lambda task_id, came: False
        self._unsettled: dict[str, float] = {}  # name → when to look again (epoch seconds)
        self._backlog = Backlog()
        self._aside = Aside(queue, tell)
        # Those that are read for us (`apart.py`):
        self._wanted: dict[str, tuple[Entry, float]] = {}  # to be claimed then; when it counts as slow (epoch seconds)
        self._slow_at: tuple[float, ...] = ()  # when the one that was asked for last counts as slow (epoch seconds)
        self._doubtful: set[str] = set()  # to be put aside then

    def _changed(self, name: str, now: float) -> os.stat_result | None:
        """What it is now; None if it is gone, or waits as it is."""
        known = self.waiting.named(name)
        try:
            status = self.reader.status(name, known is None)
        except NotYet:
            self._unsettled.pop(name, None)
            self._slow_at = (now + SLOW_SECONDS,)
            return None
        except OSError as error:
            if known:
                self.waiting.take(known.id)
            self._settled(name)
            if not plain.is_lasting(error):
                self._unsettled[name] = now + 1.0  # the next scan may be a minute away
            return None
        return None if known and known.stamp == stamp_of(status) else status

    def _path(self, name: str) -> str:
        return f"{self.queue.tasks}/{State.PENDING}/{name}"

    def _glance(self, name: str, place: Place, now: float) -> None:
        """Put it into the line of those that are to be read."""
        self._backlog.drop(name)
        if self.reader.is_apart:  # to read it costs us no more
            self._read(name, now)
        elif status := self._changed(name, now):
            if (said := glance(self._path(name), status)) is None:
                self._backlog.push(name, Place.DOUBTFUL)
                return
            stated = PRIORITIES.get(said, int(said) if said in ("0", "1", "2") else self.config.queue.default_priority)
            rank = self.waiting.effective(Priority(stated), status.st_mtime, now)
            self._backlog.push(name, place, rank, status.st_mtime)

    def _answered(self, name: str, now: float) -> None:
        """It was read for us."""
        if name in self._wanted:
            entry, _ = self._wanted.pop(name)
            if entry.id not in self.waiting.by_id:
                self.waiting.put(entry, entry.unmet, now)
        is_doubtful = name in self._doubtful
        self._doubtful.discard(name)
        self._read(name, now, is_doubtful)
        if name not in self._unsettled:
            self._settled(name)

    def _settled(self, name: str) -> None:
        self._unsettled.pop(name, None)
        self.silent.pop(name, None)

    def _is_silent(self, kind: str, name: str, text: str, task_id: str = "") -> None:
        if self.silent.get(name) != text:
            self.silent[name] = text
            self._tell(kind, task_id, f"tasks/pending/{printable(name)}: {text}")

    def _read(self, name: str, now: float, again: bool = False) -> None:
        """Take it up, if it is not known as it is now; put aside what is no task only when it is read `again`."""
        self._backlog.drop(name)
        if (status := self._changed(name, now)) is None:
            return
        if known := self.waiting.named(name):
            self.waiting.take(known.id)  # edited while it waits
        task_id = ""
        try:
            content = self.reader.content(name)
            if not content.strip() and now - status.st_mtime < EMPTY_SECONDS:
                self._unsettled[name] = now + SETTLE_SECONDS
                return
            task = parse(content, name.rpartition(".")[0])
            task_id = task.id
            if self._lives(task.id) and not plain.is_there(self.queue.path(State.ASSIGNED, task.id)):
                # Moved back by hand while it runs: that run is ended first, and never are there two.
                self._unsettled[name] = now + 0.5
                return
            if told := came_back(self.queue, task.id, name, content):
                self._aside.returned(task.id, told)
                return
            if other := waits_already(self.queue, self.waiting, task.id, name):
                if other != name:
                    self._aside.returned(
                        task.id, f"a copy of tasks/pending/{printable(other)} was dropped; it waits once"
                    )
                return
            is_stranger = task.preferred_agent and wants(self.agents, task.preferred_agent)
            needs.check(self.queue, task, self.who() if again and is_stranger else self.agents)
            if not self.reader.is_still(name, status):
                self._unsettled[name] = now + SETTLE_SECONDS
                return
            attempt = self._attempts(task.id, now)
        except StillWritten:  # less and less often: its end rings, too
            self._unsettled[name] = now + min(max(SETTLE_SECONDS, (now - status.st_mtime) / 4), 1.0)
            return
        except NotYet:
            return
        except FileNotFoundError:
            self._settled(name)
            return
        except OSError as error:  # no descriptors, no memory, a bad disk: not the file's fault
            self._unsettled[name] = now + 1.0
            self._is_silent("error", name, f"not read yet: {error.strerror}", task_id)
            return
        except InvalidTask as reason:
            self._settled(name)
            if again:
                self._reject(name, task_id, str(reason))
            else:
                self._backlog.push(name, Place.DOUBTFUL)
            return
        self._settled(name)
        self._admit(task, name, status, attempt, now)

    def _admit(self, task: Task, name: str, status: os.stat_result, attempt: Attempt, now: float) -> None:
        priority = self.config.queue.default_priority if task.priority is None else task.priority
        entry = Entry(task, name, min(status.st_mtime, now), stamp_of(status), priority, attempt)
        unmet = [one for one in task.dependencies if not needs.is_completed(self.queue, one)]
        self.waiting.put(entry, unmet, now)
        if cycle := self.waiting.cycle(task):
            self.waiting.take(task.id)
            shown = cycle if len(cycle) <= 10 else [*cycle[:5], "…", *cycle[-4:]]
            self._reject(name, task.id, f"closes a cycle of dependencies: {' → '.join(shown)}; remove one of them")
            return
        if self.slice < math.inf and len(self.waiting) > KEPT:
            entry.forget()
        if not attempt.made and (self._looked or status.st_ctime >= self._begun):
            self._tell("submitted", task.id, task.title)
        elif not attempt.made and self.untold(task.id, status.st_ctime):
            self._tell("submitted", task.id, task.title, at=status.st_ctime, found=True)

    def _attempts(self, task_id: str, now: float) -> Attempt:
        found = history.attempts(self.queue, task_id)
        # An attempt from the future was made before the clock was put right: nobody knows how long it has been.
        return found._replace(not_before=0.0) if found.last_at > now + 1.0 else found

    def _reject(self, name: str, task_id: str, reason: str) -> None:
        self._settled(name)
        if entry := self.waiting.named(name):
            self.waiting.take(entry.id)
        self._aside.reject(name, task_id, reason)
