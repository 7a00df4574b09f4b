"""Work that is fetched instead of handed out: a worker claims a task, reports, and gives it back in time or loses it.

    claim     the run's folder made, its `alive` locked → pending → assigned → who has it → synced → unlocked
    report    `alive` locked → the note still says so? → result, pages, commit → unlocked
    take back `alive` locked → still silent? → judged as lost → pending or review → unlocked

The number of the run is the fence: a report with an old one finds another's note, or none, and is kept in its
folder as late. Whoever dies in between lets go of the lock (the kernel sees to that); what he left is found by
whoever looks next. As long as somebody holds it, nobody takes the task from him, stopped or not.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from orchestrator import files, history, process, prompt, retry, runs
from orchestrator.config import Config
from orchestrator.context import Context
from orchestrator.errors import AlreadyExists, OrchestrateError, Refused
from orchestrator.finish import Finished, Finisher
from orchestrator.roster import STALE_SECONDS, Roster, Worker
from orchestrator.runs import FACTS, PROGRESS_BYTES, Record, Result, words
from orchestrator.spool import Spool
from orchestrator.states import ENDED, Outcome, State
from orchestrator.task import Task
from orchestrator.together import Together


class Held(NamedTuple):
    """A run that a worker has. With the same names as a run of the dispatcher's, for those who finish either."""

    id: str  # of the task
    slot: str  # the worker's id
    number: int
    folder: str


