"""A file in pending/ whose id was used: git, a sync tool or a person brought it back.

The same bytes are a copy that is kept elsewhere already; other bytes are somebody's mistake, and are
rejected by name.
"""

from __future__ import annotations

import os

from orchestrator import history
from orchestrator.errors import InvalidTask
from orchestrator.spool import TaskQueue
from orchestrator.states import ENDED, State


def came_back(queue: TaskQueue, task_id: str, name: str, content: bytes) -> str:
    """What was done, if this id runs, or has ended; "" if the file is to be run. Raises InvalidTask for another text."""
    places = [state for state in (State.ASSIGNED, *ENDED) if os.path.exists(queue.path(state, task_id))]
    kept = queue.path(places[0], task_id) if places else queue.archived(task_id)
    if not kept:
        return _had_ended(queue, task_id, name, content)
    where = os.path.relpath(kept, queue.root)
    if queue.drop_copy(f"{queue.tasks}/{State.PENDING}/{name}", kept):
        return f"a copy of {where} came back; it is not run again"
    if places[:1] == [State.ASSIGNED]:
        raise InvalidTask(f"{task_id} runs already ({where}), and keeps the text that it was given")
    raise InvalidTask(f"{task_id} exists already ({where}) as another text; give this one an id of its own")


def _had_ended(queue: TaskQueue, task_id: str, name: str, content: bytes) -> str:
    """If its file vanished from where it had ended (git checkout, git reset), it is put there again. A person who
    wants it tried again leaves its result behind, or changes the text."""
    last = history.last_result(queue, task_id)
    if last is None or last.state not in ENDED or history.was_given_back(queue, last):
        return ""
    result = f"{queue.run_folder(task_id, last.run)}/result.yaml"
    same = history.was_given(os.path.dirname(result), content)
    if last.state is State.COMPLETED and not same:
        raise InvalidTask(f"{task_id} was completed before, as another text; give this one an id of its own")
    if last.state is not State.COMPLETED and (not same or os.path.exists(queue.result_path(last.state, task_id))):
        queue.mark(task_id, "retried")
        queue.take_back_result(task_id, last.state, result)
        return ""
    queue.claim(name, task_id)
    queue.place_result(task_id, last.state, result)
    queue.commit(task_id, last.state)
    hint = "" if last.state is State.COMPLETED else f"; to try it again: orchestrate retry {task_id}"
    return f"is {last.state} already; its file came back and was put where it belongs{hint}"
