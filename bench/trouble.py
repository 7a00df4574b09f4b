"""Rows about trouble: the dispatcher dies while much runs and waits; garbage lies beside good files."""

from __future__ import annotations

import json
import os
import signal
import time

from tools import Figure, Journal, Place, command, fill, median, quantile, whole_process, within, write

RUNNING, WAITING = 50, 1000
GOOD, BAD, PER_SECOND = 100, 10_000, 15


def restart(place: Place, quick: bool) -> list[Figure]:
    """kill -9 with much running and waiting; from the command that starts the next to what it does first."""
    known: list[float] = []
    first: list[float] = []
    empty: list[float] = []
    for _ in range(1 if quick else 5):
        root, bare = place.root(slots=RUNNING), place.root()
        fill(root, RUNNING, "run: exec sleep 600\n")
        pid = place.start(root)
        journal = Journal(root)
        journal.until("started", RUNNING)
        os.kill(pid, signal.SIGKILL)
        for number in range(1, WAITING + 1):
            write(f"{root}/tasks/pending/w_{number:05d}.yaml", "description: waits\nrun: 'true'\n")
        write(f"{root}/config.yaml", f"agents:\n  shell: {{max_instances: {RUNNING + 2}}}\n")
        os.sync()
        for _ in journal.new():
            pass
        begun = time.time()
        place.start(root)
        events = journal.until("started", 1)
        known.append(max(_at(event) for event in events if event["kind"] == "resumed") - begun)
        first.append(min(_at(event) for event in events if event["kind"] == "started") - begun)
        if (count := sum(event["kind"] == "resumed" for event in events)) != RUNNING:
            raise RuntimeError(f"{count} of {RUNNING} runs were taken up")
        place.stop(root)
        empty.append(whole_process([*command(), "--root", bare, "start"]))
        place.stop(bare)
    with_all = f"{WAITING:,} waiting and {RUNNING} running"
    return [
        Figure(
            "restart", f"{what}, {with_all}", "s", values, "a start with nothing there", empty,
            (within("≤ 1 s", median(values), 1),),
        )
        for what, values in (("kill -9, start → all known again", known), ("kill -9, start → first new dispatch", first))
    ]  # fmt: skip


def _at(event: dict[str, object]) -> float:
    return float(str(event["at"]))


def garbage(place: Place, quick: bool) -> list[Figure]:
    """Good files come one by one, first alone, then while garbage that came in one moment is put aside."""
    bad = BAD // 10 if quick else BAD
    root, outside = place.root(slots=4), place.folder()
    place.start(root)
    journal = Journal(root)
    _drop_good(root, outside, "warm", journal, 20)
    alone = _drop_good(root, outside, "alone", journal, GOOD)
    for number in range(bad):
        _make_bad(f"{outside}/bad_{number}.yaml", number)
    for number in range(bad):
        os.rename(f"{outside}/bad_{number}.yaml", f"{root}/tasks/pending/bad_{number}.yaml")
    beside = _drop_good(root, outside, "beside", journal, GOOD)
    left = sum(name.startswith("bad_") for name in os.listdir(f"{root}/tasks/pending"))
    begun = time.monotonic()
    while any(name.startswith("bad_") for name in os.listdir(f"{root}/tasks/pending")):
        if time.monotonic() - begun > 120:
            raise RuntimeError("the garbage was never put aside")
        time.sleep(0.05)
    place.stop(root)
    together = [[_strewn(place, outside, count) for _ in range(1 if quick else 3)] for count in (0, bad)]
    half, most = (one(beside) / one(alone) for one in (median, lambda values: quantile(values, 0.95)))
    note = f"p95 {most:.1f} ×; {left:,} of the {bad:,} still lay there when the last good one had started"
    what = f"drop → started, {GOOD} good at {PER_SECOND}/s beside {bad:,} bad"
    all_at_once = f"{GOOD} good strewn among {bad:,} bad, all in one moment: dropped → completed, mean"
    ratio = median(together[1]) / median(together[0])
    return [
        Figure("garbage", what, "ms", beside, "the good alone", alone, (within("≤ 2 ×", half, 2),), note),
        Figure("garbage", all_at_once, "s", together[1], "the good alone", together[0], (within("≤ 2 ×", ratio, 2),)),
    ]


def _strewn(place: Place, outside: str, bad: int) -> float:
    """Seconds from a good task's name in pending/ to its completion, on average."""
    root = place.root(slots=4)
    place.start(root)
    names = []
    for number in range(bad + GOOD):
        is_good = number % ((bad + GOOD) // GOOD) == 0
        names.append(f"{'good' if is_good else 'bad'}_{number}.yaml")
        if is_good:
            write(f"{outside}/{names[-1]}", "description: good\nrun: 'true'\n")
        else:
            _make_bad(f"{outside}/{names[-1]}", number)
    dropped: dict[str, float] = {}
    for name in names:
        if name.startswith("good_"):
            dropped[name[:-5]] = time.time()
        os.rename(f"{outside}/{name}", f"{root}/tasks/pending/{name}")
    events = Journal(root).until("completed", len(dropped))
    took = [_at(one) - dropped[str(one["task_id"])] for one in events if one["kind"] == "completed"]
    place.stop(root)
    return sum(took) / len(took)


def _drop_good(root: str, outside: str, word: str, journal: Journal, count: int) -> list[float]:
    dropped: dict[str, float] = {}
    begun = time.time()
    for number in range(count):
        time.sleep(max(0.0, begun + number / PER_SECOND - time.time()))
        name = f"{word}_{number}"
        write(f"{outside}/{name}", "description: good\nrun: 'true'\n")
        dropped[name] = time.time()
        os.rename(f"{outside}/{name}", f"{root}/tasks/pending/{name}.yaml")
    started: dict[str, float] = {}
    deadline = time.monotonic() + 120
    while len(started) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{count - len(started)} good tasks were never started")
        started |= {
            str(e["task_id"]): _at(e) for e in journal.new() if e["kind"] == "started" and e["task_id"] in dropped
        }
        time.sleep(0.02)
    return [1000 * (started[name] - at) for name, at in dropped.items()]


def _make_bad(path: str, number: int) -> None:
    """One of the ways in which a file is no task; each its own bytes."""
    kind = number % 8
    if kind == 0:
        os.mkdir(path)
    elif kind == 1:
        os.symlink("/etc/passwd", path)
    else:
        content = (
            f"descriptoin: {number}\n", f"description: [{number}\n", f"{number}: {'[' * 1000}", json.dumps([number]),
            f"description: &a {number}\ncontent: *a\n", f"description: {number}\0",
        )[kind - 2]  # fmt: skip
        write(path, content)
