"""The checklist in context/current_state.md: what runs, waits, asks for a person, and was done lately.

It is derived, bounded (a year of work does not make it longer), and written at most twice a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice

from orchestrator.context import Context
from orchestrator.registry import AgentRegistry
from orchestrator.runs import read_result
from orchestrator.spool import Spool
from orchestrator.states import State
from orchestrator.stranded import Stranded
from orchestrator.supervisor import Supervisor
from orchestrator.waiting import Waiting

SHOWN = 50  # rows of each kind


class Checklist:
    """Writes the page when something has changed."""

    def __init__(
        self, queue: Spool, context: Context, registry: AgentRegistry, tell: Callable[[str, str, str], None]
    ) -> None:
        self.queue = queue
        self.stranded = Stranded(f"{queue.own}/stranded.json", registry)
        self.context = context
        self._tell = tell
        self._problem = ""
        self._changed = True
        self._count = 0  # of waiting tasks, as it was last written
        self._due = 0.0  # lived seconds

    def changed(self) -> None:
        """Something that it shows is not so any more."""
        self._changed = True

    def patience(self, lived: float) -> float:
        """Seconds until it wants to be written."""
        return max(0.0, self._due - lived) if self._changed else 3600.0

    def write_if_due(self, waiting: Waiting, supervisor: Supervisor, wall: float, lived: float) -> None:
        """Write it if it has changed and was not written just now."""
        self.stranded.look(waiting, wall, lived)
        self._changed = self._changed or len(waiting) != self._count
        if not self._changed or lived < self._due:
            return
        begun = time.perf_counter()
        self.write(waiting, supervisor, wall)
        self._due = lived + max(0.5, 50 * (time.perf_counter() - begun))

    def write(self, waiting: Waiting, supervisor: Supervisor, wall: float) -> None:
        """Write it now."""
        problem = ""
        try:
            self._changed, self._count = (
                not self.context.write_state(self.lines(waiting, supervisor, wall)),
                len(waiting),
            )
        except OSError as error:  # a full disk: again later
            self._changed, problem = True, error.strerror or str(error)
        if problem and problem != self._problem:
            self._tell("error", "", f"context/current_state.md is not kept up to date: {problem}")
        self._problem = problem

    def lines(self, waiting: Waiting, supervisor: Supervisor, wall: float) -> list[str]:
        """Its rows, in Markdown."""
        queue = self.queue
        counts = {state: queue.count(state) for state in (State.COMPLETED, State.FAILED, State.REVIEW)}
        lives = sorted(supervisor, key=lambda live: live.started)
        lines = [
            "",
            f"{counts[State.COMPLETED]} completed, {len(lives)} running, {len(waiting)} waiting, "
            f"{counts[State.FAILED]} failed, {counts[State.REVIEW]} in review.",
            "",
        ]
        lines += [f"- [ ] **{live.id}** {live.task.title} (running on {live.slot}, {live.agent})" for live in lives]
        for state in (State.REVIEW, State.FAILED):
            ids = queue.ids(state) if counts[state] else []
            for task_id in ids[-SHOWN:]:
                result = read_result(queue.result_path(state, task_id))
                title, reason = (result.title, result.reason) if result else ("", "")
                lines.append(
                    f"- [ ] **{task_id}** {title} ({'in review' if state is State.REVIEW else state}: {reason})"
                )
            lines += _more(len(ids), str(state))
        for entry in islice(waiting.in_order(wall), SHOWN):
            held = f" (waits for {', '.join(sorted(entry.unmet))})" if entry.unmet else ""
            lines.append(f"- [ ] **{entry.id}** {entry.title}{held}")
        lines += _more(len(waiting), "waiting")
        for row in self.context.recent(SHOWN):
            lines.append(f"- [x] **{row.get('task_id')}** {row.get('title', '')} → {row.get('output_file', '')}")
        lines += _more(counts[State.COMPLETED], "completed")
        return [*lines, ""]


def _more(count: int, word: str) -> list[str]:
    return [f"- … and {count - SHOWN} more {word}"] if count > SHOWN else []
