"""Workers that are silent lose what they have, and what a dead claimer left lying waits again.

Silence is counted on the clock of whoever watches, and only time that he lived counts: a machine that slept takes
nothing from anybody. A process that was stopped while it reports holds the lock of its run, and keeps it.
"""

from __future__ import annotations

import os

from orchestrator import locks
from orchestrator.pull import Pull
from orchestrator.report import Report
from orchestrator.roster import STALE_SECONDS
from orchestrator.runs import Result
from orchestrator.states import Outcome, State

Key = tuple[str, str, int]  # task, worker, run; a task that nobody wrote down for himself has none


class Watch:
    """One root, watched by one process: the dispatcher, or a worker where none runs."""

    def __init__(self, pull: Pull) -> None:
        self._pull = pull
        self._seen: dict[Key, tuple[float, float]] = {}  # run → heard at, first seen so (lived)

    def look(self, lived: float) -> list[Result]:
        """Take back what has been silent for STALE_SECONDS of `lived` time; what became of it."""
        ended: list[Result] = []
        seen: dict[Key, tuple[float, float]] = {}
        for held in self._pull.held():
            key, heard = held[:3], _heard_at(held.folder)
            if lived - self._since(seen, key, heard, lived) < STALE_SECONDS:
                continue
            why = f"{held.slot} was not heard of for {STALE_SECONDS:.0f} s"

            def still(folder: str = held.folder, heard: float = heard) -> bool:
                return _heard_at(folder) == heard

            result = self._pull.end(held, Report(Outcome.LOST, why), still)
            ended += [result] if result else []
        for task_id in self._unnoted():
            if lived - self._since(seen, (task_id, "", 0), 0.0, lived) >= STALE_SECONDS:
                self._pull.free(task_id)
        self._seen = seen
        return ended

    def _since(self, seen: dict[Key, tuple[float, float]], key: Key, heard: float, lived: float) -> float:
        before, since = self._seen.get(key, (heard, lived))
        seen[key] = (heard, since if before == heard else lived)
        return seen[key][1]

    def _unnoted(self) -> list[str]:
        """Tasks in assigned/ of which nobody says that he has them, and nobody is about to."""
        queue = self._pull.queue
        noted = queue.assignments()
        return [
            one
            for one in queue.ids(State.ASSIGNED)
            if one not in noted
            and not any(locks.is_locked(f"{queue.run_folder(one, n)}/alive") for n in queue.run_numbers(one)[-1:])
        ]


def _heard_at(folder: str) -> float:
    """When whoever does this run was last heard of (epoch seconds, by his clock)."""
    try:
        return os.stat(f"{folder}/alive").st_mtime
    except OSError:
        return 0.0
