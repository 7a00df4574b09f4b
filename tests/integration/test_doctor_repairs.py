"""`doctor` names what a person or a bad disk did to the queue; `--repair` mends it and loses no byte."""

from __future__ import annotations

import json
import os
from pathlib import Path

from integration.driver import Driver


def contents(root: Driver) -> set[bytes]:
    """The bytes of every file below tasks/ and of the journals."""
    found = set()
    for top in ("tasks", ".orchestrator/events", ".orchestrator/agents", "context"):
        for folder, _, names in os.walk(root.root / top):
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    found.add(file.read())
    return found


def problems(root: Driver) -> list[str]:
    said = json.loads(root.run("doctor", "--json").stdout)
    return [f"{one['what']}: {one['text']}" for one in said["findings"] if "--repair mends it" in one["text"]]


def test_everything_that_can_be_wrong_is_named_and_mended_once_and_no_byte_is_lost(root: Driver) -> None:
    ids = ["good", "twice", "torn", "bare", "orphan"]
    for one in ids:
        root.drop(one, "@say well")
    root.start()
    root.reach("completed", *ids)
    root.ok("stop")
    assert problems(root) == []
    done = root.root / "tasks/completed"
    (root.root / "tasks/pending/twice.yaml").write_text("description: another text\n")
    (done / "torn_result.yaml").unlink()
    (done / "torn_result.yaml").write_bytes(b"task_id: torn\nstat")
    (done / "bare_result.yaml").unlink()
    (done / "orphan.yaml").unlink()
    (done / "moved.yaml").write_text("description: put here by hand\n")
    (root.root / "tasks/assigned/lone.yaml").write_text("description: claimed, and nobody has it\n")
    (root.root / "tasks/assigned/ghost_agent_01.yaml").write_text("task_id: ghost\nagent_id: agent_01\nrun: 1\n")
    [journal] = (root.root / ".orchestrator/events").glob("*.jsonl")
    with open(journal, "ab") as file:
        file.write(b'{"at": 1.0, "kind": "tor\0\0\0')
    (root.root / "context/completed_tasks.json").write_bytes(b'[\n{"mark": "good/1", "task')
    (root.root / "tasks/failed").rmdir()
    (root.root / "tasks/failed").write_text("a file where a folder should be\n")
    said = json.loads((root.root / ".orchestrator/dispatcher.json").read_text())
    (root.root / ".orchestrator/dispatcher.json").write_text(json.dumps({**said, "host": "other", "boot": "another"}))
    (root.root / ".orchestrator/agents").mkdir(exist_ok=True)
    (root.root / ".orchestrator/agents/shell.yaml").write_bytes(b"paused_until: [\n")
    page, entry = root.root / "context/notes/shell.md", b"\n<!-- good/1 -->\n- seen (good, shell)\n"
    page.write_bytes(b"# Notes\n" + entry + b"\nby a person\n" + entry + b"\0\0")
    named = "\n".join(problems(root))
    for words in (
        "twice is in completed and pending",
        "torn_result.yaml: cannot be read",
        "bare.yaml: an ended task without its result",
        "moved.yaml: an ended task without its result",
        "orphan_result.yaml: a result without its task",
        "lone: nobody has it",
        "ghost_agent_01.yaml: says who has a task that is not there",
        ".jsonl: torn",
        "completed_tasks.json: cannot be read as a list",
        "tasks/failed: a file where a folder should be",
        "was written on other",
        ".orchestrator/agents/shell.yaml: is not YAML",
        "context/notes/shell.md: holds an entry twice",
    ):
        assert words in named
    assert len(named.splitlines()) == 13
    before = contents(root)
    said = json.loads(root.run("doctor", "--repair", "--json").stdout)
    assert len(said["mended"]) == 13 and problems(root) == []
    assert before <= contents(root), "every byte is somewhere"
    assert json.loads(root.run("doctor", "--repair", "--json").stdout)["mended"] == []
    assert root.result("torn")["status"] == root.result("bare")["status"] == "success"
    assert root.result("moved")["status"] == "lost"
    assert root.places("twice") == ["completed"] and root.places("lone") == ["pending"]
    assert "is in tasks/completed/" in root.rejected("twice.yaml")
    assert page.read_bytes() == b"# Notes\n" + entry + b"\nby a person\n"
    rows = json.loads((root.root / "context/completed_tasks.json").read_text())
    assert {row["task_id"] for row in rows} >= {"good", "twice", "torn", "bare"}
    assert all(json.loads(line) for line in journal.read_text().splitlines())
    root.start()
    root.drop("after", "@say well")
    root.reach("completed", "after")


def test_nothing_is_mended_under_a_running_dispatcher(root: Driver) -> None:
    root.start()
    (root.root / "tasks/completed/moved.yaml").write_text("description: put here by hand\n")
    refused = root.run("doctor", "--repair")
    assert refused.returncode == 1 and "a dispatcher runs already" in refused.stderr
    assert not (root.root / "tasks/completed/moved_result.yaml").exists()


def test_a_root_whose_name_is_not_ascii_is_no_problem(tmp_path: Path) -> None:
    root = Driver(tmp_path, "bühne").make()
    assert "file system" in root.run("doctor", "--json").stdout
    root.close()
