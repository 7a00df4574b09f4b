"""A root of its own for each test; every process of it is killed afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.driver import Driver


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Driver]:
    """A queue with one agent, `fake`, that has four slots; no dispatcher runs yet."""
    driver = Driver(tmp_path).make()
    yield driver
    driver.close()


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Driver]:
    """A folder with nothing in it."""
    driver = Driver(tmp_path)
    yield driver
    driver.close()
