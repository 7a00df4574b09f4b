from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.agents.base import Answer, Evidence, Tokens
from orchestrator.agents.codex import CodexAgent
from orchestrator.states import Outcome

AGENT = CodexAgent()
ONE = Tokens(1000, 50)
TWO = Tokens(2000, 100)

# case, outcome, text or a fragment of the error, tokens, retry_at
READ: tuple[tuple[str, Outcome, str, Tokens | None, float | None], ...] = (
    ("json_ok", Outcome.SUCCESS, "Hello from mock", ONE, None),  # with a warning item of type "error"
    ("builtin_nokey", Outcome.SUCCESS, "hi", ONE, None),  # with retry notices before
    ("empty_prompt", Outcome.SUCCESS, "MOCK-OK", ONE, None),
    ("err_429_retryafter100", Outcome.SUCCESS, "recovered", ONE, None),  # waited by itself
    ("mcp_bad", Outcome.SUCCESS, "ok", ONE, None),
    ("resume_1", Outcome.SUCCESS, "first", ONE, None),
    ("resume_2", Outcome.SUCCESS, "FOUND REMEMBER-42 in user", TWO, None),  # of the whole thread
    ("resume_6_notuuid", Outcome.SUCCESS, "x", ONE, None),
    ("killres_2", Outcome.SUCCESS, "FOUND KEEP-55 in user", ONE, None),
    ("tool_shell_yolo", Outcome.SUCCESS, "done", TWO, None),
    ("tool_shell_ws", Outcome.SUCCESS, "done", TWO, None),
    ("tool_shell_readonly", Outcome.SUCCESS, "done", TWO, None),
    ("tool_write_readonly", Outcome.SUCCESS, "done", TWO, None),
    ("err_429", Outcome.RATE_LIMITED, "429 Too Many Requests", None, None),
    ("err_429_usage_limit", Outcome.RATE_LIMITED, "hit your usage limit", None, 1795183920.0),
    ("err_429_quota", Outcome.QUOTA, "Quota exceeded", None, None),
    ("err_401", Outcome.AUTH, "401 Unauthorized", None, None),
    ("err_invalidkey", Outcome.AUTH, "401 Unauthorized", None, None),
    ("err_403", Outcome.AUTH, "403 Forbidden", None, None),
    ("err_nokey", Outcome.AUTH, "Missing environment variable", None, None),
    ("err_413", Outcome.CONTEXT_OVERFLOW, "413 Payload Too Large", None, None),
    ("err_ctx", Outcome.CONTEXT_OVERFLOW, "context window", None, None),
    ("stdin_12M", Outcome.CONTEXT_OVERFLOW, "exceeds the maximum length of 1048576", None, None),
    ("err_400", Outcome.AGENT_ERROR, "mock error 400", None, None),
    ("lastmsg_on_failure", Outcome.AGENT_ERROR, "mock error 400", None, None),
    ("err_404", Outcome.AGENT_ERROR, "404 Not Found", None, None),
    ("err_500", Outcome.UNAVAILABLE, "high demand", None, None),
    ("err_500_noretries", Outcome.UNAVAILABLE, "high demand", None, None),
    ("no_network", Outcome.UNAVAILABLE, "waiting for network", None, None),  # for ever, until we ended it
    ("err_503", Outcome.UNAVAILABLE, "503 Service Unavailable", None, None),
    ("drop_stream", Outcome.AGENT_ERROR, "stream disconnected", None, None),
    ("hang_idle3s_retries1", Outcome.AGENT_ERROR, "idle timeout", None, None),
    ("stop_max_tokens", Outcome.AGENT_ERROR, "max_output_tokens", None, None),
    (
        "bad_config",
        Outcome.AGENT_ERROR,
        "exit status 1: Error loading config.toml: unknown variant",
        None,
        None,
    ),
    ("mcp_bad_required", Outcome.AGENT_ERROR, "required MCP servers failed", None, None),
    ("nogit", Outcome.AGENT_ERROR, "Not inside a trusted directory", None, None),
    ("resume_5_unknown", Outcome.AGENT_ERROR, "no rollout found", None, None),
    ("stdin_bad_utf8", Outcome.AGENT_ERROR, "not valid UTF-8", None, None),
    ("stdin_devnull_noprompt", Outcome.AGENT_ERROR, "No prompt provided", None, None),
    ("sig_INT_model_native", Outcome.AGENT_ERROR, "exit status 1: no final result", None, None),
    ("sig_TERM_model_native", Outcome.KILLED, "SIGTERM", None, None),
    ("sig_TERM_shell_native", Outcome.KILLED, "SIGTERM", None, None),
    ("sig_KILL_shell_native", Outcome.KILLED, "SIGKILL", None, None),
)


