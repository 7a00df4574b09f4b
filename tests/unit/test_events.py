"""The journal of facts: written by anybody, torn by nobody; searched by day, kind, task, agent and time."""

from __future__ import annotations

import ast
import gzip
import json
import os
import time
from pathlib import Path

import pytest

from orchestrator import events
from orchestrator.archive import archive
from orchestrator.cli.events import Wanted, kinds, moment
from orchestrator.errors import Refused, WrongUsage
from orchestrator.events import Event, Journal
from orchestrator.journal import Reading, untold
from orchestrator.queue import TaskQueue
from orchestrator.registry import AgentRegistry
from orchestrator.runs import Result
from orchestrator.spool import Spool
from orchestrator.states import Outcome, State

pytestmark = pytest.mark.fast

PACKAGE = Path(events.__file__).parent


@pytest.fixture
def own(tmp_path: Path) -> Path:
    made = tmp_path / ".orchestrator"
    (made / "events").mkdir(parents=True)
    return made


def day(seconds: float = 0.0) -> str:
    """The name of a file of the journal, so many seconds from now."""
    return time.strftime("%Y-%m-%d.jsonl", time.gmtime(time.time() + seconds))


def row(text: str, at: float = 1e9, **more: object) -> str:
    return json.dumps({"at": at, "kind": "warning", "text": text, **more}) + "\n"


def texts(own: Path, since: float = 0.0) -> list[str]:
    return [one["text"] for one in Reading(str(own), since).rows()]


# -- written --------------------------------------------------------------------------------------


def test_who_writes_after_a_torn_line_begins_a_new_one(own: Path) -> None:
    path = own / "events" / day()
    path.write_text(row("whole") + '{"at": 1, "kind": "warn')
    events.record(str(own), "warning", "", "after")
    assert texts(own) == ["whole", "after"]
    assert len(path.read_bytes().splitlines()) == 3


@pytest.mark.parametrize("there", ["fifo", "folder", "a file for the folder", "nothing"])
def test_what_cannot_be_written_harms_nobody(own: Path, there: str) -> None:
    path = own / "events" / day()
    if there == "fifo":
        os.mkfifo(path)
    elif there == "folder":
        path.mkdir()
    else:
        path.parent.rmdir()
        if there != "nothing":
            path.parent.touch()
    events.record(str(own), "warning", "", "said")
    assert texts(own) == (["said"] if there == "nothing" else [])


@pytest.mark.heavy
def test_every_kind_that_is_told_is_in_the_table() -> None:
    told = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(getattr(node, "func", None), "attr", "")
            if not isinstance(node, ast.Call) or name not in ("tell", "_tell", "record"):
                continue
            place = 1 if name == "record" else 0
            if len(node.args) > place and isinstance(node.args[place], ast.Constant):
                told.add(node.args[place].value)
    ends = {"retried", "completed", "failed", "review", "cancelled", "late"}  # by `ended.told`
    aside = {"rejected", "returned"}  # by the intake, once that is durable
    assert told | ends | aside == set(events.KINDS)


# -- by whoever does it ---------------------------------------------------------------------------


def facts(queue: Spool, task_id: str = "") -> list[tuple[str, str]]:
    return [(one["kind"], one["text"]) for one in Reading(queue.own).rows() if one.get("task_id", "") == task_id]


def test_each_step_of_a_task_of_a_worker_is_told_once(tmp_path: Path) -> None:
    desk = TaskQueue(str(tmp_path))
    desk.register_agent("w", ["web"])
    one = desk.create_task("Find it\nand more", requirements=["web"])
    mine = desk.get_next_task("w")
    assert mine is not None
    desk.start_task(one, "w", mine.run)
    desk.report_progress(one, 50, {"sources": 2}, "w", mine.run)
    desk.complete_task(one, "x", agent_id="w", run=mine.run)
    with pytest.raises(Refused):
        desk.complete_task(one, "x", agent_id="w", run=mine.run)
    desk.unregister_agent("w")
    steps = ["submitted", "claimed", "started", "progress", "completed", "late"]
    assert [kind for kind, _ in facts(desk, one)] == steps
    assert facts(desk, one)[0][1] == "Find it"
    assert [kind for kind, _ in facts(desk)] == ["registered", "unregistered"]


