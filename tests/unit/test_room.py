"""Room to start something, the heartbeat, and agents that do not start."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
from helpers import read, write

from orchestrator.cli.status import flat
from orchestrator.config import Config, LimitsConfig
from orchestrator.errors import is_lack
from orchestrator.health import BEAT_SECONDS, MOST_SECONDS, Health, no_room
from orchestrator.registry import FIRST_PAUSE, AgentRegistry
from orchestrator.rules import built

pytestmark = pytest.mark.fast

ROOM = LimitsConfig(min_free_disk_mb=0)
NONE = LimitsConfig(min_free_disk_mb=1e12)


class Desk:
    """A dispatcher's health, and what it told."""

    def __init__(self, folder: Path) -> None:
        self.path = f"{folder}/heartbeat"
        self.told: list[str] = []
        self.now = 100.0
        self.health = Health(self.path, str(folder), lambda kind, task, text: self.told.append(f"{kind} {text}"))
        self.health.open()

    def has_room(self, limits: LimitsConfig = ROOM, down: str = "", waits: bool = True, busy: bool = False) -> bool:
        self.now += 0.1
        return self.health.has_room(limits, down, waits, busy, 1e9, self.now)

    @property
    def kept(self) -> str:
        return flat(self.path).get("halted", "")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_the_heart_beats_now_and_then_and_not_at_each_turn(desk: Desk) -> None:
    beats = 0
    for turn in range(1000):
        os.utime(desk.path, (1.0, 1.0))
        desk.health.beat(turn * 0.1)
        beats += os.stat(desk.path).st_mtime > 1.0
    assert beats == 100 / BEAT_SECONDS
    assert 0 <= desk.health.patience(99.95) <= BEAT_SECONDS


def test_room_is_lacking_room_is_back_and_each_is_told_once(desk: Desk) -> None:
    assert desk.has_room() and desk.told == [] and desk.kept == ""
    for _ in range(3):
        assert not desk.has_room(NONE)
    [said] = desk.told
    assert said.startswith("alert nothing is started: only ") and "limits.min_free_disk_mb" in said
    assert desk.kept.startswith("only ")
    for _ in range(3):
        assert desk.has_room()
    assert len(desk.told) == 2 and desk.told[1].startswith("resumed ") and desk.kept == ""


def test_what_was_told_before_a_restart_is_not_told_again(desk: Desk, tmp_path: Path) -> None:
    desk.has_room(NONE)
    after = Desk(tmp_path)
    assert not after.has_room(NONE) and after.told == []
    assert after.has_room() and after.has_room() and len(after.told) == 1
    write(after.path, b"\xff\0torn")
    assert Desk(tmp_path).has_room(), "it is only a hint"


def test_after_a_failed_start_the_next_one_is_an_attempt_later_each_time_and_one_story(desk: Desk) -> None:
    waits = []
    for _ in range(8):
        desk.health.failed(OSError(errno.EAGAIN, "Resource temporarily unavailable"), desk.now)
        begun = desk.now
        while not desk.has_room():
            desk.health.beat(desk.now)
            assert 0 < desk.health.patience(desk.now) <= MOST_SECONDS
        waits.append(desk.now - begun)
        desk.health.beat(desk.now)
        assert desk.health.patience(desk.now) > 0, "an attempt that nobody makes is no reason to wake up for"
    assert waits[0] < 2 and waits == sorted(waits) and MOST_SECONDS <= waits[-1] < MOST_SECONDS + 1
    assert len(desk.told) == 1 and "temporarily unavailable" in desk.kept
    desk.health.started()
    assert desk.has_room() and len(desk.told) == 2 and desk.kept == ""


def test_nobody_left_to_work_is_told_when_something_waits_and_until_somebody_is_there(desk: Desk) -> None:
    assert desk.has_room(down="a paused", waits=False) and desk.told == []
    assert desk.has_room(down="a paused", busy=True) and desk.told == [], "what runs goes on"
    desk.has_room(down="a paused")
    assert desk.kept == "every agent is down: a paused"
    desk.has_room(down="a is tried", waits=False, busy=True)
    desk.has_room(down="a paused for longer")
    assert len(desk.told) == 1 and desk.kept.endswith("for longer")
    desk.has_room(busy=True)
    assert len(desk.told) == 2 and desk.kept == ""


