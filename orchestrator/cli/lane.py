"""The short lane: the plain forms of `add`, `status`, `tasks`, `show`, `why` and `start`, without Typer."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def run(argv: list[str]) -> int | None:
    """The exit code, or None if this is not for the lane."""
    root = ""
    if len(argv) > 2 and argv[0] in ("--root", "-C"):
        root, argv = argv[1], argv[2:]
    if not argv or any(name.endswith("_COMPLETE") for name in os.environ):
        return None
    if argv[0] == "status" and all(word == "--json" for word in argv[1:]):
        from orchestrator.cli import status

        return status.show(root, "--json" in argv)
    if argv[0] == "add":
        return _add(root, argv[1:])
    words = [word for word in argv[1:] if word != "--json"]
    if argv[0] in ("show", "why") and len(words) == 1 and not words[0].startswith("-"):
        return _look(argv[0], root, words[0], "--json" in argv)
    if argv[0] == "start":
        return _start(root, argv[1:])
    if argv[0] == "tasks":
        return _tasks(root, argv[1:])
    if argv == ["--version"] and not root:
        from orchestrator import __version__

        print(__version__)
        return 0
    return None


def _look(command: str, root: str, task_id: str, as_json: bool) -> int:
    from orchestrator.places import find_root

    if command == "show":
        from orchestrator.cli import pages

        pages.show(find_root(root), task_id, as_json)
    else:
        from orchestrator.cli import routing

        routing.show_why(find_root(root), task_id, as_json)
    return 0


def _given(words: Sequence[str], names: Mapping[str, str]) -> tuple[list[str], dict[str, list[str]], bool] | None:
    """What stands alone, what each option was given (`names` has what it stands for), and whether there is --json; None
    if it is not plain what is meant."""
    given: dict[str, list[str]] = {}
    text: list[str] = []
    as_json = False
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if word == "--json":
            as_json = True
        elif name in names and name.startswith("--" if equals else "-"):
            found = value if equals else next(rest, None)
            if found is None or (not equals and found.startswith("--")):
                return None
            given.setdefault(names[name], []).append(found)
        elif word.startswith("-"):
            return None
        else:
            text.append(word)
    return text, given, as_json


def _start(root: str, words: list[str]) -> int | None:
    found = _given(words, {"--agents": "agents"})
    if found is None or found[0]:
        return None
    from orchestrator.cli import starting
    from orchestrator.places import find_root

    starting.start(find_root(root), found[1].get("agents", [""])[-1], found[2])
    return 0


def _tasks(root: str, words: list[str]) -> int | None:
    from orchestrator.cli import listing

    found = _given(words, listing.OPTIONS)
    if found is None or found[0]:
        return None
    _, given, as_json = found
    said: dict[str, Any] = {name: values[-1] for name, values in given.items()}
    for name in ("limit", "offset"):
        if name in said:
            if not said[name].isdecimal() or len(said[name]) > 9:
                return None
            said[name] = int(said[name])
    listing.show(root, as_json, **{**said, "status": given.get("status", ())})
    return 0


def _add(root: str, words: list[str]) -> int | None:
    from orchestrator.cli.submit import OPTIONS, fields_of, submit

    found = _given(words, {option: field for option, (field, _) in OPTIONS.items()})
    if found is None:
        return None
    text, given, as_json = found
    if not text and "run" not in given:
        return None
    from orchestrator.spool import find_root

    root = find_root(root)
    task_id = submit(root, fields_of(text, given, root))
    if as_json:
        import json

        print(json.dumps(row(root, task_id)))
    else:
        said(root, task_id)
    return 0


def row(root: str, task_id: str) -> dict[str, str]:
    """What `add --json` prints."""
    return {"task_id": task_id, "file": f"tasks/pending/{task_id}.yaml", "root": root}


def said(root: str, task_id: str) -> None:
    """What `add` prints: the id alone in a pipe, and what happens next where a person looks."""
    if not sys.stdout.isatty():
        print(task_id)
        return
    from orchestrator.locks import is_locked

    running = is_locked(f"{root}/.orchestrator/dispatcher.lock")
    print(
        f"{task_id}  tasks/pending/{task_id}.yaml" + ("" if running else "  (no dispatcher runs: 'orchestrate start')")
    )
