"""The spool: a task's folder is its state, and nothing in it is ever overwritten."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from helpers import at_once, read, write

from orchestrator import files
from orchestrator.errors import AlreadyExists, InvalidTask, NotFound, OrchestrateError, QueueFull, Refused
from orchestrator.runs import assigned_run
from orchestrator.spool import Spool, find_root, is_task_name
from orchestrator.states import ENDED, MOVES, State
from orchestrator.task import parse

pytestmark = pytest.mark.fast


@pytest.fixture(params=["renameat2", "link and unlink"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(files, "_rename_with_flags", [None] if request.param == "link and unlink" else [])
    return str(request.param)


def put(queue: Spool, state: State, task_id: str = "task_001", text: str = "description: x\n") -> str:
    return write(queue.path(state, task_id), text)


def everything(queue: Spool) -> dict[str, str]:
    """Every file of the six states, with its content."""
    found = {}
    for state in State:
        for name in os.listdir(f"{queue.tasks}/{state}"):
            path = f"{queue.tasks}/{state}/{name}"
            found[f"{state}/{name}"] = read(path) if os.path.isfile(path) else "(no file)"
    return found


# -- add ----------------------------------------------------------------------------------------


def test_an_added_task_can_be_read_again(queue: Spool) -> None:
    fields = {"description": "Fix it.\nSoon.", "priority": "high", "dependencies": ["a", "b"], "timeout_minutes": 1.5}
    assert queue.add(fields) == "task_001"  # type: ignore[arg-type]
    with open(queue.path(State.PENDING, "task_001"), "rb") as file:
        task = parse(file.read(), "task_001")
    assert (task.id, task.description, task.dependencies) == ("task_001", "Fix it.\nSoon.", ("a", "b"))
    assert queue.add({"description": "x"}) == "task_002"


@pytest.mark.heavy
@pytest.mark.parametrize("unique", [False, True])
def test_ids_from_many_processes_at_once_are_different(queue: Spool, unique: bool) -> None:
    code = f"""
import sys
from orchestrator.spool import Spool
queue = Spool(sys.argv[1])
input()
for n in range(15):
    print(queue.put({{"description": f"{{sys.argv[2]}} {{n}}"}}, unique={unique}))
