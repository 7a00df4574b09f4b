"""Watch over the runs that live. One `turn` looks at all of them and never waits."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterable, Iterator
from enum import Enum

from orchestrator import groups, process
from orchestrator.live import NO_SUBREAPER, Live
from orchestrator.process import Measure


class Mode(Enum):
    """What the loop is about."""

    RUN = "run"
    DRAIN = "drain"  # start nothing; go when the runs have ended
    NOW = "now"  # end the runs; go when they have ended
    LEAVE = "leave"  # go at once; the runs go on


class Supervisor:
    """All living runs of this dispatcher."""

    def __init__(self, subreaper: bool) -> None:
        self.lives: dict[str, Live] = {}  # by slot
        self.not_ours = process.children_of_this_process() if subreaper else set()  # children that belong to no run
        self._subreaper = subreaper
        self._measure = Measure()
        self._adopted: dict[int, set[str]] = {}  # orphan → the folders of the runs that lived when it became our child

    def __iter__(self) -> Iterator[Live]:
        return iter(list(self.lives.values()))

    def __len__(self) -> int:
        return len(self.lives)

    def by_task(self, task_id: str) -> Live | None:
        """The run of a task, if one lives."""
        return next((live for live in self if live.id == task_id), None)

    def add(self, live: Live) -> None:
        """Watch over it, whoever has its slot besides."""
        self.lives[live.slot if live.slot not in self.lives else f"{live.slot}_{live.id}"] = live

    def add_all(self, lives: Iterable[Live]) -> None:
        """The same for what an earlier dispatcher, or an earlier turn, left."""
        for live in lives:
            self.add(live)

    def remove(self, ended: Collection[object]) -> None:
        """They are done with."""
        self.lives = {slot: live for slot, live in self.lives.items() if live not in ended}

    def turn(self, now: float, grace: float, linger: float, cap: int) -> list[Live]:
        """Look at all of them; those that have ended, for whoever judges them."""
        for live in self:
            if live.child is not None:
                live.child.poll()
        # Listed after that: what a run that has ended left behind is an orphan by now.
        orphans = self._orphans() if self._subreaper else NO_SUBREAPER
        if process.HAS_PROC and any(live.is_due(now) for live in self):
            trees = self._measure.trees({live.identity.pid: live.folder for live in self if live.identity.pid})
            for live in self:
                if live.folder in trees:
                    live.measure(trees[live.folder], now)
        for live in self:
            try:
                live.look(now, grace, linger, cap, orphans)
            except OSError:  # no descriptors, a bad disk: it cannot be told how it is, so it lives
                continue
        ended = [live for live in self if live.ended]
        self._end_adopted()
        for live in ended:
            if live.handle >= 0:
                os.close(live.handle)
                live.handle = -1
            if live.settings.max_memory_mb:
                groups.remove(live.folder)
        return ended

    def _orphans(self) -> set[int]:
        """Children that are no run's first process; those that have died are taken their exit status."""
        orphans = process.children_of_this_process() - {live.identity.pid for live in self}
        for pid in orphans - self.not_ours:
            reap(pid)
        living = {live.folder for live in self}
        self._adopted = {pid: self._adopted.get(pid, living) for pid in orphans - self.not_ours}
        return orphans

    def _end_adopted(self) -> None:
        """An orphan may have shed all that told whose it was; it came from a run that lived when it became ours."""
        living = {live.folder for live in self if not live.ended}
        for pid, folders in self._adopted.items():
            if not folders & living:
                end_orphan(pid)

    def descriptors(self) -> list[int]:
        """Readable as soon as a run ends that an earlier dispatcher started; of our own, SIGCHLD tells."""
        found = []
        for live in self:
            try:
                if (
                    live.child is None
                    and live.handle < 0
                    and hasattr(os, "pidfd_open")
                    and process.is_same(live.identity)
                ):
                    live.handle = os.pidfd_open(live.identity.pid)
                if live.handle >= 0 and process.is_same(live.identity):
                    found.append(live.handle)
            except OSError:  # it has just died, or there are no descriptors: the next look tells
                continue
        return found

    def look_now(self) -> None:
        """Somebody rang: do not wait for the next look."""
        for live in self:
            live.looked = float("-inf")

    def patience(self, now: float) -> float:
        """Seconds until the next look is due."""
        return min((live.patience(now) for live in self), default=3600.0)


def end_orphan(pid: int) -> None:
    """Kill a child and take its exit status."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def reap(pid: int) -> None:
    """Take an orphan's exit status, if it has died, so that it is no zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
