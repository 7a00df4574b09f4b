"""A task: every key known, every value checked, every mistake told in one line."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from orchestrator.errors import InvalidTask
from orchestrator.states import Priority
from orchestrator.task import FIELDS, Task, parse

pytestmark = pytest.mark.fast


def task(text: str, stem: str = "task_001") -> Task:
    return parse(text.encode(), stem)


def why(text: str, stem: str = "task_001") -> str:
    with pytest.raises(InvalidTask) as caught:
        parse(text.encode(), stem)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_the_smallest_task_is_one_line() -> None:
    found = task("description: Fix the login\n", "fix login")
    assert (found.id, found.description, found.priority) == ("fix_login", "Fix the login", None)
    assert found.context_required is True
    assert found.dependencies == ()


def test_every_field_is_read() -> None:
    found = task(
        """
id: task_007
description: |
  Write the report.
  All of it.
priority: high
created_at: 2025-01-15T10:00:00+02:00
dependencies: [task_001, task_002, task_001]
context_files: [src/a.py]
context_required: [known_issues]
preferred_agent: claude
timeout_minutes: 1.5
subtasks: [one, two]
task_type: research
requirements: [python]
run: "echo hi"
max_retries: 0
"""
    )
    assert found.id == "task_007"
    assert found.priority is Priority.HIGH
    assert found.created_at == datetime(2025, 1, 15, 8, tzinfo=UTC)
    assert found.dependencies == ("task_001", "task_002")
    assert found.context_files == ("src/a.py",)
    assert found.context_required == ("known_issues",)
    assert (found.preferred_agent, found.timeout_minutes, found.max_retries) == ("claude", 1.5, 0)
    assert (found.subtasks, found.task_type, found.requirements, found.run) == (
        ("one", "two"),
        "research",
        ("python",),
        "echo hi",
    )
    assert found.title == "Write the report."


def test_no_field_is_forgotten_by_the_test_above() -> None:
    assert set(FIELDS) == {
        "id", "description", "priority", "created_at", "dependencies", "context_files", "context_required", "preferred_agent",
        "timeout_minutes", "subtasks", "task_type", "requirements", "run", "max_retries",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "priority"),
    [("high", 0), ("HIGH", 0), ("normal", 1), ("low", 2), ("0", 0), ("1", 1), ("2", 2), ("'2'", 2), ("' Low '", 2)],
)
def test_a_priority_is_a_word_or_a_number(written: str, priority: int) -> None:
    assert task(f"description: x\npriority: {written}\n").priority == priority


@pytest.mark.parametrize("written", ["urgent", "3", "-1", "true", "1.0", "[high]", "''"])
def test_another_priority_is_refused_with_the_words_that_exist(written: str) -> None:
    assert "priority: write high, normal or low" in why(f"description: x\npriority: {written}\n")


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2025-01-15T10:00:00Z", datetime(2025, 1, 15, 10, tzinfo=UTC)),
        ("2025-01-15 10:00", datetime(2025, 1, 15, 10, tzinfo=UTC)),
        ("2025-01-15", datetime(2025, 1, 15, tzinfo=UTC)),
        ("2025-01-15T10:00:00-05:00", datetime(2025, 1, 15, 15, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_as_utc_unless_it_says_otherwise(written: str, moment: datetime) -> None:
    assert task(f"description: x\ncreated_at: {written}\n").created_at == moment


def test_aliases_are_the_fields_they_stand_for() -> None:
    found = task("content: Fix it\npreferred_agent_type: codex\n")
    assert (found.description, found.preferred_agent) == ("Fix it", "codex")
    assert "keep one" in why("content: a\ndescription: b\n")


def test_one_word_stands_for_a_list_of_one() -> None:
    found = task("description: x\ndependencies: task_000\nrequirements: sql\ncontext_files:\n")
    assert (found.dependencies, found.requirements, found.context_files) == (("task_000",), ("sql",), ())


def test_a_script_needs_no_description() -> None:
    assert task("run: |\n  make test\n  make check\n").description == "Run: make test"


MISTAKES = {
    "unknown key": ("description: x\npriorty: high\n", "line 2: unknown key 'priorty' (did you mean 'priority'?)"),
    "unknown key behind a text": ("description: |\n  status: x\nstatus: x\n", "line 3: unknown key 'status'"),
    "unknown key in braces": ("{description: x,\n 'status': y}\n", "line 2: unknown key 'status'"),
    "status": ("description: x\nstatus: pending\n", "unknown key 'status'"),
    "no description": ("priority: high\n", "has no description"),
    "empty description": ("description: ''\n", "description: is empty"),
    "null description": ("description:\n", "description: "),
    "blank description": ("description: '  '\n", "description: is empty"),
    "description is a list": ("description: [a]\n", "description: "),
    "description is a number": ("description: 5\n", "description: "),
    "id with a slash": ("description: x\nid: a/b\n", "id: 'a/b' may hold"),
    "id that climbs": ("description: x\nid: ../a\n", "id: '../a' may hold"),
    "id with a newline": ('description: x\nid: "a\\n"\n', "id: 'a\\\\n' may hold"),
    "id that is a number": ("description: x\nid: 7\n", 'id: write it in quotes: id: "7"'),
    "id that is a number with a zero": ("description: x\nid: 007  # bond\n", 'id: write it in quotes: id: "007"'),
    "id that is true": ("id: true\ndescription: x\n", 'id: write it in quotes: id: "true"'),
    "id in one line": ("{description: x, id: 7}\n", 'id: write it in quotes: id: "7"'),
    "id that is a list": ("description: x\nid: [a]\n", "id: write it in quotes"),
    "id of a side file": ("description: x\nid: a_result\n", "lies beside a task"),
    "depends on itself": ("description: x\nid: a\ndependencies: [a]\n", "depends on itself (a → a)"),
    "dependency that is none": ("description: x\ndependencies: [../a]\n", "dependencies: '../a' may hold"),
    "dependency that is a number": ("description: x\ndependencies: [1]\n", "dependencies"),
    "file outside": ("description: x\ncontext_files: [/etc/passwd]\n", "leaves the root"),
    "file above": ("description: x\ncontext_files: [a/../../b]\n", "leaves the root"),
    "no time": ("description: x\ncreated_at: yesterday\n", "created_at: write a time such as"),
    "time is a number": ("description: x\ncreated_at: 5\n", "created_at: write a time such as"),
    "impossible date": ("description: x\ncreated_at: 2025-02-30\n", "created_at: write a time such as"),
    "timeout 0": ("description: x\ntimeout_minutes: 0\n", "line 2: timeout_minutes: "),
    "timeout is a word": ("description: x\ntimeout_minutes: long\n", "timeout_minutes: "),
    "retries below 0": ("description: x\nmax_retries: -1\n", "max_retries: "),
    "script is empty": ("description: x\nrun: ''\n", "run: "),
    "pages of another type": ("description: x\ncontext_required: {a: b}\n", "context_required"),
    "two mistakes": ("description: x\ntimeout_minutes: 0\nmax_retries: -1\n", "(and 1 more problem)"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told_in_one_line(case: str) -> None:
    text, words = MISTAKES[case]
    assert words in why(text)


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_a_time_at_the_edge_of_the_calendar_is_a_mistake_like_others(moment: str) -> None:
    assert "created_at" in why(f"description: x\ncreated_at: {moment}\n")


def test_a_name_that_gives_no_id_asks_for_one() -> None:
    assert "add a line 'id: task_name'" in why("description: x\n", "...")


def test_a_task_is_frozen() -> None:
    with pytest.raises(AttributeError):
        task("description: x\n").id = "b"  # type: ignore[misc]


def test_a_title_is_one_printable_line() -> None:
    found = task('description: "\\n  a\\e[31mb\\nc"\n')
    assert found.title == "a\\x1b[31mb"
    assert len(task(f"description: {'x' * 500}\n").title) <= 81


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("max_retries: true", "max_retries: write a number, not true"),
        ("timeout_minutes: false", "timeout_minutes: write a number, not false"),
        ("id: 0", 'id: write it in quotes: id: "0"'),
        ("id: false", "id: write it in quotes"),
        ("id: []", "id: write it in quotes"),
    ],
)
def test_what_is_no_number_and_no_name_is_taken_for_none(line: str, said: str) -> None:
    assert said in why(f"description: x\n{line}\n")


def test_an_emoji_as_json_escapes_it_is_the_emoji() -> None:
    text = "😀 \\ud83d\\ude00 \\\\ 🦊"
    assert task(json.dumps({"description": text})).description == text
    assert "Unicode character escape" in why('{"description": "\\ud83d"}')
