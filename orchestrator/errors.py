"""What we raise. An error says what, where and what to do, in one line.

Exit codes: 1 the queue says no, 2 the command line is wrong (an option, or a value that no queue could take), 3 our
own fault.
A misbehaving agent is no error: it is an outcome (see states.py).
"""

from __future__ import annotations

import errno

LACKS = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)


class OrchestrateError(Exception):
    """The user can mend it. The message is one whole line for a person; exit code 1."""

    exit_code = 1


def said(error: OSError) -> str:
    """What the system says, and of which file."""
    where = str(error.filename2 or error.filename or "")
    folder, _, name = where.rpartition("/")
    if name.startswith(".") and name.endswith(".tmp"):  # a draft: its name says nothing, and is another each time
        where = folder
    return f"{error.strerror or error}{f' ({where})' if where else ''}"


def is_lack(error: BaseException) -> bool:
    """Whether this is the machine's fault: no disk, no descriptors, no processes, no memory."""
    return isinstance(error, OSError) and error.errno in LACKS


def report() -> str:
    """Write down the fault of ours that is being handled; where, or what it was if there is no room for that."""
    import sys

    fault = sys.exception()
    ours = "a fault of ours, not yours; nothing was lost."
    try:
        import tempfile
        import traceback

        with tempfile.NamedTemporaryFile("w", prefix="orchestrate-", suffix=".log", delete=False) as file:
            file.write(f"argv: {sys.argv}\npython: {sys.version}\n\n{traceback.format_exc()}")
    except (OSError, ImportError):  # no room, or no descriptor even for these modules
        return f"{ours} {type(fault).__name__}: {fault}"
    return f"{ours} The report: {file.name}"


class WrongUsage(OrchestrateError):
    """A word of the command line is none that could stand there; exit code 2."""

    exit_code = 2


class InvalidTask(OrchestrateError):
    """A file is no task, or a task that cannot be accepted. The message is the reason."""


class InvalidConfig(OrchestrateError):
    """config.yaml cannot be used. The message names the key and what to write instead."""


class NotFound(OrchestrateError):
    """No task or agent has that name."""


class AlreadyExists(OrchestrateError):
    """A name is taken; nothing was overwritten."""


class QueueFull(OrchestrateError):
    """`queue.max_size` waiting tasks are there already; nothing was added."""


class AlreadyRunning(OrchestrateError):
    """Another dispatcher holds this root."""


class Refused(OrchestrateError):
    """What was asked does not fit the task's state; nothing was changed."""


class PromptTooLong(OrchestrateError):
    """The prompt is more than the program takes."""
