"""What a model may ask of the queue over MCP: have something done, look, say who works. One method a tool."""

from __future__ import annotations

import time
from typing import Annotated, Literal

from pydantic import Field

from orchestrator import config, ids
from orchestrator.errors import NotFound
from orchestrator.extras.mcp_words import (
    Advice,
    AgentId,
    Created,
    Heard,
    Known,
    Learned,
    Limit,
    Lines,
    QueueStatistics,
    Routed,
    TaskId,
)
from orchestrator.known import AgentHealth, AgentStatistics
from orchestrator.locks import is_locked
from orchestrator.looking import TaskStatus
from orchestrator.names import nearest, printable
from orchestrator.queue import TaskQueue
from orchestrator.registry import AgentRegistry, clock
from orchestrator.router import CapabilityRouter, unroutable, why_waiting
from orchestrator.states import State
from orchestrator.task import Task
from orchestrator.writing import Scalar


class Asking:
    """The half of the tools for those who do no task themselves."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.queue = TaskQueue(root)

    # -- have something done ----------------------------------------------------------------

    def create_task(
        self,
        content: Annotated[str, Field(description="What to do, in words for the agent that will do it.")],
        task_type: Annotated[str, Field(description="A word to filter by: code, research, …")] = "",
        priority: Literal["high", "normal", "low"] | None = None,
        requirements: Annotated[Lines, Field(description="Capabilities that the agent must have.")] = (),
        dependencies: Annotated[Lines, Field(description="Tasks that must be completed first.")] = (),
        preferred_agent: Annotated[str, Field(description="The only agent that may do it.")] = "",
        context_files: Annotated[Lines, Field(description="Files to read first, below the root.")] = (),
        timeout_minutes: float | None = None,
        task_id: Annotated[str, Field(description="An id of your own; one is made if left out.")] = "",
    ) -> Created:
        """Add a task, durably. An agent takes it when its dependencies are completed."""
        given = {
            "preferred_agent": preferred_agent, "context_files": context_files, "timeout_minutes": timeout_minutes,
            "id": task_id,
        }  # fmt: skip
        fields = {key: value for key, value in given.items() if value}
        made = self.queue.create_task(content, task_type or None, priority, requirements, dependencies, **fields)
        return Created(made, str(State.PENDING), self._nobody_can(requirements))

    def get_task_status(self, task_id: TaskId) -> TaskStatus:
        """What is known of a task now: its state, who has it, percent and last finding, why it ended as it did."""
        return self.queue.get_task_status(task_id)

    def query_tasks(
        self,
        status: Literal["pending", "assigned", "running", "completed", "failed", "review"] | None = None,
        task_type: str = "",
        agent_id: str = "",
        priority: Literal["high", "normal", "low"] | None = None,
        created_after: Annotated[str, Field(description="A time such as 2026-01-15T10:00:00Z.")] = "",
        created_before: str = "",
        limit: Limit = 50,
    ) -> list[TaskStatus]:
        """Find tasks: what waits first, as it would be served, then as they go on."""
        given = {
            "status": status, "task_type": task_type, "agent_id": agent_id, "priority": priority,
            "created_after": created_after, "created_before": created_before, "limit": limit,
        }  # fmt: skip
        return self.queue.query_tasks({key: value for key, value in given.items() if value})

    def queue_statistics(self) -> QueueStatistics:
        """Count the tasks by state, and say which share of the ended ones was completed."""
        found = self.queue.get_queue_statistics()
        return QueueStatistics(**{k: v if k == "success_rate" else int(v) for k, v in found.items()})  # type: ignore[arg-type]

    def route_task(
        self,
        task_id: Annotated[str, Field(description="A task that waits; or leave it out and say what one needs.")] = "",
        requirements: Lines = (),
        preferred_agent: str = "",
    ) -> Routed:
        """Who would do a task now, and why: every agent, whether it may, its score and its parts. Changes nothing."""
        now = time.time()
        agents = self._registry().everybody(now)
        may_wait = task_id and self.queue.state_of(task_id) in (None, State.PENDING)
        waiting = self.queue.beside(ids.file_of(self.queue, task_id) if may_wait else "", now)
        entry = waiting.by_id.get(task_id)
        if entry:
            task = entry.task
        elif task_id:
            task = self.queue.task_of(task_id)
        else:
            task = Task(
                id="", description="what if", requirements=requirements, preferred_agent=preferred_agent or None
            )
        rows = CapabilityRouter(agents).weigh_beside(waiting, task, now)
        if entry:
            reason = why_waiting(entry, agents, now, self.queue.ended_as, clock, lambda task_id: "")
            if reason == "starts next" and not is_locked(f"{self.queue.own}/dispatcher.lock"):
                reason = "no dispatcher runs; 'orchestrate start'"
        else:
            is_now = f"is {self.queue.require(task_id)}" if task_id else ""
            reason = is_now or self._nobody_can(task.requirements) or unroutable(task, agents)
        chosen = "" if entry and entry.unmet else next((row.agent for row in rows if row.chosen), "")
        return Routed(task_id, chosen, reason, tuple(rows))

    def should_rebalance(self) -> Advice:
        """Whether some agents are busy while others have nothing to do, and what to do about it."""
        now = time.time()
        ready = [entry.task for _, entry in self.queue.index(now).heads(now)]
        advice = CapabilityRouter(self._registry().everybody(now)).should_rebalance(ready)
        return Advice(bool(advice), advice or "the load is even")

    def retry_task(
        self, task_id: TaskId, note: Annotated[str, Field(description="What the next attempt should know.")] = ""
    ) -> TaskStatus:
        """Give a task that has failed, or waits for a person in review, back to the queue."""
        self.queue.retry(task_id, note)
        return self.queue.get_task_status(task_id)

    # -- who there is -----------------------------------------------------------------------

    def register_agent(
        self,
        agent_id: Annotated[str, Field(description="A name of your own for who works: letters, digits, '_', '-'.")],
        capabilities: Lines = (),
        max_concurrent_tasks: Annotated[int, Field(description="Tasks that it takes at once.")] = 1,
        agent_type: Annotated[str, Field(description="A word for all of its kind.")] = "worker",
        metadata: Annotated[dict[str, Scalar] | None, Field(description="Kept as it is.")] = None,
        replace: Annotated[bool, Field(description="One of that id is gone; what it has waits again.")] = False,
    ) -> Known:
        """Take an agent in that will fetch tasks itself: you, if you want to work on the queue."""
        most: dict[str, Scalar] = {"max_concurrent_tasks": max_concurrent_tasks}
        self.queue.register_agent(agent_id, capabilities, {**(metadata or {}), **most}, agent_type, replace)
        return self._known(self._registry(), agent_id)

    def unregister_agent(self, agent_id: AgentId) -> Heard:
        """Forget an agent that has registered and has no task."""
        registry = self._registry()
        registry.unregister_agent(agent_id) if registry.settings(agent_id) else self.queue.unregister_agent(agent_id)
        return Heard(agent_id)

    def list_agents(
        self, capability: Annotated[str, Field(description="Only those that have it.")] = ""
    ) -> list[Known]:
        """The agents of config.yaml and those that have registered, and what each can do."""
        registry = self._registry()
        found = registry.list_agents(capability)
        if capability and not found and (note := self._nobody_can((capability,))):
            raise NotFound(note)
        return [self._known(registry, one) for one in found]

    def get_agent_health(self, agent_id: AgentId) -> AgentHealth:
        """How an agent is now: healthy, degraded, stale or paused, and why; how well its last runs went."""
        return self._registry().get_agent_health(agent_id)

    def agent_statistics(self) -> AgentStatistics:
        """How many agents there are, how well they do on average, and how often there is each capability."""
        return self._registry().get_agent_statistics()

    def learn_capability(
        self,
        agent_id: AgentId,
        capability: str,
        confidence: Annotated[float, Field(description="How sure that is, 0 to 1; its runs of that kind decide then.")],
    ) -> Learned:
        """Say that an agent can do something that it was not set up for."""
        return Learned(agent_id, self._registry().learn_new_capability(agent_id, capability, confidence))

    # -- inside -----------------------------------------------------------------------------

    def _registry(self) -> AgentRegistry:
        return AgentRegistry(self.root, config.load_or_last(self.root)[0])

    def _known(self, registry: AgentRegistry, agent_id: str) -> Known:
        one = registry.get_agent_capability(agent_id)
        return Known(one.agent_id, one.agent_type, one.all, one.max_concurrent_tasks)

    def _nobody_can(self, wanted: tuple[str, ...]) -> str:
        registry = self._registry() if wanted else None
        for one in wanted:
            if registry and not registry.list_agents(one):
                skills = {skill for who in registry.everybody(time.time()) for skill in who.capabilities}
                return f"no agent has the capability {printable(one)!r} now{nearest(one, skills)}; a task that needs it waits"
        return ""
