"""The command line: argv in, exit code out.

`add`, `status`, `tasks`, `show`, `why` and `start` are typed in loops and in shell prompts, so a short lane in front of
Typer answers their plain forms without loading it (Typer alone costs five times an empty Python). What the lane does not
know for certain, it leaves to Typer; both end in the same functions.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """The `orchestrate` command. 0 well, 1 the queue says no, 2 a wrong command line, 3 our own fault."""
    from orchestrator.errors import OrchestrateError, report

    argv = sys.argv[1:]
    _open_standard()
    try:
        from orchestrator.cli import lane

        code = lane.run(argv)
        if code is None:
            from orchestrator.cli import commands, looks, machine, pulling, records  # noqa: F401 (they add themselves)
            from orchestrator.cli.base import run

            code = run(argv)
        if (problem := _unprinted()) is None:
            return code
        done = "" if code else "; what was asked for is done"
        return _refused(f"standard output: {problem}{done}", code or 1, [])
    except OrchestrateError as error:
        return _refused(str(error), error.exit_code, argv)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except OSError as error:
        if not error.filename and (problem := _unprinted()) is not None:
            return _refused(f"standard output: {problem}", 1, [])
        where = f"{name}: " if (name := error.filename2 or error.filename) else ""  # of a move, where to
        return _refused(f"{where}{error.strerror or error}", 1, argv)
    except Exception:  # noqa: BLE001 (our own fault: a log to paste instead of a screenful)
        return _refused(report(), 3, argv)


def _open_standard() -> None:
    """What was closed (`>&-`) leads nowhere: else the next file that is opened gets its number, and what is printed."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, "w" if fd else "r", closefd=False))
    out = sys.__stdout__
    if out and out is sys.stdout and getattr(out, "write_through", False):  # PYTHONUNBUFFERED: a print fails midway
        sys.stdout = open(1, "w", encoding=out.encoding, errors=out.errors, closefd=False)


def _unprinted() -> str | None:
    """Why stdout does not take what was printed (a full disk); None if it does. Raises BrokenPipeError."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python tries again at its end
        return error.strerror or str(error)
    return None


def _refused(problem: str, code: int, argv: list[str]) -> int:
    try:
        print(f"orchestrate: {problem}", file=sys.stderr)
        if wants_json(argv):
            import json

            print(json.dumps({"error": problem}, ensure_ascii=False))
            _unprinted()
    except OSError:  # who is told nothing sees the code
        for fd in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), fd)
    return code


def wants_json(argv: list[str]) -> bool:
    """Whether this command line asks for JSON: then stdout is one document, also where it says no."""
    return "--json" in (argv[: argv.index("--")] if "--" in argv else argv)
