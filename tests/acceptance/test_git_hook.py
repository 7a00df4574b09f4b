"""The hook that docs/git.md gives, in a real repository: it looks at what is committed, and at nothing else."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from integration.driver import Driver

DOCS = Path(__file__).resolve().parents[2] / "docs" / "git.md"


@pytest.fixture
def repository(root: Driver, tmp_path: Path) -> Driver:
    """A queue in git with the hook, and `orchestrate` on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "orchestrate").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m orchestrator.cli "$@"\n')
    (folder / "orchestrate").chmod(0o755)
    root.environment["PATH"] = f"{folder}:{root.environment['PATH']}"
    git(root, "init", "-q")
    hook = root.root / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(re.findall(r"```sh\n(#!/bin/sh.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)[0])
    hook.chmod(0o755)
    return root


def git(root: Driver, *words: str) -> Any:
    names = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
    return subprocess.run(["git", *names, *words], cwd=root.root, env=root.environment, capture_output=True, text=True)


def commit(root: Driver) -> Any:
    return git(root, "commit", "-q", "-m", "x", "--allow-empty")


def test_the_hook_looks_at_the_index_whatever_the_names_are(repository: Driver) -> None:
    pending = repository.root / "tasks/pending"
    (pending / "not staged.yaml").write_text("desription: x\n")
    (repository.root / "staged.txt").write_text("x")
    git(repository, "add", "staged.txt")
    done = commit(repository)
    assert done.returncode == 0, done.stderr  # what is not committed does not keep back
    for name in ("two words.yaml", "it's.yml"):
        (pending / name).write_text("desription: x\n")
        git(repository, "add", f"tasks/pending/{name}")
        done = commit(repository)
        assert done.returncode != 0 and f"tasks/pending/{name}: line 1: unknown key 'desription'" in done.stderr, done
        (pending / name).write_text("description: x\n")  # mended, but not staged
        assert commit(repository).returncode != 0
        git(repository, "add", f"tasks/pending/{name}")
        (pending / name).write_text("broken again, but not staged: [\n")
        done = commit(repository)
        assert done.returncode == 0, done.stderr


def test_the_hook_reads_config_too_and_lets_a_task_be_deleted(repository: Driver) -> None:
    path = repository.drop("one")
    git(repository, "add", "config.yaml", "tasks/pending/one.yaml")
    assert commit(repository).returncode == 0
    path.unlink()
    git(repository, "add", "-A", "tasks")
    assert commit(repository).returncode == 0
    (repository.root / "config.yaml").write_text("retry: {max_retry: 1}\n")
    git(repository, "add", "config.yaml")
    done = commit(repository)
    assert done.returncode != 0 and "did you mean 'max_retries'" in done.stderr
