"""Any program becomes an agent by a few lines of config.yaml; what it gets, and what it does not get."""

from __future__ import annotations

import json
from typing import Any

import pytest
from integration.driver import AGENT, Driver, until


def run_one(root: Driver, *orders: str, settings: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """One task on one agent of these settings, to its end: its result."""
    root.configure({"mine": {"command": AGENT, **(settings or {})}}, secrets=["*_TOKEN", "*_API_KEY"])
    root.drop("one", *orders, max_retries=0, **fields)
    root.start(FOO_TOKEN="geheim", BAR_TOKEN="auch", PLAIN="offen")
    until(lambda: root.places("one") in (["completed"], ["review"], ["failed"]), what=lambda: root.story("one"))
    return root.result("one")


@pytest.mark.parametrize(
    ("prompt", "command"),
    [
        ("stdin", AGENT),
        ("argument", f"{AGENT} --prompt"),
        ("argument", f"{AGENT} --prompt {{prompt}} --more"),
        ("file", f"{AGENT} --prompt-file"),
        ("file", f"{AGENT} --prompt-file {{prompt_file}} --more"),
    ],
)
def test_the_prompt_is_handed_over_as_the_config_says(root: Driver, prompt: str, command: str) -> None:
    orders = ("@prompt", "Quotes ' \" and $HOME and {prompt} and `x` stay.")
    assert run_one(root, *orders, settings={"command": command, "prompt": prompt})["status"] == "success"
    assert root.answer("one").strip() == root.prompt("one").strip()


def test_a_prompt_of_one_megabyte_goes_through_stdin_and_files(root: Driver) -> None:
    text = "x" * 79 + "\n"
    root.configure({"a": {"command": AGENT}, "b": {"command": f"{AGENT} --prompt-file", "prompt": "file"}})
    for name in ("a", "b"):
        root.drop(name, "@prompt", text * 13_000, preferred_agent=name)
    root.start()
    root.reach("completed", "a", "b")
    assert all(
        root.answer(name).strip() == root.prompt(name).strip() and len(root.prompt(name)) > 1_000_000 for name in "ab"
    )


def test_a_prompt_too_long_for_an_argument_is_said_to_be_and_not_cut(root: Driver) -> None:
    settings = {"command": f"{AGENT} --prompt", "prompt": "argument"}
    result = run_one(root, "@prompt", "y" * 140_000, settings=settings)
    assert result["status"] == "context_overflow" and "set `prompt: stdin` or `prompt: file`" in result["reason"]


@pytest.mark.parametrize(
    ("printed", "path", "status", "answer"),
    [
        ('{"result": {"text": "well"}}', "result.text", "success", "well"),
        (
            '{"choices": [{"message": "first"}, {"message": "second"}]}',
            "choices[1].message",
            "success",
            "second",
        ),
        ('noise\\n{"a": "old"}\\n{"b": 1}\\n{"a": "new"}', "a", "success", "new"),
        ('{"result": {"n": 1}}', "result", "success", '{"n": 1}'),
        ('{"result": 1}', "answer.text", "unreadable", ""),
        ("no json at all", "a", "unreadable", ""),
        ('{"a": ""}', "a", "unreadable", ""),
        ('{"a": "half', "a", "unreadable", ""),
    ],
)
def test_the_answer_is_found_in_json_by_its_path(
    root: Driver, printed: str, path: str, status: str, answer: str
) -> None:
    result = run_one(root, f"@json '{printed}'", settings={"output": "json", "answer": path})
    assert result["status"] == status, result
    if answer:
        assert root.answer("one").strip() == answer
    else:
        assert root.places("one") == ["review"] and "orchestrate retry one" in result["reason"]


def test_exit_codes_that_mean_success_are_the_agents_own(root: Driver) -> None:
    root.configure({"mine": {"command": AGENT, "success_exit_codes": [0, 3]}})
    for code in (0, 3, 4):
        root.drop(f"c{code}", "@say well", f"@exit {code}", max_retries=0)
    root.start()
    root.reach("completed", "c0", "c3")
    root.reach("review", "c4")
    assert "exit status 4: well" in root.result("c4")["reason"]


def test_secrets_are_withheld_pass_env_lets_them_through_and_env_adds(root: Driver) -> None:
    run_one(root, "@env", settings={"pass_env": ["BAR_*"], "env": {"ADDED": "ja", "PLAIN": "anders"}})
    seen = json.loads(root.answer("one"))
    assert "FOO_TOKEN" not in seen and seen["BAR_TOKEN"] == "auch"
    assert seen["ADDED"] == "ja" and seen["PLAIN"] == "anders"
    assert not any(
        "geheim" in path.read_text(errors="replace") for path in root.runs("one").rglob("*") if path.is_file()
    )


def test_every_variable_that_is_promised_arrives(root: Driver) -> None:
    run_one(root, "@run 1 env", settings={"env": {"ORCHESTRATE_RUN": "99"}})
    seen = json.loads(root.answer("one"))
    assert {k: v for k, v in seen.items() if k.startswith("ORCHESTRATE_")} == {
        "ORCHESTRATE_TASK_ID": "one",
        "ORCHESTRATE_RUN": "1",
        "ORCHESTRATE_AGENT_ID": "agent_01",
        "ORCHESTRATE_ROOT": str(root.root),
        "ORCHESTRATE_OUTPUT_FILE": str(root.runs("one") / "1/output.md"),
        "ORCHESTRATE_RUN_FOLDER": str(root.runs("one") / "1"),
    }


def test_what_is_written_to_the_output_file_is_the_answer(root: Driver) -> None:
    run_one(root, "@say 'some chatter'", "@output 'the real answer'")
    assert root.answer("one") == "the real answer"
    assert root.result("one")["output_file"] == "context/agent_outputs/one_output.md"


def test_a_program_that_prints_its_answer_to_a_named_file_needs_to_say_nothing(root: Driver) -> None:
    result = run_one(root, "@output 'in the file'", settings={"command": f"{AGENT} --out {{output_file}}"})
    assert result["status"] == "success" and root.answer("one") == "in the file"


def test_the_shell_agent_runs_a_script_with_its_own_first_line_and_stops_at_the_first_error(
    root: Driver,
) -> None:
    root.configure({"shell": {"max_instances": 2}})
    scripts = {
        "plain": 'echo $ORCHESTRATE_TASK_ID in "$(basename "$PWD")"',
        "python": "#!/usr/bin/env python3\nimport os\nprint('run', os.environ['ORCHESTRATE_RUN'])",
        "stops": "echo before\nfalse\necho after",
    }
    for name, script in scripts.items():
        root.drop(name, run=script, max_retries=0)
    root.start()
    root.reach("completed", "plain", "python")
    root.reach("review", "stops")
    assert root.answer("plain").strip() == "plain in a root" and root.answer("python").strip() == "run 1"
    assert "after" not in (root.runs("stops") / "1/stdout.log").read_text()


def test_a_program_that_is_not_there_is_said_to_be_missing_and_costs_no_attempt(root: Driver) -> None:
    root.configure({"ghost": {"command": "no-such-program-here --x"}})
    root.drop("one", "@say well", max_retries=0)
    root.start()
    root.seen()
    [row] = root.json("tasks")
    assert row["reason"] == "ghost cannot start: 'no-such-program-here' is not on PATH" and row["state"] == "pending"
    assert root.count("one") == 0


def test_the_commands_of_the_four_known_agents_work_as_users_write_them(root: Driver) -> None:
    """Four programs of these names that print nothing of use: each is started, judged, and nothing breaks."""
    folder = root.root / "bin"
    folder.mkdir()
    commands = {
        "claude": "claude --dangerously-skip-permissions",
        "codex": "codex --ask-for-approval never --sandbox danger-full-access exec",
        "gemini": "gemini --approval-mode yolo",
        "cursor": "cursor-agent --force",
    }
    for words in commands.values():
        program = folder / words.split()[0]
        program.write_text(
            '#!/bin/sh\nprintf "%s\\n" "$@" > "$ORCHESTRATE_ROOT/argv_$ORCHESTRATE_TASK_ID"\necho hello\n'
        )
        program.chmod(0o755)
    root.configure({name: {"command": command} for name, command in commands.items()})
    for name in commands:
        root.drop(name, preferred_agent=name, max_retries=0)
    root.start(PATH=f"{folder}:{root.environment['PATH']}")
    root.reach("review", *commands)
    for name, command in commands.items():
        given = (root.root / f"argv_{name}").read_text().splitlines()
        assert [word for word in command.split()[1:] if word not in given] == [], (name, given)
        assert root.result(name)["status"] in ("unreadable", "agent_error")
    assert "Traceback" not in root.log
