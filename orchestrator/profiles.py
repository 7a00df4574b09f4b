"""Specialists: an agent of config.yaml with its own way of working. One plain file each, agents/<name>.md below the root:

    ---
    capabilities: [research, web]
    agent: claude                    # of config.yaml; the first that is no shell, if left out
    model: opus
    options: --max-turns 40          # added to the agent's command
    allowed_tools: [Read, WebSearch]
    ---
    You are a researcher. …          (stands at the head of the prompt)

A specialist runs in the slots of its agent. It does what asks for it, by name or by a capability that it adds. Four are built in,
and used where the root has none of that name.
"""

import os
import re
import shlex
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, cast

from orchestrator import files, output, plain
from orchestrator.agents import adapter_for
from orchestrator.agents.flags import joined, without
from orchestrator.config import AgentConfig
from orchestrator.errors import AlreadyExists, InvalidConfig, InvalidTask, NotFound, OrchestrateError
from orchestrator.names import nearest, printable
from orchestrator.places import BUILT_IN
from orchestrator.reading import parse_mapping
from orchestrator.rules import Rule, built
from orchestrator.task import Words

FOLDER = "agents"  # below the root
MODEL_FLAG = {"claude": "--model", "codex": "--model", "gemini": "--model", "cursor": "--model"}
TOOLS_FLAG = {"claude": "--tools"}  # others are told in words
_NAME = re.compile(r"[A-Za-z0-9][\w-]{0,63}", re.ASCII)
_FILE = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*\n(.*)\Z", re.DOTALL | re.MULTILINE)


def _options(value: str) -> str:
    try:
        shlex.split(value)
    except ValueError as error:
        raise ValueError(f"{value!r} cannot be split into words: {error}") from None
    return value


class Profile(NamedTuple):
    """The head of a specialist's file."""

    capabilities: Annotated[Words, Rule("What it adds to those of its agent.")] = ()
    agent: Annotated[str, Rule("The agent of config.yaml that it is; the first that is no shell if left out.")] = ""
    model: Annotated[str, Rule("For claude, codex, gemini and cursor.")] = ""
    options: Annotated[str, Rule("Words that are added to the agent's command.", after=_options)] = ""
    allowed_tools: Annotated[Words, Rule("claude has no other then; other programs are told so in words.")] = ()


class Specialist(NamedTuple):
    """A profile, joined with its agent."""

    name: str
    base: str  # the agent whose slots, account and pauses are its own
    settings: AgentConfig
    preamble: str
    added: tuple[str, ...]  # capabilities that its agent has not: tasks that require one of them ask for it


def read(text: str) -> tuple[Profile, str]:
    """The head and the preamble of a file. Raises InvalidConfig."""
    found = _FILE.match(text.replace("\r\n", "\n"))
    if not found:
        raise InvalidConfig("does not begin with '---', settings, and '---' on a line of its own")
    try:
        values = parse_mapping(found[1].encode("utf-8", "replace")) if found[1].strip() else {}
    except InvalidTask as error:
        raise InvalidConfig(str(error)) from None
    if not found[2].strip():
        raise InvalidConfig("says nothing below the second '---': write how it shall work")
    return built(Profile, values, Profile._fields, InvalidConfig), found[2].strip()


def texts(root: str) -> dict[str, str]:
    """Name → file's text, of all specialists: the built-in ones, and those of the root."""
    found = {name: built_in(name) for name in BUILT_IN}
    for name in names(root):
        found[name] = output.text(f"{root}/{FOLDER}/{name}.md", 200_000)
    return found


def names(root: str) -> list[str]:
    """Of the root's own. Raises OSError if that cannot be told now."""
    try:
        return sorted(one[:-3] for one in os.listdir(f"{root}/{FOLDER}") if one.endswith(".md") and one[0] != ".")
    except OSError as error:
        if not plain.is_lasting(error):
            raise
        return []


