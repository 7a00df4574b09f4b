"""Start programs without standing still: what they are given is the same, whoever starts them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import until

from orchestrator import spawning

pytestmark = pytest.mark.fast


@pytest.fixture(params=["threads", "subprocess"])
def spawner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> spawning.Spawner:
    """As this system does it, and as one does that lacks a part."""
    if request.param == "subprocess":
        monkeypatch.setattr(spawning, "_library", lambda: None)
    elif not spawning._library():
        pytest.skip("this system has no such posix_spawn")
    return spawning.Spawner()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[int]:
    """A descriptor that is inherited, and one that is not though it could be."""
    fd, other = (os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in ("kept", "other"))
    os.set_inheritable(other, True)
    yield fd
    os.close(fd)
    os.close(other)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_program_gets_its_folder_a_session_its_environment_one_descriptor_and_no_ignored_signal(
    spawner: spawning.Spawner, kept: int, tmp_path: Path
) -> None:
    shell = 'pwd; echo "$A"; cut -d" " -f6 /proc/self/stat; echo $$; ls -l /proc/$$/fd; grep SigIgn /proc/$$/status'
    child = spawner.begin(
        ("/bin/sh", "-c", f"{{ {shell}; }} >told 2>&1; exit 7"),
        {"A": "ä b", "PATH": os.environ["PATH"]},
        str(tmp_path),
        kept,
    )()
    until(lambda: child.poll() is not None)
    told = (tmp_path / "told").read_text()
    lines = told.splitlines()
    assert child.returncode == 7 and lines[:2] == [str(tmp_path), "ä b"], told
    assert lines[2] == lines[3] == str(child.pid), told  # the leader of its own session
    assert f"{tmp_path}/kept" in told and f"{tmp_path}/other" not in told, told
    ignored = int(lines[-1].split()[1], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)), told


def test_what_cannot_be_started_is_told_and_the_next_one_starts(
    spawner: spawning.Spawner, kept: int, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        spawner.begin(("/bin/sh", "-c", "true"), {}, f"{tmp_path}/none", kept)()
    with pytest.raises(FileNotFoundError):
        spawner.begin((f"{tmp_path}/none",), {}, str(tmp_path), kept)()
    for words, settings in ((("/bin/sh", "-c", "a\0b"), {}), (("/bin/sh",), {"A": "a\0b"})):
        with pytest.raises(ValueError, match="null"):
            spawner.begin(words, settings, str(tmp_path), kept)()
    child = spawner.begin(("/bin/sh", "-c", "kill -9 $$"), {}, str(tmp_path), kept)()
    until(lambda: child.poll() is not None)
    assert child.returncode == -signal.SIGKILL


def test_many_begun_at_once_are_all_started_each_once(spawner: spawning.Spawner, kept: int, tmp_path: Path) -> None:
    words = [("/bin/sh", "-c", f"echo {number} >>told") for number in range(20)]
    begun = [spawner.begin(one, {}, str(tmp_path), kept) for one in words]
    children = [wait() for wait in begun]
    until(lambda: None not in {child.poll() for child in children})
    assert sorted(map(int, (tmp_path / "told").read_text().split())) == list(range(20))
    assert {child.returncode for child in children} == {0} and len({child.pid for child in children}) == 20


def test_an_exit_status_that_somebody_else_took_is_no_error(
    spawner: spawning.Spawner, kept: int, tmp_path: Path
) -> None:
    child = spawner.begin(("/bin/sh", "-c", "exit 3"), {}, str(tmp_path), kept)()
    os.waitpid(child.pid, 0)
    assert child.poll() == 0 == child.returncode
