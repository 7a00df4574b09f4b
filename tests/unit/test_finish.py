"""From an ended run to its place: limits, late results, crashes between the steps."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from helpers import read, write

from orchestrator import process
from orchestrator.agents import AGENTS
from orchestrator.config import AgentConfig, Config
from orchestrator.context import Context
from orchestrator.ended import Finished
from orchestrator.finish import Finisher
from orchestrator.live import Live
from orchestrator.spool import Spool
from orchestrator.states import Outcome, State
from orchestrator.task import Task
from orchestrator.waiting import Attempt

pytestmark = pytest.mark.fast


class Desk:
    """A queue whose runs are made by hand."""

    def __init__(self, root: str) -> None:
        self.queue = Spool(root)
        self.queue.make_folders()
        self.context = Context(root)
        self.context.make()
        self.worked_at = 0.0
        self.finisher = Finisher(self.queue, self.context, lambda agent: self.worked_at)

    def run(self, task_id: str = "a", number: int = 1, attempt: Attempt | None = None) -> Live:
        """A claimed task whose run is on."""
        path = self.queue.path(State.ASSIGNED, task_id)
        if not os.path.exists(path):
            write(path, "description: x\n")
        self.queue.assign(task_id, "agent_01", "shell", number, "2025-01-01T00:00:00Z")
        self.queue.sync()
        folder = self.queue.run_folder(task_id, number)
        os.makedirs(folder)
        for name in ("stdout.log", "stderr.log"):
            write(f"{folder}/{name}", "")
        task = Task(id=task_id, description="x", run="true")
        live = Live(
            task, number, "shell", "agent_01", AGENTS["shell"], AgentConfig(), folder, time.time(), 0.0, 9.0, 9.0
        )
        live.attempt = attempt or Attempt(made=number - 1)
        return live

    def ends(self, live: Live, code: int = 0, said: str = "done\n") -> Finished:
        """It ends like this, and is finished."""
        write(f"{live.folder}/stdout.log", said)
        write(f"{live.folder}/exit", f"{code}\n")
        return self.finish(live)

    def finish(self, live: Live) -> Finished:
        """As the dispatcher does it."""
        found = self.finisher.finish([live], Config(), time.time())
        # A task's file that is missing is looked for once more: an editor may be between two names.
        (done,) = found or self.finisher.finish([live], Config(), time.time())
        self.queue.sync()
        self.finisher.settle()
        return done

    def hits(self, live: Live, outcome: Outcome) -> Finished:
        """It could not work, for a reason that is its agent's."""
        live.not_started = (outcome, "as arranged")
        return self.finish(live)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(str(tmp_path))


def rows(desk: Desk) -> str:
    return read(f"{desk.context.folder}/completed_tasks.json")


def test_a_run_that_ended_well_is_completed_merged_and_nobody_has_it(desk: Desk) -> None:
    done = desk.ends(desk.run())
    assert (done.result.status, done.late) == (Outcome.SUCCESS, False)
    assert sorted(os.listdir(f"{desk.queue.tasks}/completed")) == ["a.yaml", "a_result.yaml"]
    assert os.listdir(f"{desk.queue.tasks}/assigned") == []
    assert read(f"{desk.context.folder}/agent_outputs/a_output.md") == "done"
    assert rows(desk).count('"mark": "a/1"') == 1


def test_a_crash_before_the_commit_does_not_merge_twice(desk: Desk) -> None:
    live = desk.run()
    desk.ends(live)
    os.rename(desk.queue.path(State.COMPLETED, "a"), desk.queue.path(State.ASSIGNED, "a"))  # as if it had not moved
    desk.queue.assign("a", "agent_01", "shell", 1, "2025-01-01T00:00:00Z")
    desk.queue.sync()
    again = desk.finish(live)
    assert again.seen_before
    assert rows(desk).count('"mark": "a/1"') == 1
    assert desk.queue.state_of("a") is State.COMPLETED


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize(
    "forged", ["task_id: a\nrun: 7\n", "task_id: b\nrun: 1\n", "task_id: a\nrun: 1\n", "no verdict"]
)
def test_what_an_agent_left_in_the_place_of_the_verdict_is_none_and_is_kept(
    desk: Desk, forged: str, seen: bool
) -> None:
    """It knows its own names. Of a run that was seen to live, nobody else can have made a verdict."""
    live = desk.run()
    live.identity = process.identity(os.getpid()) if seen else live.identity
    forged += f"agent_id: {'agent_01' if seen else 'somebody'}\nstatus: success\ncompleted_at: '2025-01-01T00:00:00Z'\n"
    write(f"{live.folder}/output.md", "forged, too")
    write(f"{live.folder}/result.yaml", forged)
    done = desk.ends(live, code=3)
    assert (done.seen_before, done.result.status) == (False, Outcome.AGENT_ERROR)
    assert read(f"{live.folder}/result.yaml.left1") == forged


