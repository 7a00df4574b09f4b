"""File events, signals and a timer, all reduced to one thing: look again.

An event only changes how soon; the scan finds what no event told. On Linux only the names that come
into the folder are asked for: each claim renames a file out of it, and of those watchdog would hold back
everything behind the first half of a rename for half a second, to pair it with the second.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Iterable
from types import FrameType

from watchdog.events import (
    DirCreatedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from orchestrator.spool import is_task_name


class Bell:
    """Something to wait on that a thread or a signal can ring."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def ring(self) -> None:
        """Safe from any thread."""
        try:
            os.write(self._write, b"!")
        except (BlockingIOError, OSError):
            pass

    def wait(self, seconds: float, also: Iterable[int] = ()) -> None:
        """Until it rings, a descriptor of `also` is ready, or the time is over."""
        try:
            self._poll(also, max(0.0, seconds))
        except (InterruptedError, OSError, ValueError):
            return
        try:
            while os.read(self._read, 4096):
                pass
        except BlockingIOError:
            pass

    def _poll(self, also: Iterable[int], seconds: float) -> None:
        poll = select.poll()  # select() knows no descriptor above 1023
        for fd in (self._read, *also):
            poll.register(fd, select.POLLIN)
        poll.poll(min(seconds, 86400.0) * 1000)

    def close(self) -> None:
        """Give its descriptors back."""
        os.close(self._read)
        os.close(self._write)

    @property
    def write_end(self) -> int:
        """For `signal.set_wakeup_fd`."""
        return self._write


class Notes:
    """What signals have asked for since the last look. A handler takes a note and does nothing else."""

    WANTED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)

    def __init__(self, bell: Bell) -> None:
        self._taken: list[int] = []
        for number in self.WANTED:
            signal.signal(number, self._take)
        signal.set_wakeup_fd(bell.write_end, warn_on_full_buffer=False)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._taken.append(number)

    def read(self) -> list[int]:
        """The signals since the last call, in order."""
        taken, self._taken = self._taken, []
        return taken


class _Hear(FileSystemEventHandler):
    def __init__(self, names: set[str], bell: Bell) -> None:
        self._names = names
        self._bell = bell

    def on_any_event(self, event: FileSystemEvent) -> None:
        try:  # an exception here would end the observer's thread
            path = os.fsdecode(getattr(event, "dest_path", "") or event.src_path)
            name = os.path.basename(path)
            if is_task_name(name) or event.is_directory:
                self._names.add(name)
                self._bell.ring()
        except Exception:  # noqa: BLE001
            self._bell.ring()


def _observer() -> BaseObserver:
    """watchdog's observer; on Linux one that hears of what comes in, and of nothing that goes out."""
    if sys.platform == "linux":
        try:
            from watchdog.observers.inotify import InotifyEmitter
            from watchdog.observers.inotify_c import InotifyConstants as Kinds

            kinds = Kinds.IN_CREATE | Kinds.IN_CLOSE_WRITE | Kinds.IN_MOVED_TO | Kinds.IN_DELETE_SELF
            emitter = type("Incoming", (InotifyEmitter,), {"get_event_mask_from_filter": lambda self: kinds})
            return BaseObserver(emitter)
        except (ImportError, AttributeError):  # another watchdog: its own way, a little slower
            pass
    return Observer()


class Watcher:
    """Names in a folder that somebody touched."""

    def __init__(self, folder: str, bell: Bell) -> None:
        self._folder = folder
        self._bell = bell
        self._names: set[str] = set()
        self._observer: BaseObserver | None = None
        self._inode = 0
        self.problem = ""

    def keep(self) -> None:
        """Start watching, or start again if the folder was deleted and made anew or the thread died.
        Raises OSError if it is not there."""
        inode = os.stat(self._folder).st_ino
        if self._observer is not None and self._observer.is_alive() and inode == self._inode:
            return
        self.stop()
        observer = _observer()
        kinds = [FileCreatedEvent, FileClosedEvent, FileMovedEvent, DirCreatedEvent]
        try:
            observer.schedule(_Hear(self._names, self._bell), self._folder, event_filter=kinds)
            observer.start()
        except OSError as error:  # no inotify instance left: the scan goes on without
            self.problem = f"file events are off ({error.strerror}); new files are found by the scan"
            return
        self._observer, self._inode, self.problem = observer, inode, ""

    def take(self) -> set[str]:
        """The names touched since the last call."""
        taken: set[str] = set()
        while self._names:
            try:
                taken.add(self._names.pop())
            except KeyError:
                break
        return taken

    def stop(self) -> None:
        """End the thread."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(2.0)
            self._observer = None
