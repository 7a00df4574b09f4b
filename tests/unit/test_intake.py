"""From a file in pending/ to a waiting task, or to rejected/ with a reason; one bad file delays no good one."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import python, read, until, write

from orchestrator.arriving import EMPTY_SECONDS
from orchestrator.config import Config
from orchestrator.intake import BAD_LIMIT, Intake
from orchestrator.runs import Record, Result, write_record
from orchestrator.spool import Spool
from orchestrator.states import ENDED, Outcome, Priority, State

pytestmark = pytest.mark.fast

Told = list[tuple[str, str, str]]


class Desk:
    """An intake, and what a test wants to know of it."""

    def __init__(self, queue: Spool) -> None:
        self.queue = queue
        self.told: Told = []
        self.intake = Intake(queue, Config(), ["claude", "shell"], lambda *fact: self.told.append(fact))

    def drop(self, name: str, content: str | bytes) -> str:
        return write(f"{self.queue.tasks}/pending/{name}", content)

    def look(self, *names: str, later: float = 0.0) -> None:
        """All of pending/, or these names."""
        self.intake.look(names or None, time.time() + later)

    @property
    def waiting(self) -> list[str]:
        return sorted(self.intake.waiting.by_id)

    @property
    def pending(self) -> list[str]:
        return sorted(os.listdir(f"{self.queue.tasks}/pending"))

    @property
    def rejected(self) -> dict[str, str]:
        """Name → reason."""
        folder = f"{self.queue.tasks}/rejected"
        names = sorted(os.listdir(folder))
        reasons = {
            name.removesuffix(".reason.txt"): read(f"{folder}/{name}") for name in names if name.endswith(".reason.txt")
        }
        assert set(reasons) == {name for name in names if not name.endswith(".reason.txt")}
        for reason in reasons.values():
            assert reason.endswith("\n") and reason[:-1].isprintable()
        return reasons

    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.told]


@pytest.fixture
def desk(queue: Spool) -> Desk:
    return Desk(queue)


# -- what waits ---------------------------------------------------------------------------------


def test_what_waits_at_the_start_is_told_in_one_line(desk: Desk) -> None:
    for n in range(3):
        desk.drop(f"task_00{n}.yaml", "description: x\n")
    desk.look()
    assert desk.told == [("waiting", "", "3 tasks")]


def test_a_dropped_file_waits(desk: Desk) -> None:
    desk.look()
    desk.drop("task_001.yaml", "description: Fix it\n")
    desk.drop("login page.yml", "id: login\ndescription: x\npriority: high\n")
    desk.look()
    assert desk.waiting == ["login", "task_001"]
    assert desk.intake.waiting.by_id["login"].priority is Priority.HIGH
    assert desk.intake.waiting.by_id["task_001"].priority is Priority.NORMAL
    assert ("submitted", "task_001", "Fix it") in desk.told
    desk.look()
    desk.look("task_001.yaml")
    assert desk.kinds() == ["submitted", "submitted"]


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbfdescription: x\n", b"description: x\r\npriority: high\r\n", b"description: x"]
)
def test_a_byte_order_mark_and_windows_line_ends_are_welcome(desk: Desk, content: bytes) -> None:
    desk.drop("a.yaml", content)
    desk.look()
    assert desk.waiting == ["a"]


def test_files_are_taken_up_in_the_order_in_which_they_were_written(desk: Desk) -> None:
    for name, age in (("b", 10), ("c", 30), ("a", 20)):
        os.utime(desk.drop(f"{name}.yaml", "description: x\n"), (time.time() - age,) * 2)
    desk.look()
    assert [one.task.id for one in desk.intake.waiting.in_order(time.time())] == ["c", "a", "b"]


def test_a_file_dated_in_the_future_arrived_now(desk: Desk) -> None:
    os.utime(desk.drop("a.yaml", "description: x\n"), (time.time() + 9999,) * 2)
    desk.look()
    assert desk.intake.waiting.by_id["a"].arrival <= time.time()


def test_an_edited_file_is_read_again_and_a_removed_one_waits_no_more(desk: Desk) -> None:
    desk.drop("a.yaml", "description: old\n")
    desk.drop("b.yaml", "description: x\n")
    desk.look()
    desk.drop("a.yaml", "description: new and longer\n")
    os.unlink(f"{desk.queue.tasks}/pending/b.yaml")
    desk.look("a.yaml", "b.yaml")
    assert desk.waiting == ["a"]
    assert desk.intake.waiting.by_id["a"].task.description == "new and longer"
    os.unlink(f"{desk.queue.tasks}/pending/a.yaml")
    desk.look()
    assert desk.waiting == []


def test_just_before_the_claim_an_edited_file_is_no_longer_the_one_that_was_read(desk: Desk) -> None:
    path = desk.drop("a.yaml", "description: old\n")
    desk.drop("b.yaml", "description: old\n")
    desk.look()
    entry, other = desk.intake.waiting.by_id["a"], desk.intake.waiting.by_id["b"]
    assert desk.intake.current(entry, time.time()) and desk.intake.current(other, time.time())
    desk.drop("b.yaml", "description: new and longer\n")
    assert not desk.intake.current(other, time.time())
    with open(path, "a", encoding="utf-8") as file:
        assert not desk.intake.current(entry, time.time())
        file.write("priority: high\n")
    assert desk.waiting == []
    desk.look("c.yaml")  # they are looked at again by themselves
    assert desk.intake.waiting.by_id["b"].task.description == "new and longer"
    assert desk.intake.waiting.by_id["a"].priority is Priority.HIGH


def test_a_completed_dependency_releases_whoever_moved_it(desk: Desk) -> None:
    desk.drop("b.yaml", "description: x\ndependencies: [a]\n")
    desk.look()
    assert desk.intake.waiting.by_id["b"].unmet == ("a",)
    write(desk.queue.path(State.COMPLETED, "a"), "description: x\n")
    desk.look()
    assert desk.intake.waiting.by_id["b"].unmet == ()


def test_an_archived_dependency_is_completed_if_it_was(desk: Desk) -> None:
    write(f"{desk.queue.archive}/2026-11/completed/a.yaml", "description: x\n")
    write(f"{desk.queue.archive}/2026-11/failed/f.yaml", "description: x\n")
    desk.drop("b.yaml", "description: x\ndependencies: [a, f]\n")
    desk.look()
    assert desk.intake.waiting.by_id["b"].unmet == ("f",)


# -- a file that is still written ---------------------------------------------------------------


def test_a_file_that_is_open_for_writing_is_not_read_until_it_is_closed(desk: Desk) -> None:
    path = desk.drop("a.yaml", "description: Delete the old")
    code = "import sys\nf = open(sys.argv[1], 'a')\nprint('open', flush=True)\ninput()\nf.write(' backups\\n')"
    writer = python(code, path)
    assert writer.stdout is not None and writer.stdout.readline() == "open\n"
    for later in (0.0, 60.0, 3600.0):
        desk.look(later=later)
        desk.look("a.yaml", later=later)
    assert (desk.waiting, desk.rejected, desk.pending) == ([], {}, ["a.yaml"])
    assert desk.intake.next_look() is not None
    writer.communicate("\n", timeout=10)
    until(lambda: desk.look("other.yaml", later=3700.0) or desk.waiting)
    assert desk.intake.waiting.by_id["a"].task.description == "Delete the old backups"
    assert desk.intake.next_look() is None


def test_an_invalid_file_that_is_open_for_writing_is_not_rejected(desk: Desk) -> None:
    path = f"{desk.queue.tasks}/pending/a.yaml"
    with open(path, "w", encoding="utf-8") as file:
        file.write("description: [")
        file.flush()
        desk.look(later=60.0)
        assert desk.rejected == {}
        file.seek(0)
        file.write("description: x\n")
    desk.look(later=60.0)
    assert desk.waiting == ["a"]


def test_an_empty_file_has_a_moment_to_be_filled(desk: Desk) -> None:
    desk.drop("a.yaml", "")
    desk.drop("b.yaml", "\n")
    desk.look()
    assert (desk.rejected, desk.waiting) == ({}, [])
    assert desk.intake.next_look() is not None
    desk.drop("a.yaml", "description: x\n")
    desk.look(later=EMPTY_SECONDS + 0.5)
    assert desk.waiting == ["a"]
    assert "is empty" in desk.rejected["b.yaml"]


def test_an_empty_file_that_is_deleted_is_forgotten(desk: Desk) -> None:
    path = desk.drop("a.yaml", "")
    desk.look()
    os.unlink(path)
    desk.look("x.yaml", later=1.0)
    assert desk.intake.next_look() is None
    assert desk.kinds() == []


# -- bad input ----------------------------------------------------------------------------------

BOMB = "a: &a [x,x]\n" + "".join(f"{c}: &{c} [*{p},*{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True))

BAD: dict[str, tuple[str | bytes, str]] = {
    "yaml": ("description: [x\n", "is not YAML"),
    "wrong type": ("description: [x]\n", "description: "),
    "unknown key": ("description: x\nprioritty: high\n", "unknown key 'prioritty' (did you mean 'priority'?)"),
    "id with a slash": ("id: a/b\ndescription: x\n", "id: "),
    "id that climbs": ("id: ../../etc/cron.d/x\ndescription: x\n", "id: "),
    "id with a newline": ('id: "a\\nb"\ndescription: x\n', "id: "),
    "missing context file": (
        "description: x\ncontext_files: [src/none.py]\n",
        "context file 'src/none.py' does not exist",
    ),
    "missing page": (
        "description: x\ncontext_required: [roadmap]\n",
        "context file 'context/roadmap.md' does not exist",
    ),
    "file outside": ("description: x\ncontext_files: [link/passwd]\n", "leads out of the root"),
    "page outside": ("description: x\ncontext_required: [../../../etc/passwd.x]\n", "leaves the root"),
    "unknown agent": ("description: x\npreferred_agent: cluade\n", "unknown agent 'cluade' (did you mean 'claude'?)"),
    "depends on itself": ("id: a\ndescription: x\ndependencies: [a]\n", "depends on itself"),
    "10 MB": (b"description: x\n" + b"#" * 10_000_000, "10,000,015 bytes"),
    "alias bomb": (BOMB, "an anchor"),
    "30,000 levels": ("description: " + "[" * 30_000, "nested deeper"),
    "30,000 levels of blocks": ("- " * 30_000, "nested deeper"),
    "merge keys": ("a: &a {k: v}\nb:\n  <<: [*a, *a]\n", "an anchor"),
    "duplicate key": ("description: x\ndescription: y\n", "stands twice"),
    "nul": (b"description: x\0\n", "NUL"),
    "utf-16": ("description: x\n".encode("utf-16"), "UTF-8"),
    "conflict": ("description: x\n<<<<<<< HEAD\npriority: high\n=======\n>>>>>>> b\n", "merge-conflict"),
    "list": ("- description: x\n", "no mapping"),
    "text": ("please fix the login\n", "no mapping"),
    "comments": ("# later\n", "is empty but for comments"),
    "time beyond the calendar": ("description: x\ncreated_at: 0001-01-01T00:00:00+23:59\n", "created_at: "),
    "key of 1 MB": (b"description: x\n? " + b"x" * 1_000_000 + b"\n: y\n", "unknown key 'xxx"),
    "agent of 1 MB": (b"description: x\npreferred_agent: " + b"x" * 1_000_000, "unknown agent 'xxx"),
    "path of 1 MB": (b"description: x\ncontext_files: [" + b"a/" * 500_000 + b"]\n", "longer than 1,000 characters"),
    "page with a nul": ('description: x\ncontext_required: ["a\\0b"]\n', "context"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_kept_with_a_reason_of_one_line_and_delays_nothing_else(
    desk: Desk, tmp_path: Path, case: str
) -> None:
    os.symlink("/etc", tmp_path / "link")
    content, words = BAD[case]
    desk.drop("bad.yaml", content)
    desk.drop("aa.yaml", "description: x\n")
    desk.drop("zz.yaml", "description: x\n")
    begun = time.process_time()
    desk.look(later=10.0)
    assert time.process_time() - begun < 3.0
    assert desk.waiting == ["aa", "zz"]
    assert desk.rejected["bad.yaml"].startswith("tasks/pending/bad.yaml: ")
    assert words in desk.rejected["bad.yaml"]
    with open(f"{desk.queue.tasks}/rejected/bad.yaml", "rb") as file:
        assert file.read() == (content.encode() if isinstance(content, str) else content)
    (line,) = [text for kind, _, text in desk.told if kind == "rejected"]
    assert words in line and line.isprintable() and len(line) < 600
    assert "hunter" not in line


def fifo(path: str) -> None:
    os.mkfifo(path)


def filled_folder(path: str) -> None:
    os.mkdir(path)
    write(f"{path}/inside.yaml", "description: x\n")


def good_link(path: str) -> None:
    os.symlink(write(os.path.dirname(path) + "/../target.yaml", "description: x\n"), path)


def dangling_link(path: str) -> None:
    os.symlink("nowhere", path)


def endless_link(path: str) -> None:
    os.symlink("/dev/zero", path)


def unix_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(os.path.dirname(path))
        server.bind(os.path.basename(path))


@pytest.mark.parametrize(
    ("make", "name", "words"),
    [
        (fifo, "x.yaml", "is a FIFO"),
        (filled_folder, "x.yaml", "is a folder"),
        (filled_folder, "more", "is a folder"),
        (good_link, "x.yaml", "is a symbolic link"),
        (dangling_link, "x.yaml", "is a symbolic link"),
        (endless_link, "x.yaml", "is a symbolic link"),
        (unix_socket, "x.yaml", "is a socket"),
    ],
)
def test_what_is_no_file_is_put_aside_as_it_is(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Callable[[str], None], name: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = f"{desk.queue.tasks}/pending/{name}"
    make(path)
    before = os.lstat(path)
    desk.drop("good.yaml", "description: x\n")
    desk.look()
    assert desk.waiting == ["good"]
    assert words in desk.rejected[name]
    after = os.lstat(f"{desk.queue.tasks}/rejected/{name}")
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.parametrize(
    "name", ["a\nb.yaml", "a\x1b[2Jb.yaml", "a\u202eb.yaml", "\udcff.yaml", "-rf.yaml", "x" * 200 + ".yaml"]
)
def test_whatever_the_name_the_log_and_the_reason_stay_one_printable_line(desk: Desk, name: str) -> None:
    desk.drop(name, "no task\n")
    desk.look()
    assert list(desk.rejected) == [name]
    (line,) = [text for kind, _, text in desk.told if kind == "rejected"]
    assert line.isprintable()


def test_a_process_without_descriptors_to_spare_rejects_nothing(queue: Spool) -> None:
    write(f"{queue.tasks}/pending/a.yaml", "description: x\n")
    code = """
