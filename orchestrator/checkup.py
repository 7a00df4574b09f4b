"""What a person or a bad disk did to a queue: found by names and the heads and tails of files, mended losing no byte.

What is wrong is moved aside, into tasks/rejected/ with its reason, or under a name that says so; nothing is deleted.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import NamedTuple

from orchestrator import files, plain, process, runs
from orchestrator.completed import CompletedList
from orchestrator.context import COMPLETED, NOTES, Context
from orchestrator.errors import InvalidTask, said
from orchestrator.names import id_problem, numbered, printable
from orchestrator.reading import parse_mapping, read_bytes
from orchestrator.recovery import restore_result
from orchestrator.runs import Result, read_result
from orchestrator.spool import Spool
from orchestrator.states import ENDED, Outcome, State

TAIL = 65536  # bytes of a journal that are looked at
_BLOCK = re.compile(rb"\n<!-- \S+/\d+ -->\n(?:- [^\n]*\n)+")  # what one result left on a page
STRENGTH = (State.ASSIGNED, State.COMPLETED, State.REVIEW, State.FAILED, State.PENDING)  # who keeps an id


class Fault(NamedTuple):
    """One inconsistency, and what mends it (None: it is only named)."""

    what: str
    text: str
    mend: Callable[[], object] | None = None


def faults(queue: Spool, context: Context) -> Iterator[Fault]:
    """Every inconsistency of a queue. Changes nothing."""
    yield from _folders(queue)
    ours = (partial(part, queue) for part in (_by_names, _journals, _agents, _other_machine))
    for part in (*ours, partial(_completed, context), partial(_pages, context)):
        try:
            yield from part()
        except OSError as error:
            yield Fault("folders", f"cannot be looked into: {said(error)}")


def _by_names(queue: Spool) -> Iterator[Fault]:
    names = {state: set(queue.names(state)) for state in (State.PENDING, State.ASSIGNED, *ENDED)}
    yield from _two_places(queue, names)
    for state in ENDED:
        yield from _results(queue, state, names[state])
    yield from _assigned(queue, names)
    yield from _runs(queue, names)


def _folders(queue: Spool) -> Iterator[Fault]:
    own = (f"{queue.root}/context", queue.own, f"{queue.own}/agents", f"{queue.own}/events")
    for path in (*(f"{queue.tasks}/{state}" for state in State), queue.runs, *own):
        shown = os.path.relpath(path, queue.root)
        if os.path.lexists(path) and not os.path.isdir(path):
            yield Fault("folders", f"{shown}: a file where a folder should be", partial(_make_way, path))
        elif os.path.isdir(path) and os.stat(path).st_mode & 0o700 != 0o700:
            mode = os.stat(path).st_mode & 0o7777 | 0o700
            yield Fault("folders", f"{shown}: its owner may not write there", partial(os.chmod, path, mode))


def _make_way(path: str) -> None:
    plain.aside(path, files_too=True)
    os.makedirs(path)


def _two_places(queue: Spool, names: dict[State, set[str]]) -> Iterator[Fault]:
    places: dict[str, list[State]] = {}
    for state in STRENGTH:
        for name in names[state]:
            if name.endswith(".yaml") and not id_problem(name[:-5]):
                places.setdefault(name[:-5], []).append(state)
    for task_id, states in sorted(places.items()):
        for state in states[1:]:
            words = f"{task_id} is in {' and '.join(sorted(states))}"
            yield Fault("two places", words, partial(_end_second, queue, task_id, state, states[0]))


def _end_second(queue: Spool, task_id: str, state: State, kept: State) -> None:
    for path in (queue.path(state, task_id), queue.result_path(state, task_id)):
        if os.path.lexists(path):
            aside(queue, path, f"{task_id} is in tasks/{kept}/, too; that one was kept")


def _results(queue: Spool, state: State, names: set[str]) -> Iterator[Fault]:
    for name in sorted(names):
        stem = name.removesuffix(".yaml")
        task_id = stem.removesuffix("_result")
        shown, path = printable(f"tasks/{state}/{name}"), f"{queue.tasks}/{state}/{name}"
        if stem == name or name.startswith("."):
            continue
        if task_id != stem and f"{task_id}.yaml" not in names:
            numbers = queue.run_numbers(task_id)
            if numbers and runs.is_alive(queue.run_folder(task_id, numbers[-1])):
                continue  # a worker reports it now
            text = "a result without its task"
            yield Fault("stray file", f"{shown}: {text}", partial(aside, queue, path, text))
        elif task_id != stem and not _is_whole(path):
            yield Fault("result", f"{shown}: cannot be read", partial(_restore, queue, task_id, state))
        elif task_id == stem and not id_problem(stem) and f"{stem}_result.yaml" not in names:
            yield Fault("result", f"{shown}: an ended task without its result", partial(_restore, queue, stem, state))


def _is_whole(path: str) -> bool:
    """Whether a result can be read; what we wrote ourselves is known by its head and its end."""
    try:
        fd = plain.opener(path, os.O_RDONLY)
        try:
            content = os.read(fd, os.fstat(fd).st_size + 1)
        finally:
            os.close(fd)
    except OSError:
        return False
    quick = content.startswith(b"task_id: ") and content.endswith(b"\n") and b"\ngoes_to: " in content
    return (quick and b"\0" not in content) or read_result(path) is not None


def _restore(queue: Spool, task_id: str, state: State) -> None:
    """The verdict's second name, from the run's own folder; if that has none, one that says that it is lost."""
    target = queue.result_path(state, task_id)
    if os.path.lexists(target):
        aside(queue, target, "a result that cannot be read")
    if restore_result(queue, task_id, state):
        return
    ended = os.lstat(queue.path(state, task_id)).st_mtime
    why = "how it ended is not known any more: its result was missing, and was written by doctor --repair"
    lost = Result(task_id, "", "", 0, Outcome.LOST, ended, state, reason=why)
    files.publish(target, lost.to_yaml())


def _assigned(queue: Spool, names: dict[State, set[str]]) -> Iterator[Fault]:
    notes = queue.assignments()
    for task_id, files_of in sorted(notes.items()):
        for name in files_of if f"{task_id}.yaml" not in names[State.ASSIGNED] else ():
            path = f"{queue.tasks}/{State.ASSIGNED}/{name}"
            number = runs.assigned_run(path)[2]
            if number and runs.is_alive(queue.run_folder(task_id, number)):
                yield Fault("assigned", f"{name}: its run lives, and its task is gone; the next start ends it")
                continue
            text = "says who has a task that is not there"
            yield Fault("assigned", f"tasks/assigned/{printable(name)}: {text}", partial(aside, queue, path, text))
    for task_id in queue.ids(State.ASSIGNED):
        numbers = queue.run_numbers(task_id)
        if task_id in notes:
            continue
        if numbers and runs.is_alive(queue.run_folder(task_id, numbers[-1])):
            yield Fault(
                "assigned", f"{task_id}: run {numbers[-1]} lives, and nothing says who has it; wait for its end"
            )
        else:
            yield Fault("assigned", f"{task_id}: nobody has it", partial(queue.release, task_id))


def _runs(queue: Spool, names: dict[State, set[str]]) -> Iterator[Fault]:
    known = {name for found in names.values() for name in found}
    for task_id in sorted(queue.ran()):
        is_known = f"{task_id}.yaml" in known or f"{task_id}.yml" in names[State.PENDING] or queue.archived(task_id)
        if not is_known and not id_problem(task_id):
            text = "its task is gone; kept, so that its id is not given again"
            yield Fault("runs", f"tasks/runs/{printable(task_id)}: {text}")


def _journals(queue: Spool) -> Iterator[Fault]:
    folder = f"{queue.own}/events"
    for name in sorted(plain.listed(folder)):
        if name.endswith(".jsonl") and not _is_journal(f"{folder}/{name}"):
            text = f".orchestrator/events/{printable(name)}: torn"
            yield Fault("events", text, partial(_mend_journal, f"{folder}/{name}"))


def _is_journal(path: str) -> bool:
    try:
        with open(path, "rb", opener=plain.opener) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - TAIL))
            content = file.read()
    except OSError:
        return False
    return not content or (content.endswith(b"\n") and b"\0" not in content and _is_json(content.splitlines()[-1]))


def _is_json(content: bytes, kind: type = dict) -> bool:
    try:
        return isinstance(json.loads(content), kind)
    except (ValueError, RecursionError):
        return False


def _mend_journal(path: str) -> None:
    lines: list[bytes] = []
    if plain.is_plain(path):
        lines = _content(path).splitlines()
    plain.aside(path, files_too=True)
    files.publish(path, b"".join(line + b"\n" for line in lines if _is_json(line)))


def _agents(queue: Spool) -> Iterator[Fault]:
    """Pauses, and workers: what cannot be read says nothing, and nobody would know."""
    for folder in ("agents", "workers"):
        for path in sorted(glob.glob(f"{glob.escape(queue.own)}/{folder}/*.yaml")):
            try:
                parse_mapping(read_bytes(path))
            except InvalidTask as error:
                text = f".orchestrator/{folder}/{printable(os.path.basename(path))}: {error}"
                yield Fault("agents", text, partial(plain.aside, path, files_too=True))
            except OSError:
                continue


def _completed(context: Context) -> Iterator[Fault]:
    path = f"{context.folder}/{COMPLETED}"
    try:
        content = _content(path)
    except FileNotFoundError:
        return
    except plain.NotPlain:
        content = b""
    if not content.endswith(b"\n]\n") or not _is_json(content, list):
        listed = CompletedList(path, context.results)
        yield Fault("context", f"context/{COMPLETED}: cannot be read as a list", listed.rebuild)


def _pages(context: Context) -> Iterator[Fault]:
    top = glob.escape(context.folder)
    for path in sorted([*glob.glob(f"{top}/*.md"), *glob.glob(f"{top}/{NOTES}/*.md")]):
        shown = printable(os.path.relpath(path, context.root))
        try:
            content = _content(path)
        except plain.NotPlain:
            yield Fault("context", f"{shown}: is no regular file", partial(plain.aside, path))
            continue
        except OSError:
            continue
        if _sound(content) != content:
            text = f"{shown}: holds an entry twice, or bytes that are no text"
            yield Fault("context", text, partial(_mend_page, os.path.realpath(path)))


def _sound(page: bytes) -> bytes:
    """The page with each entry that is marked as ours once, and without what a disk left that lost its bytes."""
    seen: set[bytes] = set()

    def once(match: re.Match[bytes]) -> bytes:
        again = match[0] in seen
        seen.add(match[0])
        return b"" if again else match[0]

    return _BLOCK.sub(once, page.replace(b"\0", b""))


def _mend_page(path: str) -> None:
    content = _content(path)
    plain.aside(path, files_too=True)
    files.publish(path, _sound(content))


def _content(path: str) -> bytes:
    with open(path, "rb", opener=plain.opener) as file:
        return file.read()


def _other_machine(queue: Spool) -> Iterator[Fault]:
    path = f"{queue.own}/dispatcher.json"
    try:
        with open(path, encoding="utf-8", opener=plain.opener) as file:
            kept = json.load(file)
        host, boot = str(kept.get("host", "")), str(kept.get("boot", ""))
    except (OSError, ValueError, AttributeError):
        return
    if host and host != os.uname().nodename and boot != process.boot_id():
        text = f"was written on {printable(host)}; two machines must not dispatch from one folder: stop the one there"
        name = "".join(c if c.isalnum() else "_" for c in host)
        yield Fault(
            "other machine", f".orchestrator/dispatcher.json {text}", partial(files.move, path, f"{path}.of-{name}")
        )


def aside(queue: Spool, path: str, reason: str) -> None:
    """Into tasks/rejected/, as it is, with the reason beside it."""
    for number in count(1):
        target = f"{queue.tasks}/{State.REJECTED}/{numbered(os.path.basename(path), number)}"
        try:
            if not os.path.lexists(f"{target}.reason.txt"):
                files.move(path, target)
                break
        except FileExistsError:
            continue
    shown = printable(os.path.relpath(path, queue.root))
    files.replace(f"{target}.reason.txt", f"{shown}: {reason}\n".encode("utf-8", "replace"))
