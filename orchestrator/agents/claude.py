"""Claude Code (`claude -p`), read from its stream-json.

What it has taught: `subtype` stays "success" on API errors, so `is_error` counts; status 0
comes without any result after an interrupt; and one run may hold several results, whose
tokens add up while the cost is a running total (of the whole session, when resumed).
"""

from __future__ import annotations

import json
import os
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
from orchestrator.agents.flags import Words, joined, refuse_longer, split_at, unless_set, without
from orchestrator.agents.lookup import count_at, found, number_at, text_at
from orchestrator.agents.shell import ONLY_SHELL
from orchestrator.agents.wording import after_success, class_of, complaint, one_line, reset_time, without_ending
from orchestrator.states import Outcome

if TYPE_CHECKING:
    from orchestrator.task import Task

PROMPT_LIMIT = 10_000_000  # bytes; beyond, it ends with "piped stdin input exceeds 10MB"

ENV = {
    "DISABLE_AUTOUPDATER": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",  # or it lives on after its result until they end
    "TZ": "UTC",  # "resets 1:56pm" is local time
}


class _Result(NamedTuple):
    """One `result` event."""

    failed: bool
    text: str
    message: str  # why it failed
    status: int  # of HTTP; 0 if none
    limited: bool
    own_words: bool  # the message is an API error's, not a list of diagnostics
    reason: str
    idle: bool  # no model was asked
    denied: tuple[str, ...]  # tools that it was not allowed to use
    tokens: Tokens
    cost: float | None


class _Stream(NamedTuple):
    """What a whole run printed."""

    results: tuple[_Result, ...]
    closed: bool  # the last result is its last word
    begun: bool
    session_id: str
    resets_at: float | None


class ClaudeAgent:
    """The program `claude`."""

    kind = "claude"
    needs_env: tuple[str, ...] = ("ANTHROPIC_*", "CLAUDE_*")
    quiet_seconds = 600  # a silent stream is asked again after 300 s, missing headers after 360 s

    def refuses(self, task: Task) -> str:
        return ONLY_SHELL if task.run else ""

    def invoke(self, request: Request) -> Invocation:
        refuse_longer(len(request.prompt.encode("utf-8", "replace")), PROMPT_LIMIT, "bytes, and claude")
        front, said = split_at(request.words, "claude")
        said = without(said, "--output-format")
        added: Words = () if has_flag(said, "-p", "--print") else ("-p",)
        added += ("--output-format", "stream-json")
        added += () if has_flag(said, "--verbose") else ("--verbose",)
        if not has_flag(said, "--resume", "-r", "--continue", "-c", "--session-id"):
            added += ("--session-id", request.session_id)
        env = dict(ENV)
        if os.geteuid() == 0:
            env["IS_SANDBOX"] = "1"  # or root may not skip permissions
        return Invocation(front + joined(said, added), env=unless_set(env, request.settings))

    def read(self, evidence: Evidence) -> Answer:
        stream = _read_stream(evidence.stdout)
        last = stream.results[-1] if stream.results else None
        code = evidence.exit_code
        if last is None or (not stream.closed and (code is None or code > 128)):
            message = complaint(tail_text(evidence.stderr))
            if not message and not stream.begun:
                message = one_line(last_line(tail_text(evidence.stdout)))
            answer = without_ending(evidence, message, begun=stream.begun)
        elif last.failed:
            outcome = _class_of(last)
            retry_at = None
            if outcome is Outcome.RATE_LIMITED:
                retry_at = stream.resets_at or reset_time(last.message, evidence.ended_at, _zone_of(evidence))
            error = ("interrupted: " if outcome is Outcome.KILLED else "") + last.message
            answer = Answer(outcome, error=one_line(error), retry_at=retry_at)
        elif last.idle:
            error = "no model was asked: the prompt begins with a slash command, which claude ran itself"
            answer = Answer(Outcome.UNREADABLE, last.text, error)
        else:
            outcome, error = after_success(evidence, last.text)
            denied = f"{len(last.denied)} tool calls were denied ({', '.join(sorted(set(last.denied)))}); see its permission flags"
            answer = Answer(outcome, last.text, error, warning=denied if last.denied else "")
        return answer._replace(
            session_id=stream.session_id,
            tokens=_sum(stream.results) if stream.results else None,
            cost_usd=last.cost if last else None,
        )

    def answered(self, last_line: str) -> bool:
        return said_result(last_line)


def said_result(line: str) -> bool:
    """Whether a line is an event of type `result`."""
    try:
        return text_at(json.loads(line), "type") == "result"
    except (ValueError, RecursionError):
        return False


def _zone_of(evidence: Evidence) -> str:
    return evidence.settings.env.get("TZ", "UTC")


def _class_of(result: _Result) -> Outcome:
    if result.reason.startswith("aborted"):
        return Outcome.KILLED  # an interrupt while a tool ran: status 0 all the same
    if result.limited:
        return Outcome.RATE_LIMITED
    if not result.own_words and not result.status:
        return Outcome.AGENT_ERROR  # turns, budget, unknown session: `errors` may quote anything
    return class_of(result.message, result.status)


def _sum(results: tuple[_Result, ...]) -> Tokens:
    return Tokens(
        sum(one.tokens.input for one in results),
        sum(one.tokens.output for one in results),
        sum(one.tokens.cached for one in results),
    )


def _read_stream(path: str) -> _Stream:
    results: list[_Result] = []
    closed = begun = False
    session = resumed = ""
    resets_at: float | None = None
    for event in json_lines(path):
        kind = text_at(event, "type")
        if kind == "result":
            results.append(_read_result(event))
            closed = True
            resumed = "" if results[-1].failed else text_at(event, "session_id")
        elif kind == "rate_limit_event":  # sent on success too, with another status
            rejected = text_at(event, "rate_limit_info", "status") == "rejected"
            resets_at = (number_at(event, "rate_limit_info", "resetsAt") or None) if rejected else None
        elif kind in ("assistant", "user", "stream_event") or text_at(event, "subtype") == "init":
            closed, begun = False, True
            session = text_at(event, "session_id") or session
    return _Stream(tuple(results), closed, begun, session or resumed, resets_at)


def _read_result(event: object) -> _Result:
    subtype = text_at(event, "subtype")
    api = subtype in ("", "success")
    errors = found(event, "errors")
    listed = "; ".join(filter(None, map(text_at, errors))) if isinstance(errors, list) else ""
    denials = found(event, "permission_denials")
    text = text_at(event, "result")
    cached = count_at(event, "usage", "cache_read_input_tokens")
    written = count_at(event, "usage", "cache_creation_input_tokens")
    fresh = count_at(event, "usage", "input_tokens")
    return _Result(
        failed=found(event, "is_error") is not False,
        text=text,
        message=(text if api else listed) or listed or subtype or "an error without a message",
        status=count_at(event, "api_error_status"),
        limited=text_at(event, "api_error") == "usage_limit_reached",
        own_words=api,
        reason=text_at(event, "terminal_reason"),
        idle=found(event, "num_turns") == 0,
        denied=tuple(text_at(one, "tool_name") for one in denials) if isinstance(denials, list) else (),
        tokens=Tokens(fresh + cached + written, count_at(event, "usage", "output_tokens"), cached),
        cost=round(number_at(event, "total_cost_usd"), 6) if found(event, "total_cost_usd") is not None else None,
    )
