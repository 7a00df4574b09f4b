"""The rows about agents: how long it takes to choose one, and to know how all of them are."""

from __future__ import annotations

import os
import time

from tools import Figure, Place, alternate, median, timed, within

AGENTS = 50
WAITING = 1000
KNOWN = 1000


def choosing(place: Place, quick: bool) -> list[Figure]:
    """A routing decision, and the health of all."""
    times = 5 if quick else 20
    return [*_decision(place, times), *_health(place, times)]


def _decision(place: Place, times: int) -> list[Figure]:
    from orchestrator.config import AgentConfig, Config
    from orchestrator.performance import Run
    from orchestrator.registry import AgentRegistry
    from orchestrator.router import CapabilityRouter
    from orchestrator.states import Priority
    from orchestrator.task import Task
    from orchestrator.waiting import Attempt, Entry, Waiting

    agents = {
        f"a{n}": AgentConfig(command="true", max_instances=2, capabilities=(f"c{n}", f"d{n % 7}"))
        for n in range(AGENTS)
    }
    registry = AgentRegistry(place.root(), Config(agents=agents))
    for name in agents:
        for n in range(50):
            registry.performance.note(name, Run(f"t{n}/1", n % 9 != 0, 1.0, time.time(), ("code",)))
    waiting = Waiting(1800)
    for n in range(WAITING):  # 350 kinds of task
        task = Task(
            id=f"t{n}", description="x", requirements=(f"c{n % AGENTS}", f"d{n % 7}") if n % 3 else (f"d{n % 7}",)
        )
        waiting.put(Entry(task, f"t{n}.yaml", float(n), (n, n, n), Priority(n % 3), Attempt()), (), 1e6)
    router = CapabilityRouter(registry.views({}, time.time()))
    assert router.next_of(waiting, 1e6)

    def decide() -> None:
        router.see(registry.views({f"agent_{n:02d}": "" for n in range(1, 90)}, time.time()))
        assert router.next_of(waiting, 1e6)

    ours, theirs = alternate(times, timed(decide), timed(lambda: [os.stat("/") for _ in range(WAITING)]))
    what = f"what starts next, {WAITING:,} waiting, {AGENTS} agents"
    bounds = (within("< 5 ms", median(ours), 5),)
    return [Figure("choosing", what, "ms", ours, f"{WAITING:,} stat()", theirs, bounds)]


def _health(place: Place, times: int) -> list[Figure]:
    from orchestrator.performance import Run
    from orchestrator.registry import AgentRegistry

    root = place.root()
    registry = AgentRegistry(root)
    for n in range(KNOWN):
        registry.register_agent(f"w{n}", [f"c{n % 20}"])
        path = f"{registry.performance.folder}/w{n}.runs"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"".join(Run(f"t{k}/1", k % 9 != 0, 1.0, time.time(), ("code",)).line() for k in range(50)))

    def read_all() -> None:
        for n in range(KNOWN):
            with open(f"{registry.roster.folder}/w{n}.yaml", "rb") as file:
                file.read()

    def ask(one: AgentRegistry) -> None:
        assert len(one.get_all_health()) >= KNOWN

    new = [AgentRegistry(root) for _ in range(times + 5)]
    first, theirs = alternate(times, timed(lambda: ask(new.pop())), timed(read_all))
    again, besides = alternate(times, timed(lambda: ask(registry)), timed(read_all))
    beside = f"reading {KNOWN:,} files"
    return [
        Figure("choosing", f"health of {KNOWN:,} agents, asked first", "ms", first, beside, theirs),
        Figure(
            "choosing", f"health of {KNOWN:,} agents, asked again", "ms", again, beside, besides,
            (within("< 100 ms", median(again), 100),),
        ),
    ]  # fmt: skip
