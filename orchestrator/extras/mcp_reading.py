"""What a model may read over MCP: `orchestrate://tasks/ID`, `…/results/ID`, `…/context/PAGE`. Follows no link, waits for
nothing, and never leaves the root."""

from __future__ import annotations

import json
import os
import re
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from orchestrator import history, ids, plain
from orchestrator.errors import NotFound, Refused
from orchestrator.looking import Looking
from orchestrator.names import id_problem, natural, path_problem, printable
from orchestrator.reading import parse_mapping
from orchestrator.rules import stated
from orchestrator.states import ENDED, State

SCHEME = "orchestrate://"
KINDS = {
    "tasks/{task_id}": "A task: its state, and what its file states, as JSON.",
    "results/{task_id}": "How a task ended, and its answer, as JSON.",
    "context/{+page}": "A shared page, such as current_state.md or agent_outputs/task_001_output.md.",
}
LISTED = 100  # of each kind, at most
PAGE_BYTES = 1_000_000  # of a page the end is given: there is what was added last
_URI = re.compile(r"orchestrate://(tasks|results|context)/(.+)", re.DOTALL)


class Page(NamedTuple):
    """Something to read."""

    uri: str
    title: str
    mime_type: str
    text: str = ""


def listed(queue: Looking) -> list[Page]:
    """The pages of context/, and the tasks that run, need somebody, or wait."""
    found = [Page(f"{SCHEME}context/{quote(name)}", name, _type(name)) for name in islice(_pages(queue.root), LISTED)]
    for state in (State.ASSIGNED, State.REVIEW, State.PENDING):
        known = queue.ids(state) if state is not State.PENDING else _waiting(queue)
        for task_id in known[:LISTED]:
            found.append(Page(f"{SCHEME}tasks/{quote(task_id)}", f"{task_id} ({state})", "application/json"))
    return found


def read(queue: Looking, uri: str) -> Page:
    """Raises NotFound, Refused, InvalidTask, OSError."""
    match = _URI.fullmatch(uri)
    if not match:
        known = ", ".join(SCHEME + one.replace("{+", "{") for one in KINDS)
        raise NotFound(f"{printable(uri)}: there is no such resource; there are {known}")
    kind, name = match[1], unquote(match[2])
    if kind == "context":
        return Page(uri, name, _type(name), _page(queue.root, name))
    if problem := id_problem(name):
        raise NotFound(f"{printable(uri)}: id {problem}")
    values = _task(queue, name) if kind == "tasks" else _result(queue, name)
    text = json.dumps(values, ensure_ascii=False, indent=1).encode("utf-8", "replace").decode()
    return Page(uri, name, "application/json", text)


def _waiting(queue: Looking) -> list[str]:
    """By the names of files alone, but for those that state another id."""
    stated = ids.stated(queue, queue.names(State.PENDING))
    other = {name.rpartition(".")[0] for name in stated.values()}
    return sorted({*stated, *(one for one in queue.ids(State.PENDING) if one not in other)}, key=natural)


def _task(queue: Looking, task_id: str) -> dict[str, Any]:
    status = queue.get_task_status(task_id)._asdict()
    task = stated(queue.task_of(task_id)._replace(id="", priority=None))
    return {**status, "task": task}


def _result(queue: Looking, task_id: str) -> dict[str, Any]:
    state = queue.require(task_id)
    result = history.result_of(queue, task_id, state) if state in ENDED else None
    if result is None:
        raise NotFound(f"{task_id}: has no result (it is {state})")
    values = parse_mapping(result.to_yaml())
    name = result.output_file.removeprefix("context/")
    return {**values, "text": _page(queue.root, name) if name else ""}


def _type(name: str) -> str:
    return {"md": "text/markdown", "json": "application/json"}.get(name.rpartition(".")[2], "text/plain")


def _pages(root: str) -> list[str]:
    """Relative to context/."""
    top, found = f"{root}/context", []
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and plain.is_plain(f"{folder}/{name}"):
                found.append(os.path.relpath(f"{folder}/{name}", top))
    return sorted(found, key=lambda name: (name.count("/"), name))


def _page(root: str, name: str) -> str:
    """Raises NotFound, Refused."""
    if problem := path_problem(name):
        raise NotFound(f"the page {problem}")
    top = os.path.realpath(f"{root}/context")
    path = os.path.normpath(f"{top}/{name}")
    try:
        if os.path.realpath(path) != path:
            raise Refused(f"{printable(name)}: a link stands in the way, and a page is read from none")
        with open(path, "rb", opener=lambda path, flags: plain.opener(path, flags | os.O_NOFOLLOW)) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - PAGE_BYTES))
            text = file.read(PAGE_BYTES).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{printable(name)}: there is no such page in context/") from None
    except plain.NotPlain:
        raise Refused(f"{printable(name)}: is no regular file") from None
    return text if size <= PAGE_BYTES else f"[… {size - PAGE_BYTES:,} bytes before this are left out …]\n{text}"
