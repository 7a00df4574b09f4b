"""Which waiting tasks no agent here can do, for `status`: it reads no task, so the dispatcher, which has them all in
memory, says it in a small file. Derived; it may be deleted at any time.
"""

from __future__ import annotations

import json
import os
import time
from itertools import islice

from orchestrator import files
from orchestrator.registry import AgentRegistry
from orchestrator.router import stranded
from orchestrator.waiting import Route, Waiting

NAMED = 5  # tasks; the others are counted


class Stranded:
    """Looked at once a turn; writes when something has changed."""

    def __init__(self, path: str, registry: AgentRegistry) -> None:
        self._path = path
        self._registry = registry
        self._said = b""
        self._due = 0.0  # lived seconds
        self._found_before: dict[Route, tuple[str, int]] = {}  # route → why nobody can do it, and how many take it
        self._tasks: dict[str, str] = {}  # some of them → why

    def look(self, waiting: Waiting, wall: float, lived: float) -> None:
        """Say it anew if it was not looked at just now: at most a hundredth of the time goes into it."""
        if lived < self._due:
            return
        begun = time.perf_counter()
        text = json.dumps(self._found(waiting, wall)).encode()
        if text != self._said or not os.path.exists(self._path):
            try:
                files.replace(self._path, text, sync=False)
                self._said = text
            except OSError:  # a full disk: again later
                pass
        self._due = lived + max(0.5, 100 * (time.perf_counter() - begun))

    def _found(self, waiting: Waiting, wall: float) -> dict[str, object]:
        agents, of = self._registry.everybody(wall), self._registry  # also the workers
        missing = {one.name: "" if one.worker_type else of.missing_lately(one.home, wall) for one in agents}
        found = {
            route: (reason, kind.count)
            for route, kind in waiting.kinds.items()
            if (reason := stranded(kind.task, agents, missing.__getitem__))
        }
        # The names are looked for again only if need be: all that waits may have to be walked.
        if found != self._found_before or any(one not in waiting.by_id for one in self._tasks):
            those = (entry for entry in waiting if entry.route in found) if found else ()
            self._tasks = {entry.id: found[entry.route][0] for entry in islice(those, NAMED)}
            self._found_before = found
        return {
            "tasks": self._tasks,
            "count": sum(count for _, count in found.values()),
            "missing": {name: text for name in of.agents if (text := missing[name])},
        }
