"""File events, signals and a timer, all reduced to one thing: look again.

An event only changes how soon; the scan finds what no event told. On Linux the kernel is asked itself, and
only for names that come into the folder: ten thousand at once cost watchdog's three threads more time than
reading the files costs us. Elsewhere it is watchdog who knows how to ask.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import struct
import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TYPE_CHECKING

from orchestrator.spool import is_task_name

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent

_EVENT = struct.Struct("=iIII")  # struct inotify_event; a name of that many bytes follows
_COMES_IN = 0x08 | 0x80 | 0x100  # IN_CLOSE_WRITE, IN_MOVED_TO, IN_CREATE
_ONLY_FOLDERS = 0x0100_0000  # IN_ONLYDIR
_OVERFLOW, _IGNORED = 0x4000, 0x8000  # IN_Q_OVERFLOW, IN_IGNORED
IS_LINUX = sys.platform == "linux"


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


class Incoming:
    """What comes into one folder, read from the kernel (inotify(7)) without a thread between. Raises OSError."""

    def __init__(self, folder: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0 or libc.inotify_add_watch(self.fd, os.fsencode(folder), _COMES_IN | _ONLY_FOLDERS) < 0:
            error = ctypes.get_errno()
            self.close()
            raise OSError(error, os.strerror(error))
        self._folder = folder
        self._names: set[str] = set()
        self._is_over = False

    def is_over(self) -> bool:
        """Whether the folder was deleted."""
        self._read()
        return self._is_over

    def names(self) -> set[str]:
        """Those that came since the last call; all that there are if the kernel could not keep them apart."""
        self._read()
        taken, self._names = self._names, set()
        return taken

    def _read(self) -> None:
        try:
            while content := os.read(self.fd, 65536):
                place = 0
                while place < len(content):
                    _, mask, _, length = _EVENT.unpack_from(content, place)
                    place += _EVENT.size + length
                    if length:
                        self._names.add(os.fsdecode(content[place - length : place].rstrip(b"\0")))
                    self._is_over = self._is_over or bool(mask & _IGNORED)
                    if mask & _OVERFLOW:
                        self._names.update(os.listdir(self._folder))
        except OSError:
            pass  # none left to read, or the folder is gone

    def close(self) -> None:
        """Give its descriptor back."""
        if self.fd >= 0:
            os.close(self.fd)


class Told:
    """The same from watchdog, whose threads ring a bell; where there is no inotify. Raises OSError."""

    fd = -1

    def __init__(self, folder: str, bell: Bell) -> None:
        from watchdog.events import FileSystemEventHandler
        from watchdog.observers import Observer

        self._folder = folder
        self._bell = bell
        self._names: set[str] = set()
        self._is_over = False
        handler = FileSystemEventHandler()
        handler.on_any_event = self._hear  # type: ignore[method-assign]
        self._observer = Observer()
        self._observer.schedule(handler, folder)
        self._observer.start()

    def _hear(self, event: FileSystemEvent) -> None:
        paths = [os.fsdecode(path) for path in (event.src_path, event.dest_path)]
        self._is_over = self._is_over or (event.event_type == "deleted" and paths[0] == self._folder)
        self._names.update(map(os.path.basename, paths))
        self._bell.ring()

    def is_over(self) -> bool:
        """Whether the folder was deleted."""
        return self._is_over

    def names(self) -> set[str]:
        """Those that were touched since the last call."""
        taken: set[str] = set()
        while self._names:
            taken.add(self._names.pop())
        return taken

    def close(self) -> None:
        """End its threads."""
        self._observer.stop()
        self._observer.join(2.0)


class Watcher:
    """Names in a folder that somebody touched."""

    def __init__(self, folder: str, bell: Bell, tell: Callable[[str], None], kernel: bool = IS_LINUX) -> None:
        self._folder = folder
        self._bell = bell
        self._tell = tell
        self._kernel = kernel
        self._source: Incoming | Told | None = None
        self._inode = 0
        self._problem = ""

    def keep(self) -> bool:
        """Start watching, or start again if the folder was deleted and made anew; whether it was watched since the last
        call. Raises OSError if it is not there."""
        inode = os.stat(self._folder).st_ino
        if self._source is not None and inode == self._inode and not self._source.is_over():
            return True
        self.stop()
        try:
            self._source = Incoming(self._folder) if self._kernel else Told(self._folder, self._bell)
            self._inode, self._problem = inode, ""
        except OSError as error:  # none left for this user: the scan goes on without, and tries again
            before, self._problem = self._problem, str(error.strerror)
            if before != self._problem:
                self._tell(f"file events are off ({error.strerror}); new files are found every few seconds")
        return False

    def take(self) -> set[str]:
        """The names of files touched since the last call."""
        return set(filter(is_task_name, self._source.names())) if self._source else set()

    def descriptors(self) -> tuple[int, ...]:
        """What to wait on, beside the bell."""
        return (self._source.fd,) if self._source and self._source.fd >= 0 else ()

    def stop(self) -> None:
        """Watch no longer."""
        if self._source is not None:
            self._source.close()
            self._source = None
