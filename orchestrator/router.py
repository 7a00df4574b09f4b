"""Which agent may do a task, which slot it gets, and why it waits. Decides, touches nothing.

The same functions answer the dispatcher and `orchestrate show`, so that the reason a person
reads is the one that was acted on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from orchestrator.agents.base import Agent
from orchestrator.config import AgentConfig
from orchestrator.states import State
from orchestrator.task import Task
from orchestrator.waiting import Entry


class AgentView(NamedTuple):
    """One agent as it is now."""

    name: str
    settings: AgentConfig
    adapter: Agent
    slots: tuple[str, ...]
    busy: frozenset[str]  # those of its slots that have a run
    paused: str = ""  # why it takes no work now; "" if it does
    names: frozenset[str] = frozenset()  # of all agents here

    @property
    def free(self) -> list[str]:
        """Slots that could start a run now."""
        if self.paused or len(self.busy) >= self.settings.max_instances:
            return []
        return [slot for slot in self.slots if slot not in self.busy]


def is_wanted(agent: AgentView, preferred: str | None) -> bool:
    """Whether a task's `preferred_agent` names this agent; or its kind, if no agent has that name."""
    return (
        not preferred or preferred == agent.name or (preferred not in agent.names and preferred == agent.adapter.kind)
    )


def refusal(agent: AgentView, task: Task) -> str:
    """Why this agent can never do this task; "" if it can."""
    if not is_wanted(agent, task.preferred_agent):
        return f"is not {task.preferred_agent}"
    lacking = [one for one in task.requirements if one not in agent.settings.capabilities]
    return f"lacks {', '.join(lacking)}" if lacking else agent.adapter.refuses(task)


def choose(
    task: Task, agents: Sequence[AgentView], avoid: str = "", spent: Collection[str] = ()
) -> tuple[str, str] | None:
    """(agent, slot) for a task: among those that can do it the least loaded, ties in the order of
    config.yaml; agents that are `spent` on it, and the slot of the last attempt, only if there is no other."""
    able = [agent for agent in agents if agent.free and not refusal(agent, task)]
    ranked = sorted(
        ((agent.name in spent, slot == avoid, len(agent.busy) / agent.settings.max_instances, place, agent.name, slot)
         for place, agent in enumerate(able) for slot in agent.free),
        key=lambda row: row[:4],
    )  # fmt: skip
    return ranked[0][4:] if ranked else None


def unroutable(task: Task, agents: Sequence[AgentView]) -> str:
    """Why no agent here could ever do the task; "" if one could."""
    if any(not refusal(agent, task) for agent in agents):
        return ""
    names = ", ".join(agent.name for agent in agents) or "none"
    wanted = [agent for agent in agents if is_wanted(agent, task.preferred_agent)]
    if not wanted:
        return f"wants {task.preferred_agent}, which is not set up here (agents: {names}); see 'orchestrate doctor'"
    if task.requirements and all(set(task.requirements) - set(agent.settings.capabilities) for agent in wanted):
        held = sorted({one for agent in agents for one in agent.settings.capabilities})
        missing = [one for one in task.requirements if one not in held]
        what = (
            f"capability {missing[0]}"
            if len(missing) == 1
            else f"capabilities {', '.join(missing or task.requirements)}"
        )
        return f"needs {what}{'' if missing else ' in one agent'}; agents have {', '.join(held) or 'none'}"
    why = wanted[0].adapter.refuses(task) if len(wanted) == 1 else ""
    if task.run is None and all(agent.adapter.kind == "shell" for agent in wanted):
        return f"has no 'run:' script, and the only agents here ({names}) run scripts; set up claude, codex, … in config.yaml"
    if task.run is not None:
        return f"has a 'run:' script, and no shell agent is set up (agents: {names})"
    return f"no agent can do it: {wanted[0].name} {why}"


def stranded(task: Task, agents: Sequence[AgentView], missing: Callable[[str], str]) -> str:
    """Why only a person can get this task going: no agent could do it, or those that could have no program; or ""."""
    if reason := unroutable(task, agents):
        return reason
    lacks = {agent.name: missing(agent.name) for agent in agents if not refusal(agent, task)}
    return "; ".join(f"{name} {lack}" for name, lack in lacks.items()) if all(lacks.values()) else ""


def why_waiting(
    entry: Entry,
    agents: Sequence[AgentView],
    now: float,
    state_of: Callable[[str], State | None],
    clock: Callable[[float], str],
    rejected: Mapping[str, str],
) -> str:
    """The honest reason, in words a user can read. `clock` writes a moment as his time of day."""
    held = []
    for one in sorted(entry.unmet):
        state = state_of(one)
        words = {State.ASSIGNED: "running", State.PENDING: "waiting", State.REVIEW: "in review"}
        if state is None:
            held.append(f"{one} ({rejected[one]})" if one in rejected else f"{one} (no such task)")
        elif state is not State.COMPLETED:
            held.append(f"{one} ({words.get(state, str(state))})")
    if held:
        return "waits for " + ", ".join(held)
    if entry.attempt.not_before > now:
        return f"tries again at {clock(entry.attempt.not_before)} ({entry.attempt.last_reason or entry.attempt.last_status})"
    if reason := unroutable(entry.task, agents):
        return reason
    able = [agent for agent in agents if not refusal(agent, entry.task)]
    if any(agent.free for agent in able):
        return "starts next"
    parts = [
        f"{agent.name} {agent.paused}"
        if agent.paused
        else f"no free slot of {agent.name} ({len(agent.busy)} of {agent.settings.max_instances} busy)"
        for agent in able
    ]
    return "; ".join(parts)
