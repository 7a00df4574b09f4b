"""The commands that do something. Each is a sentence, and loads what it needs when it is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from orchestrator.cli.base import (
    Json,
    agent_names,
    app,
    cancellable,
    priorities,
    put,
    retryable,
    root,
    task_ids,
)
from orchestrator.cli.listing import seconds
from orchestrator.errors import OrchestrateError, Refused
from orchestrator.names import counted, printable
from orchestrator.spool import Spool
from orchestrator.states import State
from orchestrator.writing import Value

# -- the dispatcher -----------------------------------------------------------------------------


@app.command()
def start(
    agents: Annotated[str, typer.Option("--agents", help="Which, and how many of each: claude:2,codex:2")] = "",
    front: Annotated[bool, typer.Option("-f", "--foreground", help="Stay in front, with live lines.")] = False,
    as_json: Json = False,
) -> None:
    """Start the dispatcher; returns once it is up.

    Example: orchestrate start --agents claude:2,codex:2
    """
    here = root()
    if front and as_json:
        raise typer.BadParameter("--foreground and --json exclude each other")
    if front:
        from orchestrator import app as application
        from orchestrator.config import parse_sizes

        application.serve(here, parse_sizes(agents), True, lambda problem: None)
        return
    from orchestrator.cli.starting import start as begin

    begin(here, agents, as_json)


@app.command()
def stop(
    leave: Annotated[bool, typer.Option("--leave", help="Let the runs go on; the next start takes them up.")] = False,
    now: Annotated[bool, typer.Option("--now", help="End the runs: interrupt, 30 s grace, kill.")] = False,
    as_json: Json = False,
) -> None:
    """Stop the dispatcher; waits for its runs.

    Example: orchestrate stop --now
    """
    from orchestrator.cli.stopping import stop_dispatcher

    if leave and now:
        raise typer.BadParameter("--leave and --now exclude each other")
    stop_dispatcher(root(), "leave" if leave else "now" if now else "wait", as_json)


# -- putting work in ----------------------------------------------------------------------------


@app.command()
def add(
    text: Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="What to do.")] = None,
    task_id: Annotated[str | None, typer.Option("--id", help="A name of your own.")] = None,
    priority: Annotated[
        str | None, typer.Option("--priority", "-p", help="high, normal or low.", autocompletion=priorities)
    ] = None,
    depends_on: Annotated[
        list[str] | None, typer.Option("--depends-on", "-d", help="Ids that come first.", autocompletion=task_ids)
    ] = None,
    context_file: Annotated[list[str] | None, typer.Option("--context-file", help="A file to read first.")] = None,
    context_required: Annotated[
        str | None, typer.Option("--context-required", help="true, false, or names of pages.")
    ] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", "-a", help="The agent that must do it.", autocompletion=agent_names)
    ] = None,
    timeout_minutes: Annotated[str | None, typer.Option("--timeout-minutes", help="Then it is ended.")] = None,
    subtask: Annotated[list[str] | None, typer.Option("--subtask", help="A part of the work.")] = None,
    task_type: Annotated[str | None, typer.Option("--type", help="A word to filter by.")] = None,
    requires: Annotated[list[str] | None, typer.Option("--requires", help="A capability.")] = None,
    script: Annotated[str | None, typer.Option("--run", help="A script for the shell agent.")] = None,
    max_retries: Annotated[
        str | None, typer.Option("--max-retries", help="Further attempts after a failed one.")
    ] = None,
    created_at: Annotated[str | None, typer.Option("--created-at", help="For people and filters.")] = None,
    file: Annotated[list[str] | None, typer.Option("--file", help="Add this task file (may be repeated).")] = None,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read a task file, or a plain description, from stdin.")
    ] = False,
    edit: Annotated[bool, typer.Option("--edit", help="Write it in $EDITOR, from a commented template.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until it has ended; exit code 1 if not well.")] = False,
    as_json: Json = False,
) -> None:
    """Add a task; prints its id.

    Example: orchestrate add "Fix the login" --priority high --agent claude
    """
    from orchestrator.cli import intake
    from orchestrator.cli.submit import fields_of

    here = root()
    options = {
        "id": task_id, "priority": priority, "preferred_agent": agent, "timeout_minutes": timeout_minutes,
        "task_type": task_type, "run": script, "max_retries": max_retries, "created_at": created_at,
        "context_required": context_required,
    }  # fmt: skip
    lists = {"dependencies": depends_on, "context_files": context_file, "subtasks": subtask, "requirements": requires}
    given = {name: [value] for name, value in options.items() if value is not None}
    given |= {name: list(values) for name, values in lists.items() if values}
    if sum((bool(file), stdin, edit)) > 1:
        raise typer.BadParameter("--file, --stdin and --edit exclude each other")
    if text and (file or stdin):
        raise typer.BadParameter(f"TEXT and {'--file' if file else '--stdin'} exclude each other: what shall it do?")
    if edit:
        with intake.edited(here, text or [], given) as fields:
            rows = _added(here, [fields], as_json)
    else:
        prepared = intake.prepare(here, file or [], stdin, given) if file or stdin else None
        rows = _added(here, prepared or [fields_of(text or [], given, here)], as_json)
    code = 0
    if wait:
        from orchestrator.cli.waits import wait_for

        code, ended = wait_for(here, [one["task_id"] for one in rows], quiet=as_json)
        rows = [{**one, **end} for one, end in zip(rows, ended, strict=True)]
    if as_json:
        put(rows if file else rows[0])
    raise typer.Exit(code)


def _added(here: str, prepared: list[dict[str, Value]], as_json: bool) -> list[dict[str, str]]:
    """Add them one by one; if one is refused, say so beside those that were added."""
    from orchestrator.cli.lane import row, said
    from orchestrator.cli.submit import submit

    rows: list[dict[str, str]] = []
    for fields in prepared:
        try:
            rows.append(row(here, submit(here, fields)))
        except OrchestrateError as error:
            if not rows or not as_json:
                raise
            print(f"orchestrate: {error}", file=sys.stderr)
            put([*rows, {"error": str(error)}])
            raise typer.Exit(1) from None
        if not as_json:
            said(here, rows[-1]["task_id"])
    return rows


@app.command()
def validate(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILES", help="Task files; all of pending/ and config.yaml if left out."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check task files; fit for a git hook.

    Example: orchestrate validate tasks/pending/*.yaml
    """
    from orchestrator.cli.intake import check_files

    problems, count = check_files(root(), files or [])
    if as_json:
        put({"checked": count, "problems": [{"file": f, "reason": r} for f, r in problems]})
    else:
        for name, reason in problems:
            print(f"{printable(name)}: {reason}", file=sys.stderr)
        if not problems:
            print(f"{counted(count, 'file')} checked, no problem" if count else "nothing to check")
    raise typer.Exit(1 if problems else 0)


