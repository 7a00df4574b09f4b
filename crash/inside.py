"""Die at every call of the product's own verbs, in a forked child; then start again and judge.

Nothing is simulated: the code, the folders, the agents and their processes are real. Only the moment
of death is chosen.
"""

from __future__ import annotations

import errno
import os
import pickle
import signal
import tempfile
import traceback
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from judge import remember, violations
from scenes import Scene, Step, end_pauses, go, is_paused
from stage import Serve, Stage, nothing
from trap import CAN_FAIL, REAL_OPEN, Call, Trap, failing, killing

from orchestrator import process
from orchestrator.errors import OrchestrateError

LASTING = 15  # calls in a row that fail, where it is not only one


class Point(NamedTuple):
    """One place to die at, or to fail at."""

    number: int
    how: str  # before, half, after; or the name of an error and for how many calls it lasts

    def __str__(self) -> str:
        return f"{self.how} call {self.number}"


class Tried(NamedTuple):
    """What came of it."""

    scene: str
    point: Point
    reached: bool
    found: tuple[str, ...]


# -- processes ----------------------------------------------------------------------------------


def in_child(act: Callable[[], Any]) -> tuple[int, Any]:
    """Do it in a forked child: (wait status, what it gave)."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.close(read)
            found = act()
            with open(write, "wb") as pipe:
                pipe.write(pickle.dumps(found))
            code = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(write)
    with open(read, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(pid, 0)
    return status, pickle.loads(content) if content else None


def reap() -> None:
    """Orphans of killed dispatchers become children of this process; no zombie is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def workshop() -> str:
    """A folder for stages: in memory where that can be, as a crash of a process knows no disk."""
    shm = "/dev/shm"
    return tempfile.mkdtemp(prefix="orchestrate-crash-", dir=shm if os.access(shm, os.W_OK) else None)


# -- one point ----------------------------------------------------------------------------------


def play(stage: Stage, steps: Sequence[Step], trap: Trap | None = None) -> None:
    """Take the steps in this process, the product's under the trap."""
    stage.enter()
    with open(f"{stage.world}/output", "ab") as sink:
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
    if trap:
        trap.set()
    for step in steps:
        if isinstance(step, Serve):
            # (An agent for which there was no room is paused for a while; here a person ends that.)
            _serve(stage, step._replace(meanwhile=end_pauses) if step.meanwhile is nothing else step)
        elif callable(step):
            if trap:
                trap.away = True
            step(stage)
            if trap:
                trap.away = False
        else:
            stage.command(step)


def _serve(stage: Stage, step: Serve) -> None:
    for attempt in range(2 * LASTING):  # one that does not come up, for lack of room, is started again by a person
        try:
            stage.serve(step)
            return
        except (OSError, OrchestrateError) as error:
            with REAL_OPEN(f"{stage.world}/not-up", "a", encoding="utf-8") as file:
                file.write(f"{attempt}: {error}\n")
    raise RuntimeError("the dispatcher does not come up")


def drain(stage: Stage, scene: Scene) -> None:
    """Somebody starts again; all work is done; and he stops."""
    go(stage)
    again = [step for step in scene.steps if isinstance(step, tuple) and step[0] in ("init", "archive")]
    play(stage, [*again, Serve(meanwhile=end_pauses)])
    if children := process.children_of_this_process():
        raise RuntimeError(f"children left: {children}")


