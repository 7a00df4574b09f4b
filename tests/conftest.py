"""Fixtures that tests of several rooms share."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.driver import Driver

from orchestrator import process
from orchestrator.spool import Spool

# A shell has what it starts in the background ignore the interrupt, and nohup the hang-up: so would all that tests start.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def queue(tmp_path: Path) -> Spool:
    """An empty spool."""
    made = Spool(str(tmp_path))
    made.make_folders()
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[str]:
    """An empty run folder; whatever lives on in it when the test ends is killed."""
    path = tmp_path / "tasks" / "runs" / "task_001" / "1"
    path.mkdir(parents=True)
    yield str(path)
    for pid in process.members(str(path)):
        process.signal_member(pid, str(path), 9)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Driver]:
    """A queue with one agent, `fake`, that has four slots; no dispatcher runs yet. Every process of it is killed
    afterwards."""
    driver = Driver(tmp_path).make()
    yield driver
    driver.close()


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Driver]:
    """A folder with nothing in it."""
    driver = Driver(tmp_path)
    yield driver
    driver.close()
