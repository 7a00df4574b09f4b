"""A steady load for hours, and what the dispatcher needs meanwhile: memory, descriptors, threads, files.

    make crash ARGS="soak --hours 1 --rate 20"

History (what ended: runs, results, their tasks, events, answers) grows, and is meant to. Everything
else must not. Growth is fitted by least squares to what came after the first fifth of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from orchestrator.places import Places
from orchestrator.spool import Spool
from orchestrator.states import State

# Below the root; the pages of context/ are in it too: one answer a task, one row a task.
HISTORY = ("tasks/runs", "tasks/completed", "tasks/failed", "tasks/review", "tasks/rejected", "tasks/archive",
           ".orchestrator/events", "context/agent_outputs")  # fmt: skip
ROWS = 20  # of the table


class Sample(NamedTuple):
    """What the dispatcher was at one moment."""

    minute: float
    done: int
    resident: float  # MB
    private: float  # MB
    descriptors: int
    threads: int
    files: int  # outside history
    waiting: int


def main(argv: list[str]) -> int:
    """Run it, print the curve; 1 if a task was lost, or if something grew."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--rate", type=float, default=20.0, help="tasks a second")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two samples")
    parser.add_argument("--csv", default="", help="write every sample to this file")
    parser.add_argument("--quick", action="store_true", help="two minutes")
    parser.add_argument("--keep", action="store_true", help="leave the root where it is")
    options = parser.parse_args(argv)
    root = tempfile.mkdtemp(prefix="orchestrate-soak-")
    try:
        return _soak(root, 120.0 if options.quick else options.hours * 3600, options.rate, options.every, options.csv)
    finally:
        _command(root, "stop", "--now")
        if options.keep:
            print(f"kept: {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)


def _soak(root: str, seconds: float, rate: float, every: float, csv: str) -> int:
    queue = Spool(root)
    queue.make_folders()
    with open(f"{root}/config.yaml", "w", encoding="utf-8") as file:
        file.write("agents: {shell: {max_instances: 4}}\nretry: {retry_delay_seconds: 1}\n")
    _command(root, "start")
    with open(f"{root}/.orchestrator/dispatcher.json", encoding="utf-8") as said:
        pid = int(json.load(said)["pid"])
    samples, added, bad = [], 0, 0
    begun = time.monotonic()
    next_sample = 0.0
    while (now := time.monotonic() - begun) < seconds:
        while added < now * rate:
            added += 1
            queue.put(_task(added))
            if added % 200 == 0:
                bad += 1
                with open(f"{root}/tasks/pending/bad_{bad}.yaml", "w", encoding="utf-8") as file:
                    file.write("descriptoin: no such key\n")
        if now >= next_sample:
            samples.append(_sample(root, pid, now))
            next_sample += every
            if csv:
                with open(csv, "a", encoding="ascii") as table:
                    table.write(",".join(f"{value:g}" for value in samples[-1]) + "\n")
        time.sleep(max(0.0, min(next_sample, (added + 1) / rate) - (time.monotonic() - begun)))
    deadline = time.monotonic() + 60
    while (queue.count(State.PENDING) or queue.count(State.ASSIGNED)) and time.monotonic() < deadline:
        time.sleep(0.2)
    samples.append(_sample(root, pid, time.monotonic() - begun))
    lost = added - sum(queue.count(state) for state in (State.COMPLETED, State.FAILED, State.REVIEW))
    return _report(samples, added, lost, seconds)


def _task(number: int) -> dict[str, str | int | tuple[str, ...]]:
    """Most do nothing; one in fifty fails once and is tried again, one in fifty waits for the one before."""
    script = "test $ORCHESTRATE_RUN -gt 1" if number % 50 == 0 else "true"
    waits = (f"task_{number - 1:03d}",) if number % 50 == 25 else ()
    return {"description": f"Task {number} of a steady load", "run": script, "dependencies": waits}


def _sample(root: str, pid: int, now: float) -> Sample:
    found: dict[str, float] = {}
    for name in ("status", "smaps_rollup"):
        with open(f"/proc/{pid}/{name}", encoding="ascii", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                words = value.split()
                if words and words[0].isdecimal():
                    found[key] = int(words[0])
    places = Places(root)
    return Sample(
        now / 60,
        len(os.listdir(f"{root}/tasks/completed")) // 2,
        found["VmRSS"] / 1000,
        (found["Private_Dirty"] + found["Private_Clean"]) / 1000,
        len(os.listdir(f"/proc/{pid}/fd")),
        int(found["Threads"]),
        _files_outside_history(root),
        places.count(State.PENDING) + places.count(State.ASSIGNED),
    )


def _files_outside_history(root: str) -> int:
    skipped = {f"{root}/{name}" for name in HISTORY}
    count = 0
    for folder, folders, names in os.walk(root):
        folders[:] = [one for one in folders if f"{folder}/{one}" not in skipped]
        count += len(names)
    return count


def slope(points: list[tuple[float, float]]) -> float:
    """Of the straight line that fits best."""
    if len(points) < 2:
        return 0.0
    x, y = (sum(column) / len(points) for column in zip(*points, strict=True))
    spread = sum((one - x) ** 2 for one, _ in points)
    return sum((one - x) * (other - y) for one, other in points) / spread if spread else 0.0


def _report(samples: list[Sample], added: int, lost: int, seconds: float) -> int:
    print(
        "| minute | completed | resident MB | private MB | descriptors | threads | other files | waiting or running |"
    )
    print("|---|---|---|---|---|---|---|---|")
    step = max(1, len(samples) // ROWS)
    for one in [*samples[:-1:step], samples[-1]]:
        print(f"| {one.minute:.1f} | {one.done} | {one.resident:.1f} | {one.private:.1f} | {one.descriptors} "
              f"| {one.threads} | {one.files} | {one.waiting} |")  # fmt: skip
    settled = [one for one in samples if one.minute * 60 > seconds / 5][:-1]
    hourly = {
        "resident memory, MB": slope([(one.minute / 60, one.resident) for one in settled]),
        "private memory, MB": slope([(one.minute / 60, one.private) for one in settled]),
        "descriptors": slope([(one.minute / 60, one.descriptors) for one in settled]),
        "threads": slope([(one.minute / 60, one.threads) for one in settled]),
        "files outside history": slope([(one.minute / 60, one.files - one.waiting) for one in settled]),
    }
    print(
        f"\n{added} tasks in {seconds / 60:.0f} minutes, {lost} lost. Growth an hour after the first fifth of the time:"
    )
    for name, value in hourly.items():
        print(f"  {name:<24}{value:+.2f}")
    per_task = slope([(one.done, one.private) for one in settled]) * 1e6
    print(f"  private memory a task   {per_task:+.0f} bytes")
    return int(lost != 0)


def _command(root: str, *words: str) -> None:
    argv = [sys.executable, "-m", "orchestrator.cli", "--root", root, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode and words[0] == "start":
        raise SystemExit(f"soak: {done.stderr.strip()}")
