"""What waits: in which order, for what, and until when."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from orchestrator.states import Priority
from orchestrator.task import Task
from orchestrator.waiting import Attempt, Entry, Waiting

pytestmark = pytest.mark.fast

HIGH, NORMAL, LOW = Priority
NOW = 1_000_000.0


def entry(
    task_id: str, arrival: float = NOW, priority: Priority = NORMAL, not_before: float = 0.0, **fields: Any
) -> Entry:
    task = Task(id=task_id, description="x", **fields)
    return Entry(task, f"{task_id}.yaml", arrival, 1, priority, Attempt(not_before=not_before))


def waiting(*entries: Entry) -> Waiting:
    made = Waiting(30 * 60)
    for one in entries:
        made.put(one, one.task.dependencies, NOW)
    return made


def anyone(_: Entry) -> bool:
    return True


def served(index: Waiting, now: float = NOW, may_start: Callable[[Entry], bool] = anyone) -> list[str]:
    """The ids in the order in which they start, until nothing may."""
    order = []
    index.wake(now)
    while one := index.best(now, may_start):
        order.append(one.task.id)
        index.take(one.task.id)
    return order


def test_high_comes_before_normal_and_normal_before_low() -> None:
    index = waiting(entry("l", priority=LOW), entry("n"), entry("h", priority=HIGH))
    assert [one.task.id for one in index.in_order(NOW)] == ["h", "n", "l"]
    assert served(index) == ["h", "n", "l"]


def test_within_one_priority_who_came_first_is_served_first() -> None:
    index = waiting(entry("b", NOW - 1), entry("c", NOW - 3), entry("a", NOW - 2))
    assert served(index) == ["c", "a", "b"]


def test_those_who_came_at_once_are_served_in_natural_order_of_their_ids() -> None:
    index = waiting(*(entry(f"task_{n}") for n in (10, 2, 1, 33, 4)))
    assert served(index) == ["task_1", "task_2", "task_4", "task_10", "task_33"]


def test_low_is_promoted_after_30_minutes_and_not_before() -> None:
    index = waiting(entry("low", NOW - 1800, LOW), entry("normal", NOW - 60))
    assert [one.task.id for one in index.in_order(NOW - 1)] == ["normal", "low"]
    first = index.best(NOW - 1, anyone)
    assert first is not None and first.task.id == "normal"
    assert [one.task.id for one in index.in_order(NOW)] == ["low", "normal"]
    assert served(index, NOW) == ["low", "normal"]


def test_a_promoted_low_does_not_pass_high_nor_a_normal_that_came_before_it() -> None:
    index = waiting(
        entry("low", NOW - 2000, LOW), entry("older", NOW - 2001), entry("high", NOW, HIGH), entry("new", NOW)
    )
    assert served(index) == ["high", "older", "low", "new"]


def test_back_off_holds_a_task_and_says_when_it_ends() -> None:
    index = waiting(entry("later", not_before=NOW + 60), entry("now"))
    assert index.wake(NOW) == NOW + 60
    assert served(index) == ["now"]
    assert served(index, NOW + 59.9) == []
    assert served(index, NOW + 60) == ["later"]
    assert index.wake(NOW + 60) is None


def test_a_task_taken_away_during_its_back_off_does_not_come_back() -> None:
    index = waiting(entry("a", not_before=NOW + 60))
    index.take("a")
    assert served(index, NOW + 100) == []
    assert len(index) == 0


def test_a_task_put_again_with_a_longer_back_off_waits_for_that_one() -> None:
    index = waiting(entry("a", not_before=NOW + 10))
    index.take("a")
    index.put(entry("a", not_before=NOW + 100), (), NOW)
    assert served(index, NOW + 50) == []
    assert served(index, NOW + 100) == ["a"]


def test_a_task_that_was_ready_and_comes_back_with_a_back_off_waits() -> None:
    index = waiting(entry("a"))
    index.take("a")
    index.put(entry("a", not_before=NOW + 60), (), NOW)
    assert index.best(NOW, anyone) is None
    assert served(index, NOW + 60) == ["a"]


def test_dependencies_hold_and_the_last_one_releases() -> None:
    index = waiting(entry("c", dependencies=("a", "b")), entry("d", dependencies=("c",)))
    assert index.unmet() == {"a", "b", "c"}
    assert served(index) == []
    index.completed("a", NOW)
    assert served(index) == []
    assert index.by_id["c"].unmet == ("b",)
    index.completed("b", NOW)
    assert served(index) == ["c"]
    index.completed("c", NOW)
    assert served(index) == ["d"]


def test_a_released_task_still_waits_for_its_back_off() -> None:
    index = waiting(entry("b", dependencies=("a",), not_before=NOW + 60))
    index.completed("a", NOW)
    assert served(index, NOW + 1) == []
    assert served(index, NOW + 60) == ["b"]


def test_what_depends_on_nothing_that_waits_is_not_released_by_it() -> None:
    index = waiting(entry("b", dependencies=("a",)))
    index.take("b")
    assert index.unmet() == set()
    index.completed("a", NOW)
    assert served(index) == []


def test_taking_a_task_up_again_serves_it_once() -> None:
    index = waiting(entry("a"), entry("b", NOW + 1))
    for _ in range(3):
        assert index.take("a") is not None
        index.put(entry("a"), (), NOW)
    assert served(index) == ["a", "b"]
    assert index.take("a") is None


def test_a_task_edited_to_another_priority_is_served_by_that_one() -> None:
    index = waiting(entry("a", priority=HIGH), entry("b", NOW + 1))
    index.take("a")
    index.put(entry("a", priority=LOW), (), NOW)
    assert served(index) == ["b", "a"]


def test_the_best_is_looked_for_among_what_may_start() -> None:
    index = waiting(entry("a", priority=HIGH, preferred_agent="claude"), entry("b", preferred_agent="codex"))
    assert served(index, may_start=lambda one: one.task.preferred_agent == "codex") == ["b"]
    assert served(index) == ["a"]


def test_whether_a_route_may_start_is_asked_once_however_many_wait() -> None:
    index = waiting(
        *(entry(f"t{n}", NOW + n, preferred_agent="claude") for n in range(500)), entry("x", requirements=("sql",))
    )
    asked: list[str] = []

    def nobody(one: Entry) -> bool:
        asked.append(one.task.id)
        return False

    assert index.best(NOW, nobody) is None
    assert len(asked) == 2


def test_many_routes_are_served_in_one_order() -> None:
    chance = random.Random(7)
    entries = [
        entry(
            f"task_{n}",
            NOW - chance.randrange(4000),
            chance.choice((HIGH, NORMAL, LOW)),
            preferred_agent=chance.choice((None, "a", "b")),
            requirements=tuple(chance.sample(["x", "y", "z"], chance.randrange(3))),
            run=chance.choice((None, "true")),
        )
        for n in range(400)
    ]
    index = waiting(*entries)
    expected = [one.task.id for one in index.in_order(NOW)]
    assert len(expected) == 400
    assert served(index) == expected


@pytest.mark.parametrize(
    ("edges", "closing", "path"),
    [
        ({"b": ["a"]}, ("a", ["b"]), ["a", "b", "a"]),
        ({"b": ["c"], "c": ["d"], "d": ["a"]}, ("a", ["x", "b"]), ["a", "b", "c", "d", "a"]),
        ({"b": ["x", "c"], "x": ["y"], "y": [], "c": ["a"]}, ("a", ["b"]), ["a", "b", "c", "a"]),
        ({"b": [], "c": ["b"]}, ("a", ["c", "b"]), []),
        ({"b": ["c"], "c": ["b"]}, ("a", ["b"]), []),
        ({}, ("a", ["none"]), []),
    ],
)
def test_a_cycle_is_named_with_its_path(
    edges: dict[str, list[str]], closing: tuple[str, list[str]], path: list[str]
) -> None:
    index = waiting(*(entry(one, dependencies=tuple(needs)) for one, needs in edges.items()))
    last = entry(closing[0], dependencies=tuple(closing[1]))
    assert index.cycle(last.task) == path
    index.put(last, last.task.dependencies, NOW)
    assert index.cycle(last.task) == path


def test_a_cycle_of_thousands_is_found() -> None:
    index = waiting(*(entry(f"t{n}", dependencies=(f"t{n + 1}",)) for n in range(5000)))
    assert len(index.cycle(entry("t5000", dependencies=("t0",)).task)) == 5002


def test_of_a_chain_that_arrives_in_order_nothing_is_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    index = waiting(entry("a", dependencies=("none",)))
    monkeypatch.setattr(index, "by_id", None)  # who walks looks here
    assert index.cycle(entry("b", dependencies=("a",)).task) == []


def test_a_wide_graph_without_a_cycle_is_walked_once() -> None:
    layers = [[f"t{layer}_{n}" for n in range(20)] for layer in range(20)]
    index = waiting(*(entry(one, dependencies=tuple(below)) for upper, below in pairwise(layers) for one in upper))
    index.put(entry("above", dependencies=("top",)), ["top"], NOW)
    assert index.cycle(entry("top", dependencies=tuple(layers[0])).task) == []  # 20^20 paths


def test_ids_that_differ_in_case_only_are_told() -> None:
    index = waiting(entry("Task_1"))
    assert index.same_but_case("task_1") == "Task_1"
    assert index.same_but_case("Task_1") == ""
    index.take("Task_1")
    assert index.same_but_case("task_1") == ""


def test_nothing_is_kept_of_what_waits_no_more() -> None:
    index = waiting(entry("b", dependencies=("a",)), entry("c", dependencies=("a", "x")))
    index.take("b")
    assert index.unmet() == {"a", "x"}
    index.take("c")
    assert index.unmet() == set()