"""
    ids = [one for out in at_once(code, [(queue.root, str(n)) for n in range(8)]) for one in out.split()]
    assert len(ids) == len(set(ids)) == 120
    assert sorted(os.listdir(f"{queue.tasks}/pending")) == sorted(f"{one}.yaml" for one in ids)
    assert len({read(queue.path(State.PENDING, one)).partition("\n")[2] for one in ids}) == 120
    if not unique:
        assert set(ids) == {f"task_{n:03d}" for n in range(1, 121)}


@pytest.mark.parametrize("hint", [None, "", "many", "0", "3"])
def test_an_id_that_was_used_is_not_given_again_whatever_the_hint_says(queue: Spool, hint: str | None) -> None:
    put(queue, State.COMPLETED, "task_001")
    put(queue, State.REVIEW, "task_002")
    write(f"{queue.archive}/2026-11/failed/task_003.yaml", "description: x\n")
    os.makedirs(queue.run_folder("task_004", 1))
    put(queue, State.ASSIGNED, "task_005")
    if hint is not None:
        write(f"{queue.own}/last_id", hint)
    assert queue.add({"description": "x"}) == "task_006"


def test_an_id_that_a_file_of_another_name_states_is_not_given_again(queue: Spool) -> None:
    write(f"{queue.tasks}/pending/login.yaml", "id: task_001\ndescription: x\n")
    assert queue.add({"description": "x"}) != "task_001"


@pytest.mark.parametrize("state", [State.PENDING, State.ASSIGNED, *ENDED])
def test_a_given_id_that_is_taken_is_refused(queue: Spool, state: State) -> None:
    put(queue, state, "login", "description: his\n")
    with pytest.raises(AlreadyExists):
        queue.add({"id": "login", "description": "mine"})
    assert everything(queue) == {f"{state}/login.yaml": "description: his\n"}


@pytest.mark.parametrize("bad", ["a/b", "..", "a\n", "x_result", " "])
def test_a_given_id_that_is_none_is_refused(queue: Spool, bad: str) -> None:
    with pytest.raises(InvalidTask):
        queue.add({"id": bad, "description": "x"})
    assert everything(queue) == {}


def test_a_full_queue_takes_no_more(queue: Spool) -> None:
    queue.put({"description": "x"}, max_size=2)
    queue.put({"description": "x"}, max_size=2)
    with pytest.raises(QueueFull, match=r"queue\.max_size"):
        queue.put({"description": "x"}, max_size=2)
    assert queue.count(State.PENDING) == 2


def test_an_agent_that_nobody_knows_and_a_root_that_is_none_are_refused(queue: Spool) -> None:
    write(f"{queue.root}/config.yaml", "agents: {codex: {}}\n")
    with pytest.raises(InvalidTask, match="did you mean 'codex'"):
        queue.add("x", preferred_agent="codec")
    with pytest.raises(NotFound, match="no such folder"):
        Spool(f"{queue.root}/nowhere").add("x")
    assert queue.ids(State.PENDING) == []


def test_adding_leaves_no_draft(queue: Spool) -> None:
    queue.add({"description": "x"})
    assert os.listdir(f"{queue.tasks}/.drafts") == []
    assert os.listdir(f"{queue.tasks}/pending") == ["task_001.yaml"]


# -- look ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.yaml", "a.yml", "a b.yaml", "a.tmp.yaml"])
def test_a_task_file_is_seen(queue: Spool, name: str) -> None:
    write(f"{queue.tasks}/pending/{name}", "")
    assert is_task_name(name)
    assert [entry.name for entry in queue.pending_files()] == [name]


@pytest.mark.parametrize(
    "name",
    [
        ".a.yaml",
        "a.yaml~",
        ".a.yaml.swp",
        "a.yaml.tmp",
        "4913",
        "#a.yaml#",
        ".#a.yaml",
        "README.md",
        "a.yaml.bak",
        "a.YAML.part",
    ],
)
def test_side_files_of_editors_are_not(queue: Spool, name: str) -> None:
    write(f"{queue.tasks}/pending/{name}", "")
    assert not is_task_name(name)
    assert list(queue.pending_files()) == []
    assert queue.count(State.PENDING) == 0


def test_a_folder_in_pending_is_seen_because_nobody_would_look_into_it(queue: Spool) -> None:
    os.mkdir(f"{queue.tasks}/pending/more")
    os.mkdir(f"{queue.tasks}/pending/.hidden")
    assert [entry.name for entry in queue.pending_files()] == ["more"]


def test_ids_are_in_natural_order_and_side_files_are_none(queue: Spool) -> None:
    for one in ("task_10", "task_9", "task_9_result", "task_9_agent_01", ".x"):
        put(queue, State.ASSIGNED, one)
    assert queue.ids(State.ASSIGNED) == ["task_9", "task_10"]
    assert queue.count(State.ASSIGNED) == 2
    assert queue.assignments() == {"task_9": ["task_9_agent_01.yaml"]}


def test_a_missing_task_is_told_with_the_nearest_id(queue: Spool) -> None:
    put(queue, State.FAILED, "task_001")
    write(f"{queue.archive}/2026-11/completed/old.yaml", "description: x\n")
    with pytest.raises(NotFound, match=r"task_00l: no such task \(did you mean 'task_001'\?\)"):
        queue.require("task_00l")
    with pytest.raises(NotFound, match="archived as tasks/archive/2026-11/completed/old"):
        queue.require("old")


def test_the_root_is_found_from_below_and_a_given_one_is_not_searched_for(
    queue: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "src" / "deep").mkdir(parents=True)
    monkeypatch.delenv("ORCHESTRATE_ROOT", raising=False)
    monkeypatch.chdir(tmp_path / "src" / "deep")
    assert find_root() == os.path.realpath(tmp_path)
    with pytest.raises(OrchestrateError, match="no queue here"):
        find_root(f"{tmp_path}/src")


# -- move ---------------------------------------------------------------------------------------


def test_a_claim_moves_the_file_as_it_is(queue: Spool, way: str) -> None:
    write(f"{queue.tasks}/pending/fix login.yml", "# mine\ndescription: x\n")
    queue.claim("fix login.yml", "fix_login")
    assert everything(queue) == {"assigned/fix_login.yaml": "# mine\ndescription: x\n"}
    assert queue.state_of("fix_login") is State.ASSIGNED


def test_a_claim_refuses_to_overwrite(queue: Spool, way: str) -> None:
    put(queue, State.PENDING, text="description: new\n")
    put(queue, State.ASSIGNED, text="description: old\n")
    with pytest.raises(FileExistsError):
        queue.claim("task_001.yaml", "task_001")
    assert everything(queue) == {
        "pending/task_001.yaml": "description: new\n",
        "assigned/task_001.yaml": "description: old\n",
    }


def test_a_claim_of_what_is_gone_says_so(queue: Spool, way: str) -> None:
    with pytest.raises(FileNotFoundError):
        queue.claim("task_001.yaml", "task_001")
    assert everything(queue) == {}


@pytest.mark.parametrize("state", ENDED)
def test_a_commit_and_a_release_refuse_to_overwrite(queue: Spool, way: str, state: State) -> None:
    put(queue, State.ASSIGNED, text="description: mine\n")
    put(queue, state, text="description: his\n")
    put(queue, State.PENDING, text="description: another\n")
    os.utime(queue.path(State.PENDING, "task_001"), (0, 0))  # it is not being written
    before = everything(queue)
    with pytest.raises(FileExistsError):
        queue.commit("task_001", state)
    with pytest.raises(FileExistsError):
        queue.release("task_001")
    assert everything(queue) == before


def test_many_claimers_at_once_share_the_tasks(queue: Spool) -> None:
    for n in range(60):
        put(queue, State.PENDING, f"task_{n:03d}", f"description: {n}\n")
    code = """
