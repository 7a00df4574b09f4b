"""Stopping the dispatcher and cancelling tasks, and saying meanwhile what is waited for."""

from __future__ import annotations

import os
import signal
import sys
import time

from orchestrator import app, events, history, hold, plain, process, runs
from orchestrator.cli import rejects
from orchestrator.cli.paint import span
from orchestrator.cli.settings import usable
from orchestrator.cli.status import view
from orchestrator.errors import NotFound, OrchestrateError, Refused
from orchestrator.names import counted, nearest, printable
from orchestrator.places import is_slot
from orchestrator.registry import AgentRegistry
from orchestrator.spool import Spool
from orchestrator.states import Outcome, State

SIGNALS = {"leave": signal.SIGTERM, "wait": signal.SIGINT, "now": signal.SIGQUIT}


def stop_dispatcher(root: str, how: str, as_json: bool) -> None:
    """Ask the dispatcher to stop, and wait until it has."""
    pid = hold.running_pid(root)
    if not pid:
        _without_dispatcher(root, how, as_json)
        return
    who = process.identity(pid)
    os.kill(pid, SIGNALS[how])
    said, begun = "", time.monotonic()
    while hold.running_pid(root) == pid:  # another one may have begun in its place
        seen = view(root)
        running, why = seen["running"], seen["unrecorded"]
        assert isinstance(running, list)
        found = [row for row in running if is_slot(row["agent_id"])]
        names = ", ".join(f"{row['task_id']} ({row['agent_type']}, {span(row['seconds'])})" for row in found[:5])
        line = f"waiting for {counted(found, 'run')}: {names}{' …' if len(found) > 5 else ''}"
        if why:
            line += f"; what has ended cannot be recorded: {why}; 'stop --now' leaves it to the next start"
        key = ",".join(str(row["task_id"]) for row in found) + str(why)
        if how != "leave" and found and not as_json and key != said and time.monotonic() - begun > 0.3:
            print(line, flush=True)
            said = key
        time.sleep(0.05)
    end = time.monotonic() + 5.0
    while process.is_same(who) and time.monotonic() < end:  # it has let go of everything, and is about to be gone
        time.sleep(0.005)
    left = _alive(root)
    if as_json:
        import json

        print(json.dumps({"stopped": pid, "runs_left": left}))
    else:
        print(f"dispatcher stopped{f'; {_going_on(left)}' if left else ''}")


def _going_on(left: list[str]) -> str:
    return f"{counted(left, 'run')} {'goes' if len(left) == 1 else 'go'} on: {', '.join(left)}"


def _alive(root: str) -> list[str]:
    queue = Spool(root)
    return [
        task_id
        for task_id, names in sorted(queue.assignments().items())
        if "@" not in names[-1]
        and runs.is_alive(
            queue.run_folder(task_id, runs.assigned_run(f"{queue.tasks}/{State.ASSIGNED}/{names[-1]}")[2])
        )
    ]


def _without_dispatcher(root: str, how: str, as_json: bool) -> None:
    left = _alive(root)
    if left and how == "now":
        ended = app.end_without_dispatcher(root)
        text = f"no dispatcher ran; ended {counted(ended, 'run')}: {', '.join(ended)}"
    elif left:
        text = f"no dispatcher runs, but {_going_on(left)}; 'orchestrate start' takes up, 'orchestrate stop --now' ends"
    else:
        text = "no dispatcher runs, and nothing else; nothing to stop"
    if as_json:
        import json

        print(json.dumps({"stopped": 0, "runs_left": [] if how == "now" else left}))
    else:
        print(text)


def cancel_task(root: str, task_id: str) -> str:
    """Cancel a waiting or a running task; what was done, in words. Raises NotFound, Refused."""
    queue = Spool(root)
    deadline = time.monotonic() + 5
    while True:
        from orchestrator.cli.views import Views

        rejects.refuse(queue, task_id)
        views = Views(root)
        state, path = views.find(task_id)
        if state in (State.COMPLETED, State.FAILED):
            raise Refused(f"{task_id}: is {state} already; there is nothing to cancel")
        try:
            if state is State.ASSIGNED:
                return _cancel_running(queue, task_id)
            result = runs.Result(
                task_id, "", "", (queue.run_numbers(task_id) or [0])[-1], Outcome.CANCELLED, time.time(),
                title=views.task_at(path, task_id).title, state=State.FAILED, reason=f"cancelled by a person while it {_while(state)}. To bring it back: orchestrate retry {task_id}",
            )  # fmt: skip
            queue.cancel_waiting(task_id, result.to_yaml())
            hold.nudge(root)
            return "cancelled"
        except FileNotFoundError:  # claimed or ended in this very moment: look again
            if time.monotonic() > deadline:
                raise OrchestrateError(f"{task_id}: moves too fast; try again") from None
            time.sleep(0.05)


def _while(state: State) -> str:
    return "waited" if state is State.PENDING else f"was in {state}"


def _cancel_running(queue: Spool, task_id: str) -> str:
    agent, _, number = history.holder(queue, task_id)
    folder = queue.run_folder(task_id, number)
    if not number or not os.path.isdir(folder):
        raise FileNotFoundError(folder)
    queue.make_run_folder(task_id, number)  # nothing is written where a link leads
    if not is_slot(agent):
        return _cancel_worker(queue, task_id, agent, number)
    plain.aside(f"{folder}/cancelled")
    with open(f"{folder}/cancelled", "w", encoding="ascii", opener=plain.opener):
        pass
    if hold.running_pid(queue.root):
        hold.nudge(queue.root)
        return "is being ended (interrupt, then kill after the grace)"
    print(f"{task_id}  no dispatcher runs; ending it here", file=sys.stderr)
    app.end_without_dispatcher(queue.root, task_id)
    return "cancelled"


def _cancel_worker(queue: Spool, task_id: str, agent: str, number: int) -> str:
    """Take it away; the worker is told when it next reports."""
    from orchestrator.queue import TaskQueue
    from orchestrator.report import Held, Report

    held = Held(task_id, agent, number, queue.run_folder(task_id, number))
    said = Report(Outcome.CANCELLED, "cancelled by a person while it ran")
    if TaskQueue(queue.root).pull.end(held, said) is None:
        raise FileNotFoundError(held.folder)  # it reports, or ends, in this very moment
    return f"cancelled; {agent} is told when it next reports"


def end_pause(root: str, name: str) -> None:
    """The agent may work again. Raises NotFound for an unknown one."""
    registry = AgentRegistry(root, usable(root), {})
    if name not in registry.agents:
        raise NotFound(f"{printable(name)}: no such agent{nearest(name, registry.agents)}")
    registry.resume(name)
    events.record(f"{root}/.orchestrator", "resumed", "", f"{name}: a person said so", agent_type=name)
    hold.nudge(root)
