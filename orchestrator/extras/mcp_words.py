"""What the tools take and give, and what each does to the queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator, Field

from orchestrator.router import Weighed

PREFIX = "orchestration_"

# Name without that → what it does to the queue. The method of that name is the tool.
TOOLS: Mapping[str, str] = {
    "create_task": "adds",
    "get_task_status": "looks",
    "query_tasks": "looks",
    "queue_statistics": "looks",
    "route_task": "looks",
    "should_rebalance": "looks",
    "retry_task": "changes",
    "register_agent": "changes",
    "unregister_agent": "ends",
    "list_agents": "looks",
    "get_agent_health": "looks",
    "agent_statistics": "looks",
    "learn_capability": "changes",
    "poll_tasks": "looks",
    "get_next_task": "changes",
    "assign_task": "changes",
    "start_task": "changes",
    "heartbeat": "changes",
    "report_progress": "changes",
    "complete_task": "ends",
    "fail_task": "ends",
    "give_back_task": "changes",
}

INSTRUCTIONS = """\
A queue of tasks for agents. To have something done: orchestration_create_task, then orchestration_get_task_status. \
To do tasks yourself: orchestration_register_agent once; orchestration_get_next_task gives you a task with its prompt \
and the number of its run; do what the prompt says; report with orchestration_complete_task or \
orchestration_fail_task, with that number. An error says in one line what to do; nothing was changed then."""

TaskId = Annotated[str, Field(description="The task, such as task_001.")]
AgentId = Annotated[str, Field(description="The agent's id, as it was registered or stands in config.yaml.")]
Mine = Annotated[str, Field(description="Who has the task; whoever has it now, if left out.")]
Run = Annotated[
    int, Field(ge=0, description="The number that came with the claim; with it, a report that is too late is refused.")
]
Limit = Annotated[int, Field(ge=1, le=1000, description="At most so many.")]
Lines = Annotated[tuple[str, ...], BeforeValidator(lambda one: [one] if isinstance(one, str) else one)]


class Created(NamedTuple):
    """A task that was added."""

    task_id: str
    status: str
    note: str = ""  # why it may wait long


class Claimed(NamedTuple):
    """A task that is this agent's now."""

    task_id: str
    run: int  # the number that its reports have to carry
    description: str
    prompt: str  # all of what to do: context, rules, answers of what it depends on
    prompt_file: str
    output_file: str  # where an answer may be written
    task_type: str
    priority: str
    requirements: tuple[str, ...]


class Ended(NamedTuple):
    """A run that was reported on for the last time."""

    task_id: str
    run: int
    status: str  # where the task is now
    outcome: str
    reason: str
    output_file: str


class Known(NamedTuple):
    """An agent of config.yaml, or one that has registered."""

    agent_id: str
    agent_type: str
    capabilities: tuple[str, ...]  # with those that it has learned
    max_concurrent_tasks: int


class Learned(NamedTuple):
    """What an agent has learned to do: capability → confidence, 0 to 1."""

    agent_id: str
    learned: Mapping[str, float]


class Heard(NamedTuple):
    """An agent was heard of."""

    agent_id: str
    task_id: str = ""
    run: int = 0


class Routed(NamedTuple):
    """Who would do a task, and why."""

    task_id: str
    agent: str  # "": nobody now
    reason: str
    agents: tuple[Weighed, ...]  # the best first


class Advice(NamedTuple):
    """Whether the load is skewed, and what to do about it."""

    should_rebalance: bool
    advice: str


class QueueStatistics(NamedTuple):
    """How many tasks are in which state."""

    pending_count: int
    assigned_count: int
    running_count: int
    completed_count: int
    failed_count: int
    review_count: int
    success_rate: float  # of those that have ended; 1.0 if none has
