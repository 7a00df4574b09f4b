"""What a worker reports at the end of a run, and the verdict that comes of it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from orchestrator import config, files, history, retry, runs
from orchestrator.agents.base import Tokens
from orchestrator.context import Context
from orchestrator.errors import AlreadyExists, InvalidTask, OrchestrateError
from orchestrator.names import nearest, printable
from orchestrator.reading import read_bytes
from orchestrator.runs import FACTS, Result, words
from orchestrator.spool import Spool
from orchestrator.states import Outcome, State
from orchestrator.task import Task, parse


class Held(NamedTuple):
    """A run that a worker has. With the same names as a run of the dispatcher's, for those who finish either."""

    id: str  # of the task
    slot: str  # the worker's id
    number: int
    folder: str


class Report(NamedTuple):
    """How a run ended, as its worker says it, or whoever ends it for him."""

    outcome: Outcome
    error: str = ""
    text: str = ""  # the answer
    facts: Mapping[str, Any] = {}
    metrics: Mapping[str, Any] = {}
    should_retry: bool | None = None  # None: as the rules say
    given_back: bool = False  # through no fault of the task's: it waits again, and nothing is counted


def result_of(queue: Spool, context: Context, held: Held, report: Report) -> Result:
    """The verdict on a run, from what was reported; the caller holds the run."""
    settings, _ = config.load_or_last(queue.root)
    try:
        task = parse(read_bytes(queue.path(State.ASSIGNED, held.id)), held.id)
    except (InvalidTask, OSError):
        task = Task(id=held.id, description="(its file cannot be read)")
    record = runs.read_record(held.folder)
    attempt = history.attempts(queue, held.id, before=held.number)
    now = time.time()
    if report.given_back:
        decision = retry.Decision(State.PENDING, 0.0, report.error)
    elif report.should_retry is False:
        decision = retry.Decision(State.FAILED, 0.0, f"{report.error} ({held.slot} says: not to be tried again)")
    else:
        most = settings.retry.max_retries if task.max_retries is None else task.max_retries
        decision = retry.decide(
            report.outcome, report.error, held.id, attempt.counted + 1, most,
            settings.retry.retry_delay_seconds, settings.retry.max_delay_seconds,
        )  # fmt: skip
    success = report.outcome is Outcome.SUCCESS
    metrics = dict(report.metrics)
    is_counted = any(key in metrics for key in Tokens._fields)
    tokens = {key: int(metrics.pop(key, 0)) for key in Tokens._fields} if is_counted else None
    cost = metrics.pop("cost_usd", None)
    found: dict[str, Any] = {key: words(report.facts.get(key)) for key in FACTS}
    return Result(
        task_id=held.id,
        agent_id=held.slot,
        agent_type=record.agent_type if record else "worker",
        run=held.number,
        status=report.outcome,
        completed_at=now,
        state=decision.state,
        started_at=record.started_at if record else now,
        reason=decision.reason,
        output_file=context.output_name(held.id) if success else "",
        tokens=tokens,
        cost_usd=None if cost is None else float(cost),
        metrics=metrics or None,
        retry_at=now + decision.delay if decision.delay else None,
        counts=not report.given_back,
        title=task.title,
        kinds=task.kinds,
        **found,
    )


def what_went_wrong(error: str) -> str:
    """The line that a failed attempt is told with. Raises OrchestrateError."""
    if not isinstance(error, str) or not error.strip():
        raise OrchestrateError(f"error: say in words what went wrong, not {printable(repr(error))}")
    return printable(" ".join(error.split()), 500)


def checked_run(run: int) -> int:
    """The number of a claim, or 0 for the run that there is now; it becomes part of a path. Raises OrchestrateError."""
    if isinstance(run, bool) or not isinstance(run, int) or not 0 <= run < 10**9:
        raise OrchestrateError(f"run: write the number that came with the claim, not {printable(repr(run), 80)}")
    return run


def checked_metrics(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a run cost and measured: words → numbers. Raises OrchestrateError."""
    if not isinstance(metrics, Mapping):
        raise OrchestrateError(f"metrics: write words and numbers, not {printable(repr(metrics))}")
    for key, value in metrics.items():
        if not isinstance(key, str) or not key.isidentifier():
            raise OrchestrateError(f"metrics: {key!r} is no name; write letters, digits and '_'")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e300:
            raise OrchestrateError(f"metrics: {key}: write a number of 0 or more, not {printable(repr(value), 80)}")
    return metrics


def split(result: str | Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """(the answer, the facts) of a result: a text, or a mapping with `text` and the facts. Raises OrchestrateError."""
    if isinstance(result, str):
        return result, {}
    if not isinstance(result, Mapping):
        raise OrchestrateError(f"result: write a text or a mapping, not {printable(repr(result))}")
    if unknown := [key for key in result if key not in (*FACTS, "text")]:
        raise OrchestrateError(f"result: unknown key {unknown[0]!r}{nearest(str(unknown[0]), (*FACTS, 'text'))}")
    return str(result.get("text", "")), result


def keep_late(queue: Spool, held: Held, report: Report) -> str:
    """Keep a report that nobody waits for any more in its run's folder; where, or "" if there is no such folder."""
    said = f"{report.outcome}{': ' if report.error else ''}{report.error}\n\n{report.text}\n"
    for number in range(1, 100) if os.path.isdir(held.folder) else ():
        path = f"{held.folder}/late.md" if number == 1 else f"{held.folder}/late.{number}.md"
        try:
            files.publish(path, said.encode("utf-8", "replace"))
        except AlreadyExists:
            continue
        return os.path.relpath(path, queue.root)
    return ""
