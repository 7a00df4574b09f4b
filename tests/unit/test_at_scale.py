"""What a command opens does not grow with what waits; and many are added as one is."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest
from helpers import REPOSITORY, read, write

from orchestrator import TaskQueue, adding, apart, counting, files, ids, offers, places, task
from orchestrator.cli import intake as checks
from orchestrator.cli import waits
from orchestrator.cli.views import Views
from orchestrator.errors import AlreadyExists, InvalidTask, NotFound, OrchestrateError, QueueFull
from orchestrator.spool import Spool
from orchestrator.states import State

pytestmark = pytest.mark.fast

# What each of these commands opens and lists below the root.
WATCHED = """
import contextlib, io, json, os, sys
root, seen, found = os.getcwd(), [], []
def hear(name, told):
    if name in ("open", "os.listdir", "os.scandir") and isinstance(told[0], str) and os.path.abspath(told[0]).startswith(root):
        seen.append(name + " " + os.path.relpath(told[0], root))
sys.addaudithook(hear)
from orchestrator.cli import main
for words in json.load(sys.stdin):
    sys.argv = ["orchestrate", *words]
    seen.clear()
    with contextlib.redirect_stdout(io.StringIO()):
        code = main()
    found.append([code, *seen])
json.dump(found, sys.stdout)
"""


def opened(root: str, commands: list[list[str]]) -> list[list[str]]:
    """What each command opens of the queue."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "ORCHESTRATE"))}
    said = subprocess.run(
        [sys.executable, "-c", WATCHED], capture_output=True, text=True, cwd=root, input=json.dumps(commands),
        env={**plain, "PYTHONPATH": REPOSITORY}, check=True,
    )  # fmt: skip
    found = json.loads(said.stdout)
    assert [one[0] for one in found] == [0] * len(commands), said.stderr
    return [one[1:] for one in found]


def fill(queue: Spool, first: int, last: int) -> None:
    """Dropped by hand, and half of them by a name that no program gives."""
    for number in range(first, last):
        name = f"task_{number:03d}" if number % 2 else f"drop_{number:03d}"
        write(f"{queue.tasks}/pending/{name}.yaml", "description: x\nrun: 'true'\ndependencies: [gate]\n")


@pytest.mark.heavy
def test_a_command_opens_no_more_when_more_waits(queue: Spool) -> None:
    write(f"{queue.root}/config.yaml", "queue: {max_size: 5000}\nagents: {shell: {}}\n")
    write(queue.path(State.FAILED, "gate"), "description: x\n")
    commands = [
        ["status"],
        ["show", "task_001"],
        ["show", "drop_002"],
        ["why", "task_001"],
        ["why", "drop_002"],
        ["retry", "task_001"],
        ["tasks", "--limit", "5"],
        ["tasks", "--status", "pending", "--offset", "7", "--limit", "5"],
        ["add", "x"],
        ["add", "x", "--id"],
        ["cancel"],
    ]

    def all_opened(name: str) -> list[list[str]]:
        return opened(queue.root, [["status"], *commands[:-2], [*commands[-2], name], ["cancel", name]])[1:]

    fill(queue, 1, 1100)
    few = all_opened("one")
    fill(queue, 1100, 1400)
    many = all_opened("another")
    for words, before, after in zip(commands, few, many, strict=True):
        assert len(after) <= len(before) + 1 and len(before) < 60, (words, before)


