"""Never a zombie, never an orphan, never a healthy one killed: agents that misbehave in every way we know."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.driver import AGENT, Driver, living, until

KINDS = ("same_session", "own_session", "forked_twice", "no_environment", "nothing_left")


def pids_in(root: Driver, folder: str) -> dict[str, int]:
    """What `@orphans FOLDER` started."""
    place = root.root / folder
    until(lambda: all((place / kind).exists() for kind in KINDS), what=lambda: root.log)
    return {kind: int((place / kind).read_text()) for kind in KINDS}


def zombies(parent: int) -> list[int]:
    """Dead children of a process whose status nobody took."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            rest = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if rest[0] == b"Z" and int(rest[1]) == parent:
            found.append(int(name))
    return found


@pytest.mark.parametrize("ends", ["by itself", "by its time"])
def test_nothing_that_a_run_started_outlives_it_however_it_left_and_however_the_run_ends(
    root: Driver, ends: str
) -> None:
    last, timeout, state = ("@say well", 10, "completed") if ends == "by itself" else ("@hang", 0.02, "review")
    root.drop("one", "@ignore INT TERM", "@orphans left", last, timeout_minutes=timeout, max_retries=0)
    pid = root.start()
    left = pids_in(root, "left")
    root.reach(state, "one")
    until(lambda: not any(map(living, left.values())), what=lambda: {k: living(v) for k, v in left.items()})
    until(lambda: not zombies(pid), what=lambda: zombies(pid))
    assert root.members() == []


def test_an_orphan_that_shed_everything_is_ended_though_other_runs_come_and_go(root: Driver) -> None:
    root.configure({"fake": {"command": AGENT, "max_instances": 3}})
    root.drop("first", "@wait first", "@say well")
    root.drop("leaves", "@orphans left", "@wait leaves", "@say well")
    root.start()
    left = pids_in(root, "left")
    root.go("leaves")
    root.reach("completed", "leaves")
    root.drop("second", "@wait second", "@say well")  # from here on something runs at every moment
    until(lambda: root.members("second"))
    assert living(left["nothing_left"]), "it might be the first one's: that one still runs"
    root.go("first")
    root.reach("completed", "first")
    until(lambda: not living(left["nothing_left"]), what=lambda: root.log)
    assert root.members("second"), "the one that came after it is none of its business"
    root.go("second")
    root.reach("completed", "second")


def test_a_run_that_closes_its_output_goes_on_and_its_answer_counts(root: Driver) -> None:
    root.drop("one", "@close", f"@ledger '{root.root}/ledger'", "@wait go", "@output 'said in a file'")
    root.start()
    until(root.ledger)
    root.drop("other", "@say well")
    root.reach("completed", "other")
    assert root.members("one") and root.places("one") == ["assigned"]
    root.go()
    root.reach("completed", "one")
    assert root.answer("one") == "said in a file" and root.count("one") == 1


def test_one_that_answers_and_hangs_is_a_success_and_leaves_nothing(root: Driver) -> None:
    said = {"type": "result", "subtype": "success", "is_error": False, "result": "the answer", "num_turns": 1,
            "duration_ms": 1, "session_id": "x", "usage": {"input_tokens": 1, "output_tokens": 1}}  # fmt: skip
    root.configure({"fake": {"command": AGENT, "adapter": "claude"}}, limits={"linger_seconds": 0.3})
    root.drop("one", "@ignore INT TERM", "@orphans left", f"@json '{json.dumps(said)}'", "@hang", max_retries=0)
    root.start()
    left = pids_in(root, "left")
    root.reach("completed", "one")
    assert root.answer("one").strip() == "the answer"
    until(lambda: not any(map(living, left.values())))


def test_one_that_is_stopped_is_stuck_and_hears_its_interrupt_before_the_end(root: Driver) -> None:
    root.configure(
        {"fake": {"command": AGENT, "max_instances": 2, "stuck_after_seconds": 1}}, limits={"grace_seconds": 20}
    )
    root.drop("one", f"@last_words '{root.root}/words'", "@stop", "@hang", max_retries=0)
    root.start()
    root.reach("review", "one")
    assert root.result("one")["status"] == "stuck"
    assert (root.root / "words").read_text() == "interrupted"
    assert root.members() == []


