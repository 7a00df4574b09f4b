"""The rows about workers: how fast several processes claim, beside two queues that everybody can install; and what one
claim, one heartbeat and one report of progress take."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

from tools import Bound, Figure, Place, alternate, environment, fill, median, timed, within

PROCESSES, WAITING, BATCH = 4, 10_000, 32
LONGEST = 300.0  # seconds for one round of one of them
HERE = os.path.dirname(os.path.abspath(__file__))


def pulling(place: Place, quick: bool) -> list[Figure]:
    """Many claims, and single calls."""
    return [
        *_claims(place, 1 if quick else 3, WAITING // 10 if quick else WAITING),
        *_calls(place, 20 if quick else 100),
    ]


# As it is asked for, what it is, how many times as fast we have to be.
PEERS = (
    ("litequeue", "litequeue as it comes (WAL, synchronous=NORMAL: no commit is synced)", 2),
    ("litequeue, synced", "litequeue, each commit synced as ours (synchronous=FULL)", 2),
    ("huey", "huey FileStorage (nothing is synced)", 3),
)

# -- many claims -----------------------------------------------------------------------------------


def _claims(place: Place, rounds: int, count: int) -> list[Figure]:
    ids = [f"t_{number:05d}" for number in range(1, count + 1)]
    peers = [name for name, _, _ in PEERS if importlib.util.find_spec(name.partition(",")[0])]
    rates: dict[tuple[str, int], list[float]] = {}
    locked = 0
    for _ in range(rounds):
        for kind, batch in [("ours", BATCH), *((peer, 1) for peer in peers), ("ours", 1)]:
            rate, refused = _drain(_filled(place, kind, ids), kind, batch, ids)
            rates.setdefault((kind, batch), []).append(rate)
            locked += refused
    figures = []
    for batch, how in ((BATCH, f"{BATCH} at a time"), (1, "one by one")):
        for peer, beside, times in PEERS:
            mine, theirs = rates["ours", batch], rates.get((peer, 1), [])
            bounds = (Bound(f"≥ {times} ×", median(mine) >= times * median(theirs)),) if theirs and batch > 1 else ()
            note = f"0 lost, 0 doubled; litequeue said {locked} times 'database is locked', and was asked again"
            what = f"{PROCESSES} processes claim {len(ids):,}, durable, {how}"
            figures.append(
                Figure(
                    "pulling", what, "/s", mine, beside if theirs else f"{peer} is not here: pip install {peer.partition(',')[0]}", theirs,
                    bounds, note if batch > 1 and peer == "litequeue" else "", more_is_better=True,
                )
            )  # fmt: skip
    return figures


def _filled(place: Place, kind: str, ids: list[str]) -> str:
    """A queue with that many tasks, of that kind."""
    root = place.root()
    if kind == "ours":
        fill(root, len(ids), "")
    elif kind.startswith("litequeue"):
        from litequeue import LiteQueue

        queue = LiteQueue(f"{root}/queue.db")
        with queue.transaction():
            for one in ids:
                queue.put(one)
        queue.conn.close()
    else:
        from huey.storage import FileStorage

        storage = FileStorage("bench", f"{root}/queue")
        for one in ids:
            storage.enqueue(one.encode())
    os.sync()
    return root


def _drain(root: str, kind: str, batch: int, ids: list[str]) -> tuple[float, int]:
    """Claims per second of all processes together; how often one was refused. Raises RuntimeError unless each task was
    claimed once."""
    children = [
        subprocess.Popen(
            [sys.executable, f"{HERE}/puller.py", kind, root, f"w{number}", str(batch)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(), cwd=os.path.dirname(HERE),
        )
        for number in range(PROCESSES)
    ]  # fmt: skip
    try:
        for child in children:
            assert child.stdout is not None
            if child.stdout.readline() != "ready\n":
                raise RuntimeError(f"{kind}: a process did not come up")
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        said = [json.loads(child.communicate(timeout=LONGEST)[0]) for child in children]
    finally:
        for child in children:
            child.kill()
    got = [one for row in said for one in row["ids"]]
    if sorted(got) != ids:
        raise RuntimeError(f"{kind}: {len(ids) - len(set(got))} lost, {len(got) - len(set(got))} doubled")
    if kind == "ours":
        _verify(root, said, ids)
    seconds = max(row["ended"] for row in said) - min(row["begun"] for row in said)
    return len(got) / seconds, sum(row["locked"] for row in said)


def _verify(root: str, said: list[dict[str, list[str]]], ids: list[str]) -> None:
    """Raises RuntimeError unless the folders say the same as those who claimed."""
    names = set(os.listdir(f"{root}/tasks/assigned"))
    notes = {f"{one}@w{number}.yaml" for number, row in enumerate(said) for one in row["ids"]}
    if names != {*notes, *(f"{one}.yaml" for one in ids)} or os.listdir(f"{root}/tasks/pending"):
        raise RuntimeError("assigned/ does not hold what was claimed")


# -- single calls ----------------------------------------------------------------------------------


def _calls(place: Place, times: int) -> list[Figure]:
    from orchestrator import TaskQueue

    root, bare = place.root(), place.folder()
    fill(root, 1000, "")
    queue = TaskQueue(root)
    queue.register_agent("w", [], {"max_concurrent_tasks": 1000})
    mine = queue.get_next_task("w")
    assert mine is not None
    line = b'{"at": "2025-01-15T10:00:00Z", "percent": 50, "findings": {"sources": 2}}\n'

    def by_hand() -> None:
        fd = os.open(f"{bare}/lines", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(fd, line)
        os.fsync(fd)
        os.close(fd)

    def report() -> None:
        queue.report_progress(mine.task_id, 50, {"sources": 2}, "w", mine.run)

    claim, one = alternate(times, timed(lambda: queue.get_next_task("w")), timed(by_hand))
    progress, two = alternate(times, timed(report), timed(by_hand))
    beat, three = alternate(
        times, timed(lambda: queue.heartbeat("w", mine.task_id, mine.run)), timed(lambda: os.stat(f"{bare}/lines"))
    )
    append = "one append, synced"
    return [
        Figure("pulling", what, "ms", ours, beside, theirs, (within(f"< {limit} ms", median(ours), limit),))
        for what, ours, beside, theirs, limit in (
            ("a worker claims, 1,000 waiting, durable", claim, append, one, 10),
            ("a worker reports progress, durable", progress, append, two, 50),
            ("a worker's heartbeat, of its task", beat, "one stat()", three, 5),
        )
    ]
