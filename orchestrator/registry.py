"""The agents of this root: which there are, their slots, which are paused and why.

A pause survives a restart as one small file per agent in .orchestrator/agents/; deleting it is
the same as ending the pause. Who is busy is not kept: it is counted from what runs.
"""

from __future__ import annotations

import math
import os
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from orchestrator import config as configuration
from orchestrator import files, plain, profiles
from orchestrator.agents import AGENTS, adapter_for
from orchestrator.config import AgentConfig, Config
from orchestrator.errors import InvalidConfig, InvalidTask
from orchestrator.known import Known
from orchestrator.names import nearest, printable
from orchestrator.places import BUILT_IN
from orchestrator.reading import parse_mapping, read_bytes
from orchestrator.roster import STALE_SECONDS
from orchestrator.router import AgentView
from orchestrator.runs import epoch, utc
from orchestrator.writing import Value, to_yaml

FIRST_PAUSE = 30.0  # seconds, of an agent that does not start; doubled each time, an hour at most


class Pause(NamedTuple):
    """An agent takes no work until then."""

    until: float  # epoch seconds UTC
    reason: str
    since: float = 0.0  # epoch seconds UTC
    failed_starts: int = 0  # if it is for these; then one task tries whether it starts again

    def holds(self, now: float) -> bool:
        """Whether it is in force. One from the future was set before the clock was put right: nobody knows its end."""
        return self.since <= now + 1.0 and self.until > now


def clock(moment: float) -> str:
    """A moment as a person's time of day: with seconds if it is near, with the date if it is not today."""
    then, now = datetime.fromtimestamp(moment), datetime.now()
    if abs((then - now).total_seconds()) < 600:
        return then.strftime("%H:%M:%S")
    return then.strftime("%H:%M" if then.date() == now.date() else "%b %d %H:%M")


