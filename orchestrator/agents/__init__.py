"""Which adapter reads which program: the table, and how an agent of config.yaml finds its own."""

from __future__ import annotations

import functools
import os
import shlex
from typing import TYPE_CHECKING

from orchestrator.agents.base import Agent
from orchestrator.agents.claude import ClaudeAgent
from orchestrator.agents.codex import CodexAgent
from orchestrator.agents.command import CommandAgent
from orchestrator.agents.cursor import CursorAgent
from orchestrator.agents.gemini import GeminiAgent
from orchestrator.agents.shell import ShellAgent
from orchestrator.errors import OrchestrateError

if TYPE_CHECKING:
    from orchestrator.config import AgentConfig

_ALL: tuple[Agent, ...] = (
    ClaudeAgent(),
    CodexAgent(),
    GeminiAgent(),
    CursorAgent(),
    CommandAgent(),
    ShellAgent(),
)

AGENTS: dict[str, Agent] = {agent.kind: agent for agent in _ALL}

_PROGRAMS = {"cursor-agent": "cursor", "agent": "cursor"}  # programs that are not named like their kind


def adapter_for(name: str, settings: AgentConfig) -> Agent:
    """The adapter of an agent: as configured, else by its name, else by its program."""
    if settings.adapter:
        if settings.adapter in AGENTS:
            return AGENTS[settings.adapter]
        raise OrchestrateError(f"agents.{name}.adapter: {settings.adapter!r} is none of {', '.join(AGENTS)}")
    program = _program(settings.command)
    kinds = (name, _PROGRAMS.get(program, program))
    return next((AGENTS[kind] for kind in kinds if kind in AGENTS), AGENTS["command"])


@functools.lru_cache(maxsize=64)
def _program(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError:  # an open quote: config.py tells the user
        return ""
    return os.path.basename(words[0]) if words else ""
