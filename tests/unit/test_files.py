"""Files: publish whole or not at all, move without overwriting, exchange, lock, lease, cap."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest
from helpers import at_once, python, read, until, write

from orchestrator import files, locks
from orchestrator.errors import AlreadyExists

pytestmark = pytest.mark.fast


@pytest.fixture(params=["renameat2", "link and unlink"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of moving: the system's own, and the one for file systems that have none."""
    if request.param == "link and unlink":
        monkeypatch.setattr(files, "_rename_with_flags", [None])
    else:
        monkeypatch.setattr(files, "_rename_with_flags", [])
    return str(request.param)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


# -- publish and replace ------------------------------------------------------------------------


def test_a_published_file_is_whole_and_leaves_no_draft(tmp_path: Path) -> None:
    files.publish(f"{tmp_path}/a", b"x" * 100_000)
    assert read(tmp_path / "a") == "x" * 100_000
    assert names(tmp_path) == ["a"]
    assert stat.S_IMODE(os.stat(tmp_path / "a").st_mode) & 0o600 == 0o600


@pytest.mark.parametrize("there", ["file", "folder", "dangling link"])
def test_publishing_refuses_a_name_that_is_taken(tmp_path: Path, there: str) -> None:
    path = tmp_path / "a"
    {"file": lambda: write(path, "old"), "folder": path.mkdir, "dangling link": lambda: path.symlink_to("none")}[
        there
    ]()
    with pytest.raises(AlreadyExists, match="nothing was overwritten"):
        files.publish(str(path), b"new")
    assert names(tmp_path) == ["a"]
    assert there != "file" or read(path) == "old"


def test_of_many_who_publish_one_name_at_once_one_succeeds(tmp_path: Path) -> None:
    code = """
import sys
from orchestrator import files
from orchestrator.errors import AlreadyExists
input()
won = 0
for n in range(50):
    try:
        files.publish(f"{sys.argv[1]}/{n}", sys.argv[2].encode() * 1000)
        won += 1
    except AlreadyExists:
        pass
print(won)
"""
    won = at_once(code, [(str(tmp_path), str(n)) for n in range(4)])
    assert sum(map(int, won)) == 50
    for name in names(tmp_path):
        content = read(tmp_path / name)
        assert content == content[0] * 1000


def test_replacing_exchanges_a_file_and_leaves_no_draft(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "old")
    files.replace(path, b"new")
    files.replace(f"{tmp_path}/b", b"first")
    assert (read(path), read(tmp_path / "b"), names(tmp_path)) == ("new", "first", ["a", "b"])


def test_what_cannot_be_replaced_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError):
        files.replace(f"{tmp_path}/a", b"new")
    assert names(tmp_path) == ["a"]


def test_a_reader_sees_the_old_file_or_the_new_one_and_never_half(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "0" * 50_000)
    stop = threading.Event()
    torn: list[str] = []

    def look() -> None:
        while not stop.is_set():
            content = read(path)
            if content != content[0] * 50_000:
                torn.append(content[:10])

    reader = threading.Thread(target=look)
    reader.start()
    for n in range(100):
        files.replace(path, str(n % 10).encode() * 50_000, sync=False)
    stop.set()
    reader.join()
    assert torn == []


def test_a_link_is_a_second_name_and_refuses_one_that_is_taken(tmp_path: Path) -> None:
    source = write(tmp_path / "a", "x")
    files.link(source, f"{tmp_path}/b")
    assert os.path.samefile(source, f"{tmp_path}/b")
    write(tmp_path / "c", "mine")
    with pytest.raises(FileExistsError):
        files.link(source, f"{tmp_path}/c")
    assert read(tmp_path / "c") == "mine"


def test_a_link_to_another_file_system_is_a_copy() -> None:
    if os.stat("/dev/shm").st_dev == os.stat("/tmp").st_dev:
        pytest.skip("no second file system")
    here, there = f"/tmp/.link-{os.getpid()}", f"/dev/shm/.link-{os.getpid()}"
    try:
        write(here, "x")
        files.link(here, there)
        assert read(there) == "x"
        with pytest.raises(FileExistsError):
            files.link(here, there)
    finally:
        for path in (here, there):
            Path(path).unlink(missing_ok=True)


