"""A command line as the user wrote it, and what a headless run needs beside it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from orchestrator.errors import PromptTooLong

if TYPE_CHECKING:
    from orchestrator.config import AgentConfig

Words = tuple[str, ...]


def split_at(words: Words, *programs: str) -> tuple[Words, Words]:
    """What leads to the program (`nice -n 5 claude`), and what is said to it."""
    for place, word in enumerate(words):
        if os.path.basename(word) in programs:
            return words[: place + 1], words[place + 1 :]
    return words[:1], words[1:]


def without(words: Words, *flags: str) -> Words:
    """The words less these flags and their values (`--flag value`, `--flag=value`)."""
    kept: list[str] = []
    dropping = False
    for word in words:
        if dropping and not word.startswith("-"):
            dropping = False
            continue
        dropping = word in flags
        if not dropping and not word.startswith(tuple(flag + "=" for flag in flags)):
            kept.append(word)
    return tuple(kept)


def joined(words: Words, added: Words) -> Words:
    """`added` at the end, yet before a bare `--`, after which nothing is a flag.

    What is added begins with a flag, so it also ends a list such as `--allowedTools A B`.
    """
    place = words.index("--") if "--" in words else len(words)
    return words[:place] + added + words[place:]


def unless_set(env: dict[str, str], settings: AgentConfig) -> dict[str, str]:
    """Our environment, less what the user's own `env:` says."""
    return {name: value for name, value in env.items() if name not in settings.env}


def refuse_longer(length: int, limit: int, what: str) -> None:
    """Raise if a prompt is more than its program takes; it would fail or be cut without a word."""
    if length > limit:
        raise PromptTooLong(
            f"the prompt has {length:,} {what} takes at most {limit:,}; "
            "let the task name files instead of holding their content"
        )
