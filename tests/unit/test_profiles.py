"""Specialists: plain files, joined with an agent of config.yaml; asked for by name or by capability."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from helpers import read, write

from orchestrator import profiles, prompt
from orchestrator.config import AgentConfig, Config
from orchestrator.errors import AlreadyExists, InvalidConfig, NotFound, OrchestrateError
from orchestrator.extras.mcp_asking import Asking
from orchestrator.registry import AgentRegistry
from orchestrator.router import CapabilityRouter
from orchestrator.rules import built
from orchestrator.task import Task

pytestmark = pytest.mark.fast

CLAUDE = AgentConfig(
    command="claude --dangerously-skip-permissions --model haiku", max_instances=2, capabilities=("code",)
)
CODEX = AgentConfig(command="codex exec -- x")
SHELL = AgentConfig(adapter="shell")
PLAIN = AgentConfig(command="mine --headless")


def specialist(tmp_path: Path, head: str, **agents: AgentConfig) -> profiles.Specialist:
    """One that works."""
    write(tmp_path / "agents" / "legal.md", f"---\n{head}\n---\nYou are a lawyer.\n")
    found, problems = profiles.load(str(tmp_path), agents or {"claude": CLAUDE})
    assert problems == {}
    return found["legal"]


def problem(tmp_path: Path, text: str, name: str = "legal", **agents: AgentConfig) -> str:
    """Why one does not."""
    write(tmp_path / "agents" / f"{name}.md", text)
    found, problems = profiles.load(str(tmp_path), agents or {"claude": CLAUDE, "mine": PLAIN, "shell": SHELL})
    assert name not in found and "\n" not in problems[name]
    return problems[name]


# -- files --------------------------------------------------------------------------------------


def test_four_are_built_in_and_run_on_the_first_agent_that_reads_a_prompt(tmp_path: Path) -> None:
    found, problems = profiles.load(str(tmp_path), {"shell": SHELL, "claude": CLAUDE, "codex": CODEX})
    assert list(found) == ["research", "analysis", "synthesis", "validation"] and problems == {}
    assert {one.base for one in found.values()} == {"claude"}
    assert found["research"].settings.command == CLAUDE.command
    for name, one in found.items():
        assert name in one.settings.capabilities and "code" in one.settings.capabilities and len(one.preamble) > 200
    assert profiles.load(str(tmp_path), {"shell": SHELL}) == ({}, {})


def test_a_file_of_the_root_takes_the_place_of_a_built_in_one(tmp_path: Path) -> None:
    write(tmp_path / "agents" / "research.md", "---\ncapabilities: [law]\n---\nMine.\n")
    found, _ = profiles.load(str(tmp_path), {"claude": CLAUDE})
    assert (found["research"].preamble, found["research"].settings.capabilities) == ("Mine.", ("law", "code"))


def test_model_options_and_tools_are_words_of_the_command(tmp_path: Path) -> None:
    one = specialist(tmp_path, "model: opus\noptions: --max-turns '4 0'\nallowed_tools: [Read, Grep]")
    assert one.settings.command == (
        "claude --dangerously-skip-permissions --model opus --max-turns '4 0' --tools Read,Grep"
    )
    assert (one.settings.max_instances, one.settings.adapter) == (2, "claude")


def test_words_come_before_a_bare_double_dash_and_tools_are_said_where_there_is_no_flag(tmp_path: Path) -> None:
    one = specialist(tmp_path, "agent: codex\nmodel: o5\nallowed_tools: [Read]", claude=CLAUDE, codex=CODEX)
    assert one.settings.command == "codex exec --model o5 -- x"
    assert one.preamble == "You are a lawyer.\n\nUse these tools only: Read."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no head", "does not begin with '---'"),
        ("---\nmodel: x\n", "does not begin with '---'"),
        ("---\nmodel: x\n---\n \n", "says nothing below the second '---'"),
        ("---\nmodle: x\n---\nx", "unknown key 'modle' (did you mean 'model'?)"),
        ("---\nagent: claud\n---\nx", "agent: 'claud' is no agent of config.yaml (did you mean 'claude'?)"),
        ("---\nagent: shell\n---\nx", "runs scripts"),
        ("---\nagent: mine\nmodel: x\n---\nx", "write the words under options"),
        ('---\noptions: "it\'s"\n---\nx', "cannot be split into words"),
        ("---\n[a\n---\nx", "agents/legal.md: "),
        ("", "does not begin"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    said = problem(tmp_path, text)
    assert words in said and said.startswith("agents/legal.md: ")


def test_a_name_that_cannot_be_or_is_taken_is_said(tmp_path: Path) -> None:
    assert "rename the file" in problem(tmp_path, "---\n---\nx", "claude")
    assert "letters, digits" in problem(tmp_path, "---\n---\nx", "a b")


def test_a_copy_is_made_once_and_overwrites_nothing(tmp_path: Path) -> None:
    assert profiles.copy(str(tmp_path), "legal", "validation") == "agents/legal.md"
    assert read(tmp_path / "agents" / "legal.md") == profiles.built_in("validation")
    write(tmp_path / "agents" / "legal.md", "mine")
    with pytest.raises(AlreadyExists, match="nothing was overwritten"):
        profiles.copy(str(tmp_path), "legal")
    assert read(tmp_path / "agents" / "legal.md") == "mine"
    with pytest.raises(NotFound, match="did you mean 'research'"):
        profiles.copy(str(tmp_path), "x", "reserch")
    for name in ("../x", "", "a b", ".x"):
        with pytest.raises(OrchestrateError, match="letters, digits"):
            profiles.copy(str(tmp_path), name)
    assert os.listdir(tmp_path / "agents") == ["legal.md"]
    with pytest.raises(InvalidConfig):
        profiles.read("mine")


# -- in the registry and the router -------------------------------------------------------------


@pytest.fixture
def registry(tmp_path: Path) -> AgentRegistry:
    return AgentRegistry(str(tmp_path), Config(agents={"a": AgentConfig(command="true", capabilities=("code",))}))


def chosen(registry: AgentRegistry, busy: dict[str, str] | None = None, **fields: object) -> tuple[str, str] | None:
    task = built(Task, {"id": "t", "description": "x", **fields}, (), ValueError)
    return CapabilityRouter(registry.views(busy or {}, time.time())).choose(task)


def test_a_specialist_does_what_asks_for_it_and_nothing_else(registry: AgentRegistry) -> None:
    assert chosen(registry) == ("a", "agent_01")
    assert chosen(registry, preferred_agent="research") == ("research", "agent_01")
    assert chosen(registry, requirements=("validation", "code")) == ("validation", "agent_01")
    registry.update_agent_performance("a", False)
    assert chosen(registry, requirements=("code",)) == ("a", "agent_01"), "its agent can do that itself"
    assert registry.get_agent_statistics().total_agents == 1
    assert registry.list_agents("validation") == ["validation"]


def test_a_model_is_not_told_that_nobody_can_what_a_specialist_can(tmp_path: Path) -> None:
    write(tmp_path / "config.yaml", "agents: {a: cat}\n")
    tools = Asking(str(tmp_path))
    assert tools.create_task("Find it", requirements=("web",)).note == ""
    assert tools.create_task("Find it", requirements=("wed",)).note.startswith(
        "no agent has the capability 'wed' now (did you mean 'web'?)"
    )


def test_it_runs_in_the_slots_of_its_agent(registry: AgentRegistry) -> None:
    assert chosen(registry, {"agent_01": "a"}, preferred_agent="research") is None
    router = CapabilityRouter(registry.views({}, time.time()))
    router.took("research", "agent_01")
    assert not any(view.free for view in router.agents)
    assert registry.slots == {"a": ("agent_01",)}


def test_a_pause_is_its_agents(registry: AgentRegistry) -> None:
    registry.pause("research", time.time() + 600, "rate limit")
    for name in ("a", "research", "analysis"):
        assert "rate limit" in registry.paused(name, time.time())
    registry.worked("analysis", time.time() + 1, time.time() + 2)
    assert registry.paused("a", time.time()) == "" and registry.worked_at("a") > 0


def test_its_record_is_its_own(registry: AgentRegistry) -> None:
    for _ in range(3):
        registry.update_agent_performance("research", False)
    assert registry.get_agent_health("research").status == "degraded"
    assert registry.get_agent_health("a").status == "healthy"


def test_the_last_slot_is_left_to_what_only_the_specialist_can_do(tmp_path: Path) -> None:
    both = Config(agents={"a": AgentConfig(command="true"), "b": AgentConfig(command="true")})
    router = CapabilityRouter(AgentRegistry(str(tmp_path), both).views({"agent_02": "b"}, time.time()))
    router.leave([(1, Task(id="r", description="x", preferred_agent="research"))])
    assert router.choose(Task(id="t", description="x"), rank=1) is None


def test_a_changed_folder_is_taken_up_at_the_next_look(registry: AgentRegistry, tmp_path: Path) -> None:
    write(tmp_path / "agents" / "legal.md", "---\ncapabilities: [law]\n---\nx\n")
    assert "legal" not in registry.names()
    registry.look()
    assert "legal" in registry.names() and chosen(registry, requirements=("law",)) == ("legal", "agent_01")
    write(tmp_path / "agents" / "legal.md", "broken")
    registry.look()
    assert "legal" in registry.names(), "its tasks wait, they are not rejected"
    assert list(registry.problems) == ["legal"] and chosen(registry, preferred_agent="legal") is None


def test_the_preamble_stands_at_the_head_of_the_prompt(tmp_path: Path) -> None:
    task = Task(id="t", description="Do it")
    text = prompt.assemble(task, str(tmp_path), f"{tmp_path}/o.md", "research", 1, {}, preamble="You are careful.")
    assert 0 < text.index("You are careful.") < text.index("Do it")
