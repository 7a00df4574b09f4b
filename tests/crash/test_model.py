"""The moves of the spool as a state machine, against a dict: two dispatchers, a worker, a person, crashes.

The dispatcher is the real one, in this process, and its files are real. Three things stand in: a clock
that is turned by hand, agents that are no processes but hold the real lock of their run, and death,
which comes between any two of the product's verbs: the dispatcher is then dropped as it is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestrator import files, process, runs
from orchestrator.clock import Clock
from orchestrator.config import AgentConfig, Config, LimitsConfig, RetryConfig
from orchestrator.context import Context
from orchestrator.dispatcher import Dispatcher
from orchestrator.errors import AlreadyExists, AlreadyRunning, OrchestrateError
from orchestrator.events import Event
from orchestrator.hold import Hold
from orchestrator.launcher import Started
from orchestrator.process import Identity
from orchestrator.registry import AgentRegistry
from orchestrator.spool import Spool
from orchestrator.states import ENDED, Outcome, State
from orchestrator.together import Together
from orchestrator.watcher import Bell

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # the crash of a process knows no disk
NO_PID = 1 << 23  # above every pid that a kernel gives
IDS = st.sampled_from("abcde")
ACTS = ("adds", "drops_a_file", "brings_back", "edits", "deletes", "retries", "cancels", "moves_back_by_hand")
CONFIG = Config(
    agents={"fake": AgentConfig(command="true", max_instances=2)},
    retry=RetryConfig(max_retries=1, retry_delay_seconds=0),
    limits=LimitsConfig(grace_seconds=0, stuck_after_seconds=1_000_000),
)
# What a dispatcher does to the world, and what it may die in front of.
VERBS: tuple[tuple[Any, str], ...] = (
    *((files, name) for name in ("move", "link", "write", "write_draft", "replace", "exchange", "sync_folders", "begin_sync")),
    *((Spool, name) for name in ("unassign", "drop_copy", "place_result", "take_back_result")),
    (Together, "_end"), (Context, "merge"), (Context, "place_output"), (os, "unlink"), (os, "rename"), (os, "replace"),
)  # fmt: skip
# Most often in front of a move: what lies between the others may happen twice without harm.
NAMES = [*(name for _, name in VERBS), *["move"] * len(VERBS)]
MOMENTS = st.one_of(st.none(), st.tuples(st.sampled_from(NAMES), st.integers(0, 3)))


class Crash(BaseException):
    """The process is gone. Not an Exception: nothing of the product may catch it."""


class Death:
    """Comes in front of the so-manyth call of one verb, and then in front of every call of any."""

    def __init__(self) -> None:
        self.at: tuple[str, int] | None = None  # which verb, after how many calls of it
        self.has_come = False

    def at_hand(self, name: str, verb: Callable[..., Any]) -> Callable[..., Any]:
        """The verb, or death."""

        def call(*args: Any, **more: Any) -> Any:
            if self.at and self.at[0] == name:
                self.has_come = self.has_come or self.at[1] == 0
                self.at = (name, self.at[1] - 1)
            if self.has_come:
                raise Crash
            return verb(*args, **more)

        return call


DEATH = Death()


class Run:
    """An agent that is no process. It lives as long as it holds the lock."""

    def __init__(self, folder: str, pid: int) -> None:
        self.folder = folder
        self.task_id, self.number = folder.split("/")[-2:]
        self.pid = pid
        self.returncode: int | None = None
        self._alive = runs.take_alive(folder)
        with open(f"{folder}/alive", "a", encoding="ascii") as file:
            file.write(f"pid: {pid}\n")

    @property
    def lives(self) -> bool:
        return self.returncode is None

    def end(self, status: int, is_said: bool = True) -> None:
        """It ends; a wrapper that was killed with it says no status."""
        if not self.lives:
            return
        text = f"{self.task_id} is done\n```orchestrate\nnotes: ['by {self.task_id} {self.number}']\n```\n"
        Path(f"{self.folder}/stdout.log").write_text(text if status == 0 else "no\n")
        if is_said:
            Path(f"{self.folder}/exit").write_text(f"{status}\n")
        self.returncode = status
        os.close(self._alive)

    def poll(self) -> int | None:
        return self.returncode


class HandClock(Clock):
    """Goes when it is told to."""

    def __init__(self, now: float) -> None:
        self.now = now

    def wall(self) -> float:
        return self.now

    def lived(self) -> float:
        return self.now


class Moves(RuleBasedStateMachine):
    """`texts` is the model: what people gave, by id. Everything in it has to be found again."""

    @initialize()
    def begin(self) -> None:
        self.root = tempfile.mkdtemp(prefix="orchestrate-model-", dir=MEMORY)
        self.queue = Spool(self.root)
        self.queue.make_folders()
        self.texts: dict[str, set[bytes]] = {}  # id → every text that must be somewhere
        self.given: Counter[str] = Counter()  # id → how many texts were ever put there
        self.runs: list[Run] = []
        self.ended: dict[str, bytes] = {}  # path → a result that is in force
        self.done: dict[str, int] = {}  # id → the run that completed it
        self.unseen: set[str] = set()  # put there by hand since the last whole look
        self.claimed: set[str] = set()  # by the worker
        self.count = 0
        self.clock = HandClock(os.stat(self.root).st_mtime)
        self.dispatcher: Dispatcher | None = None
        self.lock: Any = None
        self.problems: list[str] = []

    def teardown(self) -> None:
        if hasattr(self, "root"):
            try:
                self._settle()
            finally:
                self._drop()
                for one in self.runs:
                    one.end(1)
                shutil.rmtree(self.root)

    # -- the stand-in for the world ---------------------------------------------------------

    def start(self, folder: str, argv: Any, env: Any, workplace: str, stdin_path: str) -> Started:
        """The seam `Launch`."""
        one = Run(folder, NO_PID + len(self.runs))
        others = [other for other in self.runs if other.task_id == one.task_id]
        if any(other.lives for other in others):
            self.problems.append(f"{one.task_id}: run {one.number} was started beside one that lives")
        if any(int(other.number) >= int(one.number) for other in others):
            self.problems.append(f"{one.task_id}: run {one.number} after run {others[-1].number}")
        if one.task_id in self.done:
            self.problems.append(f"{one.task_id}: run {one.number} after run {self.done[one.task_id]} had completed it")
        self.runs.append(one)
        return Started(one, Identity(one.pid, 1, process.boot_id()))  # type: ignore[arg-type]

    def hear(self, event: Event) -> None:
        """A listener: a text that was refused is kept in rejected/; of a copy there is another."""

    def flush(self) -> None:
        """The rest of a listener."""

    def of(self, pid: int) -> Run | None:
        return next((one for one in self.runs if one.pid == pid and one.lives), None)

    def asked_to_end(self, one: Run) -> None:
        """Only who was cancelled, or whose task was taken away."""
        if os.path.exists(self.queue.path(State.ASSIGNED, one.task_id)) and not os.path.exists(
            f"{one.folder}/cancelled"
        ):
            self.problems.append(f"{one.task_id}: run {one.number} was ended in good health")

    # -- dispatchers ------------------------------------------------------------------------

    def _drop(self) -> None:
        """As the kernel does when a process dies: its locks are free."""
        self.dispatcher = None
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    def _under_death(self, at: tuple[str, int] | None, act: Callable[[], object]) -> bool:
        """Whether it came to its end alive."""
        DEATH.at = at
        try:
            act()
        except Crash:
            self._drop()
            return False
        finally:
            DEATH.at, DEATH.has_come = None, False
        return True

    @precondition(lambda self: self.dispatcher is None)
    @rule(at=MOMENTS)
    def a_dispatcher_starts(self, at: tuple[str, int] | None = None) -> None:
        bell = Bell()
        bell.close()
        self.lock = Hold(self.root, 0)
        self.claimed.clear()  # what a worker had claimed, and nobody knows of, is given back
        made = Dispatcher(
            self.queue, CONFIG, lambda: CONFIG, AgentRegistry(self.root, CONFIG, {}), Context(self.root),
            self, [self], bell, {}, clock=self.clock,
        )  # fmt: skip
        made.watcher.keep = lambda: None  # type: ignore[method-assign]
        self.dispatcher = made
        self._under_death(at, made.recover)

    @precondition(lambda self: self.dispatcher is not None)
    @rule()
    def a_second_dispatcher_is_refused(self) -> None:
        with pytest.raises(AlreadyRunning):
            Hold(self.root, 0)

    @precondition(lambda self: self.dispatcher is not None)
    @rule(at=MOMENTS)
    def a_turn(self, at: tuple[str, int] | None = None) -> None:
        assert self.dispatcher is not None
        self.clock.now += 3
        self.dispatcher._scan_at = 0.0
        if self._under_death(at, self.dispatcher.turn):
            self.unseen = {one for one in self.unseen if self.dispatcher.intake.next_look() is not None}

    @precondition(lambda self: self.dispatcher is not None)
    @rule(turns=st.integers(1, 3))
    def some_turns_in_peace(self, turns: int) -> None:
        for _ in range(turns):
            self.a_turn()

    @precondition(lambda self: self.dispatcher is not None)
    @rule()
    def the_dispatcher_dies_between_two_turns(self) -> None:
        self._drop()

    # -- agents and a worker ----------------------------------------------------------------

    @precondition(lambda self: any(one.lives for one in self.runs))
    @rule(which=st.integers(0, 3), status=st.sampled_from((0, 3)), is_said=st.booleans())
    def an_agent_ends(self, which: int, status: int, is_said: bool) -> None:
        living = [one for one in self.runs if one.lives]
        living[which % len(living)].end(status, is_said or status == 0)

    @precondition(lambda self: self.dispatcher is None)
    @rule(task_id=IDS)
    def a_worker_claims(self, task_id: str) -> None:
        """One that nobody has claimed, and that is no copy."""
        known = any(os.path.exists(self.queue.path(state, task_id)) for state in (State.ASSIGNED, *ENDED))
        if self._waits(task_id) and not known and not os.path.exists(f"{self.queue.runs}/{task_id}"):
            self.queue.claim(f"{task_id}.yaml", task_id)
            self.queue.sync()
            self.claimed.add(task_id)

    @precondition(lambda self: bool(self.claimed))
    @rule()
    def a_worker_gives_back(self) -> None:
        task_id = self.claimed.pop()
        if not os.path.exists(self.queue.path(State.PENDING, task_id)):
            self.queue.release(task_id)
            self.queue.sync()

    # -- a person ---------------------------------------------------------------------------

    @rule(act=st.sampled_from(ACTS), task_id=IDS)
    def a_person(self, act: str, task_id: str) -> None:
        getattr(self, f"_{act}")(task_id)

    def _text(self, task_id: str) -> bytes:
        self.count += 1
        return f"description: {task_id} {self.count}\n".encode()

    def _put(self, task_id: str, content: bytes) -> None:
        files.publish(self.queue.path(State.PENDING, task_id), content)
        self._took(task_id, content)

    def _took(self, task_id: str, content: bytes) -> None:
        """The model's part of it."""
        self.given[task_id] += 1
        self.texts.setdefault(task_id, set()).add(content)
        self.unseen.add(task_id)

    def _waits(self, task_id: str) -> bool:
        return os.path.exists(self.queue.path(State.PENDING, task_id))

    def _adds(self, task_id: str) -> None:
        taken = self.queue.state_of(task_id)
        self.count += 1
        try:
            self.queue.put({"id": task_id, "description": f"{task_id} {self.count}"})
        except AlreadyExists:
            assert taken
            return
        assert not taken
        self._took(task_id, Path(self.queue.path(State.PENDING, task_id)).read_bytes())

    def _drops_a_file(self, task_id: str) -> None:
        if not self._waits(task_id):
            self._put(task_id, self._text(task_id))

    def _brings_back(self, task_id: str) -> None:
        """git, or a sync tool: with the bytes that it had."""
        state = self.queue.state_of(task_id)
        if state is not None and not self._waits(task_id):
            self._put(task_id, Path(self.queue.path(state, task_id)).read_bytes())

    def _edits(self, task_id: str) -> None:
        if self._waits(task_id):
            path = self.queue.path(State.PENDING, task_id)
            self._forget(task_id, Path(path).read_bytes())
            content = self._text(task_id)
            files.replace(path, content)
            self._took(task_id, content)

    def _deletes(self, task_id: str) -> None:
        if self._waits(task_id):
            path = self.queue.path(State.PENDING, task_id)
            self._forget(task_id, Path(path).read_bytes())
            os.unlink(path)

    def _forget(self, task_id: str, content: bytes) -> None:
        """A person took this one away; if there is no other of the same bytes, nobody looks for it."""
        if len(self._copies(task_id, content)) == 1:
            self.texts[task_id].discard(content)

    def _retries(self, task_id: str) -> None:
        state = self.queue.state_of(task_id)
        try:
            self.queue.retry(task_id)
        except OrchestrateError:
            # Another file of that id waits where it would go: nothing is overwritten.
            taken = os.path.lexists(self.queue.path(State.PENDING, task_id))
            assert state not in (State.PENDING, State.FAILED, State.REVIEW) or (state is not State.PENDING and taken)

    def _cancels(self, task_id: str) -> None:
        state = self.queue.state_of(task_id)
        living = [one for one in self.runs if one.lives and one.task_id == task_id]
        if state is State.ASSIGNED and living:
            Path(f"{living[-1].folder}/cancelled").touch()
            return
        result = runs.Result(task_id, "", "", 0, Outcome.CANCELLED, self.clock.now, state=State.FAILED)
        try:
            self.queue.cancel_waiting(task_id, result.to_yaml())
        except OrchestrateError:
            return
        assert state in (State.PENDING, State.REVIEW)

    def _moves_back_by_hand(self, task_id: str) -> None:
        state = self.queue.state_of(task_id)
        if state and not self._waits(task_id):
            os.rename(self.queue.path(state, task_id), self.queue.path(State.PENDING, task_id))
            self.claimed.discard(task_id)
            self.unseen.add(task_id)

    # -- what holds at every moment ---------------------------------------------------------

    def _copies(self, task_id: str, content: bytes) -> list[str]:
        """Every file below tasks/ that holds these bytes of this task."""
        found = []
        for state in State:
            for name in self.queue.names(state):
                path = f"{self.queue.tasks}/{state}/{name}"
                if name.startswith(task_id) and Path(path).read_bytes() == content:
                    found.append(path)
        return found

    @invariant()
    def nothing_that_people_wrote_is_lost(self) -> None:
        for task_id, texts in getattr(self, "texts", {}).items():
            for content in texts:
                assert self._copies(task_id, content), f"{task_id}: {content!r} is gone"

    @invariant()
    def a_task_is_in_one_folder(self) -> None:
        for task_id in getattr(self, "texts", {}):
            places = [s for s in (State.ASSIGNED, *ENDED, State.PENDING) if os.path.exists(self.queue.path(s, task_id))]
            if task_id in self.unseen and State.PENDING in places:
                places.remove(State.PENDING)  # put there by somebody; the dispatcher has not seen it yet
            assert len(places) <= 1, f"{task_id} is in {places}"

    @invariant()
    def runs_are_lawful(self) -> None:
        assert getattr(self, "problems", []) == []

    @invariant()
    def results_stay_as_they_are(self) -> None:
        if not hasattr(self, "root"):
            return
        for path, content in self.ended.items():
            assert Path(path).read_bytes() == content, path
        for task_id in self.queue.ids(State.COMPLETED):
            found = runs.read_result(self.queue.result_path(State.COMPLETED, task_id))
            assert found and found.status is Outcome.SUCCESS, f"{task_id}: completed without a result"
            assert self.done.setdefault(task_id, found.run) == found.run, f"{task_id}: completed twice"
            for path in (f"{self.queue.run_folder(task_id, found.run)}/result.yaml",):
                self.ended.setdefault(path, Path(path).read_bytes())

    @invariant()
    def entries_are_merged_once(self) -> None:
        if not hasattr(self, "root"):
            return
        for page, pattern in (("notes/fake.md", r"<!-- (\S+) -->"), ("completed_tasks.json", r'"mark": "([^"]*)"')):
            path = Path(f"{self.root}/context/{page}")
            marks = Counter(re.findall(pattern, path.read_text()) if path.exists() else ())
            assert not marks or max(marks.values()) == 1, f"{page}: {marks}"
            for task_id, run in self.done.items():
                assert marks[f"{task_id}/{run}"] == 1, f"{page}: {task_id}/{run} is missing"
            if page.endswith(".json") and path.exists():
                json.loads(path.read_text())

    # -- the end ----------------------------------------------------------------------------

    def _settle(self) -> None:
        """Everybody goes home, somebody starts a dispatcher, and it comes to rest."""
        for _ in range(40):
            for one in self.runs:
                one.end(0)
            if self.dispatcher is None:
                self.a_dispatcher_starts()
            self.a_turn()
            if not self.dispatcher.intake.waiting and not self.dispatcher.supervisor.lives and not self.unseen:
                break
        for state in (State.PENDING, State.ASSIGNED):
            assert self.queue.names(state) == [], f"{state} at the end"
        for task_id, texts in self.texts.items():
            # Of two texts for one id, one is refused; it is in rejected/ then, and the other may be deleted.
            assert self.queue.state_of(task_id) or not texts or self.given[task_id] > 1, f"{task_id}: is in no folder"
        self.nothing_that_people_wrote_is_lost()
        self.a_task_is_in_one_folder()
        self.runs_are_lawful()
        self.results_stay_as_they_are()
        self.entries_are_merged_once()


@pytest.mark.timeout(300)
def test_the_moves_of_the_spool_hold_against_a_dict_with_death_between_any_two(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[Moves] = []

    class Watched(Moves):
        def __init__(self) -> None:
            super().__init__()
            current[:] = [self]

    def living(folder: str) -> list[int]:
        return [one.pid for one in current[0].runs if one.lives and one.folder == folder]

    def signal_it(pid: int, number: int) -> bool:
        if one := current[0].of(pid):
            current[0].asked_to_end(one)
            one.end(128 + number)
        return True

    for owner, name in VERBS:
        monkeypatch.setattr(owner, name, DEATH.at_hand(name, getattr(owner, name)))
    monkeypatch.setattr(process, "members", living)
    monkeypatch.setattr(process, "signal_member", lambda pid, folder, number: signal_it(pid, number))
    monkeypatch.setattr(process, "signal_group", lambda leader, number: signal_it(leader.pid, number))
    examples = int(os.environ.get("MODEL_EXAMPLES", "80"))
    run_state_machine_as_test(
        Watched,
        settings=settings(
            max_examples=examples,
            stateful_step_count=60,
            derandomize="MODEL_EXAMPLES" not in os.environ,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
