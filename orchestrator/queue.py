"""`TaskQueue`: the queue as Python programs use it. Add, look, and work: everything that a worker, a shell or MCP needs.

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
from typing import Any, NamedTuple

from orchestrator import config, history, runs
from orchestrator.errors import InvalidTask, NotFound, OrchestrateError, Refused
from orchestrator.intake import Intake
from orchestrator.names import nearest, printable
from orchestrator.pull import Held, Pull
from orchestrator.reading import read_bytes
from orchestrator.roster import Roster, Worker
from orchestrator.runs import FACTS, Result, epoch, utc
from orchestrator.spool import Spool
from orchestrator.states import ENDED, Outcome, Priority, State
from orchestrator.task import Task, parse
from orchestrator.waiting import Entry
from orchestrator.writing import Scalar, Value

LOOK_SECONDS = 0.2  # between two looks at all of pending/, while there is still something to claim


class TaskStatus(NamedTuple):
    """What is known of one task now."""

    task_id: str
    status: str  # pending, assigned, running, completed, failed, review
    title: str
    priority: str
    task_type: str = ""
    agent_id: str = ""
    run: int = 0
    percent: float | None = None  # of the run that it is in
    finding: Any = None  # the last one
    reason: str = ""
    output_file: str = ""  # relative to the root
    since: str = ""  # UTC: when it came, was claimed, or ended


class Assignment(NamedTuple):
    """A task that is a worker's: what to do, and the number that its reports have to carry."""

    task_id: str
    run: int
    description: str
    prompt_file: str  # the whole text, with context and the answers of what it depends on
    output_file: str  # where an answer may be written
    task_type: str = ""
    priority: str = "normal"
    requirements: tuple[str, ...] = ()


