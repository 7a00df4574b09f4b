"""Order: priorities, arrival, dependencies, and reasons that a person can believe."""

from __future__ import annotations

import json
import os
import time

from integration.driver import AGENT, Driver, until

ONE_SLOT = {"fake": {"command": AGENT, "max_instances": 1}}


def reasons(root: Driver) -> dict[str, str]:
    return {row["task_id"]: row["reason"] for row in root.json("tasks", "--status", "pending")}


def test_high_comes_before_normal_before_low_and_within_one_the_first_that_came(root: Driver) -> None:
    root.configure(ONE_SLOT, queue={"default_priority": "low"})
    note = f"@ledger '{root.root}/ledger'"
    now = time.time()
    rows = [("l1", "low"), ("n1", "normal"), ("h2", "high"), ("n2", 1), ("h1", 0), ("d1", None)]
    for age, (name, priority) in enumerate(rows):
        path = root.drop(name, note, "@say well", **({} if priority is None else {"priority": priority}))
        os.utime(path, (now - 100 + age, now - 100 + age))
    assert [row["task_id"] for row in root.json("tasks")] == ["h2", "h1", "n1", "n2", "l1", "d1"]
    root.start()
    root.reach("completed", *(name for name, _ in rows))
    assert [line.split()[0] for line in root.ledger()] == ["h2", "h1", "n1", "n2", "l1", "d1"]


def test_a_low_task_that_has_waited_long_enough_is_served_as_normal(root: Driver) -> None:
    root.configure(ONE_SLOT, queue={"promote_low_after_minutes": 30})
    now = time.time()
    for name, priority, age in (
        ("old", "low", 1900),
        ("young", "low", 60),
        ("normal", "normal", 30),
        ("high", "high", 1),
    ):
        os.utime(
            root.drop(name, f"@ledger '{root.root}/ledger'", "@say well", priority=priority),
            (now - age, now - age),
        )
    root.start()
    root.reach("completed", "old", "young", "normal", "high")
    assert [line.split()[0] for line in root.ledger()] == ["high", "old", "normal", "young"]


def test_created_at_is_for_people_and_does_not_change_the_order(root: Driver) -> None:
    root.configure(ONE_SLOT)
    first = root.drop("first", f"@ledger '{root.root}/ledger'", "@say well", created_at="2031-01-01T00:00:00Z")
    os.utime(first, (1e9, 1e9))
    root.drop("second", f"@ledger '{root.root}/ledger'", "@say well", created_at="2001-01-01")
    root.start()
    root.reach("completed", "first", "second")
    assert root.ledger() == ["first 1", "second 1"]


def test_a_diamond_of_dependencies_runs_from_top_to_bottom(root: Driver) -> None:
    note = f"@ledger '{root.root}/ledger'"
    root.drop("bottom", note, "@say well", dependencies=["left", "right"], priority="high")
    root.drop("left", note, "@say well", dependencies=["top"])
    root.drop("right", note, "@say well", dependencies=["top"])
    root.start()
    root.seen()
    root.drop("top", note, "@say well")
    root.reach("completed", "bottom")
    order = [line.split()[0] for line in root.ledger()]
    assert order[0] == "top" and order[-1] == "bottom" and sorted(order[1:3]) == ["left", "right"]


def told(root: Driver) -> list[str]:
    """What the journal says of starts and ends, in its order."""
    lines = [
        line for path in sorted(root.root.glob(".orchestrator/events/*")) for line in path.read_text().splitlines()
    ]
    events = [json.loads(line) for line in lines]
    return [f"{event['kind']} {event['task_id']}" for event in events if event["kind"] in ("started", "completed")]


def test_a_slot_goes_on_while_it_is_recorded_how_its_last_task_ended(root: Driver) -> None:
    root.configure(ONE_SLOT)
    for name in ("one", "two"):
        root.drop(name, "@say well")
    root.start()
    root.reach("completed", "one", "two")
    until(lambda: "completed two" in told(root))  # the journal is written at the end of a turn
    assert told(root) == ["started one", "started two", "completed one", "completed two"]


def test_it_does_not_if_something_more_urgent_waits_for_that_task(root: Driver) -> None:
    root.configure(ONE_SLOT)
    root.drop("first", "@say well")
    root.drop("urgent", "@say well", dependencies=["first"], priority="high")
    root.drop("other", "@say well", priority="low")
    root.start()
    root.reach("completed", "first", "urgent", "other")
    until(lambda: len(told(root)) > 2)
    assert told(root)[:3] == ["started first", "completed first", "started urgent"]


