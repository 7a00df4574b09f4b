"""What workers may take: the index of what waits, kept by a program that claims, and read only as far as it needs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence

from orchestrator import config, ids
from orchestrator.intake import Intake
from orchestrator.roster import Worker, cannot
from orchestrator.runs import utc
from orchestrator.spool import Spool
from orchestrator.states import State
from orchestrator.waiting import Entry

SLICE_SECONDS = 0.1  # of reading, before it is seen whether that is enough
LOOK_SECONDS = 0.2  # between two looks at all of pending/ while there is still something to claim, at least


class Offers:
    """What waits in one queue. `tell` hears what was found: kind, task id, one line."""

    def __init__(self, queue: Spool, tell: Callable[[str, str, str], None]) -> None:
        self._queue = queue
        self._tell = tell
        self._intake: Intake | None = None  # there from the first question on
        self._look_at = 0.0  # at all of pending/, of the monotonic clock

    def hear(self, task_ids: Sequence[str], state: State = State.PENDING) -> None:
        """Something was done with these here: they wait, or are completed."""
        if self._intake is None:
            return
        if state is State.PENDING:
            seconds = SLICE_SECONDS if len(task_ids) > 1 else 0.0  # and not all that is to be read yet
            self._intake.look([f"{task_id}.yaml" for task_id in task_ids], time.time(), seconds)
        for task_id in task_ids if state is State.COMPLETED else ():
            self._intake.waiting.completed(task_id, time.time())

    def all(self, worker: Worker) -> Iterator[Entry]:
        """What this worker could do now, the best first; all of pending/ is read for it."""
        now = time.time()
        entries = self._up_to_date(True).waiting.in_order(now)
        return (one for one in entries if not self.cannot(worker, one, now))

    def best(self, worker: Worker, again: bool) -> Iterator[tuple[Entry, bytes]]:
        """Take out what this worker can do, the best first, with what their files hold. `again`: look at all of pending/
        first, also if that was done some time ago only."""
        intake, now = self._up_to_date(again, worker), time.time()
        while entry := self._best(intake, worker, now):
            if (content := intake.current(entry, now)) is not None:
                intake.waiting.take(entry.id)
                yield entry, content

    def one(self, task_id: str) -> tuple[Intake, Entry | None]:
        """This very task; nothing else is read."""
        intake, now = self._index(), time.time()
        if self._queue.state_of(task_id) in (None, State.PENDING):
            intake.look([ids.file_of(self._queue, task_id) or f"{task_id}.yaml"], now, 0.0)
        intake.waiting.wake(now)
        return intake, intake.waiting.by_id.get(task_id)

    def cannot(self, worker: Worker, entry: Entry, now: float) -> str:
        """Why this worker cannot take it now; "" if it can."""
        if entry.unmet:
            return f"waits for {', '.join(sorted(entry.unmet))}"
        if entry.attempt.not_before > now:
            return f"is not tried again before {utc(entry.attempt.not_before)}"
        return cannot(worker, entry.task)

    def _best(self, intake: Intake, worker: Worker, now: float) -> Entry | None:
        return intake.waiting.best(now, lambda one: not self.cannot(worker, one, now))

    def _index(self) -> Intake:
        if self._intake is None:
            settings = config.load_or_last(self._queue.root)[0]
            self._queue.make_folders()
            # For whom the others are is not ours to judge: what another agent is to do stays where it is.
            self._intake = Intake(self._queue, settings, (), self._tell)
        return self._intake

    def _up_to_date(self, now: bool, worker: Worker | None = None) -> Intake:
        """The index, looked at again if asked for, or if the last look is some time ago. For a worker not all is read:
        the most urgent, until there is something that it can do."""
        begun = time.monotonic()
        is_due = now or begun >= self._look_at or self._intake is None
        intake = self._index() if is_due or self._intake is None else self._intake
        if is_due:
            intake.look(None, time.time(), 0.0)
            intake.survey.go_on(time.time(), math.inf)  # a glance at each, before any more are read
        while intake.next_look() == 1.0:
            if worker is not None and self._best(intake, worker, time.time()):
                break
            if not intake.go_on(time.time(), SLICE_SECONDS) and intake.waiting.by_id:
                break  # what is no task is put aside a few at a time, while others wait
        if is_due:
            took = time.monotonic() - begun
            self._look_at = begun + took + max(LOOK_SECONDS, 20 * took)
        intake.waiting.wake(time.time())
        return intake