@app.command()
def retry(
    ids: Annotated[
        list[str], typer.Argument(metavar="ID…", help="Failed tasks, or tasks in review.", autocompletion=retryable)
    ],
    note: Annotated[str, typer.Option("--note", help="What the agent should know this time: an answer, a hint.")] = "",
    as_json: Json = False,
) -> None:
    """Bring a task back to pending.

    A failed one, or one in review; one that waits for its next attempt is tried now.

    Example: orchestrate retry task_001 --note "use the staging database"
    """
    from orchestrator.cli import rejects
    from orchestrator.hold import nudge

    queue = Spool(root())

    def bring_back(task_id: str) -> str:
        rejects.refuse(queue, task_id)
        state = queue.state_of(task_id)
        if state is None and (kept := queue.archived(task_id)):
            raise Refused(f"{task_id}: is archived ({os.path.relpath(kept, queue.root)}); add a new task instead")
        queue.retry(task_id, note)
        if state is State.PENDING:
            return "is tried now" if queue.run_numbers(task_id) else "waits already: it has not run yet"
        return "back to pending"

    _each(ids, bring_back, as_json)
    nudge(queue.root)


@app.command()
def cancel(
    ids: Annotated[
        list[str], typer.Argument(metavar="ID…", help="Waiting or running tasks.", autocompletion=cancellable)
    ],
    as_json: Json = False,
) -> None:
    """Cancel a waiting or a running task.

    A running one is interrupted, and killed after the grace.

    Example: orchestrate cancel task_001
    """
    from orchestrator.cli.stopping import cancel_task

    here = root()
    _each(ids, lambda one: cancel_task(here, one), as_json)


def _each(ids: list[str], act: Callable[[str], str], as_json: bool) -> None:
    """Do it for each; a refusal of one does not keep the others."""
    rows: list[dict[str, str]] = []
    for one in dict.fromkeys(ids):
        try:
            rows.append({"task_id": one, "done": act(one)})
            if not as_json:
                print(f"{one}  {rows[-1]['done']}")
        except OrchestrateError as error:
            rows.append({"task_id": one, "error": str(error)})
            print(f"orchestrate: {error}", file=sys.stderr)
    if as_json:
        put(rows)
    if any("error" in row for row in rows):
        raise typer.Exit(1)


@app.command()
def archive(
    older_than: Annotated[str, typer.Option("--older-than", help="An age: 30d, 12h, 90m.")] = "30d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be moved.")] = False,
    as_json: Json = False,
) -> None:
    """Move tasks that ended long ago away.

    Into tasks/archive/<month>/, with their results and runs. Their ids stay used.

    Example: orchestrate archive --older-than 30d
    """
    from orchestrator.archive import archive as move_away

    moved = move_away(Spool(root()), seconds(older_than), dry_run)
    if as_json:
        put({"archived": moved, "dry_run": dry_run})
        return
    for one in moved:
        print(one)
    print(f"{counted(moved, 'task')} {'would be ' if dry_run else ''}archived", file=sys.stderr)
