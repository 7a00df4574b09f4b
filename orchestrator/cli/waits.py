"""Waiting for tasks: a progress bar where a person looks, a line for each that ends in a pipe."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from orchestrator.cli.views import Views
from orchestrator.history import result_of
from orchestrator.spool import TaskQueue
from orchestrator.states import ENDED, State

LOOK_SECONDS = 0.1


def wait_for(root: str, ids: list[str], as_json: bool, timeout: float = 0.0) -> int:
    """0: all completed. 1: at least one failed, was rejected, or waits for a person. 124: time is over."""
    queue = TaskQueue(root)
    views = Views(root)
    everything = not ids
    names = ids or [e.task.id for e in views.waiting()] + queue.ids(State.ASSIGNED)
    for one in ids:
        views.find(one)
    deadline = time.monotonic() + timeout if timeout else None
    left, code, ended = list(dict.fromkeys(names)), 0, []
    bar = _bar(len(left)) if sys.stdout.isatty() and not as_json else None
    try:
        while left:
            for one in list(left):
                state = queue.state_of(one)
                if state is None:
                    state = _elsewhere(root, one, everything)
                if state not in (*ENDED, State.REJECTED):
                    continue
                left.remove(one)
                result = result_of(queue, one, state)
                row = {"task_id": one, "state": str(state), "reason": result.reason if result else ""}
                ended.append(row)
                code = code if state is State.COMPLETED else 1
                _say(row, bar, as_json)
            if left and deadline is not None and time.monotonic() > deadline:
                print(
                    f"orchestrate: {len(left)} tasks have not ended after {timeout:g} s: {', '.join(left[:5])}",
                    file=sys.stderr,
                )
                code = 124
                break
            if left:
                time.sleep(LOOK_SECONDS)
    finally:
        if bar is not None:
            bar.stop()
    if as_json:
        print(json.dumps(ended))
    return code


def _elsewhere(root: str, task_id: str, everything: bool) -> State | None:
    """A task that no folder holds by its name: waiting under another name, rejected, or taken away."""
    views = Views(root)
    if task_id in views.waiting().by_id:
        return State.PENDING
    if TaskQueue(root).state_of(task_id) is not None:
        return None  # it moved between two looks
    return State.REJECTED


def _bar(total: int) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    progress = Progress(TextColumn("tasks"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    progress.add_task("tasks", total=total)
    progress.start()
    return progress


def _say(row: dict[str, str], bar: Any, as_json: bool) -> None:
    line = f"{row['task_id']}  {row['state']}{'  ' + row['reason'] if row['reason'] else ''}"
    if bar is not None:
        bar.console.print(line, markup=False, highlight=False)
        bar.advance(bar.task_ids[0])
    elif not as_json:
        print(line, flush=True)
