"""Start, signals, reload: what a good daemon does."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from integration.driver import AGENT, Driver, living, until

from orchestrator import files, hold
from orchestrator.cli.starting import begin as begin_daemon
from orchestrator.errors import AlreadyRunning


def lines_of(child: subprocess.Popen[str], word: str, seconds: float = 30.0) -> str:
    """What a process prints until this word has come."""
    assert child.stdout is not None
    said, deadline = "", time.monotonic() + seconds
    while word not in said:
        ready, _, _ = select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))
        part = os.read(child.stdout.fileno(), 65536).decode() if ready else ""
        assert part, f"{word!r} did not come: {said}"
        said += part
    return said


def test_one_that_is_dead_and_not_buried_is_no_dispatcher_though_its_lock_is_still_held(tmp_path: Path) -> None:
    (tmp_path / ".orchestrator").mkdir()
    child = subprocess.Popen(["sleep", "60"])
    (tmp_path / ".orchestrator/dispatcher.json").write_text(f'{{"pid": {child.pid}}}')
    with hold.locks.locked(f"{tmp_path}/.orchestrator/dispatcher.lock"):  # as by whom it was about to start
        with pytest.raises(AlreadyRunning):
            hold.refuse_second(str(tmp_path))
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        hold.refuse_second(str(tmp_path))
    child.wait()


def test_one_that_was_killed_and_has_not_fallen_yet_is_no_dispatcher(tmp_path: Path) -> None:
    (tmp_path / ".orchestrator").mkdir()
    large = "b = bytearray(100_000_000)\nfor i in range(0, len(b), 4096): b[i] = 1\nprint(flush=True)\ninput()"
    looks = taken_for_one = 0
    with hold.locks.locked(f"{tmp_path}/.orchestrator/dispatcher.lock"):  # its own is held as long as it falls
        for _ in range(3):
            with subprocess.Popen([sys.executable, "-c", large], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
                assert child.stdout is not None and child.stdout.readline()
                (tmp_path / ".orchestrator/dispatcher.json").write_text(f'{{"pid": {child.pid}}}')
                child.kill()
                while files.may_live(str(child.pid)):
                    looks += 1
                    with suppress(AlreadyRunning):
                        hold.refuse_second(str(tmp_path))
                        continue
                    taken_for_one += 1
    assert looks and 10 * taken_for_one <= looks, (taken_for_one, looks)


def test_a_terminal_that_takes_nothing_ends_no_dispatcher(root: Driver) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    words = [sys.executable, "-m", "orchestrator.cli", "start", "-f"]
    child = subprocess.Popen(words, cwd=root.root, env=root.environment, stdout=full, stderr=subprocess.DEVNULL)
    os.close(full)
    root.started.append(child)
    for task_id in ("one", "two"):
        root.drop(task_id, "@say well")
        root.reach("completed", task_id)
    assert child.poll() is None


def test_start_returns_when_it_is_up_and_the_daemon_has_a_session_of_its_own(root: Driver) -> None:
    found = root.json("start")
    assert found["pid"] == root.pid and living(root.pid) and Path(found["log"]).exists()
    assert os.getsid(root.pid) == root.pid != os.getsid(0)
    assert root.json("status")["dispatcher"]["pid"] == root.pid
    for number in (0, 1, 2):
        assert "pts" not in os.readlink(f"/proc/{root.pid}/fd/{number}")


@pytest.mark.parametrize("name", ["heartbeat", "dispatcher.lock", "dispatcher.json"])
def test_what_is_in_its_way_at_the_start_is_named_in_one_line(root: Driver, name: str) -> None:
    path = root.root / ".orchestrator" / name
    (path / "kept").mkdir(parents=True)
    done = root.run("start")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and str(path) in done.stderr, done.stderr
    assert "Traceback" not in root.log and (path / "kept").is_dir()
    path.rename(root.root / "away")
    root.start()


def test_a_second_start_is_refused_at_once_but_waits_for_one_that_is_just_ending(
    root: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = root.start()
    monkeypatch.setattr(hold.locks, "hold_folder", lambda *args, **more: pytest.fail("it waited for the lock"))
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **more: pytest.fail("it began another process"))
    for begin in (lambda: hold.Hold(str(root.root)), lambda: begin_daemon(str(root.root), "")):
        with pytest.raises(AlreadyRunning, match=f"runs already \\(pid {pid}\\)"):
            begin()
    monkeypatch.undo()
    root.drop("one", "@wait go", "@say well")
    until(lambda: root.members("one"))
    stopping = root.spawn("stop")
    until(lambda: root.json("status")["dispatcher"]["ending"])
    assert "dispatcher  stopping" in root.ok("status")
    hold.refuse_second(str(root.root))
    stopping.send_signal(signal.SIGSTOP)
    starting = root.spawn("start")
    root.go()
    assert starting.wait(30) == 0, starting.communicate()
    stopping.send_signal(signal.SIGCONT)
    assert stopping.wait(30) == 0 and living(root.pid) and root.pid != pid


def test_start_in_front_prints_live_lines_and_ctrl_c_drains(root: Driver) -> None:
    root.drop("one", "@wait go", "@say well")
    child = root.spawn("start", "-f")
    said = lines_of(child, "one started")
    assert "dispatching" in said and "\x1b" not in said
    child.send_signal(signal.SIGINT)
    lines_of(child, "waits for 1 run")
    root.drop("two", "@say never")
    assert child.poll() is None
    root.go()
    assert child.wait(30) == 0
    assert root.places("one") == ["completed"] and root.places("two") == ["pending"]


def test_a_second_ctrl_c_ends_the_runs_and_their_tasks_wait_for_the_next_start(root: Driver) -> None:
    root.drop("one", "@run 1 hang", "@say well", max_retries=0)
    child = root.spawn("start", "-f")
    lines_of(child, "one started")
    child.send_signal(signal.SIGINT)
    lines_of(child, "waits for 1 run")
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == 0
    assert root.members() == [] and root.places("one") == ["pending"]
    root.start()
    root.reach("completed", "one")  # it was no fault of the task's: no attempt was spent


def test_agents_and_their_number_can_be_said_at_the_start(root: Driver) -> None:
    root.configure({"red": {"command": AGENT}, "blue": {"command": AGENT}, "grey": {"command": AGENT}})
    root.start("--agents", "red:3,blue")
    assert {row["name"]: row["slots"] for row in root.json("agents")} == {"red": 3, "blue": 1}
    for number in range(4):
        root.drop(f"r{number}", "@wait go", "@say well", preferred_agent="red")
    until(lambda: len(root.json("status")["running"]) == 3)
    root.go()
    root.reach("completed", *(f"r{number}" for number in range(4)))
    root.ok("stop")
    for words, code, text in (("purple:2", 1, "no such agent"), ("red:two", 2, "write name:count")):
        refused = root.run("start", "--agents", words)
        assert refused.returncode == code and text in refused.stderr and refused.stderr.count("\n") == 1


def test_hup_takes_up_a_changed_config_and_refuses_a_broken_one(root: Driver) -> None:
    root.drop("sql", "@say well", requirements=["sql"])
    pid = root.start()
    root.drop("before", "@say well")
    root.reach("completed", "before")
    root.configure({"fake": {"command": AGENT}, "extra": {"command": AGENT, "capabilities": ["sql"]}})
    os.kill(pid, signal.SIGHUP)
    root.reach("completed", "sql")
    assert root.result("sql")["agent_type"] == "extra"
    (root.root / "config.yaml").write_text("agents: {fake: {comand: x}}\n")
    os.kill(pid, signal.SIGHUP)
    until(lambda: "ERROR   the old settings stay: " in root.log)
    assert "did you mean 'command'" in root.log
    root.drop("after", "@say well", requirements=["sql"])
    root.reach("completed", "after")
    assert root.pid == pid and living(pid) and "Traceback" not in root.log


def test_a_task_for_an_agent_that_was_just_written_into_the_config_is_done(root: Driver) -> None:
    root.configure({"fake": {"command": AGENT}, "off": {"command": AGENT, "enabled": False}})
    root.drop("zero", "@say well", preferred_agent="off")
    root.start()
    until(lambda: "wants off, which is not enabled" in root.ok("status"))
    root.configure({"fake": {"command": AGENT}, "fresh": {"command": AGENT}, "off": {"command": AGENT}})
    root.drop("one", "@say well", preferred_agent="fresh")
    root.reach("completed", "zero", "one")
    assert root.result("one")["agent_type"] == "fresh"
    refused = root.root / "tasks/rejected"
    for task_id in ("two", "three", "four"):  # the broken one is told once
        root.drop(task_id, "@say well", preferred_agent="nobody")
        until(lambda task_id=task_id: (refused / f"{task_id}.yaml.reason.txt").exists())
        if task_id == "two":
            (root.root / "config.yaml").write_text("agents: {fake: {comand: x}}\n")
    root.drop("five", "@say well", preferred_agent="fresh")
    root.reach("completed", "five")
    assert root.log.count("config.yaml taken up") == root.log.count("the old settings stay") == 1


def test_after_a_reload_the_agents_that_are_shown_are_the_new_ones(root: Driver) -> None:
    pid = root.start()
    root.configure({"fake": {"command": AGENT, "max_instances": 2}, "extra": {"command": AGENT}})
    os.kill(pid, signal.SIGHUP)
    until(lambda: "reloaded" in root.log)
    assert {row["name"]: row["slots"] for row in root.json("agents")} == {"fake": 2, "extra": 1}


def test_a_start_that_cannot_be_is_told_in_one_line(root: Driver) -> None:
    (root.root / "config.yaml").write_text("agents: [1\n")
    refused = root.run("start")
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1 and "config.yaml" in refused.stderr
    assert root.json("status")["dispatcher"] is None


def test_term_leaves_the_runs_and_the_next_start_takes_them_up(root: Driver) -> None:
    root.drop("one", "@wait go", "@say well")
    pid = root.start()
    until(lambda: len(root.members("one")) == 2)  # its wrapper and itself
    members = root.members("one")
    os.kill(pid, signal.SIGTERM)
    until(lambda: not living(pid))
    assert root.members("one") == members and root.places("one") == ["assigned"]
    root.start()
    until(lambda: "one resumed" in root.log)
    root.go()
    root.reach("completed", "one")
    assert root.count("one") == 1


def test_the_dispatcher_leaves_no_zombie(root: Driver) -> None:
    pid = root.start()
    for number in range(4):
        root.drop(f"t{number}", f"@grandchild pid{number}", "@say well")
    root.reach("completed", *(f"t{number}" for number in range(4)))
    assert all(not living(int((root.root / f"pid{number}").read_text())) for number in range(4))
    until(lambda: not Path(f"/proc/{pid}/task/{pid}/children").read_text().split(), 7)


def test_no_run_inherits_the_lock_of_the_dispatcher(root: Driver) -> None:
    root.start()
    root.drop("holds", "@wait go", "@say well")
    until(lambda: root.members("holds"))
    for member in root.members("holds"):
        held = [os.readlink(f"/proc/{member}/fd/{fd}") for fd in os.listdir(f"/proc/{member}/fd")]
        assert not any("dispatcher.lock" in path for path in held)


def test_files_in_a_folder_that_was_deleted_and_made_anew_are_seen(root: Driver) -> None:
    root.start()
    for path in (root.root / "tasks/pending").iterdir():
        path.unlink()
    (root.root / "tasks/pending").rmdir()
    until(lambda: (root.root / "tasks/pending").is_dir())
    root.drop("one", "@say well")
    root.reach("completed", "one")


def test_one_that_only_reads_needs_no_dispatcher_and_changes_nothing(root: Driver) -> None:
    root.drop("one", "@say well", dependencies=["two"])
    (root.root / "tasks/pending/bad.yaml").write_text("desription: x\n")
    before = sorted(str(path) for path in (root.root / "tasks").rglob("*"))
    for words in (("status",), ("tasks",), ("agents",), ("show", "one"), ("validate",), ("doctor",)):
        assert root.run(*words).returncode in (0, 1)
    assert sorted(str(path) for path in (root.root / "tasks").rglob("*")) == before
    rows = {row["task_id"]: row["reason"] for row in root.json("tasks")}
    assert "did you mean 'description'" in rows["bad.yaml"]