# -- one id -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "task_id"),
    [
        ("login.yaml", "id: fix_it\ndescription: x\n", "fix_it"),
        ("login.yaml", '{"description": "x", "id": "fix_it"}', "fix_it"),
        ("login.yaml", "description: x\nid:   'fix_it'  # his\n", "fix_it"),
        ("login.yaml", "description: x\nid: # his # and mine\n  fix_it\n", "fix_it"),
        ("login.yaml", "id: >-\n  fix_it\ndescription: x\n", "fix_it"),
        ("login.yaml", "? id\n: fix_it\ndescription: x\n", "fix_it"),
        ("login.yml", "description: x\n", "login"),
        ("my login.yaml", "description: x\n", "my_login"),
        ("task_007.yaml", "description: x\n", "task_007"),
    ],
)
def test_a_task_is_found_whatever_its_file_is_called(queue: Spool, name: str, content: str, task_id: str) -> None:
    os.mkfifo(f"{queue.tasks}/pending/pipe.yaml")
    os.mkdir(f"{queue.tasks}/pending/folder.yaml")
    os.symlink("nowhere", f"{queue.tasks}/pending/link.yaml")
    write(f"{queue.tasks}/pending/garbage.yaml", b"fix_it my_login \xff\0\n")
    write(f"{queue.tasks}/pending/other.yaml", "description: |\n  as in\n  id: fix_it\n")
    write(f"{queue.tasks}/pending/{name}", content)
    assert ids.file_of(queue, task_id) == name
    assert Views(queue.root).show(task_id)["file"] == f"tasks/pending/{name}"
    queue.cancel_waiting(task_id, b"task_id: x\n")
    assert read(queue.path(State.FAILED, task_id)) == content


def test_a_file_that_states_another_id_is_not_the_one_of_its_name(queue: Spool) -> None:
    write(f"{queue.tasks}/pending/a.yaml", "id: b\ndescription: this is b\n")
    write(f"{queue.tasks}/pending/z.yaml", "id: a\ndescription: this is a\n")
    assert ids.file_of(queue, "a") == "z.yaml" and ids.file_of(queue, "b") == "a.yaml"
    assert Views(queue.root).show("a")["task"]["description"] == "this is a"


def test_an_id_in_other_case_is_another(queue: Spool) -> None:
    write(f"{queue.tasks}/pending/Login.yaml", "description: x\n")
    assert ids.file_of(queue, "login") == ""
    with pytest.raises(NotFound, match="did you mean 'Login'"):
        queue.require("login")


