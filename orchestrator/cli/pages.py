"""One task on a page, and what a run printed."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from orchestrator import runs
from orchestrator.cli.paint import Paint, span
from orchestrator.cli.views import Views
from orchestrator.errors import NotFound
from orchestrator.spool import TaskQueue

OUTPUT_LINES = 40  # of the answer, on the page


def print_task(root: str, found: dict[str, Any]) -> None:
    """The page of one task."""
    paint = Paint()
    reason = f": {found['reason']}" if found["reason"] else ""
    print(f"{paint.strong(found['task_id'])}  {paint.state(found['state'])}{reason}")
    print(f"file    {found['file']}")
    if found["result"]:
        print(f"result  {found['result']}")
    print()
    for key, value in found["task"].items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        lines = text.splitlines() or [""]
        print(f"{key}: {_safe(lines[0])}")
        for line in lines[1:]:
            print(f"    {_safe(line)}")
    for one in found["runs"]:
        extra = [f"exit {one['exit_code']}"] if one["exit_code"] is not None else []
        if one["tokens"]:
            extra.append(f"{one['tokens']['input']:,} tokens in, {one['tokens']['output']:,} out")
        if one["cost_usd"] is not None:
            extra.append(f"${one['cost_usd']:.4f}")
        print()
        print(
            f"run {one['run']}   {one['status']}  {one['agent']} on {one['agent_id']}  {span(one['seconds'])}  {', '.join(extra)}".rstrip()
        )
        if one["reason"]:
            print(f"        {one['reason']}")
        print(f"        {one['folder']}/ (prompt.md, stdout.log, stderr.log){session(one)}")
    for key in ("notes", "known_issues", "objectives"):
        for one in found[key]:
            print(f"{key.replace('_', ' ').rstrip('s')}: {_safe(one)}")
    if found["files_modified"]:
        print(f"\nfiles modified: {', '.join(found['files_modified'])}")
    path = f"{root}/{found['output']}" if found["output"] else ""
    if path and os.path.isfile(path):
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(200_000).splitlines()
        print(f"\noutput  {found['output']}\n")
        for line in lines[:OUTPUT_LINES]:
            print(f"    {_safe(line)}")
        if len(lines) > OUTPUT_LINES:
            print(f"    … {len(lines) - OUTPUT_LINES} more lines")


def session(run: dict[str, Any]) -> str:
    """The CLI's own session, to go on with it by hand."""
    return f"  session {run['session_id']}" if run["session_id"] else ""


def _safe(line: str) -> str:
    """What an agent wrote, without what could drive a terminal."""
    return "".join(c if c.isprintable() or c == "\t" else "�" for c in line[:2000])


def print_log(root: str, task_id: str, number: int, errors: bool, follow: bool, as_json: bool) -> None:
    """A run's output, as it is; with `follow` until the run has ended. Raises NotFound."""
    queue = TaskQueue(root)
    if not task_id:
        path, folder = f"{queue.own}/dispatcher.log", ""
    else:
        Views(root).find(task_id)
        numbers = queue.run_numbers(task_id)
        while not numbers and follow:
            time.sleep(0.1)
            numbers = queue.run_numbers(task_id)
        if not numbers or (number and number not in numbers):
            raise NotFound(
                f"{task_id}: has not run yet"
                if not numbers
                else f"{task_id}: has no run {number} (there are {', '.join(map(str, numbers))})"
            )
        folder = queue.run_folder(task_id, number or numbers[-1])
        path = f"{folder}/{'stderr' if errors else 'stdout'}.log"
    if as_json:
        import json

        text = _whole(path)
        print(json.dumps({"task_id": task_id, "run": number, "file": os.path.relpath(path, root), "text": text}))
        return
    place = _print_from(path, 0)
    while follow:
        over = folder and not runs.is_alive(folder) and os.path.exists(f"{folder}/exit")
        place = _print_from(path, place)
        if over or (folder and os.path.exists(f"{folder}/result.yaml")):
            break
        time.sleep(0.1)


def _whole(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _print_from(path: str, place: int) -> int:
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < place:
                place = 0  # rolled over
            file.seek(place)
            while part := file.read(1 << 16):
                sys.stdout.buffer.write(part.replace(b"\0", b""))
                place += len(part)
    except FileNotFoundError:
        return place
    sys.stdout.flush()
    return place
