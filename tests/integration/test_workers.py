"""Workers as processes: dead at any instant, many at once, beside a dispatcher, over the shell."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import at_once, python, read
from integration.driver import LONG, REPOSITORY, Driver, until

from orchestrator import AgentWorker, TaskQueue, app
from orchestrator.clock import Clock
from orchestrator.config import load
from orchestrator.events import Event
from orchestrator.history import result_of
from orchestrator.pull import Assignment
from orchestrator.roster import STALE_SECONDS
from orchestrator.runs import has_begun
from orchestrator.states import State
from orchestrator.watch import Watch
from orchestrator.watcher import Bell

# Each command is a process of its own, forked from one that has loaded all of them: loading takes most of their time.
COMMANDS = """
import json, os, sys
from orchestrator import app, cli, queue, worker
from orchestrator.cli import base, commands, lane, looks, machine, pulling, routing, status, stopping, views
for line in sys.stdin:
    words, out, err = json.loads(line)
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for fd, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), fd)
        sys.argv = ["orchestrate", *words]
        try:
            code = cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Desk(Driver):
    """A root where a command costs a fork."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._folder = folder
        self._commands: subprocess.Popen[str] | None = None

    def run(self, *words: Any, **more: Any) -> Any:
        if more:
            return super().run(*words, **more)
        if self._commands is None:
            self._commands = subprocess.Popen(
                [sys.executable, "-c", COMMANDS], cwd=self.root, env=self.environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
        assert self._commands.stdin and self._commands.stdout
        out, err = self._folder / "stdout", self._folder / "stderr"
        self._commands.stdin.write(json.dumps([words, str(out), str(err)]) + "\n")
        self._commands.stdin.flush()
        code = int(self._commands.stdout.readline())
        return subprocess.CompletedProcess(words, code, read(out), read(err))

    def close(self) -> None:
        if self._commands is not None:
            self._commands.communicate()
        super().close()


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    """A root; each test says what is set up in it."""
    made = Desk(tmp_path)
    yield made
    made.close()


# One process for all: a child is forked for each call that changes files, and dies just before it.
DIE = """
import os, signal, sys
from orchestrator import TaskQueue, files
folder, act = sys.argv[1:]
files._system_rename()
ANSWER = {"text": "done", "notes": ["once"]}
for last in range(1, 100):
    root = f"{folder}/{last}"
    os.mkdir(root)
    queue = TaskQueue(root)
    queue.register_agent("researcher")
    with open(f"{root}/config.yaml", "w") as file:
        file.write("retry: {retry_delay_seconds: 0}")
    queue.create_task("Do it once")
    queue.poll_tasks("researcher") if act == "claim" else queue.get_next_task("researcher")
    child = os.fork()
    if not child:
        count = 0
        def dying(real):
            def call(*args, **more):
                global count
                count += 1
                if count == last:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **more)
            return call
        for name in ("write", "pwrite", "rename", "replace", "unlink", "link", "mkdir", "utime"):
            setattr(os, name, dying(getattr(os, name)))
        files._rename_with_flags[0] = dying(files._rename_with_flags[0])
        if act == "claim":
            queue.get_next_task("researcher")
        elif act == "complete":
            queue.complete_task("task_001", ANSWER, agent_id="researcher", run=1)
        elif act == "fail":
            queue.fail_task("task_001", "no", agent_id="researcher", run=1)
        else:
            queue.report_progress("task_001", 50, "found", agent_id="researcher", run=1)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        print(last)
        break
