"""How claude and codex are called: as their user wrote it, and what a headless run needs."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import pytest

from orchestrator.agents.base import Request
from orchestrator.agents.claude import ClaudeAgent
from orchestrator.agents.codex import CodexAgent
from orchestrator.errors import OrchestrateError

SESSION = "11111111-2222-4333-8444-555555555555"
CLAUDE = ClaudeAgent()
CODEX = CodexAgent()

CLAUDE_LINES = (
    (
        "claude --dangerously-skip-permissions",
        "claude --dangerously-skip-permissions -p --output-format stream-json --verbose --session-id S",
    ),
    ("claude", "claude -p --output-format stream-json --verbose --session-id S"),
    (
        "claude -p --verbose --output-format json --model opus",
        "claude -p --verbose --model opus --output-format stream-json --session-id S",
    ),
    (
        "claude --output-format=text --print",
        "claude --print --output-format stream-json --verbose --session-id S",
    ),
    ("claude --resume abc", "claude --resume abc -p --output-format stream-json --verbose"),
    ("claude -c", "claude -c -p --output-format stream-json --verbose"),
    ("claude --session-id=abc", "claude --session-id=abc -p --output-format stream-json --verbose"),
    (
        "claude --allowedTools Read 'Bash(git *)'",  # takes words up to the next flag
        "claude --allowedTools Read 'Bash(git *)' -p --output-format stream-json --verbose --session-id S",
    ),
    (
        "claude --add-dir ../other --",
        "claude --add-dir ../other -p --output-format stream-json --verbose --session-id S --",
    ),
    (
        "npx -p pkg claude --model opus",  # that -p is not claude's
        "npx -p pkg claude --model opus -p --output-format stream-json --verbose --session-id S",
    ),
)


@pytest.mark.parametrize(("command", "argv"), CLAUDE_LINES)
def test_command_line_of_claude(request_for: Callable[..., Request], command: str, argv: str) -> None:
    invocation = CLAUDE.invoke(request_for(command))
    assert invocation.argv == tuple(shlex.split(argv.replace(" S", f" {SESSION}")))
    assert invocation.stdin


@pytest.mark.parametrize(("uid", "sandbox"), [(0, "1"), (1000, None)])
def test_environment_of_claude(
    request_for: Callable[..., Request], monkeypatch: pytest.MonkeyPatch, uid: int, sandbox: str | None
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: uid)
    env = CLAUDE.invoke(request_for("claude")).env
    assert env.pop("IS_SANDBOX", None) == sandbox
    assert env == {
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "TZ": "UTC",
    }
    assert "TZ" not in CLAUDE.invoke(request_for("claude", env={"TZ": "Europe/Berlin"})).env


def test_a_long_prompt_for_claude(request_for: Callable[..., Request]) -> None:
    assert CLAUDE.invoke(request_for("claude", text="x" * 1_000_000)).stdin
    with pytest.raises(OrchestrateError, match=r"10,000,002 bytes, and claude takes at most 10,000,000"):
        CLAUDE.invoke(request_for("claude", text="é" * 5_000_001))


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        (
            "codex --ask-for-approval never --sandbox danger-full-access exec",
            "codex --ask-for-approval never --sandbox danger-full-access exec --json --skip-git-repo-check -",
        ),
        (
            "codex --ask-for-approval never -m gpt-5",
            "codex --ask-for-approval never -m gpt-5 exec --json --skip-git-repo-check -",
        ),
        ("codex", "codex exec --json --skip-git-repo-check -"),
        (
            "codex exec --json -s workspace-write -",
            "codex exec --json -s workspace-write - --skip-git-repo-check",
        ),
        ("codex e --skip-git-repo-check", "codex e --skip-git-repo-check --json -"),
        (
            "/opt/exec/codex exec -s read-only resume 01a1",
            "/opt/exec/codex exec -s read-only resume 01a1 --json --skip-git-repo-check -",
        ),
        ("nice exec codex", "nice exec codex exec --json --skip-git-repo-check -"),
    ],
)
def test_command_line_of_codex(request_for: Callable[..., Request], command: str, argv: str) -> None:
    invocation = CODEX.invoke(request_for(command))
    assert invocation.argv == tuple(shlex.split(argv))
    assert invocation.stdin
    assert invocation.env == {"TZ": "UTC"}


def test_a_long_prompt_for_codex(request_for: Callable[..., Request]) -> None:
    assert CODEX.invoke(request_for("codex", text="é" * 1_048_576)).stdin
    with pytest.raises(OrchestrateError, match="1,048,577 characters, and codex takes at most 1,048,576"):
        CODEX.invoke(request_for("codex", text="x" * 1_048_577))
