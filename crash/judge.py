"""What has to hold after any crash, once somebody has started again and all work is done.

The numbers are those of the invariants in docs/design.md's words: 1 one folder, 2 one live run, 3 nothing
overwritten, 4 the move is the commit and all is merged once, 6 a used id is not run again.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from scenes import Scene
from stage import Stage, states_of

from orchestrator.runs import Result, read_result
from orchestrator.states import ENDED, Outcome

DRAFT = re.compile(r"\.\d+-[0-9a-f]+-[0-9a-f]{6}\.tmp|\.saved-[0-9a-f]+$|\.tmp$")
PAGES = {"notes/shell.md": "note", "objectives.md": "objective", "known_issues.md": "issue", "code_structure.md": "structure"}  # fmt: skip


class Memory(NamedTuple):
    """What there was at the moment of the crash, and must not be taken back."""

    tasks: dict[str, bytes]  # id → the file, wherever it lay
    ended: dict[str, tuple[bytes, bytes]]  # id → result and answer of what had ended
    ledger: tuple[str, ...]
    told: tuple[tuple[str, str, int], ...]  # since then: (kind, task, run)


def remember(stage: Stage, before: Memory | None = None) -> Memory:
    """Take it down; with the tasks that there were before."""
    tasks = dict(before.tasks) if before else {}
    ended = {}
    for task_id, path in _task_files(stage.root):
        tasks.setdefault(task_id, _read(path))
        if os.path.basename(os.path.dirname(path)) in ENDED:
            answer = _read(f"{stage.root}/context/agent_outputs/{task_id}_output.md")
            ended[task_id] = (_read(f"{path[:-5]}_result.yaml"), answer)
    said = Counter(told(stage)) - Counter(before.told if before else ())
    return Memory(tasks, ended, tuple(stage.ledger()), tuple(said))


def told(stage: Stage) -> Iterator[tuple[str, str, int]]:
    """What people were told: by the dispatcher in its journal, by commands on their terminal."""
    folder = f"{stage.root}/.orchestrator/events"
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        for line in _read(f"{folder}/{name}").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if event.get("run"):
                yield event["kind"], event["task_id"], event["run"]
    for line in stage.said():
        if re.fullmatch(r"(task_\d+|named)", line):
            yield "added", line, 0
        elif match := re.fullmatch(r"(\w+)  (cancelled|back to pending)", line):
            yield match[2], match[1], 0


def violations(scene: Scene, stage: Stage, memory: Memory, kind: str = "kill") -> list[str]:
    """Everything that does not hold; after a `power` cut what was not synced may be gone."""
    return list(_violations(scene, stage, memory, kind))


def _violations(scene: Scene, stage: Stage, memory: Memory, kind: str) -> Iterator[str]:
    root, ledger = stage.root, stage.ledger()
    if not stage.is_drained():
        yield f"it did not come to rest: {_listing(root)}"
    for task_id, content in memory.tasks.items():
        places = states_of(root, task_id)
        if not places:
            yield f"{task_id}: lost"
            continue
        if len(places) > 1:
            yield f"{task_id}: in {' and '.join(places)}"
        path = f"{root}/tasks/{places[0]}/{task_id}.yaml"
        if _read(path) != content:
            yield f"{task_id}: its file is another one now: {_read(path)[:60]!r}"
        allowed = scene.may_end.get(task_id, ("completed",))
        if places[0].split("/")[0] not in allowed:
            yield f"{task_id}: ended in {places[0]}, not in {' or '.join(allowed)}: {_reason(root, task_id, places[0])}"
        yield from _as_told(task_id, places[0], memory)
        yield from _ended(stage, task_id, places[0], kind)
    yield from _executions(scene, memory, ledger, kind)
    yield from _merged(root)
    yield from _left_over(stage, kind)
    for task_id, (result, answer) in memory.ended.items():
        yield from _unchanged(root, task_id, result, answer)
    for (what, task_id, run), times in Counter(told(stage)).items():
        if what in ENDED and times > 1:
            yield f"{task_id}: told {times} times that run {run} ended as {what}"
        if what == "added" and task_id not in memory.tasks:
            yield f"{task_id}: was printed by add, and is nowhere"
        if what == "added" and times > 1:
            yield f"{task_id}: given {times} times"
    yield from scene.check(stage)


def _as_told(task_id: str, place: str, memory: Memory) -> Iterator[str]:
    kinds = [kind for kind, one, _ in memory.told if one == task_id]
    last = next((kind for kind in reversed(kinds) if kind in (*ENDED, "cancelled", "back to pending")), "")
    wanted = {"cancelled": "failed", "back to pending": "completed"}.get(last, last)
    if last == "back to pending" and place == "review":
        return  # its next run was lost in a power cut; `may_end` says whether that can be
    if wanted not in place:
        yield f"{task_id}: was told to be {last}, and is in {place}"


def _ended(stage: Stage, task_id: str, place: str, kind: str) -> Iterator[str]:
    folder = f"{stage.root}/tasks/{place}"
    if place == "rejected":
        if not _read(f"{folder}/{task_id}.yaml.reason.txt").strip():
            yield f"{task_id}: rejected without a reason"
        return
    path = f"{folder}/{task_id}_result.yaml"
    result = read_result(path)
    if result is None:
        yield f"{task_id}: in {place} without a result that can be read"
        return
    runs = f"{os.path.dirname(folder) if place.startswith('archive') else stage.root + '/tasks'}/runs/{task_id}"
    first = f"{runs}/{result.run}/result.yaml"
    # Of a completed task the second name alone is durable.
    spared = kind == "power" and place not in ("review", "failed") and not os.path.lexists(first)
    if result.run and result.agent_id and not spared and _read(path) != _read(first):
        yield f"{task_id}: its result is not the one in its run's folder"
    if result.status is Outcome.SUCCESS:
        answer = _read(f"{stage.root}/context/agent_outputs/{task_id}_output.md")
        if not answer.startswith(b"the answer of ") or not answer.rstrip().endswith(b"```"):
            yield f"{task_id}: its answer is {answer[:40]!r}…"
    if os.path.isdir(runs):
        numbers = sorted(int(name) for name in os.listdir(runs) if name.isdecimal())
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"{task_id}: its runs are numbered {numbers}"


def _executions(scene: Scene, memory: Memory, ledger: list[str], kind: str) -> Iterator[str]:
    for line, times in Counter(ledger).items():
        if line.startswith("double"):
            yield f"two live runs of one task: {line}"
        elif times > 1:
            yield f"executed {times} times: {line}"
    begun = Counter(line.split()[1] for line in ledger if line.startswith("begin"))
    for task_id in memory.tasks:
        allowed = scene.runs.get(task_id, (1,))
        # A run that a power cut ended is tried again; one for which there was no room used up an attempt.
        more, fewer = kind == "power", kind in ("power", "fail")
        if not min(allowed) - fewer <= begun[task_id] <= max(allowed) + more:
            yield f"{task_id}: executed {begun[task_id]} times, not {' or '.join(map(str, allowed))}"
    finals = [(task, run) for kind, task, run in memory.told if kind == "completed"]
    for task_id, run in finals:
        again = [line for line in ledger[len(memory.ledger) :] if line.startswith(f"begin {task_id} ")]
        if again:
            yield f"{task_id}: run {run} was told to have completed it, and then {again}"


def _merged(root: str) -> Iterator[str]:
    """Every entry of every run that came to its end, once; and no other."""
    wanted: dict[str, Result] = {}
    for folder in _ended_folders(root):
        for name in os.listdir(folder):
            result = read_result(f"{folder}/{name}") if name.endswith("_result.yaml") else None
            if result and result.agent_id:
                wanted[result.mark] = result
    try:
        rows = Counter(row["mark"] for row in json.loads(_read(f"{root}/context/completed_tasks.json") or "[]"))
    except (ValueError, KeyError, TypeError) as error:
        yield f"completed_tasks.json: {error}"
        rows = Counter()
    for mark in {*rows, *(mark for mark, one in wanted.items() if one.status is Outcome.SUCCESS)}:
        expected = mark in wanted and wanted[mark].status is Outcome.SUCCESS
        if rows[mark] != expected:
            yield f"completed_tasks.json: {mark} {rows[mark]} times, not {int(expected)}"
    for page, word in PAGES.items():
        text = _read(f"{root}/context/{page}").decode("utf-8", "replace")
        marks = Counter(re.findall(r"<!-- (\S+/\d+) -->", text))
        for mark in {*marks, *(mark for mark, one in wanted.items() if one.notes)}:
            expected = mark in wanted and bool(wanted[mark].notes)
            if marks[mark] != expected:
                yield f"{page}: {mark} {marks[mark]} times, not {int(expected)}"
        for task_id, times in Counter(re.findall(rf"- {word} of (\w+) \(\1, shell\)\n", text)).items():
            if times != sum(mark.startswith(f"{task_id}/") for mark in marks):
                yield f"{page}: {times} entries of {task_id}"
        if "\0" in text or text.count("# ") - text.count("## ") != (1 if text else 0):
            yield f"{page}: torn: {text!r:.200}"


def _left_over(stage: Stage, kind: str) -> Iterator[str]:
    root = stage.root
    drafts = [os.path.relpath(path, root) for path in _files(root) if DRAFT.search(os.path.basename(path))]
    # What a power cut left in the folder of a completed run, nobody looks for.
    if left := [path for path in drafts if kind != "power" or not path.startswith("tasks/runs/")]:
        yield f"drafts left: {', '.join(left)}"
    if left := [name for name in os.listdir(f"{root}/tasks/assigned") if not name.startswith(".")]:
        yield f"assigned/ holds {', '.join(left)}"
    for folder in _ended_folders(root):
        names = set(os.listdir(folder))
        for name in names:
            if name.endswith("_result.yaml") and name.replace("_result.yaml", ".yaml") not in names:
                yield f"a result without its task: {os.path.relpath(folder, root)}/{name}"
    names = set(os.listdir(f"{root}/tasks/rejected"))
    if strays := [name for name in names if name.endswith(".reason.txt") and name[:-11] not in names]:
        yield f"a reason without its file: {strays}"
    if pids := stage.members():
        yield f"processes left: {pids}"


def _unchanged(root: str, task_id: str, result: bytes, answer: bytes) -> Iterator[str]:
    """A finished result, wherever it is by now."""
    everywhere = [_read(f"{folder}/{task_id}_result.yaml") for folder in _ended_folders(root)]
    everywhere += [_read(one) for one in _files(f"{root}/tasks/runs/{task_id}") if one.endswith("/result.yaml")]
    of_a_run = b'agent_id: ""' not in result  # else a cancel of what waited made it, and a retry takes it back
    if of_a_run and result not in everywhere:
        yield f"{task_id}: a finished result changed: {result!r:.300}"
    if answer and _read(f"{root}/context/agent_outputs/{task_id}_output.md") != answer:
        yield f"{task_id}: a finished answer changed: {answer!r:.100}"


# -- the tree -----------------------------------------------------------------------------------


def _ended_folders(root: str) -> list[str]:
    archive = f"{root}/tasks/archive"
    months = os.listdir(archive) if os.path.isdir(archive) else []
    folders = [f"{root}/tasks/{s}" for s in ENDED] + [f"{archive}/{m}/{s}" for m in months for s in ENDED]
    return [folder for folder in folders if os.path.isdir(folder)]


def _task_files(root: str) -> Iterator[tuple[str, str]]:
    folders = [f"{root}/tasks/{state}" for state in ("pending", "assigned", "rejected")] + _ended_folders(root)
    for folder in folders:
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            if (
                name.endswith(".yaml")
                and not name.startswith(".")
                and not re.search(r"_result\.yaml|_agent_\d+\.yaml", name)
            ):
                yield name[:-5], f"{folder}/{name}"


def _files(folder: str) -> Iterator[str]:
    for above, _, names in os.walk(folder):
        for name in names:
            yield f"{above}/{name}"


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _reason(root: str, task_id: str, place: str) -> str:
    result = read_result(f"{root}/tasks/{place}/{task_id}_result.yaml")
    return result.reason if result else _read(f"{root}/tasks/{place}/{task_id}.yaml.reason.txt").decode()


def _listing(root: str) -> str:
    return ", ".join(f"{s}: {sorted(os.listdir(f'{root}/tasks/{s}'))}" for s in ("pending", "assigned"))