def test_a_cycle_is_rejected_with_its_path_and_those_before_it_say_why_they_wait(root: Driver) -> None:
    root.start()
    root.drop("a", "@say well", dependencies=["b"])
    root.drop("b", "@say well", dependencies=["c"])
    root.seen()
    root.drop("c", "@say well", dependencies=["a"])
    reason = until(lambda: root.rejected("c.yaml"))
    assert "closes a cycle of dependencies: c → a → b → c; remove one of them" in reason
    told = reasons(root)
    assert told["a"] == "waits for b (waiting)"
    assert told["b"].startswith("waits for c (rejected: closes a cycle of dependencies: c → a → b → c")
    root.drop("c", "@say well")  # corrected
    root.reach("completed", "a", "b", "c")


def test_a_failed_dependency_holds_and_its_later_success_releases(root: Driver) -> None:
    root.drop("build", "@run 1 exit 3", "@say built", max_retries=0)
    root.drop("test", "@say tested", dependencies=["build"])
    root.drop("deploy", "@say deployed", dependencies=["test"])
    root.start()
    root.reach("review", "build")
    assert reasons(root) == {"test": "waits for build (in review)", "deploy": "waits for test (waiting)"}
    assert root.json("show", "test")["reason"] == "waits for build (in review)"
    root.ok("cancel", "build")
    root.reach("failed", "build")
    assert reasons(root)["test"] == "waits for build (failed)"
    root.ok("retry", "build")
    root.reach("completed", "build", "test", "deploy")
    assert root.count("build") == 2


def test_a_dependency_that_completes_while_no_dispatcher_runs_releases_too(root: Driver) -> None:
    root.drop("first", "@wait go", "@say well")
    root.drop("second", "@say well", dependencies=["first"])
    root.start()
    until(lambda: root.members("first"))
    root.kill()
    root.go()
    until(lambda: not root.members("first"))
    root.start()
    root.reach("completed", "first", "second")


def test_a_task_goes_to_the_agent_it_prefers_and_says_so_if_that_is_busy(root: Driver) -> None:
    root.configure({"red": {"command": AGENT}, "blue": {"command": AGENT}})
    root.drop("holds", "@wait go", "@say well", preferred_agent="blue")
    root.drop("behind", "@say well", preferred_agent_type="blue")
    root.start()
    root.reach("assigned", "holds")
    root.drop("other", "@say well", preferred_agent="red")
    root.reach("completed", "other")
    assert reasons(root) == {"behind": "no free slot of blue (1 of 1 busy)"}
    root.go()
    root.reach("completed", "holds", "behind")
    assert [root.result(one)["agent_type"] for one in ("holds", "behind", "other")] == ["blue", "blue", "red"]


def test_capabilities_must_all_be_there_and_work_is_spread_over_the_least_loaded(root: Driver) -> None:
    root.configure(
        {
            "one": {"command": AGENT, "max_instances": 2, "capabilities": ["python"]},
            "two": {"command": AGENT, "max_instances": 2, "capabilities": ["python", "sql"]},
        }
    )
    for name in ("a", "b"):
        root.drop(name, "@wait go", "@say well", requirements=["python"])
    root.drop("c", "@say well", requirements=["python", "sql"])
    root.start()
    root.reach("assigned", "a", "b")
    root.reach("completed", "c")
    root.go()
    root.reach("completed", "a", "b")
    assert {root.result(one)["agent_type"] for one in ("a", "b")} == {"one", "two"}
    assert root.result("c")["agent_type"] == "two"


def test_a_dependency_in_a_file_of_another_name_is_said_to_wait(root: Driver) -> None:
    """Invariant 10: an honest reason, also where the id stands inside the file."""
    root.drop("some-file", "@say well", id="build")
    root.drop("test", "@say well", dependencies=["build"])
    assert reasons(root)["test"] == "waits for build (waiting)"


def test_the_checklist_counts_what_came_though_nothing_can_start(root: Driver) -> None:
    root.configure(ONE_SLOT)
    root.start()
    for number in range(3):
        root.drop(f"held_{number}", dependencies=["never"])
    page = root.root / "context" / "current_state.md"
    until(lambda: "3 waiting" in page.read_text(encoding="utf-8") and "held_2" in page.read_text(encoding="utf-8"))