@pytest.mark.parametrize(("case", "outcome", "words", "tokens", "retry_at"), READ, ids=lambda x: str(x)[:30])
def test_reads_what_codex_left(
    recorded: Callable[..., Evidence],
    case: str,
    outcome: Outcome,
    words: str,
    tokens: Tokens | None,
    retry_at: float | None,
) -> None:
    answer = AGENT.read(recorded("codex", case))
    assert answer.outcome is outcome
    assert (answer.tokens, answer.retry_at, answer.cost_usd) == (tokens, retry_at, None)
    if outcome is Outcome.SUCCESS:
        assert (answer.text, answer.error) == (words, "")
    else:
        assert words in answer.error
        assert "\n" not in answer.error


def test_every_recorded_case_is_in_the_table() -> None:
    assert {path.stem for path in (Path(__file__).parent / "transcripts/codex").glob("*.json")} == {
        row[0] for row in READ
    }


@pytest.mark.parametrize(
    ("case", "thread"),
    [
        ("resume_2", "01a1f8e4-2d1d-77a3-ab49-15ba4eec80b2"),
        ("stdin_12M", "01a1f8e4-0d33-7211-a929-24f22e0b195d"),
        ("sig_TERM_model_native", "01a1f8e1-d052-7e52-9625-c85ff5dd3323"),
        ("nogit", ""),
    ],
)
def test_session_id(recorded: Callable[..., Evidence], case: str, thread: str) -> None:
    assert AGENT.read(recorded("codex", case)).session_id == thread


def test_the_servers_own_message_is_taken_out_of_its_body(recorded: Callable[..., Evidence]) -> None:
    assert AGENT.read(recorded("codex", "err_400")).error == "mock error 400"


def test_what_a_failed_turn_had_said_is_kept(recorded: Callable[..., Evidence]) -> None:
    assert AGENT.read(recorded("codex", "stop_max_tokens")).text == "cut"


def lines(*events: object) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)


def failed(message: str) -> str:
    return lines(
        {"type": "thread.started", "thread_id": "01a1-thread"},
        {"type": "turn.failed", "error": {"message": message}},
    )


def said(text: str) -> dict[str, object]:
    return {"type": "item.completed", "item": {"type": "agent_message", "text": text}}


LIMIT = "You\u2019ve hit your usage limit. Upgrade to Pro (https://x), visit y to purchase more credits or"


@pytest.mark.parametrize(
    ("message", "outcome", "retry_at"),
    [
        (LIMIT + " try again at 2:11 PM.", Outcome.RATE_LIMITED, 1795183920.0),
        (LIMIT + " try again at 12:11 PM.", Outcome.RATE_LIMITED, 1795176720.0),  # in this very minute
        (LIMIT + " try again at 2:11 AM.", Outcome.RATE_LIMITED, 1795227120.0),  # tomorrow
        (LIMIT + " try again at Nov 23rd, 2026 12:20 PM.", Outcome.RATE_LIMITED, 1795436460.0),
        (LIMIT + " try again at Nov 1st, 2027 12:20 AM.", Outcome.RATE_LIMITED, 1825028460.0),
        (LIMIT + " try again later.", Outcome.RATE_LIMITED, None),
        ("To use Codex with your ChatGPT plan, upgrade to Plus: https://x", Outcome.QUOTA, None),
        ("unexpected status 402 Payment Required: x", Outcome.QUOTA, None),
        (
            "unexpected status 500 Server Error: rate limit of the upstream, unauthorized",
            Outcome.UNAVAILABLE,
            None,
        ),
        ("Your access token could not be refreshed. Please log out and sign in again.", Outcome.AUTH, None),
        ("something else", Outcome.AGENT_ERROR, None),
    ],
)
def test_messages_of_failed_turns(
    written: Callable[..., Evidence], message: str, outcome: Outcome, retry_at: float | None
) -> None:
    answer = AGENT.read(written(failed(message), code=1))
    assert (answer.outcome, answer.retry_at) == (outcome, retry_at)


def rollout(home: Path, *limits: object) -> None:
    folder = home / "sessions/2026/11/20"
    folder.mkdir(parents=True)
    path = folder / "rollout-2026-11-20T12-00-00-01a1-thread.jsonl"
    path.write_text(
        lines(*({"type": "event_msg", "payload": {"type": "token_count", "rate_limits": one}} for one in limits))
    )


def window(used: float, resets_at: object) -> dict[str, object]:
    return {"used_percent": used, "window_minutes": 300, "resets_at": resets_at}


