"""config.yaml: one file, read whole, frozen once read; unknown keys are refused.

Everything has a default, so that no file at all is a valid config: the agents are then the
ones found on PATH, and `shell`. A compiled copy in .orchestrator/config.json lets the fast
commands answer without a YAML parser, and all that look or add go on while the file is broken;
it is a cache and may be deleted at any time.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from itertools import pairwise
from typing import Any, Literal

from pydantic import Field, field_validator

from orchestrator import files, plain
from orchestrator.checking import Frozen, checked
from orchestrator.errors import InvalidConfig, InvalidTask, WrongUsage
from orchestrator.reading import parse_mapping, read_bytes
from orchestrator.states import Priority
from orchestrator.task import PriorityField, Words

COPY = ".orchestrator/config.json"  # below the root
MOST_SLOTS = 1000  # of one agent

# Found on PATH, these are the agents of a root whose config.yaml names none. The permission
# flags are written out here because they are the user's to see and to change.
BUILT_IN = {
    "claude": "claude --dangerously-skip-permissions",
    "codex": "codex --ask-for-approval never --sandbox danger-full-access exec",
    "gemini": "gemini --approval-mode yolo",
    "cursor": "cursor-agent --force",
}

_SHELLS = ("sh", "bash", "dash", "zsh", "ksh", "fish", "su")
_SCRIPT_FOLLOWS = re.compile(r"-\w*c")


class AgentConfig(Frozen):
    """One agent: a program, and how many of it may run at once."""

    command: str = Field("", description="The command line, split as a shell splits it; no shell runs it.")
    adapter: Literal["claude", "codex", "gemini", "cursor", "shell", "command"] | None = Field(
        None, description="How its output is read; found out from the name or the command if left out."
    )
    enabled: bool = Field(True, description="false: as if it were not here.")
    max_instances: int = Field(1, ge=1, le=MOST_SLOTS, description="Slots: how many may run at once.")
    timeout_seconds: float | None = Field(None, gt=0, description="Of time that the machine was awake.")
    stuck_after_seconds: float | None = Field(
        None, gt=0, description="No output and no CPU for so long: stuck; else limits."
    )
    max_memory_mb: float | None = Field(
        None,
        gt=0,
        description="Of all processes of one run together; a run that takes more is ended: by the kernel where cgroup v2 "
        "lets us, else by who looks once a second.",
    )
    max_processes: int | None = Field(
        None, ge=1, description="Of one run at once; a run that has more is ended. Threads do not count."
    )
    retry_on_failure: bool = Field(True, description="false: a failed attempt goes to failed/ at once.")
    capabilities: Words = Field((), description="What a task's requirements are matched with.")
    prompt: Literal["stdin", "argument", "file"] = Field("stdin", description="How the prompt is handed over.")
    output: Literal["text", "json"] = Field("text", description="What it prints (adapter: command).")
    answer: str = Field("", description="JSON path of the answer in its output, such as result.text.")
    success_exit_codes: tuple[int, ...] = Field((0,), description="Exit statuses that mean success (adapter: command).")
    env: dict[str, str] = Field({}, description="Added to its environment.")
    pass_env: Words = Field((), description="Names (or patterns) of secrets that it may have after all.")

    @field_validator("command")
    @classmethod
    def _command(cls, value: str) -> str:
        words = shlex.split(_words(value))
        if any(os.path.basename(word) in _SHELLS for word in words):
            for before, word in pairwise((*words, "{prompt}")):
                if _SCRIPT_FOLLOWS.fullmatch(before) and "{prompt}" in word:
                    raise ValueError(
                        "a shell would run what a task says; hand it over as a word of its own: "
                        """sh -c 'tool "$1"' sh {prompt}"""
                    )
        return value


def _words(value: str) -> str:
    """A command line that can be split. Raises ValueError."""
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise ValueError(f"{value!r} cannot be split into words: {error}") from None
    if words and "=" in words[0]:
        raise ValueError(f"{words[0]!r} is an assignment; write it under env:")
    return value


class QueueConfig(Frozen):
    """Limits and defaults of the queue."""

    max_size: int = Field(1000, ge=1, le=10_000_000, description="Tasks that may wait at once.")
    default_priority: PriorityField = Field(Priority.NORMAL, description="Of a task that states none.")
    default_timeout_minutes: float = Field(60, gt=0, description="Of a run, if neither task nor agent states one.")
    promote_low_after_minutes: float = Field(30, ge=0, description="A LOW task is NORMAL after so long.")
    ids: Literal["sequential", "unique"] = Field(
        "sequential", description="unique: ids that never collide, for teams that write tasks on branches."
    )


class RetryConfig(Frozen):
    """When a failed attempt is made again."""

    max_retries: int = Field(3, ge=0, le=100, description="Further attempts after a failed one.")
    retry_delay_seconds: float = Field(60, ge=0, description="Before the first; doubled for each further one.")
    max_delay_seconds: float = Field(3600, ge=0, description="No back-off is longer.")


class LimitsConfig(Frozen):
    """What one run may take, and what this machine has to have left."""

    max_output_mb: float = Field(50, gt=0, description="Of each of stdout and stderr; head and tail are kept.")
    stuck_after_seconds: float = Field(
        300, gt=0, description="No output and no CPU for so long: stuck. At least 600 for the built-in agent CLIs."
    )
    grace_seconds: float = Field(30, ge=0, description="Between the interrupt and the kill.")
    linger_seconds: float = Field(10, ge=0, description="For a program that has answered to end by itself.")
    min_free_disk_mb: float = Field(200, ge=0, description="With less on the disk of tasks/ nothing new is started.")
    failed_starts: int = Field(
        3, ge=1, description="So many in a row, and the agent is paused; later one task tries whether it starts again."
    )


class AlertsConfig(Frozen):
    """Who is told when nothing can be started any more: no agent left, no room on the disk, …"""

    command: str = Field("", description="A command line; the text is its last argument, and in ORCHESTRATE_ALERT.")
    notify: Words = Field(
        (), description="desktop, a webhook's https://…, or any URL of Apprise; needs orchestrate-agents[alerts]."
    )

    @field_validator("command")
    @classmethod
    def _command(cls, value: str) -> str:
        return _words(value)


class Config(Frozen):
    """All of config.yaml."""

    agents: dict[str, AgentConfig] = Field(
        {}, description="Who works here, by name; none: those found on PATH, and shell."
    )
    queue: QueueConfig = Field(QueueConfig(), description="Limits and defaults of the queue.")
    retry: RetryConfig = Field(RetryConfig(), description="When a failed attempt is made again.")
    limits: LimitsConfig = Field(LimitsConfig(), description="What one run may take, and what has to be left.")
    alerts: AlertsConfig = Field(AlertsConfig(), description="Who is told when nothing can be started any more.")
    secrets: tuple[str, ...] = Field(
        ("*_KEY", "API_KEY", "*_TOKEN", "TOKEN", "*_SECRET", "SECRET", "*_SECRET_*", "*_PASSWORD", "PASSWORD", "*_PASS",
         "*_PASSPHRASE", "*_PWD", "*_CREDENTIALS", "*_PAT", "*_AUTH", "AWS_*", "DATABASE_URL", "REDIS_URL", "PGPASSWORD",
         "ANTHROPIC_*", "OPENAI_*", "GEMINI_*", "GOOGLE_*"),
        description="Names (or patterns) that no agent inherits unless it needs them or its pass_env says so.",
    )  # fmt: skip
    durability: Literal["full", "relaxed"] = Field(
        "full", description="relaxed: the dispatcher waits for no disk. Whatever program is killed, nothing is lost; "
        "but a crash of the machine may take back what was done in the last half minute. Adding a task waits all the same."
    )  # fmt: skip
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Of the dispatcher's log.")

    @field_validator("agents", mode="before")
    @classmethod
    def _agents(cls, value: Any) -> Any:
        # `codex:` with nothing behind it is an agent with all defaults; a bare string is its command.
        if value is None:
            return {}
        if isinstance(value, dict):
            return {k: {} if v is None else {"command": v} if isinstance(v, str) else v for k, v in value.items()}
        return value

    @field_validator("agents")
    @classmethod
    def _named(cls, value: dict[str, AgentConfig]) -> dict[str, AgentConfig]:
        for name, agent in value.items():
            if not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"agent {name!r}: a name holds letters, digits, '-' and '_'")
            if not agent.command and name not in BUILT_IN and name != "shell" and agent.adapter != "shell":
                raise ValueError(f"agent {name!r} has no command; add 'command: …'")
        return value

    def agent_table(self, path: str | None = None) -> dict[str, AgentConfig]:
        """The enabled agents by name, commands filled in; found on `path` if the file names none."""
        agents = self.agents
        if not agents:
            found = {n: AgentConfig(command=c) for n, c in BUILT_IN.items() if shutil.which(c.split()[0], path=path)}
            agents = {**found, "shell": AgentConfig(max_instances=max(2, os.cpu_count() or 2))}
        return {
            name: agent
            if agent.command or name not in BUILT_IN
            else agent.model_copy(update={"command": BUILT_IN[name]})
            for name, agent in agents.items()
            if agent.enabled
        }


def known_keys() -> tuple[str, ...]:
    """Every key of config.yaml, for "did you mean"."""
    models = (Config, AgentConfig, QueueConfig, RetryConfig, LimitsConfig, AlertsConfig)
    return tuple(name for model in models for name in model.model_fields)


def load(root: str) -> Config:
    """The config of a root. Raises InvalidConfig with what, where and what to do."""
    path = os.path.join(root, "config.yaml")
    try:
        values = parse_mapping(read_bytes(path))
        for section in ("agents", "queue", "retry", "limits", "alerts"):
            if section in values and values[section] is None:
                del values[section]
        return checked(Config, values, known_keys(), InvalidConfig)
    except FileNotFoundError:
        return Config()
    except InvalidTask as error:
        text = str(error)
        if text.startswith("is empty"):
            return Config()
        raise InvalidConfig(f"{path}: {text}") from None
    except InvalidConfig as error:
        raise InvalidConfig(f"{path}: {error}") from None


def load_and_keep(root: str) -> Config:
    """`load`, and a compiled copy of it for `load_or_last` and the fast commands. Raises InvalidConfig."""
    path = f"{root}/config.yaml"
    try:
        status = os.stat(path)  # before it is read: a later version has another stamp
    except OSError:
        return load(root)
    config = load(root)
    kept = {
        "stamp": [status.st_mtime_ns, status.st_size, status.st_ino],
        "brief": brief(config),
        # Not env, nor where alerts go: both may hold keys, and this file is as readable as any other.
        "config": config.model_dump(
            mode="json", exclude_defaults=True, exclude={"agents": {"__all__": {"env"}}, "alerts": {"notify"}}
        ),
    }
    try:
        os.makedirs(f"{root}/.orchestrator", exist_ok=True)
        files.replace(f"{root}/{COPY}", json.dumps(kept).encode(), sync=False)
    except OSError:
        pass
    return config


def brief(config: Config) -> tuple[int, bool, list[str]]:
    """What adding a task needs: the queue's size, whether ids are unique ones, the agents that it may name."""
    names = sorted({*config.agents, *BUILT_IN, "shell", "command"}) if config.agents else []
    return config.queue.max_size, config.queue.ids == "unique", names


def load_or_last(root: str, keep: bool = False) -> tuple[Config, str]:
    """The config, and ""; if it is broken the last good one that was kept (or all defaults), and what is wrong."""
    try:
        return (load_and_keep if keep else load)(root), ""
    except InvalidConfig as error:
        problem = str(error)
    try:
        with open(f"{root}/{COPY}", encoding="utf-8", opener=plain.opener) as file:
            return Config.model_validate(json.load(file)["config"]), problem
    except (OSError, ValueError, KeyError, TypeError):
        return Config(), problem


def parse_sizes(text: str) -> dict[str, int]:
    """`claude:2,codex:2` → {"claude": 2, "codex": 2}. Raises WrongUsage."""
    sizes: dict[str, int] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, count = part.partition(":")
        if not count.strip().isdecimal() and count:
            raise WrongUsage(f"--agents {part!r}: write name:count, such as claude:2,codex:2")
        sizes[name.strip()] = int(count or 1)
        if sizes[name.strip()] > MOST_SLOTS:
            raise WrongUsage(f"--agents {part!r}: {MOST_SLOTS} of one agent are the most")
    if sizes and not any(sizes.values()):
        raise WrongUsage(f"--agents {text!r}: leaves no agent; nothing could run")
    return sizes
