"""Agents, slots and pauses."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from orchestrator.config import AgentConfig, Config
from orchestrator.errors import InvalidConfig
from orchestrator.registry import AgentRegistry
from orchestrator.router import unroutable
from orchestrator.task import Task

pytestmark = pytest.mark.fast


def config() -> Config:
    return Config(agents={"one": AgentConfig(command="true", max_instances=2), "two": AgentConfig(command="true")})


@pytest.fixture
def registry(tmp_path: Path) -> AgentRegistry:
    return AgentRegistry(str(tmp_path), config(), {})


def again(tmp_path: Path) -> AgentRegistry:
    """The registry of a dispatcher that was started anew."""
    return AgentRegistry(str(tmp_path), config(), {})


def test_slots_are_numbered_through_all_agents(registry: AgentRegistry) -> None:
    assert registry.slots == {"one": ("agent_01", "agent_02"), "two": ("agent_03",)}


def test_the_pool_is_sized_by_the_command_line(tmp_path: Path) -> None:
    sized = AgentRegistry(str(tmp_path), config(), {"two": 3})
    assert sized.slots == {"two": ("agent_01", "agent_02", "agent_03")}
    with pytest.raises(InvalidConfig, match="did you mean 'two'"):
        AgentRegistry(str(tmp_path), config(), {"twoo": 1})


def test_an_agent_that_has_no_slots_here_may_be_named_and_it_is_said_why_its_tasks_wait(tmp_path: Path) -> None:
    agents = {name: AgentConfig(command="true", enabled=name != "off") for name in ("one", "two", "off")}
    made = AgentRegistry(str(tmp_path), Config(agents=agents), {"one": 1})
    assert set(made.absent) == {"two", "off"} and [*made.slots] == ["one"]
    views = made.everybody(time.time())
    reasons = [unroutable(Task(id="a", description="x", preferred_agent=name), views) for name in ("two", "off")]
    assert reasons[0].startswith("wants two, which this dispatcher was started without (agents: one)")
    assert reasons[1].startswith("wants off, which is not enabled in config.yaml")
    made.configure(Config(agents=agents), {})
    assert not unroutable(Task(id="a", description="x", preferred_agent="two"), made.everybody(time.time()))


def test_a_pause_survives_a_restart(registry: AgentRegistry, tmp_path: Path) -> None:
    now = time.time()
    registry.pause("one", now + 1000, "rate limit")
    assert again(tmp_path).paused("one", now).startswith("paused until ")
    assert again(tmp_path).paused("one", now + 1001) == ""
    assert again(tmp_path).paused("two", now) == ""


def test_a_shorter_pause_does_not_end_a_longer_one(registry: AgentRegistry) -> None:
    now = time.time()
    registry.pause("one", now + 3600, "rate limit")
    registry.pause("one", now + 60, "not logged in")
    assert "rate limit" in registry.paused("one", now + 100)


def test_a_success_that_was_under_way_does_not_end_a_pause(registry: AgentRegistry) -> None:
    now = time.time()
    registry.pause("one", now + 3600, "rate limit")
    registry.worked("one", started_at=now - 5, now=now + 1)
    assert registry.paused("one", now + 1)
    registry.worked("one", started_at=time.time() + 1, now=now + 3)
    assert registry.paused("one", now + 3) == ""


def test_a_person_ends_a_pause(registry: AgentRegistry, tmp_path: Path) -> None:
    now = time.time()
    registry.pause("one", now + 3600, "not logged in")
    again(tmp_path).resume("one")  # another process: `orchestrate agents --resume one`
    registry.look()
    assert registry.paused("one", now) == ""


def test_a_program_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    missing = Config(agents={"x": AgentConfig(command="no-such-program --flag")})
    registry = AgentRegistry(str(tmp_path), missing, {})
    assert "'no-such-program' is not on PATH" in registry.paused("x", 0.0)


def test_programs_are_looked_up_on_the_path_that_was_given(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "mine"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    mine = Config(agents={"x": AgentConfig(command="mine -v")})
    assert AgentRegistry(str(tmp_path), mine, {}, str(tmp_path / "bin")).program("x") == (str(program), "-v")
    assert AgentRegistry(str(tmp_path), mine, {}, os.environ["PATH"]).program("x") == ()


def test_a_busy_slot_is_not_free_whoever_has_it(registry: AgentRegistry) -> None:
    one, two = registry.views({"agent_01": "one", "agent_03": "gone"}, 0.0)[:2]
    assert one.free == ["agent_02"]
    assert two.free == []
