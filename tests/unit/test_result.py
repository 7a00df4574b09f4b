"""Judging: by events and status, never by words; and the facts that an agent hands back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from helpers import read, write

from orchestrator.agents import AGENTS
from orchestrator.agents.base import Answer, Evidence
from orchestrator.config import AgentConfig
from orchestrator.errors import InvalidTask
from orchestrator.result import TEXT_LIMIT, Verdict, judge, read_facts
from orchestrator.runs import FACTS_EXAMPLE, Result, read_exit, read_result
from orchestrator.states import Outcome, State

pytestmark = pytest.mark.fast

SETTINGS = AgentConfig(command="any")


def judged(
    folder: str, out: str = "", err: str = "", code: int | None = 0, adapter: str = "command", **options: Any
) -> Verdict:
    write(f"{folder}/stdout.log", out)
    write(f"{folder}/stderr.log", err)
    if code is not None:
        write(f"{folder}/exit", f"{code}\n")
    return judge(folder, AGENTS[adapter], SETTINGS, 1_700_000_000.0, exit_code=read_exit(folder), **options)


def block(text: str, fence: str = "```") -> str:
    return f"{fence}orchestrate\n{text}\n{fence}\n"


# -- facts --------------------------------------------------------------------------------------


def test_every_fact_of_the_block_is_read() -> None:
    facts = read_facts(
        "I did it.\n\n"
        + block(
            'files_modified: ["a.py", "b.py"]\nnotes:\n  - one\n  - "two: three"\nknown_issues: [x]\nobjectives: [y]\ncode_structure: [z]'
        )
        + "\nBye.\n"
    )
    assert facts == {
        "files_modified": ("a.py", "b.py"),
        "notes": ("one", "two: three"),
        "known_issues": ("x",),
        "objectives": ("y",),
        "code_structure": ("z",),
    }


@pytest.mark.parametrize(
    "text",
    ["", "no block", block(""), block("# nothing\nnotes: []"), block("questions: [none]"), block(FACTS_EXAMPLE), "```yaml\nnotes: [a]\n```\n",
     "```orchestrated\nnotes: [a]\n```\n", block("unknown: [a]")],
)  # fmt: skip
def test_an_answer_without_facts_has_none(text: str) -> None:
    assert read_facts(text) == {}


def test_the_last_block_counts() -> None:
    assert read_facts(block("notes: [draft]") + "then\n" + block("notes: [final]")) == {"notes": ("final",)}


@pytest.mark.parametrize("fence", ["```", "````", "```````"])
def test_a_longer_fence_may_hold_shorter_ones(fence: str) -> None:
    assert read_facts(block('notes: ["use ``` here"]', fence)) == {"notes": ("use ``` here",)}


def test_a_single_word_a_number_and_nothing_are_made_a_list() -> None:
    assert read_facts(block("notes: one\nknown_issues: [1, null, '', '  x  ']\nobjectives:\nfiles_modified: 5")) == {
        "notes": ("one",),
        "known_issues": ("1", "x"),
        "files_modified": ("5",),
    }


def test_windows_line_ends_do_not_hide_the_block() -> None:
    assert read_facts(block("notes: [a]").replace("\n", "\r\n")) == {"notes": ("a",)}


@pytest.mark.parametrize("bad", ["- a", "just words", "a: 1\na: 2", "{", "\x00"])
def test_a_block_that_cannot_be_read_is_told_as_such(bad: str) -> None:
    with pytest.raises(InvalidTask):
        read_facts(block(bad))


# -- verdicts -----------------------------------------------------------------------------------


def test_a_success_carries_its_facts_and_its_answer(folder: str) -> None:
    verdict = judged(folder, "Done.\n" + block("notes: [n]"))
    assert verdict.outcome is Outcome.SUCCESS
    assert verdict.facts == {"notes": ("n",)}
    assert verdict.exit_code == 0
    assert read(f"{folder}/output.md").startswith("Done.")


def test_a_broken_block_makes_the_answer_unreadable(folder: str) -> None:
    verdict = judged(folder, "Done.\n" + block("{notes"))
    assert verdict.outcome is Outcome.UNREADABLE
    assert "orchestrate block" in verdict.error
    assert verdict.facts == {}
    assert "{notes" in read(f"{folder}/output.md")


@pytest.mark.parametrize(
    ("body", "notes"),
    [
        ("notes: [a", ("a",)),
        ('notes: "x', ("x",)),
        ("notes:\n  - `foo` is slow\n  - [%done] rest", ("`foo` is slow", "[%done] rest")),
        ("notes: [fix: this]", ("fix: this",)),
        ("notes: @scope/pkg is old", ("@scope/pkg is old",)),
    ],
)
def test_a_forgotten_quote_does_not_cost_the_work_of_a_run(body: str, notes: tuple[str, ...]) -> None:
    assert read_facts(block(body))["notes"] == notes


@pytest.mark.parametrize(
    "text",
    [
        "    ```orchestrate\n    questions: [Which port?]\n    ```\n",
        "```orchestrate\nquestions: [Which port?]\n",
        "```Orchestrate\nquestions: [Which port?]\n```",
        "```orchestrate yaml\nquestions: [Which port?]\n```",
        "~~~orchestrate\nquestions: [Which port?]\n~~~",
    ],
)
def test_a_question_is_not_lost_by_the_form_of_its_block(text: str) -> None:
    assert read_facts(text) == {"questions": ("Which port?",)}


def test_a_question_makes_a_person_answer_it(folder: str) -> None:
    verdict = judged(folder, block('questions: ["Which port?", "Which host?"]\nnotes: [n]'))
    assert verdict.outcome is Outcome.NEEDS_ANSWER
    assert verdict.error == "asks: Which port?; Which host?"
    assert verdict.facts["notes"] == ("n",)


WORDS = (
    "HTTP 429 rate limit exceeded. Error: usage limit reached, try again at 5pm. Invalid API key. 401 Unauthorized. quota exceeded. "
    "context length exceeded; prompt is too long. Please run /login. overloaded_error. out of memory.\n"
)


@pytest.mark.parametrize("adapter", ["command", "shell"])
def test_who_writes_about_rate_limits_is_not_rate_limited(folder: str, adapter: str) -> None:
    verdict = judged(folder, WORDS, WORDS, 0, adapter)
    assert verdict.outcome is Outcome.SUCCESS
    assert verdict.answer.retry_at is None


@pytest.mark.parametrize("adapter", ["command", "shell"])
@pytest.mark.parametrize("code", [1, 2, 127, 137, 143])
def test_another_status_is_an_error_of_the_agent_whatever_it_says(folder: str, adapter: str, code: int) -> None:
    verdict = judged(folder, "All done. Success!\n" + block("notes: [n]"), WORDS, code, adapter)
    assert verdict.outcome is Outcome.AGENT_ERROR
    assert f"exit status {code}" in verdict.error
    assert verdict.facts == {}


@pytest.mark.parametrize("adapter", sorted(AGENTS))
def test_a_run_whose_end_nobody_saw_is_lost(folder: str, adapter: str) -> None:
    verdict = judged(folder, "half an ans", code=None, adapter=adapter)
    assert verdict.outcome is Outcome.LOST
    assert verdict.exit_code is None


@pytest.mark.parametrize("adapter", sorted(AGENTS))
@pytest.mark.parametrize(
    "out", ["", "\n", "\0" * 100, "{", '{"type":', "[" * 5000, "\x1b[31m", "{}\n" * 100, '{"type": "result"}']
)
def test_garbage_on_the_output_is_an_outcome_and_no_error_of_ours(folder: str, adapter: str, out: str) -> None:
    verdict = judged(folder, out, out, 0, adapter)
    assert isinstance(verdict.outcome, Outcome)
    assert verdict.error.isprintable()


def test_what_we_stopped_is_judged_by_why_we_stopped_it(folder: str) -> None:
    verdict = judged(
        folder, "Done.\n" + block("notes: [n]"), code=0, stopped=Outcome.TIMEOUT, stopped_why="ran longer than 5 min"
    )
    assert (verdict.outcome, verdict.error) == (Outcome.TIMEOUT, "ran longer than 5 min")
    assert verdict.facts == {}


def test_a_time_out_spent_waiting_for_the_network_is_the_networks(folder: str) -> None:
    waits = '{"type":"error","message":"Reconnecting... waiting for network (Connection failed)"}\n'
    goes_on = '{"type":"item.started","item":{"id":"item_1"}}\n'
    for out, stopped, outcome in (
        (waits, Outcome.TIMEOUT, Outcome.UNAVAILABLE),
        (waits, Outcome.STUCK, Outcome.UNAVAILABLE),
        (waits, Outcome.CANCELLED, Outcome.CANCELLED),
        (waits + goes_on, Outcome.TIMEOUT, Outcome.TIMEOUT),
    ):
        verdict = judged(folder, out, code=1, adapter="codex", stopped=stopped, stopped_why="ran longer than 5 min")
        assert (verdict.outcome, verdict.error[:21]) == (outcome, "ran longer than 5 min")


def test_what_had_answered_and_was_ended_by_us_is_a_success(folder: str) -> None:
    assert judged(folder, "Done.\n", code=137, answered=True).outcome is Outcome.SUCCESS
    os.unlink(f"{folder}/exit")
    assert judged(folder, "Done.\n", code=None, answered=True).outcome is Outcome.SUCCESS


def test_an_error_is_one_printable_line(folder: str) -> None:
    verdict = judged(folder, err="first\nerror: \x1b[31mred\x1b[0m \u202e" + "x" * 5000, code=1)
    assert verdict.error.isprintable()
    assert len(verdict.error) <= 501


# -- output.md ----------------------------------------------------------------------------------


def test_what_the_agent_wrote_itself_is_its_answer(folder: str) -> None:
    write(f"{folder}/output.md", "my own\n" + block("notes: [own]"))
    verdict = judged(folder, "on stdout\n")
    assert read(f"{folder}/output.md").startswith("my own")
    assert verdict.facts == {"notes": ("own",)}


def test_an_answer_that_is_no_text_is_kept_and_read_as_far_as_it_goes(folder: str) -> None:
    write(f"{folder}/output.md", b"\xff\xfe\0\n" + block("notes: [n]").encode())
    assert judged(folder, "x").facts == {"notes": ("n",)}
    assert Path(f"{folder}/output.md").read_bytes().startswith(b"\xff\xfe\0")


@pytest.mark.parametrize("left", ["empty file", "folder", "fifo", "dangling link", "link to a folder"])
def test_whatever_the_agent_made_of_it_the_answer_is_a_plain_file_in_the_end(folder: str, left: str) -> None:
    path = Path(folder, "output.md")
    {
        "empty file": path.touch,
        "folder": path.mkdir,
        "fifo": lambda: os.mkfifo(path),
        "dangling link": lambda: path.symlink_to("nowhere"),
        "link to a folder": lambda: path.symlink_to("/"),
    }[left]()
    verdict = judged(folder, "Done.\n")
    assert verdict.outcome is Outcome.SUCCESS
    assert path.is_file() and not path.is_symlink()
    assert "Done." in read(path)


class Talker:
    """An adapter whose program answers at length."""

    kind = "talker"

    def __init__(self, text: str) -> None:
        self.text = text

    def read(self, evidence: Evidence) -> Answer:
        return Answer(Outcome.SUCCESS, self.text)


def test_a_very_long_answer_keeps_its_head_its_tail_and_its_facts(folder: str) -> None:
    text = "head\n" + "x" * (3 * TEXT_LIMIT) + "\n" + block("notes: [n]")
    verdict = judge(folder, Talker(text), SETTINGS, 0.0, exit_code=read_exit(folder))  # type: ignore[arg-type]
    kept = read(f"{folder}/output.md")
    assert len(kept) < TEXT_LIMIT + 200
    assert kept.startswith("head\n") and kept.endswith("```\n")
    assert "characters left out" in kept
    assert verdict.facts == {"notes": ("n",)}


# -- result.yaml --------------------------------------------------------------------------------


def test_a_result_comes_back_as_it_was_written(tmp_path: Path) -> None:
    one = Result(
        "task_001", "agent_01", "claude", 2, Outcome.RATE_LIMITED, 1_700_000_000.0, State.PENDING, 1_699_999_000.0, 143,
        "no: more\n'quotes'", "context/x.md", ("a b.py",), ("n: 1", "- x"), ("i",), ("o",), ("c",), ("q?",), "sess-1",
        {"input": 5, "output": 7, "cached": 0}, 0.25, 1_700_000_060.0, 1_700_000_300.0, False, "Größe: \"x\"",
    )  # fmt: skip
    assert read_result(write(tmp_path / "result.yaml", one.to_yaml())) == one
    plain = Result("task_001", "agent_01", "claude", 1, Outcome.SUCCESS, 1_700_000_000.0)
    assert read_result(write(tmp_path / "plain.yaml", plain.to_yaml())) == plain


@pytest.mark.parametrize(
    "content",
    [b"", b"task_id: a\n", b"status: fine\ntask_id: a\n", b"\0", b"- a", b"task_id: a\nstatus: success\nrun: x\n"],
)
def test_a_torn_result_is_none(tmp_path: Path, content: bytes) -> None:
    assert read_result(write(tmp_path / "result.yaml", content)) is None
    assert read_result(f"{tmp_path}/none.yaml") is None
