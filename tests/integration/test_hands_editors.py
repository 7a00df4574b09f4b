"""Task files under the programs that people use: each text is run once, and it is the last one that was saved."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from integration.driver import Driver, until

Save = Callable[[Path, str], None]  # a file, and the text that it shall hold


def run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (words, done.stdout, done.stderr)


def vim(copy: str) -> Save:
    """`backupcopy`: yes saves in place, no by another name; with a backup and a swap file beside it."""

    def save(path: Path, text: str) -> None:
        source = path.parents[2] / "text"
        source.write_text(text)
        orders = (
            f"set backup writebackup backupskip= backupcopy={copy}",
            "%d",
            "0r " + str(source).replace(" ", "\\ "),
            "wq",
        )
        run("vim", "-es", "-u", "NONE", "-N", *(word for order in orders for word in ("-c", order)), str(path))

    return save


def nano(path: Path, text: str) -> None:
    """In a terminal, as typed: the old text is cut away, the new one written, saved by Ctrl-O."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execvp("nano", ["nano", "-I", str(path)])
    try:
        keys = [b"", b"\x1b\\", *[b"\x0b"] * 12, text.replace("\n", "\r").encode(), b"\x0f", b"\r", b"\x18"]
        for key in keys:
            os.write(terminal, key)
            while select.select([terminal], [], [], 0.1)[0]:  # it has drawn what it had to draw
                try:
                    os.read(terminal, 65536)
                except OSError:
                    break
        until(lambda: os.waitpid(pid, os.WNOHANG)[0])
    finally:
        os.close(terminal)


def by(*words: str, touches: bool = False) -> Save:
    """A program that brings a file from another file system. One that `touches` it after closing it (its mode, its
    time) may find it gone, and says so; the task is submitted all the same."""

    def save(path: Path, text: str) -> None:
        folder = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp") / f"orchestrate-{os.getpid()}"
        folder.mkdir(exist_ok=True)
        try:
            (folder / path.name).write_text(text)
            whole = (*words, str(folder / path.name), str(path))
            if touches:
                subprocess.run(whole, capture_output=True, timeout=60)
            else:
                run(*whole)
        finally:
            shutil.rmtree(folder)

    return save


def cat(path: Path, text: str) -> None:
    half = len(text) // 2
    parts = 'printf %s "$1"; sleep 0.1; printf %s "$2"'
    run("sh", "-c", f'{{ {parts}; }} > "$3"', "sh", text[:half], text[half:], str(path))


def sed(path: Path, text: str) -> None:
    """It edits what is there, by a file of another name in the same folder."""
    if path.exists():
        words = text.split("@say ")[1].split('"')[0]
        run("sed", "-i", f's/@say [^"]*/@say {words}/', str(path))
    else:
        cat(path, text)


PROGRAMS: dict[str, Save] = {
    "vim_in_place": vim("yes"),
    "vim_by_name": vim("no"),
    "nano": nano,
    "sed": sed,
    "cat": cat,
    "cp": by("cp"),
    "cp_p": by("cp", "-p"),
    "mv": by("mv"),
    "install": by("install", "-m", "644", touches=True),
    "rsync": by("rsync", "-a", "-I"),
    "rsync_in_place": by("rsync", "-a", "-I", "--inplace", touches=True),
}


def there(name: str) -> bool:
    return shutil.which(name.split("_")[0]) is not None


def text_of(root: Driver, words: str, **fields: str) -> str:
    more = "".join(f"{key}: {value}\n" for key, value in fields.items())
    return f'description: "Do it\\n@ledger ledger\\n@say {words}"\n{more}'


def test_each_program_saves_a_new_task_and_a_waiting_one(root: Driver) -> None:
    pending = root.root / "tasks/pending"
    names = [name for name in PROGRAMS if there(name)]
    root.start()
    for name in names:
        root.drop(f"old_{name}", "@ledger ledger", "@say old", dependencies=["gate"])
    root.seen()
    for name in names:
        PROGRAMS[name](pending / f"new_{name}.yaml", text_of(root, f"first {name}"))
        PROGRAMS[name](pending / f"old_{name}.yaml", text_of(root, f"last {name}", dependencies="[gate]"))
    root.drop("gate", "@say open")
    root.reach("completed", *(f"{age}_{name}" for name in names for age in ("new", "old")))
    answers = {f"{age}_{name}": root.answer(f"{age}_{name}").strip() for name in names for age in ("new", "old")}
    assert answers == {
        f"{age}_{name}": f"{word} {name}" for name in names for age, word in (("new", "first"), ("old", "last"))
    }
    assert sorted(root.ledger()) == sorted(f"{one} 1" for one in answers), "one of them ran twice, or never"
    assert not list((root.root / "tasks/rejected").iterdir())
    assert not list(pending.glob("*.yaml"))
    missing = [name for name in PROGRAMS if not there(name)]
    if missing:
        pytest.skip(f"all but {', '.join(missing)}, which is not installed here")


