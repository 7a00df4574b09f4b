"""Workers that fetch their tasks: claim, report, lose them when silent; nothing doubled, nothing lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import python, read, until, write

from orchestrator import TaskQueue, runs
from orchestrator.config import Config
from orchestrator.errors import AlreadyExists, InvalidTask, NotFound, OrchestrateError, Refused
from orchestrator.pull import Assignment
from orchestrator.reading import StillWritten
from orchestrator.recovery import Recovery
from orchestrator.registry import AgentRegistry
from orchestrator.report import Held
from orchestrator.returned import came_back
from orchestrator.roster import STALE_SECONDS
from orchestrator.spool import Spool
from orchestrator.states import Outcome, State
from orchestrator.waiting import Entry
from orchestrator.watch import Watch

pytestmark = pytest.mark.fast


@pytest.fixture
def desk(tmp_path: Path) -> TaskQueue:
    """A queue with one worker that knows the web."""
    queue = TaskQueue(str(tmp_path))
    queue.register_agent("researcher", ["web"])
    return queue


def take(desk: TaskQueue, agent_id: str = "researcher") -> Assignment:
    mine = desk.get_next_task(agent_id)
    assert mine is not None
    return mine


def held(mine: Assignment, agent_id: str = "researcher") -> Held:
    return Held(mine.task_id, agent_id, mine.run, os.path.dirname(mine.prompt_file))


def everything(desk: TaskQueue) -> dict[str, bytes]:
    """Every task and note, wherever it lies."""
    return {str(p): p.read_bytes() for p in Path(desk.tasks).rglob("*.yaml") if p.is_file()}


# -- the way of a task --------------------------------------------------------------------------


def test_a_task_is_claimed_started_and_completed(desk: TaskQueue) -> None:
    one = desk.create_task("Find three sources", task_type="research", requirements=["web"])
    two = desk.create_task("Summarize", dependencies=[one])
    mine = take(desk)
    assert (mine.task_id, mine.run, mine.task_type, mine.requirements) == (one, 1, "research", ("web",))
    assert "Find three sources" in read(mine.prompt_file)
    assert desk.get_task_status(one).status == "assigned"
    desk.start_task(one)
    desk.report_progress(one, 40, {"found": 2})
    desk.report_progress(one, 50)
    status = desk.get_task_status(one)
    assert (status.status, status.percent, status.finding) == ("running", 50.0, {"found": 2})
    result = desk.complete_task(one, {"text": "Here", "notes": ["a hint"]}, {"input": 10, "cost_usd": 0.5, "rows": 7})
    assert (result.state, result.tokens, result.cost_usd, result.metrics) == (
        "completed",
        {"input": 10, "output": 0, "cached": 0},
        0.5,
        {"rows": 7},
    )
    assert read(f"{desk.root}/context/agent_outputs/{one}_output.md") == "Here"
    assert "a hint" in read(f"{desk.root}/context/notes/worker.md")
    kept = runs.read_result(desk.result_path(State.COMPLETED, one))
    assert kept is not None and kept.metrics == {"rows": 7} and kept.run == 1
    assert desk.assignments() == {}
    following = take(desk)
    assert following.task_id == two and "Here" in read(following.prompt_file)


def test_what_comes_first_is_claimed_first(desk: TaskQueue) -> None:
    for priority in ("low", "normal", "high"):
        desk.create_task("x", id=priority, priority=priority)
    assert [one.task_id for one in desk.poll_tasks("researcher")] == ["high", "normal", "low"]
    assert take(desk).task_id == "high"


def test_no_more_than_it_takes_and_several_share_one_claim(desk: TaskQueue) -> None:
    desk.register_agent("many", metadata={"max_concurrent_tasks": 3, "team": "a"})
    for _ in range(5):
        desk.create_task("x")
    assert [one.task_id for one in desk.claim_tasks("many", 2)] == ["task_001", "task_002"]
    assert [one.task_id for one in desk.claim_tasks("many", 5)] == ["task_003"]
    with pytest.raises(Refused, match="task_001, task_002, task_003 already"):
        desk.claim_tasks("many")
    desk.complete_task("task_002", "", agent_id="many", run=1)
    assert take(desk, "many").task_id == "task_004"
    assert [one.task_id for one in desk.poll_tasks("many", "assigned")] == ["task_001", "task_003", "task_004"]


def test_a_failed_one_is_tried_again_as_the_rules_say_or_not(desk: TaskQueue) -> None:
    write(f"{desk.root}/config.yaml", "retry: {retry_delay_seconds: 0}\n")
    one, two = desk.create_task("x"), desk.create_task("x")
    take(desk)
    assert desk.fail_task(one, "no luck\nat all").state == "pending"
    again = take(desk)
    assert (again.task_id, again.run) == (one, 2) and "no luck" in read(again.prompt_file)
    desk.fail_task(one, "never", should_retry=False)
    assert desk.get_task_status(one).status == "failed"
    assert take(desk).task_id == two
    assert desk.give_back(two, "researcher", 1, "stopped").counts is False
    assert take(desk).run == 2


def test_a_file_that_the_worker_wrote_is_the_answer(desk: TaskQueue) -> None:
    one = desk.create_task("x")
    mine = take(desk)
    write(mine.output_file, "written by it\n")
    desk.complete_task(one)
    assert read(f"{desk.root}/context/agent_outputs/{one}_output.md") == "written by it\n"


def test_what_is_asked_is_found(desk: TaskQueue) -> None:
    one = desk.create_task("x", task_type="research", created_at="2025-01-15T10:00:00Z")
    two = desk.create_task("y", priority="high")
    ids = [row.task_id for row in desk.list_tasks()]
    assert ids == [two, one]
    found = desk.query_tasks
    assert [row.task_id for row in found({"task_type": "research"})] == [one]
    assert [row.task_id for row in found({"created_after": "2025-01-16"})] == [two]
    assert [row.task_id for row in found({"created_before": "2025-01-16", "status": "pending"})] == [one]
    assert [row.task_id for row in found({"priority": "high", "limit": 1})] == [two]
    take(desk)
    desk.complete_task(two)
    assert [row.task_id for row in found({"status": "completed", "agent_id": "researcher"})] == [two]
    counts = desk.get_queue_statistics()
    assert (counts["pending_count"], counts["completed_count"], counts["success_rate"]) == (1, 1, 1.0)


# -- fences -------------------------------------------------------------------------------------


def test_a_report_with_an_old_number_changes_nothing_and_is_kept(desk: TaskQueue) -> None:
    write(f"{desk.root}/config.yaml", "retry: {retry_delay_seconds: 0}\n")
    desk.register_agent("other", ["web"])
    one = desk.create_task("x")
    old = take(desk)
    desk.fail_task(one, "lost it")
    new = take(desk, "other")
    before = everything(desk)
    with pytest.raises(Refused, match="run 1 of task_001 is not researcher's: other has it now, as run 2") as said:
        desk.complete_task(one, "my answer", agent_id="researcher", run=old.run)
    assert "my answer" in read(f"{desk.root}/{str(said.value).rpartition('kept as ')[2][:-1]}")
    for report in (desk.report_progress, desk.start_task):
        with pytest.raises(Refused, match="other has it"):
            report(one, *([50] if report == desk.report_progress else []), agent_id="researcher", run=old.run)
    with pytest.raises(Refused, match="other has it"):
        desk.heartbeat("researcher", one, old.run)
    assert everything(desk) == before
    assert desk.complete_task(one, "theirs", agent_id="other", run=new.run).state == "completed"


def test_the_same_worker_cannot_report_on_its_own_older_run(desk: TaskQueue) -> None:
    write(f"{desk.root}/config.yaml", "retry: {retry_delay_seconds: 0}\n")
    one = desk.create_task("x")
    take(desk)
    desk.fail_task(one, "no")
    assert take(desk).run == 2
    with pytest.raises(Refused, match="researcher has it now, as run 2"):
        desk.complete_task(one, "old", agent_id="researcher", run=1)
    assert desk.get_task_status(one).status == "assigned"


def test_a_second_completion_is_refused(desk: TaskQueue) -> None:
    one = desk.create_task("x")
    mine = take(desk)
    desk.complete_task(one, "first", agent_id="researcher", run=mine.run)
    before = everything(desk)
    with pytest.raises(Refused, match=r"the task has ended \(completed\) \(kept as tasks/runs/task_001/1/late.md\)"):
        desk.complete_task(one, "second", agent_id="researcher", run=mine.run)
    with pytest.raises(Refused, match="nobody has it"):
        desk.complete_task(one, "third")
    assert everything(desk) == before
    assert read(f"{desk.root}/context/agent_outputs/{one}_output.md") == "first"


def test_an_index_that_is_behind_does_not_use_the_folder_of_anothers_run(desk: TaskQueue) -> None:
    write(f"{desk.root}/config.yaml", "retry: {retry_delay_seconds: 0}\n")
    one = desk.create_task("x")
    behind = TaskQueue(desk.root)
    assert [row.task_id for row in behind.poll_tasks("researcher")] == [one]
    take(desk)
    desk.fail_task(one, "no")
    behind.offers._look_at = 1e18  # it has not looked again since
    mine = behind.get_next_task("researcher")
    assert mine is not None and mine.run == 2
    assert runs.read_result(f"{desk.run_folder(one, 1)}/result.yaml") is not None


def test_a_claim_that_was_lost_leaves_nothing_and_the_next_is_taken(desk: TaskQueue) -> None:
    one, two = desk.create_task("x"), desk.create_task("x")
    behind = TaskQueue(desk.root)
    behind.poll_tasks("researcher")
    fd = os.open(_made(f"{desk.run_folder(one, 1)}/alive"), os.O_RDWR)
    os.close(fd)
    lock = runs.take_alive(desk.run_folder(one, 1))  # somebody is claiming it
    mine = behind.get_next_task("researcher")
    os.close(lock)
    assert mine is not None and mine.task_id == two
    assert not runs.has_begun(desk.run_folder(one, 1))


def _made(path: str) -> str:
    return write(path, "")


# -- silence ------------------------------------------------------------------------------------


def test_a_silent_worker_loses_its_task_and_its_report_comes_too_late(desk: TaskQueue) -> None:
    desk.register_agent("other")
    one = desk.create_task("x")
    mine = take(desk)
    watch = Watch(desk.pull)
    assert watch.look(100.0) == [] and watch.look(100.0 + STALE_SECONDS - 1) == []
    ended = watch.look(100.0 + STALE_SECONDS)
    assert [(row.task_id, row.status, row.state) for row in ended] == [(one, Outcome.LOST, State.PENDING)]
    assert "researcher was not heard of for 60 s" in ended[0].reason
    again = take(desk, "other")
    assert (again.task_id, again.run) == (one, 2)
    with pytest.raises(Refused, match=r"other has it now, as run 2 .*kept as"):
        desk.complete_task(one, "after all", agent_id="researcher", run=mine.run)
    assert desk.complete_task(one, "well").agent_id == "other"


@pytest.mark.parametrize("sign", ["heartbeat", "progress"])
def test_a_sign_of_life_counts_from_then(desk: TaskQueue, sign: str) -> None:
    one = desk.create_task("x")
    mine = take(desk)
    watch = Watch(desk.pull)
    watch.look(0.0)
    os.utime(f"{desk.run_folder(one, 1)}/alive", (1.0, 1.0))
    watch.look(1.0)
    if sign == "heartbeat":
        desk.heartbeat("researcher", one, mine.run)
    else:
        desk.report_progress(one, 5)
    assert watch.look(50.0) == [] and watch.look(50.0 + STALE_SECONDS - 1) == []
    assert len(watch.look(50.0 + STALE_SECONDS)) == 1


def test_a_worker_that_looks_leaves_what_is_for_others_where_it_is(desk: TaskQueue) -> None:
    """Specialists (one whose file is broken), agents that are not enabled, or set up later: it is not his to judge."""
    write(f"{desk.root}/config.yaml", "agents: {shell: {}, off: {command: cat, enabled: false}}\n")
    write(f"{desk.root}/agents/law.md", "no head")
    others = [desk.add("x", preferred_agent=one) for one in ("research", "law", "off")]
    write(f"{desk.tasks}/pending/later.yaml", "description: x\npreferred_agent: mine\n")
    web = desk.create_task("Find it", requirements=["web"])
    assert [one.task_id for one in desk.poll_tasks("researcher")] == [web]
    assert take(desk).task_id == web and desk.poll_tasks("researcher") == []
    assert sorted(desk.ids(State.PENDING)) == sorted([*others, "later"])
    assert not os.path.exists(f"{desk.tasks}/rejected") or not os.listdir(f"{desk.tasks}/rejected")


def test_polling_for_more_is_no_sign_of_life_of_what_it_has(desk: TaskQueue) -> None:
    desk.create_task("x")
    take(desk)
    watch = Watch(desk.pull)
    watch.look(0.0)
    desk.heartbeat("researcher")
    assert len(watch.look(STALE_SECONDS)) == 1


def test_whoever_is_reporting_is_not_silent(desk: TaskQueue) -> None:
    one = desk.create_task("x")
    mine = take(desk)
    watch = Watch(TaskQueue(desk.root).pull)
    watch.look(0.0)
    with desk.pull.reporting(held(mine)):
        assert watch.look(STALE_SECONDS) == []
    assert desk.complete_task(one, "in time").state == "completed"


def test_a_worker_that_registers_again_gives_back_what_the_dead_one_had(desk: TaskQueue) -> None:
    one = desk.create_task("x")
    mine = take(desk)
    with pytest.raises(AlreadyExists, match=r"a worker of that id was heard of \d+ s ago"):
        desk.register_agent("researcher", ["web"])
    desk.register_agent("researcher", ["web"], replace=True)
    again = take(desk)
    assert (again.task_id, again.run) == (one, mine.run + 1)
    with pytest.raises(Refused, match="as run 2"):
        desk.complete_task(one, "the dead one's", agent_id="researcher", run=mine.run)


# -- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agent_id", "more", "said"),
    [
        ("a b", {}, "may hold letters"),
        ("agent_01", {}, "is the name of a slot"),
        ("x" * 61, {}, "longer than 60 bytes"),
        ("x", {"capabilities": ["a b"]}, "capability 'a b' may hold"),
        ("x", {"agent_type": "../x"}, "agent type"),
        ("x", {"metadata": {"max_concurrent_tasks": 0}}, "a whole number of 1 or more, not 0"),
        ("x", {"metadata": {"max_concurrent_tasks": "2"}}, "a whole number of 1 or more, not '2'"),
    ],
)
def test_a_worker_that_cannot_be_is_refused(desk: TaskQueue, agent_id: str, more: dict[str, object], said: str) -> None:
    before = sorted(os.listdir(desk.roster.folder))
    with pytest.raises(OrchestrateError, match=said):
        desk.register_agent(agent_id, **more)  # type: ignore[arg-type]
    assert sorted(os.listdir(desk.roster.folder)) == before


def test_an_unknown_worker_is_told_with_the_nearest_name(desk: TaskQueue) -> None:
    for call in (desk.get_next_task, desk.poll_tasks, desk.heartbeat, desk.unregister_agent):
        with pytest.raises(
            NotFound, match=r"reseacher: no such worker \(did you mean 'researcher'\?\); register it first"
        ):
            call("reseacher")


def test_what_it_cannot_do_is_refused_with_the_reason(desk: TaskQueue) -> None:
    desk.create_task("x", id="wbe", requirements=["wbe"])
    desk.create_task("x", id="other", preferred_agent="claude")
    desk.create_task("x", id="script", run="true")
    desk.create_task("x", id="late", dependencies=["wbe"])
    for one, said in [
        ("wbe", r"wbe: needs wbe \(did you mean 'web'\?\); researcher has web"),
        ("other", "is for claude"),
        ("script", "has a 'run:' script"),
        ("late", "waits for wbe"),
    ]:
        with pytest.raises(Refused, match=said):
            desk.assign_task(one, "researcher")
    with pytest.raises(NotFound):
        desk.assign_task("nothing", "researcher")
    assert desk.poll_tasks("researcher") == [] and desk.get_next_task("researcher") is None
    assert desk.count(State.PENDING) == 4


@pytest.mark.parametrize("percent", [-1, 101, float("nan"), True, "50", None])
def test_a_percent_that_is_none_is_refused(desk: TaskQueue, percent: object) -> None:
    one = desk.create_task("x")
    take(desk)
    with pytest.raises(OrchestrateError, match="a number from 0 to 100"):
        desk.report_progress(one, percent)  # type: ignore[arg-type]
    assert desk.get_task_status(one).percent is None


@pytest.mark.parametrize("finding", ["x" * 10_000_000, object(), float("inf"), {1, 2}])
def test_a_finding_that_is_too_much_or_no_json_is_refused(desk: TaskQueue, finding: object) -> None:
    one = desk.create_task("x")
    take(desk)
    with pytest.raises(OrchestrateError, match="findings: "):
        desk.report_progress(one, 50, finding)
    assert desk.get_task_status(one).percent is None


@pytest.mark.parametrize(
    ("result", "metrics", "said"),
    [
        ({"txt": "x"}, None, r"unknown key 'txt' \(did you mean 'text'\?\)"),
        ("x", {"cost_usd": "much"}, "cost_usd: write a number"),
        ("x", {"a b": 1}, "'a b' is no name"),
    ],
)
def test_a_result_that_is_none_leaves_the_task_where_it_is(
    desk: TaskQueue, result: object, metrics: object, said: str
) -> None:
    one = desk.create_task("x")
    take(desk)
    with pytest.raises(OrchestrateError, match=said):
        desk.complete_task(one, result, metrics)  # type: ignore[arg-type]
    assert desk.get_task_status(one).status == "assigned"


def test_filters_that_are_none_are_refused(desk: TaskQueue) -> None:
    for filters, said in [
        ({"statsu": "x"}, r"unknown filter 'statsu' \(did you mean 'status'\?\)"),
        ({"status": "runing"}, "did you mean 'running'"),
        ({"created_after": "soon"}, "created_after: write a time"),
        ({"limit": -1}, "limit: write a whole number"),
        ({"priority": "hihg"}, "write high, normal or low"),
    ]:
        with pytest.raises(OrchestrateError, match=said):
            desk.query_tasks(filters)
    with pytest.raises(InvalidTask):
        desk.create_task("")


def test_a_torn_report_of_progress_is_passed_over(desk: TaskQueue) -> None:
    one = desk.create_task("x")
    take(desk)
    desk.report_progress(one, 30, "found")
    with open(f"{desk.run_folder(one, 1)}/progress.jsonl", "ab") as file:
        file.write(b'{"at": "2025')
    assert desk.get_task_status(one).percent == 30.0
    desk.report_progress(one, 60)
    assert (desk.get_task_status(one).percent, desk.get_task_status(one).finding) == (60.0, "found")


def test_a_stopped_worker_that_reports_holds_its_run_and_nobody_up(
    desk: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell whether it goes on in a moment; what it holds stays its own."""
    one = desk.create_task("x")
    take(desk)
    child = python(
        "import sys\nfrom orchestrator import TaskQueue\nfrom orchestrator.report import Held\n"
        "q = TaskQueue(sys.argv[1])\n"
        "with q.pull.reporting(Held('task_001', 'researcher', 1, q.run_folder('task_001', 1))):\n"
        "    print('in', flush=True); input()\n",
        desk.root,
    )
    assert child.stdout is not None and child.stdout.readline() == "in\n"
    child.send_signal(signal.SIGSTOP)
    watch = Watch(desk.pull)
    watch.look(0.0)
    with monkeypatch.context() as patched:
        patched.setattr(time, "sleep", lambda seconds: pytest.fail("the dispatcher waited for it"))
        assert watch.look(STALE_SECONDS) == []
    child.kill()
    child.communicate()
    until(lambda: watch.look(3 * STALE_SECONDS))
    assert desk.get_task_status(one).status == "pending"


