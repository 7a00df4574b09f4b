"""The real programs, killed by strace at their system calls; then started again and judged."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import zlib

from inside import Point, Trial, Tried, reap, workshop
from inside import run as try_all
from scenes import Scene
from stage import LIMIT, REPOSITORY, Serve, Stage

SCENES = ("add", "cancel", "person", "archive", "init", "run", "retry")
CALLS = ("link", "linkat", "rename", "renameat2", "unlink", "mkdir", "fsync", "io_submit", "write", "pwrite64")


class Outside(Trial):
    """A scene whose commands, and whose dispatcher, are processes of their own."""

    def _run(self, stage: Stage, *options: str) -> list[int]:
        codes = []
        for number, step in enumerate(self.scene.steps):
            if not isinstance(step, Serve) and callable(step):
                step(stage)
                continue
            # Of a dispatcher its own calls are counted, not those of the agents that it starts.
            words, trace = (("start", "-f"), ()) if isinstance(step, Serve) else (step, ("-f",))
            with open(f"{stage.world}/said.{100 + number}", "wb") as out:
                child = subprocess.Popen(
                    ["strace", *trace, "-o", f"{stage.folder}/calls", "-e", f"trace={','.join(CALLS)}", *options,
                     sys.executable, "-m", "orchestrator.cli", *words],
                    cwd=stage.root, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL,
                    env={**os.environ, "CRASH_WORLD": stage.world, "ORCHESTRATE_ROOT": stage.root, "PYTHONPATH": REPOSITORY},
                )  # fmt: skip
                if isinstance(step, Serve):
                    _stop_when_done(child, stage, step, out.name)
                codes.append(child.wait(LIMIT))
        return codes

    def points(self) -> list[tuple[str, int]]:
        """(call, which of them), undisturbed."""
        stage, most = self.stage(), dict.fromkeys(CALLS, 0)
        for step in self.scene.steps:
            one = Outside.__new__(Outside)
            one.scene = self.scene._replace(steps=[step])
            one._run(stage)
            if isinstance(step, Serve) or not callable(step):
                with open(f"{stage.folder}/calls", encoding="utf-8", errors="replace") as file:
                    text = "\n" + file.read()
                most = {name: max(most[name], len(re.findall(rf"\n(?:\d+ +)?{name}\(", text))) for name in CALLS}
        stage.remove()
        return [(name, n) for name, count in most.items() for n in range(1, count + 1)]

    def strike(self, point: tuple[str, int]) -> Tried:
        """Each command is killed at its n-th call of that name, as it enters it."""
        stage = self.stage()
        codes = self._run(stage, "-e", f"inject={point[0]}:signal=KILL:when={point[1]}")
        reap()
        return self.judged(stage, Point(point[1], f"{point[0]} of"), any(code < 0 or code == 137 for code in codes), ())


def _stop_when_done(child: subprocess.Popen[bytes], stage: Stage, step: Serve, said: str) -> None:
    """Stop the dispatcher below this strace as the step says, unless it is killed before."""
    deadline = time.monotonic() + LIMIT
    while child.poll() is None and time.monotonic() < deadline:
        with open(said, "rb") as file:
            is_up = b"dispatching" in file.read()  # before that it hears no signal
        if is_up and step.until(stage):
            with open(f"/proc/{child.pid}/task/{child.pid}/children", encoding="ascii") as file:
                for pid in map(int, file.read().split()):
                    os.kill(pid, step.number)
            return
        time.sleep(0.01)


def run(scene: Scene, every: int, jobs: int) -> list[Tried] | None:
    """None if this scene is not for it, or there is no strace."""
    if scene.name not in SCENES:
        return None
    if not shutil.which("strace"):
        print(f"outside  {scene.name:15} not tried: strace is not installed (on Debian: apt install strace)")
        return None
    folder = workshop()
    try:
        trial = Outside(scene, f"{folder}/{scene.name}")
        found = trial.points()
        every = min(every, max(1, len(found) // 4))
        return try_all(trial, found[zlib.crc32(scene.name.encode()) % every :: every], "strike", jobs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
