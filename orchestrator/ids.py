"""Ids for tasks that bring none. Sequential ones are for people; unique ones for branches and clones."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from orchestrator import plain
from orchestrator.places import is_task_name
from orchestrator.states import ENDED, State

if TYPE_CHECKING:
    from orchestrator.spool import Spool

_SEQUENTIAL = re.compile(r"task_\d+\.yaml")
_STATED = re.compile(rb"^id:[ ]*[\"']?([^\s\"'#]+)", re.MULTILINE)


def next_id(queue: Spool) -> str:
    """The next of task_001, task_002, …; the caller holds the lock of ids."""
    hint_path = f"{queue.own}/last_id"
    try:
        with open(hint_path, encoding="ascii", opener=plain.opener) as file:
            number = int(file.read())
    except (OSError, ValueError):
        number = _highest_number(queue)
    others = stated(queue)
    while True:
        number += 1
        task_id = f"task_{number:03d}"
        if task_id not in others and not _used(queue, task_id):
            break
    with suppress(OSError), open(hint_path, "w", encoding="ascii", opener=plain.opener) as file:
        file.write(str(number))  # a hint: it may be wrong or gone
    return task_id


def _used(queue: Spool, task_id: str) -> bool:
    # A folder in runs/ outlives a task file that somebody deleted; its id is not given twice.
    return bool(queue.state_of(task_id) or plain.is_there(f"{queue.runs}/{task_id}") or queue.archived(task_id))


def stated(queue: Spool) -> dict[str, str]:
    """Ids that files of other names in pending/ state (`login.yaml` with `id: task_007`) → the name."""
    found = {}
    for name in queue.names(State.PENDING):
        ours = not _SEQUENTIAL.fullmatch(name) and is_task_name(name)
        if ours and (task_id := stated_by(f"{queue.tasks}/{State.PENDING}/{name}")):
            found[task_id] = name
    return found


def stated_by(path: str) -> str:
    """The id that a file states, whatever else it may be; "" if it states none."""
    try:
        fd = plain.opener(path, os.O_RDONLY)  # without a file object: a thousand of them are read for one new id
        try:
            match = _STATED.search(os.read(fd, 4096))
        finally:
            os.close(fd)
    except OSError as error:
        if not plain.is_lasting(error):
            raise
        return ""
    return match[1].decode("utf-8", "replace") if match else ""


def _highest_number(queue: Spool) -> int:
    names = [name for state in State for name in queue.names(state)]
    for folder in (queue.runs, *(f"{queue.archive}/{m}/{s}" for m in _listed(queue.archive) for s in ENDED)):
        names += _listed(folder)
    numbers = (name[5:].split(".")[0].split("_")[0] for name in names if name.startswith("task_"))
    return max((int(n) for n in numbers if n.isdecimal() and len(n) < 12), default=0)


def unique_id() -> str:
    """An id that no other machine makes, sorted by time."""
    moment = time.time_ns() // 1_000_000
    return f"task_{time.strftime('%Y%m%d_%H%M%S', time.gmtime(moment // 1000))}_{os.urandom(4).hex()}"


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
