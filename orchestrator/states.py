"""The frozen words: where a task can be, what can become of a run, and which moves are lawful.

A task's state is the folder its file lies in; nothing else records it. Code looks moves up
in `MOVES`; the diagram in docs/design.md is drawn from the same table.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class State(StrEnum):
    """A folder below tasks/."""

    PENDING = "pending"  # people and programs write here
    ASSIGNED = "assigned"  # claimed: a run is about to start, lives, or was left by a crash
    COMPLETED = "completed"  # ended well; final
    FAILED = "failed"  # ended, and nobody has to look; `retry` brings it back
    REVIEW = "review"  # waits for a person; `retry` brings it back
    REJECTED = "rejected"  # no task: the file as it was, and the reason beside it


ENDED = (State.COMPLETED, State.FAILED, State.REVIEW)

MOVES: dict[State, tuple[State, ...]] = {
    State.PENDING: (State.ASSIGNED, State.FAILED, State.REJECTED),
    State.ASSIGNED: (State.COMPLETED, State.FAILED, State.REVIEW, State.PENDING, State.REJECTED),
    State.COMPLETED: (),
    State.FAILED: (State.PENDING,),
    State.REVIEW: (State.PENDING, State.FAILED),
    State.REJECTED: (),
}


class Priority(IntEnum):
    """Lower is served first. Files may say the word or the number."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


class Outcome(StrEnum):
    """Our verdict on one run. What follows from each is one table, `retry.RULES`."""

    SUCCESS = "success"
    AGENT_ERROR = "agent_error"  # it ended and says, by status or event, that it failed
    UNREADABLE = "unreadable"  # it says it succeeded, and left nothing that we can read
    TIMEOUT = "timeout"
    STUCK = "stuck"  # no output and no CPU for too long
    KILLED = "killed"  # ended from outside: a stop of ours, or a signal of somebody
    LOST = "lost"  # the machine or its wrapper died; how it ended is not known
    RATE_LIMITED = "rate_limited"  # the account may go on later
    QUOTA = "quota"  # the account is spent: a person, or another agent
    UNAVAILABLE = "unavailable"  # its service is down, overloaded or not to be reached
    AUTH = "auth"  # no valid login or key
    CONTEXT_OVERFLOW = "context_overflow"  # the prompt is more than the model takes
    OUT_OF_RESOURCES = "out_of_resources"  # this machine had no room, or the run took more than its limits
    NOT_STARTED = "not_started"  # its program could not be started, or died before its first word
    CHECK_FAILED = "check_failed"
    CONFLICT = "conflict"
    NEEDS_ANSWER = "needs_answer"  # it asks a person something it cannot go on without
    CANCELLED = "cancelled"