def test_a_folder_in_the_place_of_a_result_is_put_aside(desk: Desk) -> None:
    live = desk.run()
    os.makedirs(f"{live.folder}/result.yaml/x")
    os.makedirs(f"{desk.queue.result_path(State.COMPLETED, 'a')}/y")
    assert desk.ends(live).result.status is Outcome.SUCCESS
    assert os.path.isdir(f"{live.folder}/result.yaml.left1/x")
    assert os.path.isdir(f"{desk.queue.result_path(State.COMPLETED, 'a')}.left1/y")
    assert desk.queue.state_of("a") is State.COMPLETED


def test_a_run_that_was_killed_ended_when_it_was_seen_to_end(desk: Desk) -> None:
    """It wrote no exit status, and has said nothing for long."""
    live = desk.run()
    live.started_at -= 600
    for name in ("stdout.log", "stderr.log"):
        os.utime(f"{live.folder}/{name}", (time.time() - 500, time.time() - 500))
    live.identity = process.identity(os.getpid())
    live.stopped, live.stopped_why = Outcome.TIMEOUT, "as arranged"
    assert abs(desk.finish(live).result.completed_at - time.time()) < 5


def test_a_superseded_run_cannot_report(desk: Desk) -> None:
    old = desk.run(number=1)
    desk.queue.unassign("a", "agent_01")
    new = desk.run(number=2)
    os.rename(desk.queue.assignment_path("a", "agent_01"), desk.queue.assignment_path("a", "agent_02"))
    new.slot = "agent_02"
    assert desk.ends(old, said="old\n").late
    assert desk.queue.state_of("a") is State.ASSIGNED
    assert "a/1" not in rows(desk)
    assert read(f"{old.folder}/output.md") == "old"
    assert not desk.ends(new).late
    assert rows(desk).count('"mark": "a/2"') == 1


def test_what_is_tried_again_is_nobodys_before_it_can_be_claimed(desk: Desk) -> None:
    live = desk.run()
    write(f"{live.folder}/exit", "1\n")
    (done,) = desk.finisher.finish([live], Config(), time.time())
    assert done.result.state is State.PENDING
    assert os.listdir(f"{desk.queue.tasks}/assigned") == []
    again = desk.run(number=2)  # in the same turn, on the same slot
    desk.finisher.settle()
    assert os.path.exists(desk.queue.assignment_path("a", "agent_01"))
    assert not desk.ends(again).late


def test_a_late_run_leaves_no_note_that_the_next_could_be_taken_for(desk: Desk) -> None:
    live = desk.run()
    os.rename(desk.queue.path(State.ASSIGNED, "a"), desk.queue.path(State.PENDING, "a"))
    assert desk.ends(live).late
    assert os.listdir(f"{desk.queue.tasks}/assigned") == []


def test_a_cancel_holds_even_if_the_dispatcher_died_in_the_midst_of_it(desk: Desk) -> None:
    live = desk.run()
    write(f"{live.folder}/cancelled", "")
    assert live.stopped is None  # taken up: nobody knows any more why it ended
    assert desk.ends(live, 130).result.status is Outcome.CANCELLED


def test_what_ended_well_before_it_was_cancelled_is_completed(desk: Desk) -> None:
    live = desk.run()
    write(f"{live.folder}/cancelled", "")
    assert desk.ends(live, 0).result.status is Outcome.SUCCESS


def test_a_run_whose_task_was_taken_away_is_late(desk: Desk) -> None:
    live = desk.run()
    os.unlink(desk.queue.path(State.ASSIGNED, "a"))
    assert desk.ends(live).late
    assert os.listdir(f"{desk.queue.tasks}/completed") == []
    assert os.path.exists(f"{live.folder}/result.yaml")


def test_a_file_of_that_id_in_the_way_is_not_overwritten(desk: Desk) -> None:
    write(desk.queue.path(State.COMPLETED, "a"), "somebody's\n")
    write(desk.queue.result_path(State.COMPLETED, "a"), "his result\n")
    desk.ends(desk.run())
    assert read(desk.queue.result_path(State.COMPLETED, "a")) == "his result\n"
    assert "a/1" not in rows(desk)
    assert read(desk.queue.path(State.COMPLETED, "a")) == "somebody's\n"
    assert read(f"{desk.queue.tasks}/rejected/a.yaml") == "description: x\n"


