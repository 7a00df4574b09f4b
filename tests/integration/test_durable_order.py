"""Durable means: the data, then the name, then the folder, and only then is anyone told.

The processes are real and do what they always do; a recorder that Python loads before them writes
down in which order they sync.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

from integration.driver import REPOSITORY, Driver, until

RECORDER = """
import json, os, sys
log = os.environ.get("RECORD_SYNCS")
if log and "orchestrator" in " ".join(sys.orig_argv):
    fsync, link = os.fsync, os.link
    def note(what, path):
        root = os.environ["RECORD_ROOT"]
        tree = {s: sorted(os.listdir(f"{root}/tasks/{s}")) for s in ("pending", "assigned", "completed")}
        fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(fd, (json.dumps([what, path, tree]) + "\\n").encode())
        os.close(fd)
    def noted_fsync(fd):
        fsync(fd)
        note("sync", os.readlink(f"/proc/self/fd/{fd}"))
    def noted_link(source, target, **more):
        link(source, target, **more)
        note("link", os.fspath(target))
    os.fsync, os.link = noted_fsync, noted_link
    from orchestrator import syncing
    begin = syncing.begin
    def noted_begin(fds):
        paths = [os.readlink(f"/proc/self/fd/{fd}") for fd in fds]
        wait = begin(fds)
        def noted_wait():
            wait()
            for path in paths:
                note("sync", path)
        return noted_wait
    syncing.begin = noted_begin
"""


def recorded(root: Driver, folder: Path) -> Path:
    """Switch the recorder on for every command of this root; where it writes."""
    (folder / "recorder").mkdir()
    (folder / "recorder/sitecustomize.py").write_text(RECORDER)
    log = folder / "syncs"
    root.environment |= {
        "PYTHONPATH": f"{folder}/recorder:{REPOSITORY}",
        "RECORD_SYNCS": str(log),
        "RECORD_ROOT": str(root.root),
    }
    return log


def events(log: Path, root: Driver) -> list[tuple[str, str, dict[str, Any]]]:
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return [(what, path.replace(f"{root.root}/", ""), tree) for what, path, tree in rows]


def test_add_syncs_the_data_then_the_name_then_the_folder_before_it_prints_the_id(root: Driver, tmp_path: Path) -> None:
    """Invariant 9."""
    log = recorded(root, tmp_path)
    assert root.ok("add", "Do it").strip() == "task_001"
    seen = [(what, path) for what, path, _ in events(log, root) if "drafts" in path or "pending" in path]
    assert [what for what, _ in seen] == ["sync", "link", "sync"]
    assert seen[0][1].startswith("tasks/.drafts/")
    assert [path for _, path in seen[1:]] == ["tasks/pending/task_001.yaml", "tasks/pending"]


def test_a_result_is_durable_before_the_move_that_commits_and_the_move_before_the_slot_is_free(
    root: Driver, tmp_path: Path
) -> None:
    """Invariant 9: at each sync of completed/, what lay there."""
    log = recorded(root, tmp_path)
    root.drop("one", "@say well", "@facts 'notes: [\"a hint\"]'")
    root.start()
    root.reach("completed", "one")
    until(lambda: not list((root.root / "tasks/assigned").glob("*.yaml")))
    root.ok("stop")
    seen = events(log, root)
    paths = [path for what, path, _ in seen if what == "sync"]
    folders = [tree for what, path, tree in seen if what == "sync" and path == "tasks/completed"]
    assert any("one_result.yaml" in tree["completed"] and "one.yaml" not in tree["completed"] for tree in folders)
    committed = [tree for tree in folders if "one.yaml" in tree["completed"]]
    assert committed and "one_agent_01.yaml" in committed[0]["assigned"]
    first = next(i for i, (_, _, tree) in enumerate(seen) if "one.yaml" in tree["completed"])
    before = [path for what, path, _ in seen[:first] if what == "sync"]
    for page in ("context/notes/fake.md", "context/completed_tasks.json", "context/agent_outputs"):
        assert page in before, (page, paths)
    assert any(path.startswith("tasks/runs/one/1/.") for path in before), "result.yaml or output.md were not synced"
    claimed = next(i for i, (_, _, tree) in enumerate(seen) if "one.yaml" in tree["assigned"])
    assert {"tasks/pending", "tasks/assigned"} <= {path for _, path, _ in seen[claimed:first]}


def test_a_relaxed_dispatcher_waits_for_no_disk_until_the_config_says_otherwise(root: Driver, tmp_path: Path) -> None:
    """Whoever adds a task is told when it is on the disk, whatever the dispatcher does."""
    log = recorded(root, tmp_path)
    root.configure(durability="relaxed")
    pid = root.start()
    root.ok("add", "--id", "one", "@say well")
    root.reach("completed", "one")
    until(lambda: not list((root.root / "tasks/assigned").glob("*.yaml")))
    synced = {path for what, path, _ in events(log, root) if what == "sync"}
    assert "tasks/pending" in synced
    assert not [
        path for path in synced if path.startswith(("tasks/assigned", "tasks/completed", "tasks/runs", "context"))
    ]
    root.configure()
    os.kill(pid, signal.SIGHUP)
    until(lambda: "reloaded" in root.log)
    root.drop("two", "@say well")
    root.reach("completed", "two")
    root.ok("stop")
    assert "tasks/completed" in {path for what, path, _ in events(log, root) if what == "sync"}


def test_a_completed_run_gets_back_what_a_power_cut_took_from_its_folder(root: Driver) -> None:
    """Before the commit only the second names of its result and its answer are durable."""
    root.drop("one", f"@ledger '{root.root}/ledger'", "@say well")
    root.start()
    root.reach("completed", "one")
    root.ok("stop")
    tasks, folder = root.root / "tasks", root.runs("one") / "1"
    note = (folder / "assigned.yaml").read_text().splitlines()
    (tasks / "assigned/one_agent_01.yaml").write_text("\n".join([*note[:-1], "boot: another", ""]))
    (tasks / "completed/one.yaml").rename(tasks / "assigned/one.yaml")
    shutil.rmtree(root.runs("one"))
    root.start()
    root.reach("completed", "one")
    assert (folder / "result.yaml").samefile(tasks / "completed/one_result.yaml")
    assert (folder / "output.md").read_text() == root.answer("one") and len(root.ledger()) == root.count("one") == 1


def test_an_ended_task_gets_its_result_back_from_its_run(root: Driver) -> None:
    root.drop("one", "@say well")
    root.start()
    root.reach("completed", "one")
    root.ok("stop")
    (root.root / "tasks/completed/one_result.yaml").unlink()
    root.start()
    until(lambda: (root.root / "tasks/completed/one_result.yaml").exists())
    assert root.result("one")["status"] == "success"
