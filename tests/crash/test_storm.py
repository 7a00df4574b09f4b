"""A short storm: the real dispatcher, real agents, kill -9 at random, people, and git."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from helpers import REPOSITORY


@pytest.mark.timeout(300)
def test_nothing_is_lost_doubled_or_left_behind_in_a_short_storm() -> None:
    done = subprocess.run(
        [sys.executable, f"{REPOSITORY}/crash/crash.py", "storm", "--seconds", "12", "--seed", "20250115"],
        cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    kills = re.search(r"\| kills \| (\d+)", done.stdout)
    assert kills and int(kills[1]) >= 5, done.stdout  # a storm in which nobody dies proves nothing
