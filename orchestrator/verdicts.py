"""What follows from a verdict, besides the place of its task: it is told, others may start, its agent rests or works."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from orchestrator.ended import Finished, told
from orchestrator.intake import Intake
from orchestrator.live import Live
from orchestrator.registry import AgentRegistry, clock
from orchestrator.retry import RULES
from orchestrator.states import Outcome, State


class Verdicts:
    """Follows them up."""

    def __init__(self, registry: AgentRegistry, intake: Intake, tell: Callable[..., None]) -> None:
        self.registry = registry
        self.intake = intake
        self._tell = tell

    def look(self, lives: Iterable[Live], lived: float) -> None:
        """An agent of which a run is well under way does start, whatever was before."""
        for live in lives:
            if live.is_up(lived):
                self.registry.started(live.agent, live.started_at)

    def let_go(self, batch: Sequence[Finished]) -> bool:
        """Whether these slots may have other runs before it is recorded how these ended: all have completed, so that
        no agent has to rest, and nobody waits for them who might be more urgent than what waits now."""
        unmet = self.intake.waiting.is_awaited
        free = all(one.result.state is State.COMPLETED and not one.late and not unmet(one.live.id) for one in batch)
        for one in batch if free else ():
            assert isinstance(one.live, Live)  # the dispatcher's own
            one.live.let_go = True
        return free

    def follow(self, done: Sequence[Finished], failed_starts: int, wall: float) -> None:
        """Tell them, and draw the consequences: for who depends on them, for their agents, for when they are tried again.

        After `failed_starts` in a row an agent is paused. What could not be started lets others go first, so that
        one task at which an agent dies holds nobody up.
        """
        later = {}
        for one in done:
            kind, text, facts = told(one)
            self._tell(kind, one.live.id, text, **facts)
            if one.result.state is State.COMPLETED and not one.late:
                self.intake.waiting.completed(one.live.id, wall)
                self.registry.worked(one.result.agent_type, one.result.started_at, wall)
            if until := self._for_its_agent(one, failed_starts, wall):
                later[one.live.id] = until
        self.intake.look([f"{one.live.id}.yaml" for one in done if one.result.state is State.PENDING], wall)
        for task_id, until in later.items():
            self.intake.waiting.postpone(task_id, until, wall)

    def _for_its_agent(self, one: Finished, failed_starts: int, wall: float) -> float:
        """Until when its task lets others go first, if it could not be started; else 0.0."""
        live, result = one.live, one.result
        assert isinstance(live, Live)  # the dispatcher's own
        until = 0.0
        if result.status is Outcome.NOT_STARTED:
            why = result.reason.removeprefix(f"{result.status}: ")
            if until := self.registry.failed_to_start(live.agent, live.started_at, why, failed_starts, wall):
                self._tell(
                    "paused", "", f"{self.registry.base(live.agent)} paused until {clock(until)}: does not start: {why}"
                )
            until = max(until + 5.0, wall + 1.0)
        elif not live.ours and live.stopped is None:
            self.registry.started(live.agent, live.started_at)
        if result.paused_until and result.paused_until > wall:
            word = RULES[result.status].paused_by or str(result.status)
            self.registry.pause(live.agent, result.paused_until, word)
            self._tell(
                "paused",
                "",
                f"{self.registry.base(live.agent)} paused until {clock(result.paused_until)} ({word}): {result.reason}",
            )
        return until
