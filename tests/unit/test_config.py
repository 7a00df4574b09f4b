"""config.yaml: defaults for everything, no unknown key, frozen, and a mistake names its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers import write

from orchestrator.config import BUILT_IN, Config, load, load_and_keep, load_or_last, parse_sizes
from orchestrator.errors import InvalidConfig, WrongUsage
from orchestrator.states import Priority

pytestmark = pytest.mark.fast


def config(root: Path, text: str | bytes) -> Config:
    write(root / "config.yaml", text)
    return load(str(root))


def why(root: Path, text: str | bytes) -> str:
    with pytest.raises(InvalidConfig) as caught:
        config(root, text)
    reason = str(caught.value)
    assert reason.startswith(f"{root}/config.yaml: ")
    assert reason.isprintable()
    return reason


@pytest.mark.parametrize("text", [None, "", "# nothing yet\n", "agents:\nqueue:\nretry:\nlimits:\n", "agents: {}\n"])
def test_no_file_and_an_empty_file_are_all_defaults(tmp_path: Path, text: str | None) -> None:
    found = load(str(tmp_path)) if text is None else config(tmp_path, text)
    assert found == Config()
    assert found.queue.default_priority is Priority.NORMAL
    assert (found.queue.max_size, found.retry.max_retries, found.queue.promote_low_after_minutes) == (1000, 3, 30)


def test_a_config_is_read(tmp_path: Path) -> None:
    found = config(
        tmp_path,
        """
agents:
  claude: {max_instances: 2, timeout_seconds: 90, capabilities: python, pass_env: [MY_TOKEN]}
  codex:
  aider: aider --yes-always
  off: {command: x, enabled: false}
queue: {max_size: 5, default_priority: low, ids: unique}
retry: {max_retries: 0}
limits: {max_output_mb: 0.5}
secrets: [MY_*]
log_level: debug
""",
    )
    assert found.agents["claude"].capabilities == ("python",)
    assert found.agents["aider"].command == "aider --yes-always"
    assert found.queue.default_priority is Priority.LOW
    assert found.secrets == ("MY_*",)
    table = found.agent_table("")
    assert list(table) == ["claude", "codex", "aider"]
    assert table["claude"].command == BUILT_IN["claude"]
    assert table["claude"].max_instances == 2


def test_a_config_is_frozen(tmp_path: Path) -> None:
    with pytest.raises(AttributeError):
        load(str(tmp_path)).log_level = "debug"  # type: ignore[misc]


def test_without_agents_those_on_path_are_taken_and_shell(tmp_path: Path) -> None:
    assert list(Config().agent_table("")) == ["shell"]
    program = write(tmp_path / "bin" / "codex", "#!/bin/sh\n")
    os.chmod(program, 0o755)
    table = Config().agent_table(f"{tmp_path}/bin")
    assert list(table) == ["codex", "shell"]
    assert table["codex"].command == BUILT_IN["codex"]


MISTAKES = {
    "unknown key": ("queu: {}\n", "unknown key 'queu' (did you mean 'queue'?)"),
    "unknown key below": ("queue: {maxsize: 5}\n", "unknown key 'queue.maxsize' (did you mean 'max_size'?)"),
    "unknown key of an agent": ("agents: {claude: {comand: x}}\n", "'agents.claude.comand' (did you mean 'command'?)"),
    "no command": ("agents: {aider: {max_instances: 2}}\n", "agent 'aider' has no command"),
    "name of an agent": ("agents: {'a/b': x}\n", "agent 'a/b': a name holds"),
    "a script": (
        "agents: {aider: {command: 'nice bash -ec \"aider {prompt}\"'}}\n",
        "a shell would run what a task says",
    ),
    "open quote": ('agents: {aider: {command: "aider \'x"}}\n', "cannot be split into words"),
    "assignment": ("agents: {aider: {command: A=1 aider}}\n", "write it under env:"),
    "no slots": ("agents: {claude: {max_instances: 0}}\n", "agents.claude.max_instances: "),
    "prompt": ("agents: {claude: {prompt: pipe}}\n", "agents.claude.prompt: "),
    "adapter": ("agents: {x: {command: x, adapter: gpt}}\n", "agents.x.adapter: "),
    "env": ("agents: {claude: {env: {A: 1}}}\n", "agents.claude.env.A: "),
    "agents is a list": ("agents: [claude]\n", "agents: "),
    "negative delay": ("retry: {retry_delay_seconds: -1}\n", "retry.retry_delay_seconds: "),
    "level": ("log_level: loud\n", "log_level: "),
    "type": ("queue: {max_size: many}\n", "queue.max_size: "),
    "priority": ("queue: {default_priority: urgent}\n", "queue.default_priority: write high, normal or low"),
    "not yaml": ("queue: {\n", "is not YAML: line"),
    "duplicate": ("queue: {}\nqueue: {}\n", "stands twice"),
    "list": ("- a\n", "no mapping"),
    "latin-1": (b"# Gr\xf6\xdfe\n", "UTF-8"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_names_the_file_the_key_and_what_to_write(tmp_path: Path, case: str) -> None:
    text, words = MISTAKES[case]
    assert words in why(tmp_path, text)


def test_a_folder_in_place_of_the_file_is_a_mistake_too(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").mkdir()
    with pytest.raises(InvalidConfig, match="is a folder"):
        load(str(tmp_path))


def test_a_link_is_followed_and_one_that_leads_nowhere_is_a_mistake(tmp_path: Path) -> None:
    write(tmp_path / "mine.yaml", "queue: {max_size: 7}\n")
    link = tmp_path / "config.yaml"
    link.symlink_to("mine.yaml")
    assert load(str(tmp_path)).queue.max_size == 7
    for target, words in (("none.yaml", "is a link to none.yaml, which is not there"), ("config.yaml", "put the file")):
        link.unlink()
        link.symlink_to(target)
        with pytest.raises(InvalidConfig, match=words):
            load(str(tmp_path))


def test_sizes_are_names_with_counts() -> None:
    assert parse_sizes("claude:2, codex,shell:0") == {"claude": 2, "codex": 1, "shell": 0}
    assert parse_sizes("") == {}
    for bad in ("claude:two", "claude:-1", "claude:1.5"):
        with pytest.raises(WrongUsage, match="name:count"):
            parse_sizes(bad)


def test_a_broken_file_falls_back_on_the_last_good_one_that_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("agents: {mine: {command: my-agent, max_instances: 3, env: {KEY: secret}}}\nqueue: {max_size: 7}\n")
    good = load_and_keep(str(tmp_path))
    path.write_text("queue: {max_sizes: 7}\n")
    found, problem = load_or_last(str(tmp_path))
    assert found.queue == good.queue and found.agents["mine"].max_instances == 3
    assert "did you mean 'max_size'" in problem
    assert "secret" not in (tmp_path / ".orchestrator/config.json").read_text()
    for text in ("", "{", "[]", '{"config": 7}', '{"config": {"queue": 7}}'):
        (tmp_path / ".orchestrator/config.json").write_text(text)
        assert load_or_last(str(tmp_path)) == (Config(), problem), text
