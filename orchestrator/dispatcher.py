"""The one loop, and the one thread that moves tasks.

A turn: take notes → look at pending/ → look at the runs → finish what has ended → start what may
start → write the checklist. `turn` can be called by a test; `run` calls it until a stop is asked.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from orchestrator import journal, plain
from orchestrator.backlog import FIRST_SLICE, SLICE, SLICE_BESIDE
from orchestrator.checklist import Checklist
from orchestrator.clock import Clock
from orchestrator.config import Config
from orchestrator.context import Context
from orchestrator.errors import InvalidConfig, said
from orchestrator.events import Event, Listener
from orchestrator.finish import Finisher, Judged
from orchestrator.hands import Hands
from orchestrator.health import Health
from orchestrator.intake import Intake
from orchestrator.launcher import Launch
from orchestrator.live import Live
from orchestrator.names import counted
from orchestrator.pull import Pull
from orchestrator.recovery import Recovery
from orchestrator.registry import AgentRegistry
from orchestrator.spool import Spool
from orchestrator.starter import Claim, Starter
from orchestrator.states import Outcome, State
from orchestrator.supervisor import Mode, Supervisor
from orchestrator.verdicts import Verdicts
from orchestrator.watch import Watch
from orchestrator.watcher import Bell, Notes, Watcher

SCAN_SECONDS = 5.0  # between two looks at all of pending/, whatever the events say
SCAN_BURST = 60.0  # seconds: who nudges us now and then is looked for at once; who does all the time gets 5 % of ours


class Dispatcher:
    """Claims, starts, supervises, judges and finishes tasks of one root."""

    def __init__(
        self,
        queue: Spool,
        config: Config,
        load_config: Callable[[], Config],
        registry: AgentRegistry,
        context: Context,
        launch: Launch,
        listeners: Sequence[Listener],
        bell: Bell,
        environment: Mapping[str, str],
        subreaper: bool = False,
        clock: Clock | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        self.queue = queue
        self.config = config
        self.registry = registry
        self.context = context
        self.mode = Mode.RUN
        self.supervisor = Supervisor(subreaper)
        self.clock = clock or Clock()
        self._load_config = load_config
        self._sizes = dict(sizes or {})
        self.announce: Callable[[Dispatcher], None] = lambda dispatcher: None
        self.keep: Callable[[], None] = lambda: None  # what says that we hold this root
        self._listeners = listeners
        self._bell = bell
        self._finish_again_at = 0.0
        self._scan_at = 0.0
        self._scan_soon = 0.0  # not before, if we are nudged all the time
        self._wall = 0.0
        self._problem = ""  # that the last unfinished turn had
        self.watcher = Watcher(f"{queue.tasks}/{State.PENDING}", bell, lambda text: self.tell("error", "", text))
        self.intake = Intake(
            queue, config, registry.names(), self.tell, lambda one: self.supervisor.by_task(one) is not None, SLICE
        )
        self.health = Health(f"{queue.own}/heartbeat", queue.tasks, self.tell)
        rooms = (queue, registry, context, launch, self.intake, self.supervisor, self.clock)
        self.starter = Starter(*rooms, environment, self.tell, self.health.failed)
        self.verdicts = Verdicts(registry, self.intake, self.tell)
        self.finisher = Finisher(queue, context, registry.worked_at)
        self.watch = Watch(Pull(queue, registry.roster, self.tell))
        self.recovery = Recovery(queue, registry, lambda *run: self.starter.live(self.config, *run), self.tell)
        self.hands = Hands(queue, context, self.supervisor, self.tell)
        self.checklist = Checklist(queue, context, registry, self.tell)

    def tell(self, kind: str, task_id: str, text: str, at: float = 0.0, **facts: object) -> None:
        """A fact, to everyone who listens; of now, if it does not say."""
        event = Event(at or self.clock.wall(), kind, task_id, text, dict(facts))
        for listener in self._listeners:
            listener.hear(event)

    # -- the loop ---------------------------------------------------------------------------

    def recover(self) -> None:
        """Put right what a crash left. Before the first turn."""
        self.queue.make_folders()
        self.context.make()
        self.health.open()
        self.intake.choose_reader(self.supervisor.not_ours)
        self.intake.untold = journal.untold(self.queue.own, self.health.before)
        self.watcher.keep()
        self.finisher.remember(self.clock.wall())
        self.supervisor.add_all(self.recovery.run(self.clock.wall()))

    def run(self, notes: Notes) -> None:
        """Until a stop is asked and done."""
        while True:
            for number in notes.read():
                self.note(number)
            try:
                wait = self.turn()
            except OSError as error:  # a full disk, no descriptors: what runs goes on, and we try again
                self._unfinished(error)
                self._scan_at, wait = 0.0, 1.0
                self._flush()
            if self.mode is Mode.LEAVE or (self.mode is not Mode.RUN and not self.supervisor.lives):
                break
            ready = (*self.watcher.descriptors(), *self.intake.reader.descriptors(), *self.supervisor.descriptors())
            self.clock.wait(partial(self._bell.wait, also=ready), wait)
        self.close()

    def _scan(self, wall: float, lived: float) -> None:
        """Look at everything, whatever the events said. Raises OSError."""
        self.hands.look(self.config.limits.grace_seconds, lived)
        self.supervisor.add_all(self.recovery.take_up(wall, {live.id for live in self.supervisor}))
        self.intake.is_told = self.watcher.keep()
        self.watch.look(lived)
        self.registry.look()
        self.intake.agents = self.registry.names()
        took = self.clock.lived() - lived + self.intake.survey.took  # of the look at pending/ before this
        self.intake.look(None, wall, FIRST_SLICE if self._scan_at == 0.0 else 0.0)
        self._scan_at = lived + max(SCAN_SECONDS, min(500 * took, 60.0), 20 * took)
        self._scan_soon = max(self._scan_soon, lived - SCAN_BURST) + 20 * took

    def _unfinished(self, error: OSError) -> None:
        if said(error) != self._problem:  # not again each second
            self.tell("error", "", f"this turn was not finished: {said(error)}")
        self._problem = said(error)
        if plain.is_gone(self.queue.root) and self.mode is Mode.RUN:
            self.mode = Mode.DRAIN
            self.tell("stopping", "", f"{self.queue.root} is gone; goes when nothing runs any more")

    def close(self) -> None:
        """The last things, once."""
        self.watcher.stop()
        self.intake.reader.close()
        self.checklist.write(self.intake.waiting, self.supervisor, self.clock.wall())
        left = f"leaves {counted(self.supervisor, 'run')}" if self.supervisor.lives else "nothing runs"
        self.tell("stopped", "", left)
        self._flush()

    def _flush(self) -> None:
        for listener in self._listeners:
            listener.flush()

    def note(self, number: int) -> None:
        """What a signal asks for: TERM leaves the runs, INT waits for them (twice: ends them), QUIT ends them."""
        before = self.mode
        if number == signal.SIGHUP:
            self.reload()
        elif number == signal.SIGTERM:
            self.mode = Mode.LEAVE
        elif number == signal.SIGQUIT or (number == signal.SIGINT and self.mode is Mode.DRAIN):
            self.end_runs()
        elif number == signal.SIGINT:
            self.mode = Mode.DRAIN
            self.tell("stopping", "", f"starts nothing more; waits for {counted(self.supervisor, 'run')}")
        elif number == signal.SIGUSR1:
            self.intake.reconsider(self.clock.wall())
        if self.mode is not before:
            self.announce(self)
        self._scan_at = min(self._scan_at, self._scan_soon)
        self.supervisor.look_now()

    def end_runs(self) -> None:
        """Interrupt every run; they are tried again at the next start. A second call ends the grace."""
        now = self.clock.lived()
        again = self.mode is Mode.NOW
        self.mode = Mode.NOW
        for live in self.supervisor:
            if live.is_stopping and again:
                live.hurry(now)
            else:
                live.ours = not live.is_stopping
                why = "ended with the dispatcher; starts again with it"
                live.stop(Outcome.KILLED, why, self.config.limits.grace_seconds, now)
        self.tell("stopping", "", f"ends {counted(self.supervisor, 'run')}")

    def reload(self) -> None:
        """Take up a changed config.yaml; a broken one is refused and the old one stays."""
        try:
            config = self._load_config()
            self.registry.configure(config, self._sizes)
        except (InvalidConfig, OSError) as error:
            self.tell("error", "", f"the old settings stay: {error}")
            return
        self.config = self.intake.config = config
        self.intake.choose_reader(self.supervisor.not_ours)
        self.intake.waiting.promote_after = config.queue.promote_low_after_minutes * 60
        self.announce(self)
        self.tell("reloaded", "", f"config.yaml taken up; agents: {self.registry.line()}")

    def turn(self) -> float:
        """One pass; seconds until the next is due if nothing rings before."""
        wall, lived, limits = self.clock.wall(), self.clock.lived(), self.config.limits
        names = self.watcher.take()  # first: a turn that fails must not be woken by the same news again and again
        room = self._has_room(wall, lived)
        if wall < self._wall - 1.0:  # the clock was set back: no back-off lasts longer by that
            self.intake.reconsider(wall)
        self._wall = wall
        try:
            self.keep()
            if lived >= self._scan_at:
                self._scan(wall, lived)
        except OSError as error:  # a folder that cannot be read, or not be made: what runs is watched all the same
            self._unfinished(error)
            self._scan_at = lived + 1.0
        self.intake.look(names, wall, 0.0)
        most = (limits.grace_seconds, limits.linger_seconds, int(limits.max_output_mb * 1e6))
        ended = self.supervisor.turn(lived, *most)
        room = room and self.mode is Mode.RUN
        if ended and lived >= self._finish_again_at:
            judged = self._judge(ended, wall, lived) if room else None
            self._finish(ended, wall, lived, judged)
        self.verdicts.look(self.supervisor, lived)
        claimed = self.starter.claim(wall) if room else []
        if self.finisher.unsettled or claimed:
            self._sync_and_start(claimed, wall, lived)
        beside = SLICE_BESIDE if self.supervisor.lives else SLICE
        self.intake.go_on(wall, beside if self.intake.survey.listed else FIRST_SLICE)
        self.health.unread(self.intake.silent, wall)
        self.checklist.write_if_due(self.intake.waiting, self.supervisor, wall, lived)
        self._flush()
        return self._patience(wall, lived)

    def _has_room(self, wall: float, lived: float) -> bool:
        self.health.beat(lived)
        waits, down = len(self.intake.waiting) > 0, self.registry.down(wall)
        unread = not self._wall or self.intake.reader.under_way()  # nobody knows what waits
        busy = bool(self.supervisor.lives or unread)
        return self.health.has_room(self.config.limits, down, waits, busy, wall, lived)

    def _patience(self, wall: float, lived: float) -> float:
        due = [part.patience(lived) for part in (self.supervisor, self.checklist, self.health)]
        moments = (self.intake.next_look(), self.intake.waiting.wake(wall), self.registry.next_resume(wall))
        return max(0.0, min(self._scan_at - lived, *due, *(at - wall for at in moments if at)))

    def _sync_and_start(self, claimed: list[Claim], wall: float, lived: float) -> None:
        """One sync for what has ended and what is claimed; then the one is settled, and the other started."""
        try:
            wait = self.queue.begin_sync()
            prepared = self.starter.prepare(self.config, claimed, wall)
            wait()
        except OSError as error:  # what has ended is settled with the next sync
            self.starter.give_back([(one.entry.id, one.slot) for one in claimed], error, wall)
            prepared = []
        else:
            self.finisher.settle()
        if prepared and self.starter.launch(prepared, wall):
            self.health.started()
        self.checklist.changed()

    # -- finish -----------------------------------------------------------------------------

    def _judge(self, ended: list[Live], wall: float, lived: float) -> Judged | None:
        """Others start in the places of those that have completed before that is recorded: no slot waits for the disk."""
        try:
            judged = self.finisher.judge(ended, self.config, wall)
        except OSError:
            return None  # `_finish` meets it again, and tells
        try:
            if self.verdicts.let_go(judged.batch) and (claimed := self.starter.claim(wall)):
                self._sync_and_start(claimed, wall, lived)
        except OSError as error:
            self._unfinished(error)
        return judged

    def _finish(self, ended: list[Live], wall: float, lived: float, judged: Judged | None) -> None:
        done, problem = self.finisher.finish_most(ended, self.config, wall, judged)
        why = said(problem) if problem and (left := len(ended) - len(done)) else ""
        if self.health.say("unrecorded", why, wall) and why:
            self.tell("error", "", f"{counted(left, 'ended run')} cannot be recorded yet: {why}; tried again")
        if problem:  # full disk, no descriptors: nothing was committed that is not whole; again in a moment
            self._finish_again_at, self._scan_at = lived + 2.0, 0.0
            if plain.is_gone(self.queue.root) or (self.mode is Mode.NOW and not done):  # nor ever; or by the next start
                self.supervisor.remove(ended)
                return
        self.supervisor.remove([one.live for one in done])
        self.verdicts.follow(done, self.config.limits.failed_starts, wall)
