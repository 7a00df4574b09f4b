"""The one place where parts are chosen and joined; and the dispatcher as a process of its own."""

from __future__ import annotations

import gc
import json
import logging
import logging.handlers
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from orchestrator import __version__, config, disk, files, process
from orchestrator.alerts import Alerts
from orchestrator.context import Context
from orchestrator.dispatcher import Dispatcher
from orchestrator.errors import OrchestrateError, said
from orchestrator.events import Event, Journal, Listener
from orchestrator.hold import Hold
from orchestrator.launcher import LocalLaunch
from orchestrator.registry import AgentRegistry
from orchestrator.spool import Spool
from orchestrator.states import State
from orchestrator.supervisor import Mode
from orchestrator.watcher import Bell, Notes

LOG_BYTES = 10_000_000  # then the log is rolled over; three old ones are kept
STARTED_AT = int(time.time())


class _Lines(logging.handlers.RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk takes no line, and no traceback of that either; nobody but people read the log."""


class Log:
    """Events as lines of the log file, and of the terminal with `start -f`.

    They are written once a turn: after what they tell is durable, and at the cost of one write.
    """

    LEVELS = {"error": "ERROR", "alert": "ERROR", "rejected": "WARNING", "warning": "WARNING", "paused": "WARNING",
              "review": "WARNING", "failed": "WARNING", "cancelled": "WARNING", "late": "WARNING", "claimed": "DEBUG"}  # fmt: skip

    def __init__(self, path: str, level: str, front: bool) -> None:
        self.path = path
        self._least = logging.getLevelName(level.upper())
        self._front = front
        self._lines: list[tuple[float, str, str]] = []
        self._file = _Lines(path, maxBytes=LOG_BYTES, backupCount=3, encoding="utf-8", errors="replace")

    def hear(self, event: Event) -> None:
        """One line; of what comes in hundreds or was so before us, none."""
        if event.facts.get("found"):
            return
        level = self.LEVELS.get(event.kind, "INFO")
        if logging.getLevelName(level) >= self._least:
            words = (event.task_id, event.kind if event.kind.upper() != level else "", event.text)
            self._lines.append((event.at, level, " ".join(filter(None, words))))

    def flush(self) -> None:
        """The end of a turn."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        if self._is_gone():
            with suppress(OSError):
                self._file.close()  # the next line makes it anew
        text = "\n".join(
            f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(at))},{int(at % 1 * 1000):03d} {level:<7} {words}"
            for at, level, words in lines
        )
        self._file.handle(logging.LogRecord("orchestrate", logging.INFO, "", 0, text, None, None))
        if self._front:
            shown = "".join(f"{time.strftime('%H:%M:%S', time.localtime(at))} {words}\n" for at, _, words in lines)
            with suppress(OSError):  # a terminal that was closed, a full disk: nothing ends by that
                os.write(sys.stdout.fileno(), shown.encode(errors="replace"))

    def _is_gone(self) -> bool:
        """Whether somebody deleted the file, or put another in its place."""
        stream = self._file.stream
        try:
            return stream is not None and not os.path.samestat(os.stat(self.path), os.fstat(stream.fileno()))
        except OSError:
            return os.path.isdir(os.path.dirname(self.path))


