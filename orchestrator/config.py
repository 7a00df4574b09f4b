"""config.yaml: one file, read whole, frozen once read; unknown keys are refused.

Everything has a default, so that no file at all is a valid config: the agents are then the
ones found on PATH, and `shell`. A compiled copy in .orchestrator/config.json lets the fast
commands answer without a YAML parser, and all that look or add go on while the file is broken;
it is a cache and may be deleted at any time.
"""

import json
import os
import re
import shlex
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple

from orchestrator import files, plain
from orchestrator.errors import InvalidConfig, InvalidTask, WrongUsage
from orchestrator.reading import parse_mapping, read_bytes
from orchestrator.rules import Rule, built, stated
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


def _words(value: str) -> str:
    """A command line that can be split. Raises ValueError."""
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise ValueError(f"{value!r} cannot be split into words: {error}") from None
    if words and "=" in words[0]:
        raise ValueError(f"{words[0]!r} is an assignment; write it under env:")
    return value


def _command(value: str) -> str:
    words = shlex.split(_words(value))
    if any(os.path.basename(word) in _SHELLS for word in words):
        for before, word in pairwise((*words, "{prompt}")):
            if _SCRIPT_FOLLOWS.fullmatch(before) and "{prompt}" in word:
                raise ValueError(
                    "a shell would run what a task says; hand it over as a word of its own: "
                    """sh -c 'tool "$1"' sh {prompt}"""
                )
    return value


class AgentConfig(NamedTuple):
    """One agent: a program, and how many of it may run at once."""

    command: Annotated[str, Rule("The command line, split as a shell splits it; no shell runs it.", after=_command)] = (
        ""
    )
    adapter: Annotated[
        Literal["claude", "codex", "gemini", "cursor", "shell", "command"] | None,
        Rule("How its output is read; found out from the name or the command if left out."),
    ] = None
    enabled: Annotated[bool, Rule("false: as if it were not here.")] = True
    max_instances: Annotated[int, Rule("Slots: how many may run at once.", ge=1, le=MOST_SLOTS)] = 1
    timeout_seconds: Annotated[float | None, Rule("Of time that the machine was awake.", gt=0)] = None
    stuck_after_seconds: Annotated[
        float | None, Rule("No output and no CPU for so long: stuck; else limits.", gt=0)
    ] = None
    max_memory_mb: Annotated[
        float | None,
        Rule(
            "Of all processes of one run together; a run that takes more is ended: by the kernel where cgroup v2 "
            "lets us, else by who looks once a second.",
            gt=0,
        ),
    ] = None
    max_processes: Annotated[
        int | None, Rule("Of one run at once; a run that has more is ended. Threads do not count.", ge=1)
    ] = None
    retry_on_failure: Annotated[bool, Rule("false: a failed attempt goes to failed/ at once.")] = True
    capabilities: Annotated[Words, Rule("What a task's requirements are matched with.")] = ()
    prompt: Annotated[Literal["stdin", "argument", "file"], Rule("How the prompt is handed over.")] = "stdin"
    output: Annotated[Literal["text", "json"], Rule("What it prints (adapter: command).")] = "text"
    answer: Annotated[str, Rule("JSON path of the answer in its output, such as result.text.")] = ""
    success_exit_codes: Annotated[tuple[int, ...], Rule("Exit statuses that mean success (adapter: command).")] = (0,)
    env: Annotated[dict[str, str], Rule("Added to its environment.")] = {}
    pass_env: Annotated[Words, Rule("Names (or patterns) of secrets that it may have after all.")] = ()


class QueueConfig(NamedTuple):
    """Limits and defaults of the queue."""

    max_size: Annotated[int, Rule("Tasks that may wait at once.", ge=1, le=10_000_000)] = 1000
    default_priority: Annotated[PriorityField, Rule("Of a task that states none.")] = Priority.NORMAL
    default_timeout_minutes: Annotated[float, Rule("Of a run, if neither task nor agent states one.", gt=0)] = 60
    promote_low_after_minutes: Annotated[float, Rule("A LOW task is NORMAL after so long.", ge=0)] = 30
    ids: Annotated[
        Literal["sequential", "unique"], Rule("unique: ids that never collide, for teams that write tasks on branches.")
    ] = "sequential"
    read_apart: Annotated[
        Literal["auto", "always", "never"],
        Rule(
            "Whether files in pending/ are read by a process of its own, so that one that the disk does not give out "
            "delays no other. auto: on network and FUSE file systems."
        ),
    ] = "auto"


