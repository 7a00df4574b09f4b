"""Killed before every call and in the midst of every write; then started again: nothing lost, nothing doubled.

A sample here, always the same; `make crash` tries them all.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def steps(*words: str) -> str:
    """What the table of these steps says, without a violation."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    said = subprocess.run(
        [sys.executable, "crash/crash.py", "steps", "--jobs", "1", *words],
        cwd=REPOSITORY, env=plain, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout


@pytest.mark.parametrize(
    "scenes", ["add init cancel archive", "run retry person", "rejected pause cancel-served", "stop-now taken-out take-up cancel-running"]
)  # fmt: skip
def test_killed_anywhere_nothing_is_lost_or_doubled(scenes: str) -> None:
    """Invariants 1 to 4 and 6."""
    named = [word for scene in scenes.split() for word in ("--scene", scene)]
    table = steps("kill", "--every", "53", *named)
    tried = re.findall(r"^kill +(\S+) +(\d+) points +0 violations", table, re.MULTILINE)
    assert sorted(name for name, _ in tried) == sorted(scenes.split())
    assert all(int(points) >= 3 for _, points in tried), table


def test_a_call_that_fails_costs_one_line_and_nothing_else() -> None:
    """No room, a bad disk, no descriptors, no right: commands say one line, the dispatcher goes on by itself."""
    named = [word for scene in ("add", "cancel", "run") for word in ("--scene", scene)]
    assert "0 violations" in steps("fail", "--every", "199", *named).splitlines()[-1]


def test_a_power_cut_takes_nothing_back_that_was_acknowledged() -> None:
    """Invariant 9: what was not synced is gone, empty, torn, or there alone."""
    named = [word for scene in ("add", "cancel", "run", "person") for word in ("--scene", scene)]
    assert " 0 violations" in steps("power", "--every", "211", *named).splitlines()[-1]
