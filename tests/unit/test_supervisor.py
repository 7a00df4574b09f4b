"""Watching over runs: their time, their output, their signs of life, and what they leave behind."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import printed, python, read, until, waited, write

from orchestrator import output, process, runs
from orchestrator.agents.shell import ShellAgent
from orchestrator.clock import Clock
from orchestrator.config import AgentConfig
from orchestrator.launcher import LocalLaunch, end_leftovers
from orchestrator.live import Live
from orchestrator.states import Outcome
from orchestrator.supervisor import Supervisor
from orchestrator.task import Task

CAP = 200_000


# -- clock --------------------------------------------------------------------------------------


@pytest.mark.fast
def test_a_clock_does_not_count_the_time_that_the_machine_slept(monkeypatch: pytest.MonkeyPatch) -> None:
    hands = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("orchestrator.clock.time", SimpleNamespace(monotonic=lambda: hands.now, time=lambda: 5.0))
    clock = Clock()
    for _ in range(10):
        hands.now += 2.0
        clock.lived()
    assert clock.lived() == pytest.approx(20.0)
    hands.now += 8 * 3600
    assert clock.lived() <= 20.0 + Clock.MAX_STEP
    before = clock.lived()
    hands.now += 1.0
    assert clock.lived() == pytest.approx(before + 1.0)
    assert clock.wall() == 5.0


@pytest.mark.fast
def test_a_wait_that_lasted_longer_than_it_should_was_not_lived(monkeypatch: pytest.MonkeyPatch) -> None:
    hands = SimpleNamespace(now=1000.0)

    def waits(seconds: float) -> Callable[[float], None]:
        def act(asked: float) -> None:
            assert asked == 2.0
            hands.now += seconds

        return act

    monkeypatch.setattr("orchestrator.clock.time", SimpleNamespace(monotonic=lambda: hands.now, time=lambda: 5.0))
    clock = Clock()
    clock.wait(waits(2.0), 2.0)
    assert clock.lived() == pytest.approx(2.0)
    clock.wait(waits(0.5), 2.0)  # it rang
    assert clock.lived() == pytest.approx(2.5)
    clock.wait(waits(20.0), 2.0)  # everything was stopped for 18 seconds
    assert clock.lived() == pytest.approx(4.5)
    clock.wait(waits(2.9), 2.0)  # a busy machine
    assert clock.lived() == pytest.approx(7.4)


# -- runs ---------------------------------------------------------------------------------------


class Talker(ShellAgent):
    """A program whose last word is known."""

    def answered(self, last_line: str) -> bool:
        return last_line == "DONE"


class Watch:
    """A supervisor with one run, and a clock of the test's own."""

    def __init__(self, folder: str, script: str, timeout: float = 1e6, stuck_after: float = 1e6) -> None:
        self.folder = folder
        self.now = 1000.0
        task = Task(id="task_001", description="x", run=script)
        self.live = Live(
            task, 1, "shell", "agent_01", Talker(), AgentConfig(), folder, 0.0, self.now, timeout, stuck_after
        )
        started = LocalLaunch().start(folder, ("/bin/sh", "-c", script), dict(os.environ), folder, os.devnull)
        self.live.child, self.live.identity = started.process, started.identity
        self.child = started.process
        self.supervisor = Supervisor(subreaper=False)
        self.supervisor.lives["agent_01"] = self.live

    def turn(self, seconds: float = 1.1, grace: float = 5.0, linger: float = 10.0) -> bool:
        """Let so much time go by, and look; whether the run has ended."""
        self.now += seconds
        return self.live in self.supervisor.turn(self.now, grace, linger, CAP)

    def until_ended(self, seconds: float = 0.3) -> None:
        until(lambda: self.turn(seconds), 20.0)
        assert process.members(self.folder) == []
        waited(self.child)

    def until_printed(self, text: str) -> None:
        until(lambda: text in printed(f"{self.folder}/stdout.log"))


Watching = Callable[..., Watch]


