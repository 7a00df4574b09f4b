"""Check and submit a task given as options. Loads neither YAML nor pydantic.

These checks say early what the dispatcher would say late; what it accepts is decided by `task.parse`
alone, and a test holds the two together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from orchestrator.cli.settings import settings
from orchestrator.errors import InvalidTask, WrongUsage
from orchestrator.names import PRIORITIES, id_problem, page_name, path_problem, printable
from orchestrator.places import agent_problem
from orchestrator.spool import Spool
from orchestrator.writing import Value

# option → (field, how often): "one" value, "many" (repeated, or separated by commas), "texts" (repeated)
OPTIONS = {
    "--id": ("id", "one"),
    "--priority": ("priority", "one"),
    "-p": ("priority", "one"),
    "--depends-on": ("dependencies", "many"),
    "-d": ("dependencies", "many"),
    "--context-file": ("context_files", "many"),
    "--context-required": ("context_required", "one"),
    "--agent": ("preferred_agent", "one"),
    "-a": ("preferred_agent", "one"),
    "--timeout-minutes": ("timeout_minutes", "one"),
    "--subtask": ("subtasks", "texts"),
    "--type": ("task_type", "one"),
    "--requires": ("requirements", "many"),
    "--run": ("run", "one"),
    "--max-retries": ("max_retries", "one"),
    "--created-at": ("created_at", "one"),
}


def fields_of(description: Sequence[str], given: Mapping[str, Sequence[str]], root: str) -> dict[str, Value]:
    """The task's fields from words and options, in the order a person reads them. Raises InvalidTask, WrongUsage."""
    fields: dict[str, Value] = {}
    text = " ".join(description).strip()
    run = given.get("run", [""])[-1]
    if "run" in given and not run.strip():
        raise WrongUsage("run: is empty; write the script, or leave --run out")
    if not text and not run:
        raise WrongUsage('say what to do: orchestrate add "Fix the login"')
    one = {name: values[-1] for name, values in given.items() if values}
    if "id" in one:
        if problem := id_problem(one["id"]):
            raise WrongUsage(f"id {problem}")
        fields["id"] = one["id"]
    fields["description"] = text or "Run: " + run.strip().splitlines()[0]
    if "priority" in one:
        word = one["priority"].strip().lower()
        if word not in PRIORITIES and word not in ("0", "1", "2"):
            raise WrongUsage(f"priority: write high, normal or low (or 0, 1, 2), not {printable(word)!r}")
        fields["priority"] = int(word) if word.isdecimal() else word
    if "created_at" in one:
        fields["created_at"] = _moment(one["created_at"])
    for name in ("dependencies", "context_files", "requirements"):
        if values := _split(given.get(name, ())):
            fields[name] = values
    for task_id in _split(given.get("dependencies", ())):
        if problem := id_problem(task_id):
            raise WrongUsage(f"dependencies: id {problem}")
        if task_id == one.get("id"):
            raise InvalidTask(f"depends on itself ({task_id} → {task_id})")
    for path in _split(given.get("context_files", ())):
        if problem := path_problem(path):
            raise InvalidTask(f"context_files: {problem}")
        if "dependencies" not in fields and not os.path.exists(f"{root}/{path}"):
            raise InvalidTask(f"context file {printable(path)!r} does not exist; create it or correct the name")
    if "context_required" in given:
        names = _split(given["context_required"][-1:])
        plain = {"true": True, "false": False}
        plainly = len(names) == 1 and names[0].lower() in plain
        fields["context_required"] = plain[names[0].lower()] if plainly else names
        for page in () if plainly else names:
            if problem := path_problem(page):
                raise InvalidTask(f"context_required: {problem}")
            if "dependencies" not in fields and not os.path.exists(f"{root}/context/{page_name(page)}"):
                shown = printable(f"context/{page_name(page)}")
                raise InvalidTask(f"context_required: {shown} does not exist; write true, false or names of pages")
    if "preferred_agent" in one:
        fields["preferred_agent"] = one["preferred_agent"]
    if "timeout_minutes" in one:
        fields["timeout_minutes"] = _number(one["timeout_minutes"], "timeout_minutes", 60 * 24 * 7)
    if "subtasks" in given:
        fields["subtasks"] = [text for text in given["subtasks"] if text.strip()]
    if "task_type" in one:
        if len(one["task_type"]) > 100:
            raise WrongUsage("task_type: one word, 100 characters at most")
        fields["task_type"] = one["task_type"]
    if run:
        fields["run"] = run
    if "max_retries" in one:
        if not one["max_retries"].isdecimal() or int(one["max_retries"]) > 100:
            raise WrongUsage(f"max_retries: write a number from 0 to 100, not {printable(one['max_retries'])!r}")
        fields["max_retries"] = int(one["max_retries"])
    return fields


def submit(root: str, fields: Mapping[str, Value]) -> str:
    """Add the task; its id. Raises OrchestrateError; nothing was added then."""
    max_size, unique = settings(root)[:2]
    refuse_unknown_agent(root, fields)
    return Spool(root).put(fields, max_size, unique)


def refuse_unknown_agent(root: str, fields: Mapping[str, Value]) -> None:
    """Raises InvalidTask if the task names an agent that nobody knows, or that never does such a task."""
    found, agent = settings(root), str(fields.get("preferred_agent") or "")
    if problem := agent_problem(root, agent, bool(fields.get("run")), found.agents, found.shells):
        raise InvalidTask(problem)


def _split(values: Sequence[str]) -> list[str]:
    return [word.strip() for value in values for word in value.split(",") if word.strip()]


def _number(text: str, name: str, limit: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number <= limit:
        raise WrongUsage(f"{name}: write a number above 0 and up to {limit:g}, not {printable(text)!r}")
    return int(number) if number.is_integer() else number


def _moment(text: str) -> str:
    from datetime import datetime

    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise WrongUsage(f"created_at: write a time such as 2025-01-15T10:00:00Z, not {printable(text)!r}") from None
    return text
