"""Tables and long lines, as wide as the terminal is."""

from __future__ import annotations

import io
import re
import sys

import pytest

from orchestrator.cli.paint import Paint, columns, fold

pytestmark = pytest.mark.fast

HEADING = ("TASK", "STATE", "PRIORITY", "AGENT", "SINCE", "TITLE", "WHY")
GIVE = ("PRIORITY", "SINCE", "AGENT", "TITLE")
WHY = "agent_error: exit status 3: no such table: users. What you can do: orchestrate retry task_002"
ROWS = [
    (
        "task_001",
        "pending",
        "high",
        "",
        "3s",
        "Fix the login: it fails when the password holds an umlaut",
        "starts next",
    ),
    ("task_002", "review", "normal", "claude", "2h05m", "文字化けを直す: ログインが失敗する場合の調査", WHY),
    ("task_003", "failed", "normal", "failed", "4d", "e\u0301tude", "waits for failed  review  things"),
]


def drawn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int) -> list[str]:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    columns(ROWS, Paint(), HEADING, GIVE)
    return capsys.readouterr().out.splitlines()


def plain(line: str) -> str:
    return re.sub(r"\x1b\[\d+m", "", line)


def test_no_line_is_wider_than_the_terminal_and_a_reason_that_does_not_fit_goes_on_below(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for width in range(40, 220):
        heading, *lines = (plain(line).replace("\u0301", "") for line in drawn(monkeypatch, capsys, width))
        for line in (heading, *lines):
            assert sum(2 if "\u3000" <= c <= "\u9fff" else 1 for c in line) <= width
        [place] = [number for number, line in enumerate(lines) if line.startswith("task_002")]
        below = [line for line in lines[place + 1 :] if line.startswith("    ")]
        rows = [line for line in lines if not line.startswith("    ")]
        assert [row[:8] for row in rows] == ["task_001", "task_002", "task_003"]
        why = " ".join(line.strip() for line in lines[place + 1 : place + 1 + 3] if line.startswith("    ")) or rows[1]
        assert WHY in why and (bool(below) or width > 100), (width, lines)
        assert rows[0].endswith("starts next") and rows[0].index("starts next") == heading.index("WHY"), (
            width,
            rows[0],
        )


def test_a_column_with_nothing_in_it_takes_no_room_and_titles_give_way_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plain(drawn(monkeypatch, capsys, 200)[0]).split() == list(HEADING)
    assert plain(drawn(monkeypatch, capsys, 60)[0]).split() == ["TASK", "STATE", "TITLE", "WHY"]
    monkeypatch.setattr(sys.modules[__name__], "ROWS", [(*row[:3], "", *row[4:]) for row in ROWS])
    assert "AGENT" not in plain(drawn(monkeypatch, capsys, 200)[0])


def test_only_the_state_is_coloured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    line = drawn(monkeypatch, capsys, 200)[3]
    assert re.findall(r"\x1b\[\d+m([^\x1b]*)\x1b\[0m", line) == ["failed "]


def test_in_a_pipe_nothing_is_cut(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    columns(ROWS, Paint(), HEADING, GIVE)
    assert capsys.readouterr().out == "".join("\t".join(row) + "\n" for row in ROWS)


def test_a_long_line_goes_on_below_between_two_words_and_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert fold(WHY, 12) == WHY
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", terminal)
    lines = ("x" * 12 + fold(WHY, 12)).splitlines()
    assert all(len(line) <= 60 for line in lines) and all(line.startswith(" " * 12) for line in lines[1:])
    assert " ".join(line[12:] for line in lines) == WHY
    assert fold("short", 12) == "short"