def test_a_limit_does_not_count_and_pauses_the_agent(desk: Desk) -> None:
    done = desk.hits(desk.run(), Outcome.RATE_LIMITED)
    assert (done.result.state, done.result.counts) == (State.PENDING, False)
    assert done.result.paused_until and done.result.paused_until > time.time() + 290
    assert done.result.retry_at is None  # another agent may take it at once


def test_a_service_that_is_down_costs_no_attempt(desk: Desk) -> None:
    done = desk.hits(desk.run(number=9, attempt=Attempt(made=8, limited=8, last_at=time.time())), Outcome.UNAVAILABLE)
    assert (done.result.state, done.result.counts) == (State.PENDING, False)
    assert done.result.paused_until and done.result.paused_until > time.time() + 3590  # an hour at most


def test_a_task_that_hits_the_limit_again_lets_the_others_go_first(desk: Desk) -> None:
    done = desk.hits(desk.run(number=2, attempt=Attempt(made=1, limited=1, last_at=time.time())), Outcome.RATE_LIMITED)
    assert not done.result.counts
    assert done.result.retry_at and done.result.paused_until and done.result.retry_at > done.result.paused_until


def test_a_pause_grows_when_nothing_is_known_of_its_end(desk: Desk) -> None:
    pauses = []
    for n in range(6):
        live = desk.run(f"t{n}", attempt=Attempt(limited=n))
        until = desk.hits(live, Outcome.RATE_LIMITED).result.paused_until
        assert until
        pauses.append(round((until - time.time()) / 60))
    assert pauses == [5, 10, 20, 40, 60, 60]


def test_a_limit_counts_if_others_went_well_in_between(desk: Desk) -> None:
    desk.worked_at = time.time()
    attempt = Attempt(made=1, limited=1, last_at=time.time() - 60)
    done = desk.hits(desk.run(number=2, attempt=attempt), Outcome.RATE_LIMITED)
    assert done.result.counts
    last = Attempt(made=4, counted=3, limited=1, last_at=time.time() - 60)
    assert desk.hits(desk.run("b", number=5, attempt=last), Outcome.RATE_LIMITED).result.state is State.REVIEW


def test_a_run_that_ended_while_nobody_looked_ended_when_it_ended(desk: Desk) -> None:
    live = desk.run()
    live.started_at = time.time() - 1000
    write(f"{live.folder}/exit", "0\n")
    os.utime(f"{live.folder}/exit", (time.time() - 900, time.time() - 900))
    done = desk.finish(live)
    assert abs(done.result.completed_at - (time.time() - 900)) < 5


def test_a_cancelled_run_goes_to_failed_even_if_the_dispatcher_was_being_stopped(desk: Desk) -> None:
    live = desk.run()
    live.stopped, live.stopped_why, live.ours = Outcome.KILLED, "ended with the dispatcher", True
    write(f"{live.folder}/cancelled", "")
    assert desk.ends(live, 130).result.state is State.FAILED


def test_what_a_stop_ended_is_tried_again_and_does_not_count(desk: Desk) -> None:
    live = desk.run()
    live.stopped, live.stopped_why, live.ours = Outcome.KILLED, "ended with the dispatcher", True
    done = desk.ends(live, 130)
    assert (done.result.state, done.result.counts) == (State.PENDING, False)
    assert done.result.retry_at is None  # and at once


# -- the record of the agent --------------------------------------------------------------------


def test_every_run_that_ended_is_on_its_agents_record(desk: Desk) -> None:
    desk.ends(desk.run("a"))
    desk.ends(desk.run("b"), 3)
    desk.hits(desk.run("c"), Outcome.RATE_LIMITED)
    standing = desk.finisher.performance.of("shell", time.time())
    assert (standing.runs, standing.well) == (2, 1)


def test_a_run_whose_end_a_crash_repeated_is_on_record_once(desk: Desk) -> None:
    live = desk.run("a")
    desk.ends(live)
    os.rename(desk.queue.path(State.COMPLETED, "a"), desk.queue.path(State.ASSIGNED, "a"))
    os.unlink(desk.queue.result_path(State.COMPLETED, "a"))
    assert desk.finish(live).seen_before
    assert read(f"{desk.queue.own}/agents/shell.runs").count("a/1\t+") == 2
    assert desk.finisher.performance.of("shell", time.time()).runs == 1


def test_records_that_were_deleted_are_made_again_of_the_results(desk: Desk) -> None:
    desk.ends(desk.run("a"))
    desk.ends(desk.run("b"), 3)
    os.unlink(f"{desk.queue.own}/agents/shell.runs")
    desk.finisher.remember(time.time())
    standing = desk.finisher.performance.of("shell", time.time())
    assert (standing.runs, standing.well) == (2, 1)
