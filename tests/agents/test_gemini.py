from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.agents.base import Answer, Evidence, Request, Tokens
from orchestrator.agents.gemini import GeminiAgent
from orchestrator.errors import OrchestrateError
from orchestrator.states import Outcome

AGENT = GeminiAgent()
NONE = Tokens()
ONE = Tokens(1000, 50)
TWO = Tokens(2000, 100)
THREE = Tokens(3000, 150)
MISSING = "no final result"

# case, outcome, text or a fragment of the error, tokens
READ: tuple[tuple[str, Outcome, str, Tokens | None], ...] = (
    ("stream_ok", Outcome.SUCCESS, "Hello from mock", TWO),
    (
        "tool_shell_yolo_stream",
        Outcome.SUCCESS,
        "FOUND OUTX in toolresult",
        THREE,
    ),  # not what it said before the tool
    ("tool_write_yolo", Outcome.SUCCESS, "done", THREE),
    ("mcp_ok", Outcome.SUCCESS, "FOUND PONG in toolresult", TWO),
    ("err_429_retryinfo3_x2_stream", Outcome.SUCCESS, "recovered", ONE),
    ("err_500_x2_stream", Outcome.SUCCESS, "recovered", ONE),
    ("stop_max_tokens_stream", Outcome.SUCCESS, "cut", ONE),  # it does not say that it was cut
    ("stop_safety_stream", Outcome.SUCCESS, "no", ONE),
    ("sig_HUP_model", Outcome.SUCCESS, "x", ONE),  # its relauncher ignored the signal
    ("sig_INT_model", Outcome.SUCCESS, "x", ONE),
    ("sig_TERM_model", Outcome.SUCCESS, "x", ONE),
    ("err_429_stream", Outcome.RATE_LIMITED, "Resource has been exhausted", NONE),
    ("err_429_daily_stream", Outcome.RATE_LIMITED, "daily quota", NONE),
    ("err_403_stream", Outcome.AUTH, "mock error 403", NONE),
    ("err_invalidkey_stream", Outcome.AUTH, "API key not valid", NONE),
    ("err_nokey_stream", Outcome.AUTH, "specify the GEMINI_API_KEY", None),
    ("user_nonroot_home_ro", Outcome.AUTH, "exit status 41", None),
    ("err_400_stream", Outcome.AGENT_ERROR, "bad request", NONE),
    ("err_404_stream", Outcome.AGENT_ERROR, "mock error 404", NONE),
    ("err_500_stream", Outcome.UNAVAILABLE, "mock error 500", NONE),
    ("no_network", Outcome.UNAVAILABLE, "fetch failed", NONE),
    ("err_503_stream", Outcome.UNAVAILABLE, "mock error 503", NONE),
    ("drop_stream_stream", Outcome.AGENT_ERROR, "terminated", NONE),
    ("max_turns_stream", Outcome.AGENT_ERROR, "max session turns", TWO),
    ("bad_flag", Outcome.AGENT_ERROR, "exit status 1: Unknown argument: nonsense", None),
    ("bad_settings", Outcome.AGENT_ERROR, "exit status 52: Error in /home/dev/.gemini/settings.json", None),
    ("resume_4_unknown", Outcome.AGENT_ERROR, "Invalid session identifier", None),
    ("resume_5_othercwd", Outcome.AGENT_ERROR, "No previous sessions found", None),
    ("sessid_2_again", Outcome.AGENT_ERROR, "already exists", None),
    ("loop_detect", Outcome.UNREADABLE, "Loop detected", Tokens(4000, 200)),
    ("norelaunch_sig_HUP_model", Outcome.UNREADABLE, MISSING, None),  # status 0 after each of these
    ("norelaunch_sig_INT_model", Outcome.UNREADABLE, MISSING, None),
    ("norelaunch_sig_INT_shell", Outcome.UNREADABLE, MISSING, None),
    ("norelaunch_sig_TERM_model", Outcome.UNREADABLE, MISSING, None),
    ("norelaunch_sig_TERM_shell", Outcome.UNREADABLE, MISSING, None),
    ("relaunch_sigPG_INT_model", Outcome.UNREADABLE, MISSING, None),
    ("relaunch_sigPG_TERM_model", Outcome.UNREADABLE, MISSING, None),
    ("sig_TERMPG_shell", Outcome.UNREADABLE, MISSING, None),
    ("norelaunch_sig_KILL_model", Outcome.KILLED, "SIGKILL", None),
    ("norelaunch_sig_KILL_shell", Outcome.KILLED, "SIGKILL", None),
    ("sig_KILLPG_shell", Outcome.KILLED, "SIGKILL", None),
    ("sig_KILL_model", Outcome.KILLED, "SIGKILL", None),
    ("sig_KILL_shell", Outcome.KILLED, "SIGKILL", None),
    ("sig_INT_shell", Outcome.LOST, "not known", None),  # these three never ended
    ("sig_TERM_shell", Outcome.LOST, "not known", None),
    ("bg_amp", Outcome.LOST, "not known", None),
)


