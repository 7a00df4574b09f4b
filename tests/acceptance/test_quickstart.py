"""examples/quickstart.py: what it prints, and what it leaves on the disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from integration.driver import REPOSITORY, Driver, environment

STEPS = ["register", "create", "route", "assign", "execute", "monitor", "query", "learn", "depend", "mcp"]


def has_mcp() -> bool:
    """Whether the extra is here."""
    try:
        import mcp  # noqa: F401
    except ImportError:
        return False
    return True


@pytest.mark.parametrize("extra", [True, False] if has_mcp() else [False])
def test_the_ten_steps_do_what_they_say(bare: Driver, tmp_path: Path, extra: bool) -> None:
    hidden = tmp_path / "without the extra"
    hidden.mkdir()
    (hidden / "mcp.py").write_text("raise ImportError\n")
    claude = hidden / "claude"  # on whose PATH it is, has the specialist `research`, too
    claude.write_text("#!/bin/sh\n")
    claude.chmod(0o755)
    path = os.environ["PATH"] if extra else f"{hidden}:{os.environ['PATH']}"
    env = environment(PYTHONPATH=f"{'' if extra else f'{hidden}:'}{REPOSITORY}", PATH=path)
    script = f"{REPOSITORY}/examples/quickstart.py"
    done = subprocess.run(
        [sys.executable, script, str(bare.root)], capture_output=True, text=True, env=env, cwd=tmp_path, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    steps = [line.split()[1] for line in done.stdout.splitlines() if line[:2].strip().isdecimal()]
    assert steps == STEPS
    for said in (
        "researcher, writer; of these for the web: researcher\n",
        "task_001 is for researcher (score 1.00); writer lacks web",
        "at 50 % it had {'found': ['the Rhine']}",
        "a second report is refused: run 1 of task_001 is not researcher's any more",
        "1 pending, 1 completed, success rate 1.00",
        "completed research: task_001; low priority: task_002",
        "writer can prose, summaries now (summaries: 0.83), and takes task_003",
        "before: writer could do task_00",
        "task_004 was told the answer of task_001: True",
        "a model has created task_006" if extra else "pip install 'orchestrate-agents[mcp]'",
    ):
        assert said in done.stdout, (said, done.stdout)
    left = {one["task_id"]: one["state"] for one in bare.json("tasks")}
    ended = {"task_001": "completed", "task_003": "failed", "task_004": "completed"}
    waiting = dict.fromkeys(("task_002", "task_005", *(["task_006"] if extra else [])), "pending")
    assert left == {**ended, **waiting}
    answer = bare.root / "context/agent_outputs/task_001_output.md"
    assert answer.read_text() == "The Rhine, the Nile and the Po.\n"
    assert "once more" in (bare.root / "tasks/runs/task_001/1/late.md").read_text()
    assert "the archive is slow before noon" in (bare.root / "context/notes/worker.md").read_text()
    kinds = [row["kind"] for row in bare.json("events", "--task", "task_001")]
    assert kinds == ["submitted", "claimed", "started", "progress", "completed", "late"]
