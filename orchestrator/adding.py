"""Tasks that programs put into the queue: one durably in a few milliseconds, or many that share the syncs.

This module loads in a few milliseconds (no YAML, no pydantic): `orchestrate add` is used in loops.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence

from orchestrator import events, files, ids, locks
from orchestrator.errors import AlreadyExists, InvalidTask, NotFound, OrchestrateError, QueueFull, Refused
from orchestrator.names import id_problem, printable, title_of
from orchestrator.places import Places, agent_problem
from orchestrator.states import State
from orchestrator.together import Together
from orchestrator.writing import Value, to_yaml

GROUP = 1024  # tasks that are added in one turn at the lock of ids
AT_ONCE = 256  # of them that share a round to the disk, where each has a file open meanwhile
MANY = 64  # tasks: for so many the whole file system is synced, if it can be


class Adding(Places):
    """A queue that tasks can be put into."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._drafts = f"{self.tasks}/.drafts"

    def make_folders(self) -> None:
        """All folders of the spool; those that are there already stay as they are. Raises OSError if the root
        itself is gone: nobody wants it back."""
        states = (f"{self.tasks}/{state}" for state in State)
        files.make_folders(self.tasks, *states, self.runs, self._drafts, self.own, f"{self.own}/events", sync=True)

    def check_folders(self) -> None:
        """Raises Refused if one of them is none, or two are the same: a move between these would be no change."""
        seen: dict[tuple[int, int], State] = {}
        for state in State:
            try:
                status = os.stat(f"{self.tasks}/{state}")
                os.scandir(f"{self.tasks}/{state}").close()
            except OSError as error:
                raise Refused(f"{self.tasks}/{state}: is no folder that can be used: {error.strerror}") from None
            if (other := seen.setdefault((status.st_dev, status.st_ino), state)) is not state:
                raise Refused(f"{self.tasks}: {other} and {state} are one folder; make each a folder of its own")

    def add(self, task: str | Mapping[str, Value], **fields: Value) -> str:
        """Add a task, durably: its description, or all its fields; its id (`task_001`, … if none is given).

        Any number of processes at once get different ids. While config.yaml is broken, its last good version
        counts. Raises InvalidTask, AlreadyExists, QueueFull, NotFound (the root); nothing was added then.
        """
        return self.add_tasks([{**(task if isinstance(task, Mapping) else {"description": task}), **fields}])[0]

    def add_tasks(self, tasks: Iterable[str | Mapping[str, Value]]) -> list[str]:
        """`add` for many, which share the cost of being durable; their ids, in that order.

        All are checked before the first is added: raises as `add`, with the place of the one that is wrong. If the disk
        fails on the way, some may be there: then OrchestrateError says how many.
        """
        from orchestrator import config
        from orchestrator.task import check

        if isinstance(tasks, (str, bytes, Mapping)) or not isinstance(tasks, Iterable):
            raise InvalidTask(f"write a list of tasks, not {printable(repr(tasks), 80)}; add() takes one")
        if not os.path.isdir(self.root):
            raise NotFound(f"{self.root}: no such folder")
        max_size, unique, known, shells = config.brief(config.load_or_last(self.root)[0])
        rows: list[Mapping[str, Value]] = []
        agents: dict[tuple[str, bool], str] = {}  # that are asked for, to run a script or not → what is wrong with that
        for one in tasks:
            rows.append(one if isinstance(one, Mapping) else {"description": one})
            try:
                task = check(rows[-1])
                wanted = task.preferred_agent or "", task.run is not None
                if wanted not in agents:
                    agents[wanted] = agent_problem(self.root, *wanted, known, shells)
                if problem := agents[wanted]:
                    raise InvalidTask(problem)
            except InvalidTask as reason:
                raise InvalidTask(f"task {len(rows)}: {reason}" if len(rows) > 1 else str(reason)) from None
        return self.put_all(rows, max_size, unique)

    def put(self, fields: Mapping[str, Value], max_size: int = 1000, unique: bool = False) -> str:
        """`add` for fields that were checked already; loads no YAML parser and no models."""
        return self.put_all([fields], max_size, unique)[0]

    def put_all(self, rows: Sequence[Mapping[str, Value]], max_size: int = 1000, unique: bool = False) -> list[str]:
        """`add_tasks` for fields that were checked already."""
        given = [str(fields.get("id") or "") for fields in rows]
        named = [one for one in given if one]
        for task_id in named:
            if problem := id_problem(task_id):
                raise InvalidTask(f"id {problem}")
        if len(set(named)) < len(named):
            raise AlreadyExists(
                f"{next(one for one in named if named.count(one) > 1)}: two of these tasks have that id"
            )
        self.make_folders()
        added: list[str] = []
        for start in range(0, len(rows), GROUP):
            try:
                added += self._put_group(rows[start : start + GROUP], given[start : start + GROUP], max_size, unique)
            except (OSError, OrchestrateError) as error:
                if not start:
                    raise
                raise OrchestrateError(f"{error}; the first {start:,} of {len(rows):,} tasks were added") from None
        return added

    def _put_group(
        self, rows: Sequence[Mapping[str, Value]], given: Sequence[str], max_size: int, unique: bool
    ) -> list[str]:
        with locks.locked(f"{self.own}/ids.lock"):
            if not ids.room(self, len(rows), max_size):
                said = f"{max_size} tasks wait already" if len(rows) == 1 else f"at most {max_size} tasks may wait"
                raise QueueFull(f"{said} (queue.max_size in config.yaml); nothing was added")
            count = given.count("")
            new = iter(
                [ids.unique_id() for _ in range(count)] if unique else ids.next_ids(self, count) if count else []
            )
            for one in filter(None, given):
                if taken := self.state_of(one) or self.archived(one):
                    raise AlreadyExists(f"{one}: a task of that id exists ({taken}); choose another id")
            contents = {
                one or (made := next(new)): to_yaml({**fields, "id": one} if one else {"id": made, **fields})
                for one, fields in zip(given, rows, strict=True)
            }
            self._publish(contents)
        if not locks.is_locked(f"{self.own}/dispatcher.lock"):  # else it sees the files, and tells
            journal = events.Journal(f"{self.own}/events")
            for task_id, fields in zip(contents, rows, strict=True):
                text = fields.get("description") or fields.get("content") or f"Run: {fields.get('run')}"
                journal.hear(events.Event(time.time(), "submitted", task_id, title_of(str(text))))
            journal.flush()
        return list(contents)

    def _publish(self, contents: Mapping[str, bytes]) -> None:
        folder = f"{self.tasks}/{State.PENDING}"
        if len(contents) == 1:  # without what many need: this is `orchestrate add`
            for task_id, content in contents.items():
                files.publish(self.path(State.PENDING, task_id), content, drafts=self._drafts)
            files.sync_folder(folder)
            return
        together = Together(self._drafts if len(contents) >= MANY else "")
        at_once = len(contents) if together.is_whole else AT_ONCE
        try:
            for count, (task_id, content) in enumerate(contents.items(), 1):
                together.publish(self.path(State.PENDING, task_id), content, drafts=self._drafts)
                if count % at_once == 0 or count == len(contents):
                    together.folder(folder)
                    together.sync()
        finally:
            together.drop()
