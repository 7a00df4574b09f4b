"""The row about models: how long a tool takes to answer over MCP."""

from __future__ import annotations

import os

import anyio.from_thread
from tools import Figure, Place, alternate, command, environment, median, timed, within, write

WAITING = 1000


def mcp(place: Place, quick: bool) -> list[Figure]:
    """A task added over stdio by the official client, and the same call in Python: both are durable when they return."""
    from mcp import Client, StdioServerParameters

    from orchestrator import TaskQueue

    root, bare = place.root(), place.root()
    for one in (root, bare):
        for number in range(1, WAITING + 1):
            write(f"{one}/tasks/pending/task_{number:03d}.yaml", "description: a task of the bench\n")
    os.sync()
    program, *rest = command()
    server = StdioServerParameters(command=program, args=[*rest, "-C", root, "mcp"], env=environment())
    queue = TaskQueue(bare)
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Client(server)) as client,
    ):

        def create() -> None:
            found = portal.call(client.call_tool, "orchestration_create_task", {"content": "a task of the bench"})
            assert not found.is_error, found.content

        times = 30 if quick else 200
        ours, theirs = alternate(times, timed(create), timed(lambda: queue.create_task("a task of the bench")))
    what = f"MCP create_task over stdio and back, {WAITING:,} waiting"
    bounds = (within("< 10 ms", median(ours), 10),)
    return [Figure("mcp", what, "ms", ours, "create_task() in Python", theirs, bounds)]