# -- beside a dispatcher that starts, and a scan ------------------------------------------------


def test_what_a_worker_left_under_the_name_of_the_verdict_is_none(desk: TaskQueue) -> None:
    task = desk.create_task("x", requirements=["web"])
    mine = take(desk)
    forged = runs.Result("other", "researcher", "worker", mine.run, Outcome.SUCCESS, 1.0, State.COMPLETED)
    write(f"{os.path.dirname(mine.prompt_file)}/result.yaml", forged.to_yaml().decode())
    assert desk.fail_task(task, "no", should_retry=False).state is State.FAILED
    assert desk.state_of(task) is State.FAILED


def test_a_result_whose_task_a_worker_is_about_to_move_stays(desk: TaskQueue) -> None:
    task = desk.create_task("x", requirements=["web"])
    mine = take(desk)
    verdict = runs.Result(task, "researcher", "worker", mine.run, Outcome.SUCCESS, 1.0, State.COMPLETED)
    write(f"{desk.run_folder(task, mine.run)}/result.yaml", verdict.to_yaml().decode())
    desk.place_result(task, State.COMPLETED, f"{desk.run_folder(task, mine.run)}/result.yaml")
    recovery = Recovery(
        desk, AgentRegistry(desk.root, Config(), {}), lambda *run: pytest.fail(str(run)), lambda *told: None
    )
    recovery.run(time.time())
    assert os.path.exists(desk.result_path(State.COMPLETED, task))