# -- move ---------------------------------------------------------------------------------------


def test_a_move_is_one_file_with_another_name(tmp_path: Path, way: str) -> None:
    source = write(tmp_path / "a", "x")
    before = os.stat(source).st_ino
    files.move(source, f"{tmp_path}/b")
    assert names(tmp_path) == ["b"]
    assert os.stat(tmp_path / "b").st_ino == before


@pytest.mark.parametrize("there", ["file", "folder", "dangling link"])
def test_a_move_refuses_to_overwrite(tmp_path: Path, way: str, there: str) -> None:
    source, target = write(tmp_path / "a", "mine"), tmp_path / "b"
    {"file": lambda: write(target, "his"), "folder": target.mkdir, "dangling link": lambda: target.symlink_to("none")}[
        there
    ]()
    with pytest.raises(FileExistsError):
        files.move(source, str(target))
    assert names(tmp_path) == ["a", "b"]
    assert read(source) == "mine"
    assert there != "file" or read(target) == "his"


def test_a_move_of_what_is_not_there_says_so(tmp_path: Path, way: str) -> None:
    with pytest.raises(FileNotFoundError):
        files.move(f"{tmp_path}/a", f"{tmp_path}/b")
    with pytest.raises(FileNotFoundError):
        files.move(write(tmp_path / "a", "x"), f"{tmp_path}/none/b")
    assert names(tmp_path) == ["a"]


def test_folders_links_and_fifos_move_as_they_are(tmp_path: Path, way: str) -> None:
    write(tmp_path / "d" / "x", "x")
    os.symlink("nowhere", tmp_path / "l")
    os.mkfifo(tmp_path / "f")
    for name in "dlf":
        files.move(f"{tmp_path}/{name}", f"{tmp_path}/{name}2")
        with pytest.raises(FileExistsError):
            os.mkdir(tmp_path / name)
            files.move(f"{tmp_path}/{name}", f"{tmp_path}/{name}2")
    assert os.readlink(tmp_path / "l2") == "nowhere"
    assert read(tmp_path / "d2" / "x") == "x"
    assert stat.S_ISFIFO(os.lstat(tmp_path / "f2").st_mode)


def test_of_many_who_move_one_file_at_once_one_succeeds(tmp_path: Path, way: str) -> None:
    for n in range(60):
        write(tmp_path / "from" / str(n), str(n))
    code = """
import os, sys
from orchestrator import files
root, me, way = sys.argv[1:]
if way != "renameat2":
    files._rename_with_flags.append(None)
os.mkdir(f"{root}/{me}")
input()
won = 0
for n in range(60):
    try:
        files.move(f"{root}/from/{n}", f"{root}/to/{n}")
        won += 1
    except (FileNotFoundError, FileExistsError):
        pass
print(won)
"""
    (tmp_path / "to").mkdir()
    won = at_once(code, [(str(tmp_path), f"p{n}", way) for n in range(4)])
    assert names(tmp_path / "from") == []
    assert {name: read(tmp_path / "to" / name) for name in names(tmp_path / "to")} == {
        str(n): str(n) for n in range(60)
    }
    # Where link and unlink stand for the move, a second one may find the name it made; it is told apart by that.
    assert sum(map(int, won)) == 60


# -- exchange -----------------------------------------------------------------------------------


def test_an_exchange_puts_new_content_in_place_of_what_was_expected(tmp_path: Path, way: str) -> None:
    path = write(tmp_path / "a", "old")
    assert files.exchange(path, b"new", b"old") is True
    assert (read(path), names(tmp_path)) == ("new", ["a"])


def test_an_exchange_gives_way_to_what_somebody_saved(tmp_path: Path, way: str) -> None:
    path = write(tmp_path / "a", "saved by a person")
    inode = os.stat(path).st_ino
    assert files.exchange(path, b"new", b"old") is False
    assert (read(path), names(tmp_path)) == ("saved by a person", ["a"])
    assert os.stat(path).st_ino == inode


# -- locks --------------------------------------------------------------------------------------


