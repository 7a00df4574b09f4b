"""Facts, as they happen, to whoever listens; and a journal of them by day.

Nothing depends on the journal: it is not synced, a dispatcher writes it once a turn, everybody else line by line, and a
torn last line harms nobody: whoever writes next begins a new one. `journal.py` reads it.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from orchestrator import files, plain

# Every kind of fact there is, and when it is told. The docs are drawn from this table.
KINDS = {
    "submitted": "a task has come: by `add`, a program, or a file that was dropped",
    "rejected": "a file was no task, and lies in `rejected/` with the reason",
    "returned": "a file of a task that is known already came back; it is not run again",
    "edited": "a task's file was changed while it ran; the run keeps what it was given",
    "claimed": "somebody has it: a slot of the dispatcher's, or a worker",
    "started": "its run has begun",
    "progress": "how far the run is",
    "retried": "it waits again: after an attempt that failed, or because a person said so",
    "completed": "it ended well, and what it left is merged",
    "failed": "it ended, and is not tried again",
    "cancelled": "a person ended it",
    "review": "it waits for a person",
    "late": "a run reported on a task that is not its own any more; kept, and not applied",
    "recovered": "somebody died between claim and start; it waits again",
    "resumed": "a dispatcher took a living run up, or an agent, or all of them, may work again",
    "archived": "it ended long ago, and was moved to `archive/`",
    "waiting": "how many tasks lay there when a dispatcher came",
    "paused": "an agent takes no work for a while",
    "registered": "a worker has come",
    "unregistered": "a worker has gone",
    "learned": "an agent was said to be able to do more",
    "dispatching": "a dispatcher has come",
    "reloaded": "it has taken up a changed config.yaml",
    "stopping": "it starts nothing more",
    "stopped": "it has gone",
    "alert": "nothing can be started any more",
    "warning": "something that a person should know",
    "error": "something could not be done",
}


class Event(NamedTuple):
    """One fact."""

    at: float  # epoch seconds UTC
    kind: str  # one of KINDS
    task_id: str = ""
    text: str = ""  # one line for a person
    facts: dict[str, Any] = {}  # JSON values


class Listener(Protocol):
    """Whoever wants to hear: the log, the journal, an extra."""

    def hear(self, event: Event) -> None:
        """Called from the dispatcher's one thread; has to return at once."""
        ...

    def flush(self) -> None:
        """The end of a turn."""
        ...


class Journal:
    """.orchestrator/events/2025-01-15.jsonl (days of UTC), one event a line. Never raises: what could not be written
    is missing there, and nowhere else."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lines: list[str] = []
        self._encode = json.JSONEncoder(ensure_ascii=False).encode

    def hear(self, event: Event) -> None:
        """Keep it until the turn ends."""
        row = {
            "at": round(event.at, 3),
            "kind": event.kind,
            "task_id": event.task_id,
            "text": event.text,
            **event.facts,
        }
        self._lines.append(self._encode({k: v for k, v in row.items() if v != ""}) + "\n")

    def flush(self) -> None:
        """Write what has come, in one piece."""
        if not self._lines:
            return
        content, self._lines = "".join(self._lines).encode("utf-8", "replace"), []
        path = f"{self._folder}/{time.strftime('%Y-%m-%d', time.gmtime())}.jsonl"
        with suppress(OSError):  # a full disk must not stop the work; the journal is for people
            try:
                plain.append(path, content)
            except FileNotFoundError:
                files.make_folders(os.path.dirname(self._folder), self._folder)  # and no root that was deleted
                plain.append(path, content)


def record(own: str, kind: str, task_id: str, text: str, at: float = 0.0, **facts: object) -> None:
    """One fact, at once, by whoever is no dispatcher; `own` is the queue's .orchestrator."""
    journal = Journal(f"{own}/events")
    journal.hear(Event(at or time.time(), kind, task_id, text, dict(facts)))
    journal.flush()
