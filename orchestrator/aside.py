"""What is no task, and copies of what was one: put aside, and told of together as soon as that is durable."""

from __future__ import annotations

import os
from collections.abc import Callable

from orchestrator.errors import Refused
from orchestrator.names import printable
from orchestrator.spool import Spool
from orchestrator.states import State


class Aside:
    """What was put aside in one look at pending/."""

    def __init__(self, queue: Spool, tell: Callable[..., None]) -> None:
        self._queue = queue
        self._tell = tell
        self._untold: list[tuple[str, str, str]] = []
        self._failed = False  # the last sync

    @property
    def is_due(self) -> bool:
        """Whether there is something to make durable and to tell; what the disk has just refused waits for a next look."""
        return bool(self._untold) and not self._failed

    def reject(self, name: str, task_id: str, reason: str) -> None:
        """pending/<name> → rejected/, with its reason."""
        shown = f"tasks/pending/{printable(name)}"
        try:
            target = self._queue.reject(f"{self._queue.tasks}/{State.PENDING}/{name}", State.PENDING, reason)
        except (OSError, Refused) as error:
            if not isinstance(error, FileNotFoundError):
                self._tell("error", task_id, f"{shown}: cannot be put aside: {error}")
            return
        kept = printable(os.path.relpath(target, self._queue.root), 400)
        self._untold.append(("rejected", task_id, f"{shown}: {reason} (kept as {kept})"))

    def returned(self, task_id: str, text: str) -> None:
        """It came back, and was put where it belongs."""
        self._untold.append(("returned", task_id, text))

    def sync(self) -> bool:
        """Make it durable, and tell; False on a full disk: again with the next look."""
        if self._untold:
            self._failed = True
            try:
                self._queue.sync()
            except OSError:
                return False
            self._failed = False
            told, self._untold = self._untold, []
            for fact in told:
                self._tell(*fact)
        return True