"""


@pytest.mark.parametrize("act", ["claim", "complete", "fail", "progress"])
def test_a_worker_that_dies_anywhere_loses_and_doubles_nothing(tmp_path: Path, act: str) -> None:
    child = python(DIE, str(tmp_path), act)
    out, err = child.communicate(timeout=100)
    assert out.strip(), err
    assert int(out) > {"claim": 8, "complete": 15, "fail": 10, "progress": 2}[act]
    for last in range(1, int(out)):  # the last one came to its end
        desk = TaskQueue(str(tmp_path / str(last)))
        watch = Watch(desk.pull)
        for look in range(2):
            watch.look(look * STALE_SECONDS)
        places = [state for state in State if os.path.exists(desk.path(state, "task_001"))]
        assert len(places) == 1 and places[0] in (State.PENDING, State.COMPLETED), (last, places)
        if places[0] is State.PENDING:
            desk.register_agent("second")
            mine = desk.get_next_task("second")
            assert mine is not None, last
            desk.complete_task("task_001", {"text": "done", "notes": ["once"]}, agent_id="second", run=mine.run)
        assert read(f"{desk.root}/context/agent_outputs/task_001_output.md") == "done"
        assert read(f"{desk.root}/context/notes/worker.md").count("once") == 1
        assert len(json.loads(read(f"{desk.root}/context/completed_tasks.json"))) == 1
        for look in range(2, 4):
            watch.look(look * STALE_SECONDS)
        assert desk.assignments() == {}, last


# -- many at once -------------------------------------------------------------------------------

PULL = """
import sys
import threading
from orchestrator import TaskQueue
queue, me = TaskQueue(sys.argv[1]), sys.argv[2]
queue.register_agent(me, metadata={"max_concurrent_tasks": 5})
input()
done = []
while found := queue.claim_tasks(me, 3):
    for task in found:
        queue.complete_task(task.task_id, me, agent_id=me, run=task.run)
        done.append(task.task_id)
print(*done)
"""


def test_four_workers_beside_a_dispatcher_do_each_task_once(driver: Driver) -> None:
    driver.make()
    ids = [f"t_{number:03d}" for number in range(100)]
    for one in ids:
        driver.drop(one, "@say by an agent")
    driver.start()
    said = at_once(PULL, [(str(driver.root), f"w{number}") for number in range(4)])
    driver.reach("completed", *ids)
    pulled = [one for line in said for one in line.split()]
    assert len(pulled) == len(set(pulled))
    desk = TaskQueue(str(driver.root))
    begun = {one: [n for n in desk.run_numbers(one) if has_begun(desk.run_folder(one, n))] for one in ids}
    assert {one: numbers for one, numbers in begun.items() if len(numbers) != 1} == {}
    by = {one: result_of(desk, one, State.COMPLETED) for one in ids}
    assert {one for one, result in by.items() if result and result.agent_id.startswith("w")} == set(pulled)
    rows = json.loads(read(driver.root / "context/completed_tasks.json"))
    assert sorted(row["task_id"] for row in rows) == ids
    until(lambda: not desk.assignments())


def test_what_a_worker_completes_lets_the_dispatcher_go_on_at_once(driver: Driver) -> None:
    driver.make(limits={"grace_seconds": 0.3})
    desk = TaskQueue(str(driver.root))
    desk.register_agent("researcher", ["abacus"])
    driver.start()
    driver.drop("first", requirements=["abacus"])
    driver.drop("second", "@say done", dependencies=["first"])
    driver.seen()
    waits = {row["task_id"]: row["reason"] for row in driver.json("tasks", "--status", "pending")}
    assert waits["second"] == "waits for first (waiting)"
    assert waits["first"] == "for worker researcher, who has 0 of 1 and fetches its work itself"
    mine = desk.get_next_task("researcher")
    assert mine is not None and mine.task_id == "first"
    desk.complete_task("first", "found")
    driver.reach("completed", "second")
    assert "found" in driver.prompt("second")


def test_the_dispatcher_takes_back_what_a_silent_worker_has_and_tells_it(driver: Driver) -> None:
    driver.make()
    desk = TaskQueue(str(driver.root))
    desk.register_agent("silent")
    task = desk.create_task("x", preferred_agent="silent")
    assert desk.get_next_task("silent") is not None
    told: list[tuple[str, str]] = []
    dispatcher = app.build(str(driver.root), load(str(driver.root)), {}, Bell(), [Heard(told)], False)
    clock = dispatcher.clock = Stepping()
    dispatcher.recover()
    try:
        for seconds in (0, 30, 59):
            clock.now = 1000.0 + seconds
            dispatcher.turn()
            assert desk.get_task_status(task).status == "assigned"
        clock.now = 1000.0 + STALE_SECONDS + 5
        dispatcher.turn()
    finally:
        dispatcher.watcher.stop()
    assert desk.get_task_status(task).status == "pending"
    assert ("retried", task) in told


def test_who_nudges_now_and_then_is_answered_at_once_and_who_does_all_the_time_gets_a_share(driver: Driver) -> None:
    driver.make()
    dispatcher = app.build(str(driver.root), load(str(driver.root)), {}, Bell(), [], False)
    clock = dispatcher.clock = Lagging()
    looked: list[float] = []
    look = dispatcher.watch.look
    dispatcher.watch.look = lambda lived: looked.append(lived) or look(lived)  # type: ignore[method-assign]
    dispatcher.recover()
    try:
        for nudges in range(1, 4):
            dispatcher.note(signal.SIGUSR1)
            dispatcher.turn()
            assert len(looked) == nudges
        begun = clock.now
        while clock.now < begun + 600:
            dispatcher.note(signal.SIGUSR1)
            dispatcher.turn()
    finally:
        dispatcher.watcher.stop()
    assert len(looked) * Lagging.STEP < 0.2 * (clock.now - begun)


class Heard:
    """Listens."""

    def __init__(self, told: list[tuple[str, str]]) -> None:
        self._told = told

    def hear(self, event: Event) -> None:
        self._told.append((event.kind, event.task_id))

    def flush(self) -> None:
        pass


class Stepping(Clock):
    """Lives as much as the test says."""

    now = 1000.0

    def lived(self) -> float:
        return self.now


class Lagging(Clock):
    """Each look at it takes long, and so does each scan."""

    STEP = 0.2
    now = 1000.0

    def lived(self) -> float:
        self.now += self.STEP
        return self.now


# -- as processes -------------------------------------------------------------------------------

WORKERS = """
import os, time
from orchestrator import AgentWorker

