"""A file in pending/ whose id was used: git, a sync tool or a person brought it back.

The same bytes are a copy that is kept elsewhere already; other bytes are somebody's mistake, and are
rejected by name.
"""

from __future__ import annotations

import os

from orchestrator import files, history, ids, plain
from orchestrator.errors import InvalidTask
from orchestrator.names import printable
from orchestrator.reading import StillWritten
from orchestrator.spool import Spool
from orchestrator.states import ENDED, State
from orchestrator.waiting import Waiting


def came_back(queue: Spool, task_id: str, name: str, content: bytes) -> str:
    """What was done, if this id runs, or has ended; "" if the file is to be run. Raises InvalidTask for another text, StillWritten while git is at work."""
    ids.met(queue, name, task_id)
    places = [state for state in (State.ASSIGNED, *ENDED) if plain.is_there(queue.path(state, task_id))]
    kept = queue.path(places[0], task_id) if places else queue.archived(task_id)
    if not kept:
        return _had_ended(queue, task_id, name, content)
    if _git_is_at_work(queue.root):
        raise StillWritten(name)
    where = os.path.relpath(kept, queue.root)
    if queue.drop_copy(f"{queue.tasks}/{State.PENDING}/{name}", kept):
        return f"a copy of {where} came back; it is not run again"
    if not os.path.exists(kept):  # no copy: somebody else has just brought it back himself
        raise StillWritten(name)
    if places[:1] == [State.ASSIGNED]:
        raise InvalidTask(f"{task_id} runs already ({where}), and keeps the text that it was given")
    raise InvalidTask(f"{task_id} exists already ({where}) as another text; give this one an id of its own")


def waits_already(queue: Spool, waiting: Waiting, task_id: str, name: str) -> str:
    """Whether another file in pending/ has this id: its name, and this one was dropped, if it holds the same bytes;
    `name` if it is the same file; else "". Raises InvalidTask for another text."""
    folded = waiting.same_but_case(task_id)
    other = waiting.by_id.get(folded or task_id)
    if other is None or other.name == name:
        return ""
    folder = f"{queue.tasks}/{State.PENDING}"
    mine, his = os.lstat(f"{folder}/{name}"), os.lstat(f"{folder}/{other.name}")
    if os.path.samestat(mine, his) and mine.st_nlink == 1:
        return name  # one file: its folder takes `A` for `a`, or composed letters for decomposed ones
    if folded:
        raise InvalidTask(f"{task_id} differs from {folded} in upper and lower case only; choose another id")
    if not queue.drop_copy(f"{folder}/{name}", f"{folder}/{other.name}"):
        where = f"tasks/pending/{printable(other.name)}"
        raise InvalidTask(f"{task_id} waits already ({where}); give this one an id of its own")
    return other.name


def _had_ended(queue: Spool, task_id: str, name: str, content: bytes) -> str:
    """If its file vanished from where it had ended (git checkout, git reset), it is put there again. A person who
    wants it tried again leaves its result behind, or changes the text."""
    last = history.last_result(queue, task_id)
    if last is None or last.state not in ENDED or history.was_given_back(queue, last):
        return ""
    result = f"{queue.run_folder(task_id, last.run)}/result.yaml"
    same = history.was_given(os.path.dirname(result), content)
    if last.state is State.COMPLETED and not same:
        raise InvalidTask(f"{task_id} was completed before, as another text; give this one an id of its own")
    if last.state is not State.COMPLETED and (not same or plain.is_there(queue.result_path(last.state, task_id))):
        queue.mark(task_id, "retried")
        queue.take_back_result(task_id, last.state, result)
        return ""
    if _git_is_at_work(queue.root):
        raise StillWritten(name)
    queue.claim(name, task_id)
    queue.place_result(task_id, last.state, result)
    queue.commit(task_id, last.state)
    output = f"{queue.root}/{last.output_file}"
    try:
        files.make_folders(os.path.dirname(output))
        files.link(f"{os.path.dirname(result)}/output.md", output)
    except OSError:
        pass  # its output is there; or it has none
    hint = "" if last.state is State.COMPLETED else f"; to try it again: orchestrate retry {task_id}"
    return f"is {'in ' if last.state is State.REVIEW else ''}{last.state} already; its file came back and was put where it belongs{hint}"


def _git_is_at_work(root: str) -> bool:
    """Whether git is in the midst of a checkout or a rebase: it may take away what it has just put here, and stops if
    it finds another file in its way."""
    folder = os.path.realpath(root)
    while not os.path.exists(f"{folder}/.git") and folder != "/":
        folder = os.path.dirname(folder)
    return any(os.path.exists(f"{folder}/.git/{name}") for name in ("index.lock", "rebase-merge", "rebase-apply"))