class Trial:
    """A scene, prepared once if it can be copied, and tried at many points."""

    def __init__(self, scene: Scene, folder: str) -> None:
        self.scene = scene
        self.folder = folder
        self._count = 0
        self.prepared = self._prepare(f"{folder}/prepared")
        self.memory = remember(self.prepared)
        if scene.fresh:
            self.prepared.end_members()  # each try has its own

    def _prepare(self, folder: str) -> Stage:
        stage = Stage(folder).make()
        status, _ = in_child(lambda: play(stage, self.scene.prepare))
        assert status == 0, f"{self.scene.name}: cannot be prepared: {_output(stage)}"
        return stage

    def stage(self) -> Stage:
        """One to be killed in."""
        self._count += 1
        folder = f"{self.folder}/{os.getpid()}-{self._count}"
        return self._prepare(folder) if self.scene.fresh else self.prepared.copy(folder)

    def calls(self, looking: bool = False) -> list[str]:
        """Every call of the steps, undisturbed."""
        stage = self.stage()
        seen: list[str] = []

        def note(call: Call) -> Any:
            seen.append(str(call))
            return call.act()

        def act() -> list[str]:
            play(stage, self.scene.steps, Trap(note, looking))
            return seen

        status, found = in_child(act)
        assert status == 0, f"{self.scene.name}: fails undisturbed: {_output(stage)}"
        stage.end_members()
        stage.remove()
        return list(found)

    def kill(self, point: Point) -> Tried:
        """Die there."""
        stage = self.stage()
        rule = killing(point.number, point.how)
        status, _ = in_child(lambda: play(stage, self.scene.steps, Trap(rule)))
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        found = () if killed or status == 0 else (f"status {status}: {_output(stage)}",)
        return self.judged(stage, point, killed, found)

    def fail(self, point: Point) -> Tried:
        """Fail there; nothing dies, and what goes on must go on by itself."""
        stage = self.stage()
        name, _, length = point.how.partition(" x ")
        rule = failing(range(point.number, point.number + int(length)), getattr(errno, name))
        status, _ = in_child(lambda: play(stage, self.scene.steps, Trap(rule, looking=True)))
        found = list(_not_one_line(stage))
        if status:
            found.append(f"status {status}: {_output(stage)}")
        # (Where a command to end a pause was refused, it stands.)
        if isinstance(self.scene.steps[-1], Serve) and not stage.is_drained() and not is_paused(stage):
            found.append(f"the dispatcher did not go on by itself: {_output(stage)[-900:]}")
        return self.judged(stage, point, True, tuple(found), "fail")

    def judged(self, stage: Stage, point: Point, reached: bool, found: Iterable[str], kind: str = "kill") -> Tried:
        """Start again, let it drain, and look."""
        scene, found = self.scene, list(found)
        memory = remember(stage, self.memory)
        status, _ = in_child(lambda: drain(stage, scene))
        if status:
            found.append(f"starting again: status {status}: {_output(stage)}")
        found += violations(scene, stage, memory, kind)
        if found:
            stage.end_members()
        reap()
        stage.remove()
        return Tried(scene.name, point, reached, tuple(found))


def _not_one_line(stage: Stage) -> Iterable[str]:
    """What a command that fails says is one line (and one of warning, at most), and no traceback."""
    for name in sorted(os.listdir(stage.world)):
        if name.startswith("erred."):
            with open(f"{stage.world}/{name}", encoding="utf-8") as file:
                said = file.read()
            lines = said.splitlines()
            if (
                len(lines) > 2
                or "fault of ours" in said
                or not all("orchestrate:" in line or "  no " in line or line.endswith(" archived") for line in lines)
            ):
                yield f"a command says: {said}"


def _output(stage: Stage) -> str:
    text = ""
    for path in (f"{stage.world}/output", f"{stage.world}/not-up", f"{stage.root}/.orchestrator/dispatcher.log"):
        if os.path.exists(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                text += file.read()[-1500:]
    return text


# -- many points --------------------------------------------------------------------------------


def points(trial: Trial, every: int, kind: str) -> list[Point]:
    """All of them; with `every` one in so many, and always the same ones."""
    if kind == "kill":
        calls = trial.calls()
        found = [Point(n, "before") for n in range(1, len(calls) + 1)]
        found += [
            Point(n, how)
            for n, call in enumerate(calls, 1)
            for how in ("half", "after")
            if call.startswith(("write", "pwrite"))
        ]
    else:
        calls = trial.calls(looking=True)
        found = [
            Point(n, f"{errno.errorcode[code]} x {length}")
            for n, call in enumerate(calls, 1)
            for code in CAN_FAIL
            for length in (1, LASTING)
            if call.partition("(")[0] in CAN_FAIL[code]
        ]
    every = min(every, max(1, len(found) // 4))  # of a short scene, too
    return found[zlib.crc32(trial.scene.name.encode()) % every :: every]


def run(trial: Trial, chosen: Sequence[Any], kind: str, jobs: int) -> list[Tried]:
    """Try them, in so many processes at once."""
    children: list[tuple[int, int]] = []
    for job in range(jobs):
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(read)
            process.become_subreaper()
            with open(write, "wb") as pipe:
                for point in chosen[job::jobs]:
                    pickle.dump(getattr(trial, kind)(point), pipe)
            os._exit(0)
        os.close(write)
        children.append((pid, read))
    found: list[Tried] = []
    for pid, read in children:
        with open(read, "rb") as pipe:
            while True:
                try:
                    found.append(pickle.load(pipe))
                except EOFError:
                    break
        os.waitpid(pid, 0)
    if len(found) != len(chosen):
        raise RuntimeError(f"{trial.scene.name}: {len(chosen) - len(found)} points were not tried")
    return found