import os, resource, sys, time
from orchestrator.config import Config
from orchestrator.intake import Intake
from orchestrator.spool import Spool
queue = Spool(sys.argv[1])
open(f"{queue.tasks}/pending/first.yaml", "w").write("no task")
intake = Intake(queue, Config(), ["shell"], lambda *fact: None)
intake.look(["first.yaml"], time.time())  # a dispatcher that has worked for a while
os.unlink(f"{queue.tasks}/rejected/first.yaml")
os.unlink(f"{queue.tasks}/rejected/first.yaml.reason.txt")
before = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
try:
    intake.look(["a.yaml"], time.time())
except OSError:
    pass
resource.setrlimit(resource.RLIMIT_NOFILE, before)
intake.look(None, time.time())
print(list(intake.waiting.by_id), os.listdir(f"{queue.tasks}/rejected"))
"""
    out, err = python(code, queue.root).communicate(timeout=20)
    assert (out, err) == ("['a'] []\n", "")


def test_a_cycle_is_rejected_with_its_path_and_the_rest_of_it_waits(desk: Desk) -> None:
    for age, (one, needs) in enumerate((("a", "b"), ("b", "c"), ("c", "a"))):
        os.utime(desk.drop(f"{one}.yaml", f"description: x\ndependencies: [{needs}]\n"), (time.time() - 100 + age,) * 2)
    desk.look()
    assert desk.waiting == ["a", "b"]
    assert "closes a cycle of dependencies: c → a → b → c; remove one of them" in desk.rejected["c.yaml"]


@pytest.mark.parametrize("bad", ["descriptoin: x\n", "description: [\n"])
def test_good_files_are_read_before_a_bad_one_older_than_they_is_put_aside(desk: Desk, bad: str) -> None:
    old = [f"bad_{n:03d}.yaml" for n in range(50)]
    for name in old:
        os.utime(desk.drop(name, bad), (1000, 1000))
    desk.drop("good.yaml", "description: x\n")
    now = time.time()
    desk.intake.look(None, now)
    assert desk.waiting == ["good"] and len(desk.pending) == len(old) + 1 - BAD_LIMIT
    desk.drop(old[-1], "description: mended\n")
    os.utime(desk.drop(old[-2], '"descriptio\\u006e": in other letters\n'), (1000, 1000))
    while desk.intake.next_look() == 1.0:
        desk.intake.go_on(now)
    assert desk.waiting == [*(one[:-5] for one in old[-2:]), "good"]
    assert sorted(desk.rejected) == old[:-2]


def test_bad_files_that_cannot_be_put_aside_do_not_take_a_whole_turn(desk: Desk) -> None:
    desk.look()
    for number in range(10 * BAD_LIMIT):
        desk.drop(f"bad_{number:02d}.yaml", "no_key: of a task\n")
    rejected = Path(desk.queue.tasks, "rejected")
    rejected.rmdir()
    rejected.write_text("a file where the folder should be")
    desk.look(*desk.pending)
    assert desk.kinds().count("error") == BAD_LIMIT


def test_a_good_file_does_not_wait_until_all_the_bad_ones_are_put_aside(desk: Desk) -> None:
    desk.look()
    bad = [f"bad_{n:02d}.yaml" for n in range(4 * BAD_LIMIT)]
    for name in bad:
        desk.drop(name, "no_key: of a task\n")
    desk.look(*bad)
    assert len(desk.rejected) == BAD_LIMIT and desk.intake.next_look() == 1.0  # it goes on at once
    desk.drop("good.yaml", "description: x\n")
    desk.look("good.yaml")
    assert desk.waiting == ["good"] and len(desk.pending) > 2 * BAD_LIMIT
    while desk.intake.next_look():
        desk.intake.go_on(time.time())
    assert len(desk.rejected) == len(bad) == desk.kinds().count("rejected")
    assert desk.pending == ["good.yaml"]


def test_a_file_that_a_dependency_will_write_need_not_be_there_yet(desk: Desk) -> None:
    desk.drop("b.yaml", "description: x\ndependencies: [a]\ncontext_files: [made.txt]\n")
    desk.look()
    assert desk.waiting == ["b"]
    entry = desk.intake.waiting.by_id["b"]
    write(desk.queue.path(State.COMPLETED, "a"), "description: x\n")
    desk.look()
    assert not desk.intake.current(entry, time.time())  # it should be there by now
    desk.look()
    assert "context file 'made.txt' does not exist" in desk.rejected["b.yaml"]


def test_a_file_that_its_dependency_has_written_is_found(desk: Desk) -> None:
    desk.drop("b.yaml", "description: x\ndependencies: [a]\ncontext_files: [made.txt]\n")
    desk.look()
    write(f"{desk.queue.root}/made.txt", "")
    assert desk.intake.current(desk.intake.waiting.by_id["b"], time.time())


def test_ids_that_differ_in_case_only_do_not_wait_together(desk: Desk) -> None:
    os.utime(desk.drop("Login.yaml", "description: x\n"), (time.time() - 10,) * 2)
    desk.drop("login.yaml", "description: y\n")
    desk.look()
    assert desk.waiting == ["Login"]
    assert "upper and lower case" in desk.rejected["login.yaml"]


# -- an id that was used ------------------------------------------------------------------------

SAME, OTHER = "description: the same\n", "description: another one\n"


@pytest.mark.parametrize("state", [State.ASSIGNED, *ENDED])
def test_a_copy_of_a_task_that_runs_or_has_ended_is_dropped(desk: Desk, state: State) -> None:
    kept = write(desk.queue.path(state, "task_001"), SAME)
    desk.drop("task_001.yaml", SAME)
    desk.look()
    assert (desk.waiting, desk.pending, desk.rejected) == ([], [], {})
    assert read(kept) == SAME
    assert desk.kinds() == ["returned"]


@pytest.mark.parametrize("state", [State.ASSIGNED, *ENDED])
def test_another_text_with_a_used_id_is_rejected_by_name(desk: Desk, state: State) -> None:
    kept = write(desk.queue.path(state, "task_001"), SAME)
    desk.drop("again.yaml", "id: task_001\n" + OTHER)
    desk.look()
    assert (desk.waiting, desk.pending) == ([], [])
    how = "runs already" if state is State.ASSIGNED else "exists already"
    assert f"task_001 {how} (tasks/{state}/task_001.yaml)" in desk.rejected["again.yaml"]
    assert read(kept) == SAME


def test_an_archived_task_does_not_run_again(desk: Desk) -> None:
    kept = write(f"{desk.queue.archive}/2026-11/completed/task_001.yaml", SAME)
    desk.drop("task_001.yaml", SAME)
    desk.drop("again.yaml", "id: task_001\n" + OTHER)
    desk.look()
    assert (desk.waiting, desk.pending, list(desk.rejected)) == ([], [], ["again.yaml"])
    assert read(kept) == SAME


def ran(desk: Desk, state: State, status: Outcome = Outcome.SUCCESS) -> str:
    """As if task_001 had run once and its file had then vanished from its folder; the run's folder."""
    folder = desk.queue.run_folder("task_001", 1)
    verdict = Result("task_001", "agent_01", "claude", 1, status, 1_700_000_000.0, state, reason="so it was")
    write(f"{folder}/result.yaml", verdict.to_yaml())
    given = hashlib.sha256(SAME.encode()).hexdigest()
    write_record(folder, Record("", 0.0, 1_700_000_000.0, "agent_01", "claude", "claude", ("claude",), given))
    return folder


