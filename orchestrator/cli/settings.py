"""What the commands need of config.yaml. Those that look, add or cancel go on while it is broken."""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from orchestrator import plain

if TYPE_CHECKING:
    from orchestrator.config import Config


class Settings(NamedTuple):
    """The little that adding a task needs."""

    max_size: int = 1000
    unique: bool = False  # ids
    agents: list[str] = []  # that a task may name; none: they are found out by the dispatcher
    shells: list[str] = []  # of them: those that run scripts


def settings(root: str) -> Settings:
    """From the compiled copy, if that is current; else from config.yaml."""
    if (kept := _current(root)) is not None:
        return kept
    from orchestrator.config import brief

    return Settings(*brief(usable(root, keep=True)))


def problem(root: str) -> str:
    """What is wrong with config.yaml; "" if nothing is. It is read only if it is not the one that was last read well."""
    if _current(root) is not None:
        return ""
    from orchestrator.config import load_or_last

    return load_or_last(root, keep=True)[1]


def _current(root: str) -> Settings | None:
    """From the compiled copy alone; None if that is of another config.yaml."""
    import json

    try:
        status = os.stat(f"{root}/config.yaml")
    except OSError:
        return Settings()
    try:
        with open(f"{root}/.orchestrator/config.json", encoding="utf-8", opener=plain.opener) as file:
            kept = json.load(file)
        if kept["stamp"] == [status.st_mtime_ns, status.st_size, status.st_ino]:
            return Settings(*kept["brief"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def usable(root: str, keep: bool = False) -> Config:
    """config.yaml; while it is broken the last good one, and a line on stderr."""
    from orchestrator import config

    found, wrong = config.load_or_last(root, keep)
    if wrong:
        _warn(wrong)
    return found


@functools.cache  # once, however often it is read
def _warn(text: str) -> None:
    print(f"orchestrate: {text}; until it is mended the last good settings count", file=sys.stderr)
