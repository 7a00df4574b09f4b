"""The row `throughput`: the same no-op command through four slots of ours and of everybody's, in turns; and `submit`:
how fast tasks are added from Python. Each figure says what it guarantees."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tools import Bound, Figure, Journal, Place, environment, fill, median, verify, whole_process, write

HERE = os.path.dirname(os.path.abspath(__file__))
LONGEST = 180.0  # seconds for one round of one of them
NO_OP = "run: 'true'\n"


class Peer(NamedTuple):
    """Somebody who does the same work."""

    name: str
    needs: str  # a program, or a module with a dot before it
    source: str  # where it comes from
    rate: Callable[[Peer, Place, int], float]  # tasks per second
    durable: str  # what was accepted outlives a power cut
    once: str  # two workers never get the same task
    survives: str  # what a killed worker had is not lost
    kept: str  # how it ended can be read afterwards
    submits: bool = False  # has a place in the row `submit`

    @property
    def is_runner(self) -> bool:
        """Runs a list of commands, and keeps no queue."""
        return self.needs in ("parallel", "xargs", "make")

    @property
    def is_here(self) -> bool:
        if self.needs.startswith("."):
            return importlib.util.find_spec(self.needs[1:]) is not None and (self.name != "rq" or bool(redis_server()))
        return bool(gnu_parallel() if self.needs == "parallel" else shutil.which(self.needs))

    @property
    def guarantees(self) -> str:
        return (
            f"durable: {self.durable} · one claim: {self.once} · kill -9 loses no task: {self.survives} · "
            f"result kept: {self.kept}"
        )


# -- programs ----------------------------------------------------------------------------------------


def _parallel(peer: Peer, place: Place, count: int) -> float:
    return count / whole_process([*gnu_parallel(), "--tmpdir", place.folder(), "-j4"], _lines(place, "true\n" * count))


def _xargs(peer: Peer, place: Place, count: int) -> float:
    numbers = "".join(f"{number}\n" for number in range(count))
    return count / whole_process(["xargs", "-P4", "-n1", "true"], _lines(place, numbers))


def _make(peer: Peer, place: Place, count: int) -> float:
    names = " ".join(f"t{number}" for number in range(count))
    path = _lines(place, f".PHONY: all {names}\nall: {names}\n{names}:\n\t@true\n")
    return count / whole_process(["make", "-s", "-j4", "-f", path, "all"])


def _spooler(peer: Peer, place: Place, count: int) -> float:
    """One process each to add them; from the first of these to the last end."""
    script = f"""
        export TS_SOCKET="$1/socket" TS_MAXCONN={count + 100} TS_MAXFINISHED={count + 100} TMPDIR="$1"
        ulimit -n {count + 200}
        tsp -S 4
        i=0; while [ $i -lt {count} ]; do tsp -n true >/dev/null; i=$((i+1)); done
        tsp -w {count - 1}; tsp -w {count - 2}; tsp -w {count - 3}; tsp -w {count - 4}
    """
    folder = place.folder()
    try:
        return count / whole_process(["sh", "-c", script, "sh", folder])
    finally:
        subprocess.run(["tsp", "-K"], env={**environment(), "TS_SOCKET": f"{folder}/socket"}, check=False)


def _nq(peer: Peer, place: Place, count: int) -> float:
    """Four folders, as one of them runs one after the other; one process each to add them."""
    script = f"""
        i=0; while [ $i -lt {count} ]; do NQDIR="$1/$((i%4))" nq -q true; i=$((i+1)); done
        for d in 0 1 2 3; do NQDIR="$1/$d" nq -w; done
    """
    return count / whole_process(["sh", "-c", script, "sh", place.folder()])


def gnu_parallel() -> list[str]:
    """GNU parallel, told not to ask for its citation; [] if it is not here (moreutils has another of that name)."""
    if not (path := shutil.which("parallel")):
        return []
    said = subprocess.run([path, "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    return [path, "--will-cite"] if "GNU parallel" in said.stdout else []


def _lines(place: Place, text: str) -> str:
    write(path := f"{place.folder()}/lines", text)
    return path


# -- queues of Python --------------------------------------------------------------------------------


def _consumed(peer: Peer, place: Place, count: int) -> float:
    """Tasks a second from the first end to the last. Raises RuntimeError unless each was run once."""
    folder = place.folder()
    with _served(peer, folder):
        put(peer.name, folder, count)
        os.sync()
        argv = [sys.executable, f"{HERE}/consumer.py", "work", peer.name, folder]
        quiet = subprocess.DEVNULL
        worker = subprocess.Popen(argv, cwd=HERE, env=environment(), stdout=quiet, stderr=quiet, start_new_session=True)
        try:
            done = _done(f"{folder}/done", count)
        finally:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
    if sorted(int(number) for number, _ in done) != list(range(count)):
        raise RuntimeError(f"{peer.name}: {count - len({number for number, _ in done})} of {count} never ran")
    at = [float(moment) for _, moment in done]
    return (count - 1) / (max(at) - min(at))


def put(kind: str, folder: str, count: int) -> float:
    """Seconds that adding so many takes, in a process of its own. Raises RuntimeError with what it said."""
    argv = [sys.executable, f"{HERE}/consumer.py", "put", kind, folder, str(count)]
    said = subprocess.run(argv, cwd=HERE, env=environment(), capture_output=True, text=True, check=False)
    if said.returncode:
        raise RuntimeError(f"{kind}: {said.stderr.strip().splitlines()[-1]}")
    return float(said.stdout)


def _done(path: str, count: int) -> list[list[str]]:
    deadline = time.monotonic() + LONGEST
    while True:
        time.sleep(0.05)
        if os.path.exists(path):
            with open(path, encoding="ascii") as file:
                if len(lines := file.read().splitlines()) >= count:
                    return [line.split() for line in lines]
        if time.monotonic() > deadline:
            raise RuntimeError(f"{os.path.dirname(path)}: not all of {count} ended in {LONGEST:.0f} s")


def redis_server() -> list[str]:
    """Redis: the program, or what Debian calls redis-check-rdb, which is the same under another name."""
    return [path] if (path := shutil.which("redis-server") or shutil.which("redis-check-rdb")) else []


@contextmanager
def _served(peer: Peer, folder: str) -> Iterator[None]:
    """With a Redis of its own where one is needed."""
    if peer.name != "rq":
        yield
        return
    argv = ["redis-server", "--port", "0", "--unixsocket", f"{folder}/redis", "--dir", folder]
    server = subprocess.Popen(argv, executable=redis_server()[0], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not os.path.exists(f"{folder}/redis") and time.monotonic() < deadline:
            time.sleep(0.05)
        yield
    finally:
        server.kill()
        server.wait()


PEERS = (
    Peer("parallel -j4", "parallel", "Debian", _parallel, "no", "yes", "no", "no"),
    Peer("xargs -P4", "xargs", "Debian", _xargs, "no", "yes", "no", "no"),
    Peer("make -j4", "make", "Debian", _make, "no", "yes", "no", "no"),
    Peer("task-spooler", "tsp", "Debian: task-spooler", _spooler, "no", "yes", "no", "in memory"),
    Peer("nq", "nq", "Debian", _nq, "not synced", "yes", "no", "output only"),
    Peer("huey, files", ".huey", "PyPI: huey", _consumed, "not synced", "yes", "no", "no", True),
    Peer("huey, SQLite", ".huey", "PyPI: huey", _consumed, "yes", "yes", "no", "no", True),
    Peer("litequeue", ".litequeue", "PyPI: litequeue", _consumed, "not synced", "yes", "stays locked", "no"),
    Peer("litequeue, synced", ".litequeue", "PyPI: litequeue", _consumed, "yes", "yes", "stays locked", "no", True),
    Peer("persist-queue", ".persistqueue", "PyPI: persist-queue", _consumed, "yes", "in one process", "yes", "no", True),
    Peer("dirq", ".dirq", "PyPI: dirq", _consumed, "not synced", "yes", "after purge()", "no", True),
    Peer("celery", ".celery", "PyPI: celery", _consumed, "not synced", "yes", "no", "no"),
    Peer("rq", ".rq", "PyPI: rq; Debian: redis-tools", _consumed, "not synced", "yes", "kept as failed", "no"),
)  # fmt: skip
SYNCED, AT_ONCE = "litequeue, synced", "litequeue, synced, one transaction"
QUICK = ("parallel -j4", "task-spooler", "huey, files", SYNCED)


def throughput(place: Place, quick: bool) -> list[Figure]:
    """No-op tasks through four slots; ours are claimed, run, judged, merged and committed durably."""
    count, rounds = (300, 1) if quick else (1000, 3)
    peers = [one for one in PEERS if one.name in QUICK or not quick]
    here = [one for one in peers if one.is_here]
    ours: dict[str, list[float]] = {"durable": [], "durability: relaxed": []}
    theirs: dict[str, list[float]] = {}
    broken: dict[str, str] = {}
    begun = time.monotonic()
    for turn in range(rounds):
        if turn and time.monotonic() - begun > LONGEST:
            break  # on a busy machine fewer rounds, and some minutes all the same
        for number, peer in enumerate(here):
            if number % 5 == 0:
                for how, rates in ours.items():
                    rates.append(_ours(place, count, "" if how == "durable" else f"{how}\n"))
            try:
                theirs.setdefault(peer.name, []).append(peer.rate(peer, place, count))
            except RuntimeError as error:
                broken[peer.name] = str(error)
    figures = []
    for how, mine in ours.items():
        for peer in peers:
            if how != "durable" and peer.is_runner:
                continue
            found = theirs.get(peer.name, [])
            why = f"{peer.name} is not here ({peer.source})" if peer not in here else broken.get(peer.name, "")
            times = {"parallel -j4": 2, "task-spooler": 1}.get(peer.name, 0) if how == "durable" else 1
            bounds = (Bound(f"≥ {times} ×", median(mine) >= times * median(found)),) if times and found else ()
            what = f"{count:,} no-op tasks, 4 slots, merged, {how}"
            figures.append(
                Figure(
                    "throughput",
                    what,
                    "/s",
                    mine,
                    why or peer.name,
                    found,
                    bounds,
                    peer.guarantees,
                    more_is_better=True,
                )
            )
    return figures


def _ours(place: Place, count: int, more: str) -> float:
    root = place.root(slots=4, more=more)
    fill(root, count, NO_OP)
    place.start(root)
    events = Journal(root).until("completed", count)
    first = next(number for number, event in enumerate(events) if event["kind"] == "started")
    since = float(str(events[max(0, first - 1)]["at"]))  # the last thing before the first claim
    place.stop(root)
    verify(root, count)
    return count / (float(str(events[-1]["at"])) - since)


def submit(place: Place, quick: bool) -> list[Figure]:
    """Tasks added from Python by one process; the peers that sync, and two that do not."""
    count, many, rounds = (300, 2000, 1) if quick else (2000, 100_000, 3)
    here = [one for one in PEERS if one.submits and one.is_here]
    kinds = {"ours": count, "ours, at once": many} | {one.name: count for one in here}
    durable = {one.name: "each, when its call returns" if one.durable == "yes" else one.durable for one in here}
    if SYNCED in kinds:
        kinds |= {SYNCED: many // 5, AT_ONCE: many}  # a WAL is cut now and then: the mean of many puts counts
        durable[AT_ONCE] = "all, when it ends"
    rates: dict[str, list[float]] = {}
    for turn in range(rounds):
        for kind, number in kinds.items():
            if turn > 1 and kind == "ours, at once":
                continue  # 200,000 files are enough for this disk
            folder = place.root() if kind.startswith("ours") else place.folder()
            rates.setdefault(kind, []).append(number / put(kind, folder, number))
    figures = []
    for mine, what in (("ours", "one by one"), ("ours, at once", f"{many:,} at once")):
        for name, theirs in rates.items():
            if name.startswith("ours") or (name == AT_ONCE and mine == "ours"):
                continue
            is_bound = name == SYNCED and mine != "ours"
            bounds = (Bound("≥ 2 ×", median(rates[mine]) >= 2 * median(theirs)),) if is_bound else ()
            figures.append(
                Figure(
                    "submit", f"tasks added from Python, {what}, durable", "/s", rates[mine], name, theirs, bounds,
                    f"durable: {durable[name]}", more_is_better=True,
                )
            )  # fmt: skip
    return figures