# -- a task that runs, or has ended --------------------------------------------------------------


def test_an_edit_of_a_running_task_is_told_and_its_run_keeps_what_it_was_given(root: Driver) -> None:
    root.drop("one", "@wait go", "@say old")
    root.drop("again", "@run 1 wait go", "@run 1 exit 3", "@say old")
    pid = root.start()
    until(lambda: root.members("one") and root.members("again"))
    assigned = root.root / "tasks/assigned"
    save = vim("no") if there("vim") else cat
    save(assigned / "one.yaml", "no_key: of a task\n")
    save(assigned / "again.yaml", text_of(root, "new"))
    os.kill(pid, signal.SIGUSR1)
    until(lambda: "one edited while run 1 lives, which keeps what it was given" in root.log, what=lambda: root.log)
    root.kill()
    root.start()  # the next dispatcher knows it, too
    root.go()
    root.reach("completed", "one", "again")
    assert root.answer("one").strip() == "old" and "edited while it ran" in root.result("one")["reason"]
    assert (root.root / "tasks/completed/one.yaml").read_text() == "no_key: of a task\n"
    assert "edited while it ran" in root.result("again", 1)["reason"]
    assert root.answer("again").strip() == "new"  # the next attempt is given what stands there then


def test_what_an_editor_saves_after_the_task_has_moved_on_is_kept_and_said(root: Driver) -> None:
    """It was opened while the task lay elsewhere, and knows that name only."""
    root.drop("one", "@ledger ledger", "@wait go", "@say well")
    pid = root.start()
    until(lambda: root.members("one"))
    (root.root / "tasks/pending/one.yaml").write_text("description: saved while it ran\n")
    until(lambda: "one runs already" in root.rejected("one.yaml"), what=lambda: root.log)
    root.go()
    root.reach("completed", "one")
    (root.root / "tasks/assigned/one.yaml").write_text("description: saved after its end\n")
    os.kill(pid, signal.SIGUSR1)
    until(lambda: "exists already (tasks/completed/one.yaml)" in root.rejected("one.2.yaml"), what=lambda: root.log)
    root.reach("completed", "one")
    kept = {path.read_text() for path in (root.root / "tasks/rejected").glob("*.yaml")}
    assert kept == {"description: saved while it ran\n", "description: saved after its end\n"}
    assert root.ledger() == ["one 1"]


def test_a_failed_task_that_was_edited_is_tried_again_with_the_new_text(root: Driver) -> None:
    root.drop("one", "@exit 1", max_retries=0)
    root.drop("done", "@say well")
    root.start()
    root.reach("review", "one")
    root.reach("completed", "done")
    (root.root / "tasks/review/one.yaml").write_text(text_of(root, "mended"))
    (root.root / "tasks/completed/done.yaml").write_text("no_key: of a task\n")
    root.ok("retry", "one")
    root.reach("completed", "one", "done")
    assert root.answer("one").strip() == "mended" and root.result("done")["status"] == "success"


def test_a_deleted_task_is_forgotten_wherever_it_was(root: Driver) -> None:
    root.drop("waits", "@ledger ledger", dependencies=["gate"])
    root.drop("runs", "@hang")
    root.drop("ended", "@say well")
    pid = root.start()
    root.reach("completed", "ended")
    until(lambda: root.members("runs"))
    for place in ("pending/waits", "assigned/runs", "completed/ended"):
        (root.root / f"tasks/{place}.yaml").unlink()
    for _ in range(2):  # looked for twice: an editor may be between two names
        os.kill(pid, signal.SIGUSR1)
        root.seen()
    until(lambda: not root.members("runs"), what=lambda: root.log)
    until(lambda: "runs late" in root.log)
    root.drop("gate", "@say open")
    root.drop("after", "@say well", dependencies=["ended"])
    root.reach("completed", "gate")
    assert root.json("status")["counts"]["assigned"] == 0 and root.ledger() == []
    assert root.json("show", "after")["reason"] == "waits for ended (no such task)"
    assert "Traceback" not in root.log


def test_two_people_drop_one_id(root: Driver) -> None:
    (root.root / "tasks/pending/hers.yaml").write_text(f"id: login\n{text_of(root, 'hers')}")
    (root.root / "tasks/pending/hers again.yaml").write_text(f"id: login\n{text_of(root, 'hers')}")
    (root.root / "tasks/pending/zz_his.yaml").write_text(f"id: login\n{text_of(root, 'his')}")
    root.start()
    root.reach("completed", "login")
    until(lambda: root.rejected("zz_his.yaml") or root.rejected("hers.yaml"), what=lambda: root.log)
    assert root.ledger() == ["login 1"]
    assert len(list((root.root / "tasks/rejected").glob("*.yaml"))) <= 2
    assert not list((root.root / "tasks/pending").glob("*.yaml"))
