"""The commands of workers: whoever fetches tasks, from any language, or by hand."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.base import Json, TaskId, app, put, root
from orchestrator.errors import OrchestrateError
from orchestrator.names import printable

if TYPE_CHECKING:
    from orchestrator.queue import TaskQueue
    from orchestrator.runs import Result

WorkerId = Annotated[str, typer.Argument(metavar="WORKER", help="The worker's id.")]
Agent = Annotated[str, typer.Option("--agent", help="Who has it; whoever has it now, if left out.")]
Run = Annotated[int, typer.Option("--run", metavar="N", help="The number that came with the claim.", min=0)]


def _queue() -> TaskQueue:
    from orchestrator.queue import TaskQueue

    return TaskQueue(root())


def _who(task_id: str, agent: str, run: int) -> tuple[str, int]:
    """Inside a run, that run, if nothing else is said."""
    if task_id == os.environ.get("ORCHESTRATE_TASK_ID") and not agent and not run:
        number = os.environ.get("ORCHESTRATE_RUN", "")
        return os.environ.get("ORCHESTRATE_AGENT_ID", ""), int(number) if number.isdecimal() else 0
    return agent, run


def _said(as_json: bool, line: str, **values: Any) -> None:
    put(values) if as_json else print(line)


@app.command()
def worker(
    name: Annotated[str, typer.Argument(metavar="MODULE:CLASS", help="A subclass of orchestrator.AgentWorker.")],
    agent_id: Annotated[str, typer.Option("--id", help="Its id; class and process if left out.")] = "",
    capability: Annotated[list[str] | None, typer.Option("--capability", help="What it can do, instead.")] = None,
    most: Annotated[int, typer.Option("--max", metavar="N", help="Tasks at once.", min=0)] = 0,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="Go when nothing is left that it can do.")] = False,
    as_json: Json = False,
) -> None:
    """Run a worker written in Python, until it is stopped.

    The first Ctrl-C lets it finish what it does, the second gives that back.

    Example: orchestrate worker my_workers:Researcher --capability web
    """
    from orchestrator.worker import load

    made = load(name)(root(), agent_id, tuple(capability or ()), most)
    made.run(until_idle)
    if as_json:
        put({"agent_id": made.agent_id})


@app.command()
def register(
    agent_id: WorkerId,
    capability: Annotated[list[str] | None, typer.Option("--capability", help="What it can do.")] = None,
    most: Annotated[int, typer.Option("--max", metavar="N", help="Tasks at once.", min=1)] = 1,
    kind: Annotated[str, typer.Option("--type", help="A word for all of its kind.")] = "worker",
    replace: Annotated[
        bool, typer.Option("--replace", help="One of that id is gone; what it has waits again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take a worker in: a shell loop, a program, a person.

    Example: orchestrate register researcher --capability web --max 2
    """
    found = _queue().register_agent(agent_id, capability or (), {"max_concurrent_tasks": most}, kind, replace)
    line = f"{agent_id}  registered ({', '.join(found.capabilities) or 'no capabilities'}; {most} at once)"
    _said(as_json, line, **found._asdict())


@app.command()
def unregister(agent_id: WorkerId, as_json: Json = False) -> None:
    """Forget a worker that has no task.

    Example: orchestrate unregister researcher
    """
    _queue().unregister_agent(agent_id)
    _said(as_json, f"{agent_id}  unregistered", agent_id=agent_id)


@app.command()
def poll(
    agent_id: WorkerId,
    limit: Annotated[int, typer.Option("--limit", "-n", help="At most so many.", min=1)] = 1,
    claim: Annotated[bool, typer.Option("--claim", help="Take them.")] = False,
    mine: Annotated[bool, typer.Option("--mine", help="What it has already, instead.")] = False,
    as_json: Json = False,
) -> None:
    """What a worker could do now, the best first; with --claim it is its own then.

    A line for each that it claimed: task, run, file of the prompt, file for the answer, with tabs between them.

    Example: orchestrate poll researcher --claim
    """
    queue = _queue()
    if claim:
        claimed = queue.claim_tasks(agent_id, limit)
        lines = [f"{one.task_id}\t{one.run}\t{one.prompt_file}\t{one.output_file}" for one in claimed]
        rows = [one._asdict() for one in claimed]
    else:
        found = queue.poll_tasks(agent_id, "assigned" if mine else "pending", limit)
        lines = [f"{one.task_id}\t{one.priority}\t{one.title}" for one in found]
        rows = [one._asdict() for one in found]
    if as_json:
        put(rows)
    elif lines:
        print("\n".join(lines))


