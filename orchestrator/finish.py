"""From runs that have ended to their place: judge, merge, commit. Many at once share their syncs.

    judge → result.yaml in the run's folder → its second name beside where the task goes → sync
    → output page, entries → sync → the move (the commit) → sync → nobody has it any more

Everything before the move may happen twice: names that are there stay, marks that are there are
not added again. A crash at any point leaves the task in assigned/, where starting finds it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from orchestrator import history, output, plain, retry
from orchestrator.agents.base import Answer
from orchestrator.config import Config
from orchestrator.context import OUTPUTS, Context
from orchestrator.ended import Ended, Finished, run_of
from orchestrator.hands import EDITED, was_edited
from orchestrator.live import LINKED, Live
from orchestrator.performance import Performance, Run
from orchestrator.result import Verdict, judge
from orchestrator.runs import FACTS, Result, read_result
from orchestrator.spool import Spool
from orchestrator.states import Outcome, State
from orchestrator.together import Together

RECALLED = 1000  # results that are read again when the records of the agents are gone


class Judged(NamedTuple):
    """Runs with their verdicts, on their way to the disk."""

    batch: list[Finished]
    arrived: Callable[[], None]  # waits for them. Raises OSError


class Finisher:
    """Brings ended runs to where they belong."""

    def __init__(self, queue: Spool, context: Context, worked_at: Callable[[str], float]) -> None:
        self.queue = queue
        self.context = context
        self.performance = Performance(queue.own)
        self.unsettled: list[Finished] = []  # moved; not yet known to be durable
        self.worked_at = worked_at  # when an agent last did a task well (epoch seconds)

    def finish_most(
        self, ended: Sequence[Live], config: Config, now: float, judged: Judged | None = None
    ) -> tuple[list[Finished], OSError | None]:
        """`finish` (`record`, of what was judged already); if the disk refuses, one by one, so that one that cannot
        be recorded keeps no other back.

        Those that are finished, and what was wrong.
        """
        try:
            return self.record(judged) if judged else self.finish(ended, config, now), None
        except OSError as error:
            problem, done = error, []
        for live in ended:
            try:
                done += self.finish([live], config, now)
            except OSError as error:
                problem = error
        return done, problem

    def finish(self, ended: Sequence[Live], config: Config, now: float) -> list[Finished]:
        """Judge all of them, and bring them to their place, in one batch. Raises OSError if the disk refuses; then it
        can be called again."""
        return self.record(self.judge(ended, config, now))

    def judge(self, ended: Sequence[Live], config: Config, now: float) -> Judged:
        """Reach their verdicts, and begin to make them durable. Raises OSError; nothing is left of it then."""
        together = Together()
        try:
            batch = [self._verdict(live, config, now, together) for live in ended if not self._blinks(live)]
            return Judged(batch, together.begin())
        except BaseException:
            together.drop()
            raise

    def record(self, judged: Judged) -> list[Finished]:
        """The rest of `finish`."""
        judged.arrived()
        return self.place(judged.batch)

    def place(self, batch: Sequence[Finished]) -> list[Finished]:
        """From results that are durable in their runs' folders to where the tasks belong; the last moves are durable
        after the queue's next `sync`, and `settle` ends it. Raises OSError, as `finish`."""
        runs: dict[str, list[Run]] = {}
        for who, run in (run_of(one.result) for one in batch):
            runs.setdefault(who, []).append(run)
        for who, ended in runs.items():  # before the commit: a crash repeats it, and a mark counts once
            self.performance.note(who, *ended)
        ours = [one for one in batch if not one.late]
        free = [one for one in ours if not plain.is_there(self.queue.path(one.result.state, one.live.id))]
        for one in free:
            if one.result.state is not State.PENDING:
                self.queue.place_result(one.result.task_id, one.result.state, self._result_path(one.live))
        outputs = [one for one in free if one.result.status is Outcome.SUCCESS]
        for one in outputs:
            self.context.place_output(one.live.id, f"{one.live.folder}/output.md")
        # A completed task needs no name in its run's folder to be durable: the second ones are, and starting knows.
        folders = [one.live.folder for one in ours if one.result.state is not State.COMPLETED]
        folders += [self.queue.runs, *map(os.path.dirname, folders)] if folders else []
        folders += [f"{self.context.folder}/{OUTPUTS}"] if outputs else []
        self.queue.sync(*folders)
        merged = [one for one in free if one.result.state is not State.PENDING]
        self.context.merge([one.result for one in merged], [one.result.mark for one in merged if one.seen_before])
        done = [one for one in batch if one.late]
        for one in ours:
            try:
                done.append(self._move(one))
            except OSError:
                if done:
                    break  # what is committed is committed; the others are called for again
                raise
        for one in done:
            if one.late:  # its task may be claimed again at once, and must not be taken for this run's then
                self.queue.unassign(one.live.id, one.live.slot, one.live.number)
        self.unsettled += done
        return done

    def remember(self, now: float) -> None:
        """Make the records of how agents do again, of the last results, if they were deleted."""
        self.performance.sweep(now)
        if self.performance.is_empty():
            self.performance.rebuild(run_of(result) for result in history.last_results(self.queue, RECALLED))

    def settle(self) -> None:
        """All moves are durable: nobody has these tasks any more. Raises OSError; then it can be called again."""
        while self.unsettled:
            one = self.unsettled[-1]
            if not one.late and one.result.state is not State.PENDING:
                self.queue.unassign(one.live.id, one.live.slot, one.live.number)
            self.unsettled.pop()

    def _result_path(self, live: Ended) -> str:
        return f"{live.folder}/result.yaml"

    def _verdict(self, live: Live, config: Config, now: float, together: Together) -> Finished:
        path = self._result_path(live)
        if self.queue.make_run_folder(live.id, live.number):  # if it was deleted, too: the verdict is kept
            live.stopped, live.stopped_why = Outcome.LOST, LINKED
        # Of a run that we saw live there is no verdict but ours; of another, that of the dispatcher before us.
        if found := verdict_before(live, live.judged or not live.identity.pid):
            return Finished(live, found, True, self._is_late(live))
        cap = int(config.limits.max_output_mb * 1_000_000)
        for name in ("stdout.log", "stderr.log"):
            with suppress(FileNotFoundError):
                output.compact(f"{live.folder}/{name}", cap)
        result, late = self._result(live, config, now, together), self._is_late(live)
        if late:  # it sends the task nowhere: where a person put it, it goes on
            result = result._replace(state=State.PENDING, retry_at=None, counts=False)
        together.publish(path, result.to_yaml(), over=True)  # what a power cut tore was never acknowledged
        live.judged = True
        return Finished(live, result, False, late)

    def _result(self, live: Live, config: Config, now: float, together: Together) -> Result:
        ended = _ended_at(live, now)
        if live.not_started is not None:
            outcome, why = live.not_started
            verdict = Verdict(outcome, why, Answer(outcome), {}, None)
        else:
            stopped, why = live.stopped, live.stopped_why
            code = live.exit_code()
            if (stopped or code) and plain.is_there(f"{live.folder}/cancelled"):
                stopped, why = Outcome.CANCELLED, "cancelled by a person while it ran"
            verdict = judge(
                live.folder, live.adapter, live.settings, ended, stopped, why, live.answered, together, exit_code=code
            )
        outcome = verdict.outcome
        counted = live.attempt.counted + 1
        rule = retry.RULES[outcome]
        # A limit is the account's, until others went well on that agent in between: then it is the task's.
        # A lack of room is the machine's, unless the run was ended for taking more than its own limits allow.
        greedy = outcome is Outcome.OUT_OF_RESOURCES and live.stopped is outcome
        again = live.attempt.limited or live.attempt.last_status == outcome == Outcome.NOT_STARTED
        counts = rule.counts or greedy or bool(again and self.worked_at(live.agent) > live.attempt.last_at)
        max_retries = config.retry.max_retries if live.task.max_retries is None else live.task.max_retries
        decision = retry.decide(
            outcome,
            verdict.error,
            live.id,
            counted,
            max_retries,
            config.retry.retry_delay_seconds,
            config.retry.max_delay_seconds,
            live.settings.retry_on_failure,
            counts,
        )
        paused_until = (
            self._pause(live, rule.pauses, verdict.answer.retry_at, now) if rule.pauses and not greedy else None
        )
        if live.ours and outcome is not Outcome.CANCELLED:  # ended by a stop of the dispatcher: no fault of the task's
            decision, counts = retry.Decision(State.PENDING, 0.0, live.stopped_why), False
        again_at = now + decision.delay if decision.delay else None
        if paused_until and live.attempt.limited:  # not for the first time: let the others go first
            again_at = max(again_at or 0.0, paused_until + 5.0)
        success = outcome is Outcome.SUCCESS
        answer = verdict.answer
        kept = f"{live.folder}/output.md"
        shown = self.context.output_name(live.id) if success else os.path.relpath(kept, self.queue.root)
        facts: dict[str, Any] = {key: verdict.facts.get(key, ()) for key in FACTS}
        edited = EDITED if was_edited(live, self.queue.path(State.ASSIGNED, live.id)) else ""
        return Result(
            task_id=live.id,
            agent_id=live.slot,
            agent_type=live.agent,
            run=live.number,
            status=outcome,
            completed_at=ended,
            state=decision.state,
            started_at=live.started_at,
            exit_code=verdict.exit_code,
            reason="; ".join(filter(None, (decision.reason or answer.warning, edited))),
            output_file=shown if live.not_started is None or plain.is_there(kept) else "",
            session_id=answer.session_id,
            tokens=answer.tokens._asdict() if answer.tokens else None,
            cost_usd=answer.cost_usd,
            retry_at=again_at,
            paused_until=paused_until,
            counts=counts,
            title=live.task.title,
            kinds=live.task.kinds,
            **facts,
        )

    def _pause(self, live: Live, seconds: float, until: float | None, now: float) -> float:
        """Until when its agent takes no work: as it said, else longer each time, an hour at most."""
        return max(until or now + min(3600.0, seconds * 2.0 ** min(live.attempt.limited, 10)), now + 1.0)

    def _blinks(self, live: Live) -> bool:
        """Whether its task's file is gone, and was there a moment ago: an editor may be between two names."""
        before, live.missed = live.missed, not plain.is_there(self.queue.path(State.ASSIGNED, live.id))
        return live.missed and not before

    def _is_late(self, live: Live) -> bool:
        """Whether the task has gone on without this run: its file is gone, or another run has it."""
        if live.missed:  # as it was looked for at the start of judging
            return True
        if plain.is_there(self.queue.assignment_path(live.id, live.slot)):
            return False
        return bool(self.queue.assignments().get(live.id))

    def _move(self, one: Finished) -> Finished:
        try:
            if one.result.state is State.PENDING:
                # The note first: in this very turn the same slot may get the task again.
                self.queue.unassign(one.live.id, one.live.slot, one.live.number)
                self.queue.release(one.live.id)
            else:
                self.queue.commit(one.live.id, one.result.state)
        except FileNotFoundError:
            if plain.is_there(self.queue.path(State.ASSIGNED, one.live.id)):
                raise  # the folder is gone that it goes to, not the task
            self.queue.take_back_result(one.live.id, one.result.state, self._result_path(one.live))
            return one._replace(late=True)
        except FileExistsError:
            # Somebody put a file of that id where this one goes. His stays; ours is kept as it is.
            self.queue.reject(
                self.queue.path(State.ASSIGNED, one.live.id),
                State.ASSIGNED,
                f"ended as {one.result.status}, but tasks/{one.result.state}/ holds a file of that id already; "
                f"its result is {os.path.relpath(self._result_path(one.live), self.queue.root)}",
            )
        return one


def verdict_before(live: Ended, known: bool = True) -> Result | None:
    """The verdict on a run that a crash came after, if there can be one (`known`). Raises OSError."""
    path = f"{live.folder}/result.yaml"
    found = read_result(path) if known else None
    if found is None or (found.task_id, found.run, found.agent_id) != (live.id, live.number, live.slot):
        plain.aside(path, files_too=True)  # whatever its agent left under that name, it is no verdict
        return None
    # A power cut may keep a verdict and lose the answer that it speaks of; nothing was merged then.
    if found.status is Outcome.SUCCESS and not plain.is_there(f"{live.folder}/output.md"):
        return None
    return found


def _ended_at(live: Live, now: float) -> float:
    """When the run ended: its wrapper wrote the exit status then. Of one without: just now if we saw it live, else
    when it last wrote anything."""
    for name in ("exit",) if live.identity.pid else ("exit", "stdout.log", "stderr.log"):
        try:
            moment = os.stat(f"{live.folder}/{name}").st_mtime
        except OSError:
            continue
        if live.started_at <= moment <= now:
            return moment
    return now
