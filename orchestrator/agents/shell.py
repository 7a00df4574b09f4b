"""A task's own script (`run:`), with no model in it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from orchestrator.agents.base import ARGUMENT_LIMIT, Answer, Evidence, Invocation, Request, tail_text
from orchestrator.agents.wording import ANSWER_LIMIT, by_status
from orchestrator.errors import OrchestrateError
from orchestrator.states import Outcome

if TYPE_CHECKING:
    from orchestrator.task import Task

ONLY_SHELL = "has a `run:` script, which only a shell agent runs"


class ShellAgent:
    """`/bin/sh -e`, or what the script's own first line names."""

    kind = "shell"
    needs_env: tuple[str, ...] = ()
    quiet_seconds = 0

    def refuses(self, task: Task) -> str:
        return "" if task.run else "has no `run:` script, and shell runs nothing else"

    def invoke(self, request: Request) -> Invocation:
        text = request.task.run
        if not text:
            raise OrchestrateError(f"the task {self.refuses(request.task)}")
        argv: tuple[str, ...] = ("/bin/sh", "-e", "-c", text, "script")
        if text.startswith("#!") or len(text.encode()) > ARGUMENT_LIMIT:
            script = os.path.join(request.folder, "script")
            _write(script, text)
            argv = (script,) if text.startswith("#!") else ("/bin/sh", "-e", script)
        return Invocation(argv, stdin=False, env={"ORCHESTRATE_PROMPT_FILE": request.prompt_path})

    def read(self, evidence: Evidence) -> Answer:
        """A script need not say anything: its status is its answer."""
        text = tail_text(evidence.stdout, ANSWER_LIMIT).strip()
        return by_status(evidence, (0,)) or Answer(Outcome.SUCCESS, text)

    def answered(self, last_line: str) -> bool:
        return False


def _write(path: str, text: str) -> None:
    """Written anew each time: nothing runs yet, and a folder that was prepared in vain is used again."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o755)
    try:
        content = (text if text.endswith("\n") else text + "\n").encode()
        while content:
            content = content[os.write(fd, content) :]
    finally:
        os.close(fd)
