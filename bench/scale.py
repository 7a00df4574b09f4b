"""The row `scale`: the same work with few and with very many tasks waiting, and what every look at them costs then."""

from __future__ import annotations

import os
import time

import drops
from tools import (
    Figure,
    Journal,
    Place,
    alternate,
    command,
    ended,
    fill,
    hold,
    median,
    memory,
    run_command,
    until_read,
    whole_process,
    within,
    write,
)

LENGTHS = (1000, 10_000, 100_000)
MILLION = 1_000_000
NO_OP = "run: 'true'\n"
WARM, COUNTED = 100, 500  # tasks that end before it is counted, and those that are
LONGEST = 900.0  # seconds until so many have been read
# How long a look may take, with so many waiting: milliseconds.
LOOKS = {"status": {1000: 40, 100_000: 80, MILLION: 500}, "tasks": {100_000: 100}, "show": {100_000: 100}, "why": {100_000: 100}, "add": {}}  # fmt: skip


def scale(place: Place, quick: bool) -> list[Figure]:
    """Up to 100,000."""
    return _scale(place, (1000, 10_000), 1, 1) if quick else _scale(place, LENGTHS, 2, 5)


def million(place: Place, quick: bool) -> list[Figure]:
    """The same at 1,000,000, beside 1,000: many minutes."""
    return _scale(place, (1000, MILLION), 1, 3)


def history(place: Place, quick: bool) -> list[Figure]:
    """1,000 waiting, beside nothing and beside very many that have completed: a year of work must not slow today."""
    lengths, rounds = ((0, 10_000), 1) if quick else ((0, 100_000), 2)
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for length in lengths:
            for what, value in _busy(place, 1000, length):
                found.setdefault((what, length), []).append(value)
    root = {length: _past(place, 1000, length) for length in lengths}
    argv = {
        "status": ["status"],
        "add": ["add", "x"],
        "tasks": ["tasks"],
        "tasks, what has completed": ["tasks", "--status", "completed"],
    }
    measures = [
        (
            name,
            length,
            lambda words=words, length=length: 1000 * whole_process([*command(), "--root", root[length], *words]),
        )
        for name, words in argv.items()
        for length in lengths
    ]
    for (name, length, _), values in zip(
        measures, alternate(1 if quick else 5, *(one[2] for one in measures)), strict=True
    ):
        found[f"orchestrate {name}", length] = values
    figures = []
    for what in dict.fromkeys(what for what, _ in found):
        ours, theirs = found[what, lengths[1]], found[what, 0]
        unit = "s" if what.startswith("start") else "MB" if what.startswith("memory") else "ms"
        figures.append(Figure("history", f"{what}, {lengths[1]:,} completed", unit, ours, "none completed", theirs))
    return figures


def _past(place: Place, waiting: int, completed: int) -> str:
    """A queue with so many that could run now, and so many that have completed: files, results, runs, pages, rows."""
    root = place.root(slots=4)
    fill(root, waiting, NO_OP)
    os.makedirs(f"{root}/context/agent_outputs")
    names = [f"old_{number:06d}" for number in range(completed)]
    for name in names:
        ended(root, name, "completed")
        write(f"{root}/context/agent_outputs/{name}.md", f"# {name}\n")
    if names:
        row = '{{"mark": "{0}/1", "task_id": "{0}", "title": "a task of the bench", "files_modified": []}}'
        write(f"{root}/context/completed_tasks.json", "[\n" + ",\n".join(map(row.format, names)) + "\n]\n")
        os.makedirs(f"{root}/.orchestrator/agents")  # without it, it would be made again of all results, once
        write(f"{root}/.orchestrator/agents/shell.runs", f"\n{names[-1]}/1\t+\t1.000\t{time.time():.3f}\t.\n")
    os.sync()
    return root


