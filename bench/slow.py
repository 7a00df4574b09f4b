"""Rows about disks that keep a reader waiting: one file of many, or every call."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import drops
from tools import Figure, Journal, Place, fill, median, quantile, within, write

APART = "queue: {max_size: 10000000, read_apart: always}\n"
DELAY_MS = 10
CALLS = "openat,newfstatat,statx,rename,renameat2,link,unlink,mkdir,getdents64,fsync,fdatasync,read,write,utimensat"
HOLD = """
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
fcntl.fcntl(os.open(sys.argv[1], os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
sys.stdin.read()
"""


def slow(place: Place, quick: bool) -> list[Figure]:
    """A file that does not come, beside good ones; a disk that takes its time for each call."""
    return [*_withheld(place, 40 if quick else 100), *_every_call(place, 8 if quick else 16)]


def _withheld(place: Place, count: int) -> list[Figure]:
    if sys.platform != "linux":
        return [
            Figure("slow", "drop → first instruction, beside a file that does not come", "ms", (), note="needs leases")
        ]
    near, alone, beside = [], [], []
    for _ in range(2):  # in turns
        for apart, hung, values in ((False, False, near), (True, False, alone), (True, True, beside)):
            root = place.root(slots=4)
            if apart:
                write(f"{root}/config.yaml", f"agents:\n  shell: {{max_instances: 4}}\n{APART}")
            with _held(place, root) if hung else _nothing():
                place.start(root)
                try:
                    took = drops.drop(place, root, count // 2)
                finally:
                    place.stop(root)
            values += [*took["moved"], *took["written"]]
    ratio = median(beside) / median(alone)
    what = f"drop → first instruction, {len(beside)} at 50/s"
    return [
        Figure("slow", f"{what}, beside a file that does not open", "ms", beside, "without it", alone,
               (within("≤ 1.2 ×", ratio, 1.2),), shown=_shown(beside)),
        Figure("slow", f"{what}, read by a process of its own", "ms", alone, "read by the loop", near, shown=_shown(alone)),
    ]  # fmt: skip


def _shown(values: list[float]) -> str:
    return f"p50 {median(values):.1f}  p99 {quantile(values, 0.99):.1f}  max {max(values):.1f} ms"


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _held(place: Place, root: str) -> Iterator[None]:
    """A task file in pending/ that nobody can open."""
    path = f"{place.folder()}/held"
    write(path, "description: x\nrun: 'true'\n")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        if holder.stdout.readline() != "held\n":
            raise RuntimeError("no lease can be had here")
        os.rename(path, f"{root}/tasks/pending/held.yaml")
        try:
            yield
        finally:
            holder.communicate()


def _every_call(place: Place, count: int) -> list[Figure]:
    what = f"{count} no-op tasks, {DELAY_MS} ms more for each call of the dispatcher that opens, reads, writes, moves or syncs"
    if not shutil.which("strace"):
        return [Figure("slow", what, "/s", (), note="needs strace")]
    rates, silent = [], 0.0
    for delay in (0, DELAY_MS):
        root = place.root(slots=4)
        pid = place.start(root)
        argv = ["strace", "-qq", "-o", os.devnull, "-e", f"trace={CALLS}", "-p", str(pid)]
        tracer = subprocess.Popen([*argv, "-e", f"inject={CALLS}:delay_enter={1000 * delay}"]) if delay else None
        journal = Journal(root)
        time.sleep(0.5)
        begun = time.monotonic()
        fill(root, count, "run: 'true'\n")
        done = 0
        while done < count:
            if time.monotonic() - begun > 170:
                raise RuntimeError(f"{done} of {count} tasks with {delay} ms a call")
            time.sleep(0.05)
            done += sum(event["kind"] == "completed" for event in journal.new())
            silent = max(silent, time.time() - os.stat(f"{root}/.orchestrator/heartbeat").st_mtime)
        rates.append(count / (time.monotonic() - begun))
        if tracer:
            tracer.terminate()
            tracer.wait()
        place.stop(root)
    note = f"{1000 / rates[1]:,.0f} ms a task; its heartbeat was never older than {silent:.0f} s"
    return [Figure("slow", what, "/s", rates[1:], "without", rates[:1], note=note, more_is_better=True)]
