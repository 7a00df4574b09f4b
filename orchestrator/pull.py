"""Work that is fetched instead of handed out: a worker claims a task, reports, and gives it back in time or loses it.

    claim     the run's `alive` locked → pending → assigned → what it is told, who has it → synced → unlocked
    report    `alive` locked → the note still says so? → result, pages, commit → unlocked
    take back `alive` locked → still silent? → judged as lost → pending or review → unlocked

The number of the run is the fence: a report with an old one finds another's note, or none, and is kept in its
folder as late. Whoever dies in between lets go of the lock (the kernel sees to that); what he left is found by
whoever looks next. As long as somebody holds it, nobody takes the task from him, stopped or not.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

from orchestrator import files, history, hold, locks, plain, process, progress, prompt, runs
from orchestrator.context import Context
from orchestrator.ended import Finished, told
from orchestrator.errors import AlreadyExists, Refused
from orchestrator.finish import Finisher, verdict_before
from orchestrator.names import natural
from orchestrator.places import is_slot
from orchestrator.report import Held, Report, keep_late, result_of
from orchestrator.roster import Roster, Worker
from orchestrator.runs import Record, Result
from orchestrator.spool import Spool
from orchestrator.states import ENDED, State
from orchestrator.task import Task
from orchestrator.together import Together
from orchestrator.waiting import Attempt, Entry


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


class Pull:
    """The worker's side of one root. `tell` hears what was done: kind, task id, one line, facts."""

    def __init__(self, queue: Spool, roster: Roster, tell: Callable[..., None]) -> None:
        self.queue = queue
        self.roster = roster
        self.context = Context(queue.root)
        self._tell = tell
        self._finisher = Finisher(queue, self.context, lambda agent: 0.0)

    # -- claim ------------------------------------------------------------------------------

    def claim(self, wanted: Iterable[tuple[Entry, bytes]], worker: Worker, most: int = 1) -> list[tuple[Held, Entry]]:
        """Make waiting tasks the worker's own, so many at most, and all durable together; those that nobody was faster
        with. `wanted` is asked for the next one only when it is its turn: others claim meanwhile."""
        self.context.keep()  # before there is a result: a list that is made later holds it, and gets it once more
        taken: list[int] = []
        mine: list[tuple[Held, Entry]] = []
        try:
            for entry, content in wanted:
                if held := self._take(entry, content, worker, taken):
                    mine.append((held, entry))
                    if len(mine) >= most:
                        break
                elif len(taken) > len(mine):  # whoever was faster shall not find his run locked when he reports
                    os.close(taken.pop())
            if mine:
                self.queue.sync()
        except OSError:  # a full disk: nobody was told, so nobody has them
            for held, _ in mine:
                self.queue.unassign(held.id, held.slot)
                self.queue.release(held.id)
            raise
        finally:
            for lock in taken:
                os.close(lock)
        watched = locks.is_locked(f"{self.queue.own}/dispatcher.lock")  # by one that told that they came
        for held, entry in mine:
            if held.number == 1 and not watched:
                self._tell("submitted", held.id, entry.task.title, at=entry.arrival, found=True)
            said = f"run {held.number} by worker {held.slot}: {entry.task.title}"
            self._tell("claimed", held.id, said, run=held.number, agent_id=held.slot, agent_type=worker.agent_type)
        return mine

    def _take(self, entry: Entry, content: bytes, worker: Worker, taken: list[int]) -> Held | None:
        task, attempt = entry.task, entry.attempt
        is_new = attempt.made == 0 and _made(f"{self.queue.runs}/{task.id}")
        if not is_new:
            attempt = history.attempts(self.queue, task.id)
            if attempt.made != entry.attempt.made:  # somebody has it now, or had it: no folder of a further run is made
                return None
        number = attempt.made + 1
        held = Held(task.id, worker.agent_id, number, self.queue.run_folder(task.id, number))
        if not (is_new and _made(held.folder)):
            self.queue.make_run_folder(task.id, number)
        try:
            taken.append(runs.take_alive(held.folder, patience=0))
            self.queue.claim(entry.name, task.id)
        except (AlreadyExists, FileNotFoundError, FileExistsError):  # somebody else is at it, or was faster
            return None
        try:
            # It may have run, and come back, since we counted its runs; of such a one, `alive` is not empty.
            if (not is_new or os.fstat(taken[-1]).st_size) and runs.has_begun(held.folder):
                self.queue.release(task.id)
                return None
            self._write_down(held, task, content, worker, attempt, taken[-1])
            self.queue.assign(task.id, held.slot, worker.agent_type, number, runs.utc(time.time()))
        except OSError:
            self.queue.release(task.id)
            raise
        return held

    def _write_down(self, held: Held, task: Task, content: bytes, worker: Worker, attempt: Attempt, alive: int) -> None:
        answers = {one: self.context.answer(one) for one in task.dependencies}
        text = prompt.assemble(
            task, self.queue.root, f"{held.folder}/output.md", worker.agent_type, held.number, answers,
            attempt.last_reason, attempt.note,
        )  # fmt: skip
        files.write(f"{held.folder}/prompt.md", text.encode("utf-8", "replace"))
        digest = hashlib.sha256(content).hexdigest()
        record = Record(
            process.boot_id(), time.monotonic(), time.time(), held.slot, worker.agent_type, "worker", (), digest
        )
        runs.write_record(held.folder, record, begun=True, fd=alive)

    # -- report -----------------------------------------------------------------------------

    @contextmanager
    def reporting(self, held: Held) -> Iterator[None]:
        """Hold the right to report on a run. Raises Refused if the run is not this worker's (any more)."""
        with self._hold(held) as is_ours:
            if not is_ours:
                raise Refused(f"{held.id}: somebody else is reporting on run {held.number}, or ends it; look again")
            if problem := self.lost(held):
                raise Refused(problem)
            yield
            os.utime(f"{held.folder}/alive")

    def lost(self, held: Held) -> str:
        """Why this run is not the worker's (any more); "" if it is."""
        number = history.noted_run(self.queue.assignment_path(held.id, held.slot))
        is_there = plain.is_there(self.queue.path(State.ASSIGNED, held.id))
        later = (self.queue.run_folder(held.id, one) for one in self.queue.run_numbers(held.id) if one > held.number)
        if is_there and number == held.number and not any(map(runs.has_begun, later)):
            return ""
        what = f"run {held.number} of {held.id} is not {held.slot}'s"
        state = self.queue.require(held.id)
        if state in ENDED:
            return f"{what} any more: the task has ended ({state})"
        if (holder := history.holder(self.queue, held.id))[2]:
            return f"{what}: {holder[0]} has it now, as run {holder[2]}"
        return f"{what}: nobody has it, it waits in tasks/{state}/; claim it first"

    def progress(self, held: Held, percent: float, findings: Any = None, begins: bool = False) -> None:
        """How far it is (0 to 100), and what was found so far: any JSON value. Durable. `begins`: this is its start."""
        line = progress.line(percent, findings)
        if not is_slot(held.slot):
            with self.reporting(held):
                progress.append(f"{held.folder}/progress.jsonl", line)
        else:  # a run of the dispatcher's: what it started holds the lock, and may be whoever reports
            if problem := self.lost(held):
                raise Refused(problem)
            progress.append(f"{held.folder}/progress.jsonl", line)
        short = {"findings": findings} if findings is not None and len(line) < 2000 else {}
        who = {"run": held.number, "agent_id": held.slot}
        if begins:
            self._tell("started", held.id, f"run {held.number} by worker {held.slot}", **who)
        else:
            self._tell("progress", held.id, f"{percent:g} %", **who, percent=percent, **short)

    def report(self, held: Held, report: Report) -> Result:
        """It is over. Durable, and merged, when it returns. Raises Refused; the report is kept as late then."""
        try:
            with self.reporting(held):
                return self.place(held, report)
        except Refused as refused:
            kept = keep_late(self.queue, held, report)
            if kept:
                said = f"run {held.number} of {held.slot} came too late; kept in its folder"
                self._tell("late", held.id, said, run=held.number, agent_id=held.slot)
            raise Refused(f"{refused}{f' (kept as {kept})' if kept else ''}") from None

    def place(self, held: Held, report: Report) -> Result:
        """From the verdict to where the task belongs; the caller holds the run."""
        found = verdict_before(held)  # died before its commit
        result = found or result_of(self.queue, self.context, held, report)
        together = Together()
        try:
            if found is None:
                output = f"{held.folder}/output.md"
                if report.text or not plain.is_there(output):
                    together.publish(output, report.text.encode("utf-8", "replace"), over=True)
                else:
                    together.file(output)  # as the worker wrote it
                together.publish(f"{held.folder}/result.yaml", result.to_yaml(), over=True)
                together.folder(held.folder)
            together.sync()
        finally:
            together.drop()
        self.context.keep()
        done = self._finisher.place([Finished(held, result, found is not None)])
        self.queue.sync()
        self._finisher.settle()
        kind, said, of_run = told(done[0])
        self._tell(kind, held.id, said, **of_run)
        hold.nudge(self.queue.root)
        return done[0].result

    @contextmanager
    def _hold(self, held: Held, patience: float = 1.0) -> Iterator[bool]:
        """Lock a run while something is reported on it; False if somebody else has it. Raises Refused if there is
        none."""
        if history.noted_run(self.queue.assignment_path(held.id, held.slot)) == held.number:
            self.queue.make_run_folder(held.id, held.number)  # a power cut may have left the note alone
        try:
            fd = os.open(f"{held.folder}/alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except (FileNotFoundError, NotADirectoryError):  # all else may pass: a worker would give its task up
            raise Refused(self.lost(held) or f"{held.id}: there is no run {held.number} of it") from None
        try:
            yield locks.take(fd, patience)
        finally:
            os.close(fd)

    # -- end what a worker has, without asking it -------------------------------------------

    def end(self, held: Held, report: Report, still: Callable[[], bool] | None = None) -> Result | None:
        """End a run in its worker's place; None if it is over, somebody reports on it now, or `still` says no: who
        asks that looks again, and waits for nobody."""
        with self._hold(held, 0.0 if still else 1.0) as is_ours:
            if not is_ours or (still and not still()):
                return None
            if self.lost(held):
                if not plain.is_there(self.queue.path(State.ASSIGNED, held.id)):  # died after the commit
                    self.queue.unassign(held.id, held.slot, held.number)
                return None
            return self.place(held, report)

    def free(self, task_id: str) -> None:
        """Bring a task back that somebody claimed who died before he wrote down that he has it."""
        numbers = self.queue.run_numbers(task_id)
        held = Held(task_id, "", 0, self.queue.run_folder(task_id, numbers[-1] if numbers else 0))
        with self._hold(held, 0.0) if numbers else nullcontext(True) as is_ours:
            if is_ours and not self.queue.assignments().get(task_id):
                try:
                    self.queue.release(task_id)
                except (FileNotFoundError, FileExistsError):
                    return
                self.queue.sync()
                self._tell("recovered", task_id, "was claimed by somebody who died; back to pending")

    def held(self, worker: str = "") -> list[Held]:
        """What workers have now (this one has), and the notes of what they had."""
        found = []
        for task_id, names in self.queue.assignments().items():
            for name in names:
                _, mark, slot = name.removesuffix(".yaml").partition("@")
                if mark and worker in ("", slot):
                    number = history.noted_run(f"{self.queue.tasks}/{State.ASSIGNED}/{name}")
                    found.append(Held(task_id, slot, number, self.queue.run_folder(task_id, number)))
        return sorted(found, key=lambda one: natural(one.id))


def _made(folder: str) -> bool:
    """Whether it was not there, and is now."""
    try:
        os.mkdir(folder)
    except (FileExistsError, FileNotFoundError):
        return False
    return True


def assignment(held: Held, entry: Entry) -> Assignment:
    """A claimed run, as its worker is told of it."""
    task = entry.task
    return Assignment(
        task.id, held.number, task.description, f"{held.folder}/prompt.md", f"{held.folder}/output.md",
        task.task_type or "", entry.priority.name.lower(), task.requirements,
    )  # fmt: skip
