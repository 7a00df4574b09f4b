"""Cursor's agent (`cursor-agent -p`, also installed as `agent`).

On failure it prints no event at all: one message on standard error and a status. It may hang
after its result, and processes that share a configuration folder race for one file in it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from orchestrator.agents.base import (
    Answer,
    Evidence,
    Invocation,
    Request,
    Tokens,
    has_flag,
    json_lines,
    last_line,
    tail_text,
)
from orchestrator.agents.claude import said_result
from orchestrator.agents.flags import Words, joined, split_at, unless_set, without
from orchestrator.agents.lookup import count_at, found, text_at
from orchestrator.agents.shell import ONLY_SHELL
from orchestrator.agents.wording import after_success, class_of, complaint, one_line, without_ending

if TYPE_CHECKING:
    from orchestrator.task import Task


class CursorAgent:
    """The program `cursor-agent`."""

    kind = "cursor"
    needs_env: tuple[str, ...] = ("CURSOR_*",)
    quiet_seconds = 600

    def refuses(self, task: Task) -> str:
        return ONLY_SHELL if task.run else ""

    def invoke(self, request: Request) -> Invocation:
        front, said = split_at(request.words, "cursor-agent", "agent")
        said = without(said, "--output-format")
        added: Words = () if has_flag(said, "-p", "--print") else ("-p",)
        added += ("--output-format", "stream-json")
        added += () if has_flag(said, "--trust") else ("--trust",)
        return Invocation(front + joined(said, added), env=unless_set(self._env(request), request.settings))

    def _env(self, request: Request) -> dict[str, str]:
        """A configuration folder of the run's own, unless the login lies in the common one."""
        has_key = request.settings.env.get("CURSOR_API_KEY") or os.environ.get("CURSOR_API_KEY")
        if not has_key or "CURSOR_CONFIG_DIR" in os.environ:
            return {}
        folder = os.path.join(request.folder, "cursor")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        return {"CURSOR_CONFIG_DIR": folder}

    def read(self, evidence: Evidence) -> Answer:
        result: object = None
        session_id = ""
        begun = False
        for event in json_lines(evidence.stdout):
            begun = True
            session_id = text_at(event, "session_id") or session_id
            result = event if text_at(event, "type") == "result" else result
        if result is None:
            # Unlike the others it has no event for a failure: its message is all there ever is.
            message = complaint(tail_text(evidence.stderr))
            if not message and not begun:
                message = one_line(last_line(tail_text(evidence.stdout)))
            return without_ending(evidence, message, begun=False)._replace(session_id=session_id)
        text = text_at(result, "result")
        if found(result, "is_error") is not False:
            answer = Answer(class_of(text), error=one_line(text) or "an error without a message")
        else:
            outcome, error = after_success(evidence, text)
            answer = Answer(outcome, text, error)
        return answer._replace(session_id=session_id, tokens=_tokens(result))

    def answered(self, last_line: str) -> bool:
        return said_result(last_line)


def _tokens(result: object) -> Tokens | None:
    if not isinstance(found(result, "usage"), dict):
        return None  # older builds
    cached = count_at(result, "usage", "cacheReadTokens")
    fresh = count_at(result, "usage", "inputTokens") + count_at(result, "usage", "cacheWriteTokens")
    return Tokens(fresh + cached, count_at(result, "usage", "outputTokens"), cached)