class ConfigFile:
    """config.yaml, as a dispatcher reads it."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._stamp = config.stamp(root)

    def load(self) -> config.Config:
        """Raises InvalidConfig."""
        self._stamp = config.stamp(self._root)
        return config.load_and_keep(self._root)

    def has_changed(self) -> bool:
        """Since it was read; or tried to be: a broken one is told once."""
        return config.stamp(self._root) != self._stamp


def build(
    root: str,
    settings: config.Config,
    sizes: Mapping[str, int],
    bell: Bell,
    listeners: list[Listener],
    subreaper: bool,
    file: ConfigFile | None = None,
) -> Dispatcher:
    """A dispatcher of this root, everything joined. `file`: which the settings are from. Raises InvalidConfig."""
    queue, file = Spool(root), file or ConfigFile(root)
    dispatcher = Dispatcher(
        queue,
        settings,
        file.load,
        AgentRegistry(root, settings, sizes),
        Context(root),
        LocalLaunch(),
        listeners,
        bell,
        dict(os.environ),
        subreaper,
        sizes=sizes,
    )

    def who() -> list[str]:
        if file.has_changed():
            dispatcher.reload()
        dispatcher.registry.look()
        return [*dispatcher.registry.names(), *dispatcher.registry.absent]  # for these a task waits

    dispatcher.intake.who = who
    return dispatcher


def announce(dispatcher: Dispatcher) -> None:
    """Say who holds this root, and with which agents, for whoever looks. Raises OSError."""
    own = dispatcher.queue.own
    state = {
        "pid": os.getpid(),
        "started_at": STARTED_AT,
        "version": __version__,
        "host": os.uname().nodename,
        "boot": process.boot_id(),
        "path": os.environ.get("PATH", ""),
        "agents": {name: len(slots) for name, slots in dispatcher.registry.slots.items()},
        "ending": dispatcher.mode is not Mode.RUN,
    }
    files.replace(f"{own}/dispatcher.json", json.dumps(state).encode(), sync=False)


def announce_again(dispatcher: Dispatcher) -> None:
    """What is known of it has changed; a full disk is no reason to end."""
    disk.relax(dispatcher.config.durability == "relaxed")
    try:
        announce(dispatcher)
    except OSError as error:
        dispatcher.tell("error", "", f".orchestrator/dispatcher.json is not current: {error.strerror}")


def serve(root: str, sizes: Mapping[str, int], front: bool, ready: Callable[[str], None]) -> None:
    """Be the dispatcher until a stop is asked and done. Raises AlreadyRunning, InvalidConfig."""
    lock = Hold(root)
    log: Log | None = None
    try:
        queue = Spool(root)
        queue.make_folders()
        queue.check_folders()
        file = ConfigFile(root)
        settings = file.load()
        disk.relax(settings.durability == "relaxed")
        log = Log(f"{queue.own}/dispatcher.log", settings.log_level, front)
        bell = Bell()
        notes = Notes(bell)
        journal = Journal(f"{queue.own}/events")
        listeners: list[Listener] = [log, journal]
        dispatcher = build(root, settings, sizes, bell, listeners, process.become_subreaper(), file)
        children = dispatcher.supervisor.not_ours
        listeners.append(Alerts(root, lambda: dispatcher.config.alerts, children, dispatcher.tell))
        announce(dispatcher)
        dispatcher.announce = announce_again
        dispatcher.keep = lambda: announce(dispatcher) if lock.keep() else None
        dispatcher.recover()
        dispatcher.tell("dispatching", "", f"pid {os.getpid()}, agents {dispatcher.registry.line()}")
        for name in dispatcher.registry.agents:
            if missing := dispatcher.registry.missing(name):
                dispatcher.tell("warning", "", f"{name} {missing} ({os.environ.get('PATH', '')})")
        ready("")
        gc.set_threshold(20_000, 50, 50)  # what waits lives long; looking through it each second is for nothing
        sys.setswitchinterval(0.0005)  # ten thousand file events at once keep the loop waiting ten times less
        dispatcher.run(notes)
    finally:
        if log is not None:
            log.flush()
        lock.release()


def end_without_dispatcher(root: str, only: str = "") -> list[str]:
    """End runs that no dispatcher watches over (all, or that of one task) and record them; their tasks."""
    lock = Hold(root)
    bell = Bell()
    try:
        notes = Notes(bell)
        log = Log(f"{root}/.orchestrator/dispatcher.log", "info", False)
        journal = Journal(f"{root}/.orchestrator/events")
        settings, _ = config.load_or_last(root)  # ending what runs must not wait for a config to be mended
        dispatcher = build(root, settings, {}, bell, [log, journal], process.become_subreaper())
        dispatcher.mode = Mode.DRAIN
        announce(dispatcher)
        dispatcher.recover()
        mine = [live for live in dispatcher.supervisor if only in ("", live.id)]
        if not only:
            dispatcher.end_runs()
        dispatcher.supervisor.look_now()
        wait = 0.0
        while any(live in mine for live in dispatcher.supervisor):
            bell.wait(wait)
            if any(number in (signal.SIGINT, signal.SIGTERM) for number in notes.read()):
                dispatcher.end_runs()
            wait = dispatcher.turn()
        dispatcher.close()
        ids = [live.id for live in mine]
        missed = [one for one in dispatcher.queue.ids(State.ASSIGNED) if only in ("", one) and one not in ids]
        if missed:
            raise OrchestrateError(f"{', '.join(missed)}: cannot be ended now ({log.path} says why); try again")
        return ids
    finally:
        lock.release()
        bell.close()


def main(argv: list[str]) -> int:
    """`python -m orchestrator.app ROOT AGENTS READY_FD`: what `cli.starting` runs."""
    root, agents, fd = argv[1], argv[2], int(argv[3])
    os.set_inheritable(fd, False)

    def ready(problem: str) -> None:
        os.write(fd, (problem or "up").encode())
        os.close(fd)

    try:
        serve(root, config.parse_sizes(agents), False, ready)
    except (OrchestrateError, OSError) as error:
        problem = said(error) if isinstance(error, OSError) else str(error)
        try:
            ready(problem)
        except OSError:  # it was up already
            sys.stderr.write(f"{problem}\n")
        return error.exit_code if isinstance(error, OrchestrateError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
