"""The crash proof: kill everything everywhere, start again, and count what was lost or doubled.

    make crash                              all parts; takes a while
    make crash ARGS="steps"                 die at every system call, one after the other
    make crash ARGS="storm --seconds 60"    kill at random, for a time
    make crash ARGS="soak --hours 1"        a steady load for a time; only if it is named
    make crash ARGS="--quick"               a sample of each part

A part is a module beside this one with `main(argv) -> int`: it prints its table and returns how many
violations it found.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys

PARTS = ("steps", "storm")
ONLY_NAMED = ("soak",)  # takes hours


def main(argv: list[str]) -> int:
    """Run the parts that are named first, all if none is; the rest of the words is for them."""
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background job ignores it, and so would all below
    sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.getcwd()]
    if "-h" in argv or "--help" in argv:
        print(__doc__)
        return 0
    named = [word for word in argv if word in (*PARTS, *ONLY_NAMED)]
    rest = [word for word in argv if word not in (*PARTS, *ONLY_NAMED)]
    violations = 0
    for part in named or [part for part in PARTS if importlib.util.find_spec(part)]:
        violations += importlib.import_module(part).main(rest)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
