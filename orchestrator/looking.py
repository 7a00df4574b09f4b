"""The queue as programs look at it: what is known of a task, of many, of all. Changes nothing."""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from orchestrator import config, history, ids, progress, runs
from orchestrator.errors import InvalidTask, NotFound, OrchestrateError
from orchestrator.names import PRIORITIES, count_problem, natural, nearest, printable
from orchestrator.places import is_slot, is_task_name
from orchestrator.reading import read_bytes
from orchestrator.runs import epoch, utc
from orchestrator.spool import Spool
from orchestrator.states import ENDED, Priority, State
from orchestrator.task import Task, parse
from orchestrator.waiting import FRESH, Entry, Waiting, stamp_of

STATUSES = ("pending", "assigned", "running", "completed", "failed", "review")
IN_ORDER = 1000  # of so many that wait all are read, to list them as they would be served; more are listed by name
NEIGHBOURS = 100  # while no more wait, `why` looks at what the others are, too
FILTERS = ("status", "task_type", "agent_id", "priority", "created_after", "created_before", "limit")


class TaskStatus(NamedTuple):
    """What is known of one task now."""

    task_id: str
    status: str  # pending, assigned, running, completed, failed, review
    title: str
    priority: str  # high, normal, low
    task_type: str = ""
    agent_id: str = ""
    run: int = 0
    percent: float | None = None  # of the run that it is in
    finding: Any = None  # the last one
    reason: str = ""
    output_file: str = ""  # relative to the root
    since: str = ""  # UTC: when it came, was claimed, or ended


def status_of(entry: Entry) -> TaskStatus:
    """What is known of a task that waits."""
    task, priority = entry.task, entry.priority.name.lower()
    return TaskStatus(task.id, "pending", task.title, priority, task.task_type or "", since=utc(entry.arrival))


def checked_limit(limit: int, least: int = 1) -> int:
    """Raises OrchestrateError for what is none."""
    if problem := count_problem(limit, least):
        raise OrchestrateError(f"limit: {problem}")
    return limit


