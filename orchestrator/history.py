"""What the run folders say about a task's past attempts. Nothing is kept that can be counted."""

from __future__ import annotations

import os
import re
from collections import Counter

from orchestrator import plain
from orchestrator.places import Places
from orchestrator.runs import Result, assigned_run, has_begun, read_record, read_result
from orchestrator.spool import Spool
from orchestrator.states import ENDED, State
from orchestrator.waiting import Attempt

_RUN = re.compile(rb"^run: (\d{1,9})$", re.MULTILINE)
RESPAWNS = 3  # attempts of one agent at a task; then others go first


def attempts(queue: Spool, task_id: str, before: int = 1 << 30) -> Attempt:
    """The attempts made so far (`before` that one); those count that were made since a person last gave it back."""
    numbers = [number for number in queue.run_numbers(task_id) if number < before]
    if numbers and not has_begun(queue.run_folder(task_id, numbers[-1])):
        numbers.pop()  # the dispatcher died before it was started: its folder is used again
    if not numbers:
        return Attempt()
    counted, last, note = 0, None, ""
    limited, in_a_row = 0, True
    failed = Counter[str]()
    for number in reversed(numbers):
        folder = queue.run_folder(task_id, number)
        result = read_result(f"{folder}/result.yaml")
        if plain.is_there(f"{folder}/retried"):
            note = _text(f"{folder}/retried")
            if last is None and result is not None:  # given back after its last attempt: no back-off
                last = result._replace(retry_at=None)
            break
        if result is not None and last is None:
            last = result
        if result is not None and result.state in ENDED:
            # It had ended, and its file is in pending/ again: somebody moved it back by hand.
            last = last._replace(retry_at=None) if last is result and last else last
            break
        if result is not None and result.counts:
            counted += 1
            failed[result.agent_type] += 1
        in_a_row = in_a_row and result is not None and bool(result.paused_until)
        limited += in_a_row
    return Attempt(
        made=numbers[-1],
        counted=counted,
        not_before=(last.retry_at or 0.0) if last else 0.0,
        last_slot=last.agent_id if last else "",
        spent=tuple(sorted(agent for agent, times in failed.items() if times >= RESPAWNS)),
        last_reason=last.reason if last else "",
        last_status=str(last.status) if last else "",
        last_at=last.completed_at if last else 0.0,
        limited=limited,
        note=note,
    )


def holder(queue: Places, task_id: str) -> tuple[str, str, int]:
    """(agent id, agent type, run number) of whoever has it; ("", "", 0) if nobody has."""
    found = [assigned_run(f"{queue.tasks}/{State.ASSIGNED}/{name}") for name in queue.assignments().get(task_id, ())]
    return max(found, key=lambda one: one[2], default=("", "", 0))


def last_result(queue: Places, task_id: str) -> Result | None:
    """The verdict on the last attempt that got one."""
    for number in reversed(queue.run_numbers(task_id)):
        if result := read_result(f"{queue.run_folder(task_id, number)}/result.yaml"):
            return result
    return None


def last_results(queue: Places, limit: int) -> list[Result]:
    """The verdicts that were written last, of all runs."""
    paths = []
    for task_id in os.listdir(queue.runs) if os.path.isdir(queue.runs) else ():
        for number in queue.run_numbers(task_id):
            path = f"{queue.run_folder(task_id, number)}/result.yaml"
            try:
                paths.append((os.stat(path).st_mtime, path))
            except OSError:
                continue
    return [result for _, path in sorted(paths)[-limit:] if (result := read_result(path))]


def was_given_back(queue: Spool, result: Result) -> bool:
    """Whether a person said `retry` after this verdict."""
    return plain.is_there(f"{queue.run_folder(result.task_id, result.run)}/retried")


def was_given(folder: str, content: bytes) -> bool:
    """Whether this is the task as the run of this folder was given it; True where that was not kept."""
    import hashlib  # and with it OpenSSL: two milliseconds that hardly a command needs

    record = read_record(folder)
    return record is None or record.task_sha256 in (hashlib.sha256(content).hexdigest(), "")


def result_of(queue: Places, task_id: str, state: State | None) -> Result | None:
    """The verdict that is in force for a task in this state."""
    if state in ENDED:
        assert state is not None
        if found := read_result(queue.result_path(state, task_id)):
            return found
    return last_result(queue, task_id)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace", opener=plain.opener) as file:
            return file.read(10_000)
    except OSError as error:
        if not plain.is_lasting(error):
            raise
        return ""


def noted_run(path: str) -> int:
    """The run number of an assignment file, without reading it as YAML; 0 if there is none."""
    try:
        with open(path, "rb", opener=plain.opener) as file:
            match = _RUN.search(file.read(4096))
    except OSError:
        return 0
    return int(match[1]) if match else 0