@pytest.fixture
def watching(folder: str) -> Iterator[Watching]:
    started = []

    def watch(script: str, **limits: Any) -> Watch:
        started.append(Watch(folder, script, **limits))
        return started[-1]

    yield watch
    for one in started:
        end_leftovers(folder)
        waited(one.child)


def test_a_run_that_ends_by_itself_has_ended(watching: Watching, folder: str) -> None:
    watch = watching("echo hi; exit 3")
    watch.until_ended()
    assert runs.read_exit(folder) == 3
    assert (watch.live.stopped, watch.live.answered, watch.live.is_stopping) == (None, False, False)


def test_a_run_that_lives_has_not_ended(watching: Watching) -> None:
    watch = watching("echo up; sleep 300")
    watch.until_printed("up")
    for _ in range(20):
        assert not watch.turn()
    assert watch.supervisor.by_task("task_001") is watch.live
    assert watch.supervisor.by_task("task_002") is None
    assert 0 < watch.supervisor.patience(watch.now) <= 1.0


def test_a_run_that_takes_too_long_is_ended_as_that(watching: Watching) -> None:
    watch = watching("trap '' INT; while :; do echo tick; sleep 0.01; done", timeout=300.0)
    watch.until_printed("tick")
    watch.turn(299.0)
    assert not watch.live.is_stopping
    watch.turn(2.0)
    assert watch.live.is_stopping
    watch.until_ended()
    assert watch.live.stopped is Outcome.TIMEOUT
    assert watch.live.stopped_why == "ran longer than 5 min"


def test_a_run_without_output_and_without_cpu_is_stuck(watching: Watching) -> None:
    watch = watching("echo up; exec sleep 300", stuck_after=60.0)
    watch.until_printed("up")
    for _ in range(50):
        watch.turn(1.1)
        assert not watch.live.is_stopping
    watch.until_ended(1.1)
    assert watch.live.stopped is Outcome.STUCK
    assert "60 s" in watch.live.stopped_why


def test_a_run_that_prints_is_not_stuck(watching: Watching) -> None:
    watch = watching("while :; do echo tick; sleep 0.002; done", stuck_after=3.0)
    size = 0
    for _ in range(20):
        size = until(lambda: (now := len(printed(f"{watch.folder}/stdout.log"))) > size and now)  # noqa: B023
        watch.turn(1.1)
    assert not watch.live.is_stopping


def compute(watch: Watch, ticks: int) -> None:
    """Wait until the run has used so much more CPU, in clock ticks."""
    before = process.Measure().trees({watch.live.identity.pid: "run"})["run"].cpu
    until(lambda: process.Measure().trees({watch.live.identity.pid: "run"})["run"].cpu >= before + ticks)


@pytest.mark.parametrize("seconds", [1.1, 20.0])  # the second: longer than it may be silent
def test_a_run_that_computes_in_silence_is_not_stuck(watching: Watching, seconds: float) -> None:
    watch = watching("while :; do :; done", stuck_after=9.0)
    for _ in range(12 if seconds < 9.0 else 3):
        compute(watch, max(6, int(0.06 * process.TICKS * seconds)))
        watch.turn(seconds)
    assert not watch.live.is_stopping


def test_a_run_that_only_ticks_over_is_stuck(watching: Watching) -> None:
    watch = watching("while :; do :; done", stuck_after=9.0)
    while not watch.live.is_stopping:
        compute(watch, 3)
        watch.turn(60.0)  # so little in a minute is what an idle program's timers take
    assert watch.live.stopped is Outcome.STUCK


def test_work_done_by_children_that_have_ended_counts(watching: Watching) -> None:
    """A build starts a compiler for each file: whoever lives at the moment of a look has done next to nothing."""
    work = 'python3 -S -c "for _ in range(300000): pass"'
    watch = watching(f"while :; do {work}; done", stuck_after=9.0)
    for _ in range(6):
        compute(watch, 30)
        watch.turn(5.0)
    assert not watch.live.is_stopping


