"""What cannot be opened is not empty: it is tried again, or it is said; nobody judges by nothing.

The kernel refuses here: to a user who has no right, once and for all; or only to the effective user, so that
access(2), which asks for the real one, says that it may be read. (That is what one refusal among many looks like.)
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import read, write

from orchestrator import files, history, plain, runs
from orchestrator.agents import AGENTS
from orchestrator.config import AgentConfig, Config
from orchestrator.errors import InvalidTask
from orchestrator.ids import stated_by
from orchestrator.reading import read_bytes
from orchestrator.registry import AgentRegistry
from orchestrator.result import Verdict, judge
from orchestrator.spool import Spool
from orchestrator.states import Outcome

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


def refused() -> contextmanager[None]:  # type: ignore[type-arg,valid-type]
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
