"""Every command: --json that parses, an example in its help, plain lines in a pipe, honest exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
from typing import Any

from integration.driver import AGENT, Driver, living, until

# command → (its words, the type of what --json prints); every command of the help is here, or a test fails
COMMANDS: dict[str, tuple[tuple[str, ...], type]] = {
    "init": ((), dict),
    "doctor": ((), dict),
    "service": (("--kind", "systemd"), dict),
    "version": ((), dict),
    "completion": (("bash",), dict),
    "add": (("Do it", "--id", "added"), dict),
    "validate": ((), dict),
    "status": ((), dict),
    "tasks": ((), list),
    "agents": ((), list),
    "why": (("held",), dict),
    "route": (("--dry-run",), dict),
    "show": (("done",), dict),
    "logs": (("done",), dict),
    "events": (("--task", "done"), list),
    "wait": (("done",), list),
    "retry": (("broken",), list),
    "cancel": (("added",), list),
    "register": (("me", "--capability", "hand", "--max", "2"), dict),
    "poll": (("me", "--claim", "--limit", "2"), list),
    "begin": (("pulled_1",), dict),
    "heartbeat": (("me",), dict),
    "progress": (("pulled_1", "50"), dict),
    "complete": (("pulled_1", "--result", "an answer"), dict),
    "fail": (("pulled_2", "--error", "no", "--no-retry"), dict),
    "unregister": (("me",), dict),
    "worker": (("mine:Mine", "--until-idle"), dict),
    "mcp": (("--tools",), list),
    "archive": (("--older-than", "30d"), dict),
    "stop": ((), dict),
    "start": ((), dict),
}


def with_history(root: Driver) -> Driver:
    """One completed, one in review, one that waits, one rejected."""
    root.drop("done", "@say 'an answer'", "@facts 'files_modified: [\"a.py\"]'")
    root.drop("broken", "@exit 3", max_retries=0)
    root.drop("held", dependencies=["gate"], task_type="code", priority="high")
    root.drop("bad", priority="urgent")
    root.start()
    root.reach("completed", "done")
    root.reach("review", "broken")
    until(lambda: root.rejected("bad.yaml"))
    return root


def test_every_command_of_the_help_has_json_that_parses_and_an_example(root: Driver) -> None:
    with_history(root)
    (root.root / "mine.py").write_text("from orchestrator import AgentWorker\nclass Mine(AgentWorker):\n    pass\n")
    listed = re.findall(r"^  ([a-z]+)  ", root.ok("--help").partition("Commands")[2], re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)
    for name, (words, kind) in COMMANDS.items():
        for one in ("pulled_1", "pulled_2") if name == "poll" else ():  # somebody has registered who can do them
            root.drop(one, requirements=["hand"])
        text = root.ok(name, "--help")
        assert f"Example: orchestrate {name}" in text or f"$(orchestrate {name}" in text, name
        assert "--json" in text and "\x1b" not in text, name
        done = root.run(name, *words, "--json")
        assert done.returncode == 0, (name, done.stderr)
        assert isinstance(json.loads(done.stdout), kind), name


def test_what_the_reading_commands_say_in_json_is_what_happened(root: Driver) -> None:
    with_history(root)
    rows: dict[str, dict[str, Any]] = {row["task_id"]: row for row in root.json("tasks")}
    assert {name: row["state"] for name, row in rows.items()} == {
        "done": "completed", "broken": "review", "held": "pending", "bad.yaml": "rejected"
    }  # fmt: skip
    assert rows["held"]["reason"] == "waits for gate (no such task)"
    shown = root.json("show", "done")
    assert shown["state"] == "completed" and shown["output"] == "context/agent_outputs/done_output.md"
    assert shown["file"] == "tasks/completed/done.yaml" and shown["result"] == "tasks/completed/done_result.yaml"
    assert shown["files_modified"] == ["a.py"]
    assert [(run["run"], run["status"], run["exit_code"]) for run in shown["runs"]] == [(1, "success", 0)]
    status = root.json("status")
    assert status["counts"] == {
        "pending": 1,
        "assigned": 0,
        "completed": 1,
        "failed": 0,
        "review": 1,
        "rejected": 1,
    }
    assert [row["task_id"] for row in status["review"]] == ["broken"]
    assert "answer" in root.json("logs", "done")["text"]
    for words, ids in (
        (("--status", "completed"), {"done"}),
        (("--status", "active"), {"held"}),
        (("-s", "review,rejected"), {"broken", "bad.yaml"}),
        (("--type", "code"), {"held"}),
        (("--agent", "fake"), {"done", "broken"}),
        (("--priority", "high"), {"held"}),
        (("--since", "1h", "--status", "ended"), {"done", "broken"}),
        (("--until", "1h"), set()),
        (("--limit", "1", "--status", "review"), {"broken"}),
    ):
        assert {row["task_id"] for row in root.json("tasks", *words)} == ids, words


def test_in_a_pipe_lines_are_plain_and_colour_is_only_where_it_is_asked_for(root: Driver) -> None:
    with_history(root)
    for words in (("status",), ("tasks",), ("agents",), ("show", "done"), ("show", "broken"), ("doctor",)):
        plain = root.run(*words)
        assert plain.returncode == 0 and "\x1b" not in plain.stdout and plain.stderr == "", words
        assert "\x1b" not in root.run(*words, FORCE_COLOR="1", NO_COLOR="1").stdout
    assert "\x1b[" in root.ok("tasks", FORCE_COLOR="1")
    lines = root.ok("tasks").splitlines()
    assert len(lines) == 4 and all(line.count("\t") == 6 for line in lines)


def test_what_agents_and_tasks_say_cannot_drive_the_terminal(root: Driver) -> None:
    root.drop("one", "@say 'a \x1b]0;title\x07 \x1b[31mred\x1b[0m answer'", task_type="\x1b[1mbold")
    root.start()
    root.reach("completed", "one")
    for words in (("tasks",), ("status",), ("show", "one")):
        assert "\x1b" not in root.ok(*words), words


def test_wait_says_how_it_went_by_its_exit_code(root: Driver) -> None:
    with_history(root)
    assert root.run("wait", "done").returncode == 0
    assert root.run("wait", "done", "broken").returncode == 1
    late = root.run("wait", "held", "--timeout", "0.3")
    assert late.returncode == 124 and "1 task has not ended after 0.3 s: held" in late.stderr
    rows = json.loads(root.run("wait", "held", "--timeout", "0.1", "--json").stdout)
    assert [(row["task_id"], row["state"]) for row in rows] == [("held", "pending")] and "gate" in rows[0]["reason"]
    waiting = root.spawn("wait", "held", "--json")
    root.drop("gate", "@say well")
    assert json.loads(waiting.communicate(timeout=60)[0]) == [
        {"task_id": "held", "state": "review", "reason": root.result("held")["reason"]}
    ]
    assert root.run("wait").returncode == 0  # nothing waits or runs


def test_logs_follow_a_run_to_its_end(root: Driver) -> None:
    root.drop("one", "@say first", "@wait go", "@say last", "@exit 3", max_retries=0)
    root.start()
    until(lambda: root.members("one"))
    follow = root.spawn("logs", "one", "-f")
    assert follow.stdout is not None and follow.stdout.readline() == "first\n"
    assert follow.poll() is None
    root.go()
    assert follow.stdout.read() == "last\n" and follow.wait(30) == 0
    assert "one started" in root.ok("logs")
    refused = root.run("logs", "one", "--run", "7")
    assert refused.returncode == 1 and "has no run 7 (there are 1)" in refused.stderr


def test_validate_finds_what_would_be_rejected_and_is_fit_for_a_git_hook(root: Driver) -> None:
    assert "0 problems" not in root.ok("validate")
    root.drop("good", "@say well")
    root.drop("b", dependencies=["a"])
    root.drop("a", dependencies=["b"])
    root.drop("agent", preferred_agent="fakke")
    (root.root / "tasks/pending/script.yaml").write_text("run: 'true'\npreferred_agent: fake\n")
    (root.root / "tasks/pending/key.yaml").write_text("description: x\npriorty: high\n")
    found = root.run("validate", "--json")
    assert found.returncode == 1
    problems = {os.path.basename(row["file"]): row["reason"] for row in json.loads(found.stdout)["problems"]}
    assert sorted(problems) == ["agent.yaml", "b.yaml", "key.yaml", "script.yaml"]
    assert "b → a → b" in problems["b.yaml"] and "did you mean 'priority'" in problems["key.yaml"]
    assert root.run("validate", "tasks/pending/good.yaml", cwd=root.root).returncode == 0
    done = root.drop("done", folder="completed")
    (root.root / "new.yaml").write_text("id: done\ndescription: another text\n")
    refused = root.run("validate", "new.yaml")
    assert refused.returncode == 1 and "new.yaml: done exists already (tasks/completed/done.yaml)" in refused.stderr
    assert root.run("add", "--file", "new.yaml").returncode == 1
    for name in ("tasks/completed/done.yaml", "done.yaml"):  # itself, and a copy of it that came back
        (root.root / name).write_text(done.read_text())
        assert root.run("validate", name).returncode == 0
    (root.root / "config.yaml").write_text("retry: {max_retry: 1}\n")
    broken = root.run("validate")
    assert broken.returncode == 1 and "did you mean 'max_retries'" in broken.stderr and "Traceback" not in broken.stderr


def test_archive_moves_old_tasks_away_keeps_their_ids_used_and_their_dependents_going(root: Driver) -> None:
    root.ok("add", "Do it\n@say well")
    root.drop("later", "@say well", dependencies=["task_001", "gate"])
    root.start()
    root.reach("completed", "task_001")
    content = (root.root / "tasks/completed/task_001.yaml").read_text()
    assert root.json("archive")["archived"] == []
    assert root.json("archive", "--older-than", "0s", "--dry-run") == {
        "archived": ["task_001"],
        "dry_run": True,
    }
    assert root.places("task_001") == ["completed"]
    assert root.json("archive", "--older-than", "0s")["archived"] == ["task_001"]
    assert root.places("task_001") == [] and root.json("show", "task_001")["state"] == "completed"
    root.kill()
    root.start()
    root.drop("gate", "@say well")
    root.reach("completed", "later")
    assert root.ok("add", "Do another\n@say well").strip() == "task_002"
    back = root.root / "tasks/pending/task_001.yaml"
    back.write_text(content)  # git brings it back
    until(lambda: not back.exists() and "task_001 returned" in root.log)
    back.write_text("description: other\n")
    until(lambda: root.rejected("task_001.yaml"))
    refused = root.run("add", "again", "--id", "task_001")
    assert refused.returncode == 1 and "exists" in refused.stderr


def test_doctor_says_by_its_exit_code_whether_something_has_to_be_mended(root: Driver) -> None:
    assert root.run("doctor").returncode == 0
    root.configure({"ghost": {"command": "no-such-program-here"}})
    sick = root.run("doctor", "--json")
    assert sick.returncode == 1
    [problem] = [one for one in json.loads(sick.stdout)["findings"] if one["level"] == "problem"]
    assert problem["what"] == "agent ghost" and "not on PATH" in problem["text"] and "enabled: false" in problem["text"]
    root.configure()
    root.drop("twice")
    root.drop("twice", folder="completed")
    assert "twice is in completed and pending" in root.run("doctor").stdout
    assert root.run("doctor").returncode == 1
    (root.root / "config.yaml").write_text("agents: 7\n")
    assert root.run("doctor").returncode == 1


def test_status_and_doctor_name_what_waits_for_ever_and_who_has_to_do_what(root: Driver) -> None:
    root.configure({"fake": {"command": AGENT}, "ghost": {"command": "no-such-program-here"}})
    root.drop("lost", preferred_agent="codex")
    root.drop("gone", preferred_agent="ghost")
    root.drop("hopeless", requirements=["sql"], dependencies=["gate"])
    root.drop("held", dependencies=["gate"])
    (root.root / ".orchestrator/agents").mkdir(parents=True, exist_ok=True)
    until_when = "2099-01-01T00:00:00Z"
    pause = f"paused_until: {until_when}\nreason: not logged in\nsince: 2020-01-01T00:00:00Z\n"
    (root.root / ".orchestrator/agents/fake.yaml").write_text(pause)
    root.start()
    until(lambda: root.json("status")["stranded"]["count"] == 3, what=lambda: root.ok("status"))
    page = root.ok("status").splitlines()
    needs = [line.removeprefix("needs you   ") for line in page if line.startswith("needs you")]
    assert needs[0] == "fake  not logged in: log the agent in, then 'orchestrate agents --resume fake'"
    assert sorted(line.partition("  ")[0] for line in needs[1:]) == ["gone", "hopeless", "lost"]
    said = {line.partition("  ")[0]: line for line in needs}
    assert "ghost cannot start: 'no-such-program-here' is not on PATH" in said["gone"]
    assert "wants codex, which is not set up here" in said["lost"] and "needs capability sql" in said["hopeless"]
    [fake, ghost] = [line for line in page if line.startswith("agent ")]
    assert "(not logged in); 'orchestrate agents --resume fake' ends that" in fake and "cannot start" in ghost
    found = {
        one["what"] for one in json.loads(root.run("doctor", "--json").stdout)["findings"] if one["level"] == "problem"
    }
    assert found == {"agent ghost", "task lost", "task gone", "task hopeless"}
    root.ok("agents", "--resume", "fake")
    root.ok("cancel", "lost", "gone", "hopeless")
    until(lambda: root.json("status")["stranded"] == {"count": 0, "tasks": {}}, what=lambda: root.ok("status"))
    assert "needs you" not in root.ok("status")


def test_ctrl_c_of_a_command_that_looks_on_ends_it_with_130_and_nothing_else(root: Driver) -> None:
    root.drop("one", "@say first", "@wait go", "@say well")
    pid = root.start()
    until(lambda: root.members("one"))
    looking = root.spawn("logs", "one", "-f")
    assert looking.stdout is not None and looking.stdout.readline() == "first\n"
    looking.send_signal(signal.SIGINT)
    _, err = looking.communicate(timeout=30)
    assert living(pid) and root.members("one") and "Traceback" not in err
    assert looking.returncode == 130
