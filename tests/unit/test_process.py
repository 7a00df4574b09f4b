"""Processes: who is alive, who belongs to a run, and that no stranger is ever hit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import python, read, until

from orchestrator import process, runs
from orchestrator.process import Identity

pytestmark = pytest.mark.skipif(not process.HAS_PROC, reason="what is told here stands in /proc")

TREE = """
import os, subprocess, sys, time
folder, lock = sys.argv[1], int(sys.argv[2])
def start(name, **options):
    child = subprocess.Popen(["sleep", "300"], **options)
    open(f"{folder}/{name}", "w").write(str(child.pid))
start("child")
start("own_session", start_new_session=True)
if os.fork() == 0:
    os.setsid()
    start("double_forked")
    os._exit(0)
os.wait()
start("without_environment", env={}, pass_fds=(lock,), start_new_session=True)
start("shed_everything", env={}, start_new_session=True)
open(f"{folder}/ready", "w").close()
time.sleep(300)
"""
MEMBERS = ("child", "own_session", "double_forked", "without_environment")


def number(path: str) -> int:
    return int(read(path))


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is nobody's run."""
    child = subprocess.Popen(["sleep", "300"], start_new_session=True)
    yield child
    child.kill()
    child.wait()


def start_tree(folder: str) -> subprocess.Popen[bytes]:
    lock = runs.take_alive(folder)
    leader = subprocess.Popen(
        ["python3", "-c", TREE, folder, str(lock)],
        env={**os.environ, process.RUN_FOLDER: folder},
        pass_fds=(lock,),
        start_new_session=True,
    )
    os.close(lock)
    until(lambda: os.path.exists(f"{folder}/ready"))
    return leader


