"""The real programs, killed by strace at their system calls; then started again and judged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zlib

from inside import Point, Trial, Tried, reap, workshop
from inside import run as try_all
from scenes import Scene
from stage import REPOSITORY, Stage

SCENES = ("add", "cancel", "person", "archive", "init")  # scenes that are commands alone
CALLS = ("link", "linkat", "rename", "renameat2", "unlink", "mkdir", "fsync", "write", "pwrite64")


class Outside(Trial):
    """A scene whose commands are processes of their own."""

    def _run(self, stage: Stage, *options: str) -> list[int]:
        codes = []
        for number, words in enumerate(
            step for step in self.scene.steps if isinstance(step, tuple) and isinstance(step[0], str)
        ):
            with open(f"{stage.world}/said.{100 + number}", "wb") as out:
                done = subprocess.run(
                    ["strace", "-f", "-o", f"{stage.folder}/calls", "-e", f"trace={','.join(CALLS)}", *options,
                     sys.executable, "-m", "orchestrator.cli", *words],
                    cwd=stage.root, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL, check=False,
                    env={**os.environ, "CRASH_WORLD": stage.world, "ORCHESTRATE_ROOT": stage.root, "PYTHONPATH": REPOSITORY},
                )  # fmt: skip
            codes.append(done.returncode)
        return codes

    def points(self) -> list[tuple[str, int]]:
        """(call, which of them), undisturbed."""
        stage, most = self.stage(), dict.fromkeys(CALLS, 0)
        for words in [step for step in self.scene.steps if isinstance(step, tuple) and isinstance(step[0], str)]:
            one = Outside.__new__(Outside)
            one.scene = self.scene._replace(steps=[words])
            one._run(stage)
            with open(f"{stage.folder}/calls", encoding="utf-8", errors="replace") as file:
                text = file.read()
            most = {name: max(count, text.count(f" {name}(")) for name, count in most.items()}
        stage.remove()
        return [(name, n) for name, count in most.items() for n in range(1, count + 1)]

    def strike(self, point: tuple[str, int]) -> Tried:
        """Each command is killed at its n-th call of that name, as it enters it."""
        stage = self.stage()
        codes = self._run(stage, "-e", f"inject={point[0]}:signal=KILL:when={point[1]}")
        reap()
        return self.judged(stage, Point(point[1], f"{point[0]} of"), any(code < 0 or code == 137 for code in codes), ())


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