def test_a_lock_keeps_others_out_and_is_free_when_its_holder_is_killed(tmp_path: Path) -> None:
    path = f"{tmp_path}/lock"
    code = "import sys\nfrom orchestrator import locks\nwith locks.locked(sys.argv[1]):\n    print('has it', flush=True)\n    input()"
    assert not locks.is_locked(path)
    holder = python(code, path)
    assert holder.stdout is not None and holder.stdout.readline() == "has it\n"
    assert locks.is_locked(path)
    second = python(code, path)
    holder.kill()
    holder.communicate()
    assert second.stdout is not None and second.stdout.readline() == "has it\n"
    assert locks.is_locked(path)
    second.communicate("\n", timeout=10)
    assert not locks.is_locked(path)
    assert os.path.exists(path)


# -- who still writes ---------------------------------------------------------------------------


def leased(path: str) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        return locks.lease(fd, os.stat(path).st_mtime)
    finally:
        os.close(fd)


def test_a_file_has_no_lease_while_another_process_has_it_open_for_writing(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "x")
    writer = python("import sys\nfile = open(sys.argv[1], 'a')\nprint('open', flush=True)\ninput()", path)
    assert writer.stdout is not None and writer.stdout.readline() == "open\n"
    assert leased(path) is False
    os.utime(path, (1.0, 1.0))  # it may have been silent for long
    assert leased(path) is False
    writer.communicate("\n", timeout=10)
    assert until(lambda: leased(path), 3.0)


def test_a_writer_waits_until_a_leased_file_was_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "old")
    tried: list[int] = []
    before = signal.signal(
        signal.SIGURG, lambda number, _: tried.append(number)
    )  # the kernel's word that somebody wants to write
    fd = os.open(path, os.O_RDONLY)
    try:
        if not locks.lease(fd, time.time()):
            pytest.skip("no leases on this file system")
        writer = subprocess.Popen(["/bin/sh", "-c", 'echo new >"$0"', path])
        until(lambda: tried)
        assert os.read(fd, 100) == b"old"
        assert writer.poll() is None
    finally:
        os.close(fd)
        signal.signal(signal.SIGURG, before)
    assert writer.wait(10) == 0
    assert read(path) == "new\n"


# -- drafts -------------------------------------------------------------------------------------


def test_drafts_of_dead_writers_are_swept_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    mine = files.draft(str(tmp_path), b"x")
    gone = subprocess.Popen(["true"])
    gone.wait()
    write(tmp_path / f".{gone.pid}-18f0-abcdef.tmp", "left")
    assert files.sweep_drafts(str(tmp_path), time.time()) == 1
    assert names(tmp_path) == [os.path.basename(mine)]
    assert files.sweep_drafts(str(tmp_path), time.time() + files.DRAFT_AGE_LIMIT + 1) == 1
    assert files.sweep_drafts(f"{tmp_path}/none", time.time()) == 0


@pytest.mark.parametrize("name", [".task_009.yaml.tmp", ".notes.tmp", ".1.tmp", ".12-draft.tmp"])
def test_a_hidden_file_of_another_program_is_not_swept(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, "half of a task, soon to be renamed")
    files.sweep_drafts(str(tmp_path), time.time() + 2 * files.DRAFT_AGE_LIMIT)
    assert names(tmp_path) == [name]


def test_an_exchange_keeps_the_mode_and_the_link_of_a_page(tmp_path: Path) -> None:
    page, link = tmp_path / "page.md", tmp_path / "link.md"
    page.write_bytes(b"old")
    page.chmod(0o664)
    link.symlink_to(page)
    assert files.exchange(str(link), b"new", b"old")
    assert link.is_symlink()
    assert page.read_bytes() == b"new"
    assert page.stat().st_mode & 0o777 == 0o664


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="who is dead is read in /proc")
def test_the_draft_of_a_dead_writer_that_nobody_has_buried_is_swept(tmp_path: Path) -> None:
    child = subprocess.Popen(["true"])
    until(lambda: "State:\tZ" in Path(f"/proc/{child.pid}/status").read_text())
    (tmp_path / f".{child.pid}-abcdef-abcdef.tmp").write_text("half")
    swept = files.sweep_drafts(str(tmp_path), time.time())
    child.wait()
    assert swept == 1
