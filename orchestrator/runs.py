"""tasks/runs/<task>/<n>/: one folder per attempt, readable by anybody.

prompt.md      what it was told             script       a shell task's own script
alive          what was started, by whom; locked by the kernel while anything of it lives
stdout.log  stderr.log                      exit         its exit status, written by the wrapper
output.md      its answer                   result.yaml  our verdict; immutable
retried        a person gave it back        cancelled    a person wants it ended
assigned.yaml  who had it, once that is over
"""

from __future__ import annotations

import functools
import math
import os
from datetime import UTC, datetime
from typing import Any, NamedTuple

from orchestrator import files, locks, plain
from orchestrator.errors import AlreadyExists, InvalidTask
from orchestrator.reading import parse_mapping, read_bytes
from orchestrator.states import Outcome, State
from orchestrator.writing import Value, to_yaml


def utc(moment: float) -> str:
    """Seconds since the epoch as `2025-01-15T10:00:00Z`."""
    return _utc(math.floor(moment))


@functools.lru_cache(maxsize=16)  # of the same second there are many
def _utc(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def epoch(text: object) -> float:
    """The other way; 0.0 for what is no time."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


class Result(NamedTuple):
    """The verdict on one run: what `<task>_result.yaml` holds."""

    task_id: str
    agent_id: str
    agent_type: str
    run: int
    status: Outcome
    completed_at: float  # epoch seconds UTC
    state: State = State.COMPLETED  # where the verdict sends the task
    started_at: float = 0.0
    exit_code: int | None = None
    reason: str = ""  # one line: why it is not a success, and what follows
    output_file: str = ""
    files_modified: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    known_issues: tuple[str, ...] = ()
    objectives: tuple[str, ...] = ()
    code_structure: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    session_id: str = ""
    tokens: dict[str, int] | None = None
    cost_usd: float | None = None
    retry_at: float | None = None  # epoch seconds UTC: when the next attempt may start
    paused_until: float | None = None  # epoch seconds UTC: its agent takes no work until then
    counts: bool = True  # whether this attempt counts against max_retries
    title: str = ""
    kinds: tuple[str, ...] = ()  # what the task was about: its type and requirements
    metrics: dict[str, float] | None = None  # what else its worker measured

    @property
    def mark(self) -> str:
        """What every merged entry of this run carries."""
        return f"{self.task_id}/{self.run}"

    def to_yaml(self) -> bytes:
        """The file, with the keys that users of the format know first."""
        fields: dict[str, Value] = {
            "task_id": self.task_id,
            "agent_id": self.agent_id,
            "completed_at": utc(self.completed_at),
            "status": str(self.status),
            "output_file": self.output_file or None,
            "files_modified": self.files_modified,
            "title": self.title or None,
            "agent_type": self.agent_type,
            "run": self.run,
            "goes_to": str(self.state),
            "reason": self.reason or None,
            "started_at": utc(self.started_at) if self.started_at else None,
            "exit_code": self.exit_code,
            "notes": self.notes or None,
            "known_issues": self.known_issues or None,
            "objectives": self.objectives or None,
            "code_structure": self.code_structure or None,
            "questions": self.questions or None,
            "session_id": self.session_id or None,
            "tokens": self.tokens,
            "cost_usd": self.cost_usd,
            "retry_at": utc(math.ceil(self.retry_at)) if self.retry_at else None,
            "paused_until": utc(math.ceil(self.paused_until)) if self.paused_until else None,
            "counts": None if self.counts else False,
            "kinds": self.kinds or None,
            "metrics": self.metrics,
        }
        return to_yaml(fields)


def read_result(path: str) -> Result | None:
    """A result file as it was written; None if there is none or it is torn. Raises OSError if it cannot be read now."""
    values = _mapping(path)
    try:
        return Result(
            task_id=str(values["task_id"]),
            agent_id=str(values.get("agent_id", "")),
            agent_type=str(values.get("agent_type", "")),
            run=int(values.get("run", 0)),
            status=Outcome(values["status"]),
            completed_at=epoch(values.get("completed_at")),
            state=State(values.get("goes_to", State.COMPLETED)),
            started_at=epoch(values.get("started_at")),
            exit_code=values.get("exit_code"),
            reason=str(values.get("reason", "")),
            output_file=str(values.get("output_file", "")),
            session_id=str(values.get("session_id", "")),
            tokens=values.get("tokens"),
            cost_usd=values.get("cost_usd"),
            retry_at=epoch(values["retry_at"]) if values.get("retry_at") else None,
            paused_until=epoch(values["paused_until"]) if values.get("paused_until") else None,
            counts=bool(values.get("counts", True)),
            title=str(values.get("title", "")),
            metrics=values.get("metrics"),
            **{key: words(values.get(key)) for key in (*FACTS, "kinds")},
        )
    except (KeyError, ValueError, TypeError):
        return None


FACTS = ("files_modified", "notes", "known_issues", "objectives", "code_structure", "questions")
FACTS_EXAMPLE = """\
files_modified: ["src/auth.py"]
notes: ["what the next agent on this project should know"]
known_issues: ["what you found broken and did not mend"]
objectives: ["what should be done next"]
code_structure: ["src/auth.py: login and sessions"]
questions: ["only what you cannot go on without: the task then waits for a person"]"""


def words(value: Any) -> tuple[str, ...]:
    """A list of lines, whatever an agent or a person made of it."""
    if value is None or value == "":
        return ()
    if isinstance(value, (list, tuple)):
        return tuple(text for one in value if one is not None and (text := _one(one)))
    return (_one(value),)


def _one(value: Any) -> str:
    # `- fix: this` is a mapping to YAML, and a sentence to whoever wrote it.
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_one(one)}" for key, one in value.items())
    return str(value).strip()


def _mapping(path: str, whole: bool = False) -> dict[str, Any]:
    try:
        content = read_bytes(path)
        return parse_mapping(content) if content.endswith(b"\n") or not whole else {}
    except InvalidTask:
        return {}
    except OSError as error:
        if not plain.is_lasting(error):
            raise
        return {}


class Record(NamedTuple):
    """`alive`: what is about to be started. Its wrapper adds its pid: from then on the run has begun."""

    boot: str
    started_monotonic: float  # the clock that stops while the machine sleeps
    started_at: float
    agent_id: str
    agent_type: str
    adapter: str
    argv: tuple[str, ...]
    task_sha256: str  # of the task's file as the run was given it
    pid: int = 0  # of the wrapper, which leads the run's session; 0: nothing of it has begun


def write_record(folder: str, record: Record, begun: bool = False, fd: int = -1) -> None:
    """Not synced: after a power cut there is no process that it could speak of. `begun`: no wrapper will say so; `fd`:
    whoever holds it has it open."""
    fields: dict[str, Value] = {
        "agent_id": record.agent_id,
        "agent_type": record.agent_type,
        "adapter": record.adapter,
        "started_at": utc(record.started_at),
        "started_monotonic": record.started_monotonic,
        "boot": record.boot,
        "task_sha256": record.task_sha256,
        "argv": record.argv,
        "pid": record.pid if begun else None,
    }
    if fd < 0:
        files.write(f"{folder}/alive", to_yaml(fields))
    else:
        os.ftruncate(fd, 0)
        files.write_all(fd, to_yaml(fields))


def read_record(folder: str) -> Record | None:
    """None if there is none, or it is torn. Raises OSError if it cannot be read now."""
    values = _mapping(f"{folder}/alive")
    try:
        return Record(
            str(values["boot"]),
            float(values["started_monotonic"]),
            epoch(values["started_at"]),
            str(values["agent_id"]),
            str(values["agent_type"]),
            str(values.get("adapter", "command")),
            words(values.get("argv")),
            str(values.get("task_sha256", "")),
            int(values.get("pid", 0)),
        )
    except (KeyError, ValueError, TypeError):
        return None


def take_alive(folder: str, patience: float = 0.2) -> int:
    """Open and lock the run's `alive` file; the descriptor that the agent shall inherit. Raises AlreadyExists if
    somebody has it for longer than that (seconds)."""
    fd = os.open(f"{folder}/alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    if locks.take(fd, patience):
        return fd
    os.close(fd)
    raise AlreadyExists(f"{folder}: something of this run lives already")


def is_alive(folder: str) -> bool:
    """Whether anything that inherited the lock still lives; the kernel says so. Raises OSError if it cannot be told."""
    return locks.is_locked(f"{folder}/alive")


def has_begun(folder: str) -> bool:
    """Whether anything of the run was ever started: its wrapper's first word, or what came after it.

    After a power cut that cannot be told: nothing of it was synced. Raises OSError if it cannot be read now.
    """
    for name in ("exit", "result.yaml", "stdout.log", "stderr.log", "output.md"):
        try:
            if os.stat(f"{folder}/{name}").st_size:
                return True
        except OSError:
            continue
    try:
        with open(f"{folder}/alive", "rb", opener=plain.opener) as file:
            return b"\npid: " in file.read()
    except OSError as error:
        if not plain.is_lasting(error):
            raise
        return False


def read_exit(folder: str) -> int | None:
    """The exit status as a shell gives it; None if it was not written. Raises OSError if it cannot be read."""
    try:
        fd = plain.opener(f"{folder}/exit", os.O_RDONLY)
        try:
            found = os.read(fd, 8)
        finally:
            os.close(fd)
    except (FileNotFoundError, NotADirectoryError, plain.NotPlain):
        found = b""
    try:  # a full disk has no room for a further file, and some at the end of one that is there
        return int(found) if found else int(_mapping(f"{folder}/alive")["exit"])
    except (ValueError, KeyError, TypeError):
        return None


def assigned_boot(path: str) -> str:
    """The boot in which an assignment was written; "" if it does not say."""
    return str(_mapping(path).get("boot", ""))


def assigned_run(path: str) -> tuple[str, str, int]:
    """(agent id, agent type, run number) of an assignment file; ("", "", 0) if it cannot be read, or is torn."""
    values = _mapping(path, whole=True)
    try:
        return str(values["agent_id"]), str(values.get("agent_type", "")), int(values.get("run", 0))
    except (KeyError, ValueError, TypeError):
        return "", "", 0
