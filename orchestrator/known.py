"""Who is known here: the agents of config.yaml and the workers that have registered, in one table; what each can do,
how well it does, and how it is. `registry.AgentRegistry` is this, and the agents' slots and pauses.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from orchestrator import events
from orchestrator.agents import adapter_for
from orchestrator.config import AgentConfig
from orchestrator.errors import AlreadyExists, NotFound, OrchestrateError, Refused
from orchestrator.names import id_problem, nearest, printable
from orchestrator.performance import Performance, Run, Standing
from orchestrator.places import Places
from orchestrator.profiles import Specialist
from orchestrator.roster import STALE_SECONDS, Roster, Worker
from orchestrator.writing import Scalar

DEGRADED = 0.5  # success rate below which an agent is called degraded; as the router counts it


class AgentCapability(NamedTuple):
    """What one agent can do."""

    agent_id: str
    agent_type: str  # of an agent its adapter, of a worker what it registered as
    capabilities: tuple[str, ...]  # as configured or registered
    max_concurrent_tasks: int
    metadata: Mapping[str, Scalar] = {}
    standing: Standing = Standing()  # how well it does

    @property
    def learned(self) -> Mapping[str, float]:
        """Capability → confidence, 0 to 1."""
        return self.standing.learned

    @property
    def all(self) -> tuple[str, ...]:
        """What tasks may require of it."""
        return (*self.capabilities, *(one for one in self.learned if one not in self.capabilities))


class AgentHealth(NamedTuple):
    """How one agent is now."""

    agent_id: str
    status: str  # healthy, degraded, stale or paused
    why: str  # in words; "" if healthy
    success_rate: float  # of the last runs; 1.0 if there are none
    avg_completion_ms: float  # of those that went well; 0.0 if there are none
    runs: int  # that the rate is of
    running: int
    max_concurrent_tasks: int


class AgentStatistics(NamedTuple):
    """All agents together."""

    total_agents: int
    avg_success_rate: float  # of those that have made runs; 1.0 if none has
    skill_distribution: Mapping[str, int]  # capability → how many agents have it


class Known:
    """The agents and workers of one root. Any number of processes may use the same root at once."""

    def __init__(self, root: str) -> None:
        self.places = Places(root)
        self.performance = Performance(self.places.own)
        self.roster = Roster(self.places.own)
        self.agents: dict[str, AgentConfig] = {}
        self.specialists: dict[str, Specialist] = {}

    def paused(self, name: str, now: float) -> str:
        """Why an agent of config.yaml takes no work now; "" if it does."""
        raise NotImplementedError

    # -- who --------------------------------------------------------------------------------

    def register_agent(
        self, agent_id: str, capabilities: Sequence[str] = (), metadata: Mapping[str, Scalar] | None = None,
        agent_type: str = "worker", replace: bool = False,
    ) -> Worker:  # fmt: skip
        """Take a worker in; `metadata` may hold max_concurrent_tasks. Raises OrchestrateError, AlreadyExists."""
        if agent_id in self.agents or agent_id in self.specialists:
            raise AlreadyExists(f"{agent_id}: an agent of config.yaml, or a specialist, has that name; choose another")
        return self.roster.register(agent_id, capabilities, metadata, agent_type, replace)

    def unregister_agent(self, agent_id: str) -> None:
        """Forget a worker; its record stays until it is too old to count. Raises NotFound, Refused."""
        if agent_id in self.agents:
            raise Refused(f"{agent_id}: is an agent of config.yaml; take it out there, or set 'enabled: false'")
        self.roster.unregister(agent_id)

    def list_agents(self, capability: str = "") -> list[str]:
        """The ids of all agents and workers; or of those that have a capability, specialists and learned ones counted."""
        everyone = self._everyone(time.time())
        if capability:
            everyone += [self.get_agent_capability(name) for name in self.specialists]
        return [one.agent_id for one in everyone if not capability or capability in one.all]

    def get_agent_capability(self, agent_id: str) -> AgentCapability:
        """Raises NotFound, with the nearest name."""
        now = time.time()
        if agent := self.settings(agent_id):
            return self._of_agent(agent_id, agent, now)
        self._require(agent_id)
        return self._of_worker(self.roster.worker(agent_id), now)

    def settings(self, name: str) -> AgentConfig | None:
        """Of an agent of config.yaml, or of a specialist; None if it is neither."""
        one = self.specialists.get(name)
        return one.settings if one else self.agents.get(name)

    def base(self, name: str) -> str:
        """Whose account and slots an agent uses: of a specialist, those of its agent."""
        one = self.specialists.get(name)
        return one.base if one else name

    # -- how --------------------------------------------------------------------------------

    def get_agent_health(self, agent_id: str) -> AgentHealth:
        """Raises NotFound, with the nearest name."""
        return self._health(self.get_agent_capability(agent_id), self.running(), time.time())

    def get_all_health(self) -> list[AgentHealth]:
        """The health of every agent and worker."""
        now, running = time.time(), self.running()
        return [self._health(one, running, now) for one in self._everyone(now)]

    def get_agent_statistics(self) -> AgentStatistics:
        """How many there are, how well they do on average, and how often there is each capability."""
        now = time.time()
        everyone = self._everyone(now)
        rates = [one.standing.success_rate for one in everyone if one.standing.runs]
        skills: dict[str, int] = {}
        for capability in (capability for one in everyone for capability in one.all):
            skills[capability] = skills.get(capability, 0) + 1
        return AgentStatistics(len(everyone), sum(rates) / len(rates) if rates else 1.0, dict(sorted(skills.items())))

    def update_agent_performance(
        self, agent_id: str, success: bool, seconds: float = 0.0, task_type: str = ""
    ) -> AgentHealth:
        """Count something that was done without a task of this queue; its tasks are counted by themselves.

        `seconds`: how long it took. Raises NotFound.
        """
        self._require(agent_id)
        if not isinstance(success, bool):
            raise OrchestrateError(f"success: write True or False, not {printable(repr(success), 80)}")
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e9:
            raise OrchestrateError(f"seconds: write a number of 0 or more, not {seconds!r}")
        if task_type and (problem := id_problem(task_type)):
            raise OrchestrateError(f"task_type {problem}")
        mark = f"told/{time.time_ns():x}-{os.urandom(3).hex()}"
        self.performance.note(agent_id, Run(mark, success, seconds, time.time(), (task_type,) if task_type else ()))
        return self.get_agent_health(agent_id)

    def learn_new_capability(self, agent_id: str, capability: str, confidence: float) -> Mapping[str, float]:
        """Say that it can do this, how sure that is (0 to 1); from then on its runs of that kind decide. What it has
        learned so far. Raises NotFound, OrchestrateError."""
        self._require(agent_id)
        if problem := id_problem(capability):
            raise OrchestrateError(f"capability {problem}")
        if isinstance(confidence, bool) or not isinstance(confidence, (int, float)) or not 0 <= confidence <= 1:
            raise OrchestrateError(f"confidence: write a number from 0 to 1, not {confidence!r}")
        self.performance.learn(agent_id, capability, float(confidence), time.time())
        text = f"{agent_id} can {capability} (confidence {confidence:g})"
        events.record(self.places.own, "learned", "", text, agent_id=agent_id)
        return self.get_agent_capability(agent_id).learned

    def running(self) -> dict[str, list[str]]:
        """Slot or worker → the tasks that it has now."""
        found: dict[str, list[str]] = {}
        for task_id, names in self.places.assignments().items():
            for name in names:
                found.setdefault(name[len(task_id) + 1 : -len(".yaml")], []).append(task_id)
        return found

    # -- inside -----------------------------------------------------------------------------

    def _require(self, agent_id: str) -> None:
        if self.settings(agent_id) is None and agent_id not in (known := self.roster.ids()):
            everyone = [*self.agents, *self.specialists, *known]
            raise NotFound(
                f"{printable(agent_id)}: no such agent{nearest(agent_id, everyone)}; 'orchestrate agents' lists them"
            )

    def _everyone(self, now: float) -> list[AgentCapability]:
        agents = [self._of_agent(name, agent, now) for name, agent in self.agents.items()]
        return [*agents, *(self._of_worker(one, now) for one in self.roster.all() if one.agent_id not in self.agents)]

    def _of_agent(self, name: str, agent: AgentConfig, now: float) -> AgentCapability:
        kind, standing = adapter_for(name, agent).kind, self.performance.of(name, now)
        return AgentCapability(name, kind, agent.capabilities, agent.max_instances, {}, standing)

    def _of_worker(self, one: Worker, now: float) -> AgentCapability:
        standing, most = self.performance.of(one.agent_id, now), one.max_concurrent_tasks
        return AgentCapability(one.agent_id, one.agent_type, one.capabilities, most, one.metadata, standing)

    def slots_of(self, name: str) -> Sequence[str]:
        """Where its runs are counted: its slots; a worker counts under its own name."""
        return (name,)

    def _health(self, one: AgentCapability, running: Mapping[str, list[str]], now: float) -> AgentHealth:
        name, standing = one.agent_id, one.standing
        count = sum(len(running.get(slot, ())) for slot in self.slots_of(name))
        status, why = self._status(name, standing, now)
        rate, ms = standing.success_rate, standing.seconds * 1000
        return AgentHealth(name, status, why, rate, ms, standing.runs, count, one.max_concurrent_tasks)

    def _status(self, name: str, standing: Standing, now: float) -> tuple[str, str]:
        if self.settings(name) is not None:
            if paused := self.paused(name, now):
                return "paused", paused
        elif (silent := now - self.roster.beat_at(name)) >= STALE_SECONDS:
            return "stale", f"was not heard of for {silent:.0f} s"
        if standing.expected < DEGRADED:
            return "degraded", f"{standing.well} of its last {standing.runs} runs went well"
        return "healthy", ""