class RetryConfig(NamedTuple):
    """When a failed attempt is made again."""

    max_retries: Annotated[int, Rule("Further attempts after a failed one.", ge=0, le=100)] = 3
    retry_delay_seconds: Annotated[float, Rule("Before the first; doubled for each further one.", ge=0)] = 60
    max_delay_seconds: Annotated[float, Rule("No back-off is longer.", ge=0)] = 3600


class LimitsConfig(NamedTuple):
    """What one run may take, and what this machine has to have left."""

    max_output_mb: Annotated[float, Rule("Of each of stdout and stderr; head and tail are kept.", gt=0)] = 50
    stuck_after_seconds: Annotated[
        float, Rule("No output and no CPU for so long: stuck. At least 600 for the built-in agent CLIs.", gt=0)
    ] = 300
    grace_seconds: Annotated[float, Rule("Between the interrupt and the kill.", ge=0)] = 30
    linger_seconds: Annotated[float, Rule("For a program that has answered to end by itself.", ge=0)] = 10
    min_free_disk_mb: Annotated[float, Rule("With less on the disk of tasks/ nothing new is started.", ge=0)] = 200
    failed_starts: Annotated[
        int, Rule("So many in a row, and the agent is paused; later one task tries whether it starts again.", ge=1)
    ] = 3


class AlertsConfig(NamedTuple):
    """Who is told when nothing can be started any more: no agent left, no room on the disk, …"""

    command: Annotated[
        str, Rule("A command line; the text is its last argument, and in ORCHESTRATE_ALERT.", after=_words)
    ] = ""
    notify: Annotated[
        Words, Rule("desktop, a webhook's https://…, or any URL of Apprise; needs orchestrate-agents[alerts].")
    ] = ()


def _agents(value: Any) -> Any:
    # `codex:` with nothing behind it is an agent with all defaults; a bare string is its command.
    if value is None:
        return {}
    if isinstance(value, dict):
        return {k: {} if v is None else {"command": v} if isinstance(v, str) else v for k, v in value.items()}
    return value


def _named(value: dict[str, AgentConfig]) -> dict[str, AgentConfig]:
    for name, agent in value.items():
        if not name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"agent {name!r}: a name holds letters, digits, '-' and '_'")
        if not agent.command and name not in BUILT_IN and name != "shell" and agent.adapter != "shell":
            raise ValueError(f"agent {name!r} has no command; add 'command: …'")
    return value


class Config(NamedTuple):
    """All of config.yaml."""

    agents: Annotated[
        dict[str, AgentConfig],
        Rule("Who works here, by name; none: those found on PATH, and shell.", before=_agents, after=_named),
    ] = {}
    queue: Annotated[QueueConfig, Rule("Limits and defaults of the queue.")] = QueueConfig()
    retry: Annotated[RetryConfig, Rule("When a failed attempt is made again.")] = RetryConfig()
    limits: Annotated[LimitsConfig, Rule("What one run may take, and what has to be left.")] = LimitsConfig()
    alerts: Annotated[AlertsConfig, Rule("Who is told when nothing can be started any more.")] = AlertsConfig()
    secrets: Annotated[tuple[str, ...], Rule("Names (or patterns) that no agent inherits unless it needs them or its pass_env says so.")] = ("*_KEY", "API_KEY", "*_TOKEN", "TOKEN", "*_SECRET", "SECRET", "*_SECRET_*", "*_PASSWORD", "PASSWORD", "*_PASS",
         "*_PASSPHRASE", "*_PWD", "*_CREDENTIALS", "*_PAT", "*_AUTH", "AWS_*", "DATABASE_URL", "REDIS_URL", "PGPASSWORD",
         "ANTHROPIC_*", "OPENAI_*", "GEMINI_*", "GOOGLE_*")  # fmt: skip
    durability: Annotated[Literal["full", "relaxed"], Rule("relaxed: the dispatcher waits for no disk. Whatever program is killed, nothing is lost; "
        "but a crash of the machine may take back what was done in the last half minute. Adding a task waits all the same.")] = "full"  # fmt: skip
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Rule("Of the dispatcher's log.")] = "info"

    def agent_table(self, path: str | None = None) -> dict[str, AgentConfig]:
        """The enabled agents by name, commands filled in; found on `path` if the file names none."""
        agents = self.agents
        if not agents:
            import shutil  # four modules that most commands do without

            found = {n: AgentConfig(command=c) for n, c in BUILT_IN.items() if shutil.which(c.split()[0], path=path)}
            agents = {**found, "shell": AgentConfig(max_instances=max(2, os.cpu_count() or 2))}
        return {
            name: agent if agent.command or name not in BUILT_IN else agent._replace(command=BUILT_IN[name])
            for name, agent in agents.items()
            if agent.enabled
        }


