"""Where a queue is, and what in it is meant for us."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence

from orchestrator import plain
from orchestrator.errors import OrchestrateError
from orchestrator.names import id_problem, natural, nearest, printable
from orchestrator.states import ENDED, State

BUILT_IN = ("research", "analysis", "synthesis", "validation")  # specialists that are everywhere

LONG = 1 << 20  # bytes of a folder itself: so many that there are some ten thousand names in it

_SLOT = re.compile(r"agent_\d+")
_NOTE = re.compile(r"(?!\.)(?:(.+)_agent_\d+|([^@]+)@[^@]+)\.yaml")


def find_root(start: str = "") -> str:
    """The nearest folder, from `start` upwards, that holds a queue. Raises OrchestrateError."""
    given = start or os.environ.get("ORCHESTRATE_ROOT", "")
    try:
        folder = os.path.abspath(given or os.getcwd())
    except FileNotFoundError:
        raise OrchestrateError("the current folder is gone; cd into one that is there, or say --root") from None
    while True:
        if os.path.isdir(f"{folder}/tasks/pending") or (
            os.path.isfile(f"{folder}/config.yaml") and os.path.isdir(f"{folder}/tasks")
        ):
            return folder
        above = os.path.dirname(folder)
        if above == folder or given:
            raise OrchestrateError(
                f"{printable(os.path.abspath(given or os.getcwd()))}: no queue here"
                f"{'' if given else ' or above'}; 'orchestrate init' makes one"
            )
        folder = above


def is_slot(agent_id: str) -> bool:
    """Whether this is a slot of the dispatcher's; else it is a worker."""
    return bool(_SLOT.fullmatch(agent_id))


def is_task_name(name: str) -> bool:
    """Whether a name in pending/ is meant as a task file; editors' side files are not."""
    return name.endswith((".yaml", ".yml")) and not name.startswith((".", "#"))  # so not a.yaml~, a.yaml.swp


def _is_id_name(name: str) -> bool:
    return name.endswith(".yaml") and not id_problem(name[:-5])


def is_strange(entry: os.DirEntry[str]) -> bool:
    """A folder in pending/: nobody would ever look into it, so it is named instead of passed over."""
    return not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)


def agent_problem(root: str, agent: str, has_script: bool, known: Sequence[str], shells: Sequence[str]) -> str:
    """Why no task with (or without) a `run:` script can prefer this agent; "" if one can, or if nobody knows which agents
    there are. `known`: those of config.yaml; `shells`: those of them that run scripts, and nothing else."""
    if not agent or not known:
        return ""
    beside = beside_config(root)
    if agent not in known and agent not in beside:
        near = nearest(agent, [*known, *beside])
        return f"unknown agent {printable(agent)!r}{near}; 'orchestrate agents' lists them"
    if has_script and shells and agent not in shells:
        return (
            f"has a 'run:' script, which agent {agent!r} never runs; leave the agent out, or name {' or '.join(shells)}"
        )
    if not has_script and agent in shells and agent not in beside:
        return f"agent {agent!r} runs a 'run:' script and nothing else; give the task one, or another agent"
    return ""


def beside_config(root: str) -> list[str]:
    """Whom a task may ask for by name besides the agents of config.yaml: workers that have registered, their types,
    and specialists."""
    found = [*BUILT_IN, *(name[:-3] for name in _listed(f"{root}/agents") if name.endswith(".md"))]
    for name in _listed(f"{root}/.orchestrator/workers"):
        if name.endswith(".yaml"):
            found.append(name[:-5])
            try:
                with open(f"{root}/.orchestrator/workers/{name}", encoding="utf-8", opener=plain.opener) as file:
                    found.append(str(json.load(file)["agent_type"]))
            except (OSError, ValueError, KeyError, TypeError):
                continue
    return found


def _listed(folder: str) -> list[str]:
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


