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
    try:
        from orchestrator.cli import lane

        code = lane.run(argv)
        if code is None:
            from orchestrator.cli import commands, looks, machine, pulling, records  # noqa: F401 (they add themselves)
            from orchestrator.cli.base import run

            code = run(argv)
        sys.stdout.flush()
        return code
    except OrchestrateError as error:
        return _refused(str(error), error.exit_code, argv)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except OSError as error:
        where = f"{name}: " if (name := error.filename2 or error.filename) else ""  # of a move, where to
        return _refused(f"{where}{error.strerror or error}", 1, argv)
    except Exception:  # noqa: BLE001 (our own fault: a log to paste instead of a screenful)
        return _refused(report(), 3, argv)


def _refused(problem: str, code: int, argv: list[str]) -> int:
    print(f"orchestrate: {problem}", file=sys.stderr)
    if wants_json(argv):
        import json

        print(json.dumps({"error": problem}, ensure_ascii=False))
    return code


def wants_json(argv: list[str]) -> bool:
    """Whether this command line asks for JSON: then stdout is one document, also where it says no."""
    return "--json" in (argv[: argv.index("--")] if "--" in argv else argv)
