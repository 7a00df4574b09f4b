"""Two clocks: one for people and files, one for everything that may end a run."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Wall time for people and files; lived time for everything that may end a run.

    A wait that lasts longer than it was meant to is a machine that slept or a process that was
    stopped: nobody lived that time, so it does not count. Between two looks no more than `MAX_STEP`
    counts, whatever happened.
    """

    MAX_STEP = 30.0
    SLACK = 1.0  # by which a busy machine may wake us late

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

    def wait(self, act: Callable[[float], None], seconds: float) -> None:
        """Let `act` wait for so long at most; what it takes longer than that was not lived."""
        self.lived()
        act(seconds)
        late = time.monotonic() - self._last - seconds
        if late > self.SLACK:
            self._last += late
