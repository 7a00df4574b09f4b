"""Tell somebody that nothing can be started any more: by a command of the user's, or through an extra.

Each is a program of its own, so that nothing it does can hold the loop up.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from orchestrator.config import AlertsConfig
from orchestrator.errors import is_lack
from orchestrator.events import Event

LONGEST_SECONDS = 60.0  # then it is killed

Tell = Callable[[str, str, str], None]


class _Alert(NamedTuple):
    name: str  # the key of config.yaml
    argv: tuple[str, ...]
    text: str
    places: tuple[str, ...]


class Alerts:
    """A listener: starts what `alerts:` says for each event of the kind `alert`."""

    def __init__(self, root: str, settings: Callable[[], AlertsConfig], children: set[int], tell: Tell) -> None:
        self._root = root
        self._settings = settings
        self._children = children  # of this process that belong to no run
        self._tell = tell
        self._waiting: list[_Alert] = []
        self._running: list[tuple[str, subprocess.Popen[bytes], float]] = []

    def hear(self, event: Event) -> None:
        """Keep it until the turn ends."""
        if event.kind == "alert":
            settings = self._settings()
            if settings.command:
                argv = (*shlex.split(settings.command), event.text)
                self._waiting.append(_Alert("alerts.command", argv, event.text, ()))
            if settings.notify:  # where to is not for everybody's eyes: no argument
                argv = (sys.executable, "-m", "orchestrator.extras.alerts")
                self._waiting.append(_Alert("alerts.notify", argv, event.text, settings.notify))

    def flush(self) -> None:
        """Starts what waits, and takes leave of what has ended; says so if it failed."""
        waiting, self._waiting = self._waiting, []
        for alert in waiting:
            self._start(alert)
        for one in list(self._running):
            name, child, begun = one
            if child.poll() is None:
                if time.monotonic() - begun < LONGEST_SECONDS:
                    continue
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            self._running.remove(one)
            self._children.discard(child.pid)
            if child.returncode:
                why = f"ended with exit status {child.returncode}; nobody may have heard of it"
                self._tell("error", "", f"{name}: {why}")

    def _start(self, alert: _Alert) -> None:
        env = {**os.environ, "ORCHESTRATE_ALERT": alert.text, "ORCHESTRATE_ALERT_TO": "\n".join(alert.places)}
        try:
            child = subprocess.Popen(
                alert.argv, stdin=subprocess.DEVNULL, cwd=self._root, env=env, start_new_session=True
            )
        except (OSError, ValueError) as error:
            if is_lack(error):
                self._waiting.append(alert)  # what is lacking may be just what it tells of
            else:
                self._tell("error", "", f"{alert.name}: cannot be started: {error}")
            return
        self._children.add(child.pid)
        self._running.append((alert.name, child, time.monotonic()))