class Looking(Spool):
    """A spool, and what programs ask about it."""

    def get_task_status(self, task_id: str) -> TaskStatus:
        """What is known of it now. Raises NotFound."""
        state = self.require(task_id)
        for _ in range(10):  # it may move on while we look
            found = self._status(state, task_id, self._default_priority(), self._path(state, task_id))
            if found is not None:
                return found
            state = self.require(task_id)
        raise NotFound(f"{task_id}: moves too fast; look again")

    def list_tasks(self, status: str = "") -> list[TaskStatus]:
        """All tasks, or those of one status: what waits first, as it would be served (of more than 1,000: by the names
        of their files), then as it goes on."""
        return self.query_tasks({"status": status} if status else {})

    def query_tasks(self, filters: Mapping[str, Any] | None = None) -> list[TaskStatus]:
        """Tasks by `status`, `task_type`, `agent_id`, `priority`, `created_after`, `created_before`, `limit`.

        A task was created when its file says so, else when that was written; a moment is a time of ISO 8601
        (without an offset: local), or seconds since the epoch. Raises OrchestrateError.
        """
        if not isinstance(filters or {}, Mapping):
            raise OrchestrateError(f"filters: write a mapping, not {printable(repr(filters))}")
        wanted = dict(filters or {})
        if unknown := [key for key in wanted if key not in FILTERS]:
            raise OrchestrateError(f"unknown filter {unknown[0]!r}{nearest(unknown[0], FILTERS)}")
        status = str(wanted.pop("status", "") or "")
        if status and status not in STATUSES:
            raise OrchestrateError(f"status: write one of {', '.join(STATUSES)}{nearest(status, STATUSES)}")
        if "priority" in wanted and str(wanted["priority"]) not in PRIORITIES:
            raise OrchestrateError(f"priority: write high, normal or low, not {wanted['priority']!r}")
        limit = wanted.pop("limit", None)
        if limit is not None:
            checked_limit(limit, 0)
        after, before = (_moment(key, wanted.pop(key, None)) for key in ("created_after", "created_before"))
        found: list[TaskStatus] = []
        normal = self._default_priority()
        for state, task_id, path in self._those(status):
            if limit is not None and len(found) >= limit:
                break
            one = self._status(state, task_id, normal, path)
            if one is None or status not in ("", one.status):
                continue
            if any(str(getattr(one, key)) != str(value) for key, value in wanted.items()):
                continue
            if (after is None and before is None) or self._created(path, task_id, after, before):
                found.append(one)
        return found

    def get_queue_statistics(self) -> dict[str, float]:
        """Counts by state, and the share of ended tasks that ended well (1.0 if none has ended)."""
        count = {state: self.count(state) for state in State}
        running = sum(1 for one in self.ids(State.ASSIGNED) if self._is_running(one, history.holder(self, one)))
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

    def task_of(self, task_id: str) -> Task:
        """The task as its file states it. Raises NotFound, InvalidTask."""
        for _ in range(10):  # it may move on while we look
            try:
                return parse(read_bytes(self._path(self.require(task_id), task_id)), task_id)
            except FileNotFoundError:
                continue
        raise NotFound(f"{task_id}: moves too fast; look again")

    def index(self, now: float, invalid: dict[str, str] | None = None) -> Waiting:
        """pending/, read as the dispatcher reads it, touching nothing. What is no task goes to `invalid`: the name of
        its file → why it will be rejected."""
        ran = None if self.few_files(IN_ORDER) else self.ran()
        return self.index_of((entry.name for entry in self.pending_files()), now, invalid, None, ran)

    def index_of(
        self, names: Iterable[str], now: float, invalid: dict[str, str] | None = None,
        settings: config.QueueConfig | None = None, ran: Container[str] | None = None,
    ) -> Waiting:  # fmt: skip
        """`index`, of these files alone. `settings`: if they have been read; `ran`: if they have been listed."""
        settings = settings or config.load_or_last(self.root)[0].queue
        waiting = Waiting(settings.promote_low_after_minutes * 60)
        ended: dict[str, State | None] = {}  # many may wait for the same one
        for name in names:
            path = f"{self.tasks}/{State.PENDING}/{name}"
            try:
                status = os.lstat(path)
                task = parse(read_bytes(path), name.rpartition(".")[0])
            except FileNotFoundError:
                continue
            except InvalidTask as reason:
                if invalid is not None:
                    invalid[name] = str(reason)
                continue
            priority = settings.default_priority if task.priority is None else task.priority
            attempt = FRESH if ran is not None and task.id not in ran else history.attempts(self, task.id)
            one = Entry(task, name, status.st_mtime, stamp_of(status), priority, attempt)
            ended.update((d, self.ended_as(d)) for d in task.dependencies if d not in ended)
            waiting.put(one, [d for d in task.dependencies if ended[d] is not State.COMPLETED], now)
        return waiting

    def beside(self, name: str, now: float, invalid: dict[str, str] | None = None) -> Waiting:
        """What waits, as far as it is looked at to say who would do the task of this file of pending/ ("": of another):
        all while few wait; of more than NEIGHBOURS it alone."""
        if self.few_files(NEIGHBOURS):
            return self.index(now, invalid)
        return self.index_of([name] if name else [], now, invalid)

    def few_files(self, most: int) -> bool:
        """Whether not more than so many files wait; of more, no more are looked at."""
        return next(islice(self.pending_files(), most, None), None) is None

    def by_name(self) -> Iterator[str]:
        """The names of the files that wait, in the order of names; who takes the first few pays for few."""
        names = self.names(State.PENDING)
        heapq.heapify(names)
        while names:
            if is_task_name(name := heapq.heappop(names)):
                yield name

    def ended_as(self, task_id: str) -> State | None:
        """A task's folder; of an archived one, the folder it was in."""
        state = self.state_of(task_id)
        if state is None and (path := self.archived(task_id)):
            return State(os.path.basename(os.path.dirname(path)))
        return state

    # -- inside -----------------------------------------------------------------------------

    def _those(self, status: str) -> Iterator[tuple[State, str, str]]:
        """State, id, path of the file."""
        if status in ("", "pending"):
            yield from ((State.PENDING, *one) for one in self._waiting())
        for state in (State.ASSIGNED, *ENDED):
            if status in ("", str(state)) or (status == "running" and state is State.ASSIGNED):
                yield from ((state, one, self.path(state, one)) for one in self.ids(state))

    def _waiting(self) -> Iterator[tuple[str, str]]:
        """Id and path of what waits, as it would be served if nothing held it; of more than IN_ORDER, in the order of
        names. What is no task is passed over."""
        normal = self._default_priority()
        in_order = self.few_files(IN_ORDER)
        rows = []
        for name in self.by_name():
            path = f"{self.tasks}/{State.PENDING}/{name}"
            try:
                task = parse(read_bytes(path), name.rpartition(".")[0])
                arrival = os.lstat(path).st_mtime
            except (InvalidTask, OSError):
                continue
            if not in_order:
                yield task.id, path
                continue
            rows.append((normal if task.priority is None else task.priority, arrival, natural(task.id), task.id, path))
        yield from (row[-2:] for row in sorted(rows))

    def _default_priority(self) -> Priority:
        return config.load_or_last(self.root)[0].queue.default_priority

    def _path(self, state: State, task_id: str) -> str:
        """Its file; in pending/ it may bear another name than its id."""
        path = self.path(state, task_id)
        if state is State.PENDING and not os.path.lexists(path):
            path = f"{self.tasks}/{state}/{ids.file_of(self, task_id) or f'{task_id}.yaml'}"
        return path

    def _status(self, state: State, task_id: str, normal: Priority, path: str) -> TaskStatus | None:
        """None if it is not there any more. `normal`: of what states no priority."""
        try:
            arrival = os.stat(path).st_mtime
            task = parse(read_bytes(path), task_id)
        except InvalidTask as problem:
            task = Task(id=task_id, description=f"(cannot be read: {problem})")
        except OSError:
            return None
        priority = normal if task.priority is None else task.priority
        status = TaskStatus(task_id, str(state), task.title, priority.name.lower(), task.task_type or "")
        if state is State.PENDING:
            attempt = history.attempts(self, task_id)
            return status._replace(since=utc(arrival), run=attempt.made, reason=attempt.last_reason)
        if state is State.ASSIGNED:
            return self._claimed(status)
        result = history.result_of(self, task_id, state)
        if result is None:
            return status
        return status._replace(
            agent_id=result.agent_id,
            run=result.run,
            reason=result.reason,
            output_file=result.output_file,
            since=utc(result.completed_at),
        )

    def _claimed(self, status: TaskStatus) -> TaskStatus:
        agent_id, _, run = holder = history.holder(self, status.task_id)
        folder = self.run_folder(status.task_id, run)
        percent, finding = progress.last(folder)
        record = runs.read_record(folder)
        return status._replace(
            status="running" if self._is_running(status.task_id, holder) else "assigned",
            agent_id=agent_id,
            run=run,
            percent=percent,
            finding=finding,
            since=utc(record.started_at) if record else "",
        )

    def _is_running(self, task_id: str, holder: tuple[str, str, int]) -> bool:
        """A worker says that it has begun; of what the dispatcher started the kernel knows."""
        agent_id, _, run = holder
        if not is_slot(agent_id):
            return os.path.exists(f"{self.run_folder(task_id, run)}/progress.jsonl")
        return bool(run) and runs.is_alive(self.run_folder(task_id, run))

    def _created(self, path: str, task_id: str, after: float | None, before: float | None) -> bool:
        try:
            task, written = parse(read_bytes(path), task_id), os.stat(path).st_mtime
        except (InvalidTask, OSError):
            return False
        at = task.created_at.timestamp() if task.created_at else written
        return (after is None or at >= after) and (before is None or at <= before)


def _moment(key: str, value: object) -> float | None:
    if value is None or value == "":
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    stamp = getattr(value, "timestamp", None)
    if callable(stamp):
        return float(stamp())
    if at := epoch(value):
        return at
    raise OrchestrateError(f"{key}: write a time such as {utc(time.time())}, not {str(value)!r}")
