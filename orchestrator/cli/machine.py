"""The commands about a machine and a queue as such: init, doctor, service, completion, version."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from orchestrator.cli.base import Json, app, put, root, root_option
from orchestrator.errors import WrongUsage
from orchestrator.names import printable


@app.command()
def init(
    folder: Annotated[str, typer.Argument(help="Where; this folder if left out.")] = ".",
    as_json: Json = False,
) -> None:
    """Make a queue here; what is there stays.

    Folders, config.yaml, context pages, schemas, .gitignore.

    Example: orchestrate init
    """
    from orchestrator.cli.setup import make

    made = make(os.path.abspath(root_option[0] or folder))
    if as_json:
        put({"root": os.path.abspath(root_option[0] or folder), "made": made})
        return
    for name in made:
        print(f"made  {name}")
    print(
        f"Next: {f'cd {shlex.quote(folder)}; ' if folder != '.' else ''}orchestrate doctor; orchestrate start; "
        'orchestrate add "…"'
        if made
        else "Everything is there already."
    )


@app.command()
def doctor(
    mend: Annotated[bool, typer.Option("--repair", help="Mend the queue's files; nothing is deleted.")] = False,
    as_json: Json = False,
) -> None:
    """Say what works here, what does not, what to do.

    Example: orchestrate doctor
    """
    from orchestrator.cli.doctor import examine, repair
    from orchestrator.cli.paint import Paint, fold

    mended, failed = repair(root()) if mend else ([], [])
    findings = examine(root())
    bad = [one for one in findings if one["level"] == "problem"]
    if as_json:
        put({"findings": findings, "problems": len(bad), "mended": mended, "failed": failed})
    else:
        paint = Paint()
        for text in mended:
            print(f"{paint.good('mended ')}  {fold(text, 9)}")
        for text in failed:
            print(f"{paint.bad('failed ')}  {fold(text, 9)}")
        marks = {"ok": paint.good("ok     "), "note": paint.warm("note   "), "problem": paint.bad("problem")}
        for one in findings:
            print(f"{marks[one['level']]}  {fold(one['what'] + ': ' + one['text'], 9)}")
    raise typer.Exit(1 if bad else 0)


@app.command()
def service(
    kind: Annotated[str, typer.Option("--kind", help="systemd or launchd; the one of this system if left out.")] = "",
    as_json: Json = False,
) -> None:
    """Print a systemd or launchd unit.

    It keeps the dispatcher running from when you log in; its first lines say under which name to save it, one for each
    queue, and how to switch it on. With systemd, 'loginctl enable-linger' lets it start with the machine.

    Example: orchestrate service > ~/.config/systemd/user/orchestrate-shop.service
    """
    from orchestrator.cli.setup import service_name, service_unit

    chosen = kind or ("launchd" if sys.platform == "darwin" else "systemd")
    text = service_unit(root(), chosen)
    put({"kind": chosen, "name": service_name(root()), "unit": text}) if as_json else print(text, end="")


@app.command()
def mcp(
    port: Annotated[
        int | None,
        typer.Option("--http", metavar="PORT", help="Over HTTP on 127.0.0.1; 0: any free port.", min=0, max=65535),
    ] = None,
    token_file: Annotated[
        str, typer.Option("--token-file", help="Instead of .orchestrator/mcp.token; readable for you alone.")
    ] = "",
    tools: Annotated[bool, typer.Option("--tools", help="List the tools, and go.")] = False,
    as_json: Json = False,
) -> None:
    """Serve the queue to models over MCP: on stdin and stdout, for whoever starts it.

    With --http over streamable HTTP, for whoever has the token; it says on start where both are.

    Example: orchestrate mcp --http 8765
    """
    if port is None and (token_file or (as_json and not tools)):
        raise typer.BadParameter(
            "--token-file and --json are for --http (and --json for --tools): stdout is the protocol's"
        )
    from orchestrator.extras import mcp as serving

    if tools:
        found = serving.described(root())
        put(found) if as_json else print("\n".join(f"{one['name']}  {one['description']}" for one in found))
    elif port is None:
        serving.serve(root())
    else:
        from orchestrator.extras import mcp_http

        mcp_http.serve(root(), port, os.path.abspath(token_file) if token_file else "", _serving(as_json))


def _serving(as_json: bool) -> Callable[[str, str], None]:
    def tell(url: str, path: str) -> None:
        line = f"serving {url}; the token of its clients is in {path}"
        put({"url": url, "token_file": path}) if as_json else print(line)
        sys.stdout.flush()

    return tell


@app.command()
def version(as_json: Json = False) -> None:
    """Print the version.

    Example: orchestrate version
    """
    from orchestrator import __version__

    put({"version": __version__}) if as_json else print(__version__)


@app.command()
def completion(shell: Annotated[str, typer.Argument(help="bash, zsh or fish")], as_json: Json = False) -> None:
    """Print the shell completion.

    Example: eval "$(orchestrate completion bash)"
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    if shell not in ("bash", "zsh", "fish"):
        raise WrongUsage(f"completion: write bash, zsh or fish, not {printable(shell)!r}")
    text = get_completion_script(prog_name="orchestrate", complete_var="_ORCHESTRATE_COMPLETE", shell=shell)
    put({"shell": shell, "script": text}) if as_json else print(text)
