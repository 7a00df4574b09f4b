from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.agents.base import Answer, Evidence, Tokens
from orchestrator.agents.claude import ClaudeAgent
from orchestrator.states import Outcome

AGENT = ClaudeAgent()
ONE = Tokens(1000, 50)
NONE = Tokens()
PER_MINUTE = "rate limit of 50 requests per minute"
NEW_YORK = 1795188180.0  # 10:22am there, to the end of that minute

# case, outcome, text or a fragment of the error, tokens, cost, retry_at
READ: tuple[tuple[str, Outcome, str, Tokens | None, float | None, float | None], ...] = (
    ("stream_ok", Outcome.SUCCESS, "Hello from mock", ONE, 0.005, None),
    ("json_ok", Outcome.SUCCESS, "Hello from mock", ONE, 0.005, None),
    ("json_schema", Outcome.SUCCESS, '{"name":"bob"}', ONE, 0.005, None),
    ("tool_stream", Outcome.SUCCESS, "done", Tokens(3000, 150), 0.015, None),
    ("tool_write_nopriv", Outcome.SUCCESS, "done", Tokens(2000, 100), 0.01, None),
    ("mcp_bad", Outcome.SUCCESS, "ok", ONE, 0.005, None),
    ("unknown_model", Outcome.SUCCESS, "hello", ONE, 0.005, None),
    ("drop_stream", Outcome.SUCCESS, "hello world this is long text", ONE, 0.005, None),
    ("bg_run_in_background", Outcome.SUCCESS, "x", Tokens(3000, 150), 0.015, None),  # two results
    ("resume_1_sessionid", Outcome.SUCCESS, "first", ONE, 0.005, None),
    ("resume_3", Outcome.SUCCESS, "FOUND REMEMBER-7319 in user", ONE, 0.01, None),
    ("resume_7_fork", Outcome.SUCCESS, "FOUND REMEMBER-7319 in user,assistant", ONE, 0.02, None),
    ("budget_resume_2", Outcome.SUCCESS, "ok", ONE, 0.685, None),
    ("oauth_ok_stream", Outcome.SUCCESS, "hi", ONE, 0.0025, None),
    ("oauth_allowed_stream", Outcome.SUCCESS, "hi", ONE, 0.0025, None),  # a rate_limit_event, allowed
    ("oauth_warning_stream", Outcome.SUCCESS, "hi", ONE, 0.0025, None),
    ("oauth_limit5h_stream", Outcome.RATE_LIMITED, "5-hour limit", NONE, 0, 1795182975),
    ("oauth_limit7d_stream", Outcome.RATE_LIMITED, "weekly limit", NONE, 0, 1795434975),
    ("oauth_limit5h_json", Outcome.RATE_LIMITED, "5-hour limit", NONE, 0, 1795183020),
    ("oauth_limit5h_text", Outcome.RATE_LIMITED, "5-hour limit", None, None, 1795183020),
    ("limit_claim_five_hour", Outcome.RATE_LIMITED, "5-hour limit", NONE, 0, NEW_YORK),
    ("limit_claim_seven_day", Outcome.RATE_LIMITED, "weekly limit", NONE, 0, NEW_YORK),
    ("limit_claim_seven_day_opus", Outcome.RATE_LIMITED, "Opus limit", NONE, 0, NEW_YORK),
    ("limit_claim_seven_day_sonnet", Outcome.RATE_LIMITED, "Sonnet limit", NONE, 0, NEW_YORK),
    ("limit_claim_overage", Outcome.RATE_LIMITED, "usage limit", NONE, 0, NEW_YORK),
    ("limit_nounified_oauth", Outcome.RATE_LIMITED, "temporarily limiting", NONE, 0, None),
    ("err_429_stream", Outcome.RATE_LIMITED, PER_MINUTE, NONE, 0, None),
    ("err_429_maxretries2", Outcome.RATE_LIMITED, PER_MINUTE, NONE, 0, None),
    ("err_429_retryafter_61", Outcome.RATE_LIMITED, PER_MINUTE, NONE, 0, None),
    ("err_credit_low", Outcome.QUOTA, "Credit balance is too low", NONE, 0, None),
    ("err_401_stream", Outcome.AUTH, "Invalid API key", NONE, 0, None),
    ("err_401_maxretries0_json", Outcome.AUTH, "Invalid API key", NONE, 0, None),
    ("oauth_401_stream", Outcome.AUTH, "OAuth token has expired", NONE, 0, None),
    ("err_403_json", Outcome.AUTH, "403", NONE, 0, None),
    ("err_nokey_json", Outcome.AUTH, "Not logged in", NONE, 0, None),
    ("err_nokey_text", Outcome.AUTH, "Not logged in", None, None, None),
    ("err_413_json", Outcome.CONTEXT_OVERFLOW, "Request too large", NONE, 0, None),
    ("stdin_12M", Outcome.CONTEXT_OVERFLOW, "exceeds 10MB", None, None, None),
    ("err_400_json", Outcome.AGENT_ERROR, "400 mock error 400", NONE, 0, None),
    ("err_404_json", Outcome.AGENT_ERROR, "selected model", NONE, 0, None),
    ("err_500_stream", Outcome.UNAVAILABLE, "500 Internal server error", NONE, 0, None),
    ("err_500_maxretries0_json", Outcome.UNAVAILABLE, "500 Internal server error", NONE, 0, None),
    ("err_529_stream", Outcome.UNAVAILABLE, "529 Overloaded", NONE, 0, None),
    ("no_network", Outcome.UNAVAILABLE, "check your internet or DNS (ENOTFOUND)", NONE, 0, None),
    ("err_noserver", Outcome.UNAVAILABLE, "Connection refused", NONE, 0, None),
    ("max_turns_2_stream", Outcome.AGENT_ERROR, "maximum number of turns (2)", Tokens(2000, 100), 0.01, None),
    ("max_budget", Outcome.AGENT_ERROR, "maximum budget ($1)", Tokens(200000, 2000), 1.26, None),
    ("stop_max_tokens", Outcome.AGENT_ERROR, "output token maximum", Tokens(4000, 200), 0.02, None),
    ("stop_refusal", Outcome.AGENT_ERROR, "safeguards flagged", Tokens(2000, 100), 0.01, None),
    ("resume_5_unknown", Outcome.AGENT_ERROR, "No conversation found", None, None, None),
    ("resume_5_unknown_stream", Outcome.AGENT_ERROR, "No conversation found", NONE, 0, None),
    ("resume_2_again_same_sessionid", Outcome.AGENT_ERROR, "already in use", None, None, None),
    ("bad_flag", Outcome.AGENT_ERROR, "exit status 1: error: unknown option", None, None, None),
    ("empty_prompt", Outcome.AGENT_ERROR, "Input must be provided", None, None, None),
    ("stream_noverbose", Outcome.AGENT_ERROR, "requires --verbose", None, None, None),
    ("tool_write_skip_root_nosandbox", Outcome.AGENT_ERROR, "root/sudo", None, None, None),
    ("empty_text", Outcome.UNREADABLE, "answer is empty", Tokens(2000, 100), 0.01, None),
    ("slash_0", Outcome.UNREADABLE, "slash command", NONE, 0, None),
    ("json_verbose_is_array", Outcome.UNREADABLE, "no final result", None, None, None),
    ("sig_INT_model_wait_stream", Outcome.UNREADABLE, "no final result", None, None, None),
    ("sig_INT_model_wait_json", Outcome.UNREADABLE, "no final result", None, None, None),
    ("sig_INT_in_bash", Outcome.KILLED, "interrupted", ONE, 0.005, None),  # status 0, and a result
    ("sig_TERM_in_bash", Outcome.KILLED, "SIGTERM", None, None, None),
    ("sig_TERM_model_wait_stream", Outcome.KILLED, "SIGTERM", None, None, None),
    ("sig_KILL_in_bash", Outcome.KILLED, "SIGKILL", None, None, None),
)


