from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.agents.base import Evidence, Request
from orchestrator.agents.shell import ShellAgent
from orchestrator.errors import OrchestrateError
from orchestrator.states import Outcome

AGENT = ShellAgent()


def test_refuses_what_is_no_script(request_for: Callable[..., Request]) -> None:
    assert AGENT.refuses(request_for("", run="make").task) == ""
    assert AGENT.refuses(request_for("").task) == "has no `run:` script, and shell runs nothing else"
    with pytest.raises(OrchestrateError, match="has no `run:` script"):
        AGENT.invoke(request_for(""))


def test_the_script_is_run_by_sh(request_for: Callable[..., Request]) -> None:
    request = request_for("ignored --flag", run="false\necho not reached")
    invocation = AGENT.invoke(request)
    assert invocation.argv == ("/bin/sh", "-e", "-c", "false\necho not reached", "script")
    assert (invocation.stdin, invocation.env) == (False, {"ORCHESTRATE_PROMPT_FILE": request.prompt_path})
    assert os.listdir(request.folder) == []
    ended = subprocess.run(invocation.argv, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, b"")


def test_a_script_that_no_argument_can_hold_is_a_file(request_for: Callable[..., Request]) -> None:
    request = request_for("", run="echo begun\n" + "# é\n" * 40_000 + "echo over")
    invocation = AGENT.invoke(request)
    script = os.path.join(request.folder, "script")
    assert invocation.argv == ("/bin/sh", "-e", script)
    assert os.stat(script).st_mode & 0o777 == 0o755
    ended = subprocess.run(invocation.argv, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, b"begun\nover\n")


def test_the_script_names_its_own_program(request_for: Callable[..., Request]) -> None:
    invocation = AGENT.invoke(request_for("", run="#!/usr/bin/env -S sh\necho $ORCHESTRATE_PROMPT_FILE\n"))
    assert len(invocation.argv) == 1
    ended = subprocess.run(invocation.argv, capture_output=True, check=False, env=os.environ | invocation.env)
    assert ended.stdout.decode().strip() == invocation.env["ORCHESTRATE_PROMPT_FILE"]


def test_a_script_is_written_anew_for_a_folder_that_was_prepared_in_vain(request_for: Callable[..., Request]) -> None:
    request = request_for("", run="#!/bin/sh\necho one")
    AGENT.invoke(request)
    AGENT.invoke(request_for("", run="#!/bin/sh"))
    assert Path(request.folder, "script").read_text() == "#!/bin/sh\n"


@pytest.mark.parametrize(
    ("stdout", "stderr", "code", "outcome", "text", "error"),
    [
        ("done\n", "warning\n", 0, Outcome.SUCCESS, "done", ""),
        ("", "", 0, Outcome.SUCCESS, "", ""),
        ("a\nb\n", "", 1, Outcome.AGENT_ERROR, "", "exit status 1: b"),
        ("a\n", "no such file\n", 143, Outcome.AGENT_ERROR, "", "exit status 143: no such file"),
        ("done\n", "", None, Outcome.LOST, "", "how it ended is not known"),
    ],
)
def test_its_status_is_its_answer(
    written: Callable[..., Evidence],
    stdout: str,
    stderr: str,
    code: int | None,
    outcome: Outcome,
    text: str,
    error: str,
) -> None:
    answer = AGENT.read(written(stdout, stderr, code, success_exit_codes=(0, 1)))
    assert (answer.outcome, answer.text, answer.error) == (outcome, text, error)
    assert not AGENT.answered("done")
