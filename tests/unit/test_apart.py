"""Who reads the files of pending/: both say the same, and one of them never waits."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator

import pytest
from helpers import until, withheld, write

from orchestrator import apart
from orchestrator.apart import Apart, Near, NotYet, choose, may_wait
from orchestrator.config import Config
from orchestrator.errors import InvalidTask
from orchestrator.intake import Intake
from orchestrator.reading import StillWritten
from orchestrator.spool import Spool
from orchestrator.waiting import stamp_of


class Desk(Apart):
    """One that can be waited for."""

    def come(self, name: str) -> None:
        """Until this file can be told of. Fails after 20 seconds."""
        deadline = time.monotonic() + 20
        while (told := self.answered()) != name:
            assert time.monotonic() < deadline, f"{name} was not answered"
            if not told:
                select.select(self.descriptors(), (), (), 0.05)


@pytest.fixture
def desk(tmp_path: os.PathLike[str]) -> Iterator[Desk]:
    made = Desk(os.fspath(tmp_path), set())
    yield made
    made.close()


def found(reader: Near, name: str) -> tuple[object, object]:
    """What it says of a file, or what it raises."""
    try:
        status, content = reader.status(name), reader.content(name)
        return (status.st_mode, stamp_of(status), status.st_ctime_ns), content
    except NotYet:
        raise
    except Exception as problem:
        return type(problem), str(problem)


def test_what_is_read_apart_is_what_is_read_near(desk: Desk, tmp_path: os.PathLike[str]) -> None:
    write(f"{tmp_path}/good.yaml", "description: ü\n")
    write(f"{tmp_path}/large.yaml", "x" * 300_000)
    write(f"{tmp_path}/too large.yaml", "x" * (4 << 20) + "x")
    os.mkdir(f"{tmp_path}/folder.yaml")
    os.symlink("/etc/passwd", f"{tmp_path}/link.yaml")
    os.mkfifo(f"{tmp_path}/fifo.yaml")
    near, kinds = Near(os.fspath(tmp_path)), set()
    with open(f"{tmp_path}/written.yaml", "w", encoding="utf-8") as file:
        file.flush()
        for name in sorted((*os.listdir(tmp_path), "gone.yaml", os.fsdecode(b"\xff.yaml"))):
            with pytest.raises(NotYet):
                found(desk, name)
            desk.come(name)
            assert found(desk, name) == found(near, name)
            kinds.add(said if isinstance(said := found(near, name)[0], type) else bytes)
    assert kinds == {bytes, InvalidTask, FileNotFoundError, StillWritten}


def test_a_reader_that_is_closed_leaves_no_process_behind(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "END_SECONDS", 20.0)
    children: set[int] = set()
    desk = Desk(os.fspath(tmp_path), children)
    write(f"{tmp_path}/good.yaml", "description: x\n")
    with pytest.raises(NotYet):
        desk.status("good.yaml")
    desk.come("good.yaml")
    (pid,) = children
    assert os.path.exists(f"/proc/{pid}")
    desk.close()
    assert not os.path.exists(f"/proc/{pid}") and not children  # also no zombie, that nobody would wait for


def test_what_has_changed_is_asked_for_again(desk: Desk, tmp_path: os.PathLike[str]) -> None:
    def status(whole: bool) -> int:
        return desk.status("a.yaml", whole).st_size

    write(f"{tmp_path}/a.yaml", "one")
    with pytest.raises(NotYet):
        status(False)
    desk.come("a.yaml")
    assert status(False) == 3
    with pytest.raises(NotYet):  # only its status was asked for
        desk.content("a.yaml")
    desk.come("a.yaml")
    assert desk.content("a.yaml") == b"one"
    write(f"{tmp_path}/a.yaml", "three")
    assert status(True) == 3  # for a moment
    desk.forget("a.yaml")
    with pytest.raises(NotYet):
        status(True)
    select.select(desk.descriptors(), (), ())
    write(f"{tmp_path}/a.yaml", "seven..")
    desk.forget("a.yaml")  # touched while it was asked for: the first answer does not count
    desk.come("a.yaml")
    assert (status(True), desk.content("a.yaml"), desk.under_way()) == (7, b"seven..", 0)


def test_only_so_many_are_asked_for_and_those_that_do_not_answer_make_room(
    desk: Desk, tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "AT_ONCE", 2)
    monkeypatch.setattr(apart, "SLOW_SECONDS", 0.2)
    write(f"{tmp_path}/good.yaml", "good")
    with withheld(*(f"{tmp_path}/{name}" for name in "abc")):
        for name in ("a", "b", "c", "good.yaml"):
            with pytest.raises(NotYet):
                desk.content(name)
        desk.come("good.yaml")
        assert desk.slow()[:2] == ["a", "b"] and desk.content("good.yaml") == b"good"
        desk.give_up("b")
        assert "b" not in desk.slow()
    told: set[str] = set()
    until(lambda: told.add(desk.answered()) or told >= {"a", "c"})
    assert desk.slow() == [] and desk.under_way() == 0


def test_a_file_that_cannot_be_opened_now_is_told_of_once_and_read_when_it_can(queue: Spool) -> None:
    told: list[tuple[str, ...]] = []
    intake, path = Intake(queue, Config(), ["shell"], lambda *fact: told.append(fact)), f"{queue.tasks}/pending/a.yaml"
    now = time.time()
    with withheld(path):
        write(path + ".draft", "description: x\n")
        for later in range(5):
            intake.look(None, now + 2 * later)
        assert [(kind, text[:32]) for kind, _, text in told if kind == "error"] == [
            ("error", "tasks/pending/a.yaml: not read y")
        ]
        assert list(intake.silent) == ["a.yaml"] and len(intake.waiting) == 0
    os.replace(path + ".draft", path)
    intake.look(None, now + 20)
    assert intake.silent == {} and len(intake.waiting) == 1


def test_a_disk_of_this_machine_is_read_near_unless_config_says_otherwise(tmp_path: os.PathLike[str]) -> None:
    folder = os.fspath(tmp_path)
    assert not choose(folder, "never", set()).is_apart and choose(folder, "always", set()).is_apart
    if os.path.isdir("/dev/shm"):
        assert not choose("/dev/shm", "auto", set()).is_apart
    if sys.platform == "linux":
        assert may_wait("/proc") and choose("/proc", "auto", set()).is_apart  # of a kind that is not known
    assert not may_wait(f"{folder}/gone")
