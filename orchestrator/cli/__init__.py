"""The command line: argv in, exit code out.

`add` and `status` are typed in loops and in shell prompts, so a short lane in front of Typer
answers their plain forms without loading it (Typer alone costs five times an empty Python). What
the lane does not know for certain, it leaves to Typer; both end in the same functions.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """The `orchestrate` command. 0 well, 1 the user's mistake, 2 wrong usage, 3 our own fault."""
    from orchestrator.errors import OrchestrateError

    argv = sys.argv[1:]
    try:
        from orchestrator.cli import lane

        code = lane.run(argv)
        if code is None:
            from orchestrator.cli import commands, looks, machine  # noqa: F401 (they add themselves)
            from orchestrator.cli.base import run

            code = run(argv)
        sys.stdout.flush()
        return code
    except OrchestrateError as error:
        print(f"orchestrate: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"orchestrate: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    except Exception:  # noqa: BLE001 (our own fault: a log to paste instead of a screenful)
        return _our_fault()


def _our_fault() -> int:
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="orchestrate-", suffix=".log", delete=False) as file:
        file.write(f"argv: {sys.argv}\npython: {sys.version}\n\n{traceback.format_exc()}")
    print(f"orchestrate: a fault of ours, not yours; nothing was lost. The report: {file.name}", file=sys.stderr)
    return 3
