"""Codex (`codex exec --json`).

`turn.failed` alone is a failure: lines of type "error" are retries, items of type "error"
are warnings, and both stand in runs that end well. Tokens are those of the whole thread.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

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
from orchestrator.agents.flags import Words, joined, refuse_longer, split_at, unless_set
from orchestrator.agents.lookup import count_at, found, number_at, text_at
from orchestrator.agents.shell import ONLY_SHELL
from orchestrator.agents.wording import after_success, class_of, complaint, one_line, reset_time, without_ending
from orchestrator.states import Outcome

if TYPE_CHECKING:
    from orchestrator.config import AgentConfig
    from orchestrator.task import Task

PROMPT_LIMIT = 1_048_576  # characters

ENV = {"TZ": "UTC"}  # "try again at 2:11 PM" is local time

_NOISE = ("WARNING: proceeding", "Reading prompt from stdin", "Reading additional input from stdin")
_STATUS = re.compile(r"(?:unexpected status|exceeded retry limit, last status:) (\d{3})\b")
_THREAD = re.compile(r"[0-9A-Za-z-]{8,64}")
_WAITING = "waiting for network"
_TURN_ENDS = ("turn.completed", "turn.failed")


class _Stream(NamedTuple):
    """What a whole run printed."""

    ended: str  # the last event of _TURN_ENDS; "" if none, or if a turn began after it
    text: str
    message: str
    begun: bool
    waiting: str  # its last word is that it waits for the network, which it does for ever
    thread_id: str
    tokens: Tokens | None


class CodexAgent:
    """The program `codex`."""

    kind = "codex"
    needs_env: tuple[str, ...] = ("OPENAI_*", "CODEX_*")
    quiet_seconds = 600  # a silent stream is given up after 300 s and asked again

    def refuses(self, task: Task) -> str:
        return ONLY_SHELL if task.run else ""

    def invoke(self, request: Request) -> Invocation:
        refuse_longer(len(request.prompt), PROMPT_LIMIT, "characters, and codex")
        front, said = split_at(request.words, "codex")
        if "exec" not in said and "e" not in said:
            said += ("exec",)  # at the end: flags such as --ask-for-approval stand only before it
        added: Words = () if has_flag(said, "--json", "--experimental-json") else ("--json",)
        added += () if has_flag(said, "--skip-git-repo-check") else ("--skip-git-repo-check",)
        argv = front + joined(said, added) + (() if "-" in said else ("-",))
        return Invocation(argv, env=unless_set(ENV, request.settings))

    def read(self, evidence: Evidence) -> Answer:
        stream = _read_stream(evidence.stdout)
        if stream.ended == "turn.completed":
            outcome, error = after_success(evidence, stream.text)
            answer = Answer(outcome, stream.text, error)
        elif stream.ended == "turn.failed":
            answer = _failure(stream, evidence)
        elif stream.waiting:
            answer = Answer(Outcome.UNAVAILABLE, error=one_line(stream.waiting))
        else:
            message = complaint(tail_text(evidence.stderr), *_NOISE)
            if not message and not stream.thread_id:
                message = one_line(last_line(tail_text(evidence.stdout)))
            answer = without_ending(evidence, message, begun=stream.begun)
        return answer._replace(session_id=stream.thread_id, tokens=stream.tokens)

    def answered(self, last_line: str) -> bool:
        try:
            return text_at(json.loads(last_line), "type") in _TURN_ENDS
        except (ValueError, RecursionError):
            return False


def _failure(stream: _Stream, evidence: Evidence) -> Answer:
    status = _STATUS.match(stream.message)
    outcome = class_of(stream.message, int(status[1]) if status else 0)
    retry_at = None
    if outcome is Outcome.RATE_LIMITED:
        zone = evidence.settings.env.get("TZ", "UTC")
        worded = reset_time(stream.message, evidence.ended_at, zone)
        retry_at = _window_end(stream.thread_id, evidence) or worded
    return Answer(outcome, stream.text, one_line(_unwrapped(stream.message)), retry_at=retry_at)


def _unwrapped(message: str) -> str:
    """The server's own message, where its whole body is handed on."""
    try:
        return text_at(json.loads(message), "error", "message") or message
    except (ValueError, RecursionError):
        return message


def _window_end(thread_id: str, evidence: Evidence) -> float | None:
    """When the used-up windows of the account end: to the second, unlike the message.

    Codex keeps this beside the thread in $CODEX_HOME (not with --ephemeral).
    """
    if not _THREAD.fullmatch(thread_id):
        return None
    import glob  # needed so rarely

    sessions = os.path.join(_home(evidence.settings), "sessions")
    latest: object = None
    for path in glob.glob(os.path.join(glob.escape(sessions), "*", "*", "*", f"rollout-*-{thread_id}.jsonl")):
        with suppress(PermissionError):  # only a hint
            for line in json_lines(path):
                latest = found(line, "payload", "rate_limits") or latest
    ends = [
        number_at(latest, window, "resets_at")
        for window in ("primary", "secondary")
        if number_at(latest, window, "used_percent") >= 100
    ]
    return max((end for end in ends if end > evidence.ended_at), default=None)


def _home(settings: AgentConfig) -> str:
    named = settings.env.get("CODEX_HOME") or os.environ.get("CODEX_HOME")
    return named or os.path.join(settings.env.get("HOME") or os.path.expanduser("~"), ".codex")


def _read_stream(path: str) -> _Stream:
    ended = text = message = waiting = thread_id = ""
    begun = False
    tokens: Tokens | None = None
    for event in json_lines(path):
        kind = text_at(event, "type")
        said = text_at(event, "message") if kind == "error" else ""
        waiting = said if _WAITING in said else ""
        if kind == "thread.started":
            thread_id = text_at(event, "thread_id")
        elif kind in _TURN_ENDS:
            ended = kind
            message = text_at(event, "error", "message") or "the turn failed without a message"
            if isinstance(found(event, "usage"), dict):  # its input already includes what was cached
                tokens = Tokens(
                    count_at(event, "usage", "input_tokens"),
                    count_at(event, "usage", "output_tokens"),
                    count_at(event, "usage", "cached_input_tokens"),
                )
        elif kind.startswith(("turn.", "item.")):
            ended = "" if kind == "turn.started" else ended
            begun = True
            if kind == "item.completed" and text_at(event, "item", "type") == "agent_message":
                text = text_at(event, "item", "text")
    return _Stream(ended, text, message, begun, waiting, thread_id, tokens)
