"""Die at every system call of the dispatcher and of each command, from outside, with strace."""

from __future__ import annotations


def main(argv: list[str]) -> int:
    """How many violations there were."""
    return 0
