"""However many files wait: what is urgent is found early, nothing is read twice, and nobody waits for all of them."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Iterator
from itertools import islice

import pytest
from helpers import write

from orchestrator import apart, arriving, reading
from orchestrator.backlog import Backlog, Place
from orchestrator.config import Config
from orchestrator.intake import FEW, Intake
from orchestrator.rules import built
from orchestrator.spool import Spool
from orchestrator.states import Priority, State
from orchestrator.task import Task
from orchestrator.waiting import Attempt, Entry, Waiting

pytestmark = pytest.mark.fast

NOW = 1_000_000.0
MANY = 400


class Slow:
    """An intake that has time for ten looks at its clock in each slice; and what it did."""

    def __init__(self, queue: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
        self.queue = queue
        self.told: list[tuple[str, str, str]] = []
        self.read: list[str] = []  # names, in the order in which they were read
        self.listed = 0
        self._ticks = 0.0
        self.intake = Intake(
            queue, Config(), ["shell"], lambda *fact, **more: self.told.append(fact), slice=10.0, clock=self._clock
        )
        read_bytes, pending_files = reading.read_bytes, queue.pending_files

        def counting(path: str, settled: bool) -> bytes:
            self.read.append(os.path.basename(path).removesuffix(".yaml"))
            return read_bytes(path, settled=settled)

        def listing() -> Iterator[os.DirEntry[str]]:
            self.listed += 1
            return pending_files()

        monkeypatch.setattr(apart, "read_bytes", counting)
        monkeypatch.setattr(queue, "pending_files", listing)

    def _clock(self) -> float:
        self._ticks += 1.0
        return self._ticks

    def drop(self, task_id: str, text: str = "description: x\n") -> str:
        return write(f"{self.queue.tasks}/pending/{task_id}.yaml", text)

    def fill(self, count: int = MANY) -> list[str]:
        ids = [f"t{number}" for number in range(count)]
        for age, one in enumerate(ids):
            os.utime(self.drop(one), (time.time() - 10_000 + age,) * 2)
        return ids

    def look(self, *names: str) -> None:
        self.intake.look(names or None, time.time())

    def finish(self) -> int:
        """Go on until all is read; the slices that it took."""
        count = 0
        while self.intake.next_look() == 1.0:
            self.intake.go_on(time.time())
            count += 1
        return count

    @property
    def waiting(self) -> set[str]:
        return set(self.intake.waiting.by_id)


@pytest.fixture
def desk(queue: Spool, monkeypatch: pytest.MonkeyPatch) -> Slow:
    return Slow(queue, monkeypatch)


def test_the_first_of_many_can_start_long_before_all_are_read_and_each_is_read_once(desk: Slow) -> None:
    ids = desk.fill()
    while not desk.waiting:
        desk.look()
    assert len(desk.read) < 10
    assert desk.read[0] == "t0"  # the oldest, by its name, which is all that is known of most of them
    assert desk.finish() > MANY / 20
    assert desk.waiting == set(ids)
    assert sorted(desk.read) == sorted(ids)


def test_once_each_was_glanced_at_they_are_read_by_priority_and_then_by_age(desk: Slow) -> None:
    desk.fill()
    for one, text in (("zz_high", "description: x\npriority: high\n"), ("zz_json", '{"priority": 0, "run": "x"}')):
        desk.drop(one, text)
    desk.drop("aa_low", "description: x\npriority: low\n")
    desk.drop("aa_odd", "no_key: of a task\n")
    os.utime(desk.drop("zz_old"), (1000, 1000))
    desk.look()
    while desk.intake.survey.is_on:
        desk.intake.go_on(time.time())
    desk.finish()
    rest = desk.read[1 + max(desk.read.index(one) for one in ("zz_high", "zz_json", "zz_old")) :]
    assert len(rest) > MANY / 4
    assert rest[-2:] == ["aa_low", "aa_odd"]
    assert rest[:-2] == sorted(rest[:-2], key=lambda one: int(one[1:]))


def test_what_comes_while_many_are_unread_is_read_before_them(desk: Slow) -> None:
    desk.fill()
    desk.look()
    desk.drop("one")
    desk.look("one.yaml")
    assert "one" in desk.waiting and len(desk.waiting) < MANY / 2
    news = [f"new_{n}" for n in range(2 * FEW)]
    for one in news:
        desk.drop(one, "description: x\npriority: low\n")
    desk.look(*(f"{one}.yaml" for one in news))
    while not set(news) <= desk.waiting:
        desk.intake.go_on(time.time())
    assert len(desk.waiting) < MANY / 2
    assert [one for kind, one, _ in desk.told if kind == "submitted"] == ["one", *sorted(news, key=desk.read.index)]


def test_what_is_edited_or_deleted_before_it_is_read_waits_as_it_is_then(desk: Slow) -> None:
    ids = desk.fill()
    while not desk.read:
        desk.look()
    os.unlink(f"{desk.queue.tasks}/pending/t300.yaml")
    desk.drop("t301", "description: x\npriority: high\n")
    desk.drop("t302", "description: x\npriority: high\n")
    desk.look("t301.yaml")  # the event of the other is lost
    assert desk.intake.waiting.by_id["t301"].priority is Priority.HIGH and len(desk.waiting) < 100
    desk.finish()
    assert desk.waiting == set(ids) - {"t300"}
    assert desk.intake.waiting.by_id["t302"].priority is Priority.HIGH
    assert desk.read.count("t301") == 1


def test_one_that_is_put_into_another_place_or_dropped_is_read_once_or_not_at_all() -> None:
    line = Backlog()
    for name, place in (
        ("a", Place.FOUND),
        ("b", Place.FOUND),
        ("a", Place.NEWS),
        ("c", Place.NEWS),
        ("b", Place.DOUBTFUL),
    ):
        line.push(name, place)
    line.drop("c")
    assert line.pop(False) == ("a", False) and line.pop(False) is None and not line.is_left
    assert line.pop(True) == ("b", True) and len(line) == 0 and line.pop(True) is None


def test_many_that_come_at_once_are_read_in_slices(desk: Slow) -> None:
    desk.look()
    desk.finish()
    desk.look(*(f"{one}.yaml" for one in desk.fill(FEW + 1)))
    assert len(desk.read) < FEW and desk.finish() > 1 and len(desk.waiting) == FEW + 1


def test_how_many_wait_is_told_before_they_are_read(desk: Slow) -> None:
    desk.fill()
    while not desk.told:
        desk.look()
    assert desk.told == [("waiting", "", f"{MANY} tasks")]
    assert len(desk.waiting) < 10
    desk.finish()
    assert len(desk.told) == 1


def test_a_later_look_at_everything_goes_in_slices_finds_all_changes_and_reads_nothing_else(desk: Slow) -> None:
    desk.fill()
    desk.drop("waits", "description: x\ndependencies: [a]\n")
    desk.look()
    desk.finish()
    desk.read.clear()
    desk.listed = 0
    desk.look("t0.yaml")
    assert (desk.read, desk.listed) == ([], 0)
    os.unlink(f"{desk.queue.tasks}/pending/t7.yaml")
    desk.drop("t8", "description: x\npriority: high\n")
    desk.drop("lost")
    write(desk.queue.path(State.COMPLETED, "a"), "description: x\n")
    desk.look()
    assert desk.finish() > MANY / 20
    assert sorted(desk.read) == ["lost", "t8"] and desk.listed == 1
    assert "lost" in desk.waiting and "t7" not in desk.waiting
    assert desk.intake.waiting.by_id["t8"].priority is Priority.HIGH
    assert not desk.intake.waiting.by_id["waits"].unmet


def test_while_events_tell_of_changes_each_that_waits_is_looked_at_once_a_minute(
    desk: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes and what goes is found at each look; a change that no event told of within a minute."""
    desk.intake.is_told = True
    for name in ("one", "two", "three"):
        desk.drop(name)

    def look(later: float) -> set[str]:
        """At which of the files that wait."""
        looked: set[str] = set()
        status = desk.intake.reader.status
        with monkeypatch.context() as patch:
            patch.setattr(
                desk.intake.reader, "status", lambda name, *rest: (looked.add(name[:-5]), status(name, *rest))[1]
            )
            desk.intake.look(None, now + later)
            while desk.intake.go_on(now + later):
                pass
        return looked

    now, every = time.time(), {"one", "two", "four"}
    look(0)
    desk.drop("two", "description: x\npriority: high\n")
    assert look(5) == set() and desk.intake.waiting.by_id["two"].priority is not Priority.HIGH
    desk.drop("four")
    assert "one" not in look(10) and "four" in desk.waiting
    os.unlink(f"{desk.queue.tasks}/pending/three.yaml")
    assert "one" in look(15) and desk.waiting == every
    assert desk.intake.waiting.by_id["two"].priority is Priority.HIGH
    assert look(20) == look(70) == set() and look(80) == every
    desk.intake.reconsider(now + 81)  # the clock was set back, perhaps
    assert look(82) == every and look(83) == set()
    desk.intake.is_told = False
    assert look(84) == every