class TaskQueue(Spool):
    """The queue of files below `root`. Any number of processes may use it at once; one object is for one thread."""

    def __init__(self, root: str) -> None:
        super().__init__(os.path.abspath(root))
        self.roster = Roster(self.own)
        self._pull = Pull(self, self.roster)
        self._intake: Intake | None = None
        self._looked = 0.0
        self._left: dict[str, int] = {}  # worker → how many it may claim before its tasks are counted again

    # -- who works --------------------------------------------------------------------------

    def register_agent(
        self, agent_id: str, capabilities: Sequence[str] = (), metadata: Mapping[str, Scalar] | None = None,
        agent_type: str = "worker", replace: bool = False,
    ) -> Worker:  # fmt: skip
        """Take a worker in. Raises OrchestrateError, AlreadyExists."""
        self.make_folders()
        return self.roster.register(agent_id, capabilities, metadata, agent_type, replace)

    def unregister_agent(self, agent_id: str) -> None:
        """Forget a worker. Raises NotFound; Refused while it has a task."""
        if held := [one.id for one in self._pull.held() if one.slot == agent_id]:
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
            "requirements": tuple(requirements) or None,
            "dependencies": tuple(dependencies) or None,
        }
        return self.add(content, **{k: v for k, v in {**given, **fields}.items() if v is not None})

    def add_task(self, content: str, **fields: Any) -> str:
        """`create_task` under its other name."""
        return self.create_task(content, **fields)

    # -- work -------------------------------------------------------------------------------

    def poll_tasks(self, agent_id: str, status: str = "pending", limit: int = 10) -> list[TaskStatus]:
        """What this worker could claim now, the best first (`pending`), or has (`assigned`). Says that it lives."""
        worker = self._heard(agent_id)
        if status == "assigned":
            return [self.get_task_status(one.id) for one in self._pull.held() if one.slot == agent_id][:limit]
        if status != "pending":
            raise OrchestrateError(f"status: write pending or assigned, not {status!r}")
        intake, now = self._up_to_date(True), time.time()
        able = (entry for entry in intake.waiting.in_order(now) if self._may(worker, entry, now))
        return [self._waiting_status(entry) for _, entry in zip(range(limit), able, strict=False)]

    def get_next_task(self, agent_id: str) -> Assignment | None:
        """Claim the best task that this worker can do, durably; None if there is none. Raises NotFound, Refused."""
        worker = self._heard(agent_id)
        self._room(worker)
        for again in (False, True):
            intake = self._up_to_date(again)
            while entry := intake.waiting.best(time.time(), lambda one: self._may(worker, one, time.time())):
                if assignment := self._claim(intake, entry, worker):
                    return assignment
        return None

    def assign_task(self, task_id: str, agent_id: str) -> Assignment:
        """Claim this very task for a worker, durably. Raises NotFound, Refused with the reason why not."""
        worker = self._heard(agent_id)
        self._room(worker)
        intake = self._up_to_date(True)
        entry = intake.waiting.by_id.get(task_id)
        if entry is None:
            raise Refused(f"{task_id}: is {self.require(task_id)}; only what waits can be claimed")
        if problem := self._cannot(worker, entry, time.time()):
            raise Refused(f"{task_id}: {problem}")
        if assignment := self._claim(intake, entry, worker):
            return assignment
        raise Refused(f"{task_id}: somebody else was faster, or it was changed in that moment; look again")

    def start_task(self, task_id: str, agent_id: str = "", run: int = 0) -> None:
        """The worker begins. Raises Refused if the run is not its own."""
        self.report_progress(task_id, 0, agent_id=agent_id, run=run)

    def heartbeat(self, agent_id: str, task_id: str = "", run: int = 0) -> None:
        """The worker lives; with a task, it still works on that. Raises NotFound, Refused."""
        if task_id:
            self._pull.heartbeat(*self._whose(task_id, agent_id, run))
        else:
            self._heard(agent_id)

    def report_progress(
        self, task_id: str, percent: float, findings: Any = None, agent_id: str = "", run: int = 0
    ) -> None:
        """How far it is (0 to 100), and what was found so far: any JSON value. Durable. Raises Refused."""
        self._pull.progress(*self._whose(task_id, agent_id, run), percent, findings)

    def complete_task(
        self, task_id: str, result: str | Mapping[str, Any] = "", metrics: Mapping[str, Any] | None = None,
        agent_id: str = "", run: int = 0,
    ) -> Result:  # fmt: skip
        """It is done. `result`: the answer, or a mapping with `text` and what the pages shall learn (`notes`,
        `known_issues`, `files_modified`, …). Without `agent_id` and `run` it is the run that there is now.

        Durable, and merged, when it returns. Raises Refused if the run is not the worker's any more.
        """
        facts: Mapping[str, Any] = {} if isinstance(result, str) else result
        if unknown := [key for key in facts if key not in (*FACTS, "text")]:
            raise OrchestrateError(f"result: unknown key {unknown[0]!r}{nearest(unknown[0], (*FACTS, 'text'))}")
        text = result if isinstance(result, str) else str(facts.get("text", ""))
        return self._pull.complete(*self._whose(task_id, agent_id, run), text, facts, metrics or {})

    def fail_task(
        self, task_id: str, error: str, should_retry: bool | None = None, agent_id: str = "", run: int = 0
    ) -> Result:
        """It did not work. `should_retry`: None as the rules say, False never. Raises Refused, as `complete_task`."""
        return self._pull.fail(*self._whose(task_id, agent_id, run), printable(error, 500), should_retry)

    # -- look -------------------------------------------------------------------------------

    def get_task_status(self, task_id: str) -> TaskStatus:
        """What is known of it now. Raises NotFound."""
        state = self.require(task_id)
        if state is State.PENDING:
            entry = self._up_to_date(True).waiting.by_id.get(task_id)
            return self._waiting_status(entry) if entry else TaskStatus(task_id, "pending", "", "")
        task = self._task(state, task_id)
        if state is State.ASSIGNED:
            names = self.assignments().get(task_id, [""])
            slot, _, run = runs.assigned_run(f"{self.tasks}/{State.ASSIGNED}/{names[-1]}")
            folder = self.run_folder(task_id, run)
            percent, finding = runs.last_progress(folder)
            is_running = percent is not None or runs.is_alive(folder)
            record = runs.read_record(folder)
            return self._status(
                task, "running" if is_running else "assigned", agent_id=slot, run=run, percent=percent,
                finding=finding, since=utc(record.started_at) if record else "",
            )  # fmt: skip
        result = history.result_of(self, task_id, state)
        if result is None:
            return self._status(task, str(state))
        return self._status(
            task, str(state), agent_id=result.agent_id, run=result.run, reason=result.reason,
            output_file=result.output_file, since=utc(result.completed_at),
        )  # fmt: skip

    def list_tasks(self, status: str = "") -> list[TaskStatus]:
        """All tasks, or those of one status, in the order of their life."""
        return self.query_tasks({"status": status} if status else {})

    def query_tasks(self, filters: Mapping[str, Any] | None = None) -> list[TaskStatus]:
        """Tasks by `status`, `task_type`, `agent_id`, `priority`, `created_after`, `created_before`, `limit`.

        A task was created when its file says so, else when that was written. Raises OrchestrateError.
        """
        wanted = dict(filters or {})
        known = ("status", "task_type", "agent_id", "priority", "created_after", "created_before", "limit")
        if unknown := [key for key in wanted if key not in known]:
            raise OrchestrateError(f"unknown filter {unknown[0]!r}{nearest(unknown[0], known)}")
        limit = int(wanted.pop("limit", 1 << 30))
        after, before = (epoch(wanted.pop(key, "")) for key in ("created_after", "created_before"))
        found: list[TaskStatus] = []
        for task_id in self._ids(str(wanted.get("status", ""))):
            try:
                status = self.get_task_status(task_id)
            except NotFound:  # it has moved on in this moment
                continue
            if any(str(getattr(status, key)) != str(value) for key, value in wanted.items()):
                continue
            if (after or before) and not after <= self._created_at(task_id) <= (before or 1e18):
                continue
            found.append(status)
            if len(found) == limit:
                break
        return found

    def get_queue_statistics(self) -> dict[str, float]:
        """Counts by state, and the share of ended tasks that ended well (1.0 if none has ended)."""
        count = {state: self.count(state) for state in State}
        running = sum(1 for one in self._ids("assigned") if self.get_task_status(one).status == "running")
        ended = sum(count[state] for state in ENDED)
        return {
            "pending_count": count[State.PENDING],
            "assigned_count": count[State.ASSIGNED] - running,
            "running_count": running,
            "completed_count": count[State.COMPLETED],
            "failed_count": count[State.FAILED],
            "review_count": count[State.REVIEW],
            "success_rate": count[State.COMPLETED] / ended if ended else 1.0,
        }

    # -- inside -----------------------------------------------------------------------------

    def _heard(self, agent_id: str) -> Worker:
        worker = self.roster.worker(agent_id)
        self.roster.beat(agent_id)
        return worker

    def _room(self, worker: Worker) -> None:
        # Nobody else claims for it: what was counted can only have become less.
        if self._left.get(worker.agent_id, 0) < 1:
            most, ending = worker.max_concurrent_tasks, f"@{worker.agent_id}.yaml"
            held = [name for name in self.names(State.ASSIGNED) if name.endswith(ending)]
            if len(held) >= most:
                names = ", ".join(name.removesuffix(ending) for name in held[:5])
                raise Refused(f"{worker.agent_id}: has {names} already (max_concurrent_tasks: {most})")
            self._left[worker.agent_id] = most - len(held)
        self._left[worker.agent_id] -= 1

    def _up_to_date(self, now: bool) -> Intake:
        """The index of what waits; looked at again if asked for, or if the last look is some time ago."""
        if self._intake is None:
            self._intake = Intake(self, config.load(self.root), (), lambda kind, task_id, text: None)
            self.make_folders()
        if now or time.monotonic() - self._looked > LOOK_SECONDS:
            workers = self.roster.all()
            names = [*config.load(self.root).agent_table(), *(w.agent_id for w in workers)]
            self._intake.agents = [*names, *(w.agent_type for w in workers)]
            self._intake.look(None, time.time())
            while self._intake.next_look() == 1.0:
                self._intake.go_on(time.time())
            self._looked = time.monotonic()
        return self._intake

    def _cannot(self, worker: Worker, entry: Entry, now: float) -> str:
        task = entry.task
        if entry.unmet:
            return f"waits for {', '.join(sorted(entry.unmet))}"
        if entry.attempt.not_before > now:
            return f"is not tried again before {utc(entry.attempt.not_before)}"
        if task.preferred_agent not in (None, worker.agent_id, worker.agent_type):
            return f"is for {task.preferred_agent}"
        if task.run is not None:
            return "has a 'run:' script, which only a shell agent runs"
        lacking = [one for one in task.requirements if one not in worker.capabilities]
        return (
            f"needs {', '.join(lacking)}; {worker.agent_id} has {', '.join(worker.capabilities) or 'none'}"
            if lacking
            else ""
        )

    def _may(self, worker: Worker, entry: Entry, now: float) -> bool:
        return not self._cannot(worker, entry, now)

    def _claim(self, intake: Intake, entry: Entry, worker: Worker) -> Assignment | None:
        content = intake.current(entry, time.time())
        intake.waiting.take(entry.task.id)
        if content is None:
            return None
        try:
            held = self._pull.claim(entry.task, entry.name, content, worker)
        except Refused:
            return None
        return _assignment(held, entry)

    def _whose(self, task_id: str, agent_id: str, run: int) -> tuple[str, str, int]:
        """The run that a report is about: as it says, else the one that there is now."""
        if agent_id and run:
            return task_id, agent_id, run
        self.require(task_id)
        names = self.assignments().get(task_id, [])
        if not names or "@" not in names[-1]:
            raise Refused(f"{task_id}: no worker has it (it is {self.require(task_id)}); claim it first")
        slot, _, number = runs.assigned_run(f"{self.tasks}/{State.ASSIGNED}/{names[-1]}")
        return task_id, agent_id or slot, run or number

    def _task(self, state: State, task_id: str) -> Task:
        try:
            return parse(read_bytes(self.path(state, task_id)), task_id)
        except (InvalidTask, OSError):
            return Task(id=task_id, description="(its file cannot be read)")

    def _status(self, task: Task, status: str, **more: Any) -> TaskStatus:
        priority = Priority.NORMAL if task.priority is None else task.priority
        return TaskStatus(task.id, status, task.title, priority.name.lower(), task.task_type or "", **more)

    def _waiting_status(self, entry: Entry) -> TaskStatus:
        return self._status(entry.task, "pending", since=utc(entry.arrival))._replace(
            priority=entry.priority.name.lower()
        )

    def _ids(self, status: str) -> Iterable[str]:
        if status and status not in ("running", *State):
            raise OrchestrateError(f"status {status!r}{nearest(status, ('running', *State))}")
        for state in (State.PENDING, State.ASSIGNED, *ENDED):
            if status in ("", str(state)) or (status == "running" and state is State.ASSIGNED):
                yield from self._up_to_date(True).waiting.by_id if state is State.PENDING else self.ids(state)

    def _created_at(self, task_id: str) -> float:
        state = self.require(task_id)
        task = self._task(state, task_id)
        return task.created_at.timestamp() if task.created_at else os.stat(self.path(state, task_id)).st_mtime


def _assignment(held: Held, entry: Entry) -> Assignment:
    task = entry.task
    return Assignment(
        task.id, held.number, task.description, f"{held.folder}/prompt.md", f"{held.folder}/output.md",
        task.task_type or "", entry.priority.name.lower(), task.requirements,
    )  # fmt: skip


__all__ = ["Assignment", "Outcome", "TaskQueue", "TaskStatus"]
