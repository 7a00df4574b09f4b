"""The README shows what the demo really prints, and the demo does what the README says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def plain(text: str) -> list[str]:
    """The lines, without what differs from run to run: times, pids, which slot was free, the order of the parallel."""
    text = re.sub(r"\d\d:\d\d(:\d\d)?", "TIME", text)
    text = re.sub(r"pid \d+", "pid N", text)
    text = re.sub(r"since \w+ \d+", "since DAY", text)
    text = re.sub(r"\d+\.\d s", "N s", text)
    text = re.sub(r"agent_0\d", "agent_NN", text)
    return sorted(line.rstrip() for line in text.strip().splitlines())


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    root = tmp_path_factory.mktemp("a demo") / "demo"
    environment = {**os.environ, "DEMO_ROOT": str(root)}
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "examples" / "demo.py")],
        capture_output=True, text=True, check=False, env=environment, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, root


def test_the_readme_shows_what_the_demo_prints(said: tuple[str, Path]) -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    shown = readme.split("<!-- demo -->\n```\n")[1].split("```\n<!-- /demo -->")[0]
    assert plain(shown) == plain(said[0]), "run: python docs/make.py --demo"


def test_the_report_holds_the_answers_of_the_three(said: tuple[str, Path]) -> None:
    report = (said[1] / "context" / "agent_outputs" / "report_output.md").read_text(encoding="utf-8")
    assert "orchestrator/cli" in report and "compile without a warning" in report and "## todos" in report


def test_the_flaky_task_was_tried_twice_and_its_first_failure_is_kept(said: tuple[str, Path]) -> None:
    runs = said[1] / "tasks" / "runs" / "flaky"
    assert "status: agent_error" in (runs / "1" / "result.yaml").read_text()
    assert "status: success" in (runs / "2" / "result.yaml").read_text()
    assert "no route to host" in (runs / "2" / "prompt.md").read_text()


def test_nothing_is_left_running(said: tuple[str, Path]) -> None:
    command = [sys.executable, "-m", "orchestrator.cli", "--root", str(said[1]), "status"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout
    assert "not running" in shown and " 0 running" in shown


def test_the_last_advice_works_as_it_is_printed(said: tuple[str, Path]) -> None:
    advice = re.findall(r"^  \.venv/bin/orchestrate -C demo (.*?)(?:   .*)?$", said[0], re.MULTILINE)
    assert [line.split()[0] for line in advice] == ["show", "retry", "start", "wait", "stop"]
    for line in advice:
        command = [sys.executable, "-m", "orchestrator.cli", "-C", str(said[1]), *shlex.split(line)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=60)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    answer = (said[1] / "context" / "agent_outputs" / "licence_output.md").read_text(encoding="utf-8")
    assert answer.strip() == "The report is published under: MIT"
