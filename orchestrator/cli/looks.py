"""The commands that only look. They work with no dispatcher running, and change nothing."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from orchestrator.cli.base import (
    Json,
    TaskId,
    agent_names,
    app,
    priorities,
    put,
    root,
    root_option,
    starting,
    task_ids,
)
from orchestrator.cli.listing import PAGE, WORDS


@app.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Again every two seconds.")] = False,
    as_json: Json = False,
) -> None:
    """What runs, what waits, what needs you.

    Example: orchestrate status
    """
    from orchestrator.cli import status as page

    while watch:
        if sys.stdout.isatty():
            print("\x1b[2J\x1b[H", end="")
        page.show(root(), as_json)
        sys.stdout.flush()
        time.sleep(2)
    page.show(root(), as_json)


def status_words(incomplete: str) -> list[str]:
    """For the shell's completion."""
    return starting(incomplete, WORDS)


@app.command()
def tasks(
    status: Annotated[
        list[str] | None,
        typer.Option("--status", "-s", help=f"{', '.join(WORDS)}; several with commas.", autocompletion=status_words),
    ] = None,
    task_type: Annotated[str, typer.Option("--type", help="Only of this task_type.")] = "",
    agent: Annotated[str, typer.Option("--agent", help="Only of this agent.", autocompletion=agent_names)] = "",
    priority: Annotated[
        str, typer.Option("--priority", help="Only high, normal or low.", autocompletion=priorities)
    ] = "",
    since: Annotated[str, typer.Option("--since", help="Changed after: 2h, 3d, or 2025-01-15.")] = "",
    until: Annotated[str, typer.Option("--until", help="Changed before.")] = "",
    limit: Annotated[
        int,
        typer.Option(
            "--limit", "-n", metavar="N", help="At most so many rows; of what has ended, the newest. 0: all.", min=0
        ),
    ] = PAGE,
    offset: Annotated[
        int, typer.Option("--offset", metavar="N", help="Leave out so many rows before them.", min=0)
    ] = 0,
    as_json: Json = False,
) -> None:
    """List tasks, each with why it is where it is: what waits, in the order in which it would be served; what runs; what
    has ended, the newest.

    Of more than 1,000 that wait a page is listed by the names of their files, and only those of the page are read. A
    filter (--type, --agent, --priority, --since) reads as many as it takes to fill the page. Whether there are more is
    said on standard error.

    Example: orchestrate tasks --status active
    """
    from orchestrator.cli import listing

    listing.show(
        root_option[0], as_json, limit, offset, status=status or [], task_type=task_type, agent=agent, priority=priority,
        since=since, until=until,
    )  # fmt: skip


agents_app = typer.Typer(
    add_completion=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
)
app.add_typer(agents_app, name="agents")


@agents_app.callback(invoke_without_command=True)
def agents(
    context: typer.Context,
    resume: Annotated[
        str,
        typer.Option(
            "--resume", help="End this agent's pause: you have logged in, topped up, …", autocompletion=agent_names
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """List the agents and workers, whether they can work, and how well it went.

    Example: orchestrate agents --resume claude
    """
    if context.invoked_subcommand:
        return
    if resume:
        from orchestrator.cli.stopping import end_pause

        end_pause(root(), resume)
    from orchestrator.cli.routing import show_agents

    show_agents(root(), as_json)


@agents_app.command()
def new(
    name: Annotated[str, typer.Argument(help="What it is called: letters, digits, '-' and '_'.")],
    source: Annotated[str, typer.Option("--from", help="The specialist to begin with.")] = "research",
    as_json: Json = False,
) -> None:
    """Copy a specialist to agents/NAME.md, for you to change.

    Example: orchestrate agents new legal --from research
    """
    from orchestrator import profiles
    from orchestrator.hold import nudge

    made = profiles.copy(root(), name, source)
    nudge(root())
    put({"name": name, "file": made}) if as_json else print(f"made  {made}; change it, then: --agent {name}")


@agents_app.command()
def specialists(as_json: Json = False) -> None:
    """List the specialists, and the agent that each of them is.

    Example: orchestrate agents specialists
    """
    from orchestrator.cli.routing import show_specialists

    show_specialists(root(), as_json)


@app.command()
def why(task_id: TaskId, as_json: Json = False) -> None:
    """Say who would do a task: every agent, whether it may, and what its score is made of.

    The score is success rate × (1 − running ÷ most at once).

    Example: orchestrate why task_001
    """
    from orchestrator.cli.routing import show_why

    show_why(root(), task_id, as_json)


@app.command()
def route(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="What it does anyhow: nothing is started by it.")] = True,
    as_json: Json = False,
) -> None:
    """Say what would start now, and where; and whether the load is skewed.

    Example: orchestrate route --dry-run
    """
    from orchestrator.cli.routing import show_route

    show_route(root(), as_json)


@app.command()
def show(task_id: TaskId, as_json: Json = False) -> None:
    """Show one task: state, reason, runs, output.

    Example: orchestrate show task_001
    """
    from orchestrator.cli import pages

    pages.show(root(), task_id, as_json)


@app.command()
def wait(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID…]", help="All that waits and runs, if left out.", autocompletion=task_ids),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="Then exit code 124.", min=0)
    ] = None,
    as_json: Json = False,
) -> None:
    """Wait until tasks have ended.

    Exit code 0: all completed; 1: one did not end well, or can only be helped by a person; 124: the time is over.
    Without a dispatcher it says so, and goes on waiting.

    Example: orchestrate wait task_001 task_002
    """
    from orchestrator.cli.waits import wait_for

    code, rows = wait_for(root(), ids or [], timeout, quiet=as_json)
    if as_json:
        put(rows)
    raise typer.Exit(code)
