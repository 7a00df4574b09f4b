"""From what waits to what runs: claim, write down who has it, sync, start. Many at once share their syncs.

Nothing is started before its claim is durable: else a power cut would bring the task back to
pending/ and it would run twice.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from orchestrator import files, groups, launcher, process, prompt, runs
from orchestrator.agents import adapter_for
from orchestrator.agents.base import Request
from orchestrator.clock import Clock
from orchestrator.config import AgentConfig, Config
from orchestrator.context import Context
from orchestrator.errors import OrchestrateError, PromptTooLong, is_lack
from orchestrator.intake import Intake
from orchestrator.launcher import Launch
from orchestrator.live import Live
from orchestrator.names import counted
from orchestrator.registry import AgentRegistry
from orchestrator.router import CapabilityRouter
from orchestrator.spool import Spool
from orchestrator.states import Outcome, State
from orchestrator.supervisor import Supervisor
from orchestrator.task import Task
from orchestrator.waiting import Entry

UNMOVED = 3  # files in one turn that cannot be moved though others may be: then it is tried again later


class Claim(NamedTuple):
    """A task that has just become ours, and who shall do it."""

    entry: Entry
    agent: str
    slot: str
    content: bytes  # of its file


class Prepared(NamedTuple):
    """A run that only has to be started; or why it cannot be."""

    live: Live
    argv: tuple[str, ...]
    env: Mapping[str, str]
    stdin: str
    failed: tuple[Outcome, str] | None = None
    lack: OSError | None = None  # this machine has no room for it


class Starter:
    """Starts runs."""

    def __init__(
        self,
        queue: Spool,
        registry: AgentRegistry,
        context: Context,
        launch: Launch,
        intake: Intake,
        supervisor: Supervisor,
        clock: Clock,
        environment: Mapping[str, str],
        tell: Callable[..., None],
        failed: Callable[[OSError, float], None],
    ) -> None:
        self.queue = queue
        self.registry = registry
        self.context = context
        self.intake = intake
        self.supervisor = supervisor
        self.clock = clock
        self._launch = launch
        self._environment = environment
        self._tell = tell
        self._failed = failed  # this machine does not let us start anything now; at this lived second
        self._router = CapabilityRouter()
        self._stranded: dict[str, str] = {}  # task → slot: claimed by us, and nobody has it
        self._kept: dict[tuple[tuple[str, ...], tuple[str, ...]], Mapping[str, str]] = {}

    def claim(self, wall: float) -> list[Claim]:
        """Claim all that may start now; durable, with the notes of who has them, after the queue's `sync`."""
        claimed: list[Claim] = []
        unmoved = 0
        self._release_stranded()
        waiting, route = self.intake.waiting, self._router
        waiting.wake(wall)
        if not waiting.by_id:
            return claimed
        busy = {live.slot: live.agent for live in self.supervisor if not live.let_go}
        route.see(self.registry.views(busy, wall))
        while found := route.next_of(waiting, wall):
            entry, agent, slot = found
            content = self.intake.current(entry, wall)
            if content is None:
                if self.intake.asks_enough(wall):
                    break
                continue
            try:
                self.queue.claim(entry.name, entry.id)
            except (FileExistsError, FileNotFoundError):
                if not os.path.isdir(f"{self.queue.tasks}/{State.ASSIGNED}"):
                    break  # the next scan makes it
                waiting.take(entry.id)
                self.intake.look([entry.name], wall)
                continue
            except OSError as error:
                unmoved += 1
                if error.errno in (errno.EACCES, errno.EPERM) and unmoved < UNMOVED and self._may_move():
                    self.intake.cannot_claim(entry, f"{error.strerror}; tried again", wall)
                    continue
                self._tell("error", entry.id, f"cannot be claimed: {error.strerror}; tried again")
                self._failed(error, self.clock.lived())
                break
            waiting.take(entry.id)
            self.intake.silent.pop(entry.name, None)
            self.intake.catch_up(entry, wall)
            route.took(agent, slot)
            one = Claim(entry, agent, slot, content)
            try:
                made = entry.attempt.made + 1
                self.queue.assign(entry.id, slot, agent, made, runs.utc(wall), process.boot_id())
            except OSError as error:
                self.give_back([(entry.id, one.slot)], error, wall)
                break
            claimed.append(one)
        return claimed

    def _may_move(self) -> bool:
        """Whether the folders let files go and come: then it is that one file that cannot be moved."""
        folders = (f"{self.queue.tasks}/{state}" for state in (State.PENDING, State.ASSIGNED))
        return all(os.access(folder, os.W_OK | os.X_OK) for folder in folders)

    def give_back(self, claimed: Sequence[tuple[str, str]], error: OSError, wall: float) -> None:
        """There is no room to start these, (task, slot) each: nobody has them, and no attempt is lost."""
        self._stranded.update(claimed)  # back to pending, now or as soon as that works
        self._tell("error", "", f"{counted(claimed, 'task')} cannot be started: {error.strerror}; tried again")
        self._failed(error, self.clock.lived())
        self._release_stranded()
        self.intake.look([f"{task_id}.yaml" for task_id, _ in claimed], wall)

    def _release_stranded(self) -> None:
        for task_id, slot in list(self._stranded.items()):
            try:
                self.queue.unassign(task_id, slot)
                self.queue.release(task_id)
            except FileExistsError:
                continue  # a person put a file of that id there; the next start names both
            except FileNotFoundError:
                pass
            except OSError:
                continue
            del self._stranded[task_id]

    def live(
        self, config: Config, task: Task, number: int, agent: str, slot: str, settings: AgentConfig, started_at: float
    ) -> Live:
        """A run as the supervisor watches it."""
        adapter = adapter_for(agent, settings)
        timeout = (
            task.timeout_minutes * 60
            if task.timeout_minutes
            else settings.timeout_seconds or config.queue.default_timeout_minutes * 60
        )
        stuck = settings.stuck_after_seconds or max(config.limits.stuck_after_seconds, adapter.quiet_seconds)
        folder = self.queue.run_folder(task.id, number)
        return Live(
            task, number, agent, slot, adapter, settings, folder, started_at, self.clock.lived(), timeout, stuck
        )

    def prepare(self, config: Config, claimed: Sequence[Claim], wall: float) -> list[Prepared]:
        """Make the run folders with all that a run needs; while the claims are on their way to the disk."""
        return [self._prepare(config, one, wall) for one in claimed]

    def _prepare(self, config: Config, claim: Claim, wall: float) -> Prepared:
        (entry, agent, slot, content), task = claim, claim.entry.task
        live = self.live(config, task, entry.attempt.made + 1, agent, slot, _known(self.registry.settings(agent)), wall)
        live.attempt, live.stamp = entry.attempt, entry.stamp
        try:
            self.queue.make_run_folder(task.id, live.number)
            invocation = live.adapter.invoke(self._request(live, entry))
            _record(live, invocation.argv, content)
        except PromptTooLong as error:
            return Prepared(live, (), {}, "", (Outcome.CONTEXT_OVERFLOW, str(error)))
        except (OrchestrateError, ValueError) as error:  # a NUL in an argument, a path of an answer that is none
            return Prepared(live, (), {}, "", (Outcome.AGENT_ERROR, f"cannot be started: {error}"))
        except OSError as error:
            return Prepared(live, (), {}, "", lack=error)
        env = {
            **self._inherited(config.secrets, (*live.adapter.needs_env, *live.settings.pass_env)),
            **invocation.env,
            **live.settings.env,
            "ORCHESTRATE_TASK_ID": task.id,
            "ORCHESTRATE_RUN": str(live.number),
            "ORCHESTRATE_AGENT_ID": slot,
            "ORCHESTRATE_ROOT": self.queue.root,
            "ORCHESTRATE_OUTPUT_FILE": f"{live.folder}/output.md",
        }
        return Prepared(live, invocation.argv, env, f"{live.folder}/prompt.md" if invocation.stdin else os.devnull)

    def launch(self, prepared: Sequence[Prepared], wall: float) -> bool:
        """Start them; whether all were. Their claims are durable. For what there is no room, it is given back."""
        for place, one in enumerate(prepared):
            live = one.live
            try:
                if one.lack:
                    raise one.lack
                live.not_started = one.failed or self._spawn(one)
            except OSError as error:
                self.give_back([(left.live.id, left.live.slot) for left in prepared[place:]], error, wall)
                return False
            self.supervisor.add(live)
            said = f"run {live.number} on {live.slot} ({live.agent})"
            who = {"run": live.number, "agent_id": live.slot, "agent_type": live.agent}
            self._tell("claimed", live.id, said, **who)
            if live.not_started is None:
                self._tell("started", live.id, f"{said}: {live.task.title}", **who)
        return True

    def _spawn(self, one: Prepared) -> tuple[Outcome, str] | None:
        """Raises OSError if this machine has no room for it."""
        live = one.live
        most = (live.settings.max_memory_mb or 0.0) * 1e6
        argv = groups.inside(groups.make(live.folder, most), one.argv) if most else one.argv
        try:
            started = self._launch.start(live.folder, argv, one.env, self.queue.root, one.stdin)
        except ValueError as error:  # a NUL: it is this task's, and no fault of the agent's
            return Outcome.AGENT_ERROR, f"cannot be started: {error}"
        except (OSError, OrchestrateError) as error:
            if is_lack(error):
                raise
            return Outcome.NOT_STARTED, f"cannot start it: {getattr(error, 'strerror', '') or error}"
        live.child, live.identity = started.process, started.identity
        return None

    def _inherited(self, secrets: tuple[str, ...], needed: tuple[str, ...]) -> Mapping[str, str]:
        """What an agent inherits, worked out once."""
        key = (secrets, needed)
        if key not in self._kept:
            self._kept[key] = launcher.environment(self._environment, secrets, needed, {})
        return self._kept[key]

    def _request(self, live: Live, entry: Entry) -> Request:
        task, attempt = live.task, entry.attempt
        answers = {one: self.context.answer(one) for one in task.dependencies}
        text = prompt.assemble(
            task,
            self.queue.root,
            f"{live.folder}/output.md",
            live.agent,
            live.number,
            answers,
            attempt.last_reason,
            attempt.note,
            attempt.last_status == Outcome.UNREADABLE,
            who.preamble if (who := self.registry.specialists.get(live.agent)) else "",
        )
        files.write(f"{live.folder}/prompt.md", text.encode("utf-8", "replace"))
        return Request(
            task,
            live.settings,
            self.registry.program(live.agent),
            text,
            f"{live.folder}/prompt.md",
            f"{live.folder}/output.md",
            live.folder,
            str(uuid.uuid4()),
        )


def _known(settings: AgentConfig | None) -> AgentConfig:
    assert settings is not None  # it was chosen a moment ago
    return settings


def _record(live: Live, argv: tuple[str, ...], content: bytes) -> None:
    """Write down what is about to be started."""
    runs.write_record(
        live.folder,
        runs.Record(
            process.boot_id(),
            time.monotonic(),
            live.started_at,
            live.slot,
            live.agent,
            live.adapter.kind,
            tuple(word[:1000] for word in argv),
            hashlib.sha256(content).hexdigest(),
        ),
    )
