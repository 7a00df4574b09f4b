"""`stop`, `stop --leave`, `stop --now`, `cancel`: each leaves exactly what it promises."""

from __future__ import annotations

import json
import os
import signal

from integration.driver import Driver, living, until


def pid_in(root: Driver, name: str) -> int:
    return int(until(lambda: (root.root / name).exists() and (root.root / name).read_text()))


def test_stop_waits_for_the_runs_says_so_and_starts_nothing_more(root: Driver) -> None:
    root.drop("one", "@wait go", "@say well")
    pid = root.start()
    until(lambda: root.members("one"))
    stop = root.spawn("stop")
    until(lambda: "waits for 1 run" in root.log)
    root.drop("two", "@say well")
    assert stop.stdout is not None and "waiting for 1 run: one" in stop.stdout.readline()
    assert living(pid) and stop.poll() is None
    root.go()
    assert stop.wait(30) == 0 and stop.stdout.read() == "dispatcher stopped\n"
    assert not living(pid) and root.places("one") == ["completed"] and root.places("two") == ["pending"]


def test_stop_leave_lets_the_runs_go_on_and_the_next_start_takes_them_up(root: Driver) -> None:
    root.drop("one", "@wait go", "@say well")
    pid = root.start()
    until(lambda: len(root.members("one")) == 2)  # its wrapper and itself
    members = root.members("one")
    assert root.json("stop", "--leave") == {"stopped": pid, "runs_left": ["one"]}
    assert not living(pid) and root.members("one") == members
    assert "1 run goes on: one" in root.ok("stop")
    root.start()
    until(lambda: "one resumed" in root.log)
    root.go()
    root.reach("completed", "one")
    assert root.count("one") == 1 and root.ledger() == []


def test_stop_now_leaves_no_process_not_even_a_deaf_one_or_a_grandchild_in_its_own_session(
    root: Driver,
) -> None:
    root.drop("deaf", "@ignore INT TERM", "@grandchild deaf_child", "@hang", max_retries=0)
    root.drop("kind", "@grandchild kind_child", "@hang", max_retries=0)
    root.drop("waits", "@say well", dependencies=["kind"])
    root.start()
    pids = [pid_in(root, "deaf_child"), pid_in(root, "kind_child")]
    assert all(os.getsid(pid) == pid for pid in pids)
    assert json.loads(root.ok("stop", "--now", "--json"))["runs_left"] == []
    assert not any(map(living, pids)) and root.members() == []
    for one in ("deaf", "kind", "waits"):
        assert root.places(one) == ["pending"], "a stop is no fault of the task's"
    assert root.result("kind", 1)["status"] == "killed" and root.result("kind", 1)["counts"] is False
    assert list((root.root / "tasks/assigned").iterdir()) == []


def test_stop_now_ends_runs_whose_dispatcher_was_killed(root: Driver) -> None:
    root.drop("one", "@grandchild child", "@hang", max_retries=0)
    root.start()
    child = pid_in(root, "child")
    root.kill()
    assert living(child)
    assert "ended 1 run: one" in root.ok("stop", "--now")
    assert not living(child) and root.members() == [] and root.places("one") == ["pending"]


def test_while_runs_are_ended_without_a_dispatcher_nobody_signals_the_dead_one(root: Driver) -> None:
    root.configure(limits={"grace_seconds": 60})
    root.drop("one", "@ignore INT", "@hang")
    root.start()
    until(lambda: root.members("one"))
    root.kill()
    dead = root.pid
    root.spawn("stop", "--now")
    until(lambda: "ends 1 run" in root.log)
    assert (root.json("status")["dispatcher"] or {}).get("pid") != dead


def test_stop_with_nothing_to_stop_is_no_error(root: Driver) -> None:
    assert "nothing to stop" in root.ok("stop")
    assert root.json("stop", "--now") == {"stopped": 0, "runs_left": []}


def test_what_a_run_left_behind_is_ended_when_it_ends_by_itself(root: Driver) -> None:
    root.drop("one", "@grandchild child", "@say well")
    root.start()
    root.reach("completed", "one")
    assert not living(pid_in(root, "child")) and root.members() == []


def test_a_left_behind_process_of_a_run_that_a_restart_took_up_is_ended_too(root: Driver) -> None:
    root.drop("one", "@grandchild child", "@wait go", "@say well")
    root.start()
    child = pid_in(root, "child")
    root.kill()
    root.start()
    root.go()
    root.reach("completed", "one")
    assert not living(child)


def test_cancel_takes_a_waiting_task_and_a_retry_brings_it_back(root: Driver) -> None:
    root.drop("one", "@say well", dependencies=["gate"])
    for dispatcher in (False, True):
        if dispatcher:
            root.start()
        root.ok("cancel", "one")
        root.reach("failed", "one")
        assert root.result("one")["status"] == "cancelled" and "cancelled by a person" in root.result("one")["reason"]
        root.ok("retry", "one")
        root.reach("pending", "one")
    root.drop("gate", "@say well")
    root.reach("completed", "one")


def test_cancel_ends_a_running_task_with_all_that_it_started(root: Driver) -> None:
    root.drop("one", "@grandchild child", "@hang")
    root.drop("deaf", "@ignore INT TERM", "@hang")
    root.start()
    child = pid_in(root, "child")
    until(lambda: root.members("deaf"))
    cancel = root.spawn("cancel", "one", "deaf")
    # It is deaf for five seconds.
    until(lambda: root.json("show", "deaf")["reason"].endswith("run 1, is being cancelled"))
    assert cancel.wait(60) == 0
    root.reach("failed", "one", "deaf")
    assert not living(child) and root.members() == []
    assert root.result("one")["status"] == root.result("deaf")["status"] == "cancelled"
    assert root.count("one") == 1
    refused = root.run("cancel", "one")
    assert refused.returncode == 1 and "is failed already" in refused.stderr


def test_cancel_ends_a_running_task_though_no_dispatcher_runs(root: Driver) -> None:
    root.drop("one", "@grandchild child", "@hang")
    root.drop("two", "@wait go", "@say well")
    root.start()
    child = pid_in(root, "child")
    until(lambda: len(root.members("two")) == 2)  # its wrapper and itself
    members = root.members("two")
    root.kill()
    root.ok("cancel", "one")
    assert root.places("one") == ["failed"] and not living(child)
    assert root.members("two") == members, "the other run is not its business"


def test_a_group_that_is_stopped_from_outside_is_no_fault_that_hides(root: Driver) -> None:
    """A run killed by somebody is judged by its signal and tried again."""
    root.drop("one", "@run 1 hang", "@say well")
    root.start()
    until(lambda: len(root.members("one")) == 2)
    os.kill(max(root.members("one")), signal.SIGKILL)
    root.reach("completed", "one")
    assert root.result("one", 1)["exit_code"] == 137
