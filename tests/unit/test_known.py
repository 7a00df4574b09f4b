"""Agents of config.yaml and workers in one registry: who can what, how each is, what it has learned."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from helpers import write

from orchestrator.config import AgentConfig, Config
from orchestrator.errors import AlreadyExists, NotFound, OrchestrateError, Refused
from orchestrator.registry import AgentRegistry
from orchestrator.router import CapabilityRouter
from orchestrator.task import Task

pytestmark = pytest.mark.fast


@pytest.fixture
def registry(tmp_path: Path) -> AgentRegistry:
    agents = {"claude": AgentConfig(command="true", max_instances=2, capabilities=("code", "web"))}
    made = AgentRegistry(str(tmp_path), Config(agents=agents))
    made.register_agent("ann", ["web", "sql"], {"max_concurrent_tasks": 5, "room": "b12"})
    return made


def test_agents_and_workers_are_in_one_registry(registry: AgentRegistry) -> None:
    assert registry.list_agents() == ["claude", "ann"]
    assert registry.list_agents("sql") == ["ann"]
    ann = registry.get_agent_capability("ann")
    assert (ann.capabilities, ann.max_concurrent_tasks, ann.metadata) == (("web", "sql"), 5, {"room": "b12"})
    assert registry.get_agent_capability("claude").max_concurrent_tasks == 2
    registry.unregister_agent("ann")
    assert registry.list_agents() == ["claude"]


def test_what_cannot_be_is_refused_with_what_to_do(registry: AgentRegistry) -> None:
    with pytest.raises(AlreadyExists, match="has that name; choose another"):
        registry.register_agent("claude")
    with pytest.raises(Refused, match="take it out there"):
        registry.unregister_agent("claude")
    with pytest.raises(OrchestrateError, match="whole number of 1 or more, not 0"):
        registry.register_agent("bob", [], {"max_concurrent_tasks": 0})
    for call in (registry.get_agent_health, registry.get_agent_capability, registry.unregister_agent):
        with pytest.raises(NotFound, match="did you mean 'ann'"):
            call("anne")
    with pytest.raises(NotFound):
        registry.update_agent_performance("anne", True)
    with pytest.raises(OrchestrateError, match="from 0 to 1"):
        registry.learn_new_capability("ann", "go", 1.5)
    with pytest.raises(OrchestrateError, match="seconds"):
        registry.update_agent_performance("ann", True, -1)
    with pytest.raises(OrchestrateError, match="capability"):
        registry.learn_new_capability("ann", "two words", 0.5)
    assert not os.path.exists(f"{registry.performance.folder}/ann.learned")


def test_health_is_of_what_was_done(registry: AgentRegistry) -> None:
    assert registry.get_agent_health("ann")[:6] == ("ann", "healthy", "", 1.0, 0.0, 0)
    for success in (True, True, True, False):
        health = registry.update_agent_performance("ann", success, 1.5)
    assert (health.success_rate, health.avg_completion_ms, health.runs) == (0.75, 1500.0, 4)


def test_an_agent_that_mostly_fails_is_degraded(registry: AgentRegistry) -> None:
    for _ in range(2):
        assert registry.update_agent_performance("claude", False).status == "healthy"
    health = registry.update_agent_performance("claude", False)
    assert (health.status, health.why) == ("degraded", "0 of its last 3 runs went well")


def test_a_worker_that_is_silent_is_stale_and_a_paused_agent_paused(registry: AgentRegistry) -> None:
    long_ago = time.time() - 100
    os.utime(f"{registry.roster.folder}/ann.beat", (long_ago, long_ago))
    registry.pause("claude", time.time() + 600, "rate limit")
    found = {one.agent_id: one for one in registry.get_all_health()}
    assert found["ann"].status == "stale" and "not heard of for 100 s" in found["ann"].why
    assert found["claude"].status == "paused" and "rate limit" in found["claude"].why


def test_what_runs_is_counted_from_the_folder(registry: AgentRegistry) -> None:
    folder = f"{registry.places.tasks}/assigned"
    for name in ("a_agent_02", "b@ann", "c@ann", "d_agent_77"):
        write(f"{folder}/{name}.yaml", "")
    assert [one.running for one in registry.get_all_health()] == [1, 2]
    assert [len(one.busy) for one in registry.everybody(time.time()) if not one.base] == [1, 2]


def test_statistics_are_of_all(registry: AgentRegistry) -> None:
    registry.update_agent_performance("ann", True)
    registry.update_agent_performance("claude", True)
    registry.update_agent_performance("claude", False)
    registry.register_agent("new")
    found = registry.get_agent_statistics()
    assert (found.total_agents, found.avg_success_rate) == (3, 0.75)
    assert found.skill_distribution == {"code": 1, "sql": 1, "web": 2}


def test_a_learned_capability_counts_until_the_evidence_turns(registry: AgentRegistry) -> None:
    assert registry.learn_new_capability("claude", "sql", 0.9) == {"sql": 0.9}
    assert registry.list_agents("sql") == ["claude", "ann"]
    wanted = Task(id="t", description="x", requirements=("sql", "code"))
    assert CapabilityRouter(registry.everybody(time.time())).choose(wanted) == ("claude", "agent_01")
    for _ in range(8):
        registry.update_agent_performance("claude", False, task_type="sql")
    assert registry.list_agents("sql") == ["ann"]
    assert CapabilityRouter(registry.everybody(time.time())).choose(wanted) is None


def test_another_process_sees_it_at_once(registry: AgentRegistry, tmp_path: Path) -> None:
    other = AgentRegistry(str(tmp_path), Config(agents=registry.agents))
    assert other.get_agent_health("ann").runs == 0
    registry.update_agent_performance("ann", False)
    registry.learn_new_capability("ann", "go", 0.7)
    assert other.get_agent_health("ann").runs == 1
    assert other.get_agent_capability("ann").learned == {"go": 0.7}


def test_a_worker_whose_file_a_person_wrote_is_known(registry: AgentRegistry) -> None:
    write(f"{registry.roster.folder}/bob.yaml", "agent_id: bob\ncapabilities: [go]\n")
    write(f"{registry.roster.folder}/rubbish.yaml", "[1, 2")
    assert registry.list_agents("go") == ["bob"]
    assert "rubbish" not in registry.list_agents()