def test_a_completed_task_that_a_reset_brought_back_goes_where_it_belongs(desk: Desk) -> None:
    folder = ran(desk, State.COMPLETED)
    desk.drop("task_001.yaml", SAME)
    desk.look()
    assert (desk.waiting, desk.pending, desk.rejected) == ([], [], {})
    assert read(desk.queue.path(State.COMPLETED, "task_001")) == SAME
    assert read(desk.queue.result_path(State.COMPLETED, "task_001")) == read(f"{folder}/result.yaml")
    assert desk.kinds() == ["returned"]


def test_a_completed_id_that_comes_back_with_another_text_is_rejected(desk: Desk) -> None:
    ran(desk, State.COMPLETED)
    desk.drop("task_001.yaml", OTHER)
    desk.look()
    assert "task_001 was completed before, as another text" in desk.rejected["task_001.yaml"]
    assert desk.waiting == []


def test_a_failed_task_that_somebody_moved_back_by_hand_runs_again(desk: Desk) -> None:
    folder = ran(desk, State.FAILED, Outcome.AGENT_ERROR)
    beside = desk.queue.result_path(State.FAILED, "task_001")
    os.link(f"{folder}/result.yaml", beside)  # a hand takes the one file, git takes both
    desk.drop("task_001.yaml", SAME)
    desk.look()
    assert desk.waiting == ["task_001"] and not os.path.exists(beside)
    attempt = desk.intake.waiting.by_id["task_001"].attempt
    assert (attempt.made, attempt.counted, attempt.last_slot) == (1, 0, "agent_01")


