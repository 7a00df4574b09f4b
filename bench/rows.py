"""The rows: each measures one promise, beside something that everybody knows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import choosing
import models
import pulling
import trouble
from tools import (
    Bound,
    Figure,
    Journal,
    Place,
    alternate,
    command,
    cpu_seconds,
    fill,
    median,
    memory,
    quantile,
    run_command,
    timed,
    whole_process,
    within,
    write,
)

WAITING = 1000
HELD = "run: 'true'\ndependencies: [never]\n"  # waits for a task that nobody will ever add
NO_OP = "run: 'true'\n"


def commands(place: Place, quick: bool) -> list[Figure]:
    """Whole processes, as a person waits for them."""
    root = place.root()
    fill(root, WAITING, HELD)
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


# -- from the drop to the agent --------------------------------------------------------------------


class Stamps:
    """A FIFO into which scripts write their names as their first act: exact, and without a fork.

    (The time of a file that they create would be up to a clock tick too early.)
    """

    def __init__(self, path: str) -> None:
        os.mkfifo(path)
        self.path = path
        self.at: dict[str, float] = {}
        self._fd = os.open(path, os.O_RDWR)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            said = os.read(self._fd, 4096)
            now = time.perf_counter()
            for name in said.decode().split():
                self.at[name] = now

    def wait(self, names: set[str], seconds: float = 60.0) -> None:
        """Until all of them have written. Raises RuntimeError."""
        deadline = time.monotonic() + seconds
        while missing := names - self.at.keys():
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"{len(missing)} of {len(names)} dropped tasks never started, such as {min(missing)}"
                )
            time.sleep(0.01)


def latency(place: Place, quick: bool) -> list[Figure]:
    """From the rename or the close of a dropped file to the first instruction of its script."""
    root, outside = place.root(slots=4), place.folder()
    stamps = Stamps(f"{outside}/stamps")
    place.start(root)
    dropped: dict[str, float] = {}
    pending = f"{root}/tasks/pending"

    def drop(name: str, by_rename: bool) -> None:
        text = f"description: say when\nrun: |\n  echo {name} >{stamps.path}\n"
        path = f"{outside}/{name}" if by_rename else f"{pending}/{name}.yaml"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, text.encode())
        if by_rename:
            os.close(fd)
            dropped[name] = time.perf_counter()
            os.rename(path, f"{pending}/{name}.yaml")
        else:
            dropped[name] = time.perf_counter()
            os.close(fd)

    def others() -> None:  # claims all the while, out of step with the drops
        number = 0
        while not over.wait(0.097):
            number += 1
            write(f"{outside}/other_{number}", f"description: another\n{NO_OP}")
            os.rename(f"{outside}/other_{number}", f"{pending}/other_{number}.yaml")

    def by_hand(number: int) -> None:
        """The same script, started by nobody but us: what the system itself takes."""
        name = f"hand_{number}"
        script = f"{outside}/{name}.sh"
        write(script, f"echo {name} >{stamps.path}\n")
        dropped[name] = time.perf_counter()
        os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-e", script], os.environ), 0)

    over = threading.Event()
    count = 60 if quick else 200
    for number in range(8):  # the first ones find cold caches
        drop(f"warm_{number}", number % 2 == 0)
        time.sleep(0.05)
    stamps.wait(set(dropped))
    companion = threading.Thread(target=others)
    companion.start()
    begun = time.perf_counter()
    for number in range(count):
        time.sleep(max(0.0, begun + number * 0.020 - time.perf_counter()))
        drop(f"{'moved' if number % 2 else 'written'}_{number}", bool(number % 2))
    try:
        stamps.wait(set(dropped))
    finally:
        over.set()
        companion.join()
        place.stop(root)
    for number in range(count):
        by_hand(number)
    stamps.wait(set(dropped))
    took = {name: 1000 * (stamps.at[name] - at) for name, at in dropped.items()}
    floor = [value for name, value in took.items() if name.startswith("hand")]
    rows = []
    for what, starts in (
        ("renamed in", ("moved",)),
        ("written in place", ("written",)),
        ("both ways", ("moved", "written")),
    ):
        values = [value for name, value in took.items() if name.startswith(starts)]
        half, most = median(values), quantile(values, 0.99)
        bounds = (within("p50 ≤ 5 ms", half, 5), within("p99 ≤ 25 ms", most, 25)) if len(starts) == 2 else ()
        rows.append(
            Figure(
                "latency",
                f"drop → first instruction, {what}, {len(values)} at 50/s",
                "ms",
                values,
                "the script by hand",
                floor,
                bounds,
                shown=f"p50 {half:.1f}  p99 {most:.1f}  max {max(values):.1f} ms",
            )
        )
    return rows


# -- many small tasks ------------------------------------------------------------------------------


def throughput(place: Place, quick: bool) -> list[Figure]:
    """No-op tasks through four slots, each claimed, run, judged, merged and committed durably."""
    count, rounds = (300, 1) if quick else (2000, 3)
    parallel = gnu_parallel()
    ours: list[float] = []
    theirs: list[float] = []
    whole: list[float] = []
    lines = f"{place.folder()}/commands"
    write(lines, "true\n" * count)
    for _ in range(rounds):
        root = place.root(slots=4)
        fill(root, count, NO_OP)
        begun = time.time()
        place.start(root)
        events = Journal(root).until("completed", count)
        first = next(place for place, event in enumerate(events) if event["kind"] == "started")
        since = float(str(events[max(0, first - 1)]["at"]))  # the last thing before the first claim
        until = float(str(events[-1]["at"]))
        ours.append(count / (until - since))
        whole.append(count / (until - begun))
        place.stop(root)
        _verify(root, count)
        if parallel:
            theirs.append(count / whole_process([*parallel, "--tmpdir", place.folder(), "-j4"], lines))
    note = f"all {count:,} in completed/ and in completed_tasks.json; {median(whole):.0f}/s with the dispatcher's start"
    beside = "parallel -j4" if parallel else "GNU parallel is not here: apt install parallel"
    bounds = (Bound("more than parallel", median(ours) > median(theirs)),) if theirs else ()
    what = f"{count:,} no-op tasks, 4 slots, durable, merged"
    return [Figure("throughput", what, "/s", ours, beside, theirs, bounds, note, more_is_better=True)]


def gnu_parallel() -> list[str]:
    """GNU parallel, told not to ask for its citation; [] if it is not here (moreutils has another of that name)."""
    if not (path := shutil.which("parallel")):
        return []
    said = subprocess.run([path, "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    return [path, "--will-cite"] if "GNU parallel" in said.stdout else []


def _verify(root: str, count: int) -> None:
    """Raises RuntimeError unless every task is where it belongs, once."""
    ids = {f"t_{number:05d}" for number in range(1, count + 1)}
    names = set(os.listdir(f"{root}/tasks/completed"))
    with open(f"{root}/context/completed_tasks.json", encoding="utf-8") as file:
        rows = [row["task_id"] for row in json.load(file)]
    left = os.listdir(f"{root}/tasks/pending") + os.listdir(f"{root}/tasks/assigned")
    if names != {f"{one}{end}" for one in ids for end in (".yaml", "_result.yaml")}:
        raise RuntimeError(f"completed/ holds {len(names)} files; {2 * count} were expected")
    if set(rows) != ids or len(rows) != count:
        raise RuntimeError(f"completed_tasks.json has {len(rows)} rows for {count} tasks")
    if left:
        raise RuntimeError(f"left over: {', '.join(left[:5])}")
    if missing := [one for one in ids if not os.path.exists(f"{root}/context/agent_outputs/{one}_output.md")]:
        raise RuntimeError(f"{len(missing)} outputs are missing")


# -- doing nothing ---------------------------------------------------------------------------------


def idle(place: Place, quick: bool) -> list[Figure]:
    """Memory and CPU of a dispatcher that has nothing to do."""
    if not os.path.exists("/proc/self/status"):
        return [Figure("idle", "memory and CPU of the dispatcher", "", (), note="needs /proc")]
    seconds = 10.0 if quick else 30.0
    full, bare = place.root(), place.root()
    fill(full, WAITING, HELD)
    pids = [place.start(root) for root in (full, bare)]
    _until_read(full, f"{WAITING} waiting")
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


def _until_read(root: str, words: str) -> None:
    """Until the checklist says so. Raises RuntimeError."""
    deadline = time.monotonic() + 60
    while words not in (found := _text(f"{root}/context/current_state.md")):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the checklist does not say {words!r} after a minute: {found[:200]!r}")
        time.sleep(0.1)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


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
    fill(root, WAITING, HELD)
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
    "latency": latency,
    "throughput": throughput,
    "idle": idle,
    "calls": calls,
    "choosing": choosing.choosing,
    "pulling": pulling.pulling,
    "mcp": models.mcp,
    "restart": trouble.restart,
    "garbage": trouble.garbage,
}