def test_a_file_that_its_worker_has_just_given_back_is_no_copy_of_it(
    desk: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = desk.create_task("x", requirements=["web"])
    take(desk)
    drop = Spool.drop_copy

    def given_back_first(queue: Spool, path: str, kept: str) -> bool:
        desk.fail_task(task, "later", should_retry=True)
        return drop(queue, path, kept)

    monkeypatch.setattr(Spool, "drop_copy", given_back_first)
    with pytest.raises(StillWritten):
        came_back(desk, task, f"{task}.yaml", b"")
    assert desk.state_of(task) is State.PENDING


def test_what_was_just_added_here_is_weighed_at_the_next_claim(desk: TaskQueue) -> None:
    desk.register_agent("quick", [], {"max_concurrent_tasks": 5})
    desk.add("first", priority="low")
    assert desk.poll_tasks("quick")
    urgent = desk.create_task("second", priority="high")
    mine = desk.get_next_task("quick")
    assert mine is not None and mine.task_id == urgent


def test_who_is_stopped_between_the_folder_and_its_lock_does_not_take_a_run_that_was_done_meanwhile(
    desk: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = desk.create_task("x", requirements=["web"]), TaskQueue(desk.root)
    other.register_agent("quick", ["web"])
    lock = runs.take_alive

    def late(folder: str, patience: int = 20) -> int:
        monkeypatch.setattr(runs, "take_alive", lock)
        mine = other.get_next_task("quick")
        assert mine is not None and mine.run == 1
        assert other.give_back(one, "quick", 1, "did not do it").state is State.PENDING
        return lock(folder, patience)

    monkeypatch.setattr(runs, "take_alive", late)
    taken = desk.get_next_task("researcher")
    assert taken is not None and taken.run == 2
    assert "did not do it" in (Path(desk.run_folder(one, 1)) / "result.yaml").read_text()


def test_whoever_was_slower_does_not_hold_the_run_of_whoever_was_faster(
    desk: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = desk.create_task("x"), desk.create_task("x")
    other, lock = TaskQueue(desk.root), runs.take_alive
    other.register_agent("quick")

    def late(folder: str, patience: int = 20) -> int:
        monkeypatch.setattr(runs, "take_alive", lock)
        assert take(other, "quick").task_id == one
        return lock(folder, patience)

    def wanted() -> Iterator[tuple[Entry, bytes]]:
        for entry in desk.index(time.time()).in_order(time.time()):
            yield entry, b""
            if entry.task.id == one:  # lost; and the claim goes on
                other.complete_task(one, "well", agent_id="quick", run=1)

    monkeypatch.setattr(runs, "take_alive", late)
    claimed = desk.pull.claim(wanted(), desk.roster.worker("researcher"), 2)
    assert [held.id for held, _ in claimed] == [two]
    assert desk.get_task_status(one).status == "completed"


def test_a_fifo_in_the_place_of_the_progress_is_named_and_waited_for_by_nobody(desk: TaskQueue) -> None:
    one = desk.create_task("x")
    take(desk)
    os.mkfifo(f"{desk.run_folder(one, 1)}/progress.jsonl")
    with pytest.raises(OSError, match="is no regular file"):
        desk.report_progress(one, 50, "x" * 100_000)  # more than a pipe holds
