"""What people did with their hands in the folders of a running dispatcher, found at every scan.

git takes away the folders that it empties; a person takes a task's file out of assigned/, edits it
there, or puts one in, or an editor that was opened on it writes it anew after its run has ended.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from orchestrator import plain
from orchestrator.context import Context
from orchestrator.errors import InvalidTask
from orchestrator.history import was_given
from orchestrator.live import Live
from orchestrator.reading import read_bytes
from orchestrator.spool import Spool
from orchestrator.states import Outcome, State
from orchestrator.supervisor import Supervisor
from orchestrator.waiting import stamp_of

EDITED = "its file was edited while it ran; the run kept what it was given"


class Hands:
    """Puts right what can be, and says the rest."""

    def __init__(
        self, queue: Spool, context: Context, supervisor: Supervisor, tell: Callable[[str, str, str], None]
    ) -> None:
        self.queue = queue
        self.context = context
        self.supervisor = supervisor
        self._tell = tell

    def look(self, grace: float, lived: float) -> None:
        """At the folders and at the files of all that runs. Raises OSError if the root is gone."""
        self.queue.make_folders()
        self.context.make_folders()
        for live in self.supervisor:
            path = self.queue.path(State.ASSIGNED, live.id)
            gone = not plain.is_there(path)
            if gone and live.missed:  # twice: an editor may be between two names
                live.stop(Outcome.CANCELLED, "its file was taken out of tasks/assigned", grace, lived)
            elif not gone and not live.edited and was_edited(live, path):
                given = os.path.relpath(f"{live.folder}/prompt.md", self.queue.root)
                self._tell("edited", live.id, f"while run {live.number} lives, which keeps what it was given ({given})")
            live.missed = gone


def was_edited(live: Live, path: str) -> bool:
    """Whether the task's file is another than the run was given; looks into it only if it was touched."""
    try:
        status = os.lstat(path)
        if live.stamp == (stamp := stamp_of(status)):
            return live.edited
        live.edited = not was_given(live.folder, read_bytes(path))
        live.stamp = stamp
    except InvalidTask:
        live.edited = True
    except OSError:
        pass  # it is gone
    return live.edited
