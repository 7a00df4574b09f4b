"""What a crash left, put right before the first turn; then starting is like going on.

| found in assigned/                                  | what it was                    | what is done        |
|-----------------------------------------------------|--------------------------------|---------------------|
| a task, nobody has it                               | died between claim and start   | back to pending     |
| a task, somebody has it, its run lives              | the dispatcher died            | taken up            |
| …, the run has a verdict                            | died between verdict and commit| the rest is done    |
| …, the run has ended and wrote its exit status      | the dispatcher was away        | judged as always    |
| …, the run was started and is gone without a status | the machine or wrapper died    | judged as lost      |
| …, nothing of the run was started                   | died before the spawn          | back to pending     |
| …, in another boot, and has no verdict              | a power cut; it may have begun | judged as lost      |
| somebody has it, but there is no task               | died after the commit          | the note is removed |
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Set
from typing import Any, cast

from orchestrator import files, plain, process, runs
from orchestrator.agents import AGENTS
from orchestrator.config import AgentConfig
from orchestrator.context import Context
from orchestrator.errors import InvalidTask, said
from orchestrator.history import attempts, was_given_back
from orchestrator.launcher import end_leftovers
from orchestrator.live import LINKED, Live
from orchestrator.names import printable
from orchestrator.process import Identity
from orchestrator.reading import read_bytes
from orchestrator.registry import AgentRegistry
from orchestrator.runs import Result
from orchestrator.spool import Spool
from orchestrator.states import ENDED, Outcome, State
from orchestrator.task import Task, parse

NewLive = Callable[[Task, int, str, str, AgentConfig, float], Live]


class Recovery:
    """Reads assigned/ and says what goes on."""

    def __init__(
        self, queue: Spool, registry: AgentRegistry, new_live: NewLive, tell: Callable[[str, str, str], None]
    ) -> None:
        self.queue = queue
        self.registry = registry
        self._new_live = new_live
        self._tell = tell

    def run(self, now: float) -> list[Live]:
        """Put right what can be; the runs to take up (they live, or wait for their verdict)."""
        self.queue.sweep_drafts(now)
        lives = self.take_up(now)
        self._pair_results({live.id: live.number for live in lives})
        self._give_reasons()
        self.queue.sync()
        return lives

    def take_up(self, now: float, ours: Set[str] = frozenset()) -> list[Live]:
        """The same for assigned/ alone. The tasks that are `ours` the dispatcher knows itself; what else lies there
        was left by a turn that the disk did not let end, or put there by hand."""
        found = [one for one in self.queue.ids(State.ASSIGNED) if one not in ours]
        assignments = {one: names for one, names in self.queue.assignments().items() if one not in ours}
        lives = []
        for task_id in found:
            names = assignments.pop(task_id, [])
            if any("@" in name for name in names) or (not names and self._is_being_claimed(task_id)):
                continue  # a worker's: whether it is silent is seen later
            try:
                self._finish_move(task_id)
                if live := self._take_up(task_id, names, now):
                    lives.append(live)
            except OSError as error:  # one that cannot be read keeps no other back
                self._tell("error", task_id, f"its run cannot be looked at: {said(error)}; tried again")
        for task_id, names in assignments.items():
            for name in names:
                if "@" not in name:
                    try:
                        self._end_orphan(task_id, name, now)
                    except OSError as error:
                        self._tell("error", task_id, f"tasks/assigned/{printable(name)} is in the way: {said(error)}")
        return lives

    def _finish_move(self, task_id: str) -> None:
        # Where no atomic move exists (files.move), a crash leaves one file under two names.
        mine = self.queue.path(State.ASSIGNED, task_id)
        for state in (State.PENDING, *ENDED):
            other = self.queue.path(state, task_id)
            if os.path.lexists(other) and os.path.samestat(os.lstat(mine), os.lstat(other)):
                self.queue.drop(other if state is State.PENDING else mine)
                break

    def _take_up(self, task_id: str, names: list[str], now: float) -> Live | None:
        found = sorted((runs.assigned_run(f"{self.queue.tasks}/{State.ASSIGNED}/{name}"), name) for name in names)
        found.sort(key=lambda row: row[0][2])
        for (_, _, _), name in found[:-1]:
            os.unlink(f"{self.queue.tasks}/{State.ASSIGNED}/{name}")
        if not found:
            self._give_back(task_id, "nobody had it")
            return None
        (slot, agent, number), name = found[-1]
        folder = self.queue.run_folder(task_id, number)
        was_linked = bool(number) and self.queue.unlink_run(task_id, number)
        files.sweep_drafts(folder, now)
        record = runs.read_record(folder) if number else None
        alive = bool(number) and runs.is_alive(folder)
        note = f"{self.queue.tasks}/{State.ASSIGNED}/{name}"
        was_cut = runs.assigned_boot(note) not in ("", process.boot_id())
        # The last word is the processes': somebody may have deleted the folder.
        if not number or not (alive or was_cut or was_linked or runs.has_begun(folder) or process.members(folder)):
            os.unlink(note)
            self._give_back(task_id, "was about to start when the dispatcher died")
            return None
        self.queue.make_run_folder(task_id, number)  # only the note is durable before the start
        self._restore_verdict(task_id, slot, number, folder)
        try:
            task = parse(read_bytes(self.queue.path(State.ASSIGNED, task_id)), task_id)
            task = task._replace(id=task_id)  # whatever an edited file says
        except InvalidTask as problem:
            task = Task(id=task_id, description="(its file cannot be read)")
            self._tell("warning", task_id, f"its file was changed while it ran and cannot be read any more: {problem}")
        settings = self.registry.settings(agent) or _settings_of(record)
        live = self._new_live(task, number, agent, slot, settings, record.started_at if record else now)
        live.attempt = attempts(self.queue, task_id)
        if alive or not runs.has_begun(folder):
            live.identity = self._find(folder, record.pid if record else 0)
        if record and record.boot == process.boot_id():
            gone = max(0.0, time.monotonic() - record.started_monotonic)
            live.started -= gone
        if was_cut:  # an exit status may be there, and what it speaks of torn or gone
            live.stopped, live.stopped_why = Outcome.LOST, "the machine stopped before its end was recorded"
        if was_linked:
            live.stopped, live.stopped_why = Outcome.LOST, LINKED
        if alive:
            self._tell("resumed", task_id, f"run {number} on {slot} ({agent}) lives; taken up")
        return live

    def _restore_verdict(self, task_id: str, slot: str, number: int, folder: str) -> None:
        # A power cut before the commit may take the names in the run's folder, and leave the second ones (`finish`).
        second = self.queue.result_path(State.COMPLETED, task_id)
        page = f"{self.queue.root}/{Context.output_name(task_id)}"
        found = runs.read_result(second)
        if found and (found.run, found.agent_id) == (number, slot):
            for source, name in ((page, "output.md"), (second, "result.yaml")):
                if plain.is_there(source) and not plain.is_there(f"{folder}/{name}"):
                    files.link(source, f"{folder}/{name}")

    def _find(self, folder: str, pid: int) -> Identity:
        """The first process of a living run: its wrapper, the session's leader; any other if that is gone."""
        if not process.HAS_PROC:
            return process.identity(pid)
        for one in _likely(folder, pid):
            known = process.identity(one)  # first who it is, then whose: a number may be another's in between
            if process.belongs(one, folder) or process.holds(one, f"{folder}/alive"):
                return known
        return process.identity(0)

    def _is_being_claimed(self, task_id: str) -> bool:
        """Whether a worker is about to write down that it has this task, or has done so since we looked."""
        numbers = self.queue.run_numbers(task_id)[-1:]
        return any(runs.is_alive(self.queue.run_folder(task_id, one)) for one in numbers) or (
            task_id in self.queue.assignments() or not os.path.lexists(self.queue.path(State.ASSIGNED, task_id))
        )

    def _give_back(self, task_id: str, why: str) -> None:
        try:
            self.queue.release(task_id)
            self._tell("recovered", task_id, f"{why}; back to pending")
        except FileExistsError:
            self.queue.reject(
                self.queue.path(State.ASSIGNED, task_id),
                State.ASSIGNED,
                f"{why}, and tasks/pending/ holds a file of that id",
            )

    def _end_orphan(self, task_id: str, name: str, now: float) -> None:
        number = runs.assigned_run(f"{self.queue.tasks}/{State.ASSIGNED}/{name}")[2]
        folder = self.queue.run_folder(task_id, number)
        if number and runs.is_alive(folder):
            end_leftovers(folder, 5.0)
            self._tell("warning", task_id, f"run {number} lived on after its task's file was taken away; ended")
        files.sweep_drafts(folder, now)
        os.unlink(f"{self.queue.tasks}/{State.ASSIGNED}/{name}")

    def _pair_results(self, assigned: dict[str, int]) -> None:
        # `retry` died between its move and this (the run's folder holds the same file); `cancel` of what waited died
        # before its move, or a `retry` after it (no run made that result); a power cut came before the commit.
        for state in ENDED:
            folder = f"{self.queue.tasks}/{state}"
            names = set(os.listdir(folder))
            for name in names:
                task_id = name.removesuffix("_result.yaml")
                if task_id == name and name.endswith(".yaml") and f"{name[:-5]}_result.yaml" not in names:
                    restore_result(self.queue, name[:-5], state)
                if task_id == name or f"{task_id}.yaml" in names or self._is_ended_by_a_worker(task_id, state):
                    continue
                kept = [f"{self.queue.run_folder(task_id, n)}/result.yaml" for n in self.queue.run_numbers(task_id)]
                found = runs.read_result(f"{folder}/{name}")
                if found and self._was_moved_by_hand(found):
                    continue
                of_no_run = found is not None and found.status is Outcome.CANCELLED and not found.agent_id
                uncommitted = found is not None and assigned.get(task_id) == found.run
                if of_no_run or uncommitted or any(plain.same(f"{folder}/{name}", path) for path in kept):
                    self.queue.drop(f"{folder}/{name}")

    def _is_ended_by_a_worker(self, task_id: str, state: State) -> bool:
        """Whether a worker is about to move its task here, or has just done so."""
        is_held = any("@" in name for name in self.queue.assignments().get(task_id, ()))
        return is_held or os.path.lexists(self.queue.path(state, task_id))

    def _was_moved_by_hand(self, result: Result) -> bool:
        """Whether its task lies in pending/ though nobody said `retry`; the intake knows what that means."""
        back = plain.is_there(self.queue.path(State.PENDING, result.task_id))
        return back and result.state in ENDED and bool(result.agent_id) and not was_given_back(self.queue, result)

    def _give_reasons(self) -> None:
        # Files are put aside at once, and the reasons of a whole turn are written together.
        names = set(self.queue.names(State.REJECTED))
        for name in names:
            if not name.startswith(".") and not name.endswith(".reason.txt") and f"{name}.reason.txt" not in names:
                shown = printable(f"tasks/{State.REJECTED}/{name}")
                text = (
                    f"{shown}: put aside when the dispatcher died; what is wrong, 'orchestrate validate {shown}' says\n"
                )
                path = f"{self.queue.tasks}/{State.REJECTED}/{name}.reason.txt"
                try:
                    files.replace(path, text.encode("utf-8", "replace"))
                except OSError as error:  # a name as long as can be, a disk that is full
                    self._tell("warning", "", f"{shown}: no reason can be written beside it: {error.strerror}")


def restore_result(queue: Spool, task_id: str, state: State) -> bool:
    """Give the verdict of an ended task its second name back, from the run's own folder; False if that has none."""
    for number in reversed(queue.run_numbers(task_id)):
        path = f"{queue.run_folder(task_id, number)}/result.yaml"
        if (found := runs.read_result(path)) and found.state is state:
            try:
                files.link(path, queue.result_path(state, task_id))
            except FileExistsError:
                pass  # whoever ended it gave it that name since we looked
            return True
    return False


def _likely(folder: str, pid: int) -> Iterator[int]:
    """Its wrapper; only if that is gone, for the price of a look through all of /proc, the others."""
    if pid:
        yield pid
    members = process.members(folder)
    yield from (one for one in members if (status := process.stat(one)) and status.session == one)
    yield from members


def _settings_of(record: runs.Record | None) -> AgentConfig:
    """For a run whose agent is in config.yaml no more: its output is still read by the adapter it was started with."""
    kind = record.adapter if record and record.adapter in AGENTS else "command"
    return AgentConfig(adapter=cast(Any, kind), command="false")
