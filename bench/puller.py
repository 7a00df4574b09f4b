"""One pulling process of the row `pulling`: claims until nothing is left, and says what it got and when.

python puller.py ours|litequeue|'litequeue, synced'|huey ROOT NAME BATCH
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Callable


def ours(root: str, name: str, batch: int) -> Callable[[], list[str]]:
    """`batch` claims at a time, which share the cost of being durable."""
    from orchestrator import TaskQueue

    queue = TaskQueue(root)
    queue.register_agent(name, [], {"max_concurrent_tasks": 1_000_000})
    queue.poll_tasks(name)  # reads what waits
    return lambda: [one.task_id for one in queue.claim_tasks(name, batch)]


def litequeue(root: str, name: str, batch: int, synced: bool = False) -> Callable[[], list[str]]:
    """With the settings that it comes with: WAL, synchronous=NORMAL (which does not sync at a commit)."""
    from litequeue import LiteQueue

    queue = LiteQueue(f"{root}/queue.db")
    if synced:
        queue.conn.execute("PRAGMA synchronous=FULL")

    def pop() -> list[str]:
        while True:
            try:
                found = queue.pop()
                return [found.data] if found else []
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                LOCKED.append(1)

    return pop


def litequeue_synced(root: str, name: str, batch: int) -> Callable[[], list[str]]:
    """The same, as durable as ours: each commit is synced."""
    return litequeue(root, name, batch, synced=True)


def huey(root: str, name: str, batch: int) -> Callable[[], list[str]]:
    """Its queue of files; it syncs nothing."""
    from huey.storage import FileStorage

    queue = FileStorage("bench", f"{root}/queue")
    return lambda: [found.decode()] if (found := queue.dequeue()) else []


LOCKED: list[int] = []


def main(kind: str, root: str, name: str, batch: str) -> None:
    """Ready, go, done."""
    kinds = {"ours": ours, "litequeue": litequeue, "litequeue, synced": litequeue_synced, "huey": huey}
    take = kinds[kind](root, name, int(batch))
    print("ready", flush=True)
    sys.stdin.readline()
    got: list[str] = []
    begun = time.monotonic()
    while found := take():
        got += found
    print(json.dumps({"begun": begun, "ended": time.monotonic(), "ids": got, "locked": len(LOCKED)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
