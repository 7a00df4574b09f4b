"""The rows: each measures one promise, beside something that everybody knows."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import choosing
import drops
import models
import peers
import pulling
import scale
import slow
import trouble
import way
from tools import (
    Figure,
    Place,
    alternate,
    command,
    cpu_seconds,
    fill,
    hold,
    median,
    memory,
    run_command,
    timed,
    until_read,
    whole_process,
    within,
    write,
)

WAITING = 1000
NO_OP = "run: 'true'\n"


def commands(place: Place, quick: bool) -> list[Figure]:
    """Whole processes, as a person waits for them."""
    root = place.root()
    hold(root, WAITING)
    times = 10 if quick else 40
    empty = [sys.executable, "-c", "pass"]
    ours = [*command(), "--root", root]
    run_command("--root", root, "add", "x")  # compiles what has to be compiled
    measures = [
        lambda argv=argv: 1000 * whole_process(argv) for argv in (empty, [*ours, "add", "x"], [*ours, "status"])
    ]
    nothing, add, status = alternate(times, *measures)
    rows = []
    for what, values in (('orchestrate add "x"', add), ("orchestrate status", status)):
        ratio = median(values) / median(nothing)
        bounds = (within("≤ 50 ms", median(values), 50), within("≤ 5 ×", ratio, 5))
        rows.append(Figure("commands", f"{what}, {WAITING:,} waiting", "ms", values, "python -c pass", nothing, bounds))
    return rows


# -- doing nothing ---------------------------------------------------------------------------------


def idle(place: Place, quick: bool) -> list[Figure]:
    """Memory and CPU of a dispatcher that has nothing to do."""
    if not os.path.exists("/proc/self/status"):
        return [Figure("idle", "memory and CPU of the dispatcher", "", (), note="needs /proc")]
    seconds = 10.0 if quick else 60.0  # in which each file that waits is looked at once, too
    full, bare = place.root(), place.root()
    hold(full, WAITING)
    pids = [place.start(root) for root in (full, bare)]
    until_read(full)
    python = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=os.environ)
    time.sleep(6.0)  # the first scans, the first checklist
    before, begun = [cpu_seconds(pid) for pid in pids], time.monotonic()
    time.sleep(seconds)
    lasted = time.monotonic() - begun
    shares = [100 * (cpu_seconds(pid) - was) / lasted for pid, was in zip(pids, before, strict=True)]
    (resident, private), empty = memory(pids[0]), memory(python.pid)[0]
    python.communicate(b"\n")
    for root in (full, bare):
        place.stop(root)
    return [
        Figure(
            "idle", f"memory of the dispatcher, {WAITING:,} waiting", "MB", [resident], "an empty Python", [empty],
            (within("≤ 60 MB", resident, 60),), f"private: {private:.1f} MB",
        ),
        Figure("idle", f"CPU in {lasted:.0f} s, nothing waits", "%", [shares[1]], bounds=(within("≤ 0.1 %", shares[1], 0.1),)),
        Figure("idle", f"CPU in {lasted:.0f} s, {WAITING:,} wait", "%", [shares[0]], bounds=(within("≤ 0.1 %", shares[0], 0.1),)),
    ]  # fmt: skip


# -- in process ------------------------------------------------------------------------------------


def calls(place: Place, quick: bool) -> list[Figure]:
    """Single steps, called here."""
    times = 30 if quick else 200
    return [
        *_claim(place, times),
        *_heartbeat(place, times),
        *_status(place, times),
        *_checkup(place, times),
        *_merge(place, times),
    ]


def _claim(place: Place, times: int) -> list[Figure]:
    from orchestrator.runs import utc
    from orchestrator.spool import Spool

    root, bare = place.root(), place.root()
    queue = Spool(root)
    queue.make_folders()
    os.makedirs(f"{bare}/tasks/assigned")
    for one in (root, bare):
        fill(one, max(WAITING, times + 1), NO_OP)
    ids = iter(range(1, times + 2))
    names = iter(range(1, times + 2))

    def claim() -> None:
        task_id = f"t_{next(ids):05d}"
        queue.claim(f"{task_id}.yaml", task_id)
        queue.assign(task_id, "agent_01", "shell", 1, utc(time.time()))
        queue.sync()

    def by_hand() -> None:
        """The least that is durable: the note written and synced, the file renamed, both folders synced."""
        task_id = f"t_{next(names):05d}"
        os.rename(f"{bare}/tasks/pending/{task_id}.yaml", f"{bare}/tasks/assigned/{task_id}.yaml")
        fd = os.open(f"{bare}/tasks/assigned/{task_id}_agent_01.yaml", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, b"agent_id: agent_01\n")
        os.fsync(fd)
        os.close(fd)
        for folder in ("pending", "assigned"):
            fd = os.open(f"{bare}/tasks/{folder}", os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)

    ours, theirs = alternate(times, timed(claim), timed(by_hand))
    return [
        Figure(
            "calls", f"claim, {WAITING:,} waiting: move, note, sync", "ms", ours, "bare system calls", theirs,
            (within("< 10 ms", median(ours), 10),),
        )
    ]  # fmt: skip


def _heartbeat(place: Place, times: int) -> list[Figure]:
    from orchestrator.live import Live

    folder = place.folder()
    write(f"{folder}/alive", "")
    beat: Callable[[], object]
    live = Live.__new__(Live)
    live.folder = folder
    method = getattr(live, "_lives", None)
    beat = (lambda: method(1.0)) if method else (lambda: os.utime(f"{folder}/alive"))
    ours, theirs = alternate(times, timed(beat), timed(lambda: os.stat(f"{folder}/alive")))
    return [Figure("calls", "heartbeat", "ms", ours, "one stat()", theirs, (within("< 5 ms", median(ours), 5),))]


def _status(place: Place, times: int) -> list[Figure]:
    from orchestrator.cli import status

    root = place.root()
    hold(root, WAITING)
    ours, theirs = alternate(
        times, timed(lambda: status.view(root)), timed(lambda: os.listdir(f"{root}/tasks/pending"))
    )
    bounds = (within("< 10 ms", median(ours), 10),)
    return [Figure("calls", f"status view, {WAITING:,} waiting", "ms", ours, "one listdir()", theirs, bounds)]


def _checkup(place: Place, times: int) -> list[Figure]:
    """All that `doctor` looks for in a queue of 1,000 ended tasks and 50 that run."""
    from orchestrator.checkup import faults
    from orchestrator.context import Context
    from orchestrator.runs import Result
    from orchestrator.spool import Spool
    from orchestrator.states import Outcome

    root = place.root()
    queue, context = Spool(root), Context(root)
    queue.make_folders()
    context.make()
    for number in range(1, WAITING + 1):
        one = f"t_{number:05d}"
        write(f"{queue.tasks}/completed/{one}.yaml", NO_OP)
        result = Result(one, "agent_01", "shell", 1, Outcome.SUCCESS, time.time(), title="x").to_yaml().decode()
        write(f"{queue.tasks}/completed/{one}_result.yaml", result)
        os.makedirs(queue.run_folder(one, 1))
    for number in range(50):
        write(f"{queue.tasks}/assigned/r_{number}.yaml", NO_OP)
        write(f"{queue.tasks}/assigned/r_{number}_agent_{number:02d}.yaml", "agent_id: a\nrun: 1\n")
        os.makedirs(queue.run_folder(f"r_{number}", 1))
    assert not list(faults(queue, context))
    ours, theirs = alternate(
        times, timed(lambda: list(faults(queue, context))), timed(lambda: os.listdir(f"{queue.tasks}/completed"))
    )
    bounds = (within("< 100 ms", median(ours), 100),)
    what = f"one check of everything, {WAITING:,} tasks, 50 running"
    return [Figure("calls", what, "ms", ours, "one listdir()", theirs, bounds)]


def _merge(place: Place, times: int) -> list[Figure]:
    from orchestrator.context import Context
    from orchestrator.runs import Result
    from orchestrator.states import Outcome

    small, large = Context(place.root()), Context(place.root())
    for context in (small, large):
        context.make()
    line = b"- something that an agent found out and thought worth keeping for the others (task_001, shell)\n"
    with open(f"{large.folder}/known_issues.md", "ab") as file:
        file.write(line * (50_000_000 // len(line)))
    row = b'{"mark": "old/1", "task_id": "old", "title": "done long ago", "files_modified": ["a.py"]}'
    with open(f"{large.folder}/completed_tasks.json", "wb") as file:
        file.write(b"[\n" + b",\n".join([row] * (50_000_000 // len(row))) + b"\n]\n")
    os.sync()
    numbers = {id(small): 0, id(large): 0}

    def merge(context: Context) -> None:
        numbers[id(context)] += 1
        one = f"task_{numbers[id(context)]:03d}"
        result = Result(
            one, "agent_01", "shell", 1, Outcome.SUCCESS, time.time(), known_issues=("one more",), title="x"
        )
        context.merge([result])

    ours, theirs = alternate(times, timed(lambda: merge(large)), timed(lambda: merge(small)))
    return [Figure("calls", "merge a result into 100 MB of context", "ms", ours, "into an empty context", theirs)]


ROWS: dict[str, Callable[[Place, bool], list[Figure]]] = {
    "commands": commands,
    "latency": drops.latency,
    "throughput": peers.throughput,
    "idle": idle,
    "calls": calls,
    "choosing": choosing.choosing,
    "pulling": pulling.pulling,
    "mcp": models.mcp,
    "restart": trouble.restart,
    "garbage": trouble.garbage,
    "slow": slow.slow,
    "submit": peers.submit,
    "way": way.way,
    "scale": scale.scale,
    "history": scale.history,
    "million": scale.million,
}
ASKED_FOR = ("million",)  # too long for every time
QUICK = ("commands", "latency", "throughput", "submit", "scale")
