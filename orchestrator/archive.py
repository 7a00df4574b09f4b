"""Ended tasks out of the way: tasks/archive/<month>/<state>/, their runs with them.

The task's file moves last, so that a crash leaves a task that the next call goes on with, and an
id never looks unused in between.
"""

from __future__ import annotations

import os
import time

from orchestrator import events, files, plain
from orchestrator.history import result_of
from orchestrator.spool import Spool
from orchestrator.states import State


def archive(queue: Spool, older_than: float, dry_run: bool = False) -> list[str]:
    """Move completed and failed tasks that ended more than `older_than` seconds ago; their ids.

    Tasks in review wait for a person and stay.
    """
    moved: list[str] = []
    tasks: list[tuple[str, str]] = []
    folders: set[str] = set()
    for state in (State.COMPLETED, State.FAILED):
        for task_id in queue.ids(state):
            result = result_of(queue, task_id, state)
            path = queue.path(state, task_id)
            begun = _begun(queue, state, task_id)
            try:
                ended = result.completed_at if result and result.completed_at else os.lstat(path).st_mtime
            except FileNotFoundError:
                continue  # moved back in this very moment
            if time.time() - ended < older_than and not begun:
                continue
            moved.append(task_id)
            if dry_run:
                continue
            month = f"{queue.archive}/{begun or time.strftime('%Y-%m', time.gmtime(ended))}"
            target = f"{month}/{state}"
            files.make_folders(queue.archive, month, target, f"{month}/runs", sync=True)
            for source, place in (
                (f"{queue.runs}/{task_id}", f"{month}/runs/{task_id}"),
                (queue.result_path(state, task_id), f"{target}/{task_id}_result.yaml"),
            ):
                try:
                    files.move(source, place)
                except FileNotFoundError:
                    continue
                folders |= {os.path.dirname(source), os.path.dirname(place)}
            tasks.append((path, f"{target}/{task_id}.yaml"))
    files.sync_folders(sorted(folders))
    for source, place in tasks:  # what belongs to them is durable
        try:
            files.move(source, place)
        except FileNotFoundError:
            continue
        folders |= {os.path.dirname(source), os.path.dirname(place)}
    files.sync_folders(sorted(folders))
    for source, place in tasks:
        task_id = os.path.basename(source).removesuffix(".yaml")
        events.record(queue.own, "archived", task_id, os.path.relpath(place, queue.root))
    return moved


def _begun(queue: Spool, state: State, task_id: str) -> str:
    """The month that a call which died had begun to move this task to; "" if none did."""
    for month in plain.listed(queue.archive):
        for name in (f"runs/{task_id}", f"{state}/{task_id}_result.yaml"):
            if plain.is_there(f"{queue.archive}/{month}/{name}"):
                return month
    return ""
