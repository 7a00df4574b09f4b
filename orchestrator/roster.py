"""Workers that have registered: one small file each, .orchestrator/workers/<agent_id>.yaml.

When one was last heard of is the time of a second file beside it, so that a heartbeat costs one call
and nothing is written. A worker on another machine's clock does no harm: whoever watches, sees only
whether that time has changed, and counts on his own clock (`pull.Watch`).
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from orchestrator import events, files, locks, plain
from orchestrator.errors import AlreadyExists, InvalidTask, NotFound, OrchestrateError
from orchestrator.names import count_problem, id_problem, natural, nearest, printable
from orchestrator.reading import parse_mapping
from orchestrator.runs import epoch, utc, words
from orchestrator.task import Task
from orchestrator.writing import Scalar

STALE_SECONDS = 60.0  # without a heartbeat
ID_BYTES = 60  # <task>@<worker>.yaml has to fit into a name
_SLOT = re.compile(r"agent_\d+")


class Worker(NamedTuple):
    """One process, person or program that pulls tasks itself."""

    agent_id: str
    capabilities: tuple[str, ...] = ()
    agent_type: str = "worker"
    max_concurrent_tasks: int = 1
    metadata: Mapping[str, Scalar] = {}
    registered_at: float = 0.0  # epoch seconds UTC

    def to_yaml(self) -> bytes:
        """The file: YAML that is JSON, too, so that a thousand of them are read in a moment."""
        fields = {
            "agent_id": self.agent_id,
            "agent_type": self.agent_type,
            "capabilities": self.capabilities,
            "max_concurrent_tasks": self.max_concurrent_tasks,
            "metadata": dict(self.metadata),
            "registered_at": utc(self.registered_at),
        }
        return (json.dumps(fields, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")


class Roster:
    """The workers of one root. Any number of processes may write at once."""

    def __init__(self, own: str) -> None:
        self._own = own
        self.folder = f"{own}/workers"
        self._kept: dict[str, tuple[tuple[int, int, int], Worker]] = {}  # as they were last read

    def register(
        self,
        agent_id: str,
        capabilities: Sequence[str] = (),
        metadata: Mapping[str, Scalar] | None = None,
        agent_type: str = "worker",
        replace: bool = False,
    ) -> Worker:
        """Take a worker in. `metadata` may hold max_concurrent_tasks; the rest of it is kept as it is.

        Raises OrchestrateError for what cannot be, AlreadyExists if one of that id was heard of lately and
        `replace` is false.
        """
        if problem := id_problem(agent_id) or (
            _SLOT.fullmatch(agent_id) and "is the name of a slot of the dispatcher's"
        ):
            raise OrchestrateError(f"agent id {problem}")
        if len(agent_id.encode()) > ID_BYTES:
            raise OrchestrateError(f"agent id is longer than {ID_BYTES} bytes")
        if problem := id_problem(agent_type):
            raise OrchestrateError(f"agent type {problem}")
        if not isinstance(metadata or {}, Mapping):
            raise OrchestrateError(f"metadata: write words and what they are, not {printable(repr(metadata))}")
        kept = dict(metadata or {})
        most = kept.pop("max_concurrent_tasks", 1)
        if (problem := count_problem(most, 1)) or not isinstance(most, int):
            raise OrchestrateError(f"max_concurrent_tasks: {problem}")
        for key, value in kept.items():
            if not isinstance(key, str) or not isinstance(value, str | int | float | None):
                raise OrchestrateError(f"metadata: {printable(key)}: write a text or a number")
        if isinstance(capabilities, str) or not isinstance(capabilities, Sequence):
            raise OrchestrateError(f"capabilities: write a list of words, not {printable(repr(capabilities))}")
        for one in capabilities:
            if problem := id_problem(one):
                raise OrchestrateError(f"capability {problem}")
        worker = Worker(agent_id, tuple(dict.fromkeys(capabilities)), agent_type, most, kept, time.time())
        os.makedirs(self.folder, exist_ok=True)
        with locks.locked(f"{self.folder}/.lock"):
            silent = self.silent(agent_id, time.time())
            if silent is not None and silent < STALE_SECONDS and not replace:
                raise AlreadyExists(
                    f"{agent_id}: a worker of that id was heard of {silent:.0f} s ago; choose another id, or --replace it "
                    "if you know that it is gone"
                )
            files.replace(f"{self.folder}/{agent_id}.yaml", worker.to_yaml())
            self.beat(agent_id)
        files.sync_folder(self.folder)
        can = f"{agent_id}: {', '.join(worker.capabilities) or 'no capabilities'}; {most} at once"
        events.record(self._own, "registered", "", can, agent_id=agent_id, agent_type=agent_type)
        return worker

    def unregister(self, agent_id: str) -> None:
        """Forget a worker. Raises NotFound."""
        self.worker(agent_id)
        for name in (f"{agent_id}.yaml", f"{agent_id}.beat"):
            try:
                os.unlink(f"{self.folder}/{name}")
            except FileNotFoundError:
                continue
        files.sync_folder(self.folder)
        events.record(self._own, "unregistered", "", agent_id, agent_id=agent_id)

    def ids(self) -> list[str]:
        """Of all workers, in natural order."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        return sorted((n[:-5] for n in names if n.endswith(".yaml") and not id_problem(n[:-5])), key=natural)

    def all(self) -> list[Worker]:
        """Those whose file can be read."""
        return [worker for one in self.ids() if (worker := self._read(one))]

    def names(self) -> list[str]:
        """What a task's preferred_agent may say: the ids of workers, and their types."""
        return list(dict.fromkeys([*self.ids(), *(worker.agent_type for worker in self.all())]))

    def worker(self, agent_id: str) -> Worker:
        """Raises NotFound, with the nearest name."""
        found = None if id_problem(agent_id) else self._read(agent_id)
        if found is None:
            raise NotFound(f"{printable(agent_id)}: no such worker{nearest(agent_id, self.ids())}; register it first")
        return found

    def beat(self, agent_id: str) -> None:
        """It lives."""
        path = f"{self.folder}/{agent_id}.beat"
        try:
            os.utime(path)
        except FileNotFoundError:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))

    def beat_at(self, agent_id: str) -> float:
        """When it was last heard of, by its own clock (epoch seconds); 0.0 if never."""
        try:
            return os.stat(f"{self.folder}/{agent_id}.beat").st_mtime
        except OSError:
            return 0.0

    def silent(self, agent_id: str, now: float) -> float | None:
        """Seconds since it was last heard of; None if there is no such worker."""
        at = self.beat_at(agent_id)
        return max(0.0, now - at) if at and os.path.exists(f"{self.folder}/{agent_id}.yaml") else None

    def _read(self, agent_id: str) -> Worker | None:
        try:
            status = os.stat(f"{self.folder}/{agent_id}.yaml")
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            kept = self._kept.get(agent_id)
            if kept and kept[0] == stamp:
                return kept[1]
            with open(f"{self.folder}/{agent_id}.yaml", "rb", opener=plain.opener) as file:
                content = file.read(1_000_000)
            try:
                values = json.loads(content)
            except ValueError:  # a person wrote it
                values = parse_mapping(content)
            metadata = values.get("metadata")
            worker = Worker(
                agent_id,
                words(values.get("capabilities")),
                str(values.get("agent_type", "worker")),
                max(1, int(values.get("max_concurrent_tasks", 1))),
                metadata if isinstance(metadata, dict) else {},
                epoch(values.get("registered_at")),
            )
            self._kept[agent_id] = (stamp, worker)
            return worker
        except (OSError, InvalidTask, TypeError, ValueError, AttributeError, RecursionError):
            return None


def cannot(worker: Worker, task: Task) -> str:
    """Why this worker can never do this task; "" if it can."""
    if task.preferred_agent not in (None, worker.agent_id, worker.agent_type):
        return f"is for {task.preferred_agent}"
    if task.run is not None:
        return "has a 'run:' script, which only a shell agent runs"
    lacking = [one for one in task.requirements if one not in worker.capabilities]
    if not lacking:
        return ""
    held = ", ".join(worker.capabilities) or "none"
    return f"needs {', '.join(lacking)}{nearest(lacking[0], worker.capabilities)}; {worker.agent_id} has {held}"