class Pull:
    """The worker's side of one root."""

    def __init__(self, queue: Spool, roster: Roster) -> None:
        self.queue = queue
        self.roster = roster
        self.context = Context(queue.root)
        self._finisher = Finisher(queue, self.context, lambda agent: 0.0)

    # -- claim ------------------------------------------------------------------------------

    def claim(self, task: Task, name: str, content: bytes, worker: Worker) -> Held:
        """Make a waiting task the worker's own, durably. Raises Refused if somebody else was faster."""
        attempt = history.attempts(self.queue, task.id)
        held = Held(task.id, worker.agent_id, attempt.made + 1, self.queue.run_folder(task.id, attempt.made + 1))
        os.makedirs(held.folder, exist_ok=True)
        try:
            lock = runs.take_alive(held.folder)
        except AlreadyExists:
            raise Refused(f"{task.id}: somebody else is claiming it") from None
        try:
            self._write_down(held, task, content, worker, attempt.note, attempt.last_reason)
            try:
                self.queue.claim(name, task.id)
            except (FileNotFoundError, FileExistsError):
                os.truncate(f"{held.folder}/alive", 0)
                raise Refused(f"{task.id}: somebody else was faster") from None
            self.queue.assign(task.id, held.slot, worker.agent_type, held.number, runs.utc(time.time()))
            self.queue.sync()
        finally:
            os.close(lock)
        return held

    def _write_down(self, held: Held, task: Task, content: bytes, worker: Worker, note: str, last: str) -> None:
        answers = {}
        for one in task.dependencies:
            name = self.context.output_name(one)
            answers[one] = (name, files.read_text(f"{self.queue.root}/{name}"))
        output = f"{held.folder}/output.md"
        text = prompt.assemble(task, self.queue.root, output, worker.agent_type, held.number, answers, last, note)
        files.write(f"{held.folder}/prompt.md", text.encode("utf-8", "replace"))
        digest = hashlib.sha256(content).hexdigest()
        record = Record(
            process.boot_id(), time.monotonic(), time.time(), held.slot, worker.agent_type, "worker", (), digest
        )
        runs.write_record(held.folder, record, begun=True)

    # -- report -----------------------------------------------------------------------------

    @contextmanager
    def reporting(self, task_id: str, agent_id: str, run: int) -> Iterator[Held]:
        """Hold the right to report on a run. Raises Refused if the run is not this worker's (any more)."""
        held = Held(task_id, agent_id, run, self.queue.run_folder(task_id, run))
        with _hold(held) as is_ours:
            if not is_ours:
                raise Refused(f"{task_id}: somebody else is reporting on run {run}, or taking it back; look again")
            if problem := self._lost(held):
                raise Refused(problem)
            self.roster.beat(agent_id)
            os.utime(f"{held.folder}/alive")
            yield held

    def _lost(self, held: Held) -> str:
        """Why this run is not the worker's (any more); "" if it is."""
        slot, _, number = runs.assigned_run(self.queue.assignment_path(held.id, held.slot))
        if slot == held.slot and number == held.number:
            return ""
        what = f"run {held.number} of {held.id} is not {held.slot}'s"
        state = self.queue.require(held.id)
        if state in ENDED:
            return f"{what} any more: the task has ended ({state})"
        holders = [
            runs.assigned_run(f"{self.queue.tasks}/{State.ASSIGNED}/{name}")
            for name in self.queue.assignments().get(held.id, [])
        ]
        if holders:
            return f"{what}: {holders[-1][0]} has it now, as run {holders[-1][2]}"
        return f"{what}: nobody has it, it waits in tasks/{state}/; claim it first"

    def heartbeat(self, task_id: str, agent_id: str, run: int) -> None:
        """It is still being worked on."""
        with self.reporting(task_id, agent_id, run):
            pass

    def progress(self, task_id: str, agent_id: str, run: int, percent: float, findings: Any = None) -> None:
        """How far it is (0 to 100), and what was found so far: any JSON value. Durable."""
        if isinstance(percent, bool) or not isinstance(percent, (int, float)) or not 0 <= percent <= 100:
            raise OrchestrateError(f"percent: write a number from 0 to 100, not {percent!r}")
        row = {"at": runs.utc(time.time()), "percent": percent, "findings": findings}
        try:
            line = (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "replace")
        except (TypeError, ValueError) as error:
            raise OrchestrateError(f"findings: {error}; write what JSON can hold") from None
        if len(line) > PROGRESS_BYTES:
            raise OrchestrateError(
                f"findings: {len(line):,} bytes, and {PROGRESS_BYTES:,} is the most; write them to a file and name it"
            )
        with self.reporting(task_id, agent_id, run) as held:
            files.append(f"{held.folder}/progress.jsonl", line)

    def complete(
        self, task_id: str, agent_id: str, run: int, text: str, facts: Mapping[str, Any], metrics: Mapping[str, Any]
    ) -> Result:
        """It is done: its answer, its facts, what it cost. Raises Refused; the report is kept as late then."""
        return self._report(task_id, agent_id, run, Outcome.SUCCESS, text, facts, metrics, "", None)

    def fail(self, task_id: str, agent_id: str, run: int, error: str, should_retry: bool | None = None) -> Result:
        """It did not work. `should_retry`: None as the rules say, False never. Raises Refused, as `complete`."""
        return self._report(task_id, agent_id, run, Outcome.AGENT_ERROR, "", {}, {}, error, should_retry)

    def _report(
        self, task_id: str, agent_id: str, run: int, outcome: Outcome, text: str, facts: Mapping[str, Any],
        metrics: Mapping[str, Any], error: str, should_retry: bool | None,
    ) -> Result:  # fmt: skip
        try:
            with self.reporting(task_id, agent_id, run) as held:
                result = self._result(held, outcome, error, facts, metrics, should_retry)
                return self._place(held, result, text)
        except Refused as refused:
            kept = self._keep_late(task_id, run, outcome, text, error)
            raise Refused(f"{refused}{f' (kept as {kept})' if kept else ''}") from None

    def _result(
        self, held: Held, outcome: Outcome, error: str, facts: Mapping[str, Any], metrics: Mapping[str, Any],
        should_retry: bool | None = None,
    ) -> Result:  # fmt: skip
        from orchestrator.config import load
        from orchestrator.reading import read_bytes
        from orchestrator.task import parse

        config: Config = load(self.queue.root)
        task = parse(read_bytes(self.queue.path(State.ASSIGNED, held.id)), held.id)
        record = runs.read_record(held.folder)
        attempt = history.attempts(self.queue, held.id, before=held.number)
        most = config.retry.max_retries if task.max_retries is None else task.max_retries
        now = time.time()
        decision = retry.decide(
            outcome, error, held.id, attempt.counted + 1, most,
            config.retry.retry_delay_seconds, config.retry.max_delay_seconds, should_retry is not False,
        )  # fmt: skip
        success = outcome is Outcome.SUCCESS
        tokens = {k: v for k, v in metrics.items() if isinstance(v, int) and not isinstance(v, bool)}
        cost = metrics.get("cost_usd")
        found: dict[str, Any] = {key: words(facts.get(key)) for key in FACTS}
        return Result(
            task_id=held.id,
            agent_id=held.slot,
            agent_type=record.agent_type if record else "worker",
            run=held.number,
            status=outcome,
            completed_at=now,
            state=decision.state,
            started_at=record.started_at if record else now,
            reason=decision.reason,
            output_file=self.context.output_name(held.id) if success else "",
            tokens=tokens or None,
            cost_usd=float(cost) if isinstance(cost, (int, float)) else None,
            retry_at=now + decision.delay if decision.delay else None,
            title=task.title,
            kinds=task.kinds,
            **found,
        )

    def _place(self, held: Held, result: Result, text: str = "") -> Result:
        """From the verdict to where the task belongs; the caller holds the run."""
        found = runs.read_result(f"{held.folder}/result.yaml")  # died before its commit
        together = Together()
        try:
            if found is None:
                if result.status is Outcome.SUCCESS:
                    together.publish(f"{held.folder}/output.md", text.encode("utf-8", "replace"), over=True)
                together.publish(f"{held.folder}/result.yaml", result.to_yaml(), over=True)
                together.folder(held.folder)
            together.sync()
        finally:
            together.drop()
        self.context.make()
        done = self._finisher.place([Finished(held, found or result, found is not None)])
        self.queue.sync()
        self._finisher.settle(done)
        return done[0].result

    def _keep_late(self, task_id: str, run: int, outcome: Outcome, text: str, error: str) -> str:
        folder = self.queue.run_folder(task_id, run)
        if not os.path.isdir(folder):
            return ""
        for number in range(1, 100):
            path = f"{folder}/late.md" if number == 1 else f"{folder}/late.{number}.md"
            try:
                files.publish(path, f"{outcome}: {error}\n\n{text}\n".encode("utf-8", "replace"))
            except AlreadyExists:
                continue
            return os.path.relpath(path, self.queue.root)
        return ""

    # -- take back --------------------------------------------------------------------------

    def held(self) -> list[Held]:
        """What workers have now."""
        found = []
        for task_id, names in self.queue.assignments().items():
            for name in names:
                if "@" in name:
                    slot, _, number = runs.assigned_run(f"{self.queue.tasks}/{State.ASSIGNED}/{name}")
                    found.append(Held(task_id, slot, number, self.queue.run_folder(task_id, number)))
        return found

    def heard_at(self, held: Held) -> float:
        """When the run, or its worker, was last heard of (epoch seconds, by the worker's clock)."""
        try:
            run = os.stat(f"{held.folder}/alive").st_mtime
        except OSError:
            run = 0.0
        return max(run, self.roster.beat_at(held.slot))

    def take_back(self, held: Held, heard_at: float) -> Result | None:
        """End a run whose worker is silent since `heard_at`; None if it spoke after all, or somebody is at it."""
        with _hold(held) as is_ours:
            if not is_ours or self.heard_at(held) != heard_at or self._lost(held):
                return None
            why = f"{held.slot} was not heard of for {STALE_SECONDS:.0f} s"
            return self._place(held, self._result(held, Outcome.LOST, why, {}, {}))