class Good(AgentWorker):
    max_concurrent_tasks = 2
    def execute(self, task):
        self.report_progress(50, findings={"words": len(task.description.split())})
        return {"text": "good", "notes": ["a note"], "metrics": {"rows": 3}}

class Async(AgentWorker):
    async def execute(self, task):
        return "async"

class Bad(AgentWorker):
    def execute(self, task):
        raise ValueError("first line\\nsecond line")

class Never(AgentWorker):
    def execute(self, task):
        error = RuntimeError("never")
        error.should_retry = False
        raise error

class Wrong(AgentWorker):
    def execute(self, task):
        return 5

class Slow(AgentWorker):
    grace_seconds = 0.2
    def execute(self, task):
        open("running", "w").close()
        while not os.path.exists("go"):
            time.sleep(0.01)
        return "slow"
"""


def work(driver: Driver, name: str, *more: str) -> subprocess.CompletedProcess[str]:
    done = driver.run("worker", f"mine:{name}", "--until-idle", *more)
    assert isinstance(done, subprocess.CompletedProcess)
    return done


@pytest.fixture
def staff(driver: Driver) -> Driver:
    """A queue with workers beside it, that retries at once and only once."""
    driver.make(retry={"max_retries": 1, "retry_delay_seconds": 0})
    (driver.root / "mine.py").write_text(WORKERS)
    return driver


def test_a_worker_of_a_class_does_its_tasks_and_goes(staff: Driver) -> None:
    for one in ("a", "b", "c"):
        staff.drop(one)
    done = work(staff, "Good", "--id", "good", "--capability", "web")
    assert done.returncode == 0, done.stderr
    assert staff.places("a") == staff.places("b") == staff.places("c") == ["completed"]
    result = staff.result("a")
    assert (result["agent_id"], result["metrics"], staff.answer("a")) == ("good", {"rows": 3}, "good")
    assert '"words": 2' in read(staff.runs("a") / "1/progress.jsonl")
    assert not list((staff.root / ".orchestrator/workers").glob("good*"))
    staff.drop("d")
    assert work(staff, "Async").returncode == 0
    assert staff.answer("d") == "async"


def test_what_a_worker_raises_is_a_failed_attempt_with_one_line(staff: Driver) -> None:
    staff.drop("a")
    done = work(staff, "Bad")
    assert done.returncode == 0 and 'raise ValueError("first line' in done.stderr
    assert staff.places("a") == ["review"] and staff.count("a") == 2
    assert staff.result("a")["reason"].startswith("agent_error: ValueError: first line second line (after 2 attempts)")
    staff.drop("b")
    work(staff, "Never")
    assert (staff.places("b"), staff.count("b")) == (["failed"], 1)
    staff.drop("c")
    work(staff, "Wrong")
    assert "execute returned a int" in staff.result("c")["reason"]


def test_a_worker_that_is_stopped_gives_back_what_it_cannot_finish(staff: Driver) -> None:
    staff.drop("a")
    child = staff.spawn("worker", "mine:Slow")
    until(lambda: (staff.root / "running").exists())
    child.send_signal(signal.SIGTERM)
    assert child.wait(LONG) == 0
    assert staff.places("a") == ["pending"]
    assert staff.result("a", 1)["counts"] is False
    (staff.root / "running").unlink()
    child = staff.spawn("worker", "mine:Slow", "--id", "again")
    until(lambda: (staff.root / "running").exists())
    second = staff.run("worker", "mine:Slow", "--id", "again")
    assert second.returncode == 1 and "a worker of that id runs already" in second.stderr
    child.kill()
    child.wait()
    staff.go()
    assert work(staff, "Slow", "--id", "again").returncode == 0  # the kernel says that the other is dead: no waiting
    assert staff.places("a") == ["completed"] and staff.answer("a") == "slow"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mine", "write module:Class"),
        ("nothing:At", "nothing: cannot be imported"),
        ("mine:os", "is no subclass of AgentWorker"),
    ],
)
def test_a_worker_that_is_none_is_told_in_one_line(staff: Driver, name: str, said: str) -> None:
    done = staff.run("worker", name)
    assert done.returncode == 1 and said in done.stderr and done.stderr.count("\n") == 1


# -- over the shell -----------------------------------------------------------------------------


def test_a_task_over_the_shell_from_claim_to_completion(driver: Driver) -> None:
    driver.make()
    found = driver.json("register", "me", "--capability", "web", "--max", "2")
    assert (found["agent_id"], found["capabilities"], found["max_concurrent_tasks"]) == ("me", ["web"], 2)
    driver.drop("a", requirements=["web"])
    driver.drop("b")
    assert [row["task_id"] for row in driver.json("poll", "me", "--limit", "5")] == ["a", "b"]
    mine = driver.json("poll", "me", "--claim")[0]
    assert (mine["task_id"], mine["run"]) == ("a", 1)
    line = driver.ok("poll", "me", "--claim").rstrip("\n").split("\t")
    assert line[:2] == ["b", "1"] and "Do b" in read(line[2])
    driver.ok("begin", "a", "--agent", "me", "--run", "1")
    driver.ok("heartbeat", "me", "--task", "a", "--run", "1")
    driver.ok("progress", "a", "40", "--finding", '{"sources": 2}', "--agent", "me", "--run", "1")
    shown = {row["task_id"]: row for row in driver.json("status")["running"]}
    assert (shown["a"]["percent"], shown["a"]["finding"]) == (40.0, {"sources": 2})
    for words in (("status",), ("tasks",), ("show", "a"), ("logs", "a")):
        assert '40 %: {"sources": 2}' in driver.ok(*words), words
    done = driver.json("complete", "a", "--agent", "me", "--run", "1", "--result", "Here", "--metric", "rows=7")
    assert (done["state"], done["status"]) == ("completed", "success")
    assert driver.answer("a") == "Here" and driver.result("a")["metrics"] == {"rows": 7}
    failed = driver.json("fail", "b", "--error", "the site is down", "--no-retry")
    assert failed["state"] == "failed" and "the site is down" in failed["reason"]
    driver.ok("unregister", "me")
    assert driver.run("poll", "me").returncode == 1


def test_what_is_refused_over_the_shell_is_one_line_and_changes_nothing(driver: Driver) -> None:
    driver.make()
    driver.ok("register", "me")
    driver.drop("a")
    driver.ok("poll", "me", "--claim")
    for words, said in [
        (("register", "me"), "a worker of that id was heard of"),
        (("poll", "mee"), "did you mean 'me'?"),
        (("poll", "me", "--claim"), "me: has a already (max_concurrent_tasks: 1)"),
        (("complete", "a", "--agent", "me", "--run", "2"), "run 2 of a is not me's: me has it now, as run 1"),
        (("progress", "a", "much"), "a number from 0 to 100"),
        (("complete", "a", "--metric", "rows"), "write a name and a number"),
        (("complete", "a", "--result-file", "none"), "none: No such file"),
        (("unregister", "me"), "has a; complete or fail that first"),
    ]:
        done = driver.run(*words)
        assert done.returncode == 1 and said in done.stderr and done.stderr.count("\n") == 1, (words, done.stderr)
        assert driver.places("a") == ["assigned"]


def test_a_cancelled_worker_is_refused_and_what_it_says_is_kept(driver: Driver) -> None:
    driver.make()
    driver.ok("register", "me")
    driver.drop("a")
    driver.ok("poll", "me", "--claim")
    assert "cancelled; me is told" in driver.ok("cancel", "a")
    assert driver.places("a") == ["failed"] and driver.result("a")["status"] == "cancelled"
    done = driver.run("complete", "a", "--agent", "me", "--run", "1", "--result", "after all")
    assert done.returncode == 1 and "kept as tasks/runs/a/1/late.md" in done.stderr
    assert "after all" in read(driver.runs("a") / "1/late.md")
    driver.ok("retry", "a")
    assert driver.json("poll", "me", "--claim")[0]["run"] == 2


def test_an_agent_of_the_dispatcher_reports_progress_without_saying_who_it_is(driver: Driver) -> None:
    command = f"{shlex.quote(sys.executable)} -m orchestrator.cli progress 30 --finding half && touch said && while ! test -e go; do sleep 0.05; done"
    driver.make({"shell": {"adapter": "shell", "command": "sh", "pass_env": ["PYTHONPATH"]}})
    driver.drop("a", run=command)
    driver.start()
    until(lambda: (driver.root / "said").exists(), what=lambda: driver.story("a"))
    row = driver.json("status")["running"][0]
    assert (row["percent"], row["finding"]) == (30.0, "half")
    refused = driver.run("complete", "a", "--result", "x")
    assert refused.returncode == 1 and "the dispatcher started run 1" in refused.stderr
    driver.go()
    driver.reach("completed", "a")


@pytest.mark.parametrize("name", ["worker.sh", "worker.py"])
def test_the_examples_do_what_they_say(driver: Driver, name: str) -> None:
    driver.make()
    for one in ("a", "b"):
        driver.drop(one, requirements=["counting"])
    command = f"{shlex.quote(sys.executable)} -m orchestrator.cli"
    if name == "worker.sh":
        words = ["sh", f"{REPOSITORY}/examples/worker.sh", "me"]
        env = {**driver.environment, "ORCHESTRATE": f"{os.path.dirname(sys.executable)}/orchestrate"}
    else:
        words = [*shlex.split(command), "worker", "worker:Counter", "--until-idle"]
        env = {**driver.environment, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY}/examples"}
    done = subprocess.run(words, cwd=driver.root, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert driver.places("a") == driver.places("b") == ["completed"]
    assert driver.answer("a").split()[0].isdecimal()
    assert driver.json("status")["running"] == []


def test_a_report_that_the_disk_does_not_take_is_made_again_and_the_work_is_not(driver: Driver) -> None:
    driver.make()
    driver.drop("a")
    outputs, told = driver.root / "context/agent_outputs", []

    class Careful(AgentWorker):
        def execute(self, task: Assignment) -> str:
            told.append("executed")
            outputs.rename(outputs.with_name("elsewhere"))
            outputs.write_text("a file where the outputs should be")
            return "the answer"

        def say(self, text: str) -> None:
            told.append(text)

    worker = Careful(str(driver.root), "careful")
    thread = threading.Thread(target=worker.run, args=(True,))
    thread.start()
    until(lambda: any("cannot be reported" in one for one in told))
    outputs.unlink()
    outputs.with_name("elsewhere").rename(outputs)
    thread.join(LONG)
    assert driver.places("a") == ["completed"] and driver.answer("a") == "the answer"
    assert told.count("executed") == 1 and driver.result("a")["run"] == 1


def test_an_id_that_leads_elsewhere_touches_no_lock_there(staff: Driver) -> None:
    lock = staff.root / ".orchestrator/dispatcher.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.touch()
    refused = staff.run("worker", "mine:Good", "--id", "../dispatcher")
    assert refused.returncode == 1 and refused.stderr.startswith("orchestrate: agent id '../dispatcher' may hold")
    assert lock.exists()
