"""What the reading commands know, as plain values; works with no dispatcher running and changes nothing."""

from __future__ import annotations

import heapq
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from orchestrator import history, ids, progress, router, runs
from orchestrator.cli import rejects
from orchestrator.cli.settings import usable
from orchestrator.cli.status import dispatcher, flat, halted, how_far, over
from orchestrator.errors import InvalidTask, OrchestrateError
from orchestrator.looking import IN_ORDER, Looking
from orchestrator.names import printable
from orchestrator.places import Places, is_slot
from orchestrator.reading import read_bytes
from orchestrator.registry import AgentRegistry, clock
from orchestrator.router import AgentView
from orchestrator.states import ENDED, Priority, State
from orchestrator.task import Task, parse
from orchestrator.waiting import Entry, Waiting

LISTS = ("files_modified", "notes", "known_issues", "objectives", "questions")  # of a result


class Views:
    """One root, looked at once."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.queue = Looking(root)
        self.config = usable(root)
        self.now = time.time()
        self._waiting: Waiting | None = None
        self._agents: list[AgentView] = []
        self._states: dict[str, State | None] = {}  # as they were when first asked for
        self._rejected = rejects.why(self.queue)
        self.invalid: dict[str, str] = {}  # file name in pending/ → why it will be rejected

    # -- agents -----------------------------------------------------------------------------

    def sizes(self) -> dict[str, int]:
        """What the running dispatcher was told with --agents; {} if none runs."""
        found = (dispatcher(self.root) or {}).get("agents")
        return dict(found) if isinstance(found, dict) else {}

    def registry(self) -> AgentRegistry:
        """The agents that are set up."""
        # Programs are looked up where the dispatcher looks: its PATH may be another than that of this shell.
        path = str((dispatcher(self.root) or {}).get("path") or "") or None
        try:
            return AgentRegistry(self.root, self.config, self.sizes(), path)
        except OrchestrateError:
            return AgentRegistry(self.root, self.config, {}, path)

    def agents(self) -> list[AgentView]:
        """The agents and the workers as they are now."""
        self._agents = self._agents or self.registry().everybody(self.now)
        return self._agents

    # -- what waits -------------------------------------------------------------------------

    def waiting(self) -> Waiting:
        """pending/, read as the dispatcher reads it, touching nothing."""
        if self._waiting is None:
            self._waiting = self.queue.index(self.now, self.invalid)
        return self._waiting

    def state_of(self, task_id: str) -> State | None:
        """A task's folder; of an archived one, the folder it was in."""
        self._look_up((task_id,))
        return self._states[task_id]

    def _look_up(self, wanted: Iterable[str]) -> None:
        """What `state_of` will be asked: one search of what waits for all of it."""
        new = {one: self.queue.ended_as(one) for one in wanted if one not in self._states}
        lost = [one for one, state in new.items() if state is None]
        waits = self._waiting.by_id if self._waiting else ids.files_of(self.queue, lost)
        self._states |= new | {one: State.PENDING for one in lost if one in waits}

    def entry(self, task_id: str) -> Entry | None:
        """One waiting task, read alone; None if it does not wait."""
        if self.queue.state_of(task_id) not in (None, State.PENDING) or not (name := ids.file_of(self.queue, task_id)):
            return None
        return self.queue.index_of([name], self.now, self.invalid, self.config.queue).by_id.get(task_id)

    def why(self, entry: Entry, agents: list[AgentView]) -> str:
        """Why a waiting task does not run."""
        reason = router.why_waiting(entry, agents, self.now, self.state_of, clock, self._rejected)
        if reason == "starts next":
            return halted(self.root) or reason if dispatcher(self.root) else "no dispatcher runs ('orchestrate start')"
        return reason

    # -- rows -------------------------------------------------------------------------------

    def page(
        self, states: set[str], keep: Callable[[dict[str, Any]], bool] | None = None, offset: int = 0, limit: int = 0
    ) -> tuple[list[dict[str, Any]], bool]:
        """One row a task, of those in these states (as the user named them) that `keep` takes: first what waits and
        runs, then what has ended, the newest first; from the `offset`th on, at most `limit` (0: all). Shown in the order
        of a task's life. And whether there are more.

        Of more than IN_ORDER tasks that wait, those of a page are read; they come in the order of their files' names.
        """
        end = min(offset + limit + 1, 1 << 60) if limit else 1 << 60
        rows = list(islice(filter(keep, self._live(states, keep is not None)), end))
        agents = self.agents() if rows else []
        waits = [(row, row["reason"]) for row in rows if isinstance(row["reason"], Entry)]
        self._look_up(one for _, entry in waits for one in entry.unmet)
        for row, entry in waits:  # of those that are shown alone
            row["reason"] = self.why(entry, agents)
        if len(rows) < end and (past := self._past(states, 0 if keep else end - len(rows))):
            found = list(filter(keep, past))
            newest = sorted(range(len(found)), key=lambda place: (-runs.epoch(found[place]["since"]), -place))
            taken = newest[max(0, offset - len(rows)) : end - len(rows) - 1 if limit else None]
            more = bool(limit) and len(rows) + len(found) > offset + limit
            return rows[offset:] + [found[place] for place in sorted(taken)], more
        return rows[offset : end - 1], len(rows) >= end

    def _live(self, states: set[str], all_of_it: bool) -> Iterator[dict[str, Any]]:
        if "pending" in states:
            if self.queue.few_files(IN_ORDER):
                yield from map(self._waits, self.waiting().in_order(self.now))
                for name, reason in self.invalid.items():
                    yield self._bare("pending", printable(name), 0.0, f"will be rejected: {reason}")
            else:
                ran = self.queue.ran() if all_of_it else None
                for name in self.queue.by_name():
                    found = self.queue.index_of([name], self.now, self.invalid, self.config.queue, ran)
                    yield from map(self._waits, found)
                    if name in self.invalid:
                        yield self._bare("pending", printable(name), 0.0, f"will be rejected: {self.invalid[name]}")
        for task_id in self.queue.ids(State.ASSIGNED) if "running" in states else ():
            reason, said = self._who(task_id)
            since = runs.epoch(flat(self.queue.assignment_path(task_id, said[0])).get("assigned_at"))
            row = self._row("running", self.task_at(self.queue.path(State.ASSIGNED, task_id), task_id), since, reason)
            yield {**row, "agent": said[1], "agent_id": said[0]}

    def _waits(self, entry: Entry) -> dict[str, Any]:
        return {**self._row("pending", entry.task, entry.arrival, "", priority=entry.priority), "reason": entry}

    def _past(self, states: set[str], most: int) -> list[dict[str, Any]]:
        """What has ended, and what is no task, by state and name; the newest `most` (0: all), if that saves much."""
        names = [(state, name) for state in ENDED if str(state) in states for name in self.queue.ids(state)]
        bad = sorted(rejects.names(self.queue)) if "rejected" in states else ()
        names += [(State.REJECTED, name) for name in bad]
        if most and len(names) > most + IN_ORDER:
            age = heapq.nlargest(most, range(len(names)), key=lambda place: self._ended_at(*names[place]))
            names = [names[place] for place in sorted(age)]
        return [self._no_task(name) if state is State.REJECTED else self._ended(state, name) for state, name in names]

    def _ended_at(self, state: State, name: str) -> float:
        """When its verdict was written; from one look at it."""
        path = f"{self.queue.tasks}/{state}/{name}"
        try:
            return os.lstat(path if state is State.REJECTED else f"{path}_result.yaml").st_mtime
        except OSError:
            return 0.0

    def _no_task(self, name: str) -> dict[str, Any]:
        path = f"{self.queue.tasks}/{State.REJECTED}/{name}"
        when = os.lstat(path).st_mtime if os.path.lexists(path) else 0.0
        return self._bare("rejected", printable(name), when, rejects.reason_of(path))

    def _who(self, task_id: str) -> tuple[str, tuple[str, str, int]]:
        """Who has a claimed task, in words and as its assignment says."""
        said = runs.assigned_run(self.queue.assignment_path(task_id, self._slot(task_id)))
        if not said[2]:
            return "just claimed", said
        folder = self.queue.run_folder(task_id, said[2])
        how = ", is being cancelled" if os.path.exists(f"{folder}/cancelled") else ""
        how = how_far(*progress.last(folder)) + ((is_slot(said[0]) and over(self.root, folder)) or how)
        return f"{said[1]} {'on ' if is_slot(said[0]) else ''}{said[0]}, run {said[2]}{how}", said

    def _slot(self, task_id: str) -> str:
        names = self.queue.assignments().get(task_id, [""])
        return names[-1].removesuffix(".yaml")[len(task_id) + 1 :]

    def task_at(self, path: str, task_id: str) -> Task:
        """The task of a file; a stand-in if that cannot be read any more."""
        try:
            return parse(read_bytes(path), task_id)
        except (InvalidTask, OSError) as problem:
            return Task(id=task_id, description=f"(cannot be read: {problem})")

    def _ended(self, state: State, task_id: str) -> dict[str, Any]:
        path = self.queue.path(state, task_id)
        result = history.result_of(self.queue, task_id, state)
        when = result.completed_at if result else os.stat(path).st_mtime if os.path.exists(path) else 0.0
        reason = (result.reason or result.output_file) if result else ""
        row = self._row(str(state), self.task_at(path, task_id), when, reason)
        agent = {"agent": result.agent_type, "agent_id": result.agent_id} if result else {}
        return {**row, **agent, "status": str(result.status) if result else ""}

    def _row(
        self, state: str, task: Task, when: float, reason: str, priority: Priority | None = None
    ) -> dict[str, Any]:
        shown = priority if priority is not None else task.priority
        return {
            "task_id": task.id,
            "state": state,
            "priority": (self.config.queue.default_priority if shown is None else shown).name.lower(),
            "agent": task.preferred_agent or "",
            "type": task.task_type or "",
            "since": runs.utc(when) if when else "",
            "seconds": max(0, int(self.now - when)) if when else 0,
            "title": task.title,
            "reason": reason,
        }

    def _bare(self, state: str, name: str, when: float, reason: str) -> dict[str, Any]:
        return {
            "task_id": name, "state": state, "priority": "", "agent": "", "type": "",
            "since": runs.utc(when) if when else "", "seconds": max(0, int(self.now - when)) if when else 0,
            "title": "", "reason": reason,
        }  # fmt: skip

    # -- one task ---------------------------------------------------------------------------

    def find(self, task_id: str) -> tuple[State, str]:
        """State and file of a task, also of one whose file bears another name. Raises NotFound."""
        state = self.queue.state_of(task_id)
        if state is None and (path := self.queue.archived(task_id)):
            return State(os.path.basename(os.path.dirname(path))), path
        if state in (None, State.PENDING) and (name := ids.file_of(self.queue, task_id)):
            return State.PENDING, f"{self.queue.tasks}/{State.PENDING}/{name}"
        if state is None and (rejected := rejects.find(self.queue, task_id)):
            return State.REJECTED, rejected[0]
        return (state := self.queue.require(task_id)), self.queue.path(state, task_id)

    def home(self, task_id: str) -> Places:
        """Where its files are: the spool, or a month of the archive, which is laid out like it."""
        places = Places(self.root)
        if self.queue.state_of(task_id) is None and (path := self.queue.archived(task_id)):
            places.tasks = os.path.dirname(os.path.dirname(path))
            places.runs = f"{places.tasks}/runs"
        return places

    def reason(self, task_id: str, state: State, path: str) -> str:
        """Why it is where it is."""
        if state is State.PENDING:
            entry = self.entry(task_id)
            return self.why(entry, self.agents()) if entry else self.invalid.get(os.path.basename(path), "")
        if state is State.ASSIGNED:
            return self._who(task_id)[0]
        if state is State.REJECTED:
            return rejects.reason_of(path)
        result = history.result_of(self.home(task_id), task_id, state)
        return result.reason if result else ""

    def show(self, task_id: str) -> dict[str, Any]:
        """Everything about one task."""
        state, path = self.find(task_id)
        home = self.home(task_id)
        task = self.task_at(path, re.sub(r"[^\w.-]", "_", task_id) or "task")
        result = history.result_of(home, task_id, state) if state in ENDED else None
        return {
            "task_id": task_id,
            "state": "running" if state is State.ASSIGNED else str(state),
            "reason": self.reason(task_id, state, path),
            "file": os.path.relpath(path, self.root),
            "task": task.words(),
            "runs": [self._run(home, task_id, number) for number in home.run_numbers(task_id)],
            "result": os.path.relpath(home.result_path(state, task_id), self.root)
            if state in ENDED and os.path.exists(home.result_path(state, task_id))
            else None,
            "output": result.output_file if result else None,
            **{key: list(getattr(result, key, ())) for key in LISTS},
        }

    def _run(self, home: Places, task_id: str, number: int) -> dict[str, Any]:
        folder = home.run_folder(task_id, number)
        record = runs.read_record(folder)
        result = runs.read_result(f"{folder}/result.yaml")
        percent, finding = progress.last(folder)
        is_worker = record is not None and not is_slot(record.agent_id)
        alive = history.holder(self.queue, task_id)[2] == number if is_worker else runs.is_alive(folder)
        started = (result.started_at if result else 0.0) or (record.started_at if record else 0.0)
        return {
            "run": number,
            "agent": result.agent_type if result else record.agent_type if record else "",
            "agent_id": result.agent_id if result else record.agent_id if record else "",
            "started_at": runs.utc(started) if started else "",
            "seconds": round(max(0.0, (result.completed_at if result else self.now) - started), 1) if started else 0,
            "status": str(result.status) if result else "running" if alive else "not judged yet",
            "percent": percent,
            "finding": finding,
            "reason": result.reason if result else "",
            "exit_code": result.exit_code if result else None,
            "tokens": result.tokens if result else None,
            "cost_usd": result.cost_usd if result else None,
            "session_id": result.session_id if result else "",
            "folder": os.path.relpath(folder, self.root),
        }