class Watch:
    """Which workers are silent, by the clock of whoever watches: only time that he lived counts, so that a machine
    that slept takes nothing from anybody."""

    def __init__(self, pull: Pull) -> None:
        self._pull = pull
        self.roster = pull.roster
        self._seen: dict[tuple[str, str, int], tuple[float, float]] = {}  # run → heard at, first seen so (lived)

    def look(self, lived: float) -> list[Result]:
        """Take back what has been silent for STALE_SECONDS of `lived` time; what became of it."""
        ended, seen = [], {}
        for held in self._pull.held():
            key, heard = held[:3], self._pull.heard_at(held)
            before, since = self._seen.get(key, (heard, lived))
            seen[key] = (heard, since if before == heard else lived)
            if lived - seen[key][1] >= STALE_SECONDS and (result := self._pull.take_back(held, heard)):
                ended.append(result)
        self._seen = seen
        return ended


@contextmanager
def _hold(held: Held) -> Iterator[bool]:
    """Lock a run while something is reported on it; False if somebody else has it, or there is no such run."""
    try:
        fd = os.open(f"{held.folder}/alive", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        raise Refused(f"{held.id}: there is no run {held.number} of it") from None
    try:
        yield _locked(fd)
    finally:
        os.close(fd)


def _locked(fd: int, seconds: float = 1.0) -> bool:
    """Whether we have it; who only looks, or reports a heartbeat, holds it for a moment."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