def test_what_many_processes_share_is_counted_once(watching: Watching, folder: str) -> None:
    code = f"""
import os, time
kept = b"x" * 60_000_000
for number in range(4):
    if os.fork() == 0:
        break
else:
    open("{folder}/up", "w").close()
time.sleep(300)
"""
    write(f"{folder}/code.py", code)
    watch = watching(f"exec python3 -S {folder}/code.py")
    watch.live.settings = AgentConfig(max_memory_mb=150)
    until(lambda: os.path.exists(f"{folder}/up"))
    until(lambda: len(process.members(folder)) == 6)
    tree = process.Measure().trees({watch.live.identity.pid: folder})[folder]
    assert tree.resident > 250e6 and len(tree.pids) == 6
    for _ in range(3):
        watch.turn()
    assert not watch.live.is_stopping
    watch.live.settings = AgentConfig(max_memory_mb=50)
    watch.until_ended(1.1)
    assert watch.live.stopped is Outcome.OUT_OF_RESOURCES


@pytest.fixture
def no_descriptors() -> Iterator[Callable[[], None]]:
    """Call it, and this process can open nothing more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    yield lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_run_that_cannot_be_looked_at_lives(
    watching: Watching, folder: str, no_descriptors: Callable[[], None]
) -> None:
    """No descriptors: nobody can tell whether it lives. Whoever guessed wrong would start a second one."""
    watch = watching("echo up; sleep 300")
    watch.until_printed("up")
    watch.live.child = None  # an earlier dispatcher's
    no_descriptors()
    for look in (
        lambda: process.is_same(watch.live.identity),
        lambda: runs.is_alive(folder),
        lambda: runs.read_exit(folder),
        lambda: process.belongs(watch.live.identity.pid, folder),
        lambda: process.members(folder),
        process.children_of_this_process,
    ):
        with pytest.raises(OSError):
            look()
    watch.live.looked = float("inf")  # the measure of all of them fails, too, and is the dispatcher's to bear
    assert not watch.turn() and not watch.turn()
    assert watch.live in watch.supervisor.lives.values() and not watch.live.ended


def test_output_is_the_heartbeat_of_a_run(watching: Watching, folder: str) -> None:
    watch = watching("echo up; sleep 300")
    watch.until_printed("up")
    os.utime(f"{folder}/alive", (1.0, 1.0))
    watch.turn()
    beat = os.stat(f"{folder}/alive").st_mtime
    assert beat > 1.0
    os.utime(f"{folder}/alive", (1.0, 1.0))
    watch.turn()
    assert os.stat(f"{folder}/alive").st_mtime == 1.0


def test_what_a_person_cancels_is_ended(watching: Watching, folder: str) -> None:
    watch = watching("echo up; sleep 300")
    watch.until_printed("up")
    write(f"{folder}/cancelled", "")
    watch.until_ended(1.1)
    assert watch.live.stopped is Outcome.CANCELLED


def test_the_first_reason_to_stop_stays_and_hurry_ends_the_grace(watching: Watching) -> None:
    watch = watching("trap '' INT; echo up; while :; do sleep 0.01; done")
    watch.until_printed("up")
    watch.live.stop(Outcome.KILLED, "first", 1e6, watch.now)
    watch.live.stop(Outcome.TIMEOUT, "second", 0.0, watch.now)
    for _ in range(10):
        assert not watch.turn(100.0)
    watch.live.hurry(watch.now)
    watch.until_ended()
    assert (watch.live.stopped, watch.live.stopped_why) == (Outcome.KILLED, "first")


# -- answered, and hangs ------------------------------------------------------------------------


def test_a_program_that_has_answered_and_does_not_go_is_ended_without_blame(watching: Watching) -> None:
    watch = watching("echo working; echo DONE; exec sleep 300")
    watch.until_printed("DONE")
    watch.turn()  # sees the output
    watch.turn()  # sees that it is the last word
    assert not watch.turn(9.0) and not watch.live.is_stopping
    watch.turn(2.0)
    assert watch.live.is_stopping
    watch.until_ended()
    assert watch.live.answered
    assert watch.live.stopped is None


def test_a_program_that_goes_on_after_its_answer_is_left_alone(watching: Watching, folder: str) -> None:
    watch = watching(f"echo DONE; while [ ! -e {folder}/gate ]; do sleep 0.01; done; echo more; exec sleep 300")
    watch.until_printed("DONE")
    watch.turn()
    watch.turn()
    write(f"{folder}/gate", "")
    watch.until_printed("more")
    for _ in range(30):
        assert not watch.turn(1.1)
    assert not watch.live.is_stopping


def test_a_program_that_ends_in_time_after_its_answer_is_not_stopped(watching: Watching, folder: str) -> None:
    watch = watching(f"echo DONE; while [ ! -e {folder}/gate ]; do sleep 0.01; done; exit 0")
    watch.until_printed("DONE")
    watch.turn()
    watch.turn()
    write(f"{folder}/gate", "")
    watch.until_ended(0.01)
    assert not watch.live.is_stopping
    assert runs.read_exit(folder) == 0


# -- output -------------------------------------------------------------------------------------

FLOOD = """
echo HEAD
python3 -c "
import sys
for n in range(200000): sys.stdout.write('line %07d of a flood that nobody reads to its end, and nobody has to\\n' % n)
"
echo TAIL
while [ ! -e "$ORCHESTRATE_RUN_FOLDER/gate" ]; do sleep 0.01; done
"""


def test_output_is_capped_while_it_comes_and_keeps_its_head_and_its_tail(watching: Watching, folder: str) -> None:
    watch = watching(FLOOD)
    log = f"{folder}/stdout.log"

    def flooded() -> bool:
        watch.turn()
        with open(log, "rb") as file:
            file.seek(max(0, os.stat(log).st_size - 100))
            return file.read().endswith(b"TAIL\n")

    until(lambda: os.path.exists(log))
    until(flooded, 30.0)
    watch.turn()
    assert os.stat(log).st_size > 10_000_000
    assert os.stat(log).st_blocks * 512 <= CAP + 8192
    assert not watch.live.is_stopping
    write(f"{folder}/gate", "")
    watch.until_ended()
    output.compact(log, CAP)
    text = read(log)
    assert len(text) <= CAP + 100
    assert text.startswith("HEAD\nline 0000000 of")
    assert text.endswith("to\nTAIL\n")
    assert "max_output_mb" in text


# -- what is left behind ------------------------------------------------------------------------


@pytest.mark.parametrize("stubborn", [False, True])
def test_what_a_run_leaves_behind_is_swept_and_its_status_stays(
    watching: Watching, folder: str, stubborn: bool
) -> None:
    trap = "trap '' TERM INT HUP; " if stubborn else ""
    script = f"setsid /bin/sh -c \"{trap}echo \\$\\$ >'{folder}/pid'; while :; do sleep 0.01; done\" >/dev/null 2>&1 & "
    watch = watching(script + f"while [ ! -s {folder}/pid ]; do sleep 0.01; done; exit 4")
    pid = int(until(lambda: os.path.exists(f"{folder}/pid") and read(f"{folder}/pid").strip()))
    known = process.identity(pid)
    watch.until_ended()
    assert not process.is_same(known)
    assert runs.read_exit(folder) == 4
    assert watch.live.stopped is None


def test_a_subreaper_sweeps_too_and_leaves_no_zombie(folder: str) -> None:
    code = """
