"""Two clocks: one for people and files, one for everything that may end a run."""

from __future__ import annotations

import time


class Clock:
    """Wall time for people and files; lived time for everything that may end a run.

    A step of more than `MAX_STEP` between two looks is a machine that slept or a process that
    was stopped: nobody lived that time, so it does not count.
    """

    MAX_STEP = 30.0

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._lived = 0.0

    def wall(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    def lived(self) -> float:
        """Seconds that this process has lived."""
        now = time.monotonic()
        self._lived += min(now - self._last, self.MAX_STEP)
        self._last = now
        return self._lived
