"""Links, FIFOs, folders and long names where files of a queue should be, and folders that are not what they were: no
command and no start ends of them, what is in the way is named, and all else goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from integration.driver import Driver, until

LONG = "R" * 250  # with `.reason.txt` behind it, longer than a name may be


def odd(folder: Path) -> None:
    """What nobody would put there, under names of tasks, results and notes."""
    folder.mkdir(exist_ok=True)
    (folder / f"{LONG}.yaml").write_text("x\n")
    for tail in ("", "_result", "_agent_01"):
        (folder / f"gone{tail}.yaml").symlink_to("/nowhere")
        (folder / f"loop{tail}.yaml").symlink_to(f"loop{tail}.yaml")
        (folder / f"memory{tail}.yaml").symlink_to("/proc/self/mem")  # reading it fails like a bad disk
        (folder / f"folder{tail}.yaml").mkdir()
        os.mkfifo(folder / f"fifo{tail}.yaml")


def test_odd_names_in_any_folder_keep_nothing_else_from_its_way(root: Driver) -> None:
    for folder in ("rejected", "completed", "failed", "review", "assigned", "runs"):
        odd(root.root / "tasks" / folder)
    for words in (["show"], ["cancel"], ["retry"], ["why"]):
        said = root.run(*words, "nix")
        assert said.returncode == 1 and "nix: no such task" in said.stderr
    root.start()
    root.drop("good", "@say well")
    root.reach("completed", "good")
    assert "no reason can be written beside it: File name too long" in root.log
    root.ok("stop", "--now")
    moved = root.ok("archive", "--older-than", "0d").split()
    assert {"gone", "loop", "memory", "good"} <= set(moved)
    assert os.path.lexists(root.root / f"tasks/rejected/{LONG}.yaml")


def test_doctor_tells_what_it_cannot_mend_and_mends_the_rest(root: Driver) -> None:
    agents = root.root / ".orchestrator/agents"
    agents.mkdir(parents=True)
    (agents / f"{LONG}.yaml").write_text("[")  # nothing fits behind its name
    (agents / "other.yaml").write_text("[")
    (root.root / "tasks/completed/loop.yaml").symlink_to("loop.yaml")
    done = json.loads(root.run("doctor", "--repair", "--json").stdout)
    assert ["File name too long" in text for text in done["failed"]] == [True]
    assert len(done["mended"]) == 2 and (agents / "other.yaml.left1").exists()
    assert any(LONG[:100] in one["text"] for one in done["findings"])


def test_doctor_names_a_folder_that_it_may_not_look_into_and_goes_on(root: Driver) -> None:
    power = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if power and not shutil.which("setpriv"):
        pytest.skip("root looks into everything, and there is no setpriv")
    shut = [root.root / name for name in ("tasks/completed", "context", ".orchestrator")]
    for folder in shut:
        folder.mkdir(exist_ok=True)
        folder.chmod(0)
    command = [*power, sys.executable, "-m", "orchestrator.cli", "doctor", "--json"]
    done = subprocess.run(command, cwd=root.root, env=root.environment, capture_output=True, text=True)
    for folder in shut:
        folder.chmod(0o755)
    told = "\n".join(one["text"] for one in json.loads(done.stdout)["findings"] if one["level"] == "problem")
    for name in ("tasks/completed", "context", ".orchestrator"):
        assert f"{name}: its owner may not write there" in told
    assert f"Permission denied ({shut[0]})" in told and "moves refuse to overwrite" in done.stdout


def test_nothing_is_written_where_a_link_in_the_place_of_a_runs_folder_leads(root: Driver) -> None:
    elsewhere = root.root.parent / "elsewhere"
    elsewhere.mkdir()
    root.configure({"shell": {"max_instances": 3}}, retry={"max_retries": 0})
    exchange = 'mv "$ORCHESTRATE_RUN_FOLDER" "$ORCHESTRATE_RUN_FOLDER.own"; ln -s ../../../../elsewhere "$ORCHESTRATE_RUN_FOLDER"'
    root.drop("one", run=exchange)
    root.drop("taken", run=f"{exchange}; touch exchanged; while test ! -e go; do sleep 0.02; done", max_retries=0)
    planted = root.root / "tasks/runs/planted"
    planted.parent.mkdir()
    planted.symlink_to("../../../elsewhere")
    root.drop("planted", run="echo well")
    root.start()
    root.reach("review", "one")
    root.reach("completed", "planted")
    until(lambda: (root.root / "exchanged").exists())
    root.kill()
    root.start()
    root.go()
    root.reach("review", "taken")
    assert root.result("one")["status"] == root.result("taken")["status"] == "lost"
    assert "a link was put in the place of its folder" in root.result("one")["reason"]
    assert list(elsewhere.iterdir()) == []
    assert root.ok("show", "planted") and root.json("doctor")["problems"] == 0


def test_two_states_in_one_folder_or_in_none_are_refused_by_name(root: Driver) -> None:
    assigned = root.root / "tasks/assigned"
    assigned.rmdir()
    for target, words in (("completed", "are one folder"), ("assigned", "no folder that can be used"), ("/nowhere", "")):
        assigned.symlink_to(target)
        said = root.run("start")
        assert said.returncode == 1 and words in said.stderr and "assigned" in said.stderr
        assigned.unlink()
    os.mkfifo(assigned)
    assert f"{assigned}: is no folder" in root.run("start").stderr


def test_what_is_asked_for_by_an_odd_name_is_answered_and_not_something_else(root: Driver) -> None:
    for state in ("failed", "completed"):
        root.drop("dup", folder=state)
    refused = root.run("retry", "dup")
    assert refused.returncode == 1 and "is in tasks/completed/, too" in refused.stderr
    assert root.places("dup") == ["completed", "failed"]
    rejected = root.root / "tasks/rejected"
    (rejected / "alone.yaml").write_text("x\n")
    (rejected / "folder").mkdir()
    (rejected / "folder.reason.txt").write_text("why\n")
    assert root.run("show", "alone").stderr == "orchestrate: alone: no such task; tasks/rejected/alone.yaml is none\n"
    assert "'': no such task" in root.run("show", "").stderr
    root.drop("accents", "é" * 100)
    assert "?" * 100 in root.ok("show", "accents", PYTHONIOENCODING="ascii")
    assert "\\xe9" * 100 in root.ok("show", "accents", PYTHONIOENCODING="ascii:backslashreplace")