def test_a_file_that_was_dropped_is_told_of_when_a_worker_takes_it(tmp_path: Path) -> None:
    desk = TaskQueue(str(tmp_path))
    desk.register_agent("w")
    (tmp_path / "tasks/pending/dropped.yaml").write_text("description: by hand\n")
    (tmp_path / "tasks/pending/bad.yaml").write_text("no_key: of a task\n")
    assert desk.get_next_task("w")
    assert [kind for kind, _ in facts(desk, "dropped")] == ["submitted", "claimed"]
    assert [kind for kind, _ in facts(desk)] == ["registered", "rejected"]


def test_what_a_person_says_is_told(queue: Spool) -> None:
    one = queue.add("x")
    said = Result(one, "", "", 0, Outcome.CANCELLED, time.time() - 100, state=State.FAILED).to_yaml()
    queue.cancel_waiting(one, said)
    queue.retry(one, "use the \x1b[31mother")
    queue.retry(one)  # it waits for nothing: no fact
    queue.cancel_waiting(one, said)
    assert archive(queue, 1.0) == [one]
    assert facts(queue, one) == [
        ("submitted", "x"),
        ("cancelled", "by a person while it was pending"),
        ("retried", "a person said so: use the \\x1b[31mother"),
        ("cancelled", "by a person while it was pending"),
        ("archived", f"tasks/archive/{time.strftime('%Y-%m', time.gmtime())}/failed/{one}.yaml"),
    ]


def test_what_was_learned_is_told(tmp_path: Path) -> None:
    registry = AgentRegistry(str(tmp_path))
    registry.register_agent("w")
    registry.learn_new_capability("w", "sql", 0.9)
    assert [one["kind"] for one in Reading(str(tmp_path / ".orchestrator")).rows()] == ["registered", "learned"]


# -- searched -------------------------------------------------------------------------------------


def test_all_days_are_found_also_rolled_over_packed_and_put_away(own: Path) -> None:
    folder = own / "events"
    (folder / "2025-01").mkdir()
    (folder / "2025-01" / "2025-01-14.jsonl").write_text(row("1"))
    (folder / "2025-01-15.jsonl.2").write_text(row("2"))
    (folder / "2025-01-15.jsonl.1.gz").write_bytes(gzip.compress(row("3").encode()))
    (folder / "2025-01-15.jsonl").write_text(row("4"))
    (folder / "2025-01-16.jsonl").write_text(row("5") + row("no newline").strip())
    (folder / "notes.txt").write_text(row("none"))
    assert texts(own) == ["1", "2", "3", "4", "5", "no newline"]


def test_what_is_no_event_is_passed_over(own: Path) -> None:
    folder = own / "events"
    os.mkfifo(folder / "2025-01-14.jsonl")
    (folder / "2025-01-15.jsonl.gz").write_bytes(gzip.compress(row("packed").encode() * 9)[:-12])
    bad = '\n{"at": NaN, "kind": "x"}\n{"at": 1e300, "kind": "x"}\n[]\n7\n{"at": "1", "kind": "x"}\n{"at": 1}\n'
    bad += "[" * 100_000 + "\n" + '{"at": 1, "kind": 5}\n\0\0\n'
    (folder / "2025-01-16.jsonl").write_text(bad + row("good"))
    assert texts(own)[-1] == "good" and set(texts(own)) <= {"packed", "good"}


def test_only_the_days_since_then_are_opened(own: Path) -> None:
    for name, at in (("2025-01-14", 1736812800), ("2025-01-15", 1736899200)):
        (own / "events" / f"{name}.jsonl").write_text(row("early", at + 10) + row("late", at + 80_000))
    with (own / "events" / "2025-01-14.jsonl").open("a") as file:
        file.write(row("cannot be: it had not happened yet", 1736899200 + 100))
    assert texts(own, 1736899200 + 20.0) == ["late"]
    assert texts(own, 1736899200.0) == ["early", "late"]