@app.command()
def begin(task_id: TaskId, agent: Agent = "", run: Run = 0, as_json: Json = False) -> None:
    """Say that the work on a claimed task begins.

    Example: orchestrate begin task_001 --agent researcher --run 1
    """
    _queue().start_task(task_id, *_who(task_id, agent, run))
    _said(as_json, f"{task_id}  running", task_id=task_id, status="running")


@app.command()
def heartbeat(
    agent_id: WorkerId,
    task: Annotated[str, typer.Option("--task", help="The task that it still works on.")] = "",
    run: Run = 0,
    as_json: Json = False,
) -> None:
    """Say that a worker lives, and still works on a task; every 60 s at least, or it loses it.

    Example: orchestrate heartbeat researcher --task task_001 --run 1
    """
    _queue().heartbeat(agent_id, task, run)
    _said(as_json, f"{agent_id}  heard", agent_id=agent_id, task_id=task)


@app.command()
def progress(
    words: Annotated[list[str], typer.Argument(metavar="[ID] PERCENT", help="The task, and 0 to 100.")],
    finding: Annotated[str, typer.Option("--finding", help="What was found so far: JSON, or a text.")] = "",
    agent: Agent = "",
    run: Run = 0,
    as_json: Json = False,
) -> None:
    """Say how far a task is. Inside a run of the dispatcher's the task need not be named.

    Example: orchestrate progress task_001 50 --finding '{"sources": 3}'
    """
    task_id, percent = words if len(words) == 2 else (os.environ.get("ORCHESTRATE_TASK_ID", ""), words[0])
    if len(words) > 2 or not task_id:
        raise typer.BadParameter("write the task and the percent (inside a run the percent is enough)")
    try:
        number = float(percent)
    except ValueError:
        raise OrchestrateError(f"percent: write a number from 0 to 100, not {printable(percent)!r}") from None
    _queue().report_progress(task_id, number, _finding(finding), *_who(task_id, agent, run))
    _said(as_json, f"{task_id}  {number:g} %", task_id=task_id, percent=number)


def _finding(text: str) -> Any:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return text


@app.command()
def complete(
    task_id: TaskId,
    result: Annotated[str, typer.Option("--result", help="The answer.")] = "",
    file: Annotated[str, typer.Option("--result-file", help="A file that holds it; - for standard input.")] = "",
    metric: Annotated[list[str] | None, typer.Option("--metric", help="A number, such as rows=7.")] = None,
    agent: Agent = "",
    run: Run = 0,
    as_json: Json = False,
) -> None:
    """Say that a claimed task is done. Without an answer, what the worker wrote to its output file is it.

    Example: orchestrate complete task_001 --agent researcher --run 1 --result "Here they are"
    """
    if result and file:
        raise typer.BadParameter("--result and --result-file exclude each other")
    if file:
        stream = sys.stdin.buffer if file == "-" else open(file, "rb")
        with stream:
            result = stream.read().decode("utf-8", "replace")
    metrics = dict(map(_metric, metric or ()))
    _reported(_queue().complete_task(task_id, result, metrics, *_who(task_id, agent, run)), as_json)


def _metric(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        return name, int(number) if number.isdecimal() else float(number)
    except ValueError:
        raise OrchestrateError(f"--metric {printable(text)!r}: write a name and a number, such as rows=7") from None


@app.command()
def fail(
    task_id: TaskId,
    error: Annotated[str, typer.Option("--error", help="What went wrong, in one line.")],
    again: Annotated[
        bool | None, typer.Option("--retry/--no-retry", help="Whether it may be tried again; as the rules say.")
    ] = None,
    agent: Agent = "",
    run: Run = 0,
    as_json: Json = False,
) -> None:
    """Say that a claimed task did not work out.

    Example: orchestrate fail task_001 --agent researcher --run 1 --error "the site is down"
    """
    _reported(_queue().fail_task(task_id, error, again, *_who(task_id, agent, run)), as_json)


def _reported(result: Result, as_json: bool) -> None:
    line = f"{result.task_id}  {result.state}{f'  {result.reason}' if result.reason else ''}"
    values = {"task_id": result.task_id, "run": result.run, "state": str(result.state), "status": str(result.status)}
    _said(as_json, line, **values, reason=result.reason)
