"""Again, when, where, or never: the table, and what is decided by it."""

from __future__ import annotations

import pytest

from orchestrator.retry import RULES, Decision, decide
from orchestrator.states import Outcome, State

pytestmark = pytest.mark.fast

AGAIN = [outcome for outcome, rule in RULES.items() if rule.again and rule.counts]
NEVER = [outcome for outcome, rule in RULES.items() if not rule.again]
FREE = [outcome for outcome, rule in RULES.items() if rule.again and not rule.counts]


def after(outcome: Outcome, attempt: int = 1, task_id: str = "task_001", **changes: object) -> Decision:
    arguments = {"max_retries": 3, "base_delay": 60.0, "max_delay": 3600.0, **changes}
    return decide(outcome, "it broke", task_id, attempt, **arguments)  # type: ignore[arg-type]


def test_every_outcome_has_a_rule() -> None:
    assert set(RULES) == set(Outcome)
    assert len(AGAIN) + len(NEVER) + len(FREE) == len(Outcome)


@pytest.mark.parametrize("outcome", Outcome)
def test_every_task_goes_to_a_place_and_a_person_learns_why(outcome: Outcome) -> None:
    for attempt in (1, 4, 50):
        decision = after(outcome, attempt)
        assert decision.state in (State.PENDING, State.COMPLETED, State.FAILED, State.REVIEW)
        assert (decision.state is State.COMPLETED) == (outcome is Outcome.SUCCESS)
        if outcome is not Outcome.SUCCESS:
            assert outcome in decision.reason or outcome is Outcome.NEEDS_ANSWER
            assert "it broke" in decision.reason
            assert "\n" not in decision.reason
        if decision.state in (State.REVIEW, State.FAILED):
            assert "orchestrate retry task_001" in decision.reason


@pytest.mark.parametrize("outcome", AGAIN)
def test_an_outcome_that_counts_is_tried_again_until_the_retries_are_used_up(outcome: Outcome) -> None:
    limit = min(3, RULES[outcome].at_most - 1)
    for attempt in range(1, limit + 1):
        assert after(outcome, attempt).state is State.PENDING
        assert f"attempt {attempt} of 4" in after(outcome, attempt).reason
    assert after(outcome, limit + 1).state is RULES[outcome].end
    assert after(outcome, 1, max_retries=0).state is RULES[outcome].end


@pytest.mark.parametrize("outcome", NEVER)
def test_an_outcome_that_another_attempt_cannot_mend_has_none(outcome: Outcome) -> None:
    assert after(outcome, 1, max_retries=100).state is RULES[outcome].end


@pytest.mark.parametrize("outcome", FREE)
def test_an_outcome_that_is_not_the_tasks_fault_uses_up_nothing(outcome: Outcome) -> None:
    assert after(outcome, 99, max_retries=0).state is State.PENDING
    # Else it would be tried without end and without a breath; what does not start, its agent rests for (registry.py).
    assert RULES[outcome].pauses > 0 or outcome is Outcome.NOT_STARTED


def test_a_context_that_is_too_long_is_tried_twice_at_most() -> None:
    assert after(Outcome.CONTEXT_OVERFLOW, 1, max_retries=50).state is State.PENDING
    assert after(Outcome.CONTEXT_OVERFLOW, 2, max_retries=50).state is State.REVIEW


def test_an_agent_with_retry_on_failure_off_is_tried_once() -> None:
    decision = after(Outcome.AGENT_ERROR, retry_on_failure=False)
    assert decision.state is State.FAILED
    assert "retry_on_failure" in decision.reason


def test_delays_double_within_a_tenth_up_to_the_cap() -> None:
    for attempt in range(1, 40):
        exact = min(60.0 * 2 ** (attempt - 1), 3600.0)
        delay = after(Outcome.AGENT_ERROR, attempt, max_retries=100).delay
        assert 0.9 * exact <= delay <= 1.1 * exact
    assert after(Outcome.AGENT_ERROR, 90, max_retries=100).delay <= 3600 * 1.1


def test_jitter_is_the_same_each_time_and_differs_between_tasks() -> None:
    delays = [after(Outcome.AGENT_ERROR, 1, f"task_{n}").delay for n in range(300)]
    assert delays == [after(Outcome.AGENT_ERROR, 1, f"task_{n}").delay for n in range(300)]
    assert len(set(delays)) > 290
    assert all(54 <= delay <= 66 for delay in delays)
    assert min(delays) < 56 and max(delays) > 64  # the whole width is used


def test_no_delay_stays_no_delay() -> None:
    assert after(Outcome.AGENT_ERROR, 5, max_retries=9, base_delay=0.0).delay == 0.0
    assert after(Outcome.UNREADABLE).delay == 0.0


def test_a_reason_says_no_word_twice_and_its_parts_can_be_told_apart() -> None:
    decision = decide(Outcome.CANCELLED, "cancelled by a person while it ran", "a", 1, 3, 60.0, 3600.0)
    assert decision.reason == "cancelled by a person while it ran. To bring it back: orchestrate retry a"
    decision = decide(Outcome.AGENT_ERROR, "exit status 3: oops.", "a", 2, 1, 60.0, 3600.0)
    assert (
        decision.reason == "agent_error: exit status 3: oops (after 2 attempts). What you can do: orchestrate retry a"
    )
