"""Who holds a root: one dispatcher, which says so in .orchestrator/dispatcher.json for whoever looks."""

from __future__ import annotations

import json
import os
import signal

from orchestrator import files, locks, plain
from orchestrator.errors import AlreadyRunning


class Hold:
    """The right to move this root's tasks: one dispatcher a root. Raises AlreadyRunning; `wait` seconds are for one
    that is just ending.

    Others look at the lock file; but somebody may delete it, or all of .orchestrator/, under a running dispatcher. So
    the root's folder itself is locked, too.
    """

    def __init__(self, root: str, wait: float = 3.0) -> None:
        self._path = f"{root}/.orchestrator/dispatcher.lock"
        os.makedirs(f"{root}/.orchestrator", exist_ok=True)
        refuse_second(root)
        try:
            self._folder = locks.hold_folder(root, wait)
        except BlockingIOError:
            raise _already(root) from None
        try:
            self._take(wait)
        except BaseException as error:
            os.close(self._folder)
            if isinstance(error, TimeoutError):  # filelock's Timeout is one
                raise _already(root) from None
            raise

    def _take(self, wait: float) -> None:
        from filelock import FileLock  # and with it logging: whoever only looks does without

        lock = FileLock(self._path)
        lock.acquire(timeout=wait)
        self._lock, self._inode = lock, os.stat(self._path).st_ino

    def keep(self) -> bool:
        """Make the lock file anew if it was deleted; whether it was. Raises OSError."""
        try:
            if os.stat(self._path).st_ino == self._inode:
                return False
        except (FileNotFoundError, NotADirectoryError):
            pass
        files.make_folders(os.path.dirname(self._path))  # and no root that was deleted
        self._take(1.0)
        return True

    def release(self) -> None:
        """Let another have it."""
        self._lock.release()
        os.close(self._folder)


def refuse_second(root: str) -> None:
    """Raises AlreadyRunning if a dispatcher holds this root and means to stay."""
    if locks.is_locked(f"{root}/.orchestrator/dispatcher.lock"):
        pid, ending = _announced(root)
        if pid and not ending and _lives(pid):
            raise _already(root)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    # One that was killed just now may not be buried yet, and one that it was about to start hold its lock for a moment.
    return files.may_live(str(pid)) and not _is_dying(pid)


_EXITING = 4  # PF_EXITING of linux/sched.h, in the seventh field after the name in /proc/PID/stat
_KILLED = 1 << (signal.SIGKILL - 1)


def _is_dying(pid: int) -> bool:
    """Whether it was killed and has not fallen yet, which takes a busy machine a while."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            flags = int(file.read().rpartition(b")")[2].split()[6])
        with open(f"/proc/{pid}/status", "rb") as file:
            pending = [int(line.split()[1], 16) for line in file if line.startswith((b"SigPnd:", b"ShdPnd:"))]
    except (OSError, ValueError, IndexError):
        return False
    return bool(flags & _EXITING) or any(one & _KILLED for one in pending)


def _already(root: str) -> AlreadyRunning:
    pid, ending = _announced(root)
    does = "is still stopping" if ending else "runs already"
    advice = "'orchestrate stop' shows what it waits for" if ending else "'orchestrate stop' ends it"
    return AlreadyRunning(f"{root}: a dispatcher {does} (pid {pid or '?'}); {advice}")


def running_pid(root: str) -> int:
    """The pid of the dispatcher that holds this root; 0 if none does."""
    return _announced(root)[0] if locks.is_locked(f"{root}/.orchestrator/dispatcher.lock") else 0


def _announced(root: str) -> tuple[int, bool]:
    """(pid, whether it is stopping) of the last dispatcher here; (0, False) if that is not known."""
    try:
        with open(f"{root}/.orchestrator/dispatcher.json", encoding="utf-8", opener=plain.opener) as file:
            found = json.load(file)
        return int(found["pid"]), bool(found.get("ending"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0, False


def nudge(root: str) -> None:
    """Ask the dispatcher, if one runs, to look at everything now."""
    if pid := running_pid(root):
        try:
            os.kill(pid, signal.SIGUSR1)
        except ProcessLookupError:
            pass
