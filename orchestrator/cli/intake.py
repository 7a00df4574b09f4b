"""Tasks from files, from stdin and from an editor; and checking files without adding them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from orchestrator import config, plain, profiles
from orchestrator.cli.submit import fields_of, refuse_unknown_agent
from orchestrator.errors import InvalidConfig, InvalidTask, OrchestrateError
from orchestrator.names import page_name, printable
from orchestrator.places import agent_problem
from orchestrator.reading import parse_mapping, read_bytes
from orchestrator.spool import Spool, is_task_name
from orchestrator.states import ENDED, State
from orchestrator.task import ALIASES, FIELDS, parse
from orchestrator.writing import Value

MANY = 100  # files: for so many, what has their ids is asked one by one

TEMPLATE = """\
# yaml-language-server: $schema={schema}
#
# A task. Only `description` is needed; delete what you do not use. Save and close to add it;
# an empty file, or one with nothing changed, adds nothing.

{given}
# id: fix_login                  # else task_001, task_002, …
# priority: normal               # high, normal, low
# preferred_agent: claude        # an agent of config.yaml
# dependencies: [task_001]       # these must be completed first
# context_files: [docs/api.md]   # to be read first, relative to the root
# context_required: true         # name the shared pages in the prompt
# timeout_minutes: 60
# task_type: code
# requirements: [python]         # capabilities that the agent must have
# subtasks: ["first part", "second part"]
# max_retries: 3
# run: |                         # a script for the shell agent, instead of an agent CLI
#   make test
"""


def prepare(root: str, paths: Sequence[str], stdin: bool, given: Mapping[str, Sequence[str]]) -> list[dict[str, Value]]:
    """The fields of each file as it is (options override them), ready to be submitted."""
    if stdin:
        sources = [("", sys.stdin.buffer.read(5_000_000), "<stdin>")]
    else:
        sources = []
        for path in paths:
            try:
                sources.append((os.path.basename(path).rpartition(".")[0], read_bytes(path), path))
            except InvalidTask as reason:
                raise InvalidTask(f"{printable(path)}: {reason}") from None
            except FileNotFoundError:
                raise InvalidTask(f"{printable(path)}: there is no such file") from None
    return [_prepared(root, stem, content, name, given, plainly=stdin) for stem, content, name in sources]


def _prepared(
    root: str, stem: str, content: bytes, name: str, given: Mapping[str, Sequence[str]], plainly: bool
) -> dict[str, Value]:
    """`stem` is its id if it states none; "": it gets one. `plainly`: a plain text is its description."""
    try:
        values = _mapping_or_text(content) if plainly else parse_mapping(content)
        for alias, field in ALIASES.items():
            if alias in values:
                values[field] = values.pop(alias)
        description = str(values.get("description", ""))
        overrides = {
            k: v for k, v in fields_of([description.strip() or "x"], given, root).items() if k != "description"
        }
        values.update(overrides)
        task = parse(_dumped(values), stem or "task")
        refuse_unknown_agent(root, values)
    except InvalidTask as reason:
        raise InvalidTask(f"{printable(name)}: {reason}") from None
    if problem := missing_files(root, task.context_files, task.context_required, task.dependencies):
        raise InvalidTask(f"{printable(name)}: {problem}")
    if stem and "id" not in values:
        values["id"] = task.id
    return values


def _mapping_or_text(content: bytes) -> dict[str, Value]:
    """A task file; or, if no line of it starts like one, a plain text that is the description."""
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        text = ""  # refused below, with the place
    keys = tuple(f"{key}:" for key in (*FIELDS, *ALIASES))
    if (
        text
        and "\0" not in text
        and not text.startswith(("{", "---", "#"))
        and not any(line.startswith(keys) for line in text.splitlines())
    ):
        return {"description": text}
    return parse_mapping(content)


def _dumped(values: Mapping[str, Value]) -> bytes:
    from orchestrator.writing import to_yaml

    return to_yaml(values)


@contextmanager
def edited(root: str, text: Sequence[str], given: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Value]]:
    """The fields of what was written in the editor. What is refused, here or in the `with`, is kept and named."""
    try:
        editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi") or ["vi"]
    except ValueError as error:
        raise OrchestrateError(f"$EDITOR cannot be read: {error}") from None
    blank = _template(root, text, given).encode()
    with tempfile.NamedTemporaryFile(prefix="orchestrate-", suffix=".yaml", delete=False) as file:
        file.write(blank)
    try:
        code = subprocess.call([*editor, file.name])
    except OSError as error:
        os.unlink(file.name)
        raise OrchestrateError(f"$EDITOR {editor[0]!r} cannot be started: {error.strerror}") from None
    with open(file.name, "rb") as saved:
        content = saved.read()
    if not content.strip() or content == blank:
        os.unlink(file.name)
        why = f"the editor failed (exit {code})" if code else "the editor was left without a task"
        raise OrchestrateError(f"nothing was added: {why}")
    if code:
        raise OrchestrateError(f"the editor failed (exit {code}); your text is kept: {file.name}")
    try:
        yield _prepared(root, "", content, "what you wrote", {}, plainly=False)
    except OrchestrateError as reason:
        raise OrchestrateError(f"{reason}; your text is kept: {file.name}") from None
    os.unlink(file.name)


def _template(root: str, text: Sequence[str], given: Mapping[str, Sequence[str]]) -> str:
    """The template with what the command line says in it."""
    words = " ".join(text).strip()
    blank = not words and "run" not in given
    fields = fields_of(["x"] if blank else [words], given, root)
    lines = ("" if blank else str(fields["description"])).split("\n")
    block = "description: |\n" + "".join(f"  {line}\n" for line in lines)
    head = block if all(map(str.isprintable, lines)) else _dumped({"description": fields["description"]}).decode()
    del fields["description"]
    schema = Path(str(resources.files("orchestrator").joinpath("schemas", "task.schema.json"))).as_uri()
    shown = [
        line
        for line in TEMPLATE.splitlines(keepends=True)
        if not line.startswith(tuple(f"# {name}:" for name in fields))
    ]
    if "run" in fields:
        shown.pop()  # the line of its script
    return "".join(shown).format(schema=schema, given=head + "\n" + _dumped(fields).decode())


def missing_files(root: str, paths: Sequence[str], required: bool | Sequence[str], dependencies: Sequence[str]) -> str:
    """Which context file is missing now and is not going to be written by a dependency; "" if none is."""
    pages = [] if isinstance(required, bool) else [f"context/{page_name(one)}" for one in required]
    for path in (*paths, *pages):
        if not dependencies and not os.path.exists(f"{root}/{path}"):
            return f"context file {printable(path)!r} does not exist; create it or correct the name"
    return ""


def check_files(root: str, paths: Sequence[str]) -> tuple[list[tuple[str, str]], int]:
    """(file, reason) of each that would be rejected, and how many were looked at."""
    queue, given = Spool(root), bool(paths)
    if not paths:
        folder = f"{queue.tasks}/{State.PENDING}"
        shown = os.path.relpath(folder)
        paths = sorted(f"{shown}/{entry.name}" for entry in queue.pending_files()) if os.path.isdir(folder) else []
        paths = [*paths, *([os.path.relpath(f"{root}/config.yaml")] if os.path.exists(f"{root}/config.yaml") else [])]
    problems: list[tuple[str, str]] = [] if given else _specialists(root)
    seen: dict[str, str] = {}
    edges: dict[str, tuple[str, ...]] = {}
    known = _agents(root)
    used = _used if len(paths) <= MANY else _used_among(queue)
    awaited: set[str] = set()  # by those that were seen
    for path in paths:
        try:
            if os.path.basename(path) == "config.yaml":
                _check_config(path)
                continue
            task = parse(read_bytes(path), os.path.basename(path).rpartition(".")[0])
            if not is_task_name(os.path.basename(path)):
                raise InvalidTask("is not called *.yaml or *.yml; in pending/ it would be passed over")
            if task.id in seen:
                raise InvalidTask(f"has the id of {printable(seen[task.id])} ({task.id})")
            seen[task.id], edges[task.id] = path, task.dependencies
            awaited.update(task.dependencies)
            if problem := used(queue, task.id, path):
                raise InvalidTask(problem)
            if problem := agent_problem(root, task.preferred_agent or "", task.run is not None, *known):
                raise InvalidTask(problem)
            if problem := missing_files(root, task.context_files, task.context_required, task.dependencies):
                raise InvalidTask(problem)
            if task.id in awaited and (path_of_cycle := _cycle(task.id, edges)):
                raise InvalidTask(f"closes a cycle of dependencies: {' → '.join(path_of_cycle)}")
        except (InvalidTask, InvalidConfig) as reason:
            problems.append((path, str(reason).removeprefix(f"{os.path.abspath(path)}: ")))
        except OSError as error:
            if given or not isinstance(error, FileNotFoundError):  # else somebody has just claimed or deleted it
                problems.append((path, error.strerror or str(error)))
    return problems, len(paths)


def _used(queue: Spool, task_id: str, path: str) -> str:
    """Why a file cannot have this id: another text had it, and has run; "" if it can. A copy does no harm."""
    state = queue.state_of(task_id)
    kept = queue.archived(task_id) if state in (None, State.PENDING) else queue.path(state, task_id)
    if not kept or plain.same(path, kept):
        return ""
    return f"{task_id} exists already ({os.path.relpath(kept, queue.root)}); give this one an id of its own"


def _used_among(queue: Spool) -> Callable[[Spool, str, str], str]:
    """`_used`, for many: what has left pending/ is listed once."""
    folders = [f"{queue.tasks}/{state}" for state in (State.ASSIGNED, *ENDED)] + queue.archives()
    left = {name for folder in folders if os.path.isdir(folder) for name in os.listdir(folder)}
    return lambda queue, task_id, path: _used(queue, task_id, path) if f"{task_id}.yaml" in left else ""


def _check_config(path: str) -> None:
    config.load(os.path.dirname(os.path.abspath(path)))


def _specialists(root: str) -> list[tuple[str, str]]:
    try:
        found = profiles.load(root, config.load(root).agent_table())[1]
    except InvalidConfig:
        return []  # said of config.yaml itself
    return [(where, said) for problem in found.values() for where, _, said in [problem.partition(": ")]]


def _agents(root: str) -> tuple[list[str], list[str]]:
    """Those that a task may name, and those of them that run scripts."""
    try:
        found = config.load(root)
    except InvalidConfig:
        return [], []
    return [*found.agents, *config.BUILT_IN, "shell", "command"], config.brief(found)[3]


def _cycle(start: str, edges: Mapping[str, tuple[str, ...]]) -> list[str]:
    stack: list[list[str]] = [[start]]
    seen: set[str] = set()
    while stack:
        path = stack.pop()
        for one in edges.get(path[-1], ()):
            if one == start:
                return [*path, one]
            if one not in seen:
                seen.add(one)
                stack.append([*path, one])
    return []
