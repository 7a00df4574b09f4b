"""Ids for tasks that bring none. Sequential ones are for people; unique ones for branches and clones."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import islice

from orchestrator import plain
from orchestrator.names import id_from_stem, id_problem
from orchestrator.places import Places, is_task_name
from orchestrator.states import ENDED, State

_SEQUENTIAL = re.compile(r"task_\d+\.yaml")
_STATED = re.compile(rb"^id:[ ]*[\"']?([^\s\"'#]+)", re.MULTILINE)
# `id: `, `"id": "`, `{id: `, a comment between, as a block: what follows may be the id (a task has no tags and
# anchors). A thousand files that only name it, as a dependency, are not parsed for it.
_STATES = re.compile(rb"\bid[\"']?\s*:\s*(?:(?:#[^\n]*\n|[|>][-+\d]*\s)\s*)*[\"']?([^\s\"'#,}]+)")
FEW = 1000  # names in pending/: so many are all looked at for one new id, and for whether the queue is full
MANY = 100  # new ids: for so many a folder with few names is listed, and not asked for each


def next_ids(queue: Places, count: int = 1) -> list[str]:
    """The next of task_001, task_002, …; the caller holds the lock of ids.

    While few wait, what files of other names state is read. While many do, whoever reads such a file says so (`met`),
    and of two files with one id the later one is refused.
    """
    names = few(queue)
    others = stated(queue, names) if names is not None else {}
    number = _hint(queue, "last_id") or _highest_number(queue)
    is_used = _used_by_lists(queue) if count >= MANY else partial(_used, queue)
    found: list[str] = []
    tried = 0
    while len(found) < count:
        number += 1
        tried += 1
        task_id = f"task_{number:03d}"
        if task_id not in others and not is_used(task_id):
            found.append(task_id)
        elif tried == len(found) + FEW:  # the hint is far behind
            number = max(number, _highest_number(queue))
    _keep(queue, "last_id", number)
    return found


def met(queue: Places, name: str, task_id: str) -> None:
    """A file of another name states this id: it is not given to a new one, also while too many wait to be read."""
    if name != f"{task_id}.yaml" and _SEQUENTIAL.fullmatch(f"{task_id}.yaml"):
        number = int(task_id[5:])
        if number > _hint(queue, "last_id") and number < 10**12:
            _keep(queue, "last_id", number)


def few(queue: Places) -> list[str] | None:
    """The names in pending/, unless they are many: a folder of a million is not listed for one new task."""
    return _few_in(f"{queue.tasks}/{State.PENDING}")


def _few_in(folder: str) -> list[str] | None:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, FEW + 1)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return names if len(names) <= FEW else None


def room(queue: Places, wanted: int, max_size: int) -> bool:
    """Whether so many more may wait; the caller holds the lock of ids.

    While many wait, they are counted again when half of the room that was seen last has been taken: what people drop
    meanwhile is not refused by anybody, and is counted then.
    """
    if (names := few(queue)) is not None:
        return len(names) + wanted <= max_size or sum(map(is_task_name, names)) + wanted <= max_size
    known, left = _hints(queue, "room", 2)
    if known != max_size or left < wanted:
        free = max_size - queue.count(State.PENDING)
        if free < wanted:
            return False
        left = (free + wanted) // 2
    _keep(queue, "room", max_size, left - wanted)
    return True


def _hint(queue: Places, name: str) -> int:
    return _hints(queue, name, 1)[0]


def _hints(queue: Places, name: str, count: int) -> list[int]:
    """Numbers that were kept; they may be wrong or gone."""
    try:
        with open(f"{queue.own}/{name}", encoding="ascii", opener=plain.opener) as file:
            found = [max(0, int(word)) for word in file.read(100).split()]
    except (OSError, ValueError):
        found = []
    return found if len(found) == count else [0] * count


def _keep(queue: Places, name: str, *numbers: int) -> None:
    """In its place, and always as long: of a file that was cut, ext4 writes the new data at once, which takes a
    millisecond."""
    with suppress(OSError):
        fd = plain.opener(f"{queue.own}/{name}", os.O_WRONLY | os.O_CREAT)
        try:
            os.pwrite(fd, " ".join(map(str, numbers)).ljust(60).encode(), 0)
        finally:
            os.close(fd)


def _used(queue: Places, task_id: str) -> bool:
    # A folder in runs/ outlives a task file that somebody deleted; its id is not given twice.
    return bool(queue.state_of(task_id) or plain.is_there(f"{queue.runs}/{task_id}") or queue.archived(task_id))


def _used_by_lists(queue: Places) -> Callable[[str], bool]:
    """As `_used`, for many that are asked for at once."""
    folders = [f"{queue.tasks}/{state}" for state in (State.PENDING, State.ASSIGNED, *ENDED)]  # in the order of moves
    names: set[str] = set()
    long = []  # what has many names is asked for each
    for folder, suffix in [*((one, ".yaml") for one in (*folders, *queue.archives())), (queue.runs, "")]:
        if (found := _few_in(folder)) is None:
            long.append((folder, suffix))
        else:
            names.update(found)
    return lambda one: (
        one in names or f"{one}.yaml" in names or any(plain.is_there(f"{at}/{one}{suffix}") for at, suffix in long)
    )


def file_of(queue: Places, task_id: str) -> str:
    """The name of the file in pending/ that is this task's; "" if none is."""
    return files_of(queue, (task_id,)).get(task_id, "")