@pytest.mark.parametrize(("case", "outcome", "words", "tokens", "cost", "retry_at"), READ, ids=lambda x: str(x)[:30])
def test_reads_what_claude_left(
    recorded: Callable[..., Evidence],
    case: str,
    outcome: Outcome,
    words: str,
    tokens: Tokens | None,
    cost: float | None,
    retry_at: float | None,
) -> None:
    answer = AGENT.read(recorded("claude", case))
    assert answer.outcome is outcome
    assert answer.tokens == tokens
    assert answer.cost_usd == cost
    assert answer.retry_at == retry_at
    if outcome is Outcome.SUCCESS:
        assert (answer.text, answer.error) == (words, "")
    else:
        assert words in answer.error
        assert "\n" not in answer.error


def test_every_recorded_case_is_in_the_table() -> None:
    here = {path.stem for path in (Path(__file__).parent / "transcripts/claude").glob("*.json")}
    assert here - {row[0] for row in READ} == {"stdin_prompt"}


@pytest.mark.parametrize(
    ("case", "session"),
    [
        ("stream_ok", "adde74dd-c665-4095-ad53-42193ab5ea53"),
        ("err_401_stream", "6eb4b2fc-b4be-4a78-9f96-cb966758b308"),
        ("sig_TERM_model_wait_stream", "85a93e94"),  # nothing but the first line
        ("resume_7_fork", "2abdc60e-e5fa-4b31-8186-ceab30bf7adf"),
        ("resume_5_unknown_stream", ""),  # names a session that is not there
    ],
)
def test_session_id(recorded: Callable[..., Evidence], case: str, session: str) -> None:
    found = AGENT.read(recorded("claude", case)).session_id
    assert found.startswith(session) and bool(found) == bool(session)


