"""`add` with a file, with stdin, with an editor, and waiting for the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from integration.driver import Driver


def task(root: Driver, task_id: str) -> dict[str, object]:
    return dict(yaml.safe_load((root.root / f"tasks/pending/{task_id}.yaml").read_text()))


def editor(root: Driver, body: str) -> str:
    """An editor that is a script: `$1` is the file."""
    path = root.root / "my editor"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return f"'{path}' --wait"


def test_each_option_ends_in_the_field_it_names(root: Driver) -> None:
    (root.root / "a.md").touch()
    root.ok(
        "add", "Do", "it", "--id", "one", "--priority", "high", "--depends-on", "b,c", "--context-file", "a.md",
        "--context-required", "false", "--agent", "fake", "--timeout-minutes", "5", "--subtask", "p", "--type", "code",
        "--requires", "sql", "--max-retries", "1", "--created-at", "2025-01-15",
    )  # fmt: skip
    assert task(root, "one") | {"created_at": ""} == {
        "id": "one", "description": "Do it", "priority": "high", "dependencies": ["b", "c"], "context_files": ["a.md"],
        "context_required": False, "preferred_agent": "fake", "timeout_minutes": 5, "subtasks": ["p"], "task_type": "code",
        "requirements": ["sql"], "max_retries": 1, "created_at": "",
    }  # fmt: skip


def test_files_are_added_with_their_fields_and_options_win(root: Driver) -> None:
    for name, text in (
        ("one", "description: first\npriority: low\n"),
        ("two", "id: other\ncontent: second\n"),
    ):
        (root.root / f"{name}.yaml").write_text(text)
    assert root.ok("add", "--file", "one.yaml", "--file", "two.yaml", "--priority", "high").split() == [
        "one",
        "other",
    ]
    assert task(root, "one") == {"id": "one", "description": "first", "priority": "high"}
    assert task(root, "other")["description"] == "second"


def test_nothing_is_added_if_one_of_several_files_is_bad(root: Driver) -> None:
    (root.root / "good.yaml").write_text("description: good\n")
    (root.root / "bad.yaml").write_text("desription: bad\n")
    done = root.run("add", "--file", "good.yaml", "--file", "bad.yaml")
    assert done.returncode == 1 and done.stderr.startswith("orchestrate: bad.yaml: ")
    assert list((root.root / "tasks/pending").iterdir()) == []


def test_stdin_may_be_a_task_file_or_a_plain_text(root: Driver) -> None:
    assert root.ok("add", "--stdin", stdin="description: from a pipe\npriority: high\n").strip() == "task_001"
    assert task(root, "task_001")["priority"] == "high"
    root.ok("add", "--stdin", "--id", "text", stdin="Just some words,\n\n- with a list\n- of two\n")
    assert task(root, "text")["description"] == "Just some words,\n\n- with a list\n- of two"
    empty = root.run("add", "--stdin", stdin="")
    assert empty.returncode == 1 and "is empty" in empty.stderr
    binary = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "add", "--stdin"], input=b"\xff\xfe", capture_output=True,
        cwd=root.root, env=root.environment,
    )  # fmt: skip
    assert binary.returncode == 1 and b"is not UTF-8" in binary.stderr


def test_a_plain_text_on_stdin_may_have_a_colon_in_it(root: Driver) -> None:
    root.ok("add", "--stdin", stdin="Fix the login: it crashes on Mondays\n")
    assert task(root, "task_001")["description"] == "Fix the login: it crashes on Mondays"


def test_the_editor_gets_a_commented_template_and_what_it_saves_is_added(root: Driver) -> None:
    body = 'cp "$2" template; printf \'description: written by hand\\npriority: low\\n\' > "$2"'
    assert root.ok("add", "--edit", EDITOR=editor(root, body)).strip() == "task_001"
    assert task(root, "task_001") == {"id": "task_001", "description": "written by hand", "priority": "low"}
    template = (root.root / "template").read_text()
    schema = template.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert json.loads(Path(unquote(urlsplit(schema).path)).read_text())["title"] and schema.startswith("file:///")
    for field in ("priority", "dependencies", "context_files", "preferred_agent", "timeout_minutes", "run"):
        assert f"# {field}:" in template
    sed = "sed -i 's/^# priority: normal.*/priority: high/' \"$2\""
    root.ok("add", "--edit", "From the command line", EDITOR=editor(root, sed))
    assert task(root, "task_002") | {"description": ""} == {
        "id": "task_002",
        "description": "",
        "priority": "high",
    }
    assert str(task(root, "task_002")["description"]).strip() == "From the command line"


def test_what_the_command_line_says_stands_in_the_template_and_may_be_changed_there(root: Driver) -> None:
    words = ("Two\n lines: {x}", "-p", "high", "-d", "a,b", "--run", "make\nall", "--created-at", "2025-01-15")
    body = 'cp "$2" template; sed -i "s/^priority: high/priority: low/; s/Two/Three/" "$2"'
    root.ok("add", "--edit", *words, EDITOR=editor(root, body))
    template = (root.root / "template").read_text()
    assert "# priority" not in template and "# run" not in template and "# timeout_minutes" in template
    assert yaml.safe_load(template) | {"created_at": ""} == {
        "description": "Two\n lines: {x}\n", "priority": "high", "dependencies": ["a", "b"], "run": "make\nall", "created_at": "",
    }  # fmt: skip
    made = task(root, "task_001")
    assert made["priority"] == "low" and str(made["description"]).startswith("Three\n lines")
    odd = "tab\there \x07"
    root.ok("add", "--edit", odd, EDITOR=editor(root, "sed -i 's/tab/Tab/' \"$2\""))
    assert task(root, "task_002")["description"] == odd.replace("tab", "Tab")


def test_an_editor_left_without_a_task_adds_nothing_and_a_bad_one_loses_nothing(root: Driver) -> None:
    drafts = root.root / "drafts"
    drafts.mkdir()
    for body in ("true", ': > "$2"', "exit 1"):
        done = root.run("add", "--edit", "words of the command line", EDITOR=editor(root, body), TMPDIR=str(drafts))
        assert done.returncode == 1 and "nothing was added" in done.stderr, body
    for name in ("no-such-editor", "'"):
        missing = root.run("add", "--edit", EDITOR=name, TMPDIR=str(drafts))
        assert missing.returncode == 1 and "cannot be" in missing.stderr
    assert list(drafts.iterdir()) == []
    for text, after, why in (
        ("desription: an hour of work", "", "did you mean 'description'"),
        ("description: an hour of work\\npreferred_agent: fakke", "", "unknown agent 'fakke'"),
        ("description: an hour of work\\ncontext_files: [none.md]", "", "does not exist"),
        ("description: an hour of work\\nid: taken", "", "taken"),
        ("description: an hour of work", "; exit 3", "orchestrate: the editor failed (exit 3); your text is kept"),
    ):
        root.drop("taken", folder="completed")
        bad = root.run("add", "--edit", EDITOR=editor(root, f"printf '{text}\\n' > \"$2\"{after}"), TMPDIR=str(drafts))
        assert bad.returncode == 1 and why in bad.stderr, bad
        kept = Path(bad.stderr.rpartition("; your text is kept: ")[2].strip())
        assert kept.read_text() == text.replace("\\n", "\n") + "\n" and list(drafts.iterdir()) == [kept]
        kept.unlink()
    assert list((root.root / "tasks/pending").iterdir()) == []


def test_add_may_wait_for_the_end_and_says_by_its_code_how_it_went(root: Driver) -> None:
    root.start()
    good = root.run("add", "Do it\n@say well", "--wait")
    assert (good.returncode, good.stdout.split()) == (0, ["task_001", "task_001", "completed"])
    bad = root.run("add", "Do it\n@exit 3", "--wait", "--max-retries", "0", "--json")
    assert bad.returncode == 1
    row = json.loads(bad.stdout)
    assert (row["task_id"], row["state"]) == ("task_002", "review") and "exit status 3" in row["reason"]


def test_a_queue_is_found_from_a_folder_below_and_by_a_variable(root: Driver, tmp_path: Path) -> None:
    below = root.root / "src/deep"
    below.mkdir(parents=True)
    assert root.ok("add", "one", cwd=below).strip() == "task_001"
    assert root.ok("add", "two", cwd=tmp_path, ORCHESTRATE_ROOT=str(root.root)).strip() == "task_002"
    assert root.run("add", "three", cwd=tmp_path).returncode == 1
    path = os.path.relpath(root.root, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "-C", path, "add", "three"],
        cwd=tmp_path, env=root.environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.strip() == "task_003"
