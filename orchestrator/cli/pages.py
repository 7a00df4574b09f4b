"""One task on a page."""

from __future__ import annotations

import os
from typing import Any

from orchestrator import plain
from orchestrator.cli.paint import Paint, put, span
from orchestrator.cli.rejects import what_to_do
from orchestrator.cli.status import how_far
from orchestrator.names import printable
from orchestrator.places import is_slot
from orchestrator.states import State

TAIL_LINES = 5  # of what a run printed that left no answer
PAGE_LINES = 40  # of the answer or a field, on the page; the files hold all


def show(root: str, task_id: str, as_json: bool) -> None:
    """Print all that is known of a task. Raises NotFound."""
    from orchestrator.cli.views import Views

    found = Views(root).show(task_id)
    put(found) if as_json else print_task(root, found)


def print_task(root: str, found: dict[str, Any]) -> None:
    """The page of one task."""
    paint = Paint()
    reason = f": {found['reason']}" if found["reason"] else ""
    print(f"{paint.strong(found['task_id'])}  {paint.state(found['state'])}{reason}")
    print(f"file    {printable(found['file'], 400)}")
    if found["state"] == State.REJECTED:
        print(f"to do   {what_to_do(found['file'])}")
    if found["result"]:
        print(f"result  {found['result']}")
    print()
    for key, value in found["task"].items():
        text = _words(value)
        lines = text.splitlines() or [""]
        print(f"{key}: {_safe(lines[0])}")
        _print_lines(lines[1:])
    for one in found["runs"]:
        extra = [f"exit {one['exit_code']}"] if one["exit_code"] is not None else []
        if one["tokens"]:
            extra.append(f"{one['tokens']['input']:,} tokens in, {one['tokens']['output']:,} out")
        if one["cost_usd"] is not None:
            extra.append(f"${one['cost_usd']:.4f}")
        print()
        print(
            f"run {one['run']}   {one['status']}  {one['agent']} {'on ' if is_slot(one['agent_id']) else ''}{one['agent_id']}  {span(one['seconds'])}  {', '.join(extra)}".rstrip()
        )
        if far := how_far(one["percent"], one["finding"]):
            print(f"        {_safe(far.removeprefix(', '))}")
        if one["reason"]:
            print(f"        {one['reason']}")
        logs = "" if one["agent_id"] and not is_slot(one["agent_id"]) else ", stdout.log, stderr.log"
        print(f"        {one['folder']}/ (prompt.md{logs}){session(one)}")
    for key in ("notes", "known_issues", "objectives"):
        for one in found[key]:
            print(f"{key.replace('_', ' ').rstrip('s')}: {_safe(one)}")
    if found["files_modified"]:
        print(f"\nfiles modified: {', '.join(found['files_modified'])}")
    lines = _read(f"{root}/{found['output']}") if found["output"] else []
    if any(map(str.strip, lines)):
        print(f"\noutput  {found['output']}\n")
        _print_lines(lines)
    elif found["runs"] and found["result"]:
        _print_tails(root, found)


def _print_tails(root: str, found: dict[str, Any]) -> None:
    """The last words of a run that left no answer. A stream of events is for `logs`, which makes it readable."""
    folder = found["runs"][-1]["folder"]
    for name in ("stdout.log", "stderr.log"):
        lines = [line for line in _read(f"{root}/{folder}/{name}", last=8192) if line.strip()][-TAIL_LINES:]
        if lines and not lines[-1].startswith("{"):
            print(f"\n{name}, its end\n")
            _print_lines(lines)
    print(f"\nIt left no answer; all that it printed: orchestrate logs {found['task_id']} [--stderr]")


def _read(path: str, last: int = 0) -> list[str]:
    """The lines of a file, or of its `last` bytes; none if it cannot be read."""
    try:
        with open(path, "rb", opener=plain.opener) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - last) if last else 0)
            return file.read(200_000).decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def _print_lines(lines: list[str]) -> None:
    for line in lines[:PAGE_LINES]:
        print(f"    {_safe(line)}")
    if len(lines) > PAGE_LINES:
        print(f"    … {len(lines) - PAGE_LINES} more lines")


def _words(value: object) -> str:
    """A value as a person writes it into a task's file."""
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def session(run: dict[str, Any]) -> str:
    """The CLI's own session, to go on with it by hand."""
    return f"  session {run['session_id']}" if run["session_id"] else ""


def _safe(line: str) -> str:
    """What an agent wrote, without what could drive a terminal."""
    shown = "".join(c if c.isprintable() or c == "\t" else "�" for c in line[:2000])
    return f"{shown}…" if len(line) > 2000 else shown