import sys
from orchestrator.spool import Spool
queue = Spool(sys.argv[1])
input()
for n in range(60):
    try:
        queue.claim(f"task_{n:03d}.yaml", f"task_{n:03d}")
        print(n)
    except (FileNotFoundError, FileExistsError):
        pass
"""
    claimed = [int(n) for out in at_once(code, [(queue.root,)] * 4) for n in out.split()]
    assert sorted(claimed) == list(range(60))
    assert everything(queue) == {f"assigned/task_{n:03d}.yaml": f"description: {n}\n" for n in range(60)}


def test_a_move_that_the_table_does_not_have_is_no_move(queue: Spool) -> None:
    assert set(MOVES) == set(State)
    put(queue, State.ASSIGNED)
    for state in (State.ASSIGNED,):
        with pytest.raises(AssertionError):
            queue.commit("task_001", state)


def test_a_result_has_its_name_twice_and_a_second_time_does_no_harm(queue: Spool) -> None:
    first = write(f"{queue.run_folder('task_001', 1)}/result.yaml", "run: 1\n")
    second = write(f"{queue.run_folder('task_001', 2)}/result.yaml", "run: 2\n")
    target = queue.result_path(State.REVIEW, "task_001")
    queue.place_result("task_001", State.REVIEW, first)
    queue.place_result("task_001", State.REVIEW, first)
    assert read(target) == "run: 1\n"
    queue.place_result("task_001", State.REVIEW, second)
    queue.sync()
    assert (read(target), read(first), read(second)) == ("run: 2\n", "run: 1\n", "run: 2\n")


def test_an_assignment_says_who_has_it_until_nobody_has(queue: Spool) -> None:
    queue.assign("task_001", "agent_02", "claude", 3, "2025-01-15T10:00:00Z")
    queue.sync()
    assert "agent_id: agent_02\nagent_type: claude\n" in read(queue.assignment_path("task_001", "agent_02"))
    queue.assign("task_001", "agent_02", "claude", 4, "2025-01-15T10:00:00Z")  # whatever a mishap left there
    queue.sync()
    assert "run: 4\n" in read(queue.assignment_path("task_001", "agent_02"))
    queue.unassign("task_001", "agent_02")
    queue.unassign("task_001", "agent_02")
    assert everything(queue) == {}


def test_a_note_that_a_power_cut_tore_speaks_of_no_other_run(queue: Spool) -> None:
    """Its name may come to the disk before its data."""
    path = queue.assignment_path("task_001", "agent_02")
    queue.assign("task_001", "agent_02", "claude", 12, "2025-01-15T10:00:00Z", boot="this")
    content = read(path)
    assert assigned_run(path) == ("agent_02", "claude", 12)
    found = {assigned_run(write(path, content[:size]))[2] for size in range(len(content))}
    assert found == {0, 12}
    queue.sync()


# -- reject -------------------------------------------------------------------------------------

GARBAGE = b"\xff\xfe\0 not: [a task\r\n"


def test_a_copy_of_what_has_ended_is_neither_cancelled_nor_in_the_way_of_a_retry(queue: Spool) -> None:
    for task_id, state, copy in (
        ("done", State.COMPLETED, "x\n"), ("back", State.FAILED, "x\n"), ("other", State.FAILED, "y\n")
    ):  # fmt: skip
        write(queue.path(state, task_id), "description: x\n")
        write(queue.path(State.PENDING, task_id), f"description: {copy}")
        assert queue.state_of(task_id) is state
    with pytest.raises(Refused):
        queue.cancel_waiting("done", b"")
    queue.retry("back")
    assert queue.state_of("back") is State.PENDING
    with pytest.raises(Refused, match="holds another file"):
        queue.retry("other")
    assert read(queue.path(State.FAILED, "other")) == "description: x\n"


def test_a_copy_that_came_back_while_it_ran_is_the_same_task_and_other_bytes_are_refused(queue: Spool) -> None:
    for task_id, copy in (("same", "description: x\n"), ("other", "description: y\n")):
        write(queue.path(State.ASSIGNED, task_id), "description: x\n")
        os.utime(write(queue.path(State.PENDING, task_id), copy), (0, 0))  # it is not being written
    queue.release("same")
    assert queue.state_of("same") is State.PENDING and not os.path.exists(queue.path(State.ASSIGNED, "same"))
    with pytest.raises(FileExistsError):
        queue.release("other")
    assert read(queue.path(State.ASSIGNED, "other")) == "description: x\n"
    assert read(queue.path(State.PENDING, "other")) == "description: y\n"


def test_a_copy_that_git_is_just_writing_is_the_same_task_when_it_is_whole(queue: Spool) -> None:
    write(queue.path(State.ASSIGNED, "same"), "description: x\n")
    copy = write(queue.path(State.PENDING, "same"), "")
    writer = threading.Timer(0.05, lambda: Path(copy).write_text("description: x\n"))
    writer.start()
    queue.release("same")
    writer.join()
    assert everything(queue) == {"pending/same.yaml": "description: x\n"}


def test_rejecting_keeps_the_bytes_and_writes_a_reason_of_one_line(queue: Spool, way: str) -> None:
    path = write(f"{queue.tasks}/pending/a b.yaml", GARBAGE)
    target = queue.reject(path, State.PENDING, "is not UTF-8 (byte 0); save it as UTF-8")
    queue.sync()
    assert target == f"{queue.tasks}/rejected/a b.yaml"
    with open(target, "rb") as file:
        assert file.read() == GARBAGE
    assert read(target + ".reason.txt") == "tasks/pending/a b.yaml: is not UTF-8 (byte 0); save it as UTF-8\n"
    assert sorted(os.listdir(f"{queue.tasks}/rejected")) == ["a b.yaml", "a b.yaml.reason.txt"]
    assert os.listdir(f"{queue.tasks}/pending") == []


@pytest.mark.parametrize("name", ["a\nb.yaml", "a\x1b[2J.yaml", "a\udcff.yaml", "a\u202eb.yaml"])
def test_a_reason_stays_one_printable_line_whatever_the_name(queue: Spool, name: str) -> None:
    path = f"{queue.tasks}/pending/{name}"
    write(path, "x")
    target = queue.reject(path, State.PENDING, "is empty")
    queue.sync()
    assert os.path.basename(target) == name
    assert read(target + ".reason.txt").removesuffix("\n").isprintable()


def test_rejected_files_of_one_name_are_all_kept(queue: Spool, way: str) -> None:
    targets = []
    for n in range(12):
        path = write(f"{queue.tasks}/pending/a.yaml", f"content {n}")
        targets.append(queue.reject(path, State.PENDING, f"reason {n}"))
        queue.sync()
    assert [read(target) for target in targets] == [f"content {n}" for n in range(12)]
    assert [read(target + ".reason.txt") for target in targets] == [
        f"tasks/pending/a.yaml: reason {n}\n" for n in range(12)
    ]
    assert targets[1].endswith("/a.2.yaml")


@pytest.mark.parametrize("kept", ["tasks/pending/a.yaml: new\n", ""])
def test_a_reason_of_which_a_power_cut_took_the_file_back_is_used(queue: Spool, kept: str) -> None:
    write(f"{queue.tasks}/rejected/a.yaml.reason.txt", kept)
    target = queue.reject(write(f"{queue.tasks}/pending/a.yaml", "x"), State.PENDING, "new")
    queue.sync()
    assert target.endswith("/a.yaml") and read(f"{target}.reason.txt") == "tasks/pending/a.yaml: new\n"


def test_a_reason_that_is_there_is_not_overwritten_though_its_file_is_gone(queue: Spool) -> None:
    write(f"{queue.tasks}/rejected/a.yaml.reason.txt", "old\n")
    target = queue.reject(write(f"{queue.tasks}/pending/a.yaml", "x"), State.PENDING, "new")
    queue.sync()
    assert target.endswith("/a.2.yaml")
    assert read(f"{queue.tasks}/rejected/a.yaml.reason.txt") == "old\n"


def test_rejected_folders_of_one_name_are_all_kept_in_sight(queue: Spool) -> None:
    targets = []
    for _ in range(2):
        os.mkdir(f"{queue.tasks}/pending/more")
        targets.append(queue.reject(f"{queue.tasks}/pending/more", State.PENDING, "is a folder"))
        queue.sync()
    assert all(os.path.isdir(target) for target in targets)
    assert [name for name in os.listdir(f"{queue.tasks}/rejected") if name.startswith(".")] == []


def test_a_rejected_file_has_a_reason_however_long_its_name_is(queue: Spool) -> None:
    path = write(f"{queue.tasks}/pending/{'x' * 250}.yaml", "x")
    target = queue.reject(path, State.PENDING, "is no mapping")
    queue.sync()
    assert read(target) == "x"
    reasons = [name for name in os.listdir(f"{queue.tasks}/rejected") if name.endswith(".reason.txt")]
    assert len(reasons) == 1


# -- what a person says -------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.FAILED, State.REVIEW])
def test_retry_brings_a_task_back_with_the_persons_words(queue: Spool, way: str, state: State) -> None:
    put(queue, state)
    folder = queue.run_folder("task_001", 2)
    write(f"{folder}/result.yaml", "run: 2\n")
    queue.place_result("task_001", state, f"{folder}/result.yaml")
    queue.retry("task_001", "mind the gap")
    assert everything(queue) == {"pending/task_001.yaml": "description: x\n"}
    assert (read(f"{folder}/retried"), read(f"{folder}/result.yaml")) == ("mind the gap", "run: 2\n")


@pytest.mark.parametrize(("state", "words"), [(State.COMPLETED, "is completed"), (State.ASSIGNED, "is running")])
def test_retry_refuses_what_is_completed_or_runs(queue: Spool, state: State, words: str) -> None:
    put(queue, state)
    write(f"{queue.run_folder('task_001', 1)}/result.yaml", "run: 1\n")
    with pytest.raises(Refused, match=words):
        queue.retry("task_001")
    assert queue.state_of("task_001") is state
    assert os.listdir(queue.run_folder("task_001", 1)) == ["result.yaml"]


def test_retry_of_a_waiting_task_says_so_in_its_last_run(queue: Spool) -> None:
    put(queue, State.PENDING)
    os.makedirs(queue.run_folder("task_001", 1))
    os.makedirs(queue.run_folder("task_001", 10))
    queue.retry("task_001", "now")
    assert read(f"{queue.run_folder('task_001', 10)}/retried") == "now"
    assert os.listdir(queue.run_folder("task_001", 1)) == []
    with pytest.raises(NotFound):
        queue.retry("task_002")


def test_cancelling_a_waiting_task_ends_it_with_a_result(queue: Spool, way: str) -> None:
    put(queue, State.PENDING)
    queue.cancel_waiting("task_001", b"status: cancelled\n")
    assert everything(queue) == {
        "failed/task_001.yaml": "description: x\n",
        "failed/task_001_result.yaml": "status: cancelled\n",
    }


def test_cancelling_a_task_in_review_takes_its_old_verdict_away(queue: Spool) -> None:
    put(queue, State.REVIEW)
    write(queue.result_path(State.REVIEW, "task_001"), "status: stuck\n")
    queue.cancel_waiting("task_001", b"status: cancelled\n")
    assert everything(queue) == {
        "failed/task_001.yaml": "description: x\n",
        "failed/task_001_result.yaml": "status: cancelled\n",
    }


@pytest.mark.parametrize("state", [State.ASSIGNED, State.COMPLETED, State.FAILED])
def test_what_does_not_wait_cannot_be_cancelled_so(queue: Spool, state: State) -> None:
    put(queue, state)
    with pytest.raises(Refused):
        queue.cancel_waiting("task_001", b"x")
    assert everything(queue) == {f"{state}/task_001.yaml": "description: x\n"}


def test_cancelling_does_not_overwrite_the_verdict_on_another_task_of_that_id(queue: Spool) -> None:
    put(queue, State.FAILED, text="description: old\n")
    write(queue.result_path(State.FAILED, "task_001"), "status: agent_error\n")
    put(queue, State.PENDING, text="description: new\n")
    before = everything(queue)
    with pytest.raises(OrchestrateError):
        queue.cancel_waiting("task_001", b"status: cancelled\n")
    assert everything(queue) == before


def test_drafts_of_dead_writers_are_swept_from_every_folder(queue: Spool) -> None:
    for folder in (f"{queue.tasks}/.drafts", f"{queue.tasks}/pending", f"{queue.tasks}/failed", queue.own):
        write(f"{folder}/.999999999-18f0-abcdef.tmp", "left")
    assert queue.sweep_drafts(0.0) == 4
    assert everything(queue) == {}


def test_a_waiting_task_is_known_by_the_id_it_states(queue: Spool) -> None:
    write(f"{queue.tasks}/pending/login.yaml", "id: task_x\ndescription: x\n")
    assert queue.require("task_x") is State.PENDING
    queue.retry("task_x")
    queue.cancel_waiting("task_x", b"status: cancelled\n")
    assert read(queue.path(State.FAILED, "task_x")) == "id: task_x\ndescription: x\n"


def test_a_cancel_that_comes_too_late_leaves_no_result(queue: Spool) -> None:
    queue.put({"id": "a", "description": "x"})
    os.rename(queue.path(State.PENDING, "a"), f"{queue.tasks}/pending/a.yaml.gone")
    write(f"{queue.tasks}/pending/b.yaml", "id: a\ndescription: x\n")
    os.unlink(f"{queue.tasks}/pending/b.yaml")
    with pytest.raises(NotFound):
        queue.cancel_waiting("a", b"status: cancelled\n")
    assert not os.path.exists(queue.result_path(State.FAILED, "a"))
