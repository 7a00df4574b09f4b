"""`doctor`: what works on this machine and in this queue, what does not, and what to do about it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time

from orchestrator import config, files, locks, plain, process, router
from orchestrator.agents import adapter_for
from orchestrator.checkup import Fault, faults
from orchestrator.cli.setup import IGNORED
from orchestrator.cli.views import Views
from orchestrator.context import Context
from orchestrator.errors import InvalidConfig, InvalidTask, said
from orchestrator.names import counted, printable
from orchestrator.reading import StillWritten, read_bytes
from orchestrator.registry import AgentRegistry
from orchestrator.spool import Spool, is_task_name
from orchestrator.states import State

# A program that may not write or run anything ends "well" without having done anything.
PERMISSIONS = {
    "claude": ("--dangerously-skip-permissions", "--permission-mode", "--allowedTools", "--allowed-tools"),
    "codex": ("--sandbox", "-s", "--dangerously-bypass-approvals-and-sandbox", "--full-auto"),
    "gemini": ("--approval-mode", "--yolo", "-y"),
    "cursor": ("--force", "-f", "--yolo"),
}
LEAST_DISK = 1_000_000_000  # bytes

Finding = dict[str, str]


def examine(root: str) -> list[Finding]:
    """Every finding: level ok, note or problem; what; text."""
    found: list[Finding] = []

    def say(level: str, what: str, text: str) -> None:
        found.append({"level": level, "what": what, "text": text})

    version = ".".join(map(str, sys.version_info[:3]))
    say("ok", "python", f"{version} ({sys.executable})")
    queue = Spool(root)
    say("ok", "root", root)
    missing = [str(state) for state in State if not os.path.isdir(f"{queue.tasks}/{state}")]
    if missing:
        say("problem", "folders", f"tasks/{{{','.join(missing)}}} missing; 'orchestrate init' makes them")
    for part in (_file_system, _config, _dispatcher, _strays, _lying, _git):
        try:
            part(queue, say)
        except OSError as error:  # whatever cannot be looked into, the rest is told
            say("problem", "folders", f"cannot be looked into: {said(error)}")
    return [one for place, one in enumerate(found) if one not in found[:place]]


def _config(queue: Spool, say: object) -> None:
    assert callable(say)
    try:
        settings = config.load(queue.root)
    except InvalidConfig as error:
        say("problem", "config.yaml", str(error).removeprefix(f"{queue.root}/config.yaml: "))
        return
    is_there = os.path.exists(f"{queue.root}/config.yaml")
    say("ok", "config.yaml", "reads well" if is_there else "there is none; all defaults")
    _agents(queue, settings, say)
    _stranded(queue, say)


def _dispatcher(queue: Spool, say: object) -> None:
    assert callable(say)
    from orchestrator.hold import running_pid

    if pid := running_pid(queue.root):
        say("ok", "dispatcher", f"runs (pid {pid})")
        return
    waiting = counted(queue.count(State.PENDING), "task")
    say("note", "dispatcher", f"does not run; {waiting} waiting; 'orchestrate start'")


def _agents(queue: Spool, settings: config.Config, say: object) -> None:
    assert callable(say)
    registry = AgentRegistry(queue.root, settings, {})
    for name, agent in registry.agents.items():
        adapter = adapter_for(name, agent)
        slots = counted(agent.max_instances, "slot")
        if problem := registry.missing(name):
            say("problem", f"agent {name}", f"{problem}; install it, correct the command, or set 'enabled: false'")
            continue
        words = registry.program(name)
        wanted = PERMISSIONS.get(adapter.kind, ())
        if wanted and not any(word.split("=")[0] in wanted for word in words):
            say(
                "note",
                f"agent {name}",
                f"{words[0]}, {slots}; its command has no permission flag ({wanted[0]}): it may be unable to write",
            )
        else:
            say("ok", f"agent {name}", f"{words[0] if words else 'built in'}, {slots}, adapter {adapter.kind}")
    for name, problem in registry.problems.items():
        say("problem", f"specialist {printable(name)}", problem)
    if not settings.agents:
        say("note", "agents", "config.yaml names none: these were found on PATH")
    for name, command in config.BUILT_IN.items():
        where = shutil.which(command.split()[0])
        if where and name not in registry.agents and name not in settings.agents:
            say("note", f"agent {name}", f"found at {where}, but not in config.yaml; add '{name}:' under agents")
    if not registry.agents:
        say("problem", "agents", "none is enabled; nothing can run")


def _stranded(queue: Spool, say: object) -> None:
    assert callable(say)
    views = Views(queue.root)
    agents, registry = views.agents(), views.registry()
    lost = [(e.task.id, why) for e in views.waiting() if (why := router.stranded(e.task, agents, registry.missing))]
    for task_id, why in lost[:5]:
        say("problem", f"task {task_id}", f"no agent here can do it: {why}")
    if len(lost) > 5:
        say("problem", "tasks", f"… and {len(lost) - 5} more; 'orchestrate tasks --status pending' has the reasons")


def _file_system(queue: Spool, say: object) -> None:
    assert callable(say)
    try:
        _try_a_move(queue, say)
    except OSError as error:
        say("problem", "file system", f"takes no new file: {error.strerror}; make room, or see who may write there")


def _try_a_move(queue: Spool, say: object) -> None:
    assert callable(say)
    os.makedirs(f"{queue.tasks}/.drafts", exist_ok=True)
    with tempfile.TemporaryDirectory(dir=f"{queue.tasks}/.drafts") as folder:
        one, two = f"{folder}/one", f"{folder}/two"
        for path in (one, two):
            with open(path, "w", encoding="utf-8", errors="replace") as file:
                file.write(path)
        try:
            files.move(one, two)
            say("problem", "file system", "a rename replaced its target: tasks could be lost here; use a local disk")
        except FileExistsError:
            atomic = "atomic" if files.has_atomic_move() else "by link and unlink (no atomic one here)"
            say("ok", "file system", f"moves refuse to overwrite ({atomic})")
        try:
            read_bytes(two, settled=True)
        except StillWritten:
            say(
                "note",
                "file system",
                f"no read leases: a dropped file is taken after {locks.QUIET_SECONDS:g} s of quiet",
            )
        except (OSError, InvalidTask):
            pass
    free = shutil.disk_usage(queue.tasks).free
    say(
        "problem" if free < LEAST_DISK else "ok",
        "disk",
        f"{free / 1e9:.1f} GB free{'; make room' if free < LEAST_DISK else ''}",
    )
    if not process.HAS_PROC:
        say("note", "processes", "no /proc here: of a run only the process group can be ended")


def seen(queue: Spool) -> list[Fault]:
    """What is wrong in the queue. A dispatcher may be in the middle of a move: what is seen twice is so."""
    context = Context(queue.root)
    first = list(faults(queue, context))
    if first and os.access(queue.own, os.X_OK) and locks.is_locked(f"{queue.own}/dispatcher.lock"):
        time.sleep(0.2)
        again = {fault.text for fault in faults(queue, context)}
        first = [fault for fault in first if fault.text in again]
    return first


def repair(root: str) -> tuple[list[str], list[str]]:
    """Mend what can be; what was mended, and what could not be. Raises AlreadyRunning while a dispatcher runs: it holds
    these files."""
    from orchestrator.hold import Hold

    queue, mended = Spool(root), []
    failed: dict[str, str] = {}
    try:
        if not any(fault.mend for fault in seen(queue)):
            return [], []
        lock = Hold(root, 0.0)
    except OSError as error:
        return [], [f"nothing can be mended: {said(error)}"]
    try:
        for _ in range(5):  # what one mend brings to light, the next round mends
            todo = [fault for fault in faults(queue, Context(root)) if fault.mend and fault.text not in failed]
            for fault in todo:
                assert fault.mend is not None
                try:
                    fault.mend()
                    mended.append(f"{fault.what}: {fault.text}")
                except FileNotFoundError:
                    continue  # gone with another's mend
                except OSError as error:  # the others are mended all the same
                    failed[fault.text] = f"{fault.what}: {fault.text}: {said(error)}"
            if not todo:
                break
        queue.make_folders()
        queue.sync()
    finally:
        lock.release()
    return mended, [*failed.values()]


def _strays(queue: Spool, say: object) -> None:
    assert callable(say)
    for fault in seen(queue):
        is_bad = fault.mend or fault.what == "folders"
        say("problem" if is_bad else "note", fault.what, fault.text + ("; --repair mends it" if fault.mend else ""))


def _lying(queue: Spool, say: object) -> None:
    assert callable(say)
    passed = [
        n for n in queue.names(State.PENDING) if not is_task_name(n) and not n.startswith(".") and not n.endswith("~")
    ]
    if passed:
        say("note", "pending", f"passed over, since not called *.yaml: {printable(', '.join(passed[:5]))}")
    if rejected := queue.count(State.REJECTED):
        say("note", "rejected", f"{counted(rejected, 'file')} in tasks/rejected/, with the reason beside it")
    if review := queue.count(State.REVIEW):
        say("note", "review", f"{counted(review, 'task')} waiting for you: orchestrate tasks --status review")
    old = [
        n for n in plain.listed(f"{queue.tasks}/.drafts") if _age(f"{queue.tasks}/.drafts/{n}") > files.DRAFT_AGE_LIMIT
    ]
    if old:
        say("note", "drafts", f"{counted(old, 'half-made file')} of writers that died; the next start sweeps them")


def _age(path: str) -> float:
    try:
        return time.time() - os.lstat(path).st_mtime
    except OSError:
        return 0.0


def _git(queue: Spool, say: object) -> None:
    assert callable(say)
    if not os.path.exists(f"{queue.root}/.git"):
        return
    try:
        with open(f"{queue.root}/.gitignore", encoding="utf-8", errors="replace", opener=plain.opener) as file:
            lines = file.read().splitlines()
    except OSError:
        lines = []
    missing = [
        line for line in IGNORED if line not in lines and line.strip("/") not in [text.strip("/") for text in lines]
    ]
    if missing:
        say("note", "git", f".gitignore lacks {' '.join(missing)}; 'orchestrate init' adds them")
    else:
        say("ok", "git", ".gitignore keeps out what only means something on this machine")
