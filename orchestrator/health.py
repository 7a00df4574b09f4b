"""Whether this machine has room to start anything; and the dispatcher's heartbeat.

Without room on the disk, descriptors or processes, or where the folders let nothing be claimed, nothing new is started:
what runs goes on, what waits keeps its place with the reason, and starts by itself once that is over. The reason and the
beat are in one small file, .orchestrator/heartbeat, whose descriptor is held and whose block is on the disk: both can
still be written then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress

from orchestrator.config import LimitsConfig
from orchestrator.errors import is_lack
from orchestrator.names import printable
from orchestrator.reading import parse_mapping, read_bytes
from orchestrator.runs import utc
from orchestrator.writing import to_yaml

BEAT_SECONDS = 10.0  # between two beats of the dispatcher
NOBODY = "every agent is down: "
MOST_SECONDS = 30.0  # between two attempts to start something, after a start failed for lack of room
LOOK_SECONDS = 0.1  # between two looks for room, while there is some: each takes and gives back what a start needs
SPARE = 8  # pairs of descriptors: what a turn takes at once
BLOCK = 2048  # bytes of the file


def no_room(folder: str, limits: LimitsConfig) -> str:
    """What this process lacks to start anything whose files are in `folder`; "" if there is room."""
    try:
        status = os.statvfs(folder)
        free = status.f_bavail * status.f_frsize / 1e6
        if free < limits.min_free_disk_mb:
            return f"only {free:.0f} MB free on the disk (limits.min_free_disk_mb: {limits.min_free_disk_mb:g})"
        if status.f_files and not status.f_favail:
            return "the disk has room for no further file (no inodes)"
        taken: list[int] = []
        try:
            for _ in range(SPARE):
                taken += os.pipe()
        finally:
            for fd in taken:
                os.close(fd)
    except OSError as error:
        return f"no room to start anything: {error.strerror}"
    return ""


class Health:
    """Looked at once a turn."""

    def __init__(self, path: str, folder: str, tell: Callable[[str, str, str], None]) -> None:
        self._path = path
        self._folder = folder  # on the disk that has to have room
        self._tell = tell
        self._fd = -1
        self._beat_at = 0.0
        self._lack = ""  # why the last start failed
        self._again_at = 0.0  # lived seconds: when one is tried after that
        self._wait = 0.0
        self._looked_at = -LOOK_SECONDS  # lived seconds
        self._limits: LimitsConfig | None = None  # those of that look
        self._reason = ""  # that this machine has no room, as it was then
        self.halted = ""  # why nothing is started; "" if all is well
        self._said: dict[str, str] = {}  # what else `status` has to know
        self.before = 0.0  # when the dispatcher before us last beat (epoch seconds)

    def open(self) -> None:
        """Take the file in hand. An alert that was given before a restart is not given again."""
        self.before = os.stat(self._path).st_mtime if os.path.exists(self._path) else 0.0
        self._take()
        try:
            self.halted = str(parse_mapping(read_bytes(self._path)).get("halted") or "")
        except Exception:  # noqa: BLE001 (torn, foreign: it is only a hint)
            self.halted = ""
        self._write(0.0)

    def beat(self, lived: float) -> None:
        """The dispatcher lives."""
        if self._fd >= 0 and lived >= self._beat_at:
            self._beat_at = lived + BEAT_SECONDS
            if not self._is_there():
                with suppress(OSError):
                    self._take()
                    self._write(0.0)
            os.utime(self._fd)

    def failed(self, error: OSError, lived: float) -> None:
        """A claim or a start failed, for lack of room or of a permission: the next one is an attempt, after a while."""
        what = "no room to start anything" if is_lack(error) else "the disk lets nothing be claimed or started"
        self._lack = f"{what}: {error.strerror or error}"
        self._wait = min(2 * self._wait or 1.0, MOST_SECONDS)
        self._again_at = lived + self._wait

    def started(self) -> None:
        """A start went well, or there is nothing to start."""
        self._lack, self._wait, self._again_at = "", 0.0, 0.0

    def has_room(self, limits: LimitsConfig, down: str, waits: bool, busy: bool, wall: float, lived: float) -> bool:
        """Whether something may be started now. `down` says why no agent can work, if none can.

        Tells, once for each time that nothing can be started, and once when that is over.
        """
        if not waits:
            self.started()
        if self._reason or limits is not self._limits or lived - self._looked_at >= LOOK_SECONDS:
            self._reason, self._limits, self._looked_at = no_room(self._folder, limits), limits, lived
        reason = self._reason
        room = not reason and lived >= self._again_at
        if not reason and self._lack:
            reason = f"{self._lack}; tried again and again"
        if not reason and down and (self.halted.startswith(NOBODY) if busy else waits):
            reason = NOBODY + down
        if bool(reason) != bool(self.halted):
            if reason:
                self._tell("alert", "", f"nothing is started: {reason}. What waits keeps its place")
            else:
                self._tell("resumed", "", "work goes on: what was lacking is there again")
        if reason != self.halted:
            self.halted = reason
            self._write(wall)
        return room

    def unread(self, silent: Mapping[str, str], wall: float) -> None:
        """Which files of pending/ cannot be read now (name → why), for `status`."""
        text = ""
        for name, why in silent.items():
            more = f" ({len(silent) - 1} more)" if len(silent) > 1 else ""
            text = f"tasks/pending/{printable(name, 100)}{more}: {why}"
            break
        self.say("unread", text, wall)

    def say(self, what: str, text: str, wall: float) -> bool:
        """For `status`: `unread`, or why what has ended cannot be `unrecorded`; "" once that is over. Whether it is new."""
        if is_new := text != self._said.get(what, ""):
            self._said[what] = text
            self._write(wall)
        return is_new

    def patience(self, lived: float) -> float:
        """Seconds until there is something to be done here."""
        if self._lack and not self.halted:  # a start has just failed: it is told at once
            return 0.0
        due = [self._beat_at, *([self._again_at] if self._again_at > lived else [])]
        return max(0.0, min(due) - lived) if self._fd >= 0 else 3600.0

    def _take(self) -> None:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd

    def _is_there(self) -> bool:
        """Whether the file that we hold still has its name: of one that was deleted nobody would see the beat."""
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._fd))
        except OSError:
            return False

    def _write(self, wall: float) -> None:
        """In place, over a block that is there already."""
        if self._fd < 0:
            return
        halted = {"halted": self.halted[:800], "since": utc(wall)} if self.halted else {}
        text = to_yaml(halted | {what: text[:400] for what, text in self._said.items() if text})
        try:
            os.pwrite(self._fd, text.ljust(BLOCK, b"\n"), 0)
        except OSError:
            pass
