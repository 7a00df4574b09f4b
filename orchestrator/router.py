"""Which agent may do a task, which slot it gets, and why it waits. Decides, touches nothing.

The same words answer the dispatcher and `orchestrate show`, so that the reason a person
reads is the one that was acted on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from orchestrator.agents.base import Agent
from orchestrator.config import AgentConfig
from orchestrator.names import nearest, printable
from orchestrator.performance import Standing
from orchestrator.states import State
from orchestrator.task import Task
from orchestrator.waiting import Entry, Route, Waiting, route_of

SKEWED = 0.5  # difference of load, as shares, from which it is worth a word


class AgentView(NamedTuple):
    """One agent as it is now."""

    name: str
    settings: AgentConfig
    adapter: Agent
    slots: tuple[str, ...]
    busy: frozenset[str]  # those of its slots that have a run
    paused: str = ""  # why it takes no work now; "" if it does
    names: frozenset[str] = frozenset()  # of all agents here
    standing: Standing = Standing()  # how well it does
    base: str = ""  # of a specialist: the agent in whose slots it runs
    added: tuple[str, ...] = ()  # of a specialist: what it can and its agent cannot
    absent: Mapping[str, str] = {}  # agents of config.yaml that have no slots here → why
    worker_type: str = ""  # of a worker that has registered; "": an agent of config.yaml

    @property
    def home(self) -> str:
        """Whose slots these are."""
        return self.base or self.name

    @property
    def kind(self) -> str:
        """What a task may name instead of its name."""
        return self.worker_type or self.adapter.kind

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Those it was given, and those it has learned."""
        given = self.settings.capabilities
        return (*given, *(one for one in self.standing.learned if one not in given))

    @property
    def load(self) -> float:
        """The share of it that is busy."""
        return len(self.busy) / self.settings.max_instances

    @property
    def score(self) -> float:
        """Success rate × (1 − running ÷ most at once)."""
        return round(self.standing.expected * max(0.0, 1.0 - self.load), 6)

    @property
    def free(self) -> list[str]:
        """Slots that could start a run now."""
        if self.paused or len(self.busy) >= self.settings.max_instances:
            return []
        return [slot for slot in self.slots if slot not in self.busy]


def is_wanted(agent: AgentView, preferred: str | None) -> bool:
    """Whether a task's `preferred_agent` names this agent; or its kind, if no agent has that name."""
    return not preferred or preferred == agent.name or (preferred not in agent.names and preferred == agent.kind)


def refusal(agent: AgentView, task: Task) -> str:
    """Why this agent can never do this task; "" if it can."""
    if not is_wanted(agent, task.preferred_agent):
        return f"is not {task.preferred_agent}"
    if agent.base and task.preferred_agent != agent.name and not set(task.requirements) & set(agent.added):
        return "does only what asks for it, by name or by a capability that it adds"
    lacking = [one for one in task.requirements if one not in agent.capabilities]
    return f"lacks {', '.join(lacking)}" if lacking else agent.adapter.refuses(task)


class Weighed(NamedTuple):
    """One agent, weighed for one task: whether it may do it now, and what its score is made of."""

    agent: str
    may: bool
    why: str  # it is not given the task; "" if it may be
    score: float  # success_rate × (1 − running ÷ most)
    success_rate: float  # as the score counts it: a newcomer's first runs are taken as gone well
    runs: int  # that the rate is of
    running: int
    most: int  # at once
    chosen: bool = False