class Places:
    """Every path of a queue, and what lies where; changes nothing."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.tasks = f"{root}/tasks"
        self.own = f"{root}/.orchestrator"
        self.runs = f"{self.tasks}/runs"
        self.archive = f"{self.tasks}/archive"

    def path(self, state: State, task_id: str) -> str:
        """Where the task's file is while it is in `state`."""
        return f"{self.tasks}/{state}/{task_id}.yaml"

    def result_path(self, state: State, task_id: str) -> str:
        """Where its result is, once it has ended."""
        return f"{self.tasks}/{state}/{task_id}_result.yaml"

    def assignment_path(self, task_id: str, agent_id: str) -> str:
        """The file that says who has it: a slot of the dispatcher's, or a worker (no task's id holds an '@')."""
        mark = "_" if is_slot(agent_id) else "@"
        return f"{self.tasks}/{State.ASSIGNED}/{task_id}{mark}{agent_id}.yaml"

    def run_folder(self, task_id: str, number: int) -> str:
        """The folder of one attempt, counted from 1."""
        return f"{self.runs}/{task_id}/{number}"

    def ids(self, state: State) -> list[str]:
        """Ids of the tasks in `state`, in natural order; from names alone. Not for pending/, where
        a file may state another id than its name (`pending_files`)."""
        found = [name[:-5] for name in self.names(state) if name.endswith(".yaml")]
        return sorted((one for one in found if not id_problem(one)), key=natural)

    def count(self, state: State) -> int:
        """How many task files are in a folder; from names alone. In a very long one a name that is none of a task's
        (a hidden one, one with a space) counts, too, if it ends like one."""
        folder, waits = f"{self.tasks}/{state}", state in (State.PENDING, State.REJECTED)
        meant = is_task_name if waits else _is_id_name
        try:
            if state is not State.ASSIGNED and os.stat(folder).st_size >= LONG:
                from orchestrator import counting

                found = counting.endings(
                    folder, (".yaml", ".yml") if waits else (".yaml",), "" if waits else "_result.yaml"
                )
                if found is not None:
                    return found
            return sum(map(meant, os.listdir(folder)))
        except (FileNotFoundError, NotADirectoryError):
            return 0

    def names(self, state: State) -> list[str]:
        """Every name in a state's folder."""
        return plain.listed(f"{self.tasks}/{state}")

    def pending_files(self) -> Iterator[os.DirEntry[str]]:
        """What lies in pending/ and claims to be a task, in no order."""
        try:
            with os.scandir(f"{self.tasks}/{State.PENDING}") as entries:
                for entry in entries:
                    if is_task_name(entry.name) or is_strange(entry):
                        yield entry
        except (FileNotFoundError, NotADirectoryError):
            return

    def state_of(self, task_id: str) -> State | None:
        """The folder that holds `<id>.yaml`; None if none does. A second one in pending/ is a copy that came back."""
        if id_problem(task_id):  # a path, perhaps, and there is a file
            return None
        # Looked for in the order in which tasks move: one that moves meanwhile is not missed.
        states = (State.PENDING, State.ASSIGNED, *ENDED)
        found = [state for state in states if plain.is_there(self.path(state, task_id))]
        return State.ASSIGNED if State.ASSIGNED in found else found[-1] if found else None

    def archived(self, task_id: str) -> str:
        """The archived file of a task that ended long ago; "" if there is none."""
        for folder in [] if id_problem(task_id) else self.archives():
            if plain.is_there(path := f"{folder}/{task_id}.yaml"):
                return path
        return ""

    def archives(self) -> list[str]:
        """The folders of archived tasks: one a month and state."""
        return [f"{self.archive}/{month}/{state}" for month in plain.listed(self.archive) for state in ENDED]

    def ran(self) -> set[str]:
        """Ids of the tasks that have runs."""
        return set(plain.listed(self.runs))

    def run_numbers(self, task_id: str) -> list[int]:
        """The attempts made so far, oldest first."""
        return sorted(int(name) for name in plain.listed(f"{self.runs}/{task_id}") if name.isdecimal())

    def assignments(self) -> dict[str, list[str]]:
        """Who has what: task id → names of the files that say so (more than one only after a mishap)."""
        found: dict[str, list[str]] = {}
        for name in self.names(State.ASSIGNED):
            if match := _NOTE.fullmatch(name):
                found.setdefault(match[1] or match[2], []).append(name)
        return found
