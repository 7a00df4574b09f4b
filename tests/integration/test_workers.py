"""Workers as processes: dead at any instant, many at once, beside a dispatcher."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from orchestrator import TaskQueue
from orchestrator.roster import STALE_SECONDS
from orchestrator.states import State
from orchestrator.watch import Watch
from tests.helpers import python, read

# One process for all: a child is forked for each call that changes files, and dies just before it.
DIE = """
import os, signal, sys
from orchestrator import TaskQueue, files
folder, act = sys.argv[1:]
files._system_rename()
ANSWER = {"text": "done", "notes": ["once"]}
for last in range(1, 100):
    root = f"{folder}/{last}"
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
    assert int(out) > {"claim": 8, "complete": 20, "fail": 10, "progress": 2}[act]
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
