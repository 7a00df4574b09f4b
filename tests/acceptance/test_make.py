"""The Makefile, as the README says it: in a fresh clone below a path that nobody would choose."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.task import parse

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tracked files, in a path with spaces and quotes; its virtual environment is the one of this test."""
    folder = tmp_path_factory.mktemp('it\'s a "clone"') / "orchestrate"
    names = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)
    (folder / ".venv" / "bin").mkdir(parents=True)
    python = folder / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    for command in (["init", "-q"], ["add", "-A"]):  # the demo asks git for the names of the files
        subprocess.run(["git", *command], cwd=folder, check=True)
    (folder / ".venv" / "base").touch()
    return folder


def make(clone: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Type `make …` there."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # that of `make test`
    environment = {**ours, "PYTHONPATH": str(clone)}
    return subprocess.run(["make", *words], cwd=clone, capture_output=True, text=True, env=environment, check=False)


def test_make_alone_lists_what_there_is(clone: Path) -> None:
    said = make(clone)
    assert said.returncode == 0
    assert "demo" in said.stdout and "bench" in said.stdout


def test_make_add_keeps_the_text_as_it_was_typed(clone: Path) -> None:
    text = 'Say "hi" to $USER\'s friend; $(rm -rf x) `ls` --priority # %'
    said = make(clone, "add", f"T={text}", "ARGS=--priority high")
    assert said.returncode == 0, said.stderr
    task_id = re.findall(r"^task_\d+$", said.stdout, re.MULTILINE)[0]
    file = clone / "tasks" / "pending" / f"{task_id}.yaml"
    task = parse(file.read_bytes(), "x")
    assert (task.description, task.priority) == (text, 0)


def test_make_add_without_a_text_says_what_to_do(clone: Path) -> None:
    said = make(clone, "add")
    assert said.returncode != 0
    assert 'make add T="Fix the login"' in said.stderr


def test_make_start_status_and_stop(clone: Path) -> None:
    assert make(clone, "start").returncode == 0
    try:
        assert "running" in make(clone, "status").stdout
    finally:
        stopped = make(clone, "stop")
    assert "dispatcher stopped" in stopped.stdout


def test_the_demo_runs_below_such_a_path(clone: Path) -> None:
    said = make(clone, "demo")
    assert said.returncode == 0, said.stdout + said.stderr
    assert (clone / "demo" / "context" / "agent_outputs" / "report_output.md").exists()
