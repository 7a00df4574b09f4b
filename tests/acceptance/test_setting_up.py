"""A new queue, in whatever folder; units for init systems; completion in a shell."""

from __future__ import annotations

import configparser
import json
import plistlib
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from integration.driver import Driver, until


def test_init_twice_changes_nothing_and_says_so(bare: Driver) -> None:
    assert "made  config.yaml" in bare.ok("init") and bare.ok("validate")
    (bare.root / "config.yaml").write_text("agents: {shell: }\n")
    (bare.root / "context/project_overview.md").write_text("mine")
    before = {path: path.read_bytes() for path in bare.root.rglob("*") if path.is_file()}
    assert "Everything is there already." in bare.ok("init")
    assert bare.json("init")["made"] == []
    assert {path: path.read_bytes() for path in bare.root.rglob("*") if path.is_file()} == before


def test_init_adds_to_a_gitignore_that_is_there(bare: Driver) -> None:
    (bare.root / ".gitignore").write_text("*.pyc")
    bare.ok("init")
    lines = (bare.root / ".gitignore").read_text().splitlines()
    assert lines[0] == "*.pyc" and "/.orchestrator/" in lines and "/tasks/runs/" in lines


def test_the_config_that_init_writes_runs_a_script_at_once(bare: Driver) -> None:
    bare.ok("init")
    bare.start()
    done = bare.run("add", "--run", "echo well", "--wait")
    assert done.returncode == 0 and bare.answer("task_001").strip() == "well"
    bare.ok("stop")


@pytest.mark.parametrize("name", ['it\'s a "quoted" $HOME path', "ünïcode 名 %h & <b>"])
def test_a_queue_in_a_path_with_spaces_and_quotes_works(tmp_path: Path, name: str) -> None:
    driver = Driver(tmp_path, name).make()
    try:
        driver.ok("init")
        driver.start()
        driver.drop("one", "@grandchild child", "@say well", "@facts 'notes: [\"a hint\"]'")
        driver.drop("two", "@prompt", dependencies=["one"])
        driver.reach("completed", "one", "two")
        assert "- context/notes/fake.md" in driver.answer("two")
        driver.drop("three", "@hang", max_retries=0)
        until(lambda: driver.members("three"))
        driver.ok("stop", "--now")
        assert driver.members() == []
        assert plistlib.loads(driver.ok("service", "--kind", "launchd").encode())["WorkingDirectory"] == str(
            driver.root
        )
    finally:
        driver.close()


def test_the_launchd_plist_starts_this_very_queue(root: Driver) -> None:
    plist = plistlib.loads(root.ok("service", "--kind", "launchd").encode())
    assert plist["ProgramArguments"] == [
        sys.executable, "-m", "orchestrator.cli", "--root", str(root.root), "start", "--foreground"
    ]  # fmt: skip
    assert plist["EnvironmentVariables"]["PATH"] == root.environment["PATH"] and plist["RunAtLoad"] is True
    assert plist["AbandonProcessGroup"] is True
    runs_as_told(root, plist["ProgramArguments"], {"PATH": plist["EnvironmentVariables"]["PATH"]})


def test_two_queues_have_units_of_two_names(tmp_path: Path) -> None:
    names = {"shop": "orchestrate-shop", "my shop -- 2": "orchestrate-my-shop-2", "-": "orchestrate-queue"}
    for folder, name in names.items():
        queue = Driver(tmp_path, folder).make()
        said = queue.json("service", "--kind", "systemd")
        assert said["name"] == name and f"~/.config/systemd/user/{name}.service, then:" in said["unit"]
        assert f"enable --now {name}\n" in said["unit"] and "loginctl enable-linger" in said["unit"]
        plist = queue.ok("service", "--kind", "launchd")
        assert (
            plistlib.loads(plist.encode())["Label"] == name
            and f"launchctl load ~/Library/LaunchAgents/{name}.plist" in plist
        )


