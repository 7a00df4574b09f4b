"""The commands that print what was recorded: of a run, of the dispatcher, of all that happened. They change nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.base import Json, agent_names, app, root, starting, task_ids


@app.command()
def logs(
    task_id: Annotated[
        str,
        typer.Argument(metavar="[ID]", help="The task; the dispatcher's own log if left out.", autocompletion=task_ids),
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    number: Annotated[
        int | None, typer.Option("--run", metavar="N", help="Which attempt; the last if left out.", min=1)
    ] = None,
    errors: Annotated[bool, typer.Option("--stderr", help="Its standard error instead.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Every byte, as the program printed it.")] = False,
    as_json: Json = False,
) -> None:
    """Print what a run printed.

    What claude, codex, gemini and cursor print is made readable: calls of tools (→), what came of them (←), trouble on
    the way (!), the end (=), and what they say. On a terminal, what could drive it is replaced; in a pipe it stays.

    Example: orchestrate logs task_001 -f
    """
    from orchestrator.cli.logs import print_log

    if not task_id and (number or errors or raw):
        raise typer.BadParameter("--run, --stderr and --raw are about the run of a task: say which")
    if not task_id and follow and as_json:
        raise typer.BadParameter("the dispatcher's log has no end: --follow and --json exclude each other")
    print_log(root(), task_id, number or 0, errors, raw, follow, as_json)


def kind_words(incomplete: str) -> list[str]:
    """For the shell's completion."""
    from orchestrator.events import KINDS

    return starting(incomplete, KINDS)


@app.command()
def events(
    task: Annotated[str, typer.Option("--task", help="Only of this task.", autocompletion=task_ids)] = "",
    agent: Annotated[
        str, typer.Option("--agent", help="Only of this agent, slot or worker.", autocompletion=agent_names)
    ] = "",
    kind: Annotated[
        list[str] | None,
        typer.Option("--type", help="Only of this kind; several with commas.", autocompletion=kind_words),
    ] = None,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="2h, 3d, yesterday, 2025-01-15, 2025-01-15T10:00 (UTC).")
    ] = "",
    limit: Annotated[int | None, typer.Option("--limit", "-n", metavar="N", help="The last N.", min=1)] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on; from the last 10, or from --since, or -n.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Search the journal: what happened to a task, what an agent did, when.

    One line each: time (UTC), kind, task, what happened; in a pipe with tabs between them. With -f, --json is one object
    a line.

    Example: orchestrate events --task task_001
    """
    from orchestrator.cli import events as search

    wanted = search.Wanted(task, agent, kind or ())
    search.print_events(root(), wanted, search.moment(since), limit, follow, as_json)
