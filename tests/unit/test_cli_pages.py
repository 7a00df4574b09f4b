"""`show` and `tasks`: the words of the task's file, not ours for the machine."""

from __future__ import annotations

import json
import os

import pytest
from helpers import write
from typer.testing import CliRunner

from orchestrator.archive import archive
from orchestrator.cli import base, commands, looks, status
from orchestrator.cli.pages import print_task
from orchestrator.cli.stopping import cancel_task
from orchestrator.cli.views import Views
from orchestrator.runs import Result, read_result
from orchestrator.spool import Spool
from orchestrator.states import Outcome, State

pytestmark = pytest.mark.fast
assert commands and looks  # they add themselves to base.app

TASK = "description: x\npriority: 0\ntimeout_minutes: 1\ncontext_required: false\nmax_retries: 2\nsubtasks: [a, b]\n"


def test_show_prints_the_words_that_a_person_writes(queue: Spool, capsys: pytest.CaptureFixture[str]) -> None:
    write(f"{queue.tasks}/pending/one.yaml", TASK)
    found = Views(queue.root).show("one")
    assert found["task"] == {
        "description": "x", "priority": "high", "timeout_minutes": 1, "context_required": False, "max_retries": 2,
        "subtasks": ["a", "b"],
    }  # fmt: skip
    assert found["task"]["priority"] == Views(queue.root).page({"pending"})[0][0]["priority"]
    print_task(queue.root, found)
    said = capsys.readouterr().out
    for line in ("priority: high", "timeout_minutes: 1", "context_required: false", "max_retries: 2", "subtasks: a, b"):
        assert f"\n{line}\n" in said


def test_a_rejected_file_whose_id_is_none_is_shown_by_it(queue: Spool) -> None:
    write(f"{queue.tasks}/rejected/one.yaml", "description: x\nid: ../x\n")
    write(f"{queue.tasks}/rejected/one.yaml.reason.txt", "tasks/pending/one.yaml: id ../x is none\n")
    found = Views(queue.root).show("../x")
    assert found["state"] == "rejected" and found["file"] == "tasks/rejected/one.yaml"