import os, sys, time
from orchestrator import process
from orchestrator.agents.shell import ShellAgent
from orchestrator.config import AgentConfig
from orchestrator.launcher import LocalLaunch
from orchestrator.live import Live
from orchestrator.supervisor import Supervisor
from orchestrator.task import Task
folder = sys.argv[1]
process.become_subreaper()
live = Live(Task(id="a", description="x"), 1, "shell", "agent_01", ShellAgent(), AgentConfig(), folder, 0.0, 0.0, 1e6, 1e6)
supervisor = Supervisor(True)  # whatever is our child before is none of its business
script = "setsid sleep 300 >/dev/null 2>&1 & sleep 0 & exit 0"
started = LocalLaunch().start(folder, ("/bin/sh", "-c", script), dict(os.environ), folder, os.devnull)
live.child, live.identity = started
supervisor.lives["agent_01"] = live
deadline = time.monotonic() + 20
while not supervisor.turn(time.monotonic(), 1.0, 1.0, 1000) and time.monotonic() < deadline:
    time.sleep(0.01)
left = process.members(folder)
supervisor.turn(time.monotonic(), 1.0, 1.0, 1000)
while process.children_of_this_process() and time.monotonic() < deadline:
    supervisor.turn(time.monotonic(), 1.0, 1.0, 1000)
