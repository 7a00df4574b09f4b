"""The program `orchestrate`; also `python -m orchestrator.cli`."""

import gc
import sys

from orchestrator.cli import main


def program() -> int:
    """`main`, in a process of its own."""
    gc.set_threshold(
        100_000, 50, 50
    )  # what is loaded is no garbage; to look through it was an eighth of a short command
    code = main()
    gc.freeze()  # nor is it at the end, where Python looks through all of it twice
    return code


if __name__ == "__main__":
    sys.exit(program())
