"""Fixtures that tests of several rooms share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import process
from orchestrator.spool import Spool


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
