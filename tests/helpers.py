"""What tests of several rooms share: wait for a condition, real processes of Python."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.process import Child

REPOSITORY = str(Path(__file__).resolve().parent.parent)


def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What `condition` gives as soon as it is true; fails if it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"was not true within {seconds:g} s")
        time.sleep(0.005)


def waited(child: Child, seconds: float = 20.0) -> None:
    """Wait for the end of what the launcher started."""
    until(lambda: child.poll() is not None, seconds)


def python(code: str, *args: str) -> subprocess.Popen[str]:
    """A process of its own that runs `code` with this repository on its path."""
    paths = filter(None, (REPOSITORY, os.environ.get("PYTHONPATH")))
    return subprocess.Popen(
        [sys.executable, "-c", code, *args],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def at_once(code: str, arguments: list[tuple[str, ...]]) -> list[str]:
    """What each of these processes printed. `code` calls `input()` where all wait for each other."""
    children = [python("print('ready', flush=True)\n" + code, *args) for args in arguments]
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
    for child in children:  # they go on once their line is there
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    found = []
    for child in children:
        out, err = child.communicate(timeout=60)
        assert child.returncode == 0, err
        found.append(out)
    return found


def write(path: str | Path, content: str | bytes) -> str:
    """Write a file and the folders above it; its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def printed(path: str) -> str:
    """What a run has printed so far; its wrapper makes the file."""
    return read(path) if os.path.exists(path) else ""


def read(path: str | Path) -> str:
    return Path(path).read_text(encoding="utf-8")


_HOLD = """
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)  # somebody wants it
for path in sys.argv[1:]:
    fcntl.fcntl(os.open(path, os.O_RDWR | os.O_CREAT), fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def withheld(*paths: str | Path) -> Iterator[None]:
    """Nobody can open these files until the end of this, whatever their names are then: a process holds a write lease on
    each (fcntl(2), F_SETLEASE), and the kernel lets everybody wait until it gives that up, or for 45 seconds."""
    with python(_HOLD, *map(str, paths)) as holder:
        assert holder.stdout is not None
        if holder.stdout.readline() != "held\n":
            pytest.skip(f"no leases here: {holder.communicate()[1]}")
        try:
            yield
        finally:
            holder.communicate()