def test_that_a_task_came_is_told_once(own: Path) -> None:
    lines = [row("x", kind="submitted", task_id="a"), row("y", kind="submitted", task_id="a")]
    (own / "events" / day()).write_text("".join(lines))
    assert texts(own) == ["x"]


def test_a_reader_goes_on_over_midnight_and_when_a_file_is_rolled_over(own: Path) -> None:
    path = own / "events" / day()
    path.write_text(row("1"))
    reading = Reading(str(own))

    def new() -> list[str]:
        return [one["text"] for one in reading.rows(follow=True)]

    assert new() == ["1"] and new() == []
    with path.open("a") as file:
        file.write(row("2") + row("3")[:20])
    assert new() == ["2"], "a line that is still being written waits for its end"
    with path.open("a") as file:
        file.write(row("3")[20:] + row("4"))
    path.rename(f"{path}.1")
    path.write_text(row("5"))
    assert new() == ["3", "4", "5"]
    (own / "events" / day(86400)).write_text(row("6"))
    assert new() == ["6"]
    path.write_text("")
    assert new() == []
    path.write_text(row("7"))
    assert new() == ["7"], "a file that was emptied begins anew"


def test_the_filters(own: Path) -> None:
    lines = [
        row("a", task_id="one", agent_id="agent_01", agent_type="claude"),
        row("b", task_id="two", agent_id="w", agent_type="worker", kind="progress"),
        row("about one", task_id="two"),
    ]
    (own / "events" / day()).write_text("".join(lines))

    def found(task: str = "", agent: str = "", *words: str) -> list[str]:
        wanted = Wanted(task, agent, words)
        return [one["text"] for one in wanted.of(Reading(str(own), 0.0, wanted.must()).rows())]

    assert found("one") == ["a"] and found("two") == ["b", "about one"]
    assert found("", "claude") == found("", "agent_01") == ["a"]
    assert found("", "", "progress, claimed") == ["b"] and found("two", "claude") == []


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(WrongUsage, match="did you mean 'submitted'"):
        kinds(["submited"])


def test_moments() -> None:
    now, midnight = time.time(), time.time() // 86400 * 86400
    assert moment("") == 0.0
    assert abs(moment("2h") - (now - 7200)) < 5 and abs(moment("1.5d") - (now - 129_600)) < 5
    assert moment("today") == midnight and moment(" Yesterday ") == midnight - 86400
    names = [time.strftime("%A", time.gmtime(midnight - 86400 * back)) for back in range(1, 8)]
    assert [moment(name) for name in names] == [midnight - 86400 * back for back in range(1, 8)]
    assert moment("2025-01-15") == 1736899200 == moment("2025-01-15T01:00:00+01:00")
    assert moment("2025-01-15T10:00") == moment("2025-01-15 10:00:00Z") == 1736935200


@pytest.mark.parametrize("text", ["soon", "2x", "h", "-2h", "2025-13-01", "9" * 30, "\x1b[31m"])
def test_what_is_no_moment_is_refused_in_one_harmless_line(text: str) -> None:
    with pytest.raises(WrongUsage) as error:
        moment(text)
    assert "--since" in str(error.value) and str(error.value).isprintable()


def test_a_dispatcher_that_comes_tells_of_what_nobody_told(own: Path) -> None:
    now = time.time()
    journal = Journal(f"{own}/events")
    for number in range(9000):  # more than is looked at in one piece
        journal.hear(Event(now - 30, "submitted", f"told_{number}", "é" * 60))
    journal.flush()
    is_untold = untold(str(own), now - 100)
    assert is_untold("dropped", now - 50) and not is_untold("before", now - 200)
    assert not any(is_untold(f"told_{number}", now - 30) for number in range(9000))


def test_the_journal_is_not_read_for_what_came_before_the_last_dispatcher_went(own: Path) -> None:
    is_untold = untold(str(own), 1000.0)
    assert not is_untold("x", 999.0)
    events.record(str(own), "submitted", "x", "x")
    assert not is_untold("x", 1001.0)  # it was read just now, and not before
