"""A run that is over, with its verdict; and what is said of it."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from orchestrator import retry
from orchestrator.performance import Run
from orchestrator.places import is_slot
from orchestrator.registry import clock
from orchestrator.runs import Result
from orchestrator.states import Outcome, State


class Ended(Protocol):
    """A run that is over, whoever did it."""

    @property
    def id(self) -> str: ...  # of its task

    @property
    def slot(self) -> str: ...  # who had it

    @property
    def number(self) -> int: ...

    @property
    def folder(self) -> str: ...


class Finished(NamedTuple):
    """A run and its verdict."""

    live: Ended
    result: Result
    seen_before: bool  # the verdict was found, not made: a crash came between
    late: bool = False  # the task is not this run's any more; its result is kept and not applied


def told(one: Finished) -> tuple[str, str, dict[str, Any]]:
    """(kind, one line, facts) of the event that a run has ended."""
    result, who = one.result, one.result.agent_type
    took = f"{max(0.0, result.completed_at - result.started_at):.1f} s on {result.agent_id} ({who})"
    facts = {"run": result.run, "agent_id": result.agent_id, "agent_type": who, "status": str(result.status)}
    if one.late:
        text = f"run {result.run} ended as {result.status}, but the task is not its own any more; kept in its folder"
        return "late", text, facts
    if result.state is State.PENDING:
        when = f"again at {clock(result.retry_at)}" if result.retry_at else "again"
        return "retried", f"{result.reason}; {when}", facts
    if result.status is Outcome.CANCELLED:
        return "cancelled", f"{result.reason} ({took})", facts
    if result.status is Outcome.SUCCESS:
        return str(result.state), f"in {took}{f'; {result.reason}' if result.reason else ''}", facts
    return str(result.state), f"{result.reason} ({took})", facts


def run_of(result: Result) -> tuple[str, Run]:
    """Whom a verdict is about, and what it says of him: the agent, or the worker by its own name."""
    who = result.agent_type if is_slot(result.agent_id) else result.agent_id
    seconds = max(0.0, result.completed_at - result.started_at) if result.started_at else 0.0
    return who, Run(result.mark, retry.RULES[result.status].well, seconds, result.completed_at, result.kinds)
