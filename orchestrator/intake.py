"""From a file in pending/ to a waiting entry, or to rejected/ with a reason.

A file that is still written is left alone until it is whole. An id that was used is not run
again because its file came back (`returned.py`). Bad files delay no good one: what was read and
is no task is put aside, which takes longest, when all the others have been read.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from orchestrator import history, plain
from orchestrator.config import Config
from orchestrator.errors import InvalidTask, Refused
from orchestrator.names import counted, natural, page_name, printable
from orchestrator.reading import StillWritten, may_be_task, read_bytes
from orchestrator.registry import wants
from orchestrator.returned import came_back
from orchestrator.spool import Spool
from orchestrator.states import State
from orchestrator.task import Task, parse
from orchestrator.waiting import Attempt, Entry, Stamp, Waiting

SETTLE_SECONDS = 0.05  # before a file that is being written is looked at again
EMPTY_SECONDS = 2.0  # an editor creates an empty file first and fills it then
BAD_LIMIT = 3  # of those that are to be put aside, in one go: then what waits has its turn
DOUBT_LIMIT = 100  # of those that are read and come to nothing, in one go

Tell = Callable[..., None]  # kind, task id, one line; more, if there is


class Intake:
    """Keeps a `Waiting` index in step with pending/."""

    def __init__(
        self,
        queue: Spool,
        config: Config,
        agents: Sequence[str],
        tell: Tell,
        lives: Callable[[str], bool] = lambda task_id: False,
    ) -> None:
        self.queue = queue
        self.config = config
        self.agents = agents
        self.waiting = Waiting(config.queue.promote_low_after_minutes * 60)
        self._tell = tell
        self._lives = lives  # whether a run of that task lives
        self._looked = False  # at all of pending/, once
        # Of what lies there at the start, by id and when it came: whether nobody has told of it yet.
        self.untold: Callable[[str, float], bool] = lambda task_id, came: False
        self._unsettled: dict[str, float] = {}  # name → when to look again (epoch seconds)
        self._behind: deque[str] = deque()  # not read yet: too many before them came to nothing
        self._doubtful: deque[str] = deque()  # read, and no task; read again and put aside when none is behind
        self._put_aside: list[tuple[str, str, str]] = []  # to be told once it is durable

    def look(self, names: Iterable[str] | None, now: float) -> None:
        """Bring the index up to date with these files; with all of pending/ if None."""
        again = [name for name, at in self._unsettled.items() if at <= now]
        if names is None:
            present = {entry.name for entry in self.queue.pending_files()}
            for name in [name for name in self.waiting.by_name if name not in present]:
                self.waiting.take(self.waiting.by_name[name].task.id)
            self._unsettled = {name: at for name, at in self._unsettled.items() if name in present}
            self._recheck_dependencies(now)
            candidates = present.difference(self._behind, self._doubtful)
        else:
            candidates = {*names, *again}
        found = {name: status.st_mtime for name in candidates if (status := self._changed(name, now))}
        self._behind.extendleft(sorted(found, key=lambda name: (found[name], natural(name)), reverse=True))
        self.go_on(now, len(found))
        if not self._looked and names is None:
            self._looked = True  # what lies there at the start is no news to those who watch, one by one
            if len(self.waiting):
                self._tell("waiting", "", counted(self.waiting, "task"))

    def _changed(self, name: str, now: float) -> os.stat_result | None:
        """What it is now; None if it is gone, or waits as it is."""
        known = self.waiting.by_name.get(name)
        try:
            status = os.lstat(self._path(name))
        except OSError as error:
            if known:
                self.waiting.take(known.task.id)
            self._unsettled.pop(name, None)
            if not plain.is_lasting(error):
                self._unsettled[name] = now + 1.0  # the next scan may be a minute away
            return None
        if known and known.stamp == _stamp(status):
            return None
        return status

    def go_on(self, now: float, count: int = 1 << 60) -> bool:
        """Read so many files that nobody has looked at yet, until too many of them come to nothing; whether some are
        left."""
        most = len(self._doubtful) + DOUBT_LIMIT
        while self._behind and count and len(self._put_aside) < BAD_LIMIT and len(self._doubtful) < most:
            count -= 1
            if status := self._changed(name := self._behind.popleft(), now):
                self._take_up(name, status, now)
        for _ in range(0 if self._behind else min(BAD_LIMIT, len(self._doubtful))):  # also if the disk takes none
            if status := self._changed(name := self._doubtful.popleft(), now):
                self._take_up(name, status, now, again=True)
        if self._put_aside:
            try:
                self.queue.sync()
            except OSError:
                return False  # a full disk: told with the next look
            told, self._put_aside = self._put_aside, []
            for kind, task_id, text in told:
                self._tell(kind, task_id, text)
        return bool(self._behind)

    def reconsider(self, now: float) -> None:
        """A person may have said `retry` for what waits for its next attempt; or the clock was set back."""
        for entry in [one for one in self.waiting if one.attempt.not_before > now]:
            entry.attempt = self._attempts(entry.task.id, now)
            self.waiting.take(entry.task.id)
            self.waiting.put(entry, entry.unmet, now)

    def next_look(self) -> float | None:
        """When the next file is due: one that was being written, or has not been read yet (epoch seconds)."""
        return 1.0 if self._behind or self._doubtful or self._put_aside else min(self._unsettled.values(), default=None)

    def current(self, entry: Entry, now: float) -> bytes | None:
        """Just before the claim: the file's content, if it is the one that was read, whole, and may start.

        If not it is looked at anew, and None.
        """
        try:
            status = os.lstat(self._path(entry.name))
            if entry.stamp == _stamp(status):
                content = read_bytes(self._path(entry.name), settled=True)
                if problem := self._missing_files(entry.task):
                    self._reject(entry.name, entry.task.id, problem)
                    return None
                self.catch_up(entry, now)
                if entry.attempt.not_before <= now:
                    return content
                self.waiting.take(entry.task.id)
                self.waiting.put(entry, entry.unmet, now)
                return None
        except (OSError, InvalidTask, StillWritten):
            pass
        self.waiting.take(entry.task.id)
        self._unsettled[entry.name] = now
        return None

    def catch_up(self, entry: Entry, now: float) -> None:
        """Count its runs anew if another process has run it since, and it came back as the same file."""
        if os.path.exists(self.queue.run_folder(entry.task.id, entry.attempt.made + 1)):
            entry.attempt = self._attempts(entry.task.id, now)

    # -- one file ---------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return f"{self.queue.tasks}/{State.PENDING}/{name}"

    def _take_up(self, name: str, status: os.stat_result, now: float, again: bool = False) -> None:
        path = self._path(name)
        if known := self.waiting.by_name.get(name):
            self.waiting.take(known.task.id)  # edited while it waits
        if not again and not may_be_task(path, status):
            self._doubtful.append(name)
            return
        task_id = ""
        try:
            content = read_bytes(path, settled=True)
            if not content.strip() and now - status.st_mtime < EMPTY_SECONDS:
                self._unsettled[name] = now + SETTLE_SECONDS
                return
            task = parse(content, name.rpartition(".")[0])
            task_id = task.id
            if self._lives(task.id) and not plain.is_there(self.queue.path(State.ASSIGNED, task.id)):
                # Moved back by hand while it runs: that run is ended first, and never are there two.
                self._unsettled[name] = now + 0.5
                return
            if told := came_back(self.queue, task.id, name, content):
                self._put_aside.append(("returned", task.id, told))
                return
            if self._stands_already(task, name):
                return
            self._check(task)
            after = os.lstat(path)
            if _stamp(after) != _stamp(status):
                self._unsettled[name] = now + SETTLE_SECONDS
                return
            attempt = self._attempts(task.id, now)
        except StillWritten:  # less and less often: its end rings, too
            self._unsettled[name] = now + min(max(SETTLE_SECONDS, (now - status.st_mtime) / 4), 1.0)
            return
        except FileNotFoundError:
            self._unsettled.pop(name, None)
            return
        except OSError as error:  # no descriptors, no memory, a bad disk: not the file's fault
            self._unsettled[name] = now + 1.0
            self._tell("error", task_id, f"tasks/pending/{printable(name)}: not read yet: {error.strerror}")
            return
        except InvalidTask as reason:
            self._unsettled.pop(name, None)
            if again:
                self._reject(name, task_id, str(reason))
            else:
                self._doubtful.append(name)
            return
        self._unsettled.pop(name, None)
        self._admit(task, name, status, attempt, now)

    def _admit(self, task: Task, name: str, status: os.stat_result, attempt: Attempt, now: float) -> None:
        priority = self.config.queue.default_priority if task.priority is None else task.priority
        entry = Entry(task, name, min(status.st_mtime, now), _stamp(status), priority, attempt)
        unmet = [one for one in task.dependencies if not self._is_completed(one)]
        self.waiting.put(entry, unmet, now)
        if cycle := self.waiting.cycle(task):
            self.waiting.take(task.id)
            shown = cycle if len(cycle) <= 10 else [*cycle[:5], "…", *cycle[-4:]]
            self._reject(name, task.id, f"closes a cycle of dependencies: {' → '.join(shown)}; remove one of them")
            return
        if not attempt.made and self._looked:
            self._tell("submitted", task.id, task.title)
        elif not attempt.made and self.untold(task.id, status.st_ctime):
            self._tell("submitted", task.id, task.title, at=status.st_ctime, found=True)

    def _attempts(self, task_id: str, now: float) -> Attempt:
        found = history.attempts(self.queue, task_id)
        # An attempt from the future was made before the clock was put right: nobody knows how long it has been.
        return found._replace(not_before=0.0) if found.last_at > now + 1.0 else found

    def _is_completed(self, task_id: str) -> bool:
        return plain.is_there(self.queue.path(State.COMPLETED, task_id)) or (
            f"/{State.COMPLETED}/" in self.queue.archived(task_id)
        )

    def _recheck_dependencies(self, now: float) -> None:
        # Files may be moved by hand, too; the folders are the truth.
        for one in self.waiting.unmet():
            if self._is_completed(one):
                self.waiting.completed(one, now)

    def _stands_already(self, task: Task, name: str) -> bool:
        """Whether another file in pending/ has this id; the same bytes are dropped, others refused."""
        folded = self.waiting.same_but_case(task.id)
        other = self.waiting.by_id.get(folded or task.id)
        if other is None or other.name == name:
            return False
        mine, his = os.lstat(self._path(name)), os.lstat(self._path(other.name))
        if os.path.samestat(mine, his) and mine.st_nlink == 1:
            return True  # one file: its folder takes `A` for `a`, or composed letters for decomposed ones
        if folded:
            raise InvalidTask(f"{task.id} differs from {folded} in upper and lower case only; choose another id")
        where = f"tasks/pending/{printable(other.name)}"
        if not self.queue.drop_copy(self._path(name), self._path(other.name)):
            raise InvalidTask(f"{task.id} waits already ({where}); give this one an id of its own")
        self._put_aside.append(("returned", task.id, f"a copy of {where} was dropped; it waits once"))
        return True

    def _check(self, task: Task) -> None:
        if task.preferred_agent and (problem := wants(self.agents, task.preferred_agent)):
            raise InvalidTask(f"preferred_agent: {problem}; there are: {', '.join(self.agents)}")
        # What a dependency is going to write need not be there yet; it is looked for at the claim.
        if all(self._is_completed(one) for one in task.dependencies) and (problem := self._missing_files(task)):
            raise InvalidTask(problem)

    def _missing_files(self, task: Task) -> str:
        pages = () if isinstance(task.context_required, bool) else task.context_required
        paths = (*task.context_files, *(f"context/{page_name(page)}" for page in pages))
        if not paths:
            return ""
        root = os.path.realpath(self.queue.root)
        for path in paths:
            real = os.path.realpath(f"{root}/{path}")
            if real != root and not real.startswith(root + "/"):
                return f"context file {printable(path)!r} leads out of the root; copy it in"
            if not os.path.exists(real):
                return f"context file {printable(path)!r} does not exist; create it or correct the name"
        return ""

    def _reject(self, name: str, task_id: str, reason: str) -> None:
        self._unsettled.pop(name, None)
        if entry := self.waiting.by_name.get(name):
            self.waiting.take(entry.task.id)
        try:
            target = self.queue.reject(self._path(name), State.PENDING, reason)
        except FileNotFoundError:
            return
        except (OSError, Refused) as error:
            self._tell("error", task_id, f"tasks/pending/{printable(name)}: cannot be put aside: {error}")
            return
        kept = printable(os.path.relpath(target, self.queue.root), 400)
        self._put_aside.append(("rejected", task_id, f"tasks/pending/{printable(name)}: {reason} (kept as {kept})"))


def _stamp(status: os.stat_result) -> Stamp:
    return (status.st_ino, status.st_mtime_ns, status.st_size)