def stamps(root: str) -> tuple[object, ...]:
    """Changes when a file of the root's own does."""
    found = []
    for name in names(root):
        try:
            status = os.stat(f"{root}/{FOLDER}/{name}.md")
            found.append((name, status.st_mtime_ns, status.st_size))
        except OSError:
            continue
    return tuple(found)


def built_in(name: str) -> str:
    """The text of one that is shipped."""
    with open(f"{os.path.dirname(__file__)}/specialists/{name}.md", encoding="utf-8") as file:
        return file.read()


def load(root: str, agents: Mapping[str, AgentConfig]) -> tuple[dict[str, Specialist], dict[str, str]]:
    """The specialists that can work with these agents; and name → why not, of the root's own that cannot."""
    found: dict[str, Specialist] = {}
    problems: dict[str, str] = {}
    own = names(root)
    for name, text in texts(root).items():
        try:
            found[name] = _joined(name, text, agents)
        except InvalidConfig as error:
            if name in own:
                problems[name] = f"{FOLDER}/{printable(name)}.md: {error}"
    return found, problems


def _joined(name: str, text: str, agents: Mapping[str, AgentConfig]) -> Specialist:
    if not _NAME.fullmatch(name):
        raise InvalidConfig("its name may hold letters, digits, '-' and '_'")
    if name in agents:
        raise InvalidConfig(f"config.yaml has an agent {name} already; rename the file")
    profile, preamble = read(text)
    kinds = {one: adapter_for(one, agent).kind for one, agent in agents.items()}
    base = profile.agent or next((one for one, kind in kinds.items() if kind != "shell"), "")
    if base not in agents:
        what = f"{base!r} is no agent of config.yaml{nearest(base, agents)}" if base else "there is no agent for it"
        raise InvalidConfig(f"agent: {what}; there are: {', '.join(agents) or 'none'}")
    kind, agent = kinds[base], agents[base]
    if kind == "shell":
        raise InvalidConfig(f"agent: {base!r} runs scripts, and reads no prompt")
    if profile.model and kind not in MODEL_FLAG:
        raise InvalidConfig(f"model: how {base!r} is told one is not known; write the words under options")
    words, added = tuple(shlex.split(agent.command)), tuple(shlex.split(profile.options))
    if profile.model:
        words = without(words, MODEL_FLAG[kind])
        added = (MODEL_FLAG[kind], profile.model, *added)
    if profile.allowed_tools and kind in TOOLS_FLAG:
        words = without(words, TOOLS_FLAG[kind])
        added = (*added, TOOLS_FLAG[kind], ",".join(profile.allowed_tools))
    elif profile.allowed_tools:
        preamble += f"\n\nUse these tools only: {', '.join(profile.allowed_tools)}."
    settings = agent._replace(
        command=shlex.join(joined(words, added)) if added else agent.command,
        adapter=cast(Any, kind),  # a key of `agents.AGENTS`
        capabilities=tuple(dict.fromkeys((*profile.capabilities, *agent.capabilities))),
    )
    mine = tuple(one for one in profile.capabilities if one not in agent.capabilities)
    return Specialist(name, base, settings, preamble, mine)


def copy(root: str, name: str, source: str = "research") -> str:
    """Make agents/<name>.md of another, for the user to change; its path relative to the root. Raises OrchestrateError."""
    if not _NAME.fullmatch(name):
        raise OrchestrateError(f"{printable(name)!r}: a name holds letters, digits, '-' and '_'")
    known = texts(root)
    if source not in known:
        raise NotFound(
            f"{printable(source)}: no such specialist{nearest(source, known)}; there are: {', '.join(known)}"
        )
    os.makedirs(f"{root}/{FOLDER}", exist_ok=True)
    path = f"{FOLDER}/{name}.md"
    try:
        files.publish(f"{root}/{path}", known[source].encode("utf-8", "replace"))
    except AlreadyExists:
        raise AlreadyExists(f"{path}: exists already; nothing was overwritten") from None
    files.sync_folder(f"{root}/{FOLDER}")
    return path
