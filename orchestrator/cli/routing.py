"""`agents`, `why` and `route`: who can do what, how well, and where the next tasks would go. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator

from orchestrator.cli.paint import Paint, columns, put
from orchestrator.cli.views import Views
from orchestrator.names import counted
from orchestrator.router import CapabilityRouter
from orchestrator.states import State
from orchestrator.waiting import Entry


def show_agents(root: str, as_json: bool) -> None:
    """Every agent and worker: what it does now, how well it did."""
    registry = Views(root).registry()
    views = [view for view in registry.everybody(Views(root).now) if not view.base]
    health = {one.agent_id: one for one in registry.get_all_health()}
    state = {view.name: view.paused or ("ready" if view.free else "busy") for view in views}
    if as_json:
        put([
            {
                "name": view.name, "adapter": view.kind, "command": view.settings.command,
                "slots": view.settings.max_instances, "busy": len(view.busy),
                "capabilities": list(view.settings.capabilities), "learned": dict(view.standing.learned),
                "state": state[view.name], "worker": bool(view.worker_type),
                **{key: value for key, value in health[view.name]._asdict().items()
                   if key in ("status", "why", "success_rate", "avg_completion_ms", "runs")},
            }
            for view in views
        ])  # fmt: skip
        return
    lines = [
        (
            v.name,
            v.kind,
            f"{len(v.busy)} of {v.settings.max_instances}",
            state[v.name],
            health[v.name].status,
            went(v.standing.success_rate, v.standing.runs),
            ",".join((*v.settings.capabilities, *(f"{k}~{c:.2f}" for k, c in v.standing.learned.items()))),
            v.settings.command,
        )
        for v in views
    ]
    columns(
        lines,
        Paint(),
        ("AGENT", "ADAPTER", "BUSY", "STATE", "HEALTH", "WENT WELL", "CAN", "COMMAND"),
        give=("ADAPTER", "CAN"),
    )


def show_specialists(root: str, as_json: bool) -> None:
    """Those that can work; and why the others cannot, one line each."""
    registry = Views(root).registry()
    if as_json:
        rows = [
            {
                "name": one.name, "agent": one.base, "capabilities": list(one.settings.capabilities),
                "command": one.settings.command, "problem": "",
            }
            for one in registry.specialists.values()
        ]  # fmt: skip
        put([*rows, *({"name": name, "problem": problem} for name, problem in registry.problems.items())])
        return
    columns(
        [
            (s.name, s.base, ",".join(s.settings.capabilities), s.settings.command)
            for s in registry.specialists.values()
        ],
        Paint(),
        ("SPECIALIST", "AGENT", "CAN", "COMMAND"),
        give=(),
    )
    for problem in registry.problems.values():
        print(problem)
    if not registry.specialists:
        print("none: a specialist needs an agent that reads a prompt; add one to config.yaml")


def went(rate: float, runs: int) -> str:
    """`95 % of 20`; "no runs yet"."""
    return f"{rate:.0%} of {counted(runs, 'run')}".replace("%", " %") if runs else "no runs yet"


def show_why(root: str, task_id: str, as_json: bool) -> None:
    """Every agent, weighed for one task. Raises NotFound."""
    views = Views(root)
    state, path = views.find(task_id)
    reason = views.reason(task_id, state, path)
    task = views.task_at(path, task_id)
    waiting = views.queue.beside(os.path.basename(path) if state is State.PENDING else "", views.now)
    rows = CapabilityRouter(views.agents()).weigh_beside(waiting, task, views.now)
    shown = "running" if state is State.ASSIGNED else str(state)
    if as_json:
        put({
            "task_id": task_id, "state": shown, "reason": reason, "requirements": list(task.requirements),
            "preferred_agent": task.preferred_agent or "", "agents": [row._asdict() for row in rows],
        })  # fmt: skip
        return
    print(f"{task_id} {shown}{f': {reason}' if reason else ''}")
    asks = [f"the agent {task.preferred_agent}"] if task.preferred_agent else []
    asks += [f"capability {one}" for one in task.requirements] + (["a shell"] if task.run is not None else [])
    print(f"asks for {', '.join(asks) or 'nothing in particular'}\n")
    lines = [
        (
            row.agent,
            "chosen" if row.chosen else "may" if row.may else "no",
            f"{row.score:.2f}",
            f"{row.success_rate:.0%} × (1 − {row.running} ÷ {row.most})".replace("%", " %"),
            f"{row.runs} runs",
            row.why,
        )
        for row in rows
    ]
    columns(lines, Paint(), ("AGENT", "", "SCORE", "MADE OF", "SEEN", "WHY NOT"), give=("SEEN", "MADE OF"))


def plan(views: Views) -> Iterator[tuple[Entry, str, str]]:
    """What would start now, in that order: (task, agent, slot)."""
    registry, waiting = views.registry(), views.waiting()
    router = CapabilityRouter([view for view in registry.everybody(views.now) if not view.worker_type])
    while found := router.next_of(waiting, views.now):
        yield found
        waiting.take(found[0].task.id)
        router.took(found[1], found[2])


def show_route(root: str, as_json: bool) -> None:
    """What would start now and where, what stays, and whether the load is skewed."""
    views = Views(root)
    everybody = views.agents()
    ready = [entry.task for _, entry in views.waiting().heads(views.now)]
    advice = CapabilityRouter(everybody).should_rebalance(ready)
    starts = list(plan(views))
    stays = {entry.task.id: views.why(entry, everybody) for entry in views.waiting().in_order(views.now)}
    could = ("starts next", "no dispatcher runs ('orchestrate start')")
    stays = {one: "after those that start now" if why in could else why for one, why in stays.items()}
    if as_json:
        rows = [{"task_id": entry.task.id, "agent": agent, "slot": slot} for entry, agent, slot in starts]
        put({"starts": rows, "stays": stays, "rebalance": advice})
        return
    columns(
        [(entry.task.id, f"{agent} on {slot}", entry.task.title) for entry, agent, slot in starts],
        Paint(),
        ("STARTS", "WHERE", "TITLE"),
        give=(),
    )
    for task_id, reason in list(stays.items())[:20]:
        print(f"{task_id} waits: {reason}")
    if len(stays) > 20:
        print(f"… and {counted(len(stays) - 20, 'more task')}")
    if advice:
        print(f"load: {advice}")
