"""`orchestrate start`: a dispatcher as a daemon. What it needs to be one, it loads itself."""

from __future__ import annotations

import os
import subprocess
import sys

from orchestrator import plain
from orchestrator.cli.paint import put
from orchestrator.errors import OrchestrateError
from orchestrator.hold import refuse_second


def start(root: str, agents: str, as_json: bool) -> None:
    """Start it, and say so once it is up. Raises OrchestrateError with its reason."""
    pid = begin(root, agents)
    found = {"pid": pid, "log": f"{root}/.orchestrator/dispatcher.log"}
    put(found) if as_json else print(f"dispatcher running (pid {pid}); log: .orchestrator/dispatcher.log")


def begin(root: str, agents: str) -> int:
    """Its pid, once it is up. Raises OrchestrateError with its reason."""
    if agents:
        from orchestrator.config import parse_sizes

        parse_sizes(agents)
    refuse_second(root)
    read, write = os.pipe()
    os.makedirs(f"{root}/.orchestrator", exist_ok=True)
    with open(f"{root}/.orchestrator/dispatcher.log", "ab", opener=plain.opener) as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.app", root, agents, str(write)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=root,
            pass_fds=(write,),
            start_new_session=True,
        )
    os.close(write)
    with open(read, encoding="utf-8") as pipe:
        problem = pipe.read().strip()  # ends when the dispatcher is up, or is gone
    if problem == "up":
        return child.pid
    raise OrchestrateError(problem or f"the dispatcher did not come up; see {root}/.orchestrator/dispatcher.log")