def files_of(queue: Places, wanted: Iterable[str]) -> dict[str, str]:
    """Id → the name of the file in pending/ that is this task's, of those of these that wait.

    One that bears the id is looked at first, and nothing else. Only for those that are not there, or state another id,
    all files of other names are searched, once for all: about a second for 100,000 files.
    """
    folder, found, left = f"{queue.tasks}/{State.PENDING}", {}, set()
    for task_id in wanted:
        for name in () if id_problem(task_id) else (f"{task_id}.yaml", f"{task_id}.yml"):
            if plain.is_there(f"{folder}/{name}") and stated_by(f"{folder}/{name}") in ("", task_id):
                found[task_id] = name
                break
            left.add(task_id)
    left -= found.keys()
    for name in queue.names(State.PENDING) if left else ():
        if _SEQUENTIAL.fullmatch(name) or not is_task_name(name):
            continue
        head = _head(f"{folder}/{name}")
        may_state = any(match[1].decode("utf-8", "replace") in left for match in _STATES.finditer(head))
        for task_id in ((_id_in(head, name) if may_state else ""), _named_like(name, head)):
            if task_id in left:
                found[task_id] = name
                left.remove(task_id)
        if not left:
            break
    return found


def _named_like(name: str, head: bytes) -> str:
    """The id that a file has from its name, if that cannot be one as it is and it states none."""
    stem = name.rpartition(".")[0]
    return id_from_stem(stem) if id_problem(stem) and not _STATED.search(head) else ""


def _id_in(head: bytes, name: str) -> str:
    from orchestrator.errors import InvalidTask
    from orchestrator.task import parse

    try:
        return parse(head, name.rpartition(".")[0]).id
    except InvalidTask:  # it is no task, or longer than this: its own words count
        match = _STATED.search(head)
        return match[1].decode("utf-8", "replace") if match else ""


def stated(queue: Places, names: Iterable[str]) -> dict[str, str]:
    """Ids that these files in pending/ of other names state (`login.yaml` with `id: task_007`) → the name."""
    found = {}
    for name in names:
        ours = not _SEQUENTIAL.fullmatch(name) and is_task_name(name)
        if ours and (task_id := stated_by(f"{queue.tasks}/{State.PENDING}/{name}")):
            found[task_id] = name
    return found


def stated_by(path: str) -> str:
    """The id that a file states, whatever else it may be; "" if it states none."""
    match = _STATED.search(_head(path))
    return match[1].decode("utf-8", "replace") if match else ""


def _head(path: str) -> bytes:
    try:
        fd = plain.unlinked(path, os.O_RDONLY)  # without a file object: a thousand of them are read for one new id
        try:
            return os.read(fd, 4096)
        finally:
            os.close(fd)
    except OSError as error:
        if not plain.is_lasting(error):
            raise
        return b""


def _highest_number(queue: Places) -> int:
    names = [name for state in State for name in queue.names(state)]
    for folder in (queue.runs, *(f"{queue.archive}/{m}/{s}" for m in _listed(queue.archive) for s in ENDED)):
        names += _listed(folder)
    numbers = (name[5:].split(".")[0].split("_")[0] for name in names if name.startswith("task_"))
    return max((int(n) for n in numbers if n.isdecimal() and len(n) < 12), default=0)


def unique_id() -> str:
    """An id that no other machine makes, sorted by time."""
    moment = time.time_ns() // 1_000_000
    return f"task_{time.strftime('%Y%m%d_%H%M%S', time.gmtime(moment // 1000))}_{os.urandom(4).hex()}"


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
