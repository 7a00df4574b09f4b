"""Who dispatches here, and how to make him look at once. Small, so that whoever changes a task can load it."""

from __future__ import annotations

import json
import os
import signal

from orchestrator import locks


def running_pid(root: str) -> int:
    """The pid of the dispatcher that holds this root; 0 if none does."""
    if not locks.is_locked(f"{root}/.orchestrator/dispatcher.lock"):
        return 0
    try:
        with open(f"{root}/.orchestrator/dispatcher.json", encoding="utf-8") as file:
            return int(json.load(file)["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def nudge(root: str) -> None:
    """Ask the dispatcher, if one runs, to look at everything now."""
    if pid := running_pid(root):
        try:
            os.kill(pid, signal.SIGUSR1)
        except ProcessLookupError:
            pass
