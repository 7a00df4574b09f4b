"""Waiting for tasks: a progress bar where a person looks, a line for each that ends in a pipe.

What keeps the others waiting is said on stderr, once, and when it changes. If nothing runs and each of them waits for
something that only a person can change, waiting is over: nobody would ever tell us.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from orchestrator import ids, router
from orchestrator.cli import rejects
from orchestrator.cli.status import dispatcher
from orchestrator.cli.views import Views
from orchestrator.history import result_of
from orchestrator.names import counted
from orchestrator.router import AgentView
from orchestrator.spool import Spool
from orchestrator.states import ENDED, State

LOOK_SECONDS = 0.1
WHY_SECONDS = 1.0  # between two looks at what keeps them waiting
MANY = 1000  # of more it takes long to say why each waits: not for somebody who has little time
HELD_SECONDS = 2.0  # so long it must have been so: a dispatcher may just be about to take it up

Row = dict[str, str]


def wait_for(root: str, wanted: list[str], timeout: float | None = None, quiet: bool = False) -> tuple[int, list[Row]]:
    """(code, what became of each). 0: all completed. 1: at least one failed, was rejected, or waits for a person.
    124: time is over (`timeout` in seconds; None: never)."""
    queue, views = Spool(root), Views(root)
    for one in wanted:
        views.find(one)
    names = list(dict.fromkeys(wanted or sorted([e.task.id for e in views.waiting()] + queue.ids(State.ASSIGNED))))
    rows: dict[str, Row] = {}
    said: set[str] = set()
    code, held_since, begun = 0, 0.0, time.monotonic()
    look_at = begun + WHY_SECONDS
    bar = _bar(len(names)) if sys.stdout.isatty() and not quiet else None
    try:
        while True:
            began_at = time.monotonic()
            left = [name for name in names if name not in rows]
            here = _here(queue, left) if len(left) > MANY else ()
            for one in left:
                if one not in here and (row := _ended(queue, one)):
                    rows[one] = row
                    code = code if row["state"] == State.COMPLETED else 1
                    _say(row, bar, quiet)
            left = [name for name in names if name not in rows]
            now = time.monotonic()
            took = now - began_at
            if not left:
                return code, [rows[name] for name in names]
            if now >= look_at and (timeout is None or len(left) <= MANY):
                views = Views(root)
                agents = views.agents()
                held = _held(views, agents, left)
                why = {name: _now(views, agents, name) for name in left}
                for line in _new(why, said):
                    _warn(line, bar)
                stands = not queue.assignments() and held.issuperset(left)
                held_since = (held_since or now) if stands else 0.0
                if held_since and now - held_since >= HELD_SECONDS:
                    _warn(f"only a person can change this; {counted(left, 'task')} did not run", bar)
                    return 1, [rows.get(name) or _row(name, *why[name]) for name in names]
                look_at = time.monotonic() + max(WHY_SECONDS, 20 * (time.monotonic() - now))
            if timeout is not None and now - begun > timeout:
                which = f"{', '.join(left[:5])}{' …' if len(left) > 5 else ''}"
                has = "has" if len(left) == 1 else "have"
                _warn(f"{counted(left, 'task')} {has} not ended after {timeout:g} s: {which}", bar)
                views = Views(root)
                agents = views.agents()
                now_of = _now if len(left) <= MANY else _state
                return 124, [rows.get(name) or _row(name, *now_of(views, agents, name)) for name in names]
            time.sleep(max(LOOK_SECONDS, took))
    finally:
        if bar is not None:
            bar.stop()


def _row(task_id: str, state: str, reason: str) -> Row:
    return {"task_id": task_id, "state": state, "reason": reason}


def _here(queue: Spool, names: list[str]) -> set[str]:
    """Those of very many that wait or run, and so have not ended: from names, and one search for those of other names."""
    files = {*queue.names(State.PENDING), *queue.names(State.ASSIGNED)}
    here = {one for one in names if f"{one}.yaml" in files}
    return here | ids.files_of(queue, [one for one in names if one not in here]).keys()


def _ended(queue: Spool, task_id: str) -> Row | None:
    """What became of it; None while it waits or runs."""
    state = queue.state_of(task_id)
    if state in ENDED:
        result = result_of(queue, task_id, state)
        return _row(task_id, str(state), result.reason if result else "")
    if state is not None or ids.file_of(queue, task_id) or queue.state_of(task_id) is not None:
        return None
    views = Views(queue.root)
    if archived := views.state_of(task_id):
        return _row(task_id, str(archived), "archived")
    if found := rejects.find(queue, task_id):
        return _row(task_id, str(State.REJECTED), found[1])
    return _row(task_id, "gone", "its file was taken away")


def _now(views: Views, agents: list[AgentView], task_id: str) -> tuple[str, str]:
    """State and reason of one that has not ended."""
    if (entry := views.entry(task_id)) is not None:
        return "pending", views.why(entry, agents)
    if views.queue.state_of(task_id) is State.ASSIGNED:
        return "running", "" if dispatcher(views.root) else "no dispatcher runs ('orchestrate start')"
    return "pending", views.invalid.get(f"{task_id}.yaml", "")


def _state(views: Views, agents: list[AgentView], task_id: str) -> tuple[str, str]:
    return "running" if views.queue.state_of(task_id) is State.ASSIGNED else "pending", ""


def _held(views: Views, agents: list[AgentView], names: list[str]) -> set[str]:
    """Of these, and what they wait for, those that nothing but a person can get going."""
    registry = views.registry()
    dependents: dict[str, list[str]] = {}
    held: list[str] = []
    known: set[str] = set()
    names = list(names)
    while names:  # what else waits does not matter
        name = names.pop()
        if name in known or (entry := views.entry(name)) is None:
            continue
        known.add(name)
        names += entry.unmet
        for one in entry.unmet:
            dependents.setdefault(one, []).append(name)
        if router.stranded(entry.task, agents, registry.missing) or any(
            views.state_of(one) in (None, State.FAILED, State.REVIEW) for one in entry.unmet
        ):
            held.append(name)
    found: set[str] = set()
    while held:
        one = held.pop()
        if one not in found:
            found.add(one)
            held += dependents.get(one, [])
    return found


def _new(why: dict[str, tuple[str, str]], said: set[str]) -> list[str]:
    """A line for each reason that was not said yet, and for which tasks it is one."""
    tasks: dict[str, list[str]] = {}
    for name, (_, reason) in why.items():
        if reason and reason not in said:
            tasks.setdefault(reason, []).append(name)
    said.update(tasks)
    return [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {reason}"
        for reason, names in tasks.items()
    ]


def _bar(total: int) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    progress = Progress(TextColumn("tasks"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    progress.add_task("tasks", total=total)
    progress.start()
    return progress


def _say(row: Row, bar: Any, quiet: bool) -> None:
    line = f"{row['task_id']}  {row['state']}{'  ' + row['reason'] if row['reason'] else ''}"
    if bar is not None:
        bar.console.print(line, markup=False, highlight=False)
        bar.advance(bar.task_ids[0])
    elif not quiet:
        print(line, flush=True)


def _warn(line: str, bar: Any) -> None:
    if bar is not None:
        bar.console.print(line, markup=False, highlight=False)
    else:
        print(f"orchestrate: {line}", file=sys.stderr, flush=True)
