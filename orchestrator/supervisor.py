"""Watch over the runs that live: time, output, signs of life, and their end.

One `turn` looks at all of them and never waits. Time here is lived time: it stops while the
machine sleeps, and a jump of the clock moves nothing (`Clock`).
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

from orchestrator import output, process, runs
from orchestrator.agents.base import Agent, last_line, tail_text
from orchestrator.config import AgentConfig
from orchestrator.launcher import Stopping
from orchestrator.process import Identity
from orchestrator.states import Outcome
from orchestrator.task import Task
from orchestrator.waiting import Attempt

LOOK_SECONDS = 1.0  # between two looks at a run's output
IDLE_SHARE = 0.02  # of one CPU: what a program takes that only waits
LEFTOVER_SECONDS = 2.0  # between TERM and KILL for what a run left behind


class Live:
    """One run that has been started and is not yet judged."""

    def __init__(
        self,
        task: Task,
        number: int,
        agent: str,
        slot: str,
        adapter: Agent,
        settings: AgentConfig,
        folder: str,
        started_at: float,
        started: float,
        timeout: float,
        stuck_after: float,
    ) -> None:
        self.task = task
        self.number = number
        self.agent = agent
        self.slot = slot
        self.adapter = adapter
        self.settings = settings
        self.folder = folder
        self.started_at = started_at  # epoch seconds UTC
        self.started = started  # lived seconds
        self.timeout = timeout
        self.stuck_after = stuck_after
        self.identity = Identity(0, 0, "")
        self.handle = -1  # a pidfd, for a run that is no child of ours
        self.child: subprocess.Popen[bytes] | None = None  # None: started by an earlier dispatcher
        self.not_started: tuple[Outcome, str] | None = None
        self.stopped: Outcome | None = None
        self.stopped_why = ""
        self.ours = False  # ended by a stop of the dispatcher, through no fault of the task
        self.answered = False
        self.ended = False
        self.attempt = Attempt()  # those before this one
        self.missed = False  # its task's file was not in assigned/ at the last scan
        self.last_life = started
        self.looked = started
        self._size = 0
        self._ticks = 0
        self._ticks_at = started
        self._answer_at = 0.0
        self._stopping: Stopping | None = None
        self._sweep_until = 0.0

    @property
    def id(self) -> str:
        return self.task.id

    def stop(self, outcome: Outcome | None, why: str, grace: float, now: float) -> None:
        """Begin to end it. The first reason stays."""
        if self._stopping is None and not self.ended:
            self.stopped, self.stopped_why = outcome, why
            self.answered = outcome is None
            self._stopping = Stopping(self.identity, self.folder, grace, now)

    def hurry(self, now: float) -> None:
        """No more grace."""
        if self._stopping is not None:
            self._stopping = Stopping(self.identity, self.folder, 0.0, now)

    @property
    def is_stopping(self) -> bool:
        return self._stopping is not None

    # -- one look ---------------------------------------------------------------------------

    def look(self, now: float, grace: float, linger: float, cap: int, orphans: set[int]) -> None:
        """Bring it up to date at `now` (lived seconds); sets `ended` when nothing of it is left."""
        if self._main_ended():
            self._sweep(now, orphans)
            return
        if self._stopping is not None:
            self._stopping.step(now)
            return
        if now - self.looked < LOOK_SECONDS:
            return
        self.looked = now
        self._look_at_output(now, linger, cap, grace)
        if self._stopping is None and os.path.exists(f"{self.folder}/cancelled"):
            self.stop(Outcome.CANCELLED, "cancelled by a person while it ran", grace, now)
        elif now - self.started > self.timeout:
            self.stop(Outcome.TIMEOUT, f"ran longer than {_span(self.timeout)}", grace, now)
        elif now - self.last_life > self.stuck_after and not self._used_cpu(now):
            self.stop(Outcome.STUCK, f"no output and no CPU for {_span(self.stuck_after)}", grace, now)
        elif now - self.last_life > self.stuck_after / 3 and now - self._ticks_at > min(10.0, self.stuck_after / 3):
            self._used_cpu(now)

    def _look_at_output(self, now: float, linger: float, cap: int, grace: float) -> None:
        size = 0
        for name in ("stdout.log", "stderr.log"):
            try:
                one = os.stat(f"{self.folder}/{name}").st_size
                size += one
                if one > cap:
                    output.cap(f"{self.folder}/{name}", cap)
            except OSError:
                continue
        if size != self._size:
            self._size, self._answer_at = size, 0.0
            self._lives(now)
        elif self._answer_at == 0.0 and size:
            said = last_line(tail_text(f"{self.folder}/stdout.log", 1 << 20), limit=0)
            self._answer_at = now if self.adapter.answered(said) else -1.0
        elif self._answer_at > 0.0 and now - self._answer_at > linger:
            self.stop(None, "had answered and did not end", min(grace, 5.0), now)

    def _lives(self, now: float) -> None:
        self.last_life = now
        try:
            os.utime(f"{self.folder}/alive")  # the heartbeat, for whoever looks at the folder
        except OSError:
            pass

    def _used_cpu(self, now: float) -> bool:
        elapsed, self._ticks_at = now - self._ticks_at, now
        ticks = process.cpu_ticks([(self.folder, self.identity.pid)])[self.folder] if process.HAS_PROC else 1 << 60
        # An idle program's timers and garbage collection use up to one percent; that is no sign of life.
        grown = ticks - self._ticks > max(2.0, IDLE_SHARE * process.TICKS * elapsed)
        self._ticks = ticks
        if grown:
            self._lives(now)
        return grown

    def _main_ended(self) -> bool:
        """Whether the program itself is over. What it left running is another matter."""
        if self.not_started is not None or self._sweep_until:
            return True
        if self.child is not None:
            if self.child.returncode is None:  # as polled before the orphans were listed
                return False
        elif process.is_same(self.identity):
            return False
        if runs.read_exit(self.folder) is not None:
            return True
        # Its wrapper was killed; the program may go on without it. The lock knows.
        return not runs.is_alive(self.folder)

    def _sweep(self, now: float, orphans: set[int]) -> None:
        """End what it left behind: TERM, a moment, KILL. Tools of an agent live in sessions of their own."""
        if self.not_started is not None:
            self.ended = True
            return
        if not self._sweep_until and self.child is not None and self._stopping is None:
            # The usual case, made cheap: with a subreaper every orphan is a child of ours.
            mine = [
                pid
                for pid in orphans
                if process.belongs(pid, self.folder) or process.holds(pid, f"{self.folder}/alive")
            ]
            if orphans is not NO_SUBREAPER and not mine and not runs.is_alive(self.folder):
                self.ended = True
                return
        left = process.members(self.folder)
        if not left:
            self.ended = True
            return
        first = not self._sweep_until
        self._sweep_until = self._sweep_until or now + LEFTOVER_SECONDS
        if first or now >= self._sweep_until:
            for pid in left:
                process.signal_member(pid, self.folder, signal.SIGTERM if now < self._sweep_until else signal.SIGKILL)

    def patience(self, now: float) -> float:
        """Seconds until it has to be looked at again."""
        if self.ended or self._stopping is not None or self._sweep_until:
            return 0.05
        return max(0.01, self.looked + LOOK_SECONDS - now)


NO_SUBREAPER: set[int] = set()  # stands for "orphans are not ours to see": look everywhere


class Supervisor:
    """All living runs of this dispatcher."""

    def __init__(self, subreaper: bool) -> None:
        self.lives: dict[str, Live] = {}  # by slot
        self._subreaper = subreaper
        self._not_ours = process.children_of_this_process() if subreaper else set()

    def __iter__(self) -> Iterator[Live]:
        return iter(list(self.lives.values()))

    def __len__(self) -> int:
        return len(self.lives)

    def by_task(self, task_id: str) -> Live | None:
        """The run of a task, if one lives."""
        return next((live for live in self if live.id == task_id), None)

    def turn(self, now: float, grace: float, linger: float, cap: int) -> list[Live]:
        """Look at all of them; those that have ended, for whoever judges them."""
        for live in self:
            if live.child is not None:
                live.child.poll()
        # Listed after that: what a run that has ended left behind is an orphan by now.
        orphans = NO_SUBREAPER
        if self._subreaper and self.lives:
            known = {live.identity.pid for live in self}
            orphans = process.children_of_this_process() - known
            for pid in orphans:
                reap(pid)
        for live in self:
            live.look(now, grace, linger, cap, orphans)
        ended = [live for live in self if live.ended]
        if self._subreaper and len(ended) == len(self.lives):
            # Nothing runs any more: whatever is still a child of ours shed all that could tell whose it was.
            for pid in orphans - {live.identity.pid for live in self} - self._not_ours:
                end_orphan(pid)
        for live in ended:
            if live.handle >= 0:
                os.close(live.handle)
                live.handle = -1
        return ended

    def descriptors(self) -> list[int]:
        """Readable as soon as a run ends that an earlier dispatcher started; of our own, SIGCHLD tells."""
        found = []
        for live in self:
            if live.child is None and live.handle < 0 and hasattr(os, "pidfd_open") and process.is_same(live.identity):
                try:
                    live.handle = os.pidfd_open(live.identity.pid)
                except OSError:
                    continue
            if live.handle >= 0 and process.is_same(live.identity):
                found.append(live.handle)
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


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:g} s"
