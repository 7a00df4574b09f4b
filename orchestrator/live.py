"""One run that lives: its time, its output, its signs of life, what it takes, and its end.

Time here is lived time: it stops while the machine sleeps, and a jump of the clock moves nothing
(`Clock`).
"""

from __future__ import annotations

import os
import signal

from orchestrator import groups, output, plain, process, runs
from orchestrator.agents.base import Agent, last_line, tail_text
from orchestrator.config import AgentConfig
from orchestrator.launcher import AT_ONCE, Stopping
from orchestrator.process import Child, Identity, Tree
from orchestrator.states import Outcome
from orchestrator.task import Task
from orchestrator.waiting import Attempt, Stamp

LOOK_SECONDS = 1.0  # between two looks at a run's output
CHECK_SECONDS = 10.0  # between two measures of all runs, if no agent has limits of its own
HURRY_SECONDS = 0.1  # the same, while it prints more than is kept
UP_SECONDS = 20.0  # after which a program that lives is known to start
IDLE_SHARE = 0.05  # of one CPU: what a program takes that only waits (codex wakes whenever another program starts)
LEFTOVER_SECONDS = 2.0  # between TERM and KILL for what a run left behind
LINKED = "a link was put in the place of its folder in tasks/runs/, so that nothing it left can be believed"
NO_SUBREAPER: set[int] = set()  # stands for "orphans are not ours to see": look everywhere


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
        self.child: Child | None = None  # None: started by an earlier dispatcher
        self.not_started: tuple[Outcome, str] | None = None
        self.stopped: Outcome | None = None
        self.stopped_why = ""
        self.ours = False  # ended by a stop of the dispatcher, through no fault of the task
        self.answered = False
        self.ended = False
        self.attempt = Attempt()  # those before this one
        self.judged = False  # we have reached a verdict; it may have come to the disk
        self._code: int | None = None  # its exit status, once it is written
        self.let_go = False  # its slot may have another run, though it is still to be recorded how this one ended
        self.missed = False  # its task's file was not in assigned/ at the last look
        self.edited = False  # its task's file is another than it was given
        self.stamp: Stamp | None = None  # of that file, as we last knew it
        self.last_life = started
        self.looked = started
        self._size = 0
        self._ticks = 0
        self._measured = started
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

    def is_up(self, now: float) -> bool:
        """Whether its program is well under way: it has said something, or has not died for a while."""
        return self.not_started is None and (self._size > 0 or now - self.started > UP_SECONDS)

    # -- one look ---------------------------------------------------------------------------

    def look(self, now: float, grace: float, linger: float, cap: int, orphans: set[int]) -> None:
        """Bring it up to date at `now` (lived seconds); sets `ended` when nothing of it is left."""
        if self._main_ended():
            if self.settings.max_memory_mb and self.stopped is None and groups.was_ended(self.folder):
                self.stopped = Outcome.OUT_OF_RESOURCES
                self.stopped_why = f"took more memory than it may; {self._most_memory}"
            self._sweep(now, orphans)
            return
        if self._stopping is not None:
            self._stopping.step(now)
            return
        if now - self.looked < LOOK_SECONDS:
            return
        self.looked = now
        if not os.path.islink(self.folder):  # what lies where that leads is not ours to cut
            self._look_at_output(now, linger, cap, grace)
        if self._stopping is None and plain.is_there(f"{self.folder}/cancelled"):
            self.stop(Outcome.CANCELLED, "cancelled by a person while it ran", grace, now)
        elif now - self.started > self.timeout:
            self.stop(Outcome.TIMEOUT, f"ran longer than {_span(self.timeout)}", grace, now)
        elif now - self.last_life > self.stuck_after and self._measured == now:
            self.stop(Outcome.STUCK, f"no output and no CPU for {_span(self.stuck_after)}", grace, now)

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
        if size > cap and size - self._size > cap / 20:
            self.looked = now - LOOK_SECONDS + HURRY_SECONDS  # it prints faster than the disk could bear for long
        if size != self._size:
            self._size, self._answer_at = size, 0.0
            self._lives(now)
        elif self._answer_at == 0.0 and size:
            try:
                said = last_line(tail_text(f"{self.folder}/stdout.log", 1 << 20), limit=0)
            except OSError:
                return  # the next look
            self._answer_at = now if self.adapter.answered(said) else -1.0
        elif self._answer_at > 0.0 and now - self._answer_at > linger:
            self.stop(None, "had answered and did not end", min(grace, 5.0), now)

    def _lives(self, now: float) -> None:
        self.last_life = now
        try:
            os.utime(f"{self.folder}/alive")  # the heartbeat, for whoever looks at the folder
        except OSError:
            pass

    def is_due(self, now: float) -> bool:
        """Whether it has to be measured before it is looked at."""
        if self._stopping is not None or self._sweep_until or now - self.looked < LOOK_SECONDS:
            return False
        limited = self.settings.max_memory_mb or self.settings.max_processes
        every = LOOK_SECONDS if limited else min(CHECK_SECONDS, self.stuck_after / 3)
        return now - self._measured >= every or now - self.last_life > self.stuck_after

    def measure(self, tree: Tree, now: float) -> None:
        """Take note of what its processes take: CPU is a sign of life, and too much of the rest ends it at once."""
        elapsed, self._measured = now - self._measured, now
        # An idle program's timers and watches use some percent; that is no sign of life.
        if tree.cpu - self._ticks > max(2.0, IDLE_SHARE * process.TICKS * elapsed):
            self._lives(now)
        self._ticks = tree.cpu
        settings, count = self.settings, len(tree.pids) - 1  # without the wrapper
        if settings.max_processes and count > settings.max_processes:
            why = f"had {count} processes at once; max_processes of {self.agent} is {settings.max_processes}"
            self.stop(Outcome.OUT_OF_RESOURCES, why, AT_ONCE, now)
        most = (settings.max_memory_mb or 0.0) * 1e6
        if most and tree.resident > most and (taken := process.proportional(tree.pids)) > most:
            why = f"took {taken / 1e6:.0f} MB of memory; {self._most_memory}"
            self.stop(Outcome.OUT_OF_RESOURCES, why, AT_ONCE, now)

    @property
    def _most_memory(self) -> str:
        return f"max_memory_mb of {self.agent} is {self.settings.max_memory_mb:g}"

    def _main_ended(self) -> bool:
        """Whether the program itself is over. What it left running is another matter."""
        if self.not_started is not None or self._sweep_until:
            return True
        if self.child is not None:
            if self.child.returncode is None:  # as polled before the orphans were listed
                return False
        elif process.is_same(self.identity):
            return False
        if self.exit_code() is not None:
            return True
        # Its wrapper was killed; the program may go on without it. The lock knows.
        return not runs.is_alive(self.folder)

    def exit_code(self) -> int | None:
        """How its program ended: as its wrapper wrote it down, or, if there was no room for that, ended itself.
        Raises OSError if it cannot be read."""
        code = self._code = runs.read_exit(self.folder) if self._code is None else self._code
        if code is None and self.child is not None and plain.is_there(f"{self.folder}/stdout.log"):
            code = self.child.returncode
        return code if code is None or code >= 0 else None  # else a signal ended the wrapper

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
        first = not self._sweep_until
        self._sweep_until = self._sweep_until or now + LEFTOVER_SECONDS
        left = process.members(self.folder)
        # A look through /proc may miss one that was just made by another that is gone already; the lock does not.
        if not left and (now >= self._sweep_until or not runs.is_alive(self.folder)):
            self.ended = True
            return
        if first or now >= self._sweep_until:
            for pid in left:
                process.signal_member(pid, self.folder, signal.SIGTERM if now < self._sweep_until else signal.SIGKILL)

    def patience(self, now: float) -> float:
        """Seconds until it has to be looked at again."""
        if self.ended or self._stopping is not None or self._sweep_until:
            return 0.05
        return max(0.01, self.looked + LOOK_SECONDS - now)


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:g} s"