@pytest.mark.parametrize("state", [State.FAILED, State.REVIEW])
def test_a_failed_task_that_git_brought_back_with_its_result_gone_waits_for_a_person_again(
    desk: Desk, state: State
) -> None:
    folder = ran(desk, state, Outcome.AGENT_ERROR)
    desk.drop("task_001.yaml", SAME)
    desk.look()
    assert (desk.waiting, desk.pending, desk.rejected) == ([], [], {})
    assert read(desk.queue.path(state, "task_001")) == SAME
    assert read(desk.queue.result_path(state, "task_001")) == read(f"{folder}/result.yaml")
    assert desk.kinds() == ["returned"] and "orchestrate retry task_001" in desk.told[0][2]
    desk.queue.retry("task_001")
    desk.look()
    assert desk.waiting == ["task_001"]


def test_a_failed_task_that_comes_back_with_another_text_is_tried_again(desk: Desk) -> None:
    ran(desk, State.FAILED, Outcome.AGENT_ERROR)
    desk.drop("task_001.yaml", OTHER)
    desk.look()
    assert desk.waiting == ["task_001"]


def test_two_files_of_one_id_are_one_task_if_they_say_the_same(desk: Desk) -> None:
    text = "id: login\n" + SAME
    os.utime(desk.drop("first.yaml", text), (time.time() - 20,) * 2)
    os.utime(desk.drop("second.yaml", text), (time.time() - 10,) * 2)
    desk.drop("third.yaml", "id: login\n" + OTHER)
    desk.look()
    assert (desk.waiting, desk.pending) == (["login"], ["first.yaml"])
    assert "login waits already (tasks/pending/first.yaml)" in desk.rejected["third.yaml"]
    assert "second.yaml" not in desk.rejected


