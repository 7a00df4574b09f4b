"""Whatever lies in pending/: one line says what, where and what to do; it is kept as it was; all else goes on."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from integration.driver import AGENT, Driver, living, until

# name in pending/ → (content, words of the reason)
FILES: dict[str, tuple[str | bytes, str]] = {
    "not_yaml.yaml": ("description: [unclosed\n", "is not YAML: line"),
    "tabs.yaml": ("a:\n\tb: c\n", "is not YAML: line 2"),
    "binary.yaml": (bytes(range(256)), "is not UTF-8"),
    "nul.yaml": ("description: a\0b\n", "NUL"),
    "list.yaml": ("- description: x\n", "is no mapping"),
    "word.yaml": ("just words\n", "is no mapping"),
    "two.yaml": ("description: a\n---\ndescription: b\n", "a second document"),
    "twice.yaml": ("description: a\ndescription: b\n", "stands twice"),
    "conflict.yaml": ("<<<<<<< HEAD\ndescription: a\n=======\ndescription: b\n>>>>>>> x\n", "merge-conflict"),
    "bomb.yaml": ("a: &a [x,x]\nb: &b [*a,*a]\ndescription: *b\n", "anchor"),
    "deep.yaml": ("description: " + "[" * 30_000 + "\n", "nested deeper"),
    "python.yaml": ("description: !!python/object/apply:os.system ['touch pwned']\n", "tag"),
    "priority.yaml": ("description: x\npriority: urgent\n", "write high, normal or low"),
    "number.yaml": ("description: 7\n", "description"),
    "dependencies.yaml": ("description: x\ndependencies: {a: b}\n", "dependencies"),
    "timeout.yaml": ("description: x\ntimeout_minutes: -1\n", "timeout_minutes"),
    "unknown.yaml": ("desription: x\n", "did you mean 'description'"),
    "extra.yaml": ("description: x\npriorty: high\n", "did you mean 'priority'"),
    "none.yaml": ("priority: high\n", "has no description"),
    "blank.yaml": ("description: '  '\n", "say what to do"),
    "slash.yaml": ("id: a/b\ndescription: x\n", "'a/b'"),
    "dots.yaml": ("id: ..\ndescription: x\n", "'..'"),
    "above.yaml": ("id: ../../../tmp/x\ndescription: x\n", "'../../../tmp/x'"),
    "newline.yaml": ('id: "a\\nb"\ndescription: x\n', "may hold letters"),
    "integer.yaml": ("id: 007\ndescription: x\n", "in quotes"),
    "long.yaml": (f"id: {'x' * 300}\ndescription: x\n", "longer than 100"),
    "result.yaml": ("id: a_result\ndescription: x\n", "lies beside a task"),
    "file.yaml": ("description: x\ncontext_files: [docs/none.md]\n", "'docs/none.md' does not exist"),
    "outside.yaml": ("description: x\ncontext_files: [../../etc/passwd]\n", "leaves the root"),
    "absolute.yaml": ("description: x\ncontext_files: [/etc/passwd]\n", "leaves the root"),
    "agent.yaml": ("description: x\npreferred_agent: fakke\n", "did you mean 'fake'"),
    "self.yaml": ("id: self\ndescription: x\ndependencies: [self]\n", "depends on itself (self → self)"),
    "empty.yaml": ("", "is empty"),
    "comments.yaml": ("# nothing yet\n", "is empty but for comments"),
    "large.yaml": ("description: x\n" + "# filling\n" * 1_000_000, "a task file has at most"),
    "esc\x1b[31m.yaml": ("desription: x\n", "did you mean"),
    "....yaml": ("", ""),  # a dot-file: passed over
}


def special(pending: Path, outside: Path) -> dict[str, str]:
    """What is no regular file; the reason for each."""
    os.mkfifo(pending / "fifo.yaml")
    (pending / "folder.yaml").mkdir()
    (pending / "folder.yaml/inside.yaml").write_text("description: x\n")
    (pending / "plain_folder").mkdir()
    outside.write_text("description: somewhere else\n")
    (pending / "link.yaml").symlink_to(outside)
    (pending / "dangling.yaml").symlink_to("/nowhere")
    return {
        "fifo.yaml": "is a FIFO",
        "folder.yaml": "is a folder",
        "plain_folder": "is a folder",
        "link.yaml": "is a symbolic link",
        "dangling.yaml": "is a symbolic link",
    }


def test_every_bad_file_at_once_beside_one_good_task(root: Driver, tmp_path: Path) -> None:
    root.configure({"fake": {"command": AGENT}})
    pending, rejected = root.root / "tasks/pending", root.root / "tasks/rejected"
    pid = root.start()
    for name, (content, _) in FILES.items():
        (pending / name).write_bytes(content.encode() if isinstance(content, str) else content)
    expected = {name: words for name, (_, words) in FILES.items() if words} | special(pending, tmp_path / "outside")
    root.drop("good", "@say well")
    root.drop("cycle_a", dependencies=["cycle_b"])
    root.drop("cycle_b", dependencies=["cycle_a"])
    root.reach("completed", "good")
    until(
        lambda: all(root.rejected(name) for name in expected),
        what=lambda: set(expected) - set(os.listdir(rejected)),
    )
    for name, words in expected.items():
        reason = root.rejected(name)
        assert words in reason and reason.count("\n") == 1 and "\x1b" not in reason, (name, reason)
        assert reason.startswith("tasks/pending/"), reason
        if name in FILES:
            content = FILES[name][0]
            kept = (rejected / name).read_bytes()
            assert kept == (content.encode() if isinstance(content, str) else content), name
    assert stat.S_ISFIFO((rejected / "fifo.yaml").lstat().st_mode)
    assert (rejected / "folder.yaml/inside.yaml").read_text() == "description: x\n"
    assert os.readlink(rejected / "dangling.yaml") == "/nowhere"
    assert (tmp_path / "outside").read_text() == "description: somewhere else\n"
    cycle = until(lambda: root.rejected("cycle_a.yaml") or root.rejected("cycle_b.yaml"))
    assert "closes a cycle of dependencies: cycle_" in cycle and cycle.count("→") == 2
    assert sorted(path.name for path in pending.glob("*.y*ml") if not path.name.startswith(".")) in (
        ["cycle_a.yaml"], ["cycle_b.yaml"]
    )  # fmt: skip
    assert living(pid) and root.pid == pid
    assert "Traceback" not in root.log
    assert not (root.root / "pwned").exists() and not (root.root / "tmp").exists()
    logged = [line for line in root.log.splitlines() if " rejected tasks/pending/" in line or " rejected " in line]
    assert len(logged) >= len(expected)
    rows = root.json("tasks", "--status", "rejected")
    assert len(rows) == len(expected) + 1 and all(row["reason"] for row in rows)
    assert root.run("status").returncode == 0


def test_the_name_of_a_bad_file_can_neither_drive_a_terminal_nor_forge_a_line_of_the_log(
    root: Driver,
) -> None:
    name = "a\x1b[31mb\n2026-01-01 forged.yaml"
    (root.root / "tasks/pending" / name).write_text("desription: x\n")
    root.start()
    until(lambda: root.rejected(name))
    assert "\x1b" not in root.log and not any(line.startswith("2026-01-01 forged") for line in root.log.splitlines())


def test_a_second_bad_file_of_the_same_name_gets_a_place_of_its_own(root: Driver) -> None:
    root.start()
    path = root.root / "tasks/pending/bad.yaml"
    for text in ("one: 1\n", "two: 2\n"):
        path.write_text(text)
        until(lambda: not path.exists())
    until(lambda: root.rejected("bad.2.yaml"))
    assert (root.root / "tasks/rejected/bad.yaml").read_text() == "one: 1\n"
    assert (root.root / "tasks/rejected/bad.2.yaml").read_text() == "two: 2\n"


def test_a_bad_file_that_is_mended_and_put_back_is_run(root: Driver) -> None:
    root.start()
    (root.root / "tasks/pending/one.yaml").write_text("desription: x\n")
    until(lambda: root.rejected("one.yaml"))
    root.drop("one", "@say well")
    root.reach("completed", "one")


def test_a_context_file_that_leads_out_of_the_root_by_a_link_is_refused(root: Driver) -> None:
    (root.root / "docs").symlink_to("/etc")
    root.drop("one", context_files=["docs/passwd"])
    root.start()
    assert "leads out of the root" in until(lambda: root.rejected("one.yaml"))


def test_a_rejected_task_can_be_shown(root: Driver) -> None:
    root.drop("one", "@say well", preferred_agent="nobody")
    root.start()
    until(lambda: root.rejected("one.yaml"))
    assert "unknown agent 'nobody'" in root.ok("show", "one")


def test_a_fifo_in_the_place_of_any_file_holds_no_command_up(root: Driver) -> None:
    """Whoever opens one waits for ever; an agent, or a person, may have put it anywhere."""
    tasks, own = root.root / "tasks", root.root / ".orchestrator"
    own.mkdir(exist_ok=True)
    for folder in (tasks / "runs/one/1", tasks / "runs/again/1", own / "events"):
        folder.mkdir(parents=True)
    for state in ("completed", "assigned"):
        (tasks / state / f"{state}.yaml").write_text("description: x\n")
    for name in ("completed/one", "pending/again"):
        (tasks / f"{name}.yaml").write_text("description: x\n")
    names = ["completed/one_result.yaml", "assigned/assigned_agent_01.yaml", "rejected/bad.yaml.reason.txt"]
    names += [f"runs/one/1/{name}" for name in ("stdout.log", "alive", "exit", "result.yaml", "assigned.yaml")]
    names.append("runs/again/1/alive")
    mine = ("dispatcher.json", "stranded.json", "config.json", "last_id", "events/2026-01-01.jsonl")
    listed = root.root / "context/completed_tasks.json"
    listed.parent.mkdir(exist_ok=True)
    listed.unlink(missing_ok=True)
    for path in (*(tasks / name for name in names), *(own / name for name in mine), listed):
        os.mkfifo(path)
    held = os.open(own / "dispatcher.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)  # as if a dispatcher ran: what it says of itself is looked for then
    (tasks / "rejected/bad.yaml").write_text("x: 1\n")
    for words in (["status"], ["tasks"], ["agents"], ["show", "one"], ["doctor"], ["validate"], ["cancel", "one"]):
        done = root.run(*words)  # it ends
        assert "Traceback" not in done.stderr, words
    assert "no regular file" in root.run("logs", "one").stderr
    assert root.ok("add", "x").strip() == "task_001"
    os.close(held)
