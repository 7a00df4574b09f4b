"""Many tasks at once: durable in few rounds and in the order of one, and none bears an id that was used."""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Callable, Sequence

import pytest
from helpers import read, write

from orchestrator import TaskQueue, disk, ids, syncing
from orchestrator.adding import MANY
from orchestrator.errors import InvalidTask
from orchestrator.spool import Spool

pytestmark = pytest.mark.fast


def whole(folder: str) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)


@pytest.mark.parametrize("is_whole", [True, False])
def test_many_are_on_the_disk_before_they_have_names_and_their_names_before_anyone_is_told(
    queue: Spool, monkeypatch: pytest.MonkeyPatch, is_whole: bool
) -> None:
    seen: list[
        tuple[str, int, int]
    ] = []  # what is synced, how many have names by then, how many whole drafts there are

    def note(what: str) -> None:
        drafts = [read(f"{queue.tasks}/.drafts/{name}") for name in os.listdir(f"{queue.tasks}/.drafts")]
        assert all(one.endswith("description: x\n") for one in drafts)
        seen.append((what, len(os.listdir(f"{queue.tasks}/pending")), len(drafts)))

    def begin(fds: Sequence[int]) -> Callable[[], None]:
        return lambda: note(f"{len(fds)} files")

    monkeypatch.setattr(syncing, "open_whole", whole if is_whole else lambda folder: None)
    monkeypatch.setattr(syncing, "wait_whole", lambda fd: note("the file system"))
    monkeypatch.setattr(syncing, "begin", begin)
    monkeypatch.setattr(disk, "sync", lambda fd: note(os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))))
    open_files = len(os.listdir("/proc/self/fd"))
    assert len(TaskQueue(queue.root).create_tasks(["x"] * MANY)) == MANY
    assert seen == [("the file system" if is_whole else f"{MANY} files", 0, MANY), ("pending", MANY, 0)]
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_what_no_agent_of_that_name_ever_does_is_refused(queue: Spool) -> None:
    config = "agents: {claude: {}, mine: {command: cat}, sh: {adapter: shell}, shell: {adapter: command, command: cat}}"
    write(f"{queue.root}/config.yaml", config)
    desk = TaskQueue(queue.root)
    for agent in ("claude", "mine", "research", "shell"):
        with pytest.raises(InvalidTask, match=f"has a 'run:' script, which agent '{agent}' never runs; .* name sh$"):
            desk.add({"run": "true", "preferred_agent": agent})
    with pytest.raises(
        InvalidTask, match="task 2: agent 'sh' runs a 'run:' script and nothing else; give the task one"
    ):
        desk.add_tasks([{"run": "true", "preferred_agent": "sh"}, {"description": "x", "preferred_agent": "sh"}])
    assert os.listdir(f"{desk.tasks}/pending") == []
    desk.register_agent("ann", agent_type="sh")  # who can do what the other cannot
    assert desk.add("x", preferred_agent="sh") and desk.add("x", run="true", preferred_agent="sh")


def test_of_many_that_the_disk_did_not_take_none_is_there(queue: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def bad(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(syncing, "open_whole", whole)
    monkeypatch.setattr(syncing, "wait_whole", bad)
    with pytest.raises(OSError, match="Input/output error"):
        TaskQueue(queue.root).create_tasks(["x"] * MANY)
    assert os.listdir(f"{queue.tasks}/pending") == os.listdir(f"{queue.tasks}/.drafts") == []


def test_a_file_system_is_synced_as_a_whole_where_it_says_what_it_could_not_write(
    queue: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncing, "file_system", lambda folder: 0xEF53)
    monkeypatch.setattr(platform, "release", lambda: "5.10.0-28-amd64")
    fd = syncing.open_whole(queue.root)
    assert fd is not None
    syncing.wait_whole(fd)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        syncing.wait_whole(fd)
    for release in ("5.4.0", "4.19.0-gvisor", "?"):
        monkeypatch.setattr(platform, "release", lambda release=release: release)
        assert syncing.open_whole(queue.root) is None
    monkeypatch.setattr(platform, "release", lambda: "6.1")
    monkeypatch.setattr(syncing, "file_system", lambda folder: 0x6969)  # NFS
    assert syncing.open_whole(queue.root) is None


@pytest.mark.parametrize("few", [1000, 0])
def test_none_of_many_gets_an_id_that_was_used(queue: Spool, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    for number, folder in enumerate(("pending", "assigned", "completed", "failed", "review", "archive/2025-01/failed")):
        os.makedirs(f"{queue.tasks}/{folder}", exist_ok=True)
        write(f"{queue.tasks}/{folder}/task_{10 * number + 2:03d}.yaml", "description: x\n")
    os.makedirs(f"{queue.runs}/task_062")  # its task was deleted by somebody
    write(f"{queue.tasks}/pending/other.yaml", "id: task_072\ndescription: x\n")
    write(f"{queue.own}/last_id", "1")
    monkeypatch.setattr(ids, "FEW", few)
    used = {10 * number + 2 for number in range(8 if few else 7)}  # what many others state, whoever reads them says
    free = [number for number in range(2, 200) if number not in used]
    found = ids.next_ids(queue, ids.MANY)
    assert found == [f"task_{number:03d}" for number in free[: ids.MANY]]
