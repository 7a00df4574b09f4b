"""A worker as a Python process: subclass `AgentWorker`, write `execute`, and start it.

    class Researcher(AgentWorker):
        capabilities = ("web",)

        def execute(self, task):
            self.report_progress(50, findings={"sources": 2})
            return "Here they are …"

    orchestrate worker my_module:Researcher        (or: python -m orchestrator.worker my_module:Researcher)

The main thread claims; each task is done in a thread of its own; one thread tells every ten seconds that all of them
are still worked on. SIGTERM and SIGINT: it claims no more, waits for what it does, gives the rest back, and goes.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import inspect
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

from orchestrator import locks
from orchestrator.clock import Clock
from orchestrator.errors import AlreadyExists, OrchestrateError, Refused, said
from orchestrator.names import id_problem, printable
from orchestrator.places import find_root
from orchestrator.pull import Assignment
from orchestrator.queue import TaskQueue
from orchestrator.runs import Result
from orchestrator.states import State
from orchestrator.watch import Watch
from orchestrator.watcher import Bell

BEAT_SECONDS = 10.0
LOOK_SECONDS = 5.0  # between two looks at all that waits, whatever the folders' times say
PATIENCE = (0.02, 0.5)  # seconds between two looks at the folders' times: at first, and when nothing comes


class AgentWorker:
    """Claims tasks that it can do, and does them. One object is one worker."""

    agent_id = ""  # class name and process id if left out
    capabilities: Sequence[str] = ()
    agent_type = "worker"
    max_concurrent_tasks = 1
    grace_seconds = 30.0  # that a stop waits for what is being done; then it is given back

    def __init__(
        self,
        root: str = "",
        agent_id: str = "",
        capabilities: Sequence[str] = (),
        max_concurrent_tasks: int = 0,
    ) -> None:
        self.root = find_root(root)
        self.agent_id = agent_id or self.agent_id or f"{type(self).__name__.lower()}-{os.getpid()}"
        self.capabilities = tuple(capabilities or self.capabilities)
        self.max_concurrent_tasks = max_concurrent_tasks or self.max_concurrent_tasks
        self._bell = Bell()
        self._stops = 0
        self._doing: dict[str, Assignment] = {}
        self._lost: set[tuple[str, int]] = set()
        self._mine: contextvars.ContextVar[Assignment] = contextvars.ContextVar("task")
        self._over = threading.Event()

    def execute(self, task: Assignment) -> Any:
        """Do it; plain or async. What it returns is the answer: a text, or a mapping with `text`, `notes`, `metrics`, …
        (`TaskQueue.complete_task`); None if it is in `task.output_file`. What it raises is a failed attempt, and no
        further one follows if the exception has `should_retry = False`."""
        raise NotImplementedError

    def report_progress(self, percent: float, findings: Any = None) -> None:
        """How far the task is that is being executed here. Raises Refused if it is not ours any more: stop then."""
        task = self._mine.get()
        TaskQueue(self.root).report_progress(task.task_id, percent, findings, self.agent_id, task.run)

    @property
    def is_lost(self) -> bool:
        """Whether the task that is being executed here is not ours any more: somebody cancelled it, or took it back."""
        task = self._mine.get()
        return (task.task_id, task.run) in self._lost

    @property
    def is_stopping(self) -> bool:
        """Whether it has been asked to go."""
        return self._stops > 0

    def stop(self) -> None:
        """Claim nothing more, finish what is being done, and go; at the second call give that back and go at once."""
        self._stops += 1
        self._bell.ring()

    def say(self, text: str) -> None:
        """One line of what it does."""
        sys.stderr.write(f"{time.strftime('%H:%M:%S')}  {self.agent_id}  {printable(text, 500)}\n")

    def run(self, until_idle: bool = False) -> None:
        """Until it is asked to stop (`until_idle`: or nothing is left that it can claim). Raises OrchestrateError."""
        lock = self._register()
        queue = TaskQueue(self.root)
        try:
            if threading.current_thread() is threading.main_thread():
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, self._note)
            threading.Thread(target=self._beat, name="heart", daemon=True).start()
            self._work(queue, until_idle)
            self._leave(queue)
        finally:
            self._over.set()
            os.close(lock)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.stop()

    def _register(self) -> int:
        if problem := id_problem(self.agent_id):  # before it names a file
            raise OrchestrateError(f"agent id {problem}")
        queue = TaskQueue(self.root)
        queue.make_folders()
        os.makedirs(queue.roster.folder, exist_ok=True)
        path = f"{queue.roster.folder}/{self.agent_id}.lock"
        existed = os.path.exists(path)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if not locks.take(fd, 0):
            os.close(fd)
            raise AlreadyExists(f"{self.agent_id}: a worker of that id runs already; choose another id")
        try:
            most = {"max_concurrent_tasks": self.max_concurrent_tasks}
            # Its lock was there and is free: the kernel says that the one before us is dead.
            queue.register_agent(self.agent_id, self.capabilities, most, self.agent_type, replace=existed)
        except BaseException:
            os.unlink(path)
            os.close(fd)
            raise
        return fd

    def _work(self, queue: TaskQueue, until_idle: bool) -> None:
        clock, watch = Clock(), Watch(queue.pull)
        watch_at, look_at, patience = 0.0, 0.0, PATIENCE[0]
        seen: tuple[int, ...] = ()
        while not self._stops:
            lived = clock.lived()
            if lived >= watch_at:
                watch_at = lived + LOOK_SECONDS
                with suppress(OSError):  # again in a moment
                    if not locks.is_locked(f"{queue.own}/dispatcher.lock"):
                        watch.look(lived)
            room = self.max_concurrent_tasks - len(self._doing)
            now = _times(queue)
            if room > 0 and (now != seen or lived >= look_at):
                claimed = self._claim(queue, room)
                patience = PATIENCE[0]
                if claimed:
                    continue
                seen, look_at = now, lived + LOOK_SECONDS
                if until_idle and not self._doing:
                    return
            clock.wait(self._bell.wait, patience)
            patience = min(2 * patience, PATIENCE[1])

    def _claim(self, queue: TaskQueue, room: int) -> int:
        try:
            found = queue.claim_tasks(self.agent_id, room)
        except Refused:
            return 0
        except OSError as error:  # a full disk, no descriptors: again in a moment
            self.say(f"cannot claim: {error.strerror or error}")
            return 0
        for task in found:
            self._doing[task.task_id] = task
            threading.Thread(target=self._do, args=(task,), name=task.task_id, daemon=True).start()
        return len(found)

    def _do(self, task: Assignment) -> None:
        self._mine.set(task)
        queue = TaskQueue(self.root)
        try:
            queue.start_task(task.task_id, self.agent_id, task.run)
            self.say(f"{task.task_id} started run {task.run}: {task.description}")
            found = self.execute(task)
            if inspect.iscoroutine(found):
                found = asyncio.run(found)
            answer, metrics = _answer(found)
            result = self._report(task, queue.complete_task, answer, metrics)
            self.say(f"{task.task_id} {result.state}")
        except Refused as problem:
            self.say(f"{task.task_id} lost: {problem}")
        except Exception as error:  # noqa: BLE001 (whatever it is: an attempt that failed)
            self._failed(queue, task, error)
        finally:
            self._doing.pop(task.task_id, None)
            self._bell.ring()

    def _failed(self, queue: TaskQueue, task: Assignment, error: Exception) -> None:
        if not isinstance(error, OrchestrateError):
            traceback.print_exception(error)
        why = " ".join(f"{type(error).__name__}: {error}".split())
        try:
            again = getattr(error, "should_retry", None)
            result = self._report(task, queue.fail_task, why, again)
            self.say(f"{task.task_id} failed: {result.reason}")
        except (OrchestrateError, OSError) as problem:  # nobody hears of it: it is taken back when we are silent
            self.say(f"{task.task_id} failed ({why}), and that cannot be reported: {problem}")

    def _report(self, task: Assignment, report: Callable[..., Result], *what: Any) -> Result:
        """What is done is not done again because the disk was full for a while. Raises OSError if we have to go."""
        while True:
            try:
                return report(task.task_id, *what, self.agent_id, task.run)
            except OSError as error:
                self.say(f"{task.task_id} cannot be reported: {said(error)}; tried again")
                if self._stops or self._over.wait(PATIENCE[1]):
                    raise

    def _beat(self) -> None:
        queue = TaskQueue(self.root)
        while not self._over.wait(BEAT_SECONDS):
            for task in list(self._doing.values()):
                try:
                    queue.heartbeat(self.agent_id, task.task_id, task.run)
                except Refused:
                    if task.task_id in self._doing:
                        self._lost.add((task.task_id, task.run))
                except (OrchestrateError, OSError):
                    continue  # again in a moment; it is not lost by one beat

    def _leave(self, queue: TaskQueue) -> None:
        if self._doing:
            self.say(f"stopping; waits for {', '.join(self._doing)}")
        end = time.monotonic() + self.grace_seconds
        while self._doing and self._stops < 2 and (left := end - time.monotonic()) > 0:
            self._bell.wait(left)
        for task in list(self._doing.values()):
            try:
                queue.give_back(task.task_id, self.agent_id, task.run, f"{self.agent_id} was stopped")
                self.say(f"{task.task_id} given back")
            except (OrchestrateError, OSError):
                continue
        queue.roster.unregister(self.agent_id)
        os.unlink(f"{queue.roster.folder}/{self.agent_id}.lock")


def _times(queue: TaskQueue) -> tuple[int, ...]:
    """When something last came to what waits, or was completed."""
    try:
        return tuple(os.stat(f"{queue.tasks}/{state}").st_mtime_ns for state in (State.PENDING, State.COMPLETED))
    except OSError:  # a folder is gone; the next look makes it
        return ()


def _answer(found: Any) -> tuple[str | Mapping[str, Any], Mapping[str, Any]]:
    """(result, metrics) of what `execute` returned. Raises OrchestrateError."""
    if found is None or isinstance(found, str):
        return found or "", {}
    if not isinstance(found, Mapping):
        raise OrchestrateError(f"execute returned a {type(found).__name__}; return a text, a mapping or nothing")
    metrics = found.get("metrics") or {}
    return {key: value for key, value in found.items() if key != "metrics"}, metrics


def load(name: str) -> type[AgentWorker]:
    """The class that `module:Class` names; the module may lie in the current folder. Raises OrchestrateError."""
    module, colon, cls = name.partition(":")
    if not colon or not module or not cls:
        raise OrchestrateError(f"{printable(name)!r}: write module:Class, such as my_workers:Researcher")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), cls, None)
    except ImportError as error:
        raise OrchestrateError(f"{printable(module)}: cannot be imported: {error}") from None
    if not isinstance(found, type) or not issubclass(found, AgentWorker):
        raise OrchestrateError(f"{printable(name)}: is no subclass of AgentWorker")
    return found


def main(argv: list[str]) -> int:
    """`python -m orchestrator.worker module:Class`: as `orchestrate worker`."""
    ours = importlib.import_module("orchestrator.worker")  # this file is __main__ now, and its class another one
    try:
        ours.load(argv[1] if len(argv) == 2 else "")().run()
    except OrchestrateError as error:
        sys.stderr.write(f"orchestrate: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