def test_the_prompt_on_stdin_reaches_the_model(recorded: Callable[..., Evidence]) -> None:
    assert AGENT.read(recorded("claude", "stdin_prompt")).text.endswith("from stdin [[echo]]")


def event(**values: object) -> str:
    return json.dumps({"type": "result", "subtype": "success", "is_error": False, "num_turns": 1} | values) + "\n"


def failed(text: str, **values: object) -> str:
    return event(is_error=True, result=text, terminal_reason="api_error", **values)


def test_a_time_zone_of_the_users_own_is_minded(written: Callable[..., Evidence]) -> None:
    evidence = written(failed("You've hit your limit · resets 3pm"), code=1, env={"TZ": "Europe/Berlin"})
    assert AGENT.read(evidence).retry_at == 1795183260.0


def test_writing_about_limits_is_no_limit(written: Callable[..., Evidence]) -> None:
    text = "API Error: 429. You've hit your 5-hour limit · resets 1:56pm (UTC). Prompt is too long."
    said = json.dumps({"type": "assistant", "session_id": "s", "message": {"content": [{"text": text}]}})
    answer = AGENT.read(written(said + "\n" + event(result=text), stderr=text))
    assert answer == Answer(Outcome.SUCCESS, text, session_id="s", tokens=Tokens())


def test_stderr_of_a_run_that_had_begun_is_not_judged(written: Callable[..., Evidence]) -> None:
    begun = json.dumps({"type": "system", "subtype": "init", "session_id": "s"}) + "\n"
    answer = AGENT.read(written(begun, stderr="tool said: 429 too many requests", code=1))
    assert answer.outcome is Outcome.AGENT_ERROR
    assert AGENT.read(written(stderr="429 too many requests", code=1)).outcome is Outcome.RATE_LIMITED


def test_diagnostics_are_not_judged(written: Callable[..., Evidence]) -> None:
    out = event(subtype="error_during_execution", is_error=True, errors=["tool said: 401 unauthorized", 7])
    answer = AGENT.read(written(out, code=1))
    assert (answer.outcome, answer.error) == (Outcome.AGENT_ERROR, "tool said: 401 unauthorized")