def test_a_page_of_tasks_that_wait_for_one_that_is_nowhere_reads_each_once(
    queue: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        write(f"{queue.tasks}/pending/drop_{number:02d}.yaml", f"id: d{number}\ndescription: x\ndependencies: [gone]\n")
    parsed: list[str] = []
    monkeypatch.setattr(task, "parse", lambda content, stem: parsed.append(stem))  # what a search for an id parses
    rows = [row["reason"] for row in Views(queue.root).page({"pending"})[0]]
    assert len(rows) == 40 and all("gone" in reason for reason in rows) and parsed == []


def test_what_a_page_waits_for_is_searched_once_for_all_of_it(queue: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.cli import views

    monkeypatch.setattr(views, "IN_ORDER", 10)  # so that they are not all read
    for number in range(30):
        content = f"description: x\ndependencies: [gone_{number}, was_{number}, d{number}]\n"
        write(f"{queue.tasks}/pending/a{number:02d}.yaml", content)
        write(f"{queue.tasks}/pending/drop_{number:02d}.yaml", f"id: d{number}\ndescription: x\n")
        write(f"{queue.tasks}/rejected/was_{number}.yaml", "x")
        write(f"{queue.tasks}/rejected/was_{number}.yaml.reason.txt", f"was_{number}.yaml: no task\n")
    looked: list[str] = []
    head, names = ids._head, places.Places.names
    monkeypatch.setattr(ids, "_head", lambda path: looked.append(path) or head(path))
    monkeypatch.setattr(places.Places, "names", lambda self, state: looked.append(str(state)) or names(self, state))
    rows = Views(queue.root).page({"pending"}, None, 0, 30)[0]
    assert [row["reason"] for row in rows] == [
        f"waits for d{n} (waiting), gone_{n} (no such task), was_{n} (rejected: no task)" for n in range(30)
    ]
    assert len(looked) == len(set(looked)) + 1  # pending/ is listed for the page, too


def test_tasks_are_listed_without_a_search_for_each_file(queue: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        write(f"{queue.tasks}/pending/drop_{number:02d}.yaml", f"id: d{number}\ndescription: x\n")
    monkeypatch.setattr(ids, "file_of", None)
    desk = TaskQueue(queue.root)
    assert len(desk.list_tasks()) == len(desk.query_tasks({"created_after": 1, "status": "pending"})) == 40


def test_what_is_claimed_while_all_are_validated_is_no_problem(queue: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        write(f"{queue.tasks}/pending/{name}.yaml", "description: x\n")
    parse = checks.parse

    def claiming(content: bytes, stem: str) -> task.Task:
        os.rename(queue.path(State.PENDING, "b"), queue.path(State.ASSIGNED, "b")) if stem == "a" else None
        return parse(content, stem)

    monkeypatch.setattr(checks, "parse", claiming)
    assert checks.check_files(queue.root, []) == ([], 2)
    assert checks.check_files(queue.root, [queue.path(State.PENDING, "b")])[0][0][1] == os.strerror(errno.ENOENT)


def test_very_many_are_validated_as_few_are(queue: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):  # a long chain, no file of which is followed to its end for each
        write(f"{queue.tasks}/pending/c{number:02d}.yaml", f"description: x\ndependencies: [c{number + 1:02d}]\n")
    for name, other in (("ring_a", "ring_c"), ("ring_b", "ring_a"), ("ring_c", "ring_b"), ("self", "self")):
        write(f"{queue.tasks}/pending/{name}.yaml", f"description: x\ndependencies: [{other}]\n")
    for name, path in (
        ("used", queue.path(State.COMPLETED, "used")),
        ("old", f"{queue.archive}/2026-01/failed/old.yaml"),
    ):
        write(path, "description: his\n")
        write(f"{queue.tasks}/pending/{name}.yaml", "description: x\n")
    few = checks.check_files(queue.root, [])
    assert [os.path.basename(path) for path, _ in few[0]] == ["old.yaml", "ring_c.yaml", "self.yaml", "used.yaml"]
    monkeypatch.setattr(checks, "MANY", 10)
    looked, cycle = list[str](), checks._cycle
    monkeypatch.setattr(checks, "_cycle", lambda start, edges: looked.append(start) or cycle(start, edges))
    monkeypatch.setattr(
        Spool, "state_of", lambda self, one, state_of=Spool.state_of: looked.append(one) or state_of(self, one)
    )
    assert checks.check_files(queue.root, []) == few
    assert {"old", "used", "ring_c"} <= set(looked) and not {"c00", "ring_a"} & set(looked)


def test_of_very_many_that_are_waited_for_who_has_ended_is_seen(queue: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        write(f"{queue.tasks}/pending/drop_{number}.yaml", f"id: d{number}\ndescription: x\n")
        write(queue.path(State.PENDING, f"t{number}"), "description: x\n")
    monkeypatch.setattr(waits, "MANY", 10)
    index = Views.waiting

    def ending(views: Views) -> object:
        found = index(views)
        for name in ("t3.yaml", "drop_5.yaml"):  # as soon as it is known who waits
            if os.path.exists(f"{queue.tasks}/pending/{name}"):
                os.rename(f"{queue.tasks}/pending/{name}", queue.path(State.COMPLETED, name[0] + name[-6]))
        return found

    monkeypatch.setattr(Views, "waiting", ending)
    code, rows = waits.wait_for(queue.root, [], 0.0, quiet=True)
    assert code == 124 and len(rows) == 16
    assert [row["task_id"] for row in rows if row["state"] == "completed"] == ["d5", "t3"]
    looked: list[str] = []
    monkeypatch.setattr(
        Spool, "state_of", lambda self, one, state_of=Spool.state_of: looked.append(one) or state_of(self, one)
    )
    assert waits._here(queue, [row["task_id"] for row in rows]) == {row["task_id"] for row in rows} - {"d5", "t3"}
    assert looked == []


def test_who_has_little_time_is_not_told_why_each_of_many_waits(queue: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        write(f"{queue.tasks}/pending/t{number:02d}.yaml", "description: x\ndependencies: [gone]\n")
    few = waits.wait_for(queue.root, [], 0.0, quiet=True)
    assert few[0] == 124 and all("gone" in row["reason"] for row in few[1])
    monkeypatch.setattr(waits, "MANY", 10)
    monkeypatch.setattr(Views, "why", None)
    code, rows = waits.wait_for(queue.root, [], 0.0, quiet=True)
    assert code == 124 and [row["task_id"] for row in rows] == [row["task_id"] for row in few[1]]


# -- many at once -----------------------------------------------------------------------------------


def roomy(root: str, size: int = 5000) -> TaskQueue:
    write(f"{root}/config.yaml", f"queue: {{max_size: {size}}}\n")
    return TaskQueue(root)


def test_many_tasks_are_added_as_each_would_be(queue: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adding, "GROUP", 10)
    monkeypatch.setattr(adding, "AT_ONCE", 4)
    desk = roomy(queue.root)
    rows = [
        "Fix it",
        {"content": "more\nlines\n", "priority": "high"},
        {"id": "mine", "description": "ünï \x07 ", "dependencies": ["task_001"], "max_retries": 0},
        *({"description": f"number {n}", "run": "true", "subtasks": ["a: b", "- c"]} for n in range(30)),
    ]
    found = desk.create_tasks(rows)
    assert found[:4] == ["task_001", "task_002", "mine", "task_003"] and len(set(found)) == 33
    other = Spool(f"{queue.root}/other")
    os.makedirs(other.root)
    assert [other.add(row) for row in rows] == found
    for one in found:
        assert read(desk.path(State.PENDING, one)) == read(other.path(State.PENDING, one))
    assert os.listdir(f"{queue.tasks}/.drafts") == []
    told = read(f"{queue.own}/events/{os.listdir(f'{queue.own}/events')[0]}").splitlines()
    assert [json.loads(line)["task_id"] for line in told] == found


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"description": "x", "priority": "urgent"}, InvalidTask),
        ({"description": "x", "preferred_agent": "nobody"}, InvalidTask),
        ({"description": "x", "subtasks": [["a"]]}, InvalidTask),
        ({"id": "same", "description": "x"}, AlreadyExists),
    ],
)
def test_of_many_with_a_wrong_one_none_is_added(queue: Spool, wrong: dict[str, object], kind: type[Exception]) -> None:
    write(f"{queue.root}/config.yaml", "agents: {shell: {}}\n")
    with pytest.raises(kind):
        TaskQueue(queue.root).create_tasks(["one", {"id": "same", "description": "x"}, wrong])  # type: ignore[list-item]
    assert os.listdir(f"{queue.tasks}/pending") == []


def test_many_for_which_there_is_no_room_are_refused(queue: Spool) -> None:
    desk = roomy(queue.root, 10)
    desk.create_tasks(["x"] * 7)
    with pytest.raises(QueueFull, match="nothing was added"):
        desk.create_tasks(["x"] * 4)
    assert desk.create_tasks(["x"] * 3)[-1] == "task_010" and desk.create_tasks([]) == []


def test_a_disk_that_fails_on_the_way_is_told_with_how_many_were_added(
    queue: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adding, "GROUP", 4)
    write(f"{queue.tasks}/pending/b.yaml", "description: his\n")
    desk = roomy(queue.root)
    rows = [{"description": "x"}] * 5 + [{"id": "b", "description": "mine"}]
    with pytest.raises(OrchestrateError, match=r"b: a task of that id exists \(pending.*the first 4 of 6"):
        desk.create_tasks(rows)
    assert sorted(os.listdir(f"{queue.tasks}/pending")) == ["b.yaml", *(f"task_{n:03d}.yaml" for n in range(1, 5))]
    assert os.listdir(f"{queue.tasks}/.drafts") == []


def test_a_disk_that_is_full_in_the_middle_leaves_no_drafts(queue: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    write_draft, room = files.write_draft, iter(range(3))

    def full(folder: str, content: bytes, mode: int = 0o644) -> tuple[int, str]:
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)
        return write_draft(folder, content, mode)

    monkeypatch.setattr(files, "write_draft", full)
    with pytest.raises(OSError, match="No space left"):
        roomy(queue.root).create_tasks(["x"] * 5)
    assert os.listdir(f"{queue.tasks}/.drafts") == os.listdir(f"{queue.tasks}/pending") == []


@pytest.mark.parametrize("hint", ["", "200 150", "200 many", "7 7 7"])
def test_a_queue_with_many_is_as_full_as_one_with_few(queue: Spool, monkeypatch: pytest.MonkeyPatch, hint: str) -> None:
    monkeypatch.setattr(ids, "FEW", 5)
    for number in range(20):
        write(f"{queue.tasks}/pending/drop_{number}.yaml", "description: x\n")
    write(f"{queue.own}/room", hint)
    for _ in range(10):
        queue.put({"description": "x"}, max_size=30)
    with pytest.raises(QueueFull):
        queue.put({"description": "x"}, max_size=30)
    os.unlink(f"{queue.tasks}/pending/drop_0.yaml")
    assert queue.put({"description": "x"}, max_size=30) == "task_011"
    with pytest.raises(QueueFull):
        queue.put({"description": "x"}, max_size=30)


def test_while_many_wait_an_id_that_somebody_read_in_another_file_is_not_given_again(
    queue: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "FEW", 5)
    for number in range(10):
        write(f"{queue.tasks}/pending/drop_{number}.yaml", f"id: task_{number + 1:03d}\ndescription: x\n")
    desk = roomy(queue.root)
    desk.register_agent("w")
    assert len(desk.poll_tasks("w", limit=50)) == 10  # whoever reads them says so
    assert queue.add("x") == desk.create_task("x").replace("12", "11") == "task_011"


def test_a_hint_that_is_far_behind_is_put_right(queue: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "FEW", 5)
    for number in range(1, 40):
        write(f"{queue.tasks}/pending/task_{number:03d}.yaml", "description: x\n")
    write(f"{queue.own}/last_id", "3")
    looked = []
    monkeypatch.setattr(ids, "_used", lambda queue, one: looked.append(one) or os.path.exists(queue.path(State.PENDING, one)))  # fmt: skip
    assert queue.add("x") == "task_040" and len(looked) < 10


ENDS, KINDS = ("yaml", "yml", "yaml.swp", "txt"), (".yaml", "_result.yaml", ".txt")


def test_a_very_long_folder_is_counted_as_a_short_one(queue: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(600):  # names of many lengths: between them, the kernel leaves what lay there
        write(f"{queue.tasks}/pending/{'x' * (number % 50)}{number}.{ENDS[number % 4]}", "")
        write(f"{queue.tasks}/completed/{'x' * (number % 50)}{number}{KINDS[number % 3]}", "")
    for again in range(2):
        assert [queue.count(state) for state in (State.PENDING, State.COMPLETED, State.FAILED)] == [300, 200, 0]
        monkeypatch.setattr(places, "LONG", 1)
        monkeypatch.setattr(counting, "BUFFER", 1 << (10 + again))
    if sys.platform == "linux":
        monkeypatch.setattr(os, "listdir", lambda path: pytest.fail(f"{path} was listed"))
        assert queue.count(State.PENDING) == 300


# -- claims -----------------------------------------------------------------------------------------


def test_a_claim_of_a_worker_reads_no_more_than_it_needs(queue: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(300):
        content = f"description: x\npriority: {'high' if number == 250 else 'low'}\n"
        write(f"{queue.tasks}/pending/t{number:03d}.yaml", content)
    monkeypatch.setattr(offers, "SLICE_SECONDS", 0.0)  # one file at a time
    desk = TaskQueue(queue.root)
    desk.register_agent("w", (), {"max_concurrent_tasks": 100})
    read_bytes, seen = apart.read_bytes, []
    monkeypatch.setattr(apart, "read_bytes", lambda path, **how: seen.append(path) or read_bytes(path, **how))
    assert desk.assign_task("t123", "w").task_id == "t123" and len(set(seen)) < 5
    assert desk.claim_tasks("w")[0].task_id == "t250" and len(set(seen)) < 10
    assert desk.claim_tasks("w", 3)[0].task_id == "t000" and len(set(seen)) < 20
    made = desk.create_task("at once", priority="high")
    assert desk.claim_tasks("w")[0].task_id == made and len(set(seen)) < 25
    assert len(desk.poll_tasks("w", limit=1000)) + len(os.listdir(f"{queue.tasks}/assigned")) // 2 == 301


# -- pages ------------------------------------------------------------------------------------------


def test_a_page_of_many_is_by_name_and_reads_only_itself(queue: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator import looking
    from orchestrator.cli import views

    names = [f"t{number:02d}" for number in range(30)]
    for number, name in enumerate(names):
        write(f"{queue.tasks}/pending/{name}.yaml", f"description: x\npriority: {'high' if number > 25 else 'low'}\n")
    write(f"{queue.tasks}/pending/t05.yaml", "nothing: x\n")
    few = [row["task_id"] for row in Views(queue.root).page({"pending"})[0]]
    assert few == [*names[26:], *(one for one in names[:26] if one != "t05"), "t05.yaml"]
    for module in (looking, views):
        monkeypatch.setattr(module, "IN_ORDER", 10)
    rows, more = Views(queue.root).page({"pending"}, None, 4, 3)
    assert [row["task_id"] for row in rows] == ["t04", "t05.yaml", "t06"] and more
    assert rows[1]["reason"].startswith("will be rejected: line 1: unknown key")
    high, more = Views(queue.root).page({"pending"}, lambda row: row["priority"] == "high", 0, 10)
    assert [row["task_id"] for row in high] == names[26:] and not more
    assert [one.task_id for one in TaskQueue(queue.root).query_tasks({"status": "pending", "limit": 2})] == names[:2]
    assert [one.task_id for one in TaskQueue(queue.root).list_tasks("pending")] == [n for n in names if n != "t05"]


def test_of_what_has_ended_a_page_is_the_newest(queue: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.cli import views

    for number in range(12):
        write(queue.path(State.COMPLETED, f"t{number:02d}"), "description: x\n")
        when = f"2026-01-{1 + (number * 5) % 12:02d}T00:00:00Z"  # t00, t05, t10, … t02, t07
        path = queue.result_path(State.COMPLETED, f"t{number:02d}")
        write(path, f"task_id: t{number:02d}\nstatus: success\ncompleted_at: {when}\n")
        os.utime(path, (1 + (number * 5) % 12,) * 2)
    for many in (False, True):
        if many:
            monkeypatch.setattr(views, "IN_ORDER", 2)
        rows, more = Views(queue.root).page({"pending", "completed"}, None, 0, 3)
        assert [row["task_id"] for row in rows] == ["t02", "t07", "t09"] and more
        rows, more = Views(queue.root).page({"completed"}, None, 9, 3)
        assert [row["since"][8:10] for row in rows] == ["01", "02", "03"] and not more
        rows, more = Views(queue.root).page({"completed"}, None, 11, 3)
        assert [row["task_id"] for row in rows] == ["t00"] and not more
        rows, more = Views(queue.root).page({"pending", "completed"}, None, 11, 10**30)
        assert [row["task_id"] for row in rows] == ["t00"] and not more