def test_a_look_that_the_disk_did_not_let_end_is_made_again(desk: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = desk.fill()
    pending_files = desk.queue.pending_files

    def broken() -> Iterator[os.DirEntry[str]]:
        yield from islice(pending_files(), MANY // 2)
        raise OSError("a bad disk")

    monkeypatch.setattr(desk.queue, "pending_files", broken)
    with pytest.raises(OSError, match="a bad disk"):
        for _ in range(MANY):
            desk.look()
    monkeypatch.undo()
    desk.look()
    desk.finish()
    assert desk.waiting == set(ids)


def test_of_many_only_what_choosing_needs_is_kept_and_the_task_is_read_again_at_its_claim(
    desk: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arriving, "KEPT", 5)
    text = f"description: {'x' * 3000}\ncontext_required: false\nrun: 'true'\n"
    for number in range(MANY):
        desk.drop(f"task_{number:03d}", text)
    tracemalloc.start()
    try:
        desk.look()
        desk.finish()
        desk.read.clear()
        taken = tracemalloc.get_traced_memory()[0] / MANY
    finally:
        tracemalloc.stop()
    assert taken < 900  # bytes; a million of them have to fit, and a whole one has more than 5,000
    entry = desk.intake.waiting.by_id["task_007"]
    with pytest.raises(AssertionError, match="was not kept"):
        _ = entry.task
    assert desk.intake.current(entry, time.time()) == text.encode()
    assert (entry.task.id, entry.task.run, len(entry.task.description)) == ("task_007", "true", 3000)


# -- the index ----------------------------------------------------------------------------------


def put(index: Waiting, task_id: str, arrival: float, unmet: tuple[str, ...] = (), **fields: object) -> Entry:
    task = built(Task, {"id": task_id, "description": "x", "dependencies": unmet, **fields}, (), ValueError)
    entry = Entry(task, f"{task_id}.yaml", arrival, 1, Priority.NORMAL, Attempt())
    entry.forget()
    index.put(entry, unmet, NOW)
    return entry


def test_the_first_few_of_many_are_found_without_sorting_them(monkeypatch: pytest.MonkeyPatch) -> None:
    index = Waiting(60.0)
    for number in range(2000):
        put(index, f"t{number}", NOW - (number * 7919) % 2000, ("a",) if number % 3 == 0 else ())
    expected = sorted(index, key=lambda one: one.arrival)[:20]
    compared = []
    less = Entry.__lt__

    def counting(one: Entry, other: Entry) -> bool:
        compared.append(one)
        return less(one, other)

    monkeypatch.setattr(Entry, "__lt__", counting)
    assert list(islice(index.in_order(NOW), 20)) == expected
    assert len(compared) < 400


def test_nothing_is_kept_of_those_that_passed_one_that_is_held() -> None:
    index = Waiting(60.0)
    put(index, "old", NOW - 1000, ("never",))
    for number in range(3000):
        put(index, f"t{number}", NOW + number, ("soon",))
        index.completed("soon", NOW)
        index.take(f"t{number}")
    (line,) = index._held.values()
    assert len(line._heap) < 200
    assert [one.id for one in index.in_order(NOW)] == ["old"]


def test_one_that_left_and_came_back_stands_in_the_order_once() -> None:
    index = Waiting(60.0)
    entry = put(index, "a", NOW)
    put(index, "b", NOW + 1)
    for _ in range(3):
        index.take("a")
        index.put(entry, (), NOW)
    assert [one.id for one in index.in_order(NOW)] == ["a", "b"]


def test_how_many_take_a_route_is_known_without_counting() -> None:
    index = Waiting(60.0)
    for number in range(5):
        put(index, f"t{number}", NOW, requirements=("sql",))
    put(index, "other", NOW, run="true", preferred_agent="shell")
    kinds = {
        (kind.task.preferred_agent, kind.task.requirements, kind.task.run): kind.count for kind in index.kinds.values()
    }
    assert kinds == {(None, ("sql",), None): 5, ("shell", (), "true"): 1}
    index.take("other")
    assert [kind.count for kind in index.kinds.values()] == [5]
    put(index, "only", NOW, preferred_agent="codex")
    index.postpone("only", NOW + 5, NOW)  # of its kind
    index.wake(NOW + 5)
    assert [entry.id for _, entry in index.heads(NOW + 5)] == ["only", "t0"]


def test_a_file_is_found_by_its_name_whatever_id_it_states() -> None:
    index = Waiting(60.0)
    entry = Entry(Task(id="login", description="x"), "page.yml", NOW, 1, Priority.NORMAL, Attempt())
    index.put(entry, (), NOW)
    assert index.named("page.yml") is entry and index.named("login.yaml") is None
    put(index, "task_1", NOW)
    assert index.named("task_1.yaml") is index.by_id["task_1"] and index.named("task_1.yml") is None
    index.take("login")
    assert index.named("page.yml") is None