class CapabilityRouter:
    """Which agent does a task: one that has every capability it requires and that it names, if it names one; of these
    the one with the highest score, then the least loaded, then the first in config.yaml.

    The last free slot of an agent is left to a task that waits and that only this agent can do, unless the other task is
    more urgent; and the slot of a failed attempt is taken only if there is no other.
    """

    def __init__(self, agents: Sequence[AgentView] = ()) -> None:
        self.agents: list[AgentView] = []
        self._able: dict[Route, tuple[int, ...]] = {}
        self._abilities: list[tuple[object, ...]] = []
        self.left: dict[str, int] = {}  # agent → the rank of the most urgent task that only it can do
        self.see(agents)

    def see(self, agents: Sequence[AgentView]) -> None:
        """Take up how they are now. Who can do what is worked out anew only if that has changed."""
        self.agents = list(agents)
        abilities: list[tuple[object, ...]] = [
            (agent.name, agent.kind, agent.capabilities, agent.names, agent.base) for agent in agents
        ]
        if abilities != self._abilities:
            self._able, self._abilities = {}, abilities

    def took(self, agent: str, slot: str) -> None:
        """A slot has a run from now on."""
        for place, view in enumerate(self.agents):
            if view.name == agent or slot in view.slots:
                self.agents[place] = view._replace(busy=view.busy | {slot})

    def able(self, task: Task) -> tuple[int, ...]:
        """The places of those that can do it, free or not."""
        route = route_of(task)
        if route not in self._able:
            self._able[route] = tuple(n for n, agent in enumerate(self.agents) if not refusal(agent, task))
        return self._able[route]

    def leave(self, waiting: Iterable[tuple[int, Task]]) -> None:
        """Say what could start now, with its rank (lower is more urgent): some of it only one agent can do."""
        self.left = {}
        for rank, task in waiting:
            able = self.able(task)
            if able and len({self.agents[place].home for place in able}) == 1:
                name = self.agents[able[0]].home
                self.left[name] = min(rank, self.left.get(name, rank))

    def choose(self, task: Task, avoid: str = "", rank: int = 0, spent: Collection[str] = ()) -> tuple[str, str] | None:
        """(agent, slot) for a task of this rank; None if it has to wait. `avoid`: the slot of its last attempt;
        `spent`: agents that have failed at it often. They get it only if there is no other."""
        best: tuple[tuple[bool, bool, bool, float, float, int], str, str] | None = None
        able = self.able(task)
        for place in able:
            agent = self.agents[place]
            if not (free := agent.free) or self._is_left(agent, able, rank):
                continue
            slot = next((one for one in free if one != avoid), free[0])
            is_last = len(able) > 1 and len(free) == 1 and agent.home in self.left
            key = (agent.name in spent, slot == avoid, is_last, -agent.score, agent.load, place)
            if best is None or key < best[0]:
                best = (key, agent.name, slot)
        return best[1:] if best else None

    def next_of(self, waiting: Waiting, now: float) -> tuple[Entry, str, str] | None:
        """(task, agent, slot): what starts next; None if nothing can."""
        if not any(agent.free for agent in self.agents):
            return None
        heads = waiting.heads(now)
        if len(self.agents) > 1:
            self.leave((rank, waiting.kinds[entry.route].task) for rank, entry in heads)
        for rank, entry in heads:
            kind = waiting.kinds[entry.route].task
            if choice := self.choose(kind, entry.attempt.last_slot, rank, entry.attempt.spent):
                return (entry, *choice)
        return None

    def _is_left(self, agent: AgentView, able: Sequence[int], rank: int) -> bool:
        """Whether its last slot is left to a task that only it can do. Not if nobody else could do this one soon."""
        if len(able) < 2 or len(agent.free) != 1 or self.left.get(agent.home, rank + 1) > rank:
            return False
        others = (self.agents[place] for place in able)
        return any(other.home != agent.home and not other.paused for other in others)

    def weigh(self, task: Task, avoid: str = "", rank: int = 0, spent: Collection[str] = ()) -> list[Weighed]:
        """Every agent, the best first."""
        choice = self.choose(task, avoid, rank, spent)
        rows = []
        for place, agent in enumerate(self.agents):
            why = refusal(agent, task) or agent.paused
            if not why and not agent.free:
                why = f"no free slot ({len(agent.busy)} of {agent.settings.max_instances} busy)"
            if not why and self._is_left(agent, self.able(task), rank):
                why = "its last slot is left to a task that only it can do"
            standing, most = agent.standing, agent.settings.max_instances
            rate, chosen = round(standing.expected, 4), bool(choice and choice[0] == agent.name)
            row = Weighed(agent.name, not why, why, agent.score, rate, standing.runs, len(agent.busy), most, chosen)
            rows.append(((not chosen, bool(why), bool(refusal(agent, task)), -agent.score, agent.load, place), row))
        return [row for _, row in sorted(rows, key=lambda one: one[0])]

    def weigh_beside(self, waiting: Waiting, task: Task, now: float) -> list[Weighed]:
        """`weigh` for a task, with its place among all that waits."""
        entry = waiting.by_id.get(task.id)
        others = ((rank, one) for rank, one in waiting.heads(now) if one is not entry)
        self.leave((rank, waiting.kinds[one.route].task) for rank, one in others)
        if entry is None:
            return self.weigh(task)
        rank = waiting.effective(entry.priority, entry.arrival, now)
        return self.weigh(task, entry.attempt.last_slot, rank, entry.attempt.spent)

    def should_rebalance(self, waiting: Iterable[Task] = ()) -> str:
        """What is skewed, and what to do about it; "" if the load is even. `waiting`: what could start now."""
        agents = [one for one in self.agents if not one.base and (one.worker_type or not one.paused)]
        if len(agents) < 2:
            return ""
        most = max(agents, key=lambda agent: agent.load)
        least = min(agents, key=lambda agent: agent.load)
        if most.load - least.load < SKEWED:
            return ""
        able = [{self.agents[place].name for place in self.able(task)} for task in waiting]
        held = sum(1 for names in able if most.name in names and least.name not in names)
        busy = "; ".join(
            f"{agent.name} has {len(agent.busy)} of {agent.settings.max_instances} busy" for agent in (most, least)
        )
        if held:
            lacking = [one for one in most.capabilities if one not in least.capabilities]
            what = f"the capabilities {', '.join(lacking)}" if lacking else "what they ask for"
            return (
                f"{busy}: {held} waiting tasks are for {most.name} and not for {least.name}; give {least.name} {what}, "
                f"leave out preferred_agent where it does not matter, or give {most.name} more slots (max_instances)"
            )
        if able:
            return f"{busy}: what waits can be done by {least.name}, too; it takes it as soon as it can"
        return f"{busy}, and nothing waits: {most.name} is asked for by name, or nobody else can do its tasks"


