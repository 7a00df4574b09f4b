"""Every way in which people and programs put work into the queue."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from integration.driver import Driver


def test_a_file_of_one_line_is_a_task_and_its_stem_is_the_id(root: Driver) -> None:
    root.configure({"shell": {}})
    root.start()
    (root.root / "tasks/pending/fix the login!.yaml").write_text("run: echo well\n")
    (root.root / "tasks/pending/other.yml").write_text("run: echo well too\n")
    root.reach("completed", "fix_the_login_", "other")
    assert root.answer("other").strip() == "well too"


def test_each_way_in_which_an_editor_saves_gives_one_run_of_the_last_text(root: Driver) -> None:
    """Write and rename (vim, VS Code), in place (nano), a backup beside it, a slow cat: all while others run."""
    root.start()
    pending = root.root / "tasks/pending"
    text = "description: |\n  Do it\n  @ledger ledger\n  @say "
    # vim: the probe 4913, the text under another name, a backup, then the rename
    (pending / "4913").touch()
    (pending / ".vimmed.yaml.swp").write_text("swap")
    (pending / ".vimmed.yaml.new").write_text(f"{text}vim\n")
    (pending / ".vimmed.yaml.new").rename(pending / "vimmed.yaml")
    (pending / "vimmed.yaml~").write_text("description: the backup\n")
    # cat: first the name, then the text in pieces
    piece = f"printf '%s' \"$1\"; until [ -e '{root.root}/go' ]; do sleep 0.01; done; echo cat"
    slow = subprocess.Popen(["sh", "-c", f"{{ {piece}; }} > tasks/pending/catted.yaml", "sh", text], cwd=root.root)
    # in place: an old text that waits for something is overwritten without a new name
    held = root.drop("nanoed", "@ledger ledger", "@say old", dependencies=["gate"])
    root.seen()
    with open(held, "r+", encoding="utf-8") as file:
        file.truncate()
        file.write(f"{text}nano\n")
    root.reach("completed", "vimmed", "nanoed")
    assert root.places("catted") == ["pending"]
    root.go()
    assert slow.wait(30) == 0
    root.reach("completed", "catted")
    assert {one: root.answer(one).strip() for one in ("vimmed", "catted", "nanoed")} == {
        "vimmed": "vim", "catted": "cat", "nanoed": "nano"
    }  # fmt: skip
    assert sorted(root.ledger()) == ["catted 1", "nanoed 1", "vimmed 1"]
    left = sorted(path.name for path in pending.iterdir())
    assert left == [".vimmed.yaml.swp", "4913", "vimmed.yaml~"] and not list((root.root / "tasks/rejected").iterdir())


def test_eight_processes_that_add_at_once_get_different_ids(root: Driver) -> None:
    children = [root.spawn("add", f"Do part {number}") for number in range(8)]
    ids = sorted(child.communicate(timeout=60)[0].strip() for child in children)
    assert ids == [f"task_{number:03d}" for number in range(1, 9)]
    texts = {(root.root / f"tasks/pending/{one}.yaml").read_text().splitlines()[1] for one in ids}
    assert texts == {f'description: "Do part {number}"' for number in range(8)}


def test_add_gives_no_id_that_a_file_of_another_name_states(root: Driver) -> None:
    root.drop("mine", "@say mine", id="task_001")
    given = root.ok("add", "Do it").strip()
    assert given != "task_001"


def test_a_git_pull_into_pending_is_submitting(root: Driver, tmp_path: Path) -> None:
    git = ["git", "-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "init.defaultBranch=main"]

    def call(where: Path, *words: str) -> None:
        subprocess.run([*git, "-C", str(where), *words], check=True, capture_output=True)

    upstream, colleague = tmp_path / "upstream.git", tmp_path / "colleague"
    call(tmp_path, "init", "--bare", str(upstream))
    root.ok("init")
    call(root.root, "init")
    call(root.root, "add", "-A")
    call(root.root, "commit", "-m", "a queue")
    call(root.root, "push", str(upstream), "HEAD:main")
    call(tmp_path, "clone", "-b", "main", str(upstream), str(colleague))
    for number in range(5):
        text = f"description: |\n  From a branch\n  @say 'pulled {number}'\n"
        (colleague / f"tasks/pending/pulled_{number}.yaml").write_text(text)
    call(colleague, "add", "-A")
    call(colleague, "commit", "-m", "work")
    call(colleague, "push", "origin", "main")
    root.start()
    call(root.root, "pull", str(upstream), "main")
    ids = [f"pulled_{number}" for number in range(5)]
    root.reach("completed", *ids)
    assert [root.answer(one).strip() for one in ids] == [f"pulled {number}" for number in range(5)]
    ignored = subprocess.run(
        ["git", "check-ignore", ".orchestrator", "tasks/runs"], cwd=root.root, capture_output=True, text=True
    )
    assert ignored.stdout.split() == [".orchestrator", "tasks/runs"]


def test_python_programs_add_through_the_task_queue(root: Driver) -> None:
    code = (
        "import sys; from orchestrator import TaskQueue; queue = TaskQueue(sys.argv[1]);"
        "print(queue.add({'description': 'Do it\\n@say well', 'priority': 'high', 'dependencies': ['first']}));"
        "print(queue.add({'id': 'first', 'description': 'Do it\\n@say first'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root.root)],
        env=root.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["task_001", "first"]
    root.start()
    root.reach("completed", "task_001", "first")


def test_the_queue_is_full_at_its_limit_and_nothing_is_added_then(root: Driver) -> None:
    root.configure(queue={"max_size": 2})
    root.ok("add", "one")
    root.ok("add", "two")
    full = root.run("add", "three")
    assert full.returncode == 1 and "2 tasks wait already" in full.stderr
    assert len(list((root.root / "tasks/pending").glob("*.yaml"))) == 2


def test_unique_ids_collide_on_no_branch(root: Driver) -> None:
    root.configure(queue={"ids": "unique"})
    ids = {root.ok("add", "Do it").strip() for _ in range(3)}
    assert len(ids) == 3 and all(one.startswith(f"task_{time.strftime('%Y', time.gmtime())}") for one in ids)


def test_an_agent_may_add_tasks_to_the_queue_that_runs_it(root: Driver) -> None:
    root.configure({"shell": {}})
    command = f"{shlex.quote(sys.executable)} -m orchestrator.cli add --id child --run 'echo a child' --json"
    root.start()
    (root.root / "tasks/pending/parent.yaml").write_text(f"run: |\n  cd / && {command}\n")
    root.reach("completed", "parent", "child")
    assert os.path.exists(root.root / "context/agent_outputs/child_output.md")
