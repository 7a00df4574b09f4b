"""Facts, as they happen, to whoever listens; and a journal of them by day.

Nothing depends on the journal: it is written once a turn, not synced, and a torn last line
harms nobody.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, NamedTuple, Protocol

from orchestrator import plain


class Event(NamedTuple):
    """One fact."""

    at: float  # epoch seconds UTC
    kind: str  # claimed, started, ended, merged, completed, retried, rejected, paused, …
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
    """.orchestrator/events/2025-01-15.jsonl, one event a line."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lines: list[str] = []
        self._encode = json.JSONEncoder(ensure_ascii=False).encode
        os.makedirs(folder, exist_ok=True)

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
        lines, self._lines = self._lines, []
        path = f"{self._folder}/{time.strftime('%Y-%m-%d', time.gmtime())}.jsonl"
        try:
            fd = plain.opener(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        except OSError:
            return  # a full disk must not stop the work; the journal is for people
        try:
            os.write(fd, "".join(lines).encode("utf-8", "replace"))
        except OSError:
            pass
        finally:
            os.close(fd)
