"""The seam between us and a program that does the work: `Agent`.

An adapter does two things: say how to call its program (`invoke`), and read what the program
left (`read`). It starts nothing and moves nothing. To add one: a module with a class of this
shape, a line in `agents/__init__.py`, a page in docs/agents.md. A program that prints its
answer needs no adapter at all: `command.py` runs it from config.yaml alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from orchestrator import plain
from orchestrator.states import Outcome

if TYPE_CHECKING:
    from orchestrator.config import AgentConfig
    from orchestrator.task import Task

ARGUMENT_LIMIT = 131_071  # bytes: Linux takes no longer argument, whatever ARG_MAX says


class Request(NamedTuple):
    """One run, as an adapter needs to know it. Paths are absolute."""

    task: Task
    settings: AgentConfig
    words: tuple[str, ...]  # the user's `command`, split as a shell splits it; words[0] resolved
    prompt: str  # the whole text
    prompt_path: str  # the file that holds it
    output_path: str  # where the program may write its answer
    folder: str  # the run's own folder, for files of the adapter's
    session_id: str  # a fresh UUID, for programs that let us choose


class Invocation(NamedTuple):
    """How to start the program."""

    argv: tuple[str, ...]
    stdin: bool = True  # True: the prompt file is its standard input; False: /dev/null
    env: dict[str, str] = {}  # added to the environment


class Evidence(NamedTuple):
    """What a run left behind."""

    stdout: str  # path
    stderr: str  # path
    exit_code: int | None  # as a shell gives it (128+n for signal n); None: not known
    settings: AgentConfig
    folder: str
    ended_at: float  # seconds since the epoch, UTC


class Tokens(NamedTuple):
    """What a run used, as far as its program says. `input` includes what came from a cache."""

    input: int = 0
    output: int = 0
    cached: int = 0


class Answer(NamedTuple):
    """What the program said of itself. `result.judge` turns it into the verdict."""

    outcome: Outcome
    text: str = ""  # its final answer
    error: str = ""  # one line for a person, when outcome is not SUCCESS
    session_id: str = ""
    tokens: Tokens | None = None
    cost_usd: float | None = None
    retry_at: float | None = None  # epoch seconds UTC: when the account may go on
    warning: str = ""  # one line for a person, though it is a success


class Agent(Protocol):
    """One kind of program."""

    kind: str
    needs_env: tuple[str, ...]  # name patterns of secrets that this program needs
    quiet_seconds: int  # longest silence from which it is known to recover by itself; else 0

    def refuses(self, task: Task) -> str:
        """Why this kind cannot do the task, or "" if it can."""
        ...

    def invoke(self, request: Request) -> Invocation:
        """The command line, the input and the environment of one run."""
        ...

    def read(self, evidence: Evidence) -> Answer:
        """Read what an ended run left. Never raises for what the program wrote; OSError if it cannot be read now."""
        ...

    def answered(self, last_line: str) -> bool:
        """Whether this last line of output is the program's final word (it may hang after it)."""
        ...


def json_lines(path: str) -> Iterator[dict[str, Any]]:
    """Each line of a file that is a JSON object; all else is passed over."""
    try:
        with open(path, "rb", opener=plain.opener) as file:
            for line in file:
                line = line.strip()
                if line[:1] != b"{":
                    continue
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(value, dict):
                    yield value
    except OSError as error:
        _raise_if_there(error)


def tail_text(path: str, limit: int = 65536) -> str:
    """The last `limit` bytes of a file as text; "" if there is none."""
    try:
        if os.stat(path).st_size == 0:
            return ""
        with open(path, "rb", opener=plain.opener) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - limit))
            return file.read(min(size, limit)).decode("utf-8", "replace")
    except OSError as error:
        _raise_if_there(error)
        return ""


def _raise_if_there(error: OSError) -> None:
    """What cannot be read must not be taken for empty: a run would be judged by nothing."""
    if isinstance(error, PermissionError) or not plain.is_lasting(error):
        raise error


def last_line(text: str, limit: int = 500) -> str:
    """The last line that is not blank, cut to `limit` characters (0: whole)."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][: limit or None] if lines else ""


def has_flag(words: tuple[str, ...], *flags: str) -> bool:
    """Whether the user's own command already carries one of these flags (`-f`, `--flag`, `--flag=x`)."""
    return any(word == flag or word.startswith(flag + "=") for word in words for flag in flags)