@pytest.mark.parametrize(
    ("limits", "retry_at"),
    [
        ([{"primary": window(100.0, 1795183902), "secondary": window(40.0, 1795300000)}], 1795183902),
        ([{"primary": window(100.0, 1795183902), "secondary": window(100.0, 1795300000)}], 1795300000),
        ([{"primary": window(100.0, 1795180000)}, {"primary": window(100.0, 1795183902)}], 1795183902),
        ([{"primary": window(100.0, 1795000000)}], 1795183920.0),  # over: the words are newer
        ([{"primary": window(80.0, 1795190000), "secondary": None}], 1795183920.0),
        ([{"primary": window(100.0, "soon")}, None, []], 1795183920.0),
    ],
)
def test_the_threads_file_knows_the_second(
    written: Callable[..., Evidence], tmp_path: Path, limits: list[object], retry_at: float
) -> None:
    rollout(tmp_path / "home[1]", *limits)  # brackets are no pattern
    evidence = written(failed(LIMIT + " try again at 2:11 PM."), code=1, env={"CODEX_HOME": str(tmp_path / "home[1]")})
    assert AGENT.read(evidence).retry_at == retry_at


def test_a_thread_id_is_no_pattern(written: Callable[..., Evidence], tmp_path: Path) -> None:
    rollout(tmp_path / ".codex", {"primary": window(100, 1795183902)})
    out = failed(LIMIT + " try again later.").replace("01a1-thread", "*")
    assert AGENT.read(written(out, code=1)).retry_at is None


def test_where_the_threads_file_is_looked_for(
    written: Callable[..., Evidence], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = written(failed(LIMIT + " try again later."), code=1)
    rollout(tmp_path / ".codex", {"primary": window(100, 1795183902)})  # HOME
    assert AGENT.read(evidence).retry_at == 1795183902
    rollout(tmp_path / "elsewhere", {"primary": window(100, 1795183903)})
    monkeypatch.setenv("CODEX_HOME", str(tmp_path / "elsewhere"))
    assert AGENT.read(evidence).retry_at == 1795183903


def test_writing_about_limits_is_no_limit(written: Callable[..., Evidence]) -> None:
    text = "unexpected status 429: You've hit your usage limit, try again at 2:11 PM. Unauthorized."
    notice = {"type": "error", "message": "Reconnecting... 1/5 (unexpected status 401 Unauthorized)"}
    usage = {"input_tokens": 30, "cached_input_tokens": 20, "output_tokens": 5}
    out = lines({"type": "turn.started"}, notice, said(text), {"type": "turn.completed", "usage": usage})
    answer = AGENT.read(written(out, stderr="Error: " + text))
    assert answer == Answer(Outcome.SUCCESS, text, tokens=Tokens(30, 5, 20))


def test_stderr_of_a_run_that_had_begun_is_not_judged(written: Callable[..., Evidence]) -> None:
    answer = AGENT.read(written(lines({"type": "turn.started"}), stderr="ERROR tool: 401 Unauthorized", code=1))
    assert answer.outcome is Outcome.AGENT_ERROR
    assert AGENT.read(written(stderr="ERROR: 401 Unauthorized", code=1)).outcome is Outcome.AUTH


def test_a_turn_that_began_after_the_last_end_has_no_end(written: Callable[..., Evidence]) -> None:
    out = lines(said("one"), {"type": "turn.completed"}, {"type": "turn.started"})
    assert AGENT.read(written(out, code=143)).outcome is Outcome.KILLED


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(0, Outcome.SUCCESS), (None, Outcome.SUCCESS), (137, Outcome.SUCCESS), (1, Outcome.AGENT_ERROR)],
)
def test_status_after_a_completed_turn(recorded: Callable[..., Evidence], code: int | None, outcome: Outcome) -> None:
    assert AGENT.read(recorded("codex", "json_ok", exit_code=code)).outcome is outcome


def test_no_answer(written: Callable[..., Evidence], recorded: Callable[..., Evidence]) -> None:
    assert AGENT.read(written(lines(said(" \n"), {"type": "turn.completed"}))).outcome is Outcome.UNREADABLE
    assert AGENT.read(written("")).outcome is Outcome.UNREADABLE
    assert AGENT.read(recorded("codex", "sig_TERM_model_native", exit_code=None)).outcome is Outcome.LOST


@pytest.mark.parametrize(
    "line",
    [
        '{"type": "turn.failed"}',
        '{"type": "turn.failed", "error": "text"}',
        '{"type": "turn.completed", "usage": 7}',
        '{"type": "item.completed", "item": [1]}',
        '{"type": "thread.started", "thread_id": "../../*"}',
        '{"type": 7}',
        "[" * 100_000,
    ],
)
def test_garbage_is_an_outcome_and_no_crash(written: Callable[..., Evidence], line: str) -> None:
    for code in (0, 1, None, 143):
        assert AGENT.read(written(line + "\n", stderr=line, code=code)).outcome is not Outcome.SUCCESS


@pytest.mark.parametrize(
    ("line", "last"),
    [
        ('{"type":"turn.completed","usage":{}}', True),
        ('{"type":"turn.failed","error":{}}', True),
        ('{"type":"error","message":"Reconnecting"}', False),
        ('{"type":"result"}', False),
        ("", False),
    ],
)
def test_answered(line: str, last: bool) -> None:
    assert AGENT.answered(line) is last
