"""Gemini CLI (`gemini -o stream-json`).

Its exit status is an HTTP status cut to eight bits (429 is 173), or a number of its own
(41: no valid login); status 0 without a result is what SIGTERM leaves. A prompt beyond 8 MiB
would be cut without a word, so we refuse it.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.agents.base import Answer, Evidence, Invocation, Request, Tokens, has_flag, json_lines, tail_text
from orchestrator.agents.claude import said_result
from orchestrator.agents.flags import Words, joined, refuse_longer, split_at, unless_set, without
from orchestrator.agents.lookup import count_at, found, text_at
from orchestrator.agents.shell import ONLY_SHELL
from orchestrator.agents.wording import after_success, class_of, complaint, one_line, without_ending
from orchestrator.states import Outcome

if TYPE_CHECKING:
    from orchestrator.task import Task

PROMPT_LIMIT = 8 * 1024 * 1024  # bytes

ENV = {
    "GEMINI_CLI_TRUST_WORKSPACE": "true",
    "GEMINI_CLI_NO_RELAUNCH": "true",  # its relauncher ignores SIGTERM and SIGINT
    "NO_COLOR": "1",
    "TERM": "xterm-256color",  # or it warns about the terminal
}

_NOISE = (
    "Warning:",
    "YOLO mode",
    "Ripgrep is not",
    "[STARTUP]",
    "Attempt ",
    "Suggested retry",
    "Usage:",
    "Loaded cached",
)
_API_ERROR = re.compile(r"\[API Error: (.*)\]", re.DOTALL)
_LOGIN_MISSING = 41
_LAST_SIGNAL = 143  # above lie the HTTP statuses


class _Stream(NamedTuple):
    """What a whole run printed."""

    status: str  # of the result event; "" if there is none
    text: str
    message: str
    warning: str
    begun: bool
    session_id: str
    tokens: Tokens | None


class GeminiAgent:
    """The program `gemini`."""

    kind = "gemini"
    needs_env: tuple[str, ...] = ("GEMINI_*", "GOOGLE_*")
    quiet_seconds = 600  # a silent stream is asked again after 300 s

    def refuses(self, task: Task) -> str:
        return ONLY_SHELL if task.run else ""

    def invoke(self, request: Request) -> Invocation:
        refuse_longer(len(request.prompt.encode("utf-8", "replace")), PROMPT_LIMIT, "bytes, and gemini")
        front, said = split_at(request.words, "gemini", "gemini.js")
        said = without(said, "-o", "--output-format")
        added: Words = ("-o", "stream-json")
        added += () if has_flag(said, "--skip-trust") else ("--skip-trust",)
        if not has_flag(said, "--resume", "-r", "--session-id"):
            added += ("--session-id", request.session_id)
        return Invocation(front + joined(said, added), env=unless_set(ENV, request.settings))

    def read(self, evidence: Evidence) -> Answer:
        stream = _read_stream(evidence.stdout)
        code = evidence.exit_code
        if stream.status == "success":
            outcome, error = after_success(evidence, stream.text, stream.warning, _LAST_SIGNAL)
            answer = Answer(outcome, stream.text, error)
        elif stream.status:
            message, status = _unwrapped(stream.message)
            outcome = Outcome.AUTH if code == _LOGIN_MISSING else class_of(message, status or _http(code))
            answer = Answer(outcome, stream.text, one_line(message))
        else:
            message = _complaint(evidence.stderr)
            answer = without_ending(evidence, message, begun=stream.begun, last_signal=_LAST_SIGNAL)
            if code == _LOGIN_MISSING:
                answer = answer._replace(outcome=Outcome.AUTH)
            elif http := _http(code):
                answer = answer._replace(outcome=class_of("", http), error=f"HTTP status {http}: {message}")
        return answer._replace(session_id=stream.session_id, tokens=stream.tokens)

    def answered(self, last_line: str) -> bool:
        return said_result(last_line)


def _http(code: int | None) -> int:
    """The HTTP status (400 to 511) behind an exit status, else 0."""
    return code + 256 if code is not None and code > _LAST_SIGNAL else 0


def _unwrapped(message: str) -> tuple[str, int]:
    """The server's message, and its HTTP status if it is told."""
    match = _API_ERROR.match(message)
    inner = match[1] if match else message
    try:
        body = json.loads(inner)
    except (ValueError, RecursionError):
        return inner, 0
    return text_at(body, "error", "message") or inner, count_at(body, "error", "code")


def _complaint(path: str) -> str:
    """The first line that is no chatter: after it come advice, usage, or a stack."""
    lines = [line for line in tail_text(path).splitlines() if complaint(line, *_NOISE)]
    return one_line(lines[0]) if lines else ""


def _read_stream(path: str) -> _Stream:
    status = message = warning = session_id = ""
    parts: list[str] = []
    begun = False
    tokens: Tokens | None = None
    for event in json_lines(path):
        kind = text_at(event, "type")
        if kind == "init":
            session_id, begun = text_at(event, "session_id"), True
        elif kind == "message" and text_at(event, "role") == "assistant":
            if found(event, "delta") is not True:
                parts.clear()
            parts.append(text_at(event, "content"))
        elif kind in ("tool_use", "tool_result"):
            parts.clear()  # what was said before is no answer yet
        elif kind == "error":
            warning = one_line(text_at(event, "message"))
        elif kind == "result":
            status = text_at(event, "status") or "error"
            message = text_at(event, "error", "message") or warning or "an error without a message"
            tokens = Tokens(
                count_at(event, "stats", "input_tokens"),
                count_at(event, "stats", "output_tokens"),
                count_at(event, "stats", "cached"),
            )
    return _Stream(status, "".join(parts), message, warning, begun, session_id, tokens)
