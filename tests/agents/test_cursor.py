from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.agents.base import Evidence, Request, Tokens
from orchestrator.agents.cursor import CursorAgent
from orchestrator.states import Outcome

AGENT = CursorAgent()
USED = Tokens(1020, 50, 100)

# case, outcome, text or a fragment of the error, tokens
READ: tuple[tuple[str, Outcome, str, Tokens | None], ...] = (
    ("stream_ok", Outcome.SUCCESS, "Hello", USED),
    ("tool_stream", Outcome.SUCCESS, "done", USED),
    ("old_build_no_usage", Outcome.SUCCESS, "Hello", None),
    ("writes_about_limits", Outcome.SUCCESS, "Not logged in means 401; 429 is a rate limit.", USED),
    ("hangs_after_result", Outcome.SUCCESS, "Hello", USED),  # we ended it after its last word
    ("empty_text", Outcome.UNREADABLE, "answer is empty", None),
    ("no_result", Outcome.UNREADABLE, "no final result", None),
    ("is_error", Outcome.AGENT_ERROR, "Model is not available", None),
    ("plan_or_model", Outcome.AGENT_ERROR, "exit status 1: T: Cannot use this model", None),
    ("untrusted", Outcome.AGENT_ERROR, "--trust", None),
    ("config_race", Outcome.AGENT_ERROR, "ENOENT", None),
    ("limit_exhausted", Outcome.RATE_LIMITED, "[resource_exhausted]", None),
    ("limit_monthly", Outcome.QUOTA, "exit status 1: Error: You've hit your usage limit", None),
    ("nologin", Outcome.AUTH, "Authentication required", None),
    ("sig_TERM", Outcome.KILLED, "SIGTERM", None),
)


@pytest.mark.parametrize(("case", "outcome", "words", "tokens"), READ, ids=lambda x: str(x)[:30])
def test_reads_what_cursor_left(
    recorded: Callable[..., Evidence], case: str, outcome: Outcome, words: str, tokens: Tokens | None
) -> None:
    evidence = recorded("cursor", case)
    answer = AGENT.read(evidence)
    assert answer.outcome is outcome
    assert (answer.tokens, answer.retry_at, answer.cost_usd) == (tokens, None, None)
    assert answer.session_id == ("c6b62c6f-7ead-4fd6-9922-e952131177ff" if os.path.exists(evidence.stdout) else "")
    if outcome is Outcome.SUCCESS:
        assert (answer.text, answer.error) == (words, "")
    else:
        assert words in answer.error
        assert answer.error.isprintable()


def test_every_recorded_case_is_in_the_table() -> None:
    here = {path.stem for path in (Path(__file__).parent / "transcripts/cursor").glob("*.json")}
    assert here == {row[0] for row in READ}


@pytest.mark.parametrize(
    ("case", "code", "outcome"),
    [
        ("stream_ok", None, Outcome.SUCCESS),
        ("stream_ok", 1, Outcome.AGENT_ERROR),
        ("no_result", None, Outcome.LOST),
        ("limit_exhausted", None, Outcome.LOST),
    ],
)
def test_status(recorded: Callable[..., Evidence], case: str, code: int | None, outcome: Outcome) -> None:
    assert AGENT.read(recorded("cursor", case, exit_code=code)).outcome is outcome


def test_its_last_word_need_not_be_its_last_line(written: Callable[..., Evidence]) -> None:
    out = '{"type": "result", "is_error": false, "result": "x"}\n{"type": "system", "subtype": "bye"}\n'
    assert AGENT.read(written(out)).text == "x"


@pytest.mark.parametrize(
    "line",
    ['{"type": "result", "result": "x"}', '{"type": "result", "is_error": 0, "result": []}', "{}", "\x00"],
)
def test_garbage_is_an_outcome_and_no_crash(written: Callable[..., Evidence], line: str) -> None:
    for code in (0, 1, None, 143):
        assert AGENT.read(written(line + "\n", stderr=line, code=code)).outcome is not Outcome.SUCCESS


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("cursor-agent --force", "cursor-agent --force -p --output-format stream-json --trust"),
        ("agent -p --trust --output-format text", "agent -p --trust --output-format stream-json"),
        ("cursor-agent --resume ID", "cursor-agent --resume ID -p --output-format stream-json --trust"),
    ],
)
def test_command_line(request_for: Callable[..., Request], command: str, argv: str) -> None:
    invocation = AGENT.invoke(request_for(command))
    assert invocation.argv == tuple(shlex.split(argv))
    assert (invocation.stdin, invocation.env) == (True, {})


def test_a_configuration_folder_of_its_own_needs_a_key(
    request_for: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_for("cursor-agent", env={"CURSOR_API_KEY": "k"})
    own = AGENT.invoke(request).env["CURSOR_CONFIG_DIR"]
    assert own.startswith(request.folder + "/") and os.path.isdir(own)
    monkeypatch.setenv("CURSOR_API_KEY", "k")
    assert AGENT.invoke(request_for("cursor-agent")).env == {"CURSOR_CONFIG_DIR": own}
    assert AGENT.invoke(request_for("cursor-agent", env={"CURSOR_CONFIG_DIR": "/mine"})).env == {}
    monkeypatch.setenv("CURSOR_CONFIG_DIR", "/mine")
    assert AGENT.invoke(request_for("cursor-agent")).env == {}


def test_answered() -> None:
    assert AGENT.answered('{"type":"result","subtype":"success"}')
    assert not AGENT.answered('{"type":"assistant"}')
