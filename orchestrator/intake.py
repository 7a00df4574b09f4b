"""From a file in pending/ to a waiting entry, or to rejected/ with a reason.

A file that is still written is left alone until it is whole. An id that was used is not run
again because its file came back (`returned.py`). Bad files delay no good one: what was read and
is no task is put aside, which takes longest, when all the others have been read. And however many
lie there, nobody waits for all of them to be read (`backlog.py`).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from orchestrator import history, needs, plain
from orchestrator.backlog import Backlog, Place, Survey
from orchestrator.config import Config
from orchestrator.errors import InvalidTask, Refused
from orchestrator.names import PRIORITIES, counted, printable
from orchestrator.reading import StillWritten, glance, read_bytes
from orchestrator.returned import came_back, waits_already
from orchestrator.spool import Spool
from orchestrator.states import Priority, State
from orchestrator.task import Task, parse
from orchestrator.waiting import Attempt, Entry, Waiting, stamp_of

SETTLE_SECONDS = 0.05  # before a file that is being written is looked at again
EMPTY_SECONDS = 2.0  # an editor creates an empty file first and fills it then
BAD_LIMIT = 3  # of those that are to be put aside, in one go: then what waits has its turn
KEPT = 1000  # tasks that are kept whole; of more only what choosing needs
FEW = 20  # files that are read at once, in whatever order they came; of more the most urgent first

Tell = Callable[..., None]  # kind, task id, one line; more, if there is


class Intake:
    """Keeps a `Waiting` index in step with pending/.

    `slice`: for how many seconds it goes on reading at one time; without an end, and with all tasks whole, for who
    looks now and then. What is not kept of a task is read again just before its claim."""

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
        self.waiting = Waiting(config.queue.promote_low_after_minutes * 60)
        self.slice = slice
        self._clock = clock
        self._tell = tell
        self._lives = lives  # whether a run of that task lives
        self._begun = 0.0  # when all of pending/ was looked at for the first time (epoch seconds)
        self._counted = False  # and told
        self._looked = False  # it was all read, once
        # Of what lies there at the start, by id and when it came: whether nobody has told of it yet.
        self.untold: Callable[[str, float], bool] = lambda task_id, came: False
        self._unsettled: dict[str, float] = {}  # name → when to look again (epoch seconds)
        self._backlog = Backlog()
        self.survey = Survey(self._all, clock)
        self._put_aside: list[tuple[str, str, str]] = []  # to be told once it is durable

    def look(self, names: Iterable[str] | None, now: float, seconds: float | None = None) -> None:
        """Bring the index up to date with these files; with all of pending/ if None, as far as it comes in one slice
        (or so many seconds)."""
        again = [name for name, at in self._unsettled.items() if at <= now]
        if names is None:
            self.survey.wanted = True
            self._begun = self._begun or now
        elif len(candidates := {*names, *again}) <= FEW:
            came = {name: status.st_mtime for name in candidates if (status := self._changed(name, now))}
            for name in sorted(came, key=came.__getitem__):
                self._read(name, now)
        else:
            self._backlog.hear(candidates)
        self.go_on(now, seconds)

    def _changed(self, name: str, now: float) -> os.stat_result | None:
        """What it is now; None if it is gone, or waits as it is."""
        known = self.waiting.named(name)
        try:
            status = os.lstat(self._path(name))
        except OSError as error:
            if known:
                self.waiting.take(known.id)
            self._unsettled.pop(name, None)
            if not plain.is_lasting(error):
                self._unsettled[name] = now + 1.0  # the next scan may be a minute away
            return None
        return None if known and known.stamp == stamp_of(status) else status

    def go_on(self, now: float, seconds: float | None = None) -> bool:
        """Glance at what has come, look on, read on, for one slice; whether some that may be tasks are not read yet."""
        seconds, begun = self.slice if seconds is None else seconds, self._clock()
        while self._backlog.news and self._clock() - begun < seconds / 3:
            self._glance(self._backlog.news.popleft(), Place.NEWS, now)
        self.survey.go_on(now, begun + seconds * 2 / 3)
        bad = 0
        while found := self._backlog.pop(not self.survey.is_on and bad < BAD_LIMIT):
            bad += found.is_doubtful
            self._read(found.name, now, again=found.is_doubtful)
            if self._clock() - begun >= seconds:
                break
        left = self.survey.is_on or self._backlog.is_left
        if self.survey.listed and not self._counted:
            self._counted = True  # what lies there at the start is no news to those who watch, one by one
            if count := len(self.waiting) + (len(self._backlog) if left else 0):
                self._tell("waiting", "", counted(count, "task"))
        self._looked = self._looked or (self.survey.listed and not left)
        if self._put_aside:
            try:
                self.queue.sync()
            except OSError:
                return False  # a full disk: told with the next look
            told, self._put_aside = self._put_aside, []
            for kind, task_id, text in told:
                self._tell(kind, task_id, text)
        return left

    def reconsider(self, now: float) -> None:
        """A person may have said `retry` for what waits for its next attempt; or the clock was set back."""
        for entry in [one for one in self.waiting if one.attempt.not_before > now]:
            entry.attempt = self._attempts(entry.id, now)
            self.waiting.postpone(entry.id, 0.0, now)

    def next_look(self) -> float | None:
        """When the next file is due: one that was being written, or has not been read yet (epoch seconds)."""
        is_due = self.survey.is_on or len(self._backlog) or self._put_aside
        return 1.0 if is_due else min(self._unsettled.values(), default=None)

    def current(self, entry: Entry, now: float) -> bytes | None:
        """Just before the claim: the file's content, if it is the one that was read, whole, and may start.

        If not it is looked at anew, and None.
        """
        try:
            status = os.lstat(self._path(entry.name))
            if entry.stamp == stamp_of(status):
                content = read_bytes(self._path(entry.name), settled=True)
                if not entry.is_whole:
                    entry.task = parse(content, entry.name.rpartition(".")[0])
                if problem := needs.missing_files(self.queue.root, entry.task):
                    self._reject(entry.name, entry.id, problem)
                    return None
                self.catch_up(entry, now)
                if entry.attempt.not_before <= now:
                    return content
                self.waiting.postpone(entry.id, 0.0, now)
                return None
        except (OSError, InvalidTask, StillWritten):
            pass
        self.waiting.take(entry.id)
        self._unsettled[entry.name] = now
        return None

    def catch_up(self, entry: Entry, now: float) -> None:
        """Count its runs anew if another process has run it since, and it came back as the same file."""
        if os.path.exists(self.queue.run_folder(entry.id, entry.attempt.made + 1)):
            entry.attempt = self._attempts(entry.id, now)

    # -- all of pending/ --------------------------------------------------------------------

    def _all(self, now: float) -> Iterator[None]:
        """All of pending/, one file at each step: what is new there, was changed, has gone, or waits for nothing any more.
        The folders are the truth, whatever the events said."""
        known = list(self.waiting)
        unseen = self._backlog.unseen = []  # a look that the disk did not let end left some
        for count, found in enumerate(self.queue.pending_files()):
            if found.name not in self._backlog and self.waiting.named(found.name) is None:
                unseen.append(found.name)
            if count % 100 == 0:  # to hand over costs as much as a name
                yield
        self.survey.listed = True
        unseen.sort(reverse=True)  # of names that are counted up, the oldest are glanced at first
        unseen.sort(key=len, reverse=True)
        while unseen:
            self._glance(unseen.pop(), Place.FOUND, now)
            yield
        for entry in known:
            if self.waiting.by_id.get(entry.id) is entry and self._changed(entry.name, now):
                self._glance(entry.name, Place.NEWS, now)
            yield
        for name in list(self._unsettled):
            self._changed(name, now)
            yield
        for one in self.waiting.unmet():
            if needs.is_completed(self.queue, one):
                self.waiting.completed(one, now)
            yield

    def _path(self, name: str) -> str:
        return f"{self.queue.tasks}/{State.PENDING}/{name}"

    def _glance(self, name: str, place: Place, now: float) -> None:
        """Put it into the line of those that are to be read."""
        self._backlog.drop(name)
        if status := self._changed(name, now):
            if (said := glance(self._path(name), status)) is None:
                self._backlog.push(name, Place.DOUBTFUL)
                return
            stated = PRIORITIES.get(said, int(said) if said in ("0", "1", "2") else self.config.queue.default_priority)
            rank = self.waiting.effective(Priority(stated), status.st_mtime, now)
            self._backlog.push(name, place, rank, status.st_mtime)

    def _read(self, name: str, now: float, again: bool = False) -> None:
        """Take it up, if it is not known as it is now; put aside what is no task only when it is read `again`."""
        self._backlog.drop(name)
        if (status := self._changed(name, now)) is None:
            return
        path = self._path(name)
        if known := self.waiting.named(name):
            self.waiting.take(known.id)  # edited while it waits
        task_id = ""
        try:
            content = read_bytes(path, settled=True)
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
                self._put_aside.append(("returned", task.id, told))
                return
            if other := waits_already(self.queue, self.waiting, task.id, name):
                if other != name:
                    copy = f"a copy of tasks/pending/{printable(other)} was dropped; it waits once"
                    self._put_aside.append(("returned", task.id, copy))
                return
            needs.check(self.queue, task, self.agents)
            after = os.lstat(path)
            if stamp_of(after) != stamp_of(status):
                self._unsettled[name] = now + SETTLE_SECONDS
                return
            attempt = self._attempts(task.id, now)
        except StillWritten:  # less and less often: its end rings, too
            self._unsettled[name] = now + min(max(SETTLE_SECONDS, (now - status.st_mtime) / 4), 1.0)
            return
        except FileNotFoundError:
            self._unsettled.pop(name, None)
            return
        except OSError as error:  # no descriptors, no memory, a bad disk: not the file's fault
            self._unsettled[name] = now + 1.0
            self._tell("error", task_id, f"tasks/pending/{printable(name)}: not read yet: {error.strerror}")
            return
        except InvalidTask as reason:
            self._unsettled.pop(name, None)
            if again:
                self._reject(name, task_id, str(reason))
            else:
                self._backlog.push(name, Place.DOUBTFUL)
            return
        self._unsettled.pop(name, None)
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
        self._unsettled.pop(name, None)
        if entry := self.waiting.named(name):
            self.waiting.take(entry.id)
        try:
            target = self.queue.reject(self._path(name), State.PENDING, reason)
        except (OSError, Refused) as error:
            if not isinstance(error, FileNotFoundError):
                self._tell("error", task_id, f"tasks/pending/{printable(name)}: cannot be put aside: {error}")
            return
        kept = printable(os.path.relpath(target, self.queue.root), 400)
        self._put_aside.append(("rejected", task_id, f"tasks/pending/{printable(name)}: {reason} (kept as {kept})"))
