"""What each command loads: not more modules than docs/scale.md says, and no other of the heavy ones. No clock is asked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from helpers import REPOSITORY

from orchestrator import config
from orchestrator.cli import commands, looks, machine, pulling, records
from orchestrator.cli.base import app
from orchestrator.spool import Spool

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="each is a fork of a bare Python")

PAGE = Path(REPOSITORY) / "docs" / "scale.md"
HEAVY = (
    "typer",
    "pydantic",
    "yaml",
    "filelock",
    "watchdog",
    "logging",
    "subprocess",
    "asyncio",
    "rich",
    "mcp",
)

# Of each command one call that comes as far as it can with nobody else there; and its exit code.
CALLS: dict[str, tuple[list[str], int | None]] = {
    "--version": ([], 0),
    "status": ([], 0),
    "add": (["x"], 0),
    "show": (["task_001"], 0),
    "why": (["task_001"], 0),
    "tasks": ([], 0),
    "cancel": (["task_001"], 0),
    "retry": (["task_002"], 0),
    "logs": ([], 1),
    "events": ([], 0),
    "agents": ([], 0),
    "route": ([], 0),
    "validate": ([], 0),
    "doctor": ([], None),  # it finds what this machine lacks
    "archive": ([], 0),
    "wait": (["task_002", "--timeout", "0"], 124),
    "register": (["w"], 0),
    "poll": (["w"], 0),
    "begin": (["task_002"], 1),
    "heartbeat": (["w"], 0),
    "progress": (["task_002", "5"], 1),
    "complete": (["task_002"], 1),
    "fail": (["task_002", "--error", "x"], 1),
    "unregister": (["w"], 0),
    "worker": (["no:Such"], 1),
    "start": (["--agents", "nobody:1"], 1),
    "stop": ([], 0),
    "init": ([], 0),
    "service": ([], 0),
    "completion": (["bash"], 0),
}

# A bare interpreter that forks for each, so that what one has loaded is not there for the next.
FORKS = """
import json, os, sys, tempfile
calls, found, bare = json.load(sys.stdin), {}, set(sys.modules)
for name, words in calls.items():
    reading, writing = os.pipe()
    if not (child := os.fork()):
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1), os.dup2(null, 2)
        sys.argv = ["orchestrate", name, *words]
        from orchestrator.cli import main
        code = main()
        os.write(writing, json.dumps([code, *(set(sys.modules) - bare)]).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as file:
        found[name] = json.load(file)
    os.waitpid(child, 0)
json.dump(found, sys.stdout)
"""


def table() -> dict[str, tuple[int, list[str]]]:
    """Command → how many modules it may load, and which heavy ones, as the page says."""
    text = PAGE.read_text(encoding="utf-8").partition("| modules at most |")[2]
    rows = re.findall(r"^\| `([\w-]+)` \| (\d+) \| ([\w, –]*) \|", text, re.MULTILINE)
    return {name: (int(most), [] if heavy == "–" else heavy.split(", ")) for name, most, heavy in rows}


def test_a_command_loads_no_more_than_the_page_says(queue: Spool, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("agents: {shell: {}}\n")
    config.load_and_keep(queue.root)
    for name in ("task_001", "task_002"):
        (tmp_path / f"tasks/pending/{name}.yaml").write_text("description: x\nrun: 'true'\n")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "ORCHESTRATE"))}
    said = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, check=True, cwd=tmp_path,
        input=json.dumps({name: words for name, (words, _) in CALLS.items()}),
        env={**plain, "PYTHONPATH": REPOSITORY},
    )  # fmt: skip
    found = {name: (code, set(loaded)) for name, (code, *loaded) in json.loads(said.stdout).items()}
    assert [name for name, (_, code) in CALLS.items() if code not in (None, found[name][0])] == []
    budgets = table()
    wrong = [
        f"| `{name}` | {len(loaded)} | {', '.join(one for one in HEAVY if one in loaded) or '–'} |"
        for name, (_, loaded) in found.items()
        if name not in budgets
        or len(loaded) > budgets[name][0]
        or [one for one in HEAVY if one in loaded] != budgets[name][1]
    ]
    assert not wrong, "docs/scale.md has other rows:\n" + "\n".join(wrong)


def test_every_command_has_a_budget() -> None:
    assert commands and looks and machine and pulling and records  # they add themselves
    group = typer.main.get_command(app)
    assert set(CALLS) == {*group.commands, "--version"} - {"mcp", "version"} == set(table())  # type: ignore[attr-defined]