def test_the_same_name_dropped_twice_is_rejected_twice_and_both_are_kept(desk: Desk) -> None:
    for n in range(2):
        desk.drop("a.yaml", f"no task {n}\n")
        desk.look()
    assert list(desk.rejected) == ["a.2.yaml", "a.yaml"]
    assert [read(f"{desk.queue.tasks}/rejected/{name}") for name in desk.rejected] == ["no task 1\n", "no task 0\n"]


def test_a_rejected_file_that_was_mended_and_dropped_again_waits(desk: Desk) -> None:
    desk.drop("a.yaml", "descripton: x\n")
    desk.look()
    desk.drop("a.yaml", "description: x\n")
    desk.look()
    assert desk.waiting == ["a"]


def test_a_new_intake_finds_what_waits(desk: Desk) -> None:
    desk.drop("a.yaml", SAME)
    desk.drop("b.yaml", "description: x\ndependencies: [a]\n")
    desk.look()
    again = Desk(desk.queue)
    again.look()
    assert again.waiting == desk.waiting == ["a", "b"]
    assert again.intake.waiting.by_id["b"].unmet == ("a",)


def test_what_was_put_aside_is_told_when_the_disk_takes_it_and_not_asked_of_it_at_every_turn(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.drop("bad.yaml", "nothing: x\n")
    tried: list[int] = []

    def full() -> None:
        tried.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as bad_disk:
        bad_disk.setattr(desk.queue, "sync", full)
        desk.look()
        assert tried and desk.pending == [] and desk.intake.next_look() is None and desk.told == []
    desk.look()
    assert [fact[0] for fact in desk.told] == ["rejected"]