def known_keys() -> tuple[str, ...]:
    """Every key of config.yaml, for "did you mean"."""
    models = (Config, AgentConfig, QueueConfig, RetryConfig, LimitsConfig, AlertsConfig)
    return tuple(name for model in models for name in model._fields)


def load(root: str) -> Config:
    """The config of a root. Raises InvalidConfig with what, where and what to do."""
    path = os.path.join(root, "config.yaml")
    try:
        values = parse_mapping(read_bytes(os.path.realpath(path)))  # a link is followed: it is its owner's file
        for section in ("agents", "queue", "retry", "limits", "alerts"):
            if section in values and values[section] is None:
                del values[section]
        return built(Config, values, known_keys(), InvalidConfig)
    except FileNotFoundError:
        if os.path.islink(path):
            raise InvalidConfig(f"{path}: is a link to {os.readlink(path)}, which is not there") from None
        return Config()
    except InvalidTask as error:
        text = str(error)
        if text.startswith("is empty"):
            return Config()
        raise InvalidConfig(f"{path}: {text}") from None
    except InvalidConfig as error:
        raise InvalidConfig(f"{path}: {error}") from None


def stamp(root: str) -> list[int]:
    """What another version of config.yaml has not; [] if there is none."""
    try:
        status = os.stat(f"{root}/config.yaml")
    except OSError:
        return []
    return [status.st_mtime_ns, status.st_size, status.st_ino]


def load_and_keep(root: str) -> Config:
    """`load`, and a compiled copy of it for `load_or_last` and the fast commands. Raises InvalidConfig."""
    found = stamp(root)  # before it is read: a later version has another
    config = load(root)
    if not found:
        return config
    # Not env, nor where alerts go: both may hold keys, and this file is as readable as any other.
    shown = config._replace(
        agents={name: agent._replace(env={}) for name, agent in config.agents.items()},
        alerts=config.alerts._replace(notify=()),
    )
    kept = {
        "stamp": found,
        "brief": brief(config),
        "config": stated(shown),
    }
    try:
        os.makedirs(f"{root}/.orchestrator", exist_ok=True)
        files.replace(f"{root}/{COPY}", json.dumps(kept).encode(), sync=False)
    except OSError:
        pass
    return config


def brief(config: Config) -> tuple[int, bool, list[str], list[str]]:
    """What adding a task needs: the queue's size, whether ids are unique ones, the agents that it may name, and those of
    them that run scripts."""
    names = sorted({*config.agents, *BUILT_IN, "shell", "command"}) if config.agents else []
    every = {"shell": AgentConfig(), **config.agents}
    shells = [name for name, agent in every.items() if (agent.adapter or name) == "shell"]
    return config.queue.max_size, config.queue.ids == "unique", names, shells


def load_or_last(root: str, keep: bool = False) -> tuple[Config, str]:
    """The config, and ""; if it is broken the last good one that was kept (or all defaults), and what is wrong."""
    try:
        return (load_and_keep if keep else load)(root), ""
    except InvalidConfig as error:
        problem = str(error)
    try:
        with open(f"{root}/{COPY}", encoding="utf-8", opener=plain.opener) as file:
            return built(Config, json.load(file)["config"], (), InvalidConfig), problem
    except (OSError, ValueError, KeyError, TypeError, InvalidConfig):
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
