"""A power cut at every moment: the disk as it may be then, and a start on it.

The calls of a scene are recorded in a forked child: after each one the tree is compared with what it was, so
that what agents write is seen, too. A name is certain once the folder it stands in was synced after it was
made or changed; data are certain once their file was synced. Everything else may or may not be there. (A rename
is taken to happen as a whole, as every file system with a journal or copy-on-write has it.)

For each moment these disks are made: nothing uncertain is there; all names, but the data empty, or torn; each
uncertain name alone missing, and alone there; and the names in the order of a journal, cut anywhere.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from inside import Trial, Tried, drain, in_child, play, reap
from inside import run as try_all
from judge import Memory, remember, told, violations
from scenes import Scene
from stage import Stage
from trap import REAL, REAL_OPEN, Call, Trap

from orchestrator import process

SCENES = ("add", "run", "retry", "person", "cancel", "rejected", "archive")
Name = tuple[int, str]  # (folder, name)


class Step(NamedTuple):
    """Names that change together, or data of a file, or a sync of a file or folder."""

    names: dict[Name, int | None]
    data: dict[int, bytes]
    synced: int = 0


class Moment(NamedTuple):
    """So many steps have been made; this is what had been told, and had been executed."""

    steps: int
    ledger: tuple[str, ...]
    memory: Memory


class Disk(NamedTuple):
    """One disk, as it may be after a cut."""

    moment: Moment
    how: str
    folders: tuple[str, ...]
    files: tuple[tuple[str, int, bytes], ...]  # path, which file it is, content


class Recorder:
    """Takes down what is done to a tree. Folders and files have numbers of our own; 1 is the root."""

    def __init__(self, stage: Stage, before: Memory) -> None:
        self.stage = stage
        self.before = before
        self.steps: list[Step] = []
        self.moments: list[Moment] = []
        self._numbers: dict[int, int] = {}  # inode → ours
        self._last = 1
        self._names: dict[Name, int] = {}
        self._data: dict[int, bytes] = {}
        self._stamps: dict[int, tuple[int, int]] = {}
        self._look()
        self.start = Step({key: one for step in self.steps for key, one in step.names.items()}, dict(self._data))
        self.steps.clear()

    def rule(self, call: Call) -> Any:
        """For the trap."""
        self.moment()
        self._look()
        number = 0
        if call.name == "fsync":
            number = self._numbers.get(os.fstat(call.args[0]).st_ino, 0)
        given = call.act()
        self._look()
        if number:
            self.steps.append(Step({}, {}, number))
        return given

    def moment(self) -> None:
        """What is known now holds from the last step on."""
        ledger, said = tuple(self.stage.ledger()), Counter(told(self.stage)) - Counter(self.before.told)
        if self.moments and self.moments[-1][:2] == (len(self.steps), ledger):
            return
        now = remember(self.stage)
        certain = {task for kind, task, _ in said if kind in ("added", "completed", "failed", "review", "cancelled")}
        tasks = {**self.before.tasks, **{one: now.tasks[one] for one in certain if one in now.tasks}}
        ended = {one: now.ended[one] for one in certain if one in now.ended}
        self.moments.append(Moment(len(self.steps), ledger, Memory(tasks, ended, ledger, tuple(said))))

    def _look(self) -> None:
        names: dict[Name, int] = {}
        inodes: dict[int, int] = {os.stat(self.stage.root).st_ino: 1}
        data: dict[int, bytes] = {}
        folders = [(self.stage.root, 1)]
        while folders:
            path, folder = folders.pop()
            for entry in REAL["scandir"](path):
                try:
                    status = entry.stat(follow_symlinks=False)
                    number = self._numbers.get(status.st_ino) or inodes.get(status.st_ino)
                    if number is None:
                        self._last += 1
                        number = self._last
                    if entry.is_dir():
                        folders.append((entry.path, number))
                    elif (stamp := (status.st_mtime_ns, status.st_size)) != self._stamps.get(number):
                        with REAL_OPEN(entry.path, "rb") as file:
                            data[number] = file.read()
                        self._stamps[number] = stamp
                except FileNotFoundError:
                    continue
                names[folder, entry.name] = inodes[status.st_ino] = number  # type: ignore[assignment]
                inodes[status.st_ino] = number
        changed: dict[Name, int | None] = {key: one for key, one in names.items() if self._names.get(key) != one}
        changed |= {key: None for key in self._names if key not in names}
        data = {one: content for one, content in data.items() if self._data.get(one) != content}
        # What an agent did in that very moment is no part of our call: each file by itself, with all names of a move.
        moves: dict[int, dict[Name, int | None]] = {}
        for key, one in changed.items():
            moves.setdefault(self._names[key] if one is None else one, {})[key] = one
        self.steps += [Step(names_of_one, {}) for names_of_one in moves.values()]
        if data:
            self.steps.append(Step({}, data))
        self._names, self._numbers = names, inodes
        self._data |= data


def disks(start: Step, steps: list[Step], moment: Moment) -> Iterator[Disk]:
    """Every disk that there may be at this moment."""
    done = steps[: moment.steps]
    synced: dict[int, int] = {}  # the last sync of each
    for place, step in enumerate(done):
        if step.synced:
            synced[step.synced] = place
    uncertain = [place for place, step in enumerate(done) if step.names and not _is_certain(place, step, synced)]
    latest, safe = dict(start.data), dict(start.data)
    for step in done:
        latest |= step.data
        if step.synced in latest:
            safe[step.synced] = latest[step.synced]
    empty = {number: safe.get(number, b"") for number in latest}
    torn = {number: _torn(empty[number], content) for number, content in latest.items()}

    def disk(how: str, missing: set[int], data: dict[int, bytes]) -> Disk:
        names: dict[Name, int] = {key: one for key, one in start.names.items() if one is not None}
        for place, step in enumerate(done):
            if place not in missing:
                for key, one in step.names.items():
                    if one is None:
                        names.pop(key, None)
                    else:
                        names[key] = one
        return _laid_out(moment, how, names, data)

    every = set(uncertain)
    yield disk("nothing that was not synced", every, empty)
    yield disk("all names, unsynced data empty", set(), empty)
    yield disk("all names, unsynced data torn", set(), torn)
    for place in uncertain:
        yield disk(f"name {place} alone missing", {place}, latest)
        yield disk(f"name {place} alone there", every - {place}, empty)
        yield disk(f"a journal up to name {place}", {one for one in every if one > place}, empty)


def _is_certain(place: int, step: Step, synced: dict[int, int]) -> bool:
    made = [folder for (folder, _), one in step.names.items() if one is not None]
    return all(synced.get(folder, -1) > place for folder in made or [folder for folder, _ in step.names])


def _torn(safe: bytes, content: bytes) -> bytes:
    whole = len(safe) if content.startswith(safe) else 0
    return content[: whole + (len(content) - whole) // 2]


def _laid_out(moment: Moment, how: str, names: dict[Name, int], data: dict[int, bytes]) -> Disk:
    paths = {1: ""}
    folders: list[str] = []
    files: list[tuple[str, int, bytes]] = []
    inside: dict[int, list[tuple[str, int]]] = {}
    for (folder, name), number in names.items():
        inside.setdefault(folder, []).append((name, number))
    left = [1]
    while left:
        folder = left.pop()
        for name, number in sorted(inside.get(folder, [])):
            path = f"{paths[folder]}/{name}"
            if number in data:
                files.append((path, number, data[number]))
            else:
                paths[number] = path
                folders.append(path)
                left.append(number)
    return Disk(moment, how, tuple(folders), tuple(files))


class Cut(Trial):
    """A scene that was recorded once, and its disks."""

    def record(self) -> list[Disk]:
        """Each different disk once."""
        stage = self.stage()

        def act() -> tuple[Step, list[Step], list[Moment]]:
            recorder = Recorder(stage, self.memory)
            trap: Callable[[Call], Any] = recorder.rule
            play(stage, self.scene.steps, Trap(trap))
            recorder.moment()
            return recorder.start, recorder.steps, recorder.moments

        status, found = in_child(act)
        assert status == 0, f"{self.scene.name}: cannot be recorded"
        stage.remove()
        start, steps, moments = found
        different: dict[str, Disk] = {}
        for moment in moments:
            for disk in disks(start, steps, moment):
                key = repr((disk.folders, disk.files, moment.ledger, moment.memory.told)).encode()
                different.setdefault(hashlib.sha256(key).hexdigest(), disk)
        return list(different.values())

    def start_on(self, disk: Disk) -> Tried:
        """Lay it out, start on it in another boot, and judge."""
        self._count += 1
        stage = self.prepared.copy(f"{self.folder}/{os.getpid()}-{self._count}")
        for above, folders, names in os.walk(stage.root, topdown=False):
            for name in names:
                os.unlink(f"{above}/{name}")
            for name in folders:
                os.rmdir(f"{above}/{name}")
        for path in disk.folders:
            os.mkdir(stage.root + path)
        first: dict[int, str] = {}
        for path, number, content in disk.files:
            if number in first:
                os.link(first[number], stage.root + path)
            else:
                first[number] = stage.root + path
                with open(first[number], "wb") as file:
                    file.write(content)
        with open(f"{stage.world}/ledger", "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in disk.moment.ledger)

        def start() -> None:
            process.boot_id = lambda: "after the cut"  # type: ignore[assignment]
            drain(stage, self.scene)

        status, _ = in_child(start)
        found = [f"starting again: status {status}"] if status else []
        found += violations(self.scene, stage, disk.moment.memory, "power")
        if found:
            stage.end_members()
        reap()
        stage.remove()
        return Tried(self.scene.name, disk.how, True, tuple(found))  # type: ignore[arg-type]


def run(scene: Scene, folder: str, every: int, jobs: int) -> list[Tried] | None:
    """Try the disks of a scene; None if this scene is not for it."""
    if scene.name not in SCENES:
        return None
    cut = Cut(scene, f"{folder}/{scene.name}")
    found = cut.record()
    every = min(every, max(1, len(found) // 4))
    return try_all(cut, found[zlib.crc32(scene.name.encode()) % every :: every], "start_on", jobs)
