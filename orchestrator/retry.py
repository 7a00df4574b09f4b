"""Again, when, where, or never: one table. Decides, touches nothing.

The delay of attempt n is `retry_delay_seconds` × 2^(n-1), at most `max_delay_seconds`, and up to
a tenth more or less, so that tasks that failed together do not come back together. The jitter
comes from the task's id and the attempt, not from chance: same files, same decisions.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from orchestrator.states import Outcome, State


class Rule(NamedTuple):
    """What follows from one outcome."""

    end: State  # where the task goes when there is no further attempt
    again: bool = True  # another attempt, while there are some left
    counts: bool = True  # against max_retries
    delay: bool = True  # back off first
    pauses: float = 0.0  # seconds that the agent takes no work, unless it said until when
    at_most: int = 100  # attempts with this outcome, whatever max_retries says
    advice: str = ""  # what a person can do
    well: bool | None = None  # what it says of the agent; None: nothing, it was not the agent's doing
    paused_by: str = ""  # what the pause is called, if not by the outcome's own name


RULES: dict[Outcome, Rule] = {
    Outcome.SUCCESS: Rule(State.COMPLETED, again=False, well=True),
    Outcome.AGENT_ERROR: Rule(State.REVIEW, well=False),
    Outcome.UNREADABLE: Rule(State.REVIEW, delay=False, well=False),
    Outcome.TIMEOUT: Rule(State.REVIEW, advice="give it more timeout_minutes, or split it", well=False),
    Outcome.STUCK: Rule(State.REVIEW, advice="look at its log; give the agent a longer stuck_after_seconds if it was thinking", well=False),
    Outcome.KILLED: Rule(State.REVIEW),
    Outcome.LOST: Rule(State.REVIEW, delay=False),
    Outcome.RATE_LIMITED: Rule(State.REVIEW, counts=False, delay=False, pauses=300.0, paused_by="rate limit"),
    Outcome.QUOTA: Rule(State.REVIEW, counts=False, delay=False, pauses=3600.0, advice="top the account up"),
    Outcome.UNAVAILABLE: Rule(
        State.REVIEW, counts=False, delay=False, pauses=60.0, advice="see that its service can be reached",
        paused_by="service down or out of reach",
    ),
    Outcome.AUTH: Rule(
        State.REVIEW, counts=False, delay=False, pauses=900.0, advice="log the agent in", paused_by="not logged in"
    ),
    Outcome.CONTEXT_OVERFLOW: Rule(State.REVIEW, at_most=2, advice="split the task, or name fewer files"),
    Outcome.OUT_OF_RESOURCES: Rule(State.REVIEW, counts=False, pauses=30.0, advice="free memory, disk or processes, or allow more"),
    Outcome.NOT_STARTED: Rule(State.REVIEW, counts=False, delay=False, advice="mend the agent's command (orchestrate doctor)"),
    Outcome.CHECK_FAILED: Rule(State.REVIEW, well=False),
    Outcome.CONFLICT: Rule(State.REVIEW, again=False),
    Outcome.NEEDS_ANSWER: Rule(State.REVIEW, again=False),
    Outcome.CANCELLED: Rule(State.FAILED, again=False),
}  # fmt: skip


class Decision(NamedTuple):
    """Where the task goes now."""

    state: State
    delay: float = 0.0  # seconds until the next attempt, if the state is pending
    reason: str = ""  # one line for a person


def decide(
    outcome: Outcome,
    error: str,
    task_id: str,
    attempt: int,
    max_retries: int,
    base_delay: float,
    max_delay: float,
    retry_on_failure: bool = True,
    counts: bool | None = None,
) -> Decision:
    """What follows from the outcome of an attempt; `attempt` counts those that count, from 1, and
    `counts` says whether this one does (else the table says)."""
    rule = RULES[outcome]
    counts = rule.counts if counts is None else counts
    whole = outcome is Outcome.NEEDS_ANSWER or error.startswith(outcome)  # a sentence by itself
    what = error if error and whole else f"{outcome}: {error}" if error else str(outcome)
    if outcome is Outcome.SUCCESS:
        return Decision(rule.end)
    if rule.again and not counts:
        return Decision(State.PENDING, 0.0, what)
    if rule.again and retry_on_failure and attempt <= max_retries and attempt < rule.at_most:
        delay = 0.0
        if rule.delay:
            jitter = 0.9 + 0.2 * (zlib.crc32(f"{task_id}/{attempt}".encode()) / 0xFFFFFFFF)
            delay = min(base_delay * 2.0 ** min(attempt - 1, 30), max_delay) * jitter
        return Decision(State.PENDING, delay, f"attempt {attempt} of {max_retries + 1}: {what}")
    if not retry_on_failure and rule.again:
        return Decision(State.FAILED, 0.0, f"{what}; its agent is not tried again (retry_on_failure: false)")
    tried = f" (after {attempt} attempts)" if attempt > 1 else ""
    return Decision(rule.end, 0.0, f"{what.rstrip('.')}{tried}" + _follow(rule, outcome, task_id))


def _follow(rule: Rule, outcome: Outcome, task_id: str) -> str:
    if rule.end is State.FAILED:
        return f". To bring it back: orchestrate retry {task_id}"
    if outcome is Outcome.NEEDS_ANSWER:
        return f" To answer: orchestrate retry {task_id} --note '…'"
    return f". What you can do: {rule.advice + ', then ' if rule.advice else ''}orchestrate retry {task_id}"