def test_only_a_lack_of_the_machine_is_one() -> None:
    assert is_lack(OSError(errno.EMFILE, "")) and is_lack(BlockingIOError(errno.EAGAIN, ""))
    assert not is_lack(FileNotFoundError(errno.ENOENT, "")) and not is_lack(ValueError())


def test_a_folder_that_cannot_be_asked_has_no_room(tmp_path: Path) -> None:
    assert "No such file" in no_room(f"{tmp_path}/gone", ROOM)


# -- agents that do not start ---------------------------------------------------------------------


class Agents:
    """One agent with three slots."""

    def __init__(self, folder: Path) -> None:
        config = built(Config, {"agents": {"a": {"command": "sh", "max_instances": 3}}}, (), ValueError)
        self.registry = AgentRegistry(str(folder), config, {})
        self.path = f"{folder}/.orchestrator/agents/a.yaml"

    def fails(self, started_at: float = 0.0) -> float:
        """Seconds of the pause that follows."""
        now = time.time()
        until = self.registry.failed_to_start("a", started_at or now, "exit status 127", 3, now)
        return until - now if until else 0.0

    def view(self, later: float, busy: int = 0) -> tuple[int, str]:
        """Free slots, and why there is none, so much later."""
        views = self.registry.views({f"agent_0{n + 1}": "a" for n in range(busy)}, time.time() + later)
        [view] = [view for view in views if view.name == "a"]
        return len(view.free), view.paused


@pytest.fixture
def agents(tmp_path: Path) -> Agents:
    return Agents(tmp_path)


def test_the_third_failed_start_in_a_row_pauses_and_each_further_one_for_longer(agents: Agents) -> None:
    assert [round(agents.fails()) for _ in range(5)] == [0, 0, FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    for _ in range(12):
        last = agents.fails()
    assert round(last) == 3600
    assert "did not start 17 times in a row: exit status 127" in agents.view(0)[1]


def test_a_start_in_between_makes_them_count_anew(agents: Agents) -> None:
    agents.fails(), agents.fails()
    agents.registry.started("a", time.time() - 100)  # an old one that still runs proves nothing
    assert agents.fails() > 0
    agents.registry.started("a", time.time() - 100)
    assert os.path.exists(agents.path)
    agents.registry.started("a", time.time() + 2)
    assert not os.path.exists(agents.path) and agents.view(0) == (3, "")
    assert agents.fails() == 0.0


def test_after_the_pause_one_task_tries_it_alone(agents: Agents, tmp_path: Path) -> None:
    for _ in range(3):
        agents.fails()
    for one in (agents, Agents(tmp_path)):  # a restart forgets nothing
        assert one.view(1)[0] == 0
        assert one.view(40) == (1, "")
        free, why = one.view(40, busy=1)
        assert free == 0 and why.startswith("is tried with one task first")
        assert "did not start 3 times" in one.registry.down(time.time() + 40)


def test_what_was_on_its_way_when_the_agent_was_paused_makes_it_no_worse(agents: Agents) -> None:
    begun = time.time() - 1.0
    assert [agents.fails(begun) > 0 for _ in range(5)] == [False, False, True, False, False]
    assert "failed_starts: 3" in read(agents.path)


def test_a_pause_from_the_future_is_over(agents: Agents) -> None:
    """The clock was wrong when it was set, and is right now."""
    agents.registry.pause("a", time.time() + 60, "rate limit")
    assert agents.view(0)[0] == 0
    assert agents.view(-7200) == (3, "")


def test_a_heartbeat_that_was_deleted_or_replaced_comes_back(desk: Desk) -> None:
    desk.has_room(NONE)
    os.unlink(desk.path)
    desk.health.beat(0.0)
    assert desk.kept.startswith("only ")
    write(f"{desk.path}.new", "garbage")
    os.rename(f"{desk.path}.new", desk.path)
    os.utime(desk.path, (1.0, 1.0))
    desk.health.beat(BEAT_SECONDS)
    assert os.stat(desk.path).st_mtime > 1.0 and desk.kept.startswith("only ")
    os.unlink(desk.path)
    os.mkdir(desk.path)
    desk.health.beat(2 * BEAT_SECONDS)  # nothing to be done about that now
    os.rmdir(desk.path)
    desk.health.beat(3 * BEAT_SECONDS)
    assert desk.kept.startswith("only ")
