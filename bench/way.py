"""The row `way`: what one task costs on its way from pending/ to completed/, counted by strace, and where the
dispatcher's thread spends its time, by Python's own profiler."""

from __future__ import annotations

import collections
import os
import pstats
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from tools import Figure, Journal, Place, environment, fill, run_command

COUNT = 200
CALL = re.compile(r"(\d+) +(\w+)\(")
ENDED = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(?:\(| resumed>).* = (-?\d+)")
WRITES = ("write", "pwrite64", "writev", "sendfile", "copy_file_range")
# What a turn consists of: (file, function), the profiler's names.
PHASES = {
    "looking at pending/, reading tasks": (("intake.py", "look"), ("intake.py", "go_on")),
    "claiming: the move, the note": (("starter.py", "claim"),),
    "preparing: folders, prompt, record": (("starter.py", "prepare"),),
    "starting: the new process": (("starter.py", "launch"),),
    "watching over what runs": (("supervisor.py", "turn"),),
    "judging: answer, verdict, result": (("finish.py", "judge"),),
    "recording: pages, the move": (("finish.py", "place"),),
    "settling: the notes go": (("finish.py", "settle"),),
    "events and checklist": (("dispatcher.py", "_flush"), ("checklist.py", "write_if_due")),
    "waiting for the disk": (("syncing.py", "wait"), ("~", "<built-in method posix.fsync>")),
}  # fmt: skip


def way(place: Place, quick: bool) -> list[Figure]:
    """What it costs, what of it nobody could save, and where the time goes."""
    return [*_counted(place), *_alone(place), *_phases(place)]


# -- counts ------------------------------------------------------------------------------------------


def _counted(place: Place) -> list[Figure]:
    if not shutil.which("strace"):
        return [Figure("way", "system calls of one task", "", (), "strace is not here (Debian: strace)")]
    root, trace = place.root(slots=4), f"{place.folder()}/trace"
    pid = place.start(root)
    fill(root, 20, "run: 'true'\n", "warm")
    journal = Journal(root)
    journal.until("completed", 20)
    ours = {pid, *map(int, os.listdir(f"/proc/{pid}/task"))}
    strace = subprocess.Popen(["strace", "-f", "-o", trace, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    assert strace.stderr is not None
    strace.stderr.readline()  # it has attached
    fill(root, COUNT, "run: 'true'\n")
    journal.until("completed", COUNT)
    time.sleep(0.5)
    strace.send_signal(signal.SIGINT)
    strace.wait()
    place.stop(root)
    calls: dict[bool, collections.Counter[str]] = {True: collections.Counter(), False: collections.Counter()}
    written = synced = rounds = 0
    for is_ours, name, result in _ends(trace, ours):
        calls[is_ours][name] += 1
        if is_ours and name in WRITES:
            written += max(0, result)
        if is_ours and name in ("fsync", "fdatasync", "io_submit"):
            rounds += 1
            synced += result if name == "io_submit" else 1
    figures = [
        Figure("way", f"system calls of {who}", "a task", [sum(calls[one].values()) / COUNT], note=_most(calls[one]))
        for one, who in ((True, "the dispatcher"), (False, "the run itself: a shell, and its child"))
    ]
    return [
        *figures,
        Figure("way", "files and folders synced", "a task", [synced / COUNT], note="the claim, what the run left, the result, the pages, the move"),
        Figure("way", "times that the disk is waited for", "a task", [rounds / COUNT], note="those of one turn share it"),
        Figure("way", "written by the dispatcher", "bytes a task", [written / COUNT]),
    ]  # fmt: skip


def _ends(trace: str, ours: set[int]) -> Iterator[tuple[bool, str, int]]:
    """Every call: whether it is the dispatcher's, its name, its result."""
    with open(trace, encoding="utf-8", errors="replace") as file:
        for line in file:
            if found := ENDED.match(line):
                yield int(found[1]) in ours, found[2], int(found[3])


def _most(calls: collections.Counter[str]) -> str:
    return ", ".join(f"{name} {count / COUNT:.1f}" for name, count in calls.most_common(14))


def _alone(place: Place) -> list[Figure]:
    """The run by itself: what is left when the dispatcher costs nothing."""
    from orchestrator.launcher import WRAPPER
    from orchestrator.process import RUN_FOLDER

    rates = []
    for _ in range(3):
        folder = place.folder()
        argv = ["sh", "-c", WRAPPER, "run", folder, os.devnull, "eval", "set -e --; true"]
        env = {**environment(), RUN_FOLDER: folder}
        begun = time.perf_counter()
        for number in range(2 * COUNT):
            os.posix_spawn("/bin/sh", argv, env)
            if number >= 3:
                os.wait()
        for _ in range(3):
            os.wait()
        rates.append(2 * COUNT / (time.perf_counter() - begun))
    return [Figure("way", "the run alone, four at once", "/s", rates, note="no dispatcher, no queue")]


# -- time --------------------------------------------------------------------------------------------


def _phases(place: Place) -> list[Figure]:
    """Shares of the time in which the thread does anything. The profiler makes small functions look larger."""
    root, path = place.root(slots=4), f"{place.folder()}/profile"
    fill(root, 5 * COUNT, "run: 'true'\n")
    argv = [
        sys.executable,
        "-m",
        "cProfile",
        "-o",
        path,
        "-m",
        "orchestrator.cli",
        "--root",
        root,
        "start",
        "--foreground",
    ]
    quiet = subprocess.DEVNULL
    dispatcher = subprocess.Popen(argv, env=environment(), stdout=quiet, stderr=quiet, stdin=quiet)
    Journal(root).until("completed", 5 * COUNT)
    run_command("--root", root, "stop", "--now")
    dispatcher.wait()
    spent = {(os.path.basename(file), name): took[3] for (file, _, name), took in pstats.Stats(path).stats.items()}  # type: ignore[attr-defined]
    times = {what: sum(spent.get(one, 0.0) for one in functions) for what, functions in PHASES.items()}
    whole = sum(times.values())
    return [Figure("way", what, "%", [100 * took / whole]) for what, took in times.items()]