def test_one_that_eats_memory_is_ended_for_it_and_its_neighbour_is_not(root: Driver) -> None:
    root.configure(
        {"fake": {"command": AGENT, "max_instances": 2, "max_memory_mb": 120}, "free": {"command": AGENT}},
    )
    root.drop("neighbour", "@memory 10", "@wait go", "@say well", preferred_agent="fake", max_retries=0)
    root.drop("free", "@memory 200", "@wait go", "@say well", preferred_agent="free", max_retries=0)
    root.start()
    until(lambda: root.members("neighbour") and root.members("free"))
    root.drop("hog", "@memory 60", "@fork 2", "@memory 200", "@hang", preferred_agent="fake", max_retries=1)
    root.reach("review", "hog")
    assert root.count("hog") == 2, "it counts: the machine has room enough"
    result = root.result("hog", 1)
    assert result["status"] == "out_of_resources" and "max_memory_mb of fake is 120" in result["reason"]
    code = "from orchestrator.groups import home; print(home())"  # not here: who asks may be moved
    home = subprocess.run(
        [sys.executable, "-c", code], env=root.environment, capture_output=True, text=True, check=True
    )
    assert home.stdout == "\n" or "took more memory than it may" in result["reason"], "the kernel was there first"
    assert root.members("hog") == [] and root.members("neighbour") and root.members("free")
    assert {row["name"]: row["state"] for row in root.json("agents")} == {"fake": "ready", "free": "busy"}
    root.go()
    root.reach("completed", "neighbour", "free")


def test_one_that_forks_without_end_is_ended_for_it_and_its_neighbour_is_not(root: Driver) -> None:
    root.configure({"fake": {"command": AGENT, "max_instances": 2, "max_processes": 8}})
    root.drop("neighbour", "@fork 7", "@wait go", "@say well", max_retries=0)
    root.start()
    until(lambda: len(root.members("neighbour")) == 9)  # the wrapper does not count
    root.drop("bomb", "@ignore INT TERM", "@orphans left", "@fork 40", "@hang", max_retries=0)
    left = pids_in(root, "left")
    root.reach("review", "bomb")
    result = root.result("bomb")
    assert result["status"] == "out_of_resources" and "max_processes of fake is 8" in result["reason"]
    assert root.members("bomb") == []
    assert len(root.members("neighbour")) == 9
    root.go()
    root.reach("completed", "neighbour")
    until(lambda: not any(map(living, left.values())))


# -- pids ---------------------------------------------------------------------------------------


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a group of its own and has nothing to do with us."""
    child = subprocess.Popen(["sleep", "300"], start_new_session=True)
    yield child
    child.kill()
    child.wait()


def forge(root: Driver, task_id: str, **values: object) -> None:
    """Change what the run's folder says of its first process, in place: the lock lies on that very file."""
    path = root.runs(task_id) / "1/alive"
    lines = path.read_text().splitlines()
    for key, value in values.items():
        lines = [f"{key}: {json.dumps(value)}" if line.startswith(f"{key}: ") else line for line in lines]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("boot", ["this", "11111111-2222-3333-4444-555555555555"])
def test_a_pid_that_is_somebody_elses_by_now_gets_no_signal(
    root: Driver, stranger: subprocess.Popen[bytes], boot: str
) -> None:
    """The wrapper is gone, its number is another's; the agent itself lives on and has to be ended."""
    root.drop("one", "@hang", max_retries=0, timeout_minutes=0.05)
    root.start()
    wrapper, agent = until(lambda: len(found := sorted(root.members("one"))) == 2 and found)
    root.kill()
    os.kill(wrapper, signal.SIGKILL)
    forge(root, "one", pid=stranger.pid, **({} if boot == "this" else {"boot": boot}))
    root.start()
    root.reach("review", "one")
    assert root.result("one")["status"] == "timeout" and not living(agent)
    assert stranger.poll() is None and living(stranger.pid)


