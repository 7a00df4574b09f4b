"""All of pending/, kept in step with a `Waiting` index; what becomes of one file is in `arriving.py`.

Bad files delay no good one: what was read and is no task is put aside, which takes longest, when all the others have
been read. However many lie there, nobody waits for all of them to be read (`backlog.py`); nor for one that the disk does
not give out (`apart.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cached_property

from orchestrator import apart, needs
from orchestrator.apart import SLOW_SECONDS, NotYet
from orchestrator.arriving import Arrivals
from orchestrator.backlog import FIRST_SLICE, GLANCES, Place, Survey
from orchestrator.errors import InvalidTask
from orchestrator.names import counted
from orchestrator.reading import StillWritten
from orchestrator.states import State
from orchestrator.task import parse
from orchestrator.waiting import Entry, stamp_of

BAD_LIMIT = 3  # of those that are to be put aside, in one go: then what waits has its turn
AHEAD = 4  # tasks that are read again for a claim at the same time, where that takes long
EDITS_SECONDS = 60.0  # between two looks at each file that waits, where that is not cheap, or events tell of changes
UNMOVED_SECONDS = 10.0  # before a file that cannot be moved is claimed again
SILENT = "its disk does not answer; the others go on, and it is taken up when that does, if it is not moved away"
FEW = 20  # files that are read at once, in whatever order they came; of more the most urgent first


class Intake(Arrivals):
    """Keeps a `Waiting` index in step with pending/.

    `slice`: for how many seconds it goes on reading at one time; without an end, and with all tasks whole, for who
    looks now and then. What is not kept of a task is read again just before its claim."""

    _counted = False  # what lay there at the start, and told
    _edits_at = 0.0  # when each file that waits is looked at again (epoch seconds)
    is_told = False  # whether events tell of changes; of what has gone they do not

    @cached_property
    def survey(self) -> Survey:
        """The look at all of pending/ that is under way, or comes next."""
        return Survey(self._all, self._clock)

    def choose_reader(self, children: set[int]) -> None:
        """Who reads the files, as config.yaml says now; `children`: of this process that belong to no run."""
        chosen = apart.choose(f"{self.queue.tasks}/{State.PENDING}", self.config.queue.read_apart, children)
        if chosen.is_apart != self.reader.is_apart:
            self.reader.close()
            self.reader = chosen
            self._wanted.clear()  # the next scan finds them

    def look(self, names: Iterable[str] | None, now: float, seconds: float | None = None) -> None:
        """Bring the index up to date with these files; with all of pending/ if None, as far as it comes in one slice
        (or so many seconds)."""
        again = [name for name, at in self._unsettled.items() if at <= now]
        for name in (*again, *(names or ())):
            self.reader.forget(name)
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

    def go_on(self, now: float, seconds: float | None = None) -> bool:
        """Glance at what has come, look on, read on, for one slice; whether some that may be tasks are not read yet."""
        seconds, begun = self.slice if seconds is None else seconds, self._clock()
        while name := self.reader.answered():
            self._answered(name, now)
            if self._clock() - begun >= seconds:
                break
        while self._backlog.news and self._clock() - begun < max(seconds / 3, GLANCES):
            self._glance(self._backlog.news.popleft(), Place.NEWS, now)
        self.survey.go_on(now, begun + seconds * 2 / 3)
        bad = 0
        while found := self._backlog.pop(not self.survey.is_on and bad < BAD_LIMIT):
            bad += found.is_doubtful
            if found.is_doubtful and self.reader.is_apart:
                self._doubtful.add(found.name)
            self._read(found.name, now, again=found.is_doubtful)
            if self._clock() - begun >= seconds:
                break
        if seconds == FIRST_SLICE:  # at a start: the most urgent of those that come soon, not the first that comes
            while self.reader.under_way() and (rest := begun + seconds - self._clock()) > 0:
                if one := self.reader.answered(rest):
                    self._answered(one, now)
        left = self.survey.is_on or self._backlog.is_left or self.reader.under_way() > 0
        if self.survey.listed and not self._counted:
            self._counted = True  # what lies there at the start is no news to those who watch, one by one
            if count := len(self.waiting) + (len(self._backlog) + self.reader.under_way() if left else 0):
                self._tell("waiting", "", counted(count, "task"))
        self._looked = self._looked or (self.survey.listed and not left)
        self._slow_at = tuple(at for at in self._slow_at if at > now)
        for one in () if name else self.reader.slow():  # while answers lie here, nobody knows which are missing
            self._is_silent("warning", one, SILENT)
        if not self._aside.sync():
            return False
        return left

    def reconsider(self, now: float) -> None:
        """A person may have said `retry` for what waits for its next attempt; or the clock was set back."""
        self._edits_at = 0.0
        for entry in [one for one in self.waiting if one.attempt.not_before > now]:
            entry.attempt = self._attempts(entry.id, now)
            self.waiting.postpone(entry.id, 0.0, now)

    def next_look(self) -> float | None:
        """When the next file is due: one that was being written, or has not been read yet (epoch seconds)."""
        is_due = self.survey.is_on or len(self._backlog) or self._aside.is_due or self.reader.is_due()
        return 1.0 if is_due else min((*self._unsettled.values(), *self._slow_at), default=None)

    def current(self, entry: Entry, now: float) -> bytes | None:
        """Just before the claim: the file's content, if it is the one that was read, whole, and may start.

        If not it is looked at anew, and None.
        """
        try:
            if entry.stamp == stamp_of(self.reader.status(entry.name)):
                content = self.reader.content(entry.name)
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
        except NotYet:
            self.waiting.take(entry.id)
            self._wanted[entry.name] = entry, now + SLOW_SECONDS
            self._slow_at = (now + SLOW_SECONDS,)
            return None
        except (OSError, InvalidTask, StillWritten):
            pass
        self.waiting.take(entry.id)
        self._unsettled[entry.name] = now
        return None

    def cannot_claim(self, entry: Entry, why: str, now: float) -> None:
        """This file cannot be moved, and others can: they go first, and `status` names it."""
        self._is_silent("error", entry.name, f"cannot be claimed: {why}", entry.id)
        self.waiting.postpone(entry.id, now + UNMOVED_SECONDS, now)

    def asks_enough(self, now: float) -> bool:
        """Whether so many are read again for a claim that the next ones can wait for that."""
        return sum(slow_at > now for _, slow_at in self._wanted.values()) >= AHEAD

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
        there: set[str] = set()
        kept = 0
        for count, found in enumerate(self.queue.pending_files()):
            if self.waiting.named(found.name) is not None:
                kept += 1
            elif found.name not in self._backlog:
                unseen.append(found.name)
            if self.silent and found.name in self.silent:
                there.add(found.name)
            if count % 100 == 0:  # to hand over costs as much as a name
                yield
        self.survey.listed = True
        for name in self.silent.keys() - there:  # a person moved it away
            self._settled(name)
            self._wanted.pop(name, None)
            self.reader.give_up(name)
        unseen.sort(reverse=True)  # of names that are counted up, the oldest are glanced at first
        unseen.sort(key=len, reverse=True)
        while unseen:
            self._glance(unseen.pop(), Place.FOUND, now)
            yield
        is_known = self.is_told and kept >= len(known)
        if now < self._edits_at and (is_known or self.reader.is_apart):  # and looked at before its claim
            known = []
        else:
            self._edits_at = now + EDITS_SECONDS
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
