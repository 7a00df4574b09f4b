"""The program `orchestrate`; also `python -m orchestrator.cli`."""

import gc
import io
import sys

from orchestrator.cli import main


def program() -> int:
    """`main`, in a process of its own."""
    gc.set_threshold(
        100_000, 50, 50
    )  # what is loaded is no garbage; to look through it was an eighth of a short command
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")  # a terminal that does not know a character is no reason to fail
    code = main()
    gc.freeze()  # nor is it at the end, where Python looks through all of it twice
    return code


if __name__ == "__main__":
    sys.exit(program())
