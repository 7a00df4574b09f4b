"""What a task needs besides its own words: dependencies that are completed, files that are there, an agent of that name."""

from __future__ import annotations

import os
from collections.abc import Sequence

from orchestrator import plain
from orchestrator.errors import InvalidTask
from orchestrator.names import page_name, printable
from orchestrator.registry import wants
from orchestrator.spool import Spool
from orchestrator.states import State
from orchestrator.task import Task


def is_completed(queue: Spool, task_id: str) -> bool:
    """Whether this task ended well; it may be archived."""
    return plain.is_there(queue.path(State.COMPLETED, task_id)) or f"/{State.COMPLETED}/" in queue.archived(task_id)


def check(queue: Spool, task: Task, agents: Sequence[str]) -> None:
    """Raises InvalidTask for what can never be. `agents`: that it may name; () from who does not know them all."""
    if agents and task.preferred_agent and (problem := wants(agents, task.preferred_agent)):
        raise InvalidTask(f"preferred_agent: {problem}; there are: {', '.join(agents)}")
    # What a dependency is going to write need not be there yet; it is looked for at the claim.
    if all(is_completed(queue, one) for one in task.dependencies) and (problem := missing_files(queue.root, task)):
        raise InvalidTask(problem)


def missing_files(root: str, task: Task) -> str:
    """Which of its context files is not there, or outside; "" if all is well."""
    pages = () if isinstance(task.context_required, bool) else task.context_required
    paths = (*task.context_files, *(f"context/{page_name(page)}" for page in pages))
    if not paths:
        return ""
    root = os.path.realpath(root)
    for path in paths:
        real = os.path.realpath(f"{root}/{path}")
        if real != root and not real.startswith(root + "/"):
            return f"context file {printable(path)!r} leads out of the root; copy it in"
        if not os.path.exists(real):
            return f"context file {printable(path)!r} does not exist; create it or correct the name"
    return ""
