"""Who does a task, with a dispatcher and real runs: by what it did before, by what only one can, by a specialist."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.driver import AGENT, Driver, until


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Driver]:
    made = Driver(tmp_path)
    yield made
    made.close()


def test_an_agent_that_fails_gets_less_to_do_and_it_is_said_why(root: Driver) -> None:
    root.make({"bad": {"command": "false"}, "good": {"command": AGENT}}, retry={"max_retries": 1})
    root.drop("one", "@say well")
    root.start()
    root.reach("completed", "one")
    assert [root.result("one", number)["agent_type"] for number in (1, 2)] == ["bad", "good"]
    root.drop("two", "@say well")
    root.reach("completed", "two")
    assert root.result("two")["agent_type"] == "good", "the first in config.yaml has failed once"
    rows = {row["name"]: row for row in root.json("agents")}
    assert (rows["bad"]["success_rate"], rows["good"]["success_rate"], rows["good"]["runs"]) == (0.0, 1.0, 2)
    root.drop("held", "@say well", dependencies=["gate"])
    why = root.json("why", "held")
    assert [(row["agent"], row["score"], row["chosen"]) for row in why["agents"][:2]] == [
        ("good", 1.0, True), ("bad", 0.8, False)
    ]  # fmt: skip
    assert why["reason"].startswith("waits for gate")


def test_what_only_one_can_do_is_not_kept_waiting_by_what_others_can(root: Driver) -> None:
    root.make({"all": {"command": AGENT, "capabilities": ["sql"]}, "other": {"command": AGENT}})
    root.drop("long", "@wait go", "@say well", preferred_agent="other")
    root.start()
    root.reach("assigned", "long")
    root.drop("first", "@wait also", "@say well", preferred_agent="all")
    root.reach("assigned", "first")
    root.drop("any", "@say well")  # came before, and could be done by both
    until(lambda: root.json("why", "any")["state"] == "pending")
    root.drop("only", "@wait only", "@say well", requirements=["sql"])
    until(lambda: [row["task_id"] for row in root.json("tasks", "--status", "pending")] == ["any", "only"])
    root.go("also")
    root.reach("assigned", "only")
    root.reach("completed", "first")  # its slot is let go before that is recorded
    assert root.result("first")["agent_type"] == "all" and root.json("why", "any")["state"] == "pending"
    root.go()
    root.reach("completed", "any")
    assert root.result("any")["agent_type"] == "other"
    root.go("only")
    root.reach("completed", "only")


def test_a_specialist_is_asked_for_and_told_how_to_work(root: Driver) -> None:
    root.make({"fake": {"command": AGENT}})
    root.start()
    root.ok("agents", "new", "legal", "--from", "validation")
    file = root.root / "agents" / "legal.md"
    file.write_text("---\ncapabilities: [law]\n---\nYou are a lawyer.\n")
    until(lambda: [row for row in root.json("agents", "specialists") if row.get("capabilities", [""])[0] == "law"])
    root.drop("a", "@say well", preferred_agent="legal")
    root.drop("b", "@say well", requirements=["law"])
    root.drop("c", "@say well")
    root.reach("completed", "a", "b", "c")
    assert [root.result(one)["agent_type"] for one in "abc"] == ["legal", "legal", "fake"]
    prompt = (root.root / "tasks" / "runs" / "b" / "1" / "prompt.md").read_text()
    assert "You are a lawyer." in prompt.partition("## What to do")[0]
    assert root.ok("add", "x", "--agent", "research", "--depends-on", "gate")
    assert "unknown agent" in root.run("add", "x", "--agent", "lgal").stderr
