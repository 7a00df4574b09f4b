"""What cannot be opened is not empty: it is tried again, or it is said; nobody judges by nothing.

The kernel refuses here: to a user who has no right, once and for all; or only to the effective user, so that
access(2), which asks for the real one, says that it may be read. (That is what one refusal among many looks like.)
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from helpers import python, read, write

from orchestrator import files, history, output, plain, runs
from orchestrator.agents import AGENTS
from orchestrator.app import Log
from orchestrator.completed import CompletedList
from orchestrator.config import AgentConfig, Config
from orchestrator.errors import InvalidTask
from orchestrator.events import Event
from orchestrator.hold import Hold
from orchestrator.ids import next_ids, stated_by
from orchestrator.intake import Intake
from orchestrator.performance import COMPACT_BYTES, Performance, Run
from orchestrator.pull import Pull
from orchestrator.reading import read_bytes
from orchestrator.recovery import Recovery
from orchestrator.registry import AgentRegistry
from orchestrator.report import Held
from orchestrator.result import Verdict, judge
from orchestrator.roster import Roster
from orchestrator.spool import Spool
from orchestrator.states import Outcome, State

pytestmark = pytest.mark.fast
NOBODY = 65534
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes another user's rights for a moment")


@contextmanager
def rights(real: int, effective: int) -> Iterator[None]:
    """Be these users for a moment, if we may."""
    if os.geteuid():
        yield
        return
    os.setresuid(real, effective, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def refused() -> AbstractContextManager[None]:
    """What is locked cannot be opened now, though it may be."""
    return rights(0, NOBODY)


def locked(path: str, content: str) -> str:
    """A file that only root reads."""
    os.chmod(write(path, content), 0)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[str]:
    """A run's folder, everybody's."""
    place = f"/tmp/orchestrate-{os.getpid()}-{time.time_ns():x}"
    os.mkdir(place)
    os.chmod(place, 0o777)
    files.has_atomic_move()  # (nobody may import anything)
    yield place
    for name in os.listdir(place):
        os.unlink(f"{place}/{name}")
    os.rmdir(place)


def judged(folder: str, adapter: str) -> Verdict:
    return judge(folder, AGENTS[adapter], AgentConfig(command="any"), 1_700_000_000.0, exit_code=0)


@only_root
@pytest.mark.parametrize("name", ["stdout.log", "output.md"])
@pytest.mark.parametrize("adapter", ["shell", "command", "claude", "codex", "gemini", "cursor"])
def test_an_answer_that_could_not_be_opened_once_is_no_empty_one(folder: str, adapter: str, name: str) -> None:
    write(f"{folder}/stdout.log", "")
    locked(f"{folder}/{name}", '{"type":"result","subtype":"success","is_error":false,"result":"the answer"}\n')
    with refused(), pytest.raises(PermissionError):
        judged(folder, adapter)
    assert "the answer" in read(f"{folder}/{name}")
    if (adapter, name) in (("shell", "stdout.log"), ("claude", "stdout.log"), ("shell", "output.md")):
        assert judged(folder, adapter).outcome is Outcome.SUCCESS
        assert "the answer" in read(f"{folder}/output.md")


@pytest.mark.parametrize("name", ["stdout.log", "output.md"])
def test_an_answer_that_its_agent_locked_up_is_said_to_be_unreadable(folder: str, name: str) -> None:
    write(f"{folder}/stdout.log", "")
    locked(f"{folder}/{name}", "the answer")
    with rights(NOBODY, NOBODY):
        verdict = judged(folder, "shell")
    assert verdict.outcome is Outcome.UNREADABLE
    assert verdict.error == f"what it left cannot be read: Permission denied ({folder}/{name})"
    kept = f"{folder}/{name}{'.left1' if name == 'output.md' else ''}"
    os.chmod(kept, 0o644)
    assert read(kept) == "the answer"


@only_root
def test_a_task_that_could_not_be_opened_once_is_not_refused(folder: str) -> None:
    path = locked(f"{folder}/a.yaml", "description: x\n")
    with refused(), pytest.raises(PermissionError):
        read_bytes(path)
    with rights(NOBODY, NOBODY), pytest.raises(InvalidTask, match="cannot be read: Permission denied"):
        read_bytes(path)


@only_root
def test_a_verdict_a_record_an_exit_status_and_a_note_that_could_not_be_opened_are_not_missing(folder: str) -> None:
    for name in ("result.yaml", "alive", "exit", "who.yaml"):
        locked(f"{folder}/{name}", "")
    with refused():
        for look in (
            lambda: runs.read_result(f"{folder}/result.yaml"),
            lambda: runs.read_record(folder),
            lambda: runs.has_begun(folder),
            lambda: runs.read_exit(folder),
            lambda: runs.assigned_run(f"{folder}/who.yaml"),
            lambda: runs.assigned_boot(f"{folder}/who.yaml"),
            lambda: plain.same(f"{folder}/alive", f"{folder}/exit"),
            lambda: stated_by(f"{folder}/who.yaml"),
        ):
            with pytest.raises(PermissionError):
                look()


@only_root
def test_a_persons_note_that_could_not_be_opened_is_not_left_out(queue: Spool) -> None:
    run = queue.run_folder("a", 1)
    write(f"{run}/exit", "1\n")
    locked(f"{run}/retried", "use the other door")
    with refused(), pytest.raises(PermissionError):
        history.attempts(queue, "a")
    assert history.attempts(queue, "a").note == "use the other door"


@only_root
def test_a_pause_that_cannot_be_read_once_goes_on(tmp_path: Path) -> None:
    registry = AgentRegistry(str(tmp_path), Config(agents={"one": AgentConfig(command="true")}), {})
    registry.pause("one", time.time() + 1000, "rate limit")
    os.chmod(f"{tmp_path}/.orchestrator/agents/one.yaml", 0)
    with refused():
        registry.look()
    assert registry.paused("one", time.time())


@only_root
def test_a_copy_that_cannot_be_compared_stays_where_it_is(folder: str) -> None:
    copy = write(f"{folder}/copy.yaml", "description: x\n")
    kept = locked(f"{folder}/kept.yaml", "description: x\n")
    with refused(), pytest.raises(PermissionError):
        plain.drop_copy(copy, kept, folder)
    assert sorted(os.listdir(folder)) == ["copy.yaml", "kept.yaml"]
    assert plain.drop_copy(copy, kept, folder)


@only_root
def test_what_cannot_be_looked_for_is_not_gone(queue: Spool) -> None:
    write(queue.path(State.COMPLETED, "task_001"), "description: x\n")
    path = queue.path(State.COMPLETED, "task_001")
    with refused():
        assert not os.path.lexists(path)  # what `os.path` makes of it
        for look in (lambda: plain.is_there(path), lambda: queue.state_of("task_001"), lambda: next_ids(queue)):
            with pytest.raises(PermissionError):
                look()
        assert not plain.is_gone(path)
    assert plain.is_there(path) and plain.is_gone(f"{path}/no") and not plain.is_there("a" * 300)


@only_root
def test_a_run_that_cannot_be_looked_at_keeps_no_other_back(folder: str) -> None:
    queue = Spool(f"{folder}/root")
    os.mkdir(queue.root)
    queue.make_folders()
    for task_id in ("a", "b"):
        write(queue.path(State.ASSIGNED, task_id), "description: x\n")
    locked(queue.assignment_path("b", "agent_01"), "agent_id: agent_01\nrun: 1\n")
    for above, _, _ in os.walk(queue.root):
        os.chmod(above, 0o777)
    told: list[tuple[str, str, str]] = []
    registry = AgentRegistry(queue.own, Config(agents={"one": AgentConfig(command="true")}), {})
    recovery = Recovery(queue, registry, lambda *run: pytest.fail("nothing runs"), lambda *one: told.append(one))
    with refused():
        assert recovery.take_up(time.time()) == []
    assert (queue.state_of("a"), queue.state_of("b")) == (State.PENDING, State.ASSIGNED)
    assert [(kind, task_id) for kind, task_id, _ in told] == [("recovered", "a"), ("error", "b")]
    shutil.rmtree(queue.root)


@only_root
def test_a_waiting_task_that_cannot_be_looked_at_is_looked_at_again_soon(queue: Spool) -> None:
    write(queue.path(State.PENDING, "a"), "description: x\n")
    intake, now = Intake(queue, Config(), ["shell"], lambda *fact: None), time.time() + 10
    intake.look(None, now)
    os.utime(queue.path(State.PENDING, "a"))
    with refused():
        intake.look(["a.yaml"], now)
    assert len(intake.waiting) == 0 and intake.next_look() == now + 1.0
    intake.look([], now + 1.0)
    assert len(intake.waiting) == 1


@only_root
def test_a_run_that_cannot_be_locked_once_is_not_lost_to_its_worker(folder: str) -> None:
    locked(f"{folder}/alive", "")
    held = Held("a", "worker", 1, folder)
    pull = Pull(Spool(folder), Roster(f"{folder}/.orchestrator"), lambda *fact: None)
    with refused(), pytest.raises(PermissionError), pull._hold(held):
        pass


@only_root
def test_an_answer_that_the_prompt_should_quote_and_cannot_is_said(folder: str) -> None:
    path = locked(f"{folder}/a_output.md", "the answer")
    with refused():
        assert output.text(path, 100) == f"(it cannot be read: Permission denied ({path}))"
    with descriptors(0), pytest.raises(OSError, match="Too many open files"):
        output.text(path, 100)


# -- no room ------------------------------------------------------------------------------------


@contextmanager
def limited(kind: int, limit: int) -> Iterator[None]:
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


def descriptors(more: int) -> AbstractContextManager[None]:
    """There are only so many more."""
    fd = os.open("/", os.O_RDONLY)
    os.close(fd)
    return limited(resource.RLIMIT_NOFILE, fd + more)


def test_a_list_that_the_disk_took_half_of_is_the_list_as_it_was(tmp_path: Path) -> None:
    made = CompletedList(f"{tmp_path}/list.json", list)
    made.add([("a/1", b'{"mark": "a/1"}')], set())
    before = read(made.path)
    with limited(resource.RLIMIT_FSIZE, len(before) + 10), pytest.raises(OSError, match="took"):
        made.add([("b/1", b'{"mark": "b/1", "title": "longer than there is room for"}')], set())
    assert read(made.path) == before
    made.add([("b/1", b'{"mark": "b/1"}')], {"b/1"})
    assert [one["mark"] for one in json.loads(read(made.path))] == ["a/1", "b/1"]


def test_a_log_that_takes_no_line_says_nothing_on_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = Log(f"{tmp_path}/log", "info", False)
    log.hear(Event(0.0, "started", "a", "text"))
    with limited(resource.RLIMIT_FSIZE, 3):
        log.flush()
    log._file.close()
    assert capfd.readouterr().err == ""


def test_a_dispatcher_that_did_not_come_up_for_lack_of_descriptors_holds_nothing(tmp_path: Path) -> None:
    Hold(str(tmp_path)).release()
    with descriptors(1), pytest.raises(OSError, match="Too many open files"):
        Hold(str(tmp_path))
    Hold(str(tmp_path), 0.0).release()


@only_root
def test_a_record_of_runs_that_cannot_be_read_once_says_what_it_said_and_is_not_made_short(tmp_path: Path) -> None:
    performance, now = Performance(str(tmp_path)), time.time()
    run = Run("a/1", False, 1.0, now, ("x" * COMPACT_BYTES,))
    performance.note("one", run)
    assert performance.of("one", now).runs == 1
    path = f"{tmp_path}/agents/one.runs"
    os.chmod(path, 0)
    with refused():
        performance.note("one", run._replace(mark="b/1"))
        assert performance.of("one", now + 60).runs == 1
    assert "a/1" in read(path)


def test_a_fifo_in_the_place_of_a_record_of_runs_holds_nobody_up(tmp_path: Path) -> None:
    performance = Performance(str(tmp_path))
    os.mkdir(performance.folder)
    for name in ("one.runs", "one.learned"):
        os.mkfifo(f"{performance.folder}/{name}")
    performance.note("one", Run("a/1", True, 1.0, time.time()))
    with pytest.raises(OSError):
        performance.learn("one", "web", 1.0, time.time())
    assert performance.of("one", time.time()).runs == 0


def test_a_fault_of_ours_is_said_in_one_line_also_if_no_module_can_be_loaded() -> None:
    code = """
import os, resource, sys
from orchestrator.errors import report
for name in ("tempfile", "traceback", "random"):
    sys.modules.pop(name, None)
try:
    raise RuntimeError("it broke")
except RuntimeError:
    fd = os.open("/", os.O_RDONLY)
    os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (fd, fd))
    print(report())
"""
    out, err = python(code).communicate(timeout=60)
    assert (out, err) == ("a fault of ours, not yours; nothing was lost. RuntimeError: it broke\n", "")