def unroutable(task: Task, agents: Sequence[AgentView]) -> str:
    """Why no agent here could ever do the task; "" if one could."""
    if any(not refusal(agent, task) for agent in agents):
        return ""
    own = [agent for agent in agents if not agent.base]
    names = ", ".join(agent.name for agent in own) or "none"
    wanted, asked = [agent for agent in agents if is_wanted(agent, task.preferred_agent)], task.preferred_agent or ""
    if not wanted:
        why = next((agent.absent[asked] for agent in agents if asked in agent.absent), "is not set up here")
        return f"wants {asked}, which {why} (agents: {names}); see 'orchestrate doctor'"
    if task.requirements and all(set(task.requirements) - set(agent.capabilities) for agent in wanted):
        held = sorted({one for agent in own for one in agent.capabilities})
        missing = [one for one in task.requirements if one not in held]
        hints = [f"{printable(one)}{nearest(one, held)}" for one in missing] or [*map(printable, task.requirements)]
        what = f"{'capability' if len(hints) == 1 else 'capabilities'} {', '.join(hints)}"
        return f"needs {what}{'' if missing else ' in one agent'}; agents have {', '.join(held) or 'none'}"
    if fit := [agent for agent in wanted if not agent.adapter.refuses(task)]:
        return "no agent can do it: " + "; ".join(f"{agent.name} {refusal(agent, task)}" for agent in fit[:3])
    if asked:
        how = f"no 'run:' script, and {asked} does nothing else; give it one, or"
        how = f"a 'run:' script, and {asked} never runs one;" if task.run is not None else how
        return f"has {how} take 'preferred_agent: {asked}' out"
    if task.run is None:
        return f"has no 'run:' script, and the only agents here ({names}) run scripts; set up claude, codex, … in config.yaml"
    return f"has a 'run:' script, and no shell agent is set up (agents: {names})"


def stranded(task: Task, agents: Sequence[AgentView], missing: Callable[[str], str]) -> str:
    """Why only a person can get this task going: no agent could do it, or those that could have no program; or ""."""
    if reason := unroutable(task, agents):
        return reason
    lacks = {agent.name: missing(agent.name) for agent in agents if not refusal(agent, task)}
    return "; ".join(f"{name} {lack}" for name, lack in lacks.items()) if all(lacks.values()) else ""


def why_waiting(
    entry: Entry, agents: Sequence[AgentView], now: float, state_of: Callable[[str], State | None],
    clock: Callable[[float], str], rejected: Callable[[str], str],
) -> str:  # fmt: skip
    """The honest reason, in words a user can read. `clock` writes a moment as his time of day."""
    held, words = [], {State.ASSIGNED: "running", State.PENDING: "waiting", State.REVIEW: "in review"}
    for one in sorted(entry.unmet):
        state = state_of(one)
        if state is None:
            held.append(f"{one} ({rejected(one) or 'no such task'})")
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
        f"for worker {agent.name}, who has {len(agent.busy)} of {agent.settings.max_instances} and {agent.paused}"
        if agent.worker_type
        else f"{agent.name} {agent.paused}"
        if agent.paused
        else f"no free slot of {agent.name} ({len(agent.busy)} of {agent.settings.max_instances} busy)"
        for agent in able
    ]
    return "; ".join(parts)