def test_a_long_text_is_shortened_on_the_page_and_says_so(queue: Spool, capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(("first", "y" * 9000, *(f"line {number}" for number in range(500))))
    write(f"{queue.tasks}/pending/one.yaml", f"description: {json.dumps(text)}\n")
    print_task(queue.root, Views(queue.root).show("one"))
    said = capsys.readouterr().out.splitlines()
    assert f"    {'y' * 2000}…" in said and said[-1] == "    … 461 more lines" and len(said) < 50


def test_show_has_the_last_words_of_a_run_that_left_no_answer(queue: Spool, capsys: pytest.CaptureFixture[str]) -> None:
    write(f"{queue.tasks}/failed/one.yaml", TASK)
    output = "context/agent_outputs/one_output.md"
    result = Result("one", "agent_01", "shell", 1, Outcome.AGENT_ERROR, 1000.0, output_file=output).to_yaml()
    write(f"{queue.tasks}/failed/one_result.yaml", result)
    folder = queue.run_folder("one", 1)
    write(f"{folder}/result.yaml", result)
    write(
        f"{folder}/stderr.log", "\n".join(f"line {number}" for number in range(3000)) + "\n\x1b[31mno such module\n\n"
    )
    write(f"{folder}/stdout.log", '{"type": "result"}\n')
    for text in (None, "", "\n"):
        if text is not None:
            write(f"{queue.root}/{output}", text)
        print_task(queue.root, Views(queue.root).show("one"))
        said = capsys.readouterr().out
        assert said.endswith(
            "\nstderr.log, its end\n\n    line 2996\n    line 2997\n    line 2998\n    line 2999\n    �[31mno such module\n"
            "\nIt left no answer; all that it printed: orchestrate logs one [--stderr]\n"
        ), said
        assert '"type"' not in said and "(it is empty)" not in said
    write(f"{queue.root}/{output}", "the answer\n")
    print_task(queue.root, Views(queue.root).show("one"))
    said = capsys.readouterr().out
    assert said.endswith(f"\noutput  {output}\n\n    the answer\n") and "its end" not in said


def test_show_finds_the_result_and_the_runs_of_an_archived_task(queue: Spool) -> None:
    write(f"{queue.tasks}/completed/one.yaml", TASK)
    result = Result("one", "agent_01", "shell", 1, Outcome.SUCCESS, 1000.0, reason="all is well").to_yaml()
    write(f"{queue.tasks}/completed/one_result.yaml", result)
    write(f"{queue.run_folder('one', 1)}/result.yaml", result)
    before = Views(queue.root).show("one")
    assert archive(queue, 0.0) == ["one"]
    after = Views(queue.root).show("one")
    assert after["runs"][0].pop("folder") == "tasks/archive/1970-01/runs/one/1" and before["runs"][0].pop("folder")
    assert after["file"] == "tasks/archive/1970-01/completed/one.yaml"
    assert after["result"] == "tasks/archive/1970-01/completed/one_result.yaml"
    assert {**after, "file": "", "result": ""} == {**before, "file": "", "result": ""}


def test_show_says_of_a_rejected_file_why_and_what_to_do(queue: Spool, capsys: pytest.CaptureFixture[str]) -> None:
    write(f"{queue.tasks}/rejected/some file.yaml", "id: other\nx: 1\n")
    write(f"{queue.tasks}/rejected/some file.yaml.reason.txt", "tasks/pending/some file.yaml: unknown key 'x'\n")
    for name in ("some file", "some file.yaml", "other"):
        print_task(queue.root, Views(queue.root).show(name))
        said = capsys.readouterr().out
        assert said.startswith(f"{name}  rejected: unknown key 'x'\n")
        assert "\nto do   correct tasks/rejected/some file.yaml and move it back to tasks/pending/\n" in said


def test_retry_says_what_it_did_and_what_it_cannot_do(queue: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(queue.root)
    runner = CliRunner()
    for name, folder in (("new", "pending"), ("again", "pending"), ("old", "completed")):
        write(f"{queue.tasks}/{folder}/{name}.yaml", TASK)
    write(f"{queue.run_folder('again', 1)}/alive", "pid: 1\n")
    assert archive(queue, -3600.0) == ["old"]
    write(f"{queue.tasks}/failed/worse.yaml", TASK)
    said = runner.invoke(base.app, ["retry", "new", "again", "worse", "old"])
    assert said.exit_code == 1 and said.stdout.splitlines() == [
        "new  waits already: it has not run yet", "again  is tried now", "worse  back to pending"
    ]  # fmt: skip
    assert "old: is archived (tasks/archive/" in said.stderr


def test_a_limit_keeps_what_waits_next_and_what_ended_last(queue: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(queue.root)
    for name, folder, ended in (
        ("a", "completed", 10),
        ("b", "completed", 4000),
        ("c", "failed", 10),
        ("d", "review", 3000),
    ):
        write(f"{queue.tasks}/{folder}/{name}.yaml", TASK)
        write(
            f"{queue.tasks}/{folder}/{name}_result.yaml",
            Result(name, "", "", 1, Outcome.SUCCESS, ended * 1.0).to_yaml(),
        )
    for name, when in (("y", 1000), ("z", 2000)):
        os.utime(write(f"{queue.tasks}/pending/{name}.yaml", TASK), (when, when))
    for words, wanted in (
        (["-s", "ended"], "abcd"), (["-s", "ended", "-n", "2"], "bd"), (["-s", "ended", "-n", "1"], "b"),
        (["-n", "3"], "yzb"), (["-n", "1"], "y"), (["-s", "completed", "-n", "9"], "ab"),
    ):  # fmt: skip
        said = CliRunner().invoke(base.app, ["tasks", *words]).stdout
        assert "".join(line.partition("\t")[0] for line in said.splitlines()) == wanted, (words, said)


def test_a_task_cancelled_before_it_ran_or_in_review_keeps_its_title(queue: Spool) -> None:
    for folder in ("pending", "review"):
        write(f"{queue.tasks}/{folder}/{folder}.yaml", "description: Fix the login\n")
        cancel_task(queue.root, folder)
        result = read_result(queue.result_path(State.FAILED, folder))
        assert result is not None and result.title == "Fix the login"


def test_a_slot_that_went_on_before_its_last_task_moved_is_busy_once(
    queue: Spool, capsys: pytest.CaptureFixture[str]
) -> None:
    for task_id, slot in (("old", 1), ("new", 1), ("other", 2), ("just_ended", 3)):
        write(queue.path(State.ASSIGNED, task_id), "description: x\n")
        note = f"agent_id: agent_0{slot}\nagent_type: shell\nrun: 1\n"
        write(queue.assignment_path(task_id, f"agent_0{slot}"), note)
        write(f"{queue.run_folder(task_id, 1)}/alive", "")
    for task_id in ("old", "just_ended"):  # of the second, nobody has the slot yet
        write(f"{queue.run_folder(task_id, 1)}/exit", "0")
    assert status.show(queue.root, as_json=False) == 0
    said = capsys.readouterr().out
    assert "shell: 3 busy, 1 ending\n" in said and "4 running" in said
    assert [line.split()[1] for line in said.splitlines() if "run 1, ending" in line] == ["old"]
