"""Write the parts of the docs that are drawn from the code; `--check` says whether they are current.

python docs/make.py            writes docs/commands.md, docs/config.md and the tables in the other pages
python docs/make.py --check    exit code 1, and the names of the pages that are not in step
python docs/make.py --demo     runs the demo, too, and puts what it prints into README.md
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.dirname(HERE)
sys.path.insert(0, REPOSITORY)


INTRODUCTION = """\
What `--help` says. All that only look work with no dispatcher running.

**Exit codes.** 0 well; 1 the queue says no, or something did not end well; 2 the command line is wrong (an
option that there is not, a value that cannot be); 3 a fault of ours, with a report to send; 124 the time of `wait
--timeout` is over; 130 interrupted (but `events -f`, which ends so: 0); 141 whoever read the output has gone (`| head`).

**With `--json`** standard output is one JSON document, whatever happens. What went wrong as a whole is
`{"error": "…"}`; the same line is on standard error, and the exit code is what it always is. `cancel` and `retry` print a
list with an object for each task, which has an `error` if that one was refused. `add --file` prints a list of what was
added; all files are read and checked first, so that one that is wrong is an error as a whole, and adds nothing. If a
later one is refused after that (its id is taken, the queue is full), the list ends with an `error`. `add` prints one
object, and with `--wait` its `state` and `reason` at the end, too. (`status --watch --json` is one document a line,
every two seconds; `events -f --json` one a line for each event.)

**While config.yaml is broken** all that look, add, cancel and wait go on with its last good version, and say so in one
line on standard error; `start`, `validate` and `doctor` say what is wrong, and end with 1."""


def commands() -> str:
    """docs/commands.md: the help of every command."""
    import typer

    from orchestrator.cli import commands as doing
    from orchestrator.cli import looks, machine, pulling, records
    from orchestrator.cli.base import app

    assert doing and looks and machine and pulling and records
    parts = ["# Commands", "", *INTRODUCTION.splitlines(), ""]
    group: Any = typer.main.get_command(app)
    context = typer.Context(group, info_name="orchestrate", max_content_width=100, terminal_width=100)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inner = typer.Context(command, info_name=name, parent=context, max_content_width=100, terminal_width=100)
        parts += [f"## {name}", "", "```", command.get_help(inner).strip(), "```", ""]
        for below in command.list_commands(inner) if hasattr(command, "list_commands") else ():
            one = command.get_command(inner, below)
            deeper = typer.Context(one, info_name=below, parent=inner, max_content_width=100, terminal_width=100)
            parts += [f"### {name} {below}", "", "```", one.get_help(deeper).strip(), "```", ""]
    return "\n".join(parts)


def fields(model: Any, aliases: dict[str, str]) -> list[str]:
    """The fields of what is declared as a table."""
    from orchestrator.checking import model_of

    rows = ["| field | what it is |", "|---|---|"]
    for name, field in model_of(model).model_fields.items():
        other = [alias for alias, of in aliases.items() if of == name]
        default = "" if field.is_required() or not _plain(field.default) else f" Default: `{_plain(field.default)}`."
        text = (field.description or "").replace("|", "\\|")
        rows.append(
            f"| `{name}`{' (or ' + ', '.join(f'`{a}`' for a in other) + ')' if other else ''} | {text}{default} |"
        )
    return rows


def _plain(value: Any) -> str:
    if value is None or value == () or value == "" or value == {} or hasattr(type(value), "model_fields"):
        return ""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return getattr(value, "name", str(value)).lower() if not isinstance(value, str) else value


def tables() -> dict[str, list[str]]:
    """Marker → the lines between it and its end."""
    from orchestrator import config, recovery
    from orchestrator.events import KINDS
    from orchestrator.extras.mcp_words import PREFIX, TOOLS
    from orchestrator.extras.mcp_working import Tools
    from orchestrator.retry import RULES
    from orchestrator.states import MOVES
    from orchestrator.task import ALIASES, Task

    moves = ["```"] + [f"{a.value:>9} → {', '.join(map(str, b)) or '(final)'}" for a, b in MOVES.items()] + ["```"]
    outcomes = [
        "| outcome | again? | counts | waits | then | the agent | its record |",
        "|---|---|---|---|---|---|---|",
    ]
    for outcome, rule in RULES.items():
        pause = f"paused {rule.pauses:g} s, or until it said" if rule.pauses else ""
        again = "yes" if rule.again else "no"
        record = "" if rule.well is None else "for it" if rule.well else "against it"
        waits = ("back-off" if rule.delay else "no") if rule.again else ""
        outcomes.append(
            f"| {outcome} | {again} | {'yes' if rule.counts and rule.again else ''} | {waits} | {rule.end} | {pause} | {record} |"
        )
    crash = [line for line in (recovery.__doc__ or "").splitlines() if line.startswith("|")]
    tools = ["| tool | what it does | takes |", "|---|---|---|"]
    for name in TOOLS:
        method = getattr(Tools, name)
        given = [one for one in inspect.signature(method).parameters.values() if one.name != "self"]
        takes = ", ".join(f"`{one.name}`" if one.default is one.empty else one.name for one in given)
        tools.append(f"| `{PREFIX}{name}` | {' '.join(str(method.__doc__).split())} | {takes} |")
    sections: list[str] = []
    for title, model in (
        ("agents: (one entry each)", config.AgentConfig),
        ("queue:", config.QueueConfig),
        ("retry:", config.RetryConfig),
        ("limits:", config.LimitsConfig),
        ("alerts:", config.AlertsConfig),
        ("at the top", config.Config),
    ):
        sections += [f"## {title}", "", *fields(model, {}), ""]
    return {
        "moves": moves,
        "outcomes": outcomes,
        "crash": crash,
        "events": ["| kind | told when |", "|---|---|", *(f"| {kind} | {when} |" for kind, when in KINDS.items())],
        "fields": fields(Task, ALIASES),
        "config": sections,
        "tools": tools,
    }


def filled(text: str, name: str, lines: list[str]) -> str:
    """A page with the lines between `<!-- name -->` and `<!-- /name -->` exchanged."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return pattern.sub(lambda found: found[1] + "\n".join(lines).strip("\n") + "\n" + found[2], text)


def pages() -> dict[str, str]:
    """Path → what it should hold."""
    found = {os.path.join(HERE, "commands.md"): commands()}
    for name in ("design.md", "tasks.md", "config.md", "mcp.md"):
        path = os.path.join(HERE, name)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        for marker, lines in tables().items():
            text = filled(text, marker, lines)
        found[path] = text
    return found


def demo() -> None:
    """Put what the demo prints into README.md."""
    path = os.path.join(REPOSITORY, "README.md")
    said = subprocess.run(
        [sys.executable, os.path.join(REPOSITORY, "examples", "demo.py")], capture_output=True, text=True, check=True
    ).stdout
    with open(path, encoding="utf-8") as file:
        text = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(filled(text, "demo", ["```", *said.strip().splitlines(), "```"]))


def main() -> int:
    """Write, or check."""
    stale = []
    for path, text in pages().items():
        try:
            with open(path, encoding="utf-8") as file:
                current = file.read()
        except FileNotFoundError:
            current = ""
        if current == text:
            continue
        stale.append(os.path.relpath(path, REPOSITORY))
        if "--check" not in sys.argv:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
    if "--demo" in sys.argv:
        demo()
    if stale and "--check" in sys.argv:
        sys.stderr.write(f"not in step with the code: {', '.join(stale)}; run python docs/make.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
