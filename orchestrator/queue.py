"""`TaskQueue`: the queue as Python programs use it. Add, look, and work: what a worker, a shell or a person needs.

    queue = TaskQueue("/path/to/project")
    queue.register_agent("researcher", ["web"])
    queue.create_task("Find three sources", task_type="research", requirements=["web"])
    mine = queue.get_next_task("researcher")
    queue.complete_task(mine.task_id, "Here they are …", agent_id="researcher", run=mine.run)

Nothing has to run for that. With a dispatcher on the same root, both take from one queue and none takes twice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from orchestrator import config, history, report
from orchestrator.errors import AlreadyExists, OrchestrateError, Refused
from orchestrator.events import Event, Journal
from orchestrator.looking import Looking, TaskStatus, checked_limit, status_of
from orchestrator.names import printable
from orchestrator.offers import Offers
from orchestrator.performance import Performance
from orchestrator.places import is_slot
from orchestrator.pull import Assignment, Pull, assignment
from orchestrator.report import Held, Report
from orchestrator.roster import Roster, Worker
from orchestrator.runs import Result
from orchestrator.states import Outcome
from orchestrator.waiting import Entry
from orchestrator.writing import Scalar, Value

if TYPE_CHECKING:
    from orchestrator.aio import AsyncQueue


class TaskQueue(Looking):
    """The queue of files below `root`. Any number of processes may use it at once; one object is for one thread."""

    def __init__(self, root: str) -> None:
        super().__init__(os.path.abspath(root))
        self.roster = Roster(self.own)
        self.pull = Pull(self, self.roster, self._tell)
        self._performance = Performance(self.own)
        self.offers = Offers(self, self._tell_of_files)
        self._journal, self._is_claiming = Journal(f"{self.own}/events"), False
        self._left: dict[str, int] = {}  # worker → how many it may claim before its tasks are counted again

    @property
    def aio(self) -> AsyncQueue:
        """The same methods, to be awaited: `async with TaskQueue(root).aio as queue: await queue.get_next_task(…)`."""
        from orchestrator.aio import AsyncQueue

        return AsyncQueue(TaskQueue(self.root))

    # -- who works --------------------------------------------------------------------------

    def register_agent(
        self, agent_id: str, capabilities: Sequence[str] = (), metadata: Mapping[str, Scalar] | None = None,
        agent_type: str = "worker", replace: bool = False,
    ) -> Worker:  # fmt: skip
        """Take a worker in. `metadata` may hold max_concurrent_tasks (1 if not); the rest of it is kept as it is.

        With `replace`, one of that id that still lives is done with: what it has waits again, and its reports come
        too late. Raises OrchestrateError for what cannot be; AlreadyExists.
        """
        if agent_id in config.load_or_last(self.root)[0].agent_table():
            raise AlreadyExists(f"{agent_id}: an agent of config.yaml has that name; choose another")
        self.make_folders()
        worker = self.roster.register(agent_id, capabilities, metadata, agent_type, replace)
        for held in self.pull.held(agent_id):  # of one that is gone
            self.pull.end(held, Report(Outcome.KILLED, f"another {agent_id} has registered", given_back=True))
        self._left.pop(agent_id, None)
        return worker

    def unregister_agent(self, agent_id: str) -> None:
        """Forget a worker. Raises NotFound; Refused while it has a task."""
        if held := [one.id for one in self.pull.held(agent_id)]:
            raise Refused(f"{agent_id}: has {', '.join(held)}; complete or fail that first")
        self.roster.unregister(agent_id)

    # -- add --------------------------------------------------------------------------------

    def create_task(
        self, content: str, task_type: str | None = None, priority: str | int | None = None,
        requirements: Sequence[str] = (), dependencies: Sequence[str] = (), **fields: Value,
    ) -> str:  # fmt: skip
        """Add a task, durably; its id. `fields`: every other key of a task file. Raises as `add`."""
        given: dict[str, Value] = {
            "task_type": task_type,
            "priority": priority,
            "requirements": requirements or None,
            "dependencies": dependencies or None,
        }
        return self.add(content, **{k: v for k, v in {**given, **fields}.items() if v is not None})

    add_task, create_tasks = create_task, Looking.add_tasks

    def put_all(self, rows: Sequence[Mapping[str, Value]], max_size: int = 1000, unique: bool = False) -> list[str]:
        """As the spool does it; and the next claim here knows of it."""
        added = super().put_all(rows, max_size, unique)
        self.offers.hear(added)
        return added

    # -- work -------------------------------------------------------------------------------

    def poll_tasks(self, agent_id: str, status: str = "pending", limit: int = 10) -> list[TaskStatus]:
        """What this worker could claim now, the best first (`pending`), or has (`assigned`). Says that it lives."""
        worker = self._heard(agent_id)
        if status == "assigned":
            return [self.get_task_status(one.id) for one in self.pull.held(agent_id)[: checked_limit(limit)]]
        if status != "pending":
            raise OrchestrateError(f"status: write pending or assigned, not {printable(status)!r}")
        return [status_of(entry) for entry in islice(self.offers.all(worker), min(checked_limit(limit), 1 << 60))]

    def get_next_task(self, agent_id: str) -> Assignment | None:
        """Claim the best task that this worker can do, durably; None if there is none. Raises NotFound; Refused if it
        has as many as it takes already."""
        return next(iter(self.claim_tasks(agent_id)), None)

    def claim_tasks(self, agent_id: str, limit: int = 1) -> list[Assignment]:
        """Claim the best tasks that this worker can do, as many as it takes (`limit` at most); they share the cost of
        being durable. Raises as `get_next_task`."""
        worker = self._heard(agent_id)
        count = min(checked_limit(limit), self._room(worker))
        for again in (False, True):
            if found := self._claim(self.offers.best(worker, again), worker, count):
                return found
        return []

    def assign_task(self, task_id: str, agent_id: str) -> Assignment:
        """Claim this very task for a worker, durably. Raises NotFound, Refused with the reason why not."""
        worker = self._heard(agent_id)
        self._room(worker)
        now = time.time()
        intake, entry = self.offers.one(task_id)
        if entry is None:
            raise Refused(f"{task_id}: is {self.require(task_id)}; only what waits can be claimed")
        if problem := self.offers.cannot(worker, entry, now):
            raise Refused(f"{task_id}: {problem}")
        content = intake.current(entry, now)
        intake.waiting.take(task_id)
        if content is None or not (found := self._claim([(entry, content)], worker, 1)):
            raise Refused(f"{task_id}: somebody else was faster, or it was changed in that moment; look again")
        return found[0]

    def start_task(self, task_id: str, agent_id: str = "", run: int = 0) -> None:
        """The worker begins. Raises Refused if the run is not its own."""
        self.pull.progress(self._whose(task_id, agent_id, run), 0, begins=True)

    def heartbeat(self, agent_id: str, task_id: str = "", run: int = 0) -> None:
        """The worker lives; with a task, it still works on that. Raises NotFound, Refused."""
        self._heard(agent_id)
        if task_id:
            with self.pull.reporting(self._whose(task_id, agent_id, run)):
                pass

    def report_progress(
        self, task_id: str, percent: float, findings: Any = None, agent_id: str = "", run: int = 0
    ) -> None:
        """How far it is (0 to 100), and what was found so far: any JSON value. Durable. Raises Refused.

        Without `agent_id` and `run` it is the run that there is now, a worker's or the dispatcher's.
        """
        self.pull.progress(self._whose(task_id, agent_id, run), percent, findings)

    def complete_task(
        self, task_id: str, result: str | Mapping[str, Any] = "", metrics: Mapping[str, Any] | None = None,
        agent_id: str = "", run: int = 0,
    ) -> Result:  # fmt: skip
        """It is done. `result`: the answer, or a mapping with `text` and what the pages shall learn (`notes`,
        `known_issues`, `files_modified`, …). `metrics`: numbers; `input`, `output` and `cached` are tokens, `cost_usd`
        is money. Without `agent_id` and `run` it is the run that there is now. With no text, what the worker wrote to
        its output file is the answer.

        Durable, and merged, when it returns. Raises Refused if the run is not the worker's any more; the report is
        kept beside it then.
        """
        text, facts = report.split(result)
        said = Report(Outcome.SUCCESS, "", text, facts, report.checked_metrics(metrics or {}))
        return self._report(task_id, agent_id, run, said)

    def fail_task(
        self, task_id: str, error: str, should_retry: bool | None = None, agent_id: str = "", run: int = 0
    ) -> Result:
        """It did not work. `should_retry`: None as the rules say, False never. Raises Refused, as `complete_task`."""
        said = Report(Outcome.AGENT_ERROR, report.what_went_wrong(error), should_retry=should_retry)
        return self._report(task_id, agent_id, run, said)

    def give_back(self, task_id: str, agent_id: str, run: int, why: str) -> Result:
        """It was not done, through no fault of its own: it waits again, and nothing is counted. Raises Refused."""
        said = Report(Outcome.KILLED, printable(why, 500), given_back=True)
        return self._report(task_id, agent_id, run, said)

    # -- inside -----------------------------------------------------------------------------

    def _tell(self, kind: str, task_id: str, text: str, at: float = 0.0, **facts: Any) -> None:
        self._journal.hear(Event(at or time.time(), kind, task_id, text, facts))
        if not self._is_claiming:
            self._journal.flush()

    def _tell_of_files(self, kind: str, task_id: str, text: str) -> None:
        if kind not in ("submitted", "waiting"):  # every worker meets what comes; it is told once, at the claim
            self._tell(kind, task_id, text)

    def _heard(self, agent_id: str) -> Worker:
        worker = self.roster.worker(agent_id)
        self.roster.beat(agent_id)
        learned = self._performance.of(agent_id, time.time()).learned
        return worker._replace(capabilities=tuple(dict.fromkeys((*worker.capabilities, *learned))))

    def _room(self, worker: Worker) -> int:
        """How many more it may take. Raises Refused if none."""
        # Nobody else claims for it: what was counted can only have become less.
        if self._left.get(worker.agent_id, 0) < 1:
            held = [one.id for one in self.pull.held(worker.agent_id)]
            if len(held) >= worker.max_concurrent_tasks:
                names = f"{', '.join(held[:5])}{' …' if len(held) > 5 else ''}"
                raise Refused(
                    f"{worker.agent_id}: has {names} already (max_concurrent_tasks: {worker.max_concurrent_tasks})"
                )
            self._left[worker.agent_id] = worker.max_concurrent_tasks - len(held)
        return self._left[worker.agent_id]

    def _claim(self, wanted: Iterable[tuple[Entry, bytes]], worker: Worker, most: int) -> list[Assignment]:
        self._is_claiming = True
        try:
            found = self.pull.claim(wanted, worker, most)
        finally:
            self._is_claiming = False
            self._journal.flush()  # of all of them in one piece
        self._left[worker.agent_id] -= len(found)
        return [assignment(held, entry) for held, entry in found]

    def _whose(self, task_id: str, agent_id: str, run: int) -> Held:
        """The run that a report is about: as it says, else the one that there is now."""
        if not report.checked_run(run) or not agent_id:
            slot, _, number = history.holder(self, task_id)
            if not number:
                raise Refused(f"{task_id}: nobody has it (it is {self.require(task_id)}); claim it first")
            agent_id, run = agent_id or slot, run or number
        else:
            self.require(task_id)
        return Held(task_id, agent_id, run, self.run_folder(task_id, run))

    def _report(self, task_id: str, agent_id: str, run: int, said: Report) -> Result:
        held = self._whose(task_id, agent_id, run)
        if is_slot(held.slot):
            raise Refused(
                f"{task_id}: the dispatcher started run {held.number} on {held.slot}, and judges it by its end"
            )
        result = self.pull.report(held, said)
        self.offers.hear([task_id], result.state)
        return result


__all__ = ["Assignment", "TaskQueue", "TaskStatus"]