@pytest.mark.parametrize(("case", "outcome", "words", "tokens"), READ, ids=lambda x: str(x)[:30])
def test_reads_what_gemini_left(
    recorded: Callable[..., Evidence], case: str, outcome: Outcome, words: str, tokens: Tokens | None
) -> None:
    answer = AGENT.read(recorded("gemini", case))
    assert answer.outcome is outcome
    assert (answer.tokens, answer.retry_at, answer.cost_usd) == (tokens, None, None)
    if outcome is Outcome.SUCCESS:
        assert (answer.text, answer.error) == (words, "")
    else:
        assert words in answer.error
        assert "\n" not in answer.error


def test_every_recorded_case_is_in_the_table() -> None:
    here = {path.stem for path in (Path(__file__).parent / "transcripts/gemini").glob("*.json")}
    assert here == {row[0] for row in READ}


@pytest.mark.parametrize(
    ("case", "session"),
    [
        ("tool_shell_yolo_stream", "2d776c8d-2ea7-4f0a-ab9b-cb4e56af1fc0"),
        ("err_429_daily_stream", "f85e7f8c-51d4-4eff-ba91-ae7ae8d31d91"),
        ("bad_flag", ""),
    ],
)
def test_session_id(recorded: Callable[..., Evidence], case: str, session: str) -> None:
    assert AGENT.read(recorded("gemini", case)).session_id == session


def lines(*events: object) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)


def said(text: str, **more: object) -> dict[str, object]:
    return {"type": "message", "role": "assistant", "content": text} | more


def failed(message: str) -> str:
    return lines({"type": "init"}, {"type": "result", "status": "error", "error": {"message": message}})


@pytest.mark.parametrize(
    ("message", "code", "outcome"),
    [
        ('[API Error: {"error":{"code":401,"message":"no"}}]', 145, Outcome.AUTH),
        ("[API Error: no]", 145, Outcome.AUTH),  # 401 told by the exit status alone
        ("[API Error: no]", 173, Outcome.RATE_LIMITED),
        ("[API Error: no]", 157, Outcome.CONTEXT_OVERFLOW),  # 413
        (
            '[API Error: {"error":{"code":400,"message":"The input token count (2000000) exceeds the maximum '
            'number of tokens allowed (1048576)."}}]',
            144,
            Outcome.CONTEXT_OVERFLOW,
        ),
        (
            '[API Error: {"error":{"code":500,"message":"rate limit of the upstream"}}]',
            244,
            Outcome.UNAVAILABLE,
        ),
        ("Invalid auth method selected.", 41, Outcome.AUTH),
        ("", 1, Outcome.AGENT_ERROR),
    ],
)
def test_errors(written: Callable[..., Evidence], message: str, code: int, outcome: Outcome) -> None:
    answer = AGENT.read(written(failed(message), code=code))
    assert answer.outcome is outcome
    assert answer.error and "[API" not in answer.error


@pytest.mark.parametrize(
    ("code", "outcome", "words"),
    [
        (173, Outcome.RATE_LIMITED, "HTTP status 429: it broke"),
        (147, Outcome.AUTH, "HTTP status 403: it broke"),
        (244, Outcome.UNAVAILABLE, "HTTP status 500: it broke"),
        (143, Outcome.KILLED, "SIGTERM"),
        (130, Outcome.KILLED, "SIGINT"),
        (55, Outcome.AGENT_ERROR, "exit status 55: it broke"),
    ],
)
def test_status_alone(written: Callable[..., Evidence], code: int, outcome: Outcome, words: str) -> None:
    answer = AGENT.read(written(lines({"type": "init"}), stderr="[STARTUP] x\nit broke\n  at y", code=code))
    assert (answer.outcome, words in answer.error) == (outcome, True)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (0, Outcome.SUCCESS),
        (None, Outcome.SUCCESS),
        (143, Outcome.SUCCESS),
        (1, Outcome.AGENT_ERROR),
        (173, Outcome.AGENT_ERROR),
    ],
)
def test_status_after_a_successful_result(
    recorded: Callable[..., Evidence], code: int | None, outcome: Outcome
) -> None:
    assert AGENT.read(recorded("gemini", "stream_ok", exit_code=code)).outcome is outcome