def test_the_systemd_unit_starts_this_very_queue(root: Driver) -> None:
    unit = configparser.RawConfigParser(strict=False, comment_prefixes="#")
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(root.ok("service", "--kind", "systemd"))
    service = unit["Service"]
    assert service["WorkingDirectory"] == str(root.root) and service["KillMode"] == "process"
    assert shlex.split(service["Environment"]) == [f"PATH={root.environment['PATH']}"]
    words = shlex.split(service["ExecStart"])
    assert words[3:5] == ["--root", str(root.root)]
    runs_as_told(root, words, dict([shlex.split(service["Environment"])[0].split("=", 1)]))


def runs_as_told(root: Driver, words: list[str], environment: dict[str, str]) -> None:
    """The unit's own words, in the bare environment of a service (and where this repository lies)."""
    environment = environment | {"PYTHONPATH": root.environment["PYTHONPATH"]}
    root.drop("one", "@say well")
    child = subprocess.Popen(words, cwd="/", env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    root.started.append(child)
    root.reach("completed", "one")
    child.terminate()
    assert child.wait(30) == 0


def test_bash_completes_commands_options_and_the_ids_of_tasks(root: Driver, tmp_path: Path) -> None:
    for name in ("fix_login", "fix_logout", "other"):
        root.drop(name, dependencies=["gate"])
    root.drop("done", folder="completed")
    root.drop("broken", folder="failed")
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "orchestrate"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m orchestrator.cli "$@"\n')
    command.chmod(0o755)
    script = """
        eval "$(orchestrate completion bash)" || exit 9
        complete -p orchestrate >/dev/null || exit 8
        function=$(complete -p orchestrate | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        ask() { COMP_WORDS=(orchestrate "$@"); COMP_CWORD=$#; COMPREPLY=(); "$function" orchestrate; echo "${COMPREPLY[*]}"; }
        ask show fix; ask cancel oth; ask sta; ask add --prio
        ask cancel ""; ask retry ""; ask add --agent f; ask tasks --status re; ask add --priority ""
    """
    environment = root.environment | {"PATH": f"{folder}:{root.environment['PATH']}"}
    done = subprocess.run(["bash", "-c", script], cwd=root.root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [sorted(line.split()) for line in done.stdout.splitlines()]
    assert lines == [
        ["fix_login", "fix_logout"], ["other"], ["start", "status"], ["--priority"],
        ["fix_login", "fix_logout", "other"], ["broken"], ["fake"], ["rejected", "review"], ["high", "low", "normal"],
    ], done.stderr  # fmt: skip


def test_the_schema_that_editors_read_is_json_and_knows_every_field(bare: Driver) -> None:
    bare.ok("init")
    schema = json.loads((bare.root / "tasks/schema/task.schema.json").read_text())
    assert {"description", "dependencies", "priority", "run"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False


CLAUDE = """#!/bin/sh
cat > /dev/null
cat <<'END'
{"type": "system", "subtype": "init", "session_id": "s"}
{"type": "assistant", "message": {"content": [{"type": "text", "text": "I added it"}]}, "session_id": "s"}
{"type": "result", "subtype": "success", "is_error": false, "result": "I added it", "num_turns": 1, "session_id": "s"}
END
"""


def test_the_first_task_of_the_readme_works_as_a_stranger_types_it(tmp_path: Path, bare: Driver) -> None:
    clone, home, bins = tmp_path / "the clone", tmp_path / "home", tmp_path / "bin"
    for folder in (clone / ".venv/bin", home / "your-project", bins):
        folder.mkdir(parents=True)
    for path, text in (
        (clone / ".venv/bin/orchestrate", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m orchestrator.cli "$@"\n'),
        (bins / "claude", CLAUDE),
    ):
        path.write_text(text)
        path.chmod(0o755)
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    typed = readme.partition("## Your first task with claude")[2].split("```")[1]
    bare.root = home / "your-project"  # its dispatcher is ended with the test
    environment = bare.environment | {"HOME": str(home), "PATH": f"{bins}:/usr/bin:/bin"}
    done = subprocess.run(["sh", "-e", "-c", typed], cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done
    assert "task_001  completed\n" in done.stdout.replace("  context/agent_outputs/task_001_output.md", "")
    assert "I added it" in done.stdout.rpartition("output  context/agent_outputs/task_001_output.md")[2]
    assert "I added it\n= completed\n" in bare.ok("logs", "task_001")
