"""What the run folders tell about a task's past."""

from __future__ import annotations

import os

import pytest
from helpers import write

from orchestrator import history
from orchestrator.runs import Result
from orchestrator.spool import Spool
from orchestrator.states import Outcome, State

pytestmark = pytest.mark.fast


def ended(queue: Spool, number: int, state: State = State.PENDING, **more: object) -> None:
    """Attempt `number` of task a ended like this."""
    folder = queue.run_folder("a", number)
    result = Result("a", "agent_01", "shell", number, Outcome.AGENT_ERROR, 1000.0 + number, state, reason="no")
    write(f"{folder}/alive", "1\n")
    write(f"{folder}/result.yaml", result._replace(**more).to_yaml())  # type: ignore[arg-type]


def test_a_new_task_has_no_past(queue: Spool) -> None:
    assert history.attempts(queue, "a") == history.Attempt()


def test_attempts_are_counted_from_their_folders(queue: Spool) -> None:
    ended(queue, 1)
    ended(queue, 2, retry_at=5000.0)
    past = history.attempts(queue, "a")
    assert (past.made, past.counted, past.not_before, past.last_slot) == (2, 2, 5000.0, "agent_01")


def test_an_agent_that_failed_three_times_is_spent_until_a_person_gives_the_task_back(queue: Spool) -> None:
    for number, name in enumerate(("codex", "shell", "shell", "codex", "shell"), start=1):
        assert history.attempts(queue, "a").spent == ()
        ended(queue, number, agent_type=name)
    ended(queue, 6, agent_type="codex", counts=False)
    assert history.attempts(queue, "a").spent == ("shell",)
    queue.mark("a", "retried")
    assert history.attempts(queue, "a").spent == ()


def test_what_does_not_count_is_not_counted(queue: Spool) -> None:
    ended(queue, 1)
    ended(queue, 2, counts=False, paused_until=9000.0)
    ended(queue, 3, counts=False, paused_until=9000.0)
    past = history.attempts(queue, "a")
    assert (past.made, past.counted, past.limited) == (3, 1, 2)


def test_a_person_gives_a_fresh_budget_and_ends_the_back_off(queue: Spool) -> None:
    ended(queue, 1)
    ended(queue, 2, retry_at=5000.0)
    queue.mark("a", "retried", "use the staging database")
    past = history.attempts(queue, "a")
    assert (past.made, past.counted, past.not_before, past.note) == (2, 0, 0.0, "use the staging database")


def test_a_task_that_was_moved_back_by_hand_has_a_fresh_budget(queue: Spool) -> None:
    ended(queue, 1)
    ended(queue, 2, State.REVIEW)
    assert history.attempts(queue, "a").counted == 0


def test_the_folder_of_a_run_that_never_began_is_used_again(queue: Spool) -> None:
    ended(queue, 1)
    write(f"{queue.run_folder('a', 2)}/prompt.md", "do it")
    assert history.attempts(queue, "a").made == 1
    write(f"{queue.run_folder('a', 2)}/alive", "agent_id: agent_01\npid: 4711\n")
    assert history.attempts(queue, "a").made == 2


def test_a_result_that_cannot_be_read_is_passed_over(queue: Spool) -> None:
    ended(queue, 1)
    write(f"{queue.run_folder('a', 2)}/result.yaml", "torn: [")
    last = history.last_result(queue, "a")
    assert last is not None and last.run == 1
    assert os.path.exists(f"{queue.run_folder('a', 2)}/result.yaml")
