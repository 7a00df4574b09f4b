"""Start a run in its workplace; stop it kindly, then firmly.

The agent becomes the leader of a session of its own and outlives us. A one-line `sh` around it
writes its exit status to a file, so that a dispatcher born later learns it too. The locked
descriptor of `alive` is inherited: the kernel says who is alive, not a pid in a file.
"""

from __future__ import annotations

import fnmatch
import functools
import os
import re
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple, Protocol

from orchestrator import process, runs
from orchestrator.process import Child, Identity

# Its first word goes into `alive`: from then on the run has begun. It opens the output itself, so that
# it is made while the dispatcher goes on. A shell that has a trap set waits for its child, and then
# writes; the child itself gets the signal's default. `echo` is part of the shell: no further process.
# Where a full disk takes no status, `alive` may take it: that has a block already.
_FOLDER = f'"${process.RUN_FOLDER}'
WRAPPER = (
    f'echo "pid: $$" >>{_FOLDER}/alive"; cd -P "$1" || exit 126; unset OLDPWD; '
    'trap : INT TERM HUP QUIT; ( shift 2; "$@" ) '
    f'<"$2" >>{_FOLDER}/stdout.log" 2>>{_FOLDER}/stderr.log"; s=$?; '
    f'[ -h {_FOLDER}" ] || echo $s >{_FOLDER}/exit" || echo "exit: $s" >>{_FOLDER}/alive"; exit $s'
)
_QUIET = ((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0), *((os.POSIX_SPAWN_DUP2, 0, fd) for fd in (1, 2)))
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)  # by Python; a program expects to die of them
# A task's own script is run by the wrapper's child itself: to load a second shell would cost as much as the first. Not
# if it asks which process it is: it would be told the wrapper's number.
_SCRIPT = ("/bin/sh", "-e", "-c")
_ASKS = re.compile(r"\$\{?[$0]|PPID")
_SHORT = 30_000  # characters: with a word before it, it is not longer than an argument may be
TERM_SECONDS = 5.0  # between TERM and KILL
AT_ONCE = -TERM_SECONDS  # a grace that leaves no time at all


class Started(NamedTuple):
    """A run that has just been started."""

    process: Child
    identity: Identity


class Launch(Protocol):
    """Where a run is started: the seam for other places than this machine's own processes."""

    def start(
        self, folder: str, argv: tuple[str, ...], env: Mapping[str, str], workplace: str, stdin_path: str
    ) -> Started:
        """Start it. Raises OSError if the machine has no room for it."""
        ...


class LocalLaunch:
    """A process of this machine."""

    def __init__(self) -> None:
        # What we open ourselves no agent inherits; this is for what whoever started us left open.
        for fd in map(int, os.listdir("/dev/fd")):
            with suppress(OSError):  # the listing's own
                os.set_inheritable(fd, fd <= 2)

    def start(
        self, folder: str, argv: tuple[str, ...], env: Mapping[str, str], workplace: str, stdin_path: str
    ) -> Started:
        """Start `argv` with its output going straight to files in `folder`. Raises OSError."""
        alive = runs.take_alive(folder)
        try:
            for path in (workplace, stdin_path):
                os.stat(path)  # the wrapper could only fail of it
            if argv[:3] == _SCRIPT and len(argv[3]) < _SHORT and not _ASKS.search(argv[3]):
                argv = ("eval", f"set -e --; {argv[3]}")
            os.set_inheritable(alive, True)
            # Not `subprocess`: it costs three times as much, and holds the loop up for twice as long.
            child = Child(
                os.posix_spawn(
                    "/bin/sh",
                    ("/bin/sh", "-c", WRAPPER, "orchestrate-run", workplace, stdin_path, *argv),
                    {**env, process.RUN_FOLDER: folder},
                    file_actions=_QUIET,
                    setsid=True,
                    setsigdef=_IGNORED,
                )
            )
        finally:
            os.close(alive)
        try:
            return Started(child, process.identity(child.pid))
        except OSError:  # no descriptors: it has started all the same, and nobody else gets its number before we look
            return Started(child, Identity(child.pid, 0, process.boot_id()))


def environment(
    inherited: Mapping[str, str],
    secrets: tuple[str, ...],
    needed: tuple[str, ...],
    added: Mapping[str, str],
) -> dict[str, str]:
    """What an agent inherits: everything but the secrets that it does not need."""
    kept = {name: value for name, value in inherited.items() if not _matches(name, secrets) or _matches(name, needed)}
    return {**kept, **added}


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return bool(patterns) and _compiled(patterns).match(name.upper()) is not None


@functools.lru_cache(maxsize=64)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern.upper()) for pattern in patterns))


class Stopping:
    """The way to stop a run that works for every program: INT, the grace, TERM, KILL, then the rest.

    `step` is called again and again and never waits. Tools of an agent live in sessions of their
    own and survive even a KILL of its group; they are found by what they inherited.
    """

    def __init__(self, leader: Identity, folder: str, grace: float, now: float) -> None:
        self.leader = leader
        self.folder = folder
        self._steps = [
            (now, signal.SIGINT),
            (now + grace, signal.SIGTERM),
            (now + grace + TERM_SECONDS, signal.SIGKILL),
        ]
        self.next_at = now

    def step(self, now: float) -> None:
        """Send what is due by `now` (lived seconds). After the last signal everything is killed again and again."""
        while self._steps and now >= self._steps[0][0]:
            number = self._steps[0][1]
            process.signal_group(self.leader, number)
            process.signal_group(self.leader, signal.SIGCONT)  # one that is stopped hears nothing before
            if number != signal.SIGINT:
                for pid in process.members(self.folder):
                    process.signal_member(pid, self.folder, number)
            self._steps.pop(0)
            self.next_at = self._steps[0][0] if self._steps else now + 0.5
        if not self._steps and now >= self.next_at:
            for pid in process.members(self.folder):
                process.signal_member(pid, self.folder, signal.SIGKILL)
            self.next_at = now + 0.5


def end_leftovers(folder: str, seconds: float = 2.0) -> int:
    """End what a run left behind when it ended itself: TERM, a moment, KILL; how many there were.

    Waits at most `seconds`; used where nothing else waits (the command line, the last turn).
    """
    found = process.members(folder)
    for number, limit in ((signal.SIGTERM, seconds), (signal.SIGKILL, 1.0)):
        told, deadline = set[int](), time.monotonic() + limit
        while ((left := process.members(folder)) or runs.is_alive(folder)) and time.monotonic() < deadline:
            for pid in set(left) - told:
                process.signal_member(pid, folder, number)
            told.update(left)
            time.sleep(0.02)
    return len(found)
