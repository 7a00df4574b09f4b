"""What all commands share: the application, the root, the kinds of options."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from orchestrator.cli import wants_json
from orchestrator.cli.paint import put as put
from orchestrator.errors import OrchestrateError
from orchestrator.names import PRIORITIES
from orchestrator.spool import Spool, find_root
from orchestrator.states import State

app = typer.Typer(
    name="orchestrate",
    help="Run many coding-agent CLIs on a queue that is nothing but files.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

# The base of all that can be wrong with a command line; newer versions of Typer carry their own copy of its module.
WRONG_USAGE: Any = typer.BadParameter.__mro__[2]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
root_option = [""]


def root() -> str:
    """The queue that this call is about."""
    return find_root(root_option[0])


def run(argv: list[str]) -> int:
    """Run one command line; its exit code."""
    if any(name.endswith("_COMPLETE") for name in os.environ):
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()
    command = typer.main.get_command(app)
    try:
        code = command.main(args=argv, prog_name="orchestrate", standalone_mode=False)
    except SystemExit as end:
        code = end.code
    except WRONG_USAGE as error:
        error.show()
        if wants_json(argv):
            put({"error": error.format_message()})
        code = error.exit_code
    if code == 130 and wants_json(argv):
        put({"error": "interrupted"})
    return code if isinstance(code, int) else 0


@app.callback()
def _orchestrate(
    root: Annotated[
        str, typer.Option("--root", "-C", help="The folder of the queue; else the nearest from here upwards.")
    ] = "",
) -> None:
    root_option[0] = root


def starting(incomplete: str, words: Iterable[str]) -> list[str]:
    """Those that begin like this, for the shell's completion."""
    return [word for word in words if word.startswith(incomplete)]


def _ids(incomplete: str, *states: State) -> list[str]:
    try:
        queue = Spool(root())
    except OrchestrateError:
        return []
    return starting(incomplete, [one for state in states for one in queue.ids(state)])


def task_ids(incomplete: str) -> list[str]:
    """Every id."""
    return _ids(incomplete, *State)


def cancellable(incomplete: str) -> list[str]:
    """What waits or runs."""
    return _ids(incomplete, State.PENDING, State.ASSIGNED, State.REVIEW)


def retryable(incomplete: str) -> list[str]:
    """What has failed, or waits for a person."""
    return _ids(incomplete, State.FAILED, State.REVIEW)


def priorities(incomplete: str) -> list[str]:
    """high, normal, low."""
    return starting(incomplete, PRIORITIES)


def agent_names(incomplete: str) -> list[str]:
    """The agents of config.yaml."""
    from orchestrator.config import load_or_last

    try:
        return starting(incomplete, load_or_last(root())[0].agent_table())
    except OrchestrateError:
        return []


TaskId = Annotated[str, typer.Argument(metavar="ID", help="The task.", autocompletion=task_ids)]