@pytest.fixture
def tree(folder: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run with four processes below it; a fifth has shed all that tells where it came from."""
    leader = start_tree(folder)
    yield leader
    leader.kill()
    leader.wait()
    os.kill(number(f"{folder}/shed_everything"), signal.SIGKILL)


# -- members ------------------------------------------------------------------------------------


def test_every_process_of_a_run_is_found_in_whatever_session(tree: subprocess.Popen[bytes], folder: str) -> None:
    pids = {name: number(f"{folder}/{name}") for name in MEMBERS}
    assert set(process.members(folder)) == {tree.pid, *pids.values()}
    sessions = {os.getsid(pid) for pid in (tree.pid, *pids.values())}
    assert len(sessions) == 4  # else nothing was shown


def test_a_process_with_an_emptied_environment_is_found_by_the_lock_that_it_holds(
    tree: subprocess.Popen[bytes], folder: str
) -> None:
    pid = number(f"{folder}/without_environment")
    assert not process.belongs(pid, folder)
    assert process.holds(pid, f"{folder}/alive")
    assert pid in process.members(folder)


def test_a_run_is_found_when_its_root_was_given_through_a_link(folder: str, tmp_path: Path) -> None:
    os.symlink(tmp_path, tmp_path / "link")
    through = folder.replace(str(tmp_path), f"{tmp_path}/link")
    leader = start_tree(through)
    try:
        assert set(process.members(through)) == {leader.pid, *(number(f"{folder}/{name}") for name in MEMBERS)}
    finally:
        for name in (*MEMBERS, "shed_everything"):
            os.kill(number(f"{folder}/{name}"), signal.SIGKILL)
        leader.kill()
        leader.wait()


def test_strangers_and_runs_with_a_similar_folder_are_not_found(folder: str, sleeper: subprocess.Popen[bytes]) -> None:
    similar = subprocess.Popen(
        ["sleep", "300"], env={process.RUN_FOLDER: folder + "0", "X": f"{process.RUN_FOLDER}={folder}/x"}
    )
    try:
        until(lambda: process.belongs(similar.pid, folder + "0"))
        assert not process.belongs(similar.pid, folder)
        assert not process.belongs(sleeper.pid, folder)
        assert process.members(folder) == []
    finally:
        similar.kill()
        similar.wait()


def test_a_variable_whose_name_only_ends_like_ours_makes_no_member(folder: str) -> None:
    other = subprocess.Popen(["sleep", "300"], env={"UP": "1", f"LAST_{process.RUN_FOLDER}": folder})
    try:
        until(lambda: "UP=1" in read(f"/proc/{other.pid}/environ"))
        assert not process.belongs(other.pid, folder)
    finally:
        other.kill()
        other.wait()


def test_a_zombie_is_no_member(folder: str) -> None:
    child = subprocess.Popen(["sleep", "300"], env={process.RUN_FOLDER: folder})
    until(lambda: process.members(folder) == [child.pid])
    child.kill()
    until(lambda: (found := process.stat(child.pid)) and found.state == "Z")
    assert process.members(folder) == []
    child.wait()


# -- identity -----------------------------------------------------------------------------------


def test_a_process_is_itself_and_a_dead_one_is_not(sleeper: subprocess.Popen[bytes]) -> None:
    known = process.identity(sleeper.pid)
    assert process.is_same(known)
    sleeper.kill()
    sleeper.wait()
    assert not process.is_same(known)


def test_a_pid_that_is_used_again_is_another_process(sleeper: subprocess.Popen[bytes]) -> None:
    known = process.identity(sleeper.pid)
    assert not process.is_same(known._replace(started=known.started - 1))
    assert not process.is_same(known._replace(started=known.started + 1))
    assert not process.is_same(known._replace(boot="another boot"))
    assert not process.is_same(Identity(0, 0, known.boot))
    assert not process.is_same(Identity(-1, 0, known.boot))


def test_a_zombie_is_dead(sleeper: subprocess.Popen[bytes]) -> None:
    known = process.identity(sleeper.pid)
    sleeper.kill()
    until(lambda: (found := process.stat(sleeper.pid)) and found.state == "Z")
    assert not process.is_same(known)


def test_a_stopped_process_lives(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.send_signal(signal.SIGSTOP)
    until(lambda: (found := process.stat(sleeper.pid)) and found.state == "T")
    assert process.is_same(process.identity(sleeper.pid))


@pytest.mark.parametrize("name", ["a) Z 1 (b", "a b", "(", ")"])
def test_a_program_may_be_named_as_it_likes(tmp_path: Path, name: str) -> None:
    program = shutil.copy(shutil.which("sleep") or "", tmp_path / name)
    child = subprocess.Popen([program, "300"])
    try:
        until(lambda: name in read(f"/proc/{child.pid}/stat"))
        found = process.stat(child.pid)
        assert found is not None
        assert (found.parent, found.group) == (os.getpid(), os.getpgid(child.pid))
        assert found.state in "SRD"
    finally:
        child.kill()
        child.wait()


# -- signals ------------------------------------------------------------------------------------


def test_a_signal_reaches_the_whole_group_of_a_leader_that_is_still_the_same(
    tree: subprocess.Popen[bytes], folder: str
) -> None:
    known, child = process.identity(tree.pid), process.identity(number(f"{folder}/child"))
    assert not process.signal_group(known._replace(started=known.started + 1), signal.SIGKILL)
    assert process.is_same(known)
    assert process.signal_group(known, signal.SIGKILL)
    until(lambda: not process.is_same(known) and not process.is_same(child))
    assert process.is_same(process.identity(number(f"{folder}/own_session")))


def test_a_member_is_signalled_and_a_stranger_is_not(
    folder: str, tree: subprocess.Popen[bytes], sleeper: subprocess.Popen[bytes]
) -> None:
    members = [process.identity(number(f"{folder}/{name}")) for name in MEMBERS]
    for pid in (sleeper.pid, 0, -1, 999_999_999, *(one.pid for one in members)):
        process.signal_member(pid, folder, signal.SIGKILL)
    until(lambda: not any(process.is_same(one) for one in members))
    assert process.is_same(process.identity(sleeper.pid))


# -- children and CPU ---------------------------------------------------------------------------


def test_a_child_of_this_process_is_among_its_children(sleeper: subprocess.Popen[bytes]) -> None:
    assert sleeper.pid in process.children_of_this_process()


def test_an_orphan_becomes_the_child_of_a_subreaper() -> None:
    code = """
import os, subprocess
from orchestrator import process
assert process.become_subreaper()
pid = int(subprocess.check_output(["/bin/sh", "-c", "sleep 300 >/dev/null 2>&1 & echo $!"]))
print(pid in process.children_of_this_process() and process.stat(pid).parent == os.getpid())
os.kill(pid, 9)
"""
    out, err = python(code).communicate(timeout=20)
    assert (out, err) == ("True\n", "")


def test_cpu_is_counted_for_the_whole_tree_of_a_run_and_for_no_other(
    folder: str, sleeper: subprocess.Popen[bytes]
) -> None:
    busy = subprocess.Popen(
        ["/bin/sh", "-c", "(while :; do :; done) & while :; do sleep 1; done"],
        env={**os.environ, process.RUN_FOLDER: folder}, start_new_session=True,
    )  # fmt: skip
    try:
        look = {busy.pid: folder, sleeper.pid: "idle", 999_999_999: "gone"}
        measure = process.Measure()
        first = until(lambda: measure.trees(look)[folder].cpu)
        until(lambda: measure.trees(look)[folder].cpu > first + 2)
        trees = measure.trees(look)
        assert trees["idle"].cpu <= 1 and trees["idle"].pids == (sleeper.pid,) and trees["idle"].resident > 0
        assert trees["gone"] == (0, 0, ())
    finally:
        os.killpg(busy.pid, signal.SIGKILL)
        busy.wait()


def test_looking_for_members_is_quick(folder: str) -> None:
    begun = time.process_time()
    process.members(folder)
    assert time.process_time() - begun < 2.0
