"""What a program gives that cannot be: one line that says what and what to write, and nothing was changed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import AgentRegistry, TaskQueue, extras
from orchestrator.cli import main
from orchestrator.errors import OrchestrateError

pytestmark = pytest.mark.fast

Q = Callable[[TaskQueue, AgentRegistry], object]
MINE = {"agent_id": "researcher", "run": 1}
CYCLE: list[object] = []
CYCLE.append(CYCLE)

CALLS: dict[str, tuple[str, Any]] = {
    "an unknown agent": ("did you mean 'researcher'", lambda q, r: q.get_next_task("reseacher")),
    "an unknown agent that polls": ("did you mean 'researcher'", lambda q, r: q.poll_tasks("reseacher")),
    "an unknown agent is given a task": ("did you mean 'researcher'", lambda q, r: q.assign_task("task_001", "reseacher")),
    "an unknown agent beats": ("did you mean 'researcher'", lambda q, r: q.heartbeat("reseacher")),
    "an unknown agent goes": ("did you mean 'researcher'", lambda q, r: r.unregister_agent("reseacher")),
    "the health of an unknown agent": ("did you mean 'researcher'", lambda q, r: r.get_agent_health("reseacher")),
    "no agent at all": ("None: no such worker", lambda q, r: q.get_next_task(None)),
    "a path for an agent": ("no such worker", lambda q, r: q.get_next_task("../x")),
    "a wrong run": ("researcher has it now, as run 1", lambda q, r: q.fail_task("task_001", "x", agent_id="researcher", run=7)),
    "a wrong run of a heartbeat": ("researcher has it now, as run 1", lambda q, r: q.heartbeat("researcher", "task_001", 7)),
    "a run that is no number": ("run: write the number", lambda q, r: q.report_progress("task_001", 1, None, "researcher", "x")),
    "a run that is a path": ("run: write the number", lambda q, r: q.complete_task("task_001", "x", agent_id="researcher", run="../../../x")),
    "a run that is true": ("run: write the number", lambda q, r: q.complete_task("task_001", "x", agent_id="researcher", run=True)),
    "a run below none": ("run: write the number", lambda q, r: q.heartbeat("researcher", "task_001", -1)),
    "a text for many tasks": ("write a list of tasks, not 'abc'", lambda q, r: q.create_tasks("abc")),
    "one task for many": ("write a list of tasks", lambda q, r: q.create_tasks({"description": "x"})),
    "no tasks for many": ("write a list of tasks, not None", lambda q, r: q.create_tasks(None)),
    "a key that is a number": ("unknown key '5'", lambda q, r: q.create_tasks([{"description": "x", 5: "x"}])),
    "a metric beyond all floats": ("metrics: rows: write a number", lambda q, r: q.complete_task("task_001", "x", {"rows": 10**400}, **MINE)),
    "a success in words": ("success: write True or False", lambda q, r: r.update_agent_performance("researcher", "failed")),
    "a task that there is not": ("did you mean 'task_001'", lambda q, r: q.complete_task("task_01", "x")),
    "no task at all": ("None: no such task", lambda q, r: q.complete_task(None, "x")),
    "a path for a task": ("no such task", lambda q, r: q.complete_task("../../x", "x", **MINE)),
    "a result that is a list": ("result: write a text or a mapping", lambda q, r: q.complete_task("task_001", ["x"], **MINE)),
    "a result with a wrong key": ("did you mean 'text'", lambda q, r: q.complete_task("task_001", {"txt": "x"}, **MINE)),
    "metrics that are a list": ("metrics: write words", lambda q, r: q.complete_task("task_001", "x", [1], **MINE)),
    "a metric that is a text": ("metrics: rows: write a number", lambda q, r: q.complete_task("task_001", "x", {"rows": "5"}, **MINE)),
    "no error": ("say in words what went wrong", lambda q, r: q.fail_task("task_001", None, **MINE)),
    "an empty error": ("say in words what went wrong", lambda q, r: q.fail_task("task_001", " \n", **MINE)),
    "101 percent": ("a number from 0 to 100", lambda q, r: q.report_progress("task_001", 101)),
    "nan percent": ("a number from 0 to 100", lambda q, r: q.report_progress("task_001", float("nan"))),
    "a finding of 10 MB": ("1,000,000 is the most", lambda q, r: q.report_progress("task_001", 1, "x" * 10_000_000)),
    "a finding that is no JSON": ("write what JSON can hold", lambda q, r: q.report_progress("task_001", 1, object())),
    "a finding that holds itself": ("write what JSON can hold", lambda q, r: q.report_progress("task_001", 1, CYCLE)),
    "two workers with one id": ("choose another id", lambda q, r: q.register_agent("researcher", ["web"])),
    "an id of a slot": ("slot of the dispatcher's", lambda q, r: q.register_agent("agent_01")),
    "an id of an agent of config.yaml": ("an agent of config.yaml", lambda q, r: q.register_agent("shell")),
    "an id with a space": ("may hold letters", lambda q, r: q.register_agent("a b")),
    "no tasks at once": ("whole number of 1 or more, not 0", lambda q, r: q.register_agent("new", [], {"max_concurrent_tasks": 0})),
    "true tasks at once": ("whole number of 1 or more", lambda q, r: r.register_agent("new", [], {"max_concurrent_tasks": True})),
    "half a task at once": ("whole number of 1 or more", lambda q, r: q.register_agent("new", [], {"max_concurrent_tasks": 0.5})),
    "one capability as a text": ("write a list of words, not 'web'", lambda q, r: q.register_agent("new", "web")),
    "a capability that is a number": ("capability 5 is no text", lambda q, r: q.register_agent("new", [5])),
    "metadata that is a list": ("metadata: write words", lambda q, r: q.register_agent("new", [], [1])),
    "metadata in metadata": ("metadata: a: write a text or a number", lambda q, r: q.register_agent("new", [], {"a": {}})),
    "to claim less than one": ("limit: write a whole number of 1 or more", lambda q, r: q.claim_tasks("researcher", -1)),
    "to poll a text": ("limit: write a whole number of 1 or more", lambda q, r: q.poll_tasks("researcher", "pending", "5")),
    "an unknown status to poll": ("write pending or assigned", lambda q, r: q.poll_tasks("researcher", "pendin")),
    "filters that are a list": ("filters: write a mapping", lambda q, r: q.query_tasks(["status"])),
    "an unknown filter": ("did you mean 'status'", lambda q, r: q.query_tasks({"stat": 1})),
    "a task that is no text": ("description", lambda q, r: q.create_task(5)),
    "no text for a task": ("description: what to do", lambda q, r: q.create_task(None)),
    "a field that is anything": ("is no text, number or list", lambda q, r: q.create_task("x", task_type=object())),
    "a requirement that is a number": ("is no text, number or list", lambda q, r: q.create_task("x", requirements=[5])),
    "seconds in words": ("seconds: write a number", lambda q, r: r.update_agent_performance("researcher", True, "5")),
    "a type with a space": ("task_type 'a b'", lambda q, r: r.update_agent_performance("researcher", True, 5, "a b")),
    "a confidence in words": ("a number from 0 to 1", lambda q, r: r.learn_new_capability("researcher", "x", "much")),
    "a confidence of 2": ("a number from 0 to 1", lambda q, r: r.learn_new_capability("researcher", "x", 2)),
}  # fmt: skip


def held(root: Path) -> dict[str, bytes]:
    """Every file but those that say when somebody was heard of, what happened, and what is late."""
    found = sorted(root.rglob("*"))
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in found
        if path.is_file() and path.suffix not in (".beat", ".lock", ".jsonl") and "late" not in path.name
    }


@pytest.fixture
def desk(tmp_path: Path) -> tuple[TaskQueue, AgentRegistry]:
    queue = TaskQueue(str(tmp_path))
    queue.register_agent("researcher", ["web"], {"max_concurrent_tasks": 2})
    queue.create_task("x", requirements=["web"])
    queue.create_task("y")
    assert queue.get_next_task("researcher")
    return queue, AgentRegistry(str(tmp_path))


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_is_answered_in_one_line_and_changes_nothing(
    desk: tuple[TaskQueue, AgentRegistry], tmp_path: Path, name: str
) -> None:
    said, call = CALLS[name]
    before = held(tmp_path)
    with pytest.raises(OrchestrateError) as error:
        call(*desk)
    assert said in str(error.value) and str(error.value).isprintable() and len(str(error.value)) < 400
    assert held(tmp_path) == before


def test_a_second_completion_is_refused_and_kept_beside(desk: tuple[TaskQueue, AgentRegistry], tmp_path: Path) -> None:
    queue, _ = desk
    queue.complete_task("task_001", "done", **MINE)
    before = held(tmp_path)
    for again in (
        lambda: queue.complete_task("task_001", "again", **MINE),
        lambda: queue.complete_task("task_001", "again"),
    ):
        with pytest.raises(OrchestrateError, match=r"has ended \(completed\)|nobody has it"):
            again()
    assert held(tmp_path) == before
    assert "again" in (tmp_path / "tasks/runs/task_001/1/late.md").read_text()


def test_one_requirement_may_be_a_text_as_in_a_file(desk: tuple[TaskQueue, AgentRegistry], tmp_path: Path) -> None:
    one = desk[0].create_task("x", requirements="web", dependencies="task_001")
    text = (tmp_path / f"tasks/pending/{one}.yaml").read_text()
    assert "requirements: web" in text and "dependencies: task_001" in text


def test_a_task_that_needs_what_nobody_can_waits_and_says_the_nearest_name(
    desk: tuple[TaskQueue, AgentRegistry], tmp_path: Path
) -> None:
    from orchestrator.cli.views import Views

    one = desk[0].create_task("x", requirements=["wbe"])
    [row] = [row for row in Views(str(tmp_path)).page({"pending"})[0] if row["task_id"] == one]
    assert row["reason"] == "needs capability wbe (did you mean 'web'?); agents have web"


def typed(root: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["orchestrate", "--root", str(root), *words])
    return main()


def test_a_number_beyond_all_sizes_is_all_there_is(
    desk: tuple[TaskQueue, AgentRegistry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for words, said in (("events", "claimed"), ("tasks", "task_002"), ("poll researcher", "task_002")):
        code = typed(tmp_path, monkeypatch, *words.split(), "-n", str(10**30))
        shown = capsys.readouterr()
        assert code == 0 and said in shown.out, shown.err


def test_a_folder_in_the_place_of_a_file_is_named(
    desk: tuple[TaskQueue, AgentRegistry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "tasks/runs/task_001/1/output.md").mkdir()
    words = ("complete", "task_001", "--agent", "researcher", "--run", "1", "--result", "x")
    assert typed(tmp_path, monkeypatch, *words) == 1
    assert "1/output.md: Is a directory" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["mcp", "mcp --tools", "mcp --http 0"])
def test_without_the_extra_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    (tmp_path / "tasks").mkdir()
    for name in ("anyio", "mcp", "mcp_types"):  # as where none of what the extra brings is there
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "orchestrator.extras.mcp", raising=False)
    monkeypatch.delattr(extras, "mcp", raising=False)
    assert typed(tmp_path, monkeypatch, *words.split()) == 1
    assert capsys.readouterr().err.endswith("2.3 or newer: pip install 'orchestrate-agents[mcp]'\n")
