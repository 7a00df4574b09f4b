"""Control groups: where one can be made, what is written there, and that no group of others is touched.

The tree here is one of plain files; what the kernel makes of it is tried in `test_processes.py` where it lets us.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from orchestrator import groups

pytestmark = pytest.mark.fast


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """/sys/fs/cgroup with user.slice/app.slice/run.scope, in which we are; nobody gives memory on yet."""
    mount = tmp_path / "a mount"
    for inner in ("", "user.slice", "user.slice/app.slice", "user.slice/app.slice/run.scope"):
        folder = mount / inner
        folder.mkdir()
        for name, text in (("controllers", "cpu memory pids\n"), ("subtree_control", ""), ("procs", "")):
            (folder / f"cgroup.{name}").write_text(text)
    place = str(mount).replace(" ", "\\040")
    (tmp_path / "mountinfo").write_text(
        f"24 1 0:22 / /proc rw - proc proc rw\n30 24 0:26 / {place} rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    )
    (tmp_path / "cgroup").write_text("4:memory:/old\n0::/user.slice/app.slice/run.scope\n")
    return mount


def test_the_nearest_that_gives_memory_on_is_the_home(tree: Path, tmp_path: Path) -> None:
    (tree / "cgroup.subtree_control").write_text("cpu memory\n")
    (tree / "user.slice/app.slice/cgroup.subtree_control").write_text("memory pids\n")
    assert groups.home(str(tmp_path)) == f"{tree}/user.slice/app.slice"


def test_where_nobody_gives_it_on_our_own_does(tree: Path, tmp_path: Path) -> None:
    assert groups.home(str(tmp_path)) == f"{tree}/user.slice/app.slice/run.scope"
    assert (tree / "user.slice/app.slice/run.scope/cgroup.subtree_control").read_text() == "+memory"


def test_no_cgroup_v2_no_memory_there_or_a_table_that_says_nothing_is_no_home(tree: Path, tmp_path: Path) -> None:
    own = tree / "user.slice/app.slice/run.scope"
    (own / "cgroup.controllers").write_text("cpu pids\n")
    assert groups.home(str(tmp_path)) == ""
    (own / "cgroup.controllers").write_text("memory\n")
    (own / "cgroup.subtree_control").chmod(0o400)
    if os.geteuid():
        assert groups.home(str(tmp_path)) == ""
    (tmp_path / "cgroup").write_text("4:memory:/old\n")
    assert groups.home(str(tmp_path)) == ""
    (tmp_path / "cgroup").write_text("0::/../outside\n")  # of another namespace
    assert groups.home(str(tmp_path)) == ""
    (tmp_path / "mountinfo").write_text("24 1 0:22 / /proc rw - proc proc rw\n")
    assert groups.home(str(tmp_path)) == "" == groups.home(str(tmp_path / "gone"))


def test_a_group_holds_its_run_to_its_memory_and_goes_with_it(tmp_path: Path) -> None:
    run, base = tmp_path / "run", tmp_path / "base"
    run.mkdir()
    base.mkdir()
    assert groups.make(str(run), 5e8, str(base)) == "", "there are no such files: a run is not stopped by that"
    group = next(base.iterdir())
    for name in ("memory.max", "memory.oom.group", "memory.swap.max", "cgroup.procs", "memory.events"):
        (group / name).write_text("")
    assert groups.make(str(run), 5e8, str(base)) == str(group)
    assert [(group / f"memory.{one}").read_text() for one in ("max", "oom.group", "swap.max")] == [
        "500000000",
        "1",
        "0",
    ]
    argv = groups.inside(str(group), ("sh", "-c", 'echo "$1"; exit 3', "-", "a  b"))
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "a  b\n") and (group / "cgroup.procs").read_text() == "0\n"
    assert not groups.was_ended(str(run))
    (group / "memory.events").write_text("low 0\nmax 3\noom 1\noom_kill 2\n")
    assert groups.was_ended(str(run))
    for path in group.iterdir():
        path.unlink()
    groups.remove(str(run))
    assert not group.exists()
    gone = subprocess.run(groups.inside(str(group), ("echo", "well")), capture_output=True, text=True, check=False)
    assert (gone.returncode, gone.stdout, gone.stderr) == (0, "well\n", ""), "it goes on, and is watched"


def test_no_agent_names_a_group_of_somebody_else(tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "orchestrate-other"
    run.mkdir()
    other.mkdir()
    (run / "cgroup").write_text(f"{other}\n")
    groups.remove(str(run))
    assert other.exists() and not groups.was_ended(str(run))