def test_writing_about_limits_is_no_limit(written: Callable[..., Evidence]) -> None:
    text = "[API Error: 429] You have exhausted your daily quota on this model. API key not valid."
    stats = {"input_tokens": 30, "output_tokens": 5, "cached": 20}
    out = lines(
        {"type": "init", "session_id": "s"},
        said(text),
        {"type": "result", "status": "success", "stats": stats},
    )
    assert AGENT.read(written(out, stderr=text)) == Answer(
        Outcome.SUCCESS, text, session_id="s", tokens=Tokens(30, 5, 20)
    )


def test_a_whole_message_replaces_pieces(written: Callable[..., Evidence]) -> None:
    out = lines(said("a", delta=True), said("whole"), said("!", delta=True), {"type": "result", "status": "success"})
    assert AGENT.read(written(out)).text == "whole!"


def test_a_result_without_a_status_is_no_success(written: Callable[..., Evidence]) -> None:
    answer = AGENT.read(written(lines(said("x"), {"type": "result"})))
    assert (answer.outcome, answer.error) == (Outcome.AGENT_ERROR, "an error without a message")


def test_words_before_the_last_tool_are_no_answer(written: Callable[..., Evidence]) -> None:
    out = lines(said("I will"), {"type": "tool_use"}, {"type": "tool_result"}, {"type": "result", "status": "success"})
    assert AGENT.read(written(out)).outcome is Outcome.UNREADABLE


@pytest.mark.parametrize(
    "line",
    [
        '{"type": "result"}',
        '{"type": "result", "status": "error", "error": "text"}',
        '{"type": "result", "status": 1, "stats": []}',
        '{"type": "result", "status": "error", "error": {"message": "[API Error: {]"}}',
        '{"type": "message", "role": "assistant", "content": 7}',
        "{}",
        "\x00",
    ],
)
def test_garbage_is_an_outcome_and_no_crash(written: Callable[..., Evidence], line: str) -> None:
    for code in (0, 1, None, 143, 173):
        assert AGENT.read(written(line + "\n", stderr=line, code=code)).outcome is not Outcome.SUCCESS


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        (
            "gemini --approval-mode yolo",
            "gemini --approval-mode yolo -o stream-json --skip-trust --session-id S",
        ),
        ("gemini -o json -m pro", "gemini -m pro -o stream-json --skip-trust --session-id S"),
        ("gemini --output-format=text --skip-trust", "gemini --skip-trust -o stream-json --session-id S"),
        ("gemini -r latest", "gemini -r latest -o stream-json --skip-trust"),
        ("gemini --session-id mine", "gemini --session-id mine -o stream-json --skip-trust"),
        ("node /opt/gemini.js -y", "node /opt/gemini.js -y -o stream-json --skip-trust --session-id S"),
    ],
)
def test_command_line(request_for: Callable[..., Request], command: str, argv: str) -> None:
    request = request_for(command)
    invocation = AGENT.invoke(request)
    assert invocation.argv == tuple(shlex.split(argv.replace(" S", f" {request.session_id}")))
    assert invocation.stdin


def test_environment(request_for: Callable[..., Request]) -> None:
    assert AGENT.invoke(request_for("gemini", env={"TERM": "dumb"})).env == {
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
        "GEMINI_CLI_NO_RELAUNCH": "true",
        "NO_COLOR": "1",
    }
    assert AGENT.invoke(request_for("gemini")).env["TERM"] == "xterm-256color"


def test_a_long_prompt(request_for: Callable[..., Request]) -> None:
    assert AGENT.invoke(request_for("gemini", text="x" * 8_388_608)).stdin
    with pytest.raises(OrchestrateError, match="8,388,609 bytes, and gemini takes at most 8,388,608"):
        AGENT.invoke(request_for("gemini", text="x" * 8_388_609))


def test_answered() -> None:
    assert AGENT.answered('{"type":"result","status":"error"}')
    assert not AGENT.answered('{"type":"message","role":"assistant"}')
    assert not AGENT.answered("")