print(live.ended, left, process.children_of_this_process())
"""
    out, err = python(code, folder).communicate(timeout=60)
    assert (out, err) == ("True [] set()\n", "")


def test_one_that_a_look_through_proc_missed_is_ended_all_the_same(
    watching: Watching, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was made in that very moment by one that is gone already; what it inherited of the lock tells of it."""
    watch = watching("setsid sleep 300 >/dev/null 2>&1 & exit 0")
    waited(watch.child)
    look, missed = process.members, [1]
    monkeypatch.setattr(process, "members", lambda one: [] if missed and missed.pop() else look(one))
    assert not watch.turn(0.1)
    watch.until_ended()


def test_a_run_whose_wrapper_was_killed_goes_on_until_its_program_ends(watching: Watching, folder: str) -> None:
    watch = watching(f"echo up; while [ ! -e {folder}/gate ]; do sleep 0.01; done")
    watch.until_printed("up")
    os.kill(watch.child.pid, signal.SIGKILL)
    waited(watch.child)
    for _ in range(10):
        assert not watch.turn()
    assert process.members(folder)
    write(f"{folder}/gate", "")
    watch.until_ended()
    assert runs.read_exit(folder) is None


def test_a_run_that_an_earlier_dispatcher_started_is_watched_by_its_identity(folder: str, tmp_path: Path) -> None:
    code = """
import os, sys
from orchestrator.launcher import LocalLaunch
folder = sys.argv[1]
script = f"echo up; while [ ! -e {folder}/gate ]; do sleep 0.01; done; exit 6"
started = LocalLaunch().start(folder, ("/bin/sh", "-c", script), dict(os.environ), folder, os.devnull)
print(*started.identity, flush=True)
"""
    out, _ = python(code, folder).communicate(timeout=20)
    pid, ticks, boot = out.split()
    watch = Watch.__new__(Watch)
    watch.folder, watch.now = folder, 1000.0
    task = Task(id="task_001", description="x")
    watch.live = Live(task, 1, "shell", "agent_01", Talker(), AgentConfig(), folder, 0.0, 1000.0, 1e6, 1e6)
    watch.live.identity = process.Identity(int(pid), int(ticks), boot)
    watch.supervisor = Supervisor(subreaper=False)
    watch.supervisor.lives["agent_01"] = watch.live
    watch.until_printed("up")
    for _ in range(5):
        assert not watch.turn()
    write(f"{folder}/gate", "")
    until(lambda: watch.turn(0.3))
    assert runs.read_exit(folder) == 6
    assert watch.live.stopped is None


def test_a_run_that_could_not_be_started_has_ended(folder: str) -> None:
    live = Live(
        Task(id="a", description="x"), 1, "shell", "agent_01", Talker(), AgentConfig(), folder, 0.0, 0.0, 1.0, 1.0
    )
    live.not_started = (Outcome.OUT_OF_RESOURCES, "no room")
    supervisor = Supervisor(subreaper=False)
    supervisor.lives["agent_01"] = live
    assert supervisor.turn(0.0, 1.0, 1.0, 1) == [live]
