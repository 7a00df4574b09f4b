"""What comes into a folder is heard of: from the kernel, and from watchdog where the kernel cannot be asked."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import until

from orchestrator.watcher import Bell, Watcher

pytestmark = pytest.mark.fast


@pytest.fixture
def bell() -> Iterator[Bell]:
    made = Bell()
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "pending"
    made.mkdir()
    return made


@pytest.mark.parametrize("kernel", [True, False])
def test_it_hears_what_is_written_moved_in_and_made_again(folder: Path, bell: Bell, kernel: bool) -> None:
    told: list[str] = []
    watcher = Watcher(str(folder), bell, told.append, kernel)
    heard: set[str] = set()

    def hears(*names: str) -> bool:
        bell.wait(0.05, watcher.descriptors())
        heard.update(watcher.take())
        return heard >= set(names)

    watcher.keep()
    try:
        (folder / "written.yaml").write_text("x")
        (folder.parent / "elsewhere").write_text("x")
        os.rename(folder.parent / "elsewhere", folder / "moved.yaml")
        (folder / "of nobody.txt").write_text("x")
        (folder / "a folder.yaml").mkdir()
        until(lambda: hears("written.yaml", "moved.yaml", "a folder.yaml"))
        assert "of nobody.txt" not in heard
        shutil.rmtree(folder)
        folder.mkdir()
        odd = os.fsdecode(b"\xff\n.yaml")

        def hears_again() -> bool:
            watcher.keep()
            (folder / odd).write_text("x")
            return hears(odd)

        until(hears_again)
    finally:
        watcher.stop()
    assert told == []


def test_it_wakes_who_waits_without_the_bell(folder: Path, bell: Bell) -> None:
    watcher = Watcher(str(folder), bell, print)
    watcher.keep()
    (folder / "one.yaml").write_text("x")
    bell.wait(60, watcher.descriptors())  # or the test takes a minute
    assert watcher.take() == {"one.yaml"}
    watcher.stop()


def test_more_than_the_kernel_keeps_is_found_all_the_same(folder: Path, bell: Bell) -> None:
    with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as file:
        room = int(file.read())
    watcher = Watcher(str(folder), bell, print)
    watcher.keep()
    for name in ["a.yaml", "b.yaml"] * (room // 2 + 1):
        (folder / name).open("ab").close()
    (folder / "lost.yaml").touch()
    assert watcher.take() == {"a.yaml", "b.yaml", "lost.yaml"}
    watcher.stop()


def test_without_a_descriptor_it_says_so_once_and_tries_again(folder: Path, bell: Bell) -> None:
    told: list[str] = []
    watcher = Watcher(str(folder), bell, told.append)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        assert not watcher.keep() and not watcher.keep()
        assert watcher.take() == set() and watcher.descriptors() == ()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert told == ["file events are off (Too many open files); new files are found every few seconds"]
    assert not watcher.keep() and watcher.keep()  # whether it was watched before the call
    (folder / "one.yaml").write_text("x")
    assert watcher.take() == {"one.yaml"} and len(told) == 1
    watcher.stop()