def test_a_limit_that_was_lifted_again_is_forgotten(written: Callable[..., Evidence]) -> None:
    def limit(status: str) -> str:
        info = {"status": status, "resetsAt": 1795190000}
        return json.dumps({"type": "rate_limit_event", "rate_limit_info": info}) + "\n"

    lines = limit("rejected") + limit("allowed") + failed("Request rejected (429)", api_error_status=429)
    assert AGENT.read(written(lines, code=1)).retry_at is None
    assert AGENT.read(written(limit("rejected") + event(result="fine"))).outcome is Outcome.SUCCESS


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(0, Outcome.SUCCESS), (None, Outcome.SUCCESS), (143, Outcome.SUCCESS), (1, Outcome.AGENT_ERROR)],
)
def test_status_after_a_successful_result(
    recorded: Callable[..., Evidence], code: int | None, outcome: Outcome
) -> None:
    assert AGENT.read(recorded("claude", "stream_ok", exit_code=code)).outcome is outcome


def test_a_result_that_work_followed_is_not_the_last_word(written: Callable[..., Evidence]) -> None:
    lines = event(result="wait for it") + json.dumps({"type": "assistant", "message": {}}) + "\n"
    assert AGENT.read(written(lines, code=137)).outcome is Outcome.KILLED
    assert AGENT.read(written(lines, code=None)).outcome is Outcome.LOST


@pytest.mark.parametrize("case", ["sig_TERM_in_bash", "empty_prompt"])
def test_unknown_status_without_a_result_is_lost(recorded: Callable[..., Evidence], case: str) -> None:
    assert AGENT.read(recorded("claude", case, exit_code=None)).outcome is Outcome.LOST


def test_cached_tokens_are_part_of_the_input(written: Callable[..., Evidence]) -> None:
    usage = {
        "input_tokens": 3,
        "output_tokens": 5,
        "cache_read_input_tokens": 20,
        "cache_creation_input_tokens": 7,
    }
    assert AGENT.read(written(event(result="x", usage=usage))).tokens == Tokens(30, 5, 20)


@pytest.mark.parametrize(
    "line",
    [
        '{"type": "result"}',
        '{"type": "result", "is_error": 1, "result": [], "errors": {"a": 1}, "usage": [], "num_turns": "x"}',
        '{"type": "result", "is_error": false, "result": {}, "usage": {"input_tokens": NaN}}',
        '{"type": "result", "is_error": false, "usage": {"output_tokens": -1, "input_tokens": 1e400}}',
        '{"type": ["result"], "session_id": 4}',
        '{"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "resetsAt": "soon"}}',
        '{"type": "result", "is_error": true, "result": "resets 99:99pm |99", "api_error_status": "429"}',
        "{" * 100_000,
        "\x00\x01 not json",
    ],
)
def test_garbage_is_an_outcome_and_no_crash(written: Callable[..., Evidence], line: str) -> None:
    for code in (0, 1, None, 143):
        assert AGENT.read(written(line + "\n", stderr=line, code=code)).outcome is not Outcome.SUCCESS


def test_half_a_surrogate_can_still_be_written_down(written: Callable[..., Evidence]) -> None:
    answer = AGENT.read(written('{"type":"result","is_error":false,"num_turns":1,"result":"a\\ud83d"}\n'))
    assert answer.outcome is Outcome.SUCCESS
    answer.text.encode()


@pytest.mark.parametrize(
    ("line", "last"),
    [
        ('{"type":"result","is_error":true}', True),
        ('{"type":"assistant"}', False),
        ("{", False),
        ("[1]", False),
        ("", False),
    ],
)
def test_answered(line: str, last: bool) -> None:
    assert AGENT.answered(line) is last


def test_answered_in_a_recorded_run(recorded: Callable[..., Evidence]) -> None:
    lines = Path(recorded("claude", "stream_ok").stdout).read_text().splitlines()
    assert [AGENT.answered(line) for line in lines] == [False] * (len(lines) - 1) + [True]
