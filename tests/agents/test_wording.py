from __future__ import annotations

import pytest

from orchestrator.agents.wording import class_of, complaint, one_line, reset_time
from orchestrator.states import Outcome

NOW = 1795176702.0  # Friday, 2026-11-20 12:11:42 UTC


@pytest.mark.parametrize(
    ("text", "outcome", "retry_at"),
    [
        ("Claude AI usage limit reached|1795190000", Outcome.RATE_LIMITED, 1795190000.0),
        ("You've hit your limit · resets 10pm (America/New_York)", Outcome.RATE_LIMITED, 1795230060.0),
        ("You've hit your session limit · resets 1:56pm (UTC)", Outcome.RATE_LIMITED, 1795183020.0),
        ("You're out of extra usage · resets 1pm (Europe/Berlin)", Outcome.RATE_LIMITED, 1795262460.0),
        ("You've hit your weekly limit · resets Nov 23, 11:56am (UTC)", Outcome.RATE_LIMITED, 1795435020.0),
        ("You've hit your weekly limit · resets Jan 2, 11:56am (UTC)", Outcome.RATE_LIMITED, 1798891020.0),
        ("You've hit your limit · resets 12:11pm (UTC)", Outcome.RATE_LIMITED, 1795176720.0),  # this minute
        ("You've hit your limit · resets 12:10pm (UTC)", Outcome.RATE_LIMITED, 1795263060.0),  # tomorrow
        ("You've hit your limit · resets 12:30am", Outcome.RATE_LIMITED, 1795221060.0),
        ("You've hit your limit · resets 25pm (UTC)", Outcome.RATE_LIMITED, None),
        ("You've hit your limit · resets Feb 31, 1pm (UTC)", Outcome.RATE_LIMITED, None),
        ("You've hit your limit · resets 1pm (Mars/Olympus)", Outcome.RATE_LIMITED, None),
        ("You've hit your limit · resets 1pm (../../etc/passwd)", Outcome.RATE_LIMITED, None),
        ("Prompt is too long", Outcome.CONTEXT_OVERFLOW, None),
        ("insufficient_quota", Outcome.QUOTA, None),
        ("HTTP 401 Unauthorized", Outcome.AUTH, None),
        ("API Error: Can't reach the API server (ENOTFOUND)", Outcome.UNAVAILABLE, None),
        ("stream disconnected before completion: error sending request for url", Outcome.UNAVAILABLE, None),
        ("exception TypeError: fetch failed sending request", Outcome.UNAVAILABLE, None),
        ("stream disconnected before completion: stream closed", Outcome.AGENT_ERROR, None),  # one hiccup
        ("Something else went wrong", Outcome.AGENT_ERROR, None),
        ("", Outcome.AGENT_ERROR, None),
    ],
)
def test_wordings(text: str, outcome: Outcome, retry_at: float | None) -> None:
    assert (class_of(text), reset_time(text, NOW)) == (outcome, retry_at)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0, Outcome.RATE_LIMITED),
        (400, Outcome.RATE_LIMITED),
        (401, Outcome.AUTH),
        (403, Outcome.AUTH),
        (402, Outcome.QUOTA),
        (413, Outcome.CONTEXT_OVERFLOW),
        (429, Outcome.RATE_LIMITED),
        (404, Outcome.AGENT_ERROR),
        (500, Outcome.UNAVAILABLE),
        (529, Outcome.UNAVAILABLE),
    ],
)
def test_a_status_says_more_than_words(status: int, outcome: Outcome) -> None:
    assert class_of("the upstream's rate limit", status) is outcome


def test_a_zone_that_is_not_named_is_the_runs_own() -> None:
    assert reset_time("resets 3pm", NOW) == 1795186860.0
    assert reset_time("resets 3pm", NOW, "Europe/Berlin") == 1795183260.0
    assert reset_time("resets 3pm (UTC)", NOW, "Europe/Berlin") == 1795186860.0
    assert reset_time("resets 3pm", NOW, "Mars/Olympus") is None


@pytest.mark.parametrize(
    ("stderr", "line"),
    [
        ("a\nERROR: b\nerror: c\nd\n", "ERROR: b"),
        ("a\n\n b \n\n", "b"),
        ("noise 1\nwhy\nnoise 2\n", "why"),
        ("noise\n", ""),
        ("", ""),
    ],
)
def test_the_line_that_tells_why(stderr: str, line: str) -> None:
    assert complaint(stderr, "noise") == line


def test_one_line_is_safe_to_print() -> None:
    assert one_line("\x1b[31mred\x1b[0m\n\ttwo\u202f2\x07") == "red two 2\\x07"
    assert len(one_line("x" * 10_000)) == 501