@pytest.fixture
def adopting() -> Iterator[None]:
    """Orphans become children of this process; a lazy init would keep their numbers as zombies."""
    prctl = ctypes.CDLL(None).prctl
    prctl(36, 1, 0, 0, 0)
    yield
    prctl(36, 0, 0, 0, 0)


def test_a_pid_that_was_really_used_again_gets_no_signal(adopting: None, root: Driver) -> None:
    last = Path("/proc/sys/kernel/ns_last_pid")
    root.drop("one", "@hang", max_retries=0)
    root.start()
    first = min(until(lambda: len(found := root.members("one")) == 2 and found))
    root.kill()
    os.killpg(first, signal.SIGKILL)
    until(lambda: not root.members())
    with pytest.raises(ChildProcessError):
        while True:  # a number is free when nobody has it as his group's, either
            os.waitpid(-first, 0)
    other: subprocess.Popen[bytes] | None = None
    try:
        for _ in range(200):
            try:
                last.write_text(str(first - 1))
            except OSError:
                pytest.skip("only root may choose the next pid")
            child = subprocess.Popen(["sleep", "300"], start_new_session=True)
            if child.pid == first:
                other = child
                break
            child.kill()
            child.wait()
        if other is None:
            pytest.skip("that pid was not given again")
        root.start()
        root.reach("review", "one")
        assert root.result("one")["status"] == "lost" and other.poll() is None
    finally:
        if other is not None:
            other.kill()
            other.wait()


# -- time that nobody lived -----------------------------------------------------------------------


def is_waiting(pid: int) -> bool:
    """Whether a process waits for something that is no disk, and has waited for a moment."""

    def call() -> bytes:
        try:
            state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
            return state + Path(f"/proc/{pid}/syscall").read_bytes()
        except OSError:
            return b"S"  # it may not be looked at

    before = call()
    time.sleep(0.005)
    return before[:1] == b"S" and call() == before


def test_a_machine_that_sleeps_ends_no_run(root: Driver) -> None:
    """Everything is stopped for longer than any of them may take; nobody lived that time."""
    root.configure({"fake": {"command": AGENT, "max_instances": 2, "timeout_seconds": 4}})
    root.drop("one", "@wait go", "@say well", max_retries=0)
    root.drop("two", "@wait go", "@say well", max_retries=0)
    pid = root.start()
    until(lambda: len(root.members()) == 4)
    agents = root.members()
    until(lambda: is_waiting(pid))
    for one in (pid, *agents):
        os.kill(one, signal.SIGSTOP)
    time.sleep(5.5)  # what is tested is that this much time passes
    for one in (*agents, pid):
        os.kill(one, signal.SIGCONT)
    root.seen()
    assert sorted(root.members()) == sorted(agents)
    root.go()
    root.reach("completed", "one", "two")


# -- fifty --------------------------------------------------------------------------------------


def test_fifty_runs_outlive_their_dispatcher_and_the_next_one_takes_up_each_and_starts_none_twice(
    root: Driver,
) -> None:
    root.configure({"shell": {"max_instances": 50}})
    ids = [f"run_{number:02d}" for number in range(50)]
    script = 'echo "$ORCHESTRATE_TASK_ID" >>ledger; while [ ! -e go ]; do sleep 0.2; done; echo well'
    for one in ids:
        root.drop(one, run=script, max_retries=0)
    root.start()
    until(lambda: len(root.ledger()) == 50, what=lambda: root.log)
    root.kill()
    root.start()
    until(lambda: root.log.count(" lives; taken up") == 50, what=lambda: root.log)
    root.drop("after", run="echo well")
    assert [root.places(one) for one in ids] == [["assigned"]] * 50
    root.go()
    root.reach("completed", *ids, "after")
    assert sorted(root.ledger()) == ids
    assert [root.count(one) for one in ids] == [1] * 50