def _scale(place: Place, lengths: tuple[int, ...], rounds: int, times: int) -> list[Figure]:
    found: dict[tuple[str, int], list[float]] = {}

    def note(what: str, length: int, *values: float) -> None:
        found.setdefault((what, length), []).extend(values)

    for _ in range(rounds):
        for length in lengths:
            for what, value in _busy(place, length):
                if not what.startswith("memory"):  # it has not read all of them
                    note(what, length, value)
    for length in lengths:
        for what, values in _looks(place, length, times):
            note(what, length, *values)
    return [
        *_beside_least("cost of a task", "ms", lengths, found, {100_000: 1.3, MILLION: 2.0}, as_ratio=True),
        *_beside_least("start → first dispatch", "s", lengths, found, {100_000: 1, MILLION: 8}),
        *_beside_least("memory of the dispatcher", "MB", lengths, found, {1000: 50, 100_000: 150, MILLION: 900}),
        *(
            drops.figure("scale", f"{one:,} waiting", found["drop", one], found["by hand", one], one == lengths[-1], one)
            for one in lengths
        ),
        *(
            figure
            for name, limits in LOOKS.items()
            for figure in _beside_least(f"orchestrate {name}, whole process", "ms", lengths, found, limits)
        ),
    ]  # fmt: skip


def _beside_least(
    what: str,
    unit: str,
    lengths: tuple[int, ...],
    found: dict[tuple[str, int], list[float]],
    limits: dict[int, float],
    as_ratio: bool = False,
) -> list[Figure]:
    """A figure a length, beside that of the least."""
    least, figures = lengths[0], []
    for one in lengths:
        ours, theirs = found[what, one], found[what, least] if one != least else []
        value = median(ours) / median(theirs or ours) if as_ratio else median(ours)
        limit = limits.get(one)
        bounds = (within(f"≤ {limit:g} {'×' if as_ratio else unit}", value, limit),) if limit else ()
        name = f"{what}, {one:,} waiting"
        figures.append(
            Figure("scale", name, unit, ours, f"{least:,} waiting" if theirs else "", theirs, bounds, at=one)
        )
    return figures


def _busy(place: Place, length: int, completed: int = 0) -> list[tuple[str, float]]:
    """So many that could run now, four slots: how long to the first, what one costs, and how large it gets."""
    root = _past(place, length, completed)
    begun = time.time()
    pid = place.start(root)
    journal = Journal(root)
    events = journal.until("completed", WARM + COUNTED, LONGEST)
    ended = [float(str(event["at"])) for event in events if event["kind"] == "completed"]
    started = min(float(str(event["at"])) for event in events if event["kind"] == "started")
    resident = memory(pid)[0]
    place.stop(root)
    place.spend(root)
    return [
        ("start → first dispatch", started - begun),
        ("cost of a task", 1000 * (ended[WARM + COUNTED - 1] - ended[WARM]) / (COUNTED - 1)),
        ("memory of the dispatcher", resident),
    ]


def _looks(place: Place, length: int, times: int) -> list[tuple[str, list[float]]]:
    """So many that may not run yet, and a dispatcher that has read them: drops, and whole processes that look."""
    root = place.root(slots=4)
    hold(root, length)
    pid = place.start(root)
    until_read(root, LONGEST)
    time.sleep(2)
    resident = memory(pid)[0]
    took = drops.drop(place, root, 200)
    ours, last = [*command(), "--root", root], f"t_{length:05d}"
    run_command("--root", root, "add", "x")  # compiles what has to be compiled
    argv = {"status": ["status"], "tasks": ["tasks"], "show": ["show", last], "why": ["why", last], "add": ["add", "x"]}
    measures = [lambda words=words: 1000 * whole_process([*ours, *words]) for words in argv.values()]
    measured = alternate(times, *measures)
    place.stop(root)
    os.sync()
    return [
        ("memory of the dispatcher", [resident]),
        ("drop", took["moved"] + took["written"]),
        ("by hand", took["hand"]),
        *((f"orchestrate {name}, whole process", values) for name, values in zip(argv, measured, strict=True)),
    ]