class AgentRegistry(Known):
    """Agents by name, in the order of config.yaml; their slots are agent_01, agent_02, … through all of them. And the
    workers that have registered, whose work is not handed out.

    `AgentRegistry(root)` is enough to look and to register. Raises InvalidConfig.
    """

    def __init__(
        self, root: str, config: Config | None = None, sizes: Mapping[str, int] | None = None, path: str | None = None
    ) -> None:
        super().__init__(os.path.abspath(root))
        self._folder = f"{self.places.own}/agents"
        self._path = path
        self._pauses: dict[str, Pause] = {}
        self._missing: dict[str, tuple[float, str]] = {}
        self._worked: dict[str, float] = {}
        self._failed: dict[str, tuple[int, float]] = {}  # starts that failed in a row; when the last one did
        self.slots: dict[str, tuple[str, ...]] = {}
        self.problems: dict[str, str] = {}  # specialist → why it cannot work
        self.absent: dict[str, str] = {}  # agent of config.yaml that has no slots here → why, in words behind "which"
        self._profiles: tuple[object, ...] = ()
        self.configure(config or configuration.load(root), sizes or {})

    def configure(self, config: Config, sizes: Mapping[str, int]) -> None:
        """Take up a config; `sizes` (of --agents) say which agents and how many. Raises InvalidConfig."""
        table = config.agent_table(self._path)
        for name in sizes:
            if name not in table:
                raise InvalidConfig(
                    f"--agents {name}: no such agent here{nearest(name, table)}; there are: {', '.join(table)}"
                )
        self.absent = {name: "is not enabled in config.yaml" for name in config.agents if name not in table}
        if sizes:
            self.absent |= {name: "this dispatcher was started without" for name in table if not sizes.get(name)}
            table = {n: a._replace(max_instances=sizes[n]) for n, a in table.items() if sizes.get(n)}
        self.agents = table
        number, self.slots = 0, {}
        for name, agent in table.items():
            self.slots[name] = tuple(f"agent_{number + i + 1:02d}" for i in range(agent.max_instances))
            number += agent.max_instances
        self._profiles = ()
        self.look()

    def program(self, name: str) -> tuple[str, ...]:
        """The agent's command as words, the program's path found out; () if it cannot be found."""
        agent = self.settings(name)
        assert agent is not None
        words = tuple(shlex.split(agent.command))
        if not words:
            return ()
        import shutil  # four modules that most commands do without

        found = shutil.which(os.path.expanduser(words[0]), path=agent.env.get("PATH", self._path))
        return (found, *words[1:]) if found else ()

    def missing(self, name: str) -> str:
        """Why the agent cannot be started at all; "" if it can, or is no agent of config.yaml."""
        agent = self.settings(name)
        if agent is None:
            return ""
        if adapter_for(name, agent).kind == "shell" or self.program(name):
            return ""
        return f"cannot start: {shlex.split(agent.command)[0]!r} is not on PATH"

    def line(self) -> str:
        """Which agents there are, and how many of each."""
        return ", ".join(f"{name}:{agent.max_instances}" for name, agent in self.agents.items()) or "none"

    def views(self, busy: Mapping[str, str], now: float) -> list[AgentView]:
        """All agents as they are now; `busy` maps a slot that has a run to its agent's name."""
        views = []
        for name, agent in self.agents.items():
            mine = frozenset(slot for slot, owner in busy.items() if owner == name or slot in self.slots[name])
            slots, paused = self.slots[name], self.paused(name, now)
            if not paused and (pause := self._pauses.get(name)) and pause.failed_starts:
                slots = slots[:1]
                paused = f"is tried with one task first ({pause.reason})" if mine else ""
            adapter, standing = adapter_for(name, agent), self.performance.of(name, now)
            who = AgentView(name, agent, adapter, slots, mine, paused, frozenset(self.agents), standing)
            views.append(who._replace(absent=self.absent))
        bases = {view.name: view for view in views}
        for one in self.specialists.values():
            standing = self.performance.of(one.name, now)
            views.append(
                bases[one.base]._replace(
                    name=one.name, settings=one.settings, standing=standing, base=one.base, added=one.added
                )
            )
        return views

    def names(self) -> list[str]:
        """What a task may name in `preferred_agent`: agents, workers, kinds of workers; beside the `absent`."""
        own = (*self.specialists, *self.problems, *BUILT_IN)
        return list(dict.fromkeys([*self.agents, *own, *self.roster.names()]))

    def everybody(self, now: float) -> list[AgentView]:
        """All agents, and all workers after them, as they are now: whom a task may be for, for those who look."""
        running = self.running()
        owner = {slot: name for name, slots in self.slots.items() for slot in slots}
        views = self.views({slot: owner.get(slot, "") for slot in running}, now)
        for one in self.roster.all():
            mine = frozenset(running.get(one.agent_id, ()))
            settings = AgentConfig(max_instances=one.max_concurrent_tasks, capabilities=one.capabilities)
            silent = now - self.roster.beat_at(one.agent_id)
            why = "fetches its work itself" if silent < STALE_SECONDS else f"was not heard of for {silent:.0f} s"
            standing = self.performance.of(one.agent_id, now)
            views.append(
                AgentView(
                    one.agent_id,
                    settings,
                    AGENTS["command"],
                    (),
                    mine,
                    why,
                    frozenset(),
                    standing,
                    worker_type=one.agent_type,
                )
            )
        return views

    def slots_of(self, name: str) -> Sequence[str]:
        """Where its runs are counted."""
        return self.slots.get(self.base(name), (name,))

    # -- pauses -----------------------------------------------------------------------------

    def paused(self, name: str, now: float) -> str:
        """Why the agent takes no work now, such as "paused until 14:05 (rate limit)"; "" if it does."""
        name = self.base(name)
        if missing := self.missing_lately(name, now):
            return missing
        pause = self._pauses.get(name)
        return f"paused until {clock(pause.until)} ({pause.reason})" if pause and pause.holds(now) else ""

    def down(self, now: float) -> str:
        """Why nobody can work: each agent paused, missing, or not known to start again; "" if one can."""
        reasons = []
        for name in self.agents:
            pause = self._pauses.get(name)
            reason = self.paused(name, now) or (pause.reason if pause and pause.failed_starts else "")
            if not reason:
                return ""
            reasons.append(f"{name} {reason}")
        return "; ".join(reasons) or "there is none"

    def missing_lately(self, name: str, now: float) -> str:
        """`missing`, looked up again every ten seconds at most: PATH is searched on disk."""
        then, answer = self._missing.get(name, (-1e9, ""))
        if not 0 <= now - then < 10:
            answer = self.missing(name)
            self._missing[name] = (now, answer)
        return answer

    def pause(self, name: str, until: float, reason: str, failed_starts: int = 0) -> None:
        """Give the agent no work until then (epoch seconds UTC). A pause that is longer already stays."""
        name = self.base(name)
        known, now = self._pauses.get(name), time.time()
        if known and known.holds(now) and known.until >= until:
            return
        self._pauses[name] = Pause(until, reason, now, failed_starts)
        os.makedirs(self._folder, exist_ok=True)
        fields: dict[str, Value] = {"paused_until": utc(math.ceil(until)), "reason": reason, "since": utc(now)}
        text = to_yaml({**fields, "failed_starts": failed_starts or None})
        files.replace(f"{self._folder}/{name}.yaml", text, sync=False)

    def failed_to_start(self, name: str, started_at: float, why: str, limit: int, now: float) -> float:
        """A run of it, from then, did not start. From the `limit`-th in a row on it is paused, longer each time; until
        when, or 0.0."""
        name = self.base(name)
        pause = self._pauses.get(name)
        if pause and pause.failed_starts and started_at < pause.since:
            return 0.0  # it was on its way when others were found not to start
        count = 1 + max(self._failed.get(name, (0, 0.0))[0], pause.failed_starts if pause else 0)
        self._failed[name] = (count, now)
        if count < limit:
            return 0.0
        until = now + min(3600.0, FIRST_PAUSE * 2.0 ** min(count - limit, 10))
        self.pause(name, until, f"did not start {count} times in a row: {why}", count)
        return until

    def started(self, name: str, started_at: float) -> None:
        """A run of it that was started then (epoch seconds) is well under way: it does start."""
        name = self.base(name)
        if name in self._failed and started_at > self._failed[name][1]:
            del self._failed[name]
        pause = self._pauses.get(name)
        if pause and pause.failed_starts and started_at > pause.since:
            self.resume(name)

    def worked(self, name: str, started_at: float, now: float) -> None:
        """It has done a task well. If that was started after the pause was set, the pause is over."""
        name = self.base(name)
        self._worked[name] = now
        pause = self._pauses.get(name)
        if pause and started_at > pause.since:
            self.resume(name)

    def worked_at(self, name: str) -> float:
        """When it last did a task well (epoch seconds); 0.0 if it did not since we started."""
        return self._worked.get(self.base(name), 0.0)

    def resume(self, name: str) -> None:
        """The pause is over, whatever it was for."""
        self._pauses.pop(name, None)
        try:
            os.unlink(f"{self._folder}/{name}.yaml")
        except FileNotFoundError:
            pass

    def look(self) -> None:
        """Take up what was changed by hand: a pause whose file is gone is over; the specialists' files."""
        try:
            if (found := ("", *profiles.stamps(self.places.root))) != self._profiles:
                self.specialists, self.problems = profiles.load(self.places.root, self.agents)
                self._profiles = found
        except OSError:
            pass  # what was read before holds
        self._pauses = {name: pause for name in self.agents if (pause := self._read_pause(name))}

    def next_resume(self, now: float) -> float | None:
        """When the next pause ends (epoch seconds); None if nothing is paused."""
        return min((pause.until for pause in self._pauses.values() if pause.holds(now)), default=None)

    def _read_pause(self, name: str) -> Pause | None:
        try:
            values = parse_mapping(read_bytes(f"{self._folder}/{name}.yaml"))
        except OSError as error:
            return None if plain.is_lasting(error) else self._pauses.get(name)
        except InvalidTask:
            return None
        until, since = epoch(values.get("paused_until")), epoch(values.get("since"))
        failed = values.get("failed_starts")
        return (
            Pause(until, str(values.get("reason", "")), since, failed if isinstance(failed, int) else 0)
            if until
            else None
        )


def wants(names: Iterable[str], preferred: str) -> str:
    """Why `preferred` names no agent at all; "" if it does (here, or as a built-in kind)."""
    known = [*names, *AGENTS]
    return "" if preferred in known else f"unknown agent {printable(preferred)!r}{nearest(preferred, known)}"
