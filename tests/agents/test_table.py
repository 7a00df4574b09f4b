from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.agents import AGENTS, adapter_for
from orchestrator.agents.base import Request
from orchestrator.errors import OrchestrateError


def test_every_kind_is_there_under_its_own_name() -> None:
    assert set(AGENTS) == {"claude", "codex", "gemini", "cursor", "command", "shell"}
    assert all(agent.kind == kind for kind, agent in AGENTS.items())


@pytest.mark.parametrize(
    ("name", "command", "adapter", "kind"),
    [
        ("claude", "claude", None, "claude"),
        ("opus", "claude --model opus", None, "claude"),
        ("fast", "/usr/local/bin/codex exec", None, "codex"),
        ("reviewer", "cursor-agent", None, "cursor"),
        ("reviewer", "agent -f", None, "cursor"),
        ("cursor", "agent", None, "cursor"),
        ("gemini", "my-wrapper", None, "gemini"),  # the name counts before the program
        ("codex", "claude", None, "codex"),
        ("agent", "aider", None, "command"),  # a name is not a program
        ("claude", "my-wrapper --text", "command", "command"),
        ("anything", "aider --yes", None, "command"),
        ("shell", "", None, "shell"),
        ("scripts", "", "shell", "shell"),
        ("anything", "", None, "command"),
        ("anything", "claude 'open quote", None, "command"),
    ],
)
def test_adapter_for(settings: Callable[..., Any], name: str, command: str, adapter: str | None, kind: str) -> None:
    assert adapter_for(name, settings(command=command, adapter=adapter)).kind == kind


def test_an_unknown_adapter_is_named(settings: Callable[..., Any]) -> None:
    with pytest.raises(OrchestrateError, match=r"agents.x.adapter: 'vim' is none of claude, codex"):
        adapter_for("x", settings(adapter="vim"))


@pytest.mark.parametrize(
    ("kind", "patterns", "quiet"),
    [
        ("claude", ("ANTHROPIC_*", "CLAUDE_*"), 600),
        ("codex", ("OPENAI_*", "CODEX_*"), 600),
        ("gemini", ("GEMINI_*", "GOOGLE_*"), 600),
        ("cursor", ("CURSOR_*",), 600),
        ("command", (), 0),
        ("shell", (), 0),
    ],
)
def test_secrets_and_silence(kind: str, patterns: tuple[str, ...], quiet: int) -> None:
    assert (AGENTS[kind].needs_env, AGENTS[kind].quiet_seconds) == (patterns, quiet)


@pytest.mark.parametrize("kind", sorted(set(AGENTS) - {"shell"}))
def test_scripts_are_for_the_shell(request_for: Callable[..., Request], kind: str) -> None:
    assert AGENTS[kind].refuses(request_for("x").task) == ""
    assert AGENTS[kind].refuses(request_for("x", run="make").task) == (
        "has a `run:` script, which only a shell agent runs"
    )


def test_the_adapters_are_cheap_to_import() -> None:
    heavy = "{'pydantic', 'yaml', 'subprocess', 'asyncio', 'zoneinfo'} & set(sys.modules)"
    code = f"import sys, orchestrator.agents; print({heavy} or 'cheap')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "cheap\n"
