"""What an agent CLI tells in its stream of JSON events, in lines for a person.

    → Bash: make test                      it calls a tool
    ← exit 2: no rule to make target       what came of that
    ! retry 1 of 10: overloaded            what went wrong on the way
    = completed, 1,000 tokens in, 50 out   its end

Everything else is what it says, as it says it. The events of the four programs have different names, so one table
reads them all; what none of them is, is left out, and what is no JSON is shown as it is.
"""

from __future__ import annotations

import json

from orchestrator.agents.lookup import count_at, found, text_at
from orchestrator.agents.wording import one_line
from orchestrator.names import counted

KINDS = ("claude", "codex", "gemini", "cursor")  # the adapters whose programs print such events
WIDTH = 200  # characters of a call and of what came of it
_ARGUMENTS = (
    "command",
    "cmd",
    "file_path",
    "absolute_path",
    "path",
    "pattern",
    "query",
    "url",
    "description",
    "prompt",
)
_TOKENS_IN = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens",
              "inputTokens", "cacheReadTokens", "cacheWriteTokens")  # fmt: skip


class Told:
    """One run's stream; `line` turns each line of it into what is to be printed."""

    def __init__(self) -> None:
        self._said = ""  # the text that was said last
        self._open = False  # it comes in pieces, and its line is not ended yet

    def line(self, line: str) -> str:
        """What to print for it, with its line ends; "" for what a person need not see."""
        try:
            event = json.loads(line) if line.startswith("{") else None
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict):
            return self.end() + (f"{line}\n" if line.strip() else "")
        if text_at(event, "type") == "message" and found(event, "delta") is True:
            piece = text_at(event, "content") if text_at(event, "role") == "assistant" else ""
            self._said, self._open = (self._said if self._open else "") + piece, True
            return piece
        lines = _lines(event, self._said)
        if not lines:
            return ""
        before = self.end()
        self._said = lines[-1]
        return before + "".join(f"{one}\n" for one in lines)

    def end(self) -> str:
        """What ends the line that is open."""
        ending = "\n" if self._open and not self._said.endswith("\n") else ""
        self._open = False
        return ending


def _lines(event: dict[str, object], said: str) -> list[str]:
    kind, subtype = text_at(event, "type"), text_at(event, "subtype")
    if kind in ("assistant", "user"):
        content = found(event, "message", "content")
        blocks = content if isinstance(content, list) else []
        return [line for block in blocks for line in _block(block, kind == "user")]
    if kind == "message":
        return _text(text_at(event, "content")) if text_at(event, "role") == "assistant" else []
    if kind == "init" or (kind, subtype) == ("system", "init"):
        return [f"{text_at(event, 'model')}, session {text_at(event, 'session_id')}"]
    if (kind, subtype) == ("system", "api_retry"):
        number, most = count_at(event, "attempt"), count_at(event, "max_retries")
        return [f"! retry {number} of {most}: {one_line(text_at(event, 'error'))}"]
    if kind == "thread.started":
        return [f"session {text_at(event, 'thread_id')}"]
    if kind.startswith("item."):
        return _item(event["item"] if isinstance(event.get("item"), dict) else {}, kind == "item.completed")
    if kind == "tool_use":
        return [_call(text_at(event, "tool_name"), found(event, "parameters"))]
    if kind == "tool_result":
        return [_came(text_at(event, "output") or text_at(event, "error", "message"), text_at(event, "status"))]
    if kind == "tool_call":
        return _tool_call(event, subtype == "completed")
    if kind == "error":
        return [f"! {one_line(text_at(event, 'message'))}"]
    if kind in ("result", "turn.completed", "turn.failed"):
        return _end(event, kind, said)
    return []


def _block(block: object, of_user: bool) -> list[str]:
    """One part of a message. What the user says is the prompt; what a tool gave comes under his name, too."""
    kind = text_at(block, "type")
    if kind == "text":
        text = text_at(block, "text")
        return _text(text) if not of_user else [f"! {one_line(text)}"] if text.startswith("[Request inter") else []
    if kind == "tool_use":
        return [_call(text_at(block, "name"), found(block, "input"))]
    if kind == "tool_result":
        content = found(block, "content")
        parts = content if isinstance(content, list) else []
        text = "\n".join(text_at(part, "text") for part in parts) or text_at(block, "content")
        return [_came(text, "failed" if found(block, "is_error") is True else "")]
    return []


def _item(item: object, over: bool) -> list[str]:
    kind = text_at(item, "type")
    if kind in ("agent_message", "error"):
        text = text_at(item, "text") if kind == "agent_message" else f"! {one_line(text_at(item, 'message'))}"
        return _text(text) if over else []
    if kind == "command_execution":
        if not over:
            return [_call("shell", item)]
        code = found(item, "exit_code")
        return [_came(text_at(item, "aggregated_output"), f"exit {code}" if code else "")]
    if kind == "file_change" and not over:
        changes = found(item, "changes")
        rows = changes if isinstance(changes, list) else []
        return [f"→ {text_at(row, 'kind')} {one_line(text_at(row, 'path'))}" for row in rows]
    if kind in ("mcp_tool_call", "web_search") and not over:
        return [_call(text_at(item, "tool") or kind, found(item, "arguments") or item)]
    return []


def _tool_call(event: object, over: bool) -> list[str]:
    calls = found(event, "tool_call")
    rows = calls.items() if isinstance(calls, dict) else ()
    if not over:
        return [_call(name.removesuffix("ToolCall"), found(call, "args")) for name, call in rows]
    came = [found(call, "result", "success") for _, call in rows]
    return [_came(text_at(one, "stdout") or text_at(one, "content"), "" if one else "failed") for one in came]


def _call(name: str, arguments: object) -> str:
    named = (text_at(arguments, key) for key in _ARGUMENTS)
    return f"→ {name}: {_cut(next(filter(None, named), '') or json.dumps(arguments, ensure_ascii=False))}"


def _came(text: str, status: str) -> str:
    return f"← {'' if status in ('', 'success') else f'{status}: '}{_cut(text) or '(nothing)'}"


def _cut(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def _text(text: str) -> list[str]:
    return [text.rstrip("\n")] if text.strip() else []


def _end(event: dict[str, object], kind: str, said: str) -> list[str]:
    answer = text_at(event, "result")
    failed = kind == "turn.failed" or found(event, "is_error") is True or text_at(event, "status") == "error"
    place = "usage" if isinstance(event.get("usage"), dict) else "stats"
    tokens = sum(count_at(event, place, key) for key in _TOKENS_IN)
    written = count_at(event, place, "output_tokens") or count_at(event, place, "outputTokens")
    parts = ["failed: " + one_line(text_at(event, "error", "message") or answer or text_at(event, "subtype"))]
    parts = parts if failed else ["completed"]
    parts += [f"{tokens:,} tokens in, {written:,} out"] if tokens or written else []
    cost = found(event, "total_cost_usd")
    parts += [f"${cost:.4f}"] if isinstance(cost, float) else []
    denied = found(event, "permission_denials")
    parts += [f"{counted(denied, 'tool call')} denied"] if isinstance(denied, list) and denied else []
    return [*(_text(answer) if not failed and answer.strip() != said.strip() else []), f"= {', '.join(parts)}"]
