"""Many files made durable at once: all are waited for, and what failed is told."""

from __future__ import annotations

import errno
import os
import signal
import threading
from pathlib import Path

import pytest
from helpers import write

from orchestrator import files, syncing

pytestmark = pytest.mark.fast


@pytest.fixture(params=["kernel", "each"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As this system does it, and as one does that has no such call."""
    if request.param == "each":
        monkeypatch.setattr(syncing, "_kernel", lambda: None)
    elif syncing._kernel() is None:
        pytest.skip("this system waits for one after the other")
    return str(request.param)


def opened(folder: Path, count: int) -> list[int]:
    """So many files with something in them."""
    return [os.open(write(folder / f"f{number}", "x" * number), os.O_RDONLY) for number in range(count)]


@pytest.mark.heavy
def test_more_files_than_there_is_room_for_are_all_waited_for(way: str, tmp_path: Path) -> None:
    fds = opened(tmp_path, syncing.ROOM + 10)
    first, second = syncing.begin(fds), syncing.begin(fds[:5])
    second()
    first()
    files.sync_all(fds[:1])
    files.sync_all([])
    if kernel := syncing._kernel():
        assert not kernel._under_way and not kernel._failed
    for fd in fds:
        os.close(fd)


def test_the_one_that_failed_is_told_and_the_others_are_over(way: str, tmp_path: Path) -> None:
    """A pipe cannot be synced: what stands for a disk that refuses."""
    reading, writing = os.pipe()
    fds = opened(tmp_path, 3)
    with pytest.raises(OSError) as raised:
        files.sync_all([*fds[:2], writing, fds[2]])
    assert raised.value.errno == errno.EINVAL
    files.sync_all(fds)  # what failed before is told once
    for fd in (*fds, reading, writing):
        os.close(fd)


def test_a_closed_descriptor_is_an_error_and_no_success(way: str, tmp_path: Path) -> None:
    fds = opened(tmp_path, 3)
    os.close(fds[1])
    with pytest.raises(OSError):
        files.sync_all(fds)
    for fd in (fds[0], fds[2]):
        os.close(fd)


@pytest.mark.heavy
def test_a_signal_that_comes_while_it_waits_does_no_harm(way: str, tmp_path: Path) -> None:
    fds = opened(tmp_path, 20)
    before = signal.signal(signal.SIGALRM, lambda number, frame: None)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        for _ in range(20):
            files.sync_all(fds)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    for fd in fds:
        os.close(fd)


def test_threads_do_not_take_each_others_answers(way: str, tmp_path: Path) -> None:
    """A program that uses the queue has threads of its own; one would wait for ever for what another has fetched."""

    def sync(number: int) -> None:
        fds = opened(tmp_path / str(number), 5)
        for _ in range(30):
            files.sync_all(fds)
        for fd in fds:
            os.close(fd)
        ended.append(number)

    ended: list[int] = []
    threads = [threading.Thread(target=sync, args=(number,), daemon=True) for number in range(4)]
    for number in range(5):
        (tmp_path / str(number)).mkdir()
    for thread in threads:
        thread.start()
    sync(4)
    for thread in threads:
        thread.join(20)
    assert sorted(ended) == [0, 1, 2, 3, 4]
