"""What lies in tasks/rejected/, and why."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from contextlib import suppress

from orchestrator import ids, plain
from orchestrator.errors import Refused
from orchestrator.names import printable
from orchestrator.places import Places
from orchestrator.spool import Spool
from orchestrator.states import State


def names(places: Places) -> list[str]:
    """The files that are no task."""
    return [
        name for name in places.names(State.REJECTED) if not name.endswith(".reason.txt") and not name.startswith(".")
    ]


def reason_of(path: str) -> str:
    """Why this file was rejected."""
    try:
        with open(f"{path}.reason.txt", encoding="utf-8", errors="replace", opener=plain.opener) as file:
            return file.read(2000).strip().partition(": ")[2]
    except OSError:
        return "no reason is kept"


def find(places: Places, task_id: str) -> tuple[str, str] | None:
    """(file, reason) of what was rejected under this id or file name, the last one; None if nothing was. What bears the
    name is looked for first; only if nothing does, the files are read."""
    folder = f"{places.tasks}/{State.REJECTED}"
    everything = places.names(State.REJECTED) if task_id else []
    return _last(places, _by_word(everything).get(task_id, ())) or _last(
        places, [name for name in everything if _has_reason(name) and ids.stated_by(f"{folder}/{name}") == task_id]
    )


def why(places: Places) -> Callable[[str], str]:
    """Of an id, why what bore it was no task; "" if nothing did. By names alone, which are listed once."""
    words = functools.cache(lambda: _by_word(places.names(State.REJECTED)))
    return lambda task_id: f"rejected: {found[1]}" if (found := _last(places, words().get(task_id, ()))) else ""


def _has_reason(name: str) -> bool:
    return not name.endswith(".reason.txt")


def _by_word(everything: Iterable[str]) -> dict[str, list[str]]:
    """A file's name, and what stands before its ending → the names."""
    found: dict[str, list[str]] = {}
    for name in filter(_has_reason, everything):
        for word in {name, name.rpartition(".")[0] or name}:
            found.setdefault(word, []).append(name)
    return found


def _last(places: Places, bearers: Iterable[str]) -> tuple[str, str] | None:
    found = []
    for name in bearers:
        path = f"{places.tasks}/{State.REJECTED}/{name}"
        if os.path.lexists(f"{path}.reason.txt"):
            with suppress(FileNotFoundError):
                found.append((os.lstat(path).st_mtime_ns, path))
    return (max(found)[1], reason_of(max(found)[1])) if found else None


def what_to_do(path: str) -> str:
    """With a rejected file."""
    name = printable(os.path.basename(path))
    return f"correct tasks/rejected/{name} and move it back to tasks/pending/"


def refuse(queue: Spool, task_id: str) -> None:
    """Raises Refused if this is no task of the queue, but was rejected."""
    here = queue.state_of(task_id) is not None or queue.archived(task_id) or ids.file_of(queue, task_id)
    if not here and (found := find(queue, task_id)):
        raise Refused(f"{printable(task_id)}: was rejected: {found[1]}; {what_to_do(found[0])}")
