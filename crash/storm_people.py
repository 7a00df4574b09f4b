"""The people of the storm: they add in five ways, retry, cancel, and move the queue with git."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator import process
from orchestrator.cli import setup
from orchestrator.places import Places
from orchestrator.spool import Spool
from orchestrator.states import State

BUSY = 60  # waiting tasks from which on nobody adds more


class People:
    """Each of `lives()` is one person, for a thread of its own, until `over`."""

    def __init__(self, root: str, seed: int, over: threading.Event, blame: Callable[[str], None]) -> None:
        self.root = root
        self.places = Places(root)
        self.acknowledged: set[str] = set()
        self.attempted: set[str] = set()  # nobody was told that they are there
        self.done: Counter[str] = Counter()
        self._seed = seed
        self._over = over
        self._blame = blame
        self._numbers: Counter[str] = Counter()
        self._known: set[int] = set()  # our own children: whoever started them takes their exit status
        self._spawning = threading.Lock()
        self._saving = threading.Lock()  # nobody runs git while he saves a file

    # -- set up -----------------------------------------------------------------------------

    def begin(self, config: Mapping[str, Any]) -> None:
        """A queue in a repository with two branches."""
        setup.make(self.root)
        with open(f"{self.root}/config.yaml", "w", encoding="utf-8") as file:
            json.dump(config, file)
        with open(f"{self.root}/.gitignore", "a", encoding="utf-8") as file:
            # What ended, and one page, stay as they are: the storm wants to find all of it there.
            file.write("/tasks/completed/\n/tasks/failed/\n/tasks/review/\n/tasks/rejected/\n/context/notes/\n")
        self._git("init", "-q", "-b", "main")
        self._git("add", "-A")
        self._git("commit", "-q", "-m", "a queue")
        self._git("branch", "other")

    def lives(self) -> list[Callable[[], None]]:
        """What each of them does all day."""
        return [
            lambda: self._live("adds", 0.3, self._add),
            lambda: self._live("adds too", 0.3, self._add),
            lambda: self._live("retries", 0.6, self._retry),
            lambda: self._live("cancels", 1.1, self._cancel),
            lambda: self._live("runs git", 2.0, self._run_git),
        ]

    def _live(self, name: str, pause: float, act: Callable[[random.Random], None]) -> None:
        chance = random.Random(f"{self._seed} {name}")
        while not self._over.wait(chance.uniform(0.0, 2 * pause)):
            try:
                act(chance)
            except FileNotFoundError:  # git takes an empty folder away, and brings it back
                continue
            except Exception as error:
                self._blame(f"who {name}: {type(error).__name__}: {error}")

    # -- commands ---------------------------------------------------------------------------

    def spawn(self, *words: str) -> subprocess.Popen[str]:
        """A command of ours, begun."""
        with self._spawning:
            child = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.cli", "--root", self.root, *words],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            self._known.add(child.pid)
        return child

    def wait(self, child: subprocess.Popen[str]) -> str:
        """What it said, once it has ended; a traceback is never right."""
        said = child.communicate()[0]
        self._known.discard(child.pid)
        if "Traceback" in said or child.returncode == 3:
            self._blame(f"{' '.join(child.args[3:])}: {child.returncode}: {said}")  # type: ignore[index]
        return said

    def reap(self) -> list[tuple[int, int]]:
        """Take the exit status of orphans that became our children: (pid, status) of each."""
        found = []
        with self._spawning:
            for pid in process.children_of_this_process() - self._known:
                status = process.stat(pid)
                if status and status.state == "Z":
                    try:
                        found.append(os.waitpid(pid, os.WNOHANG))
                    except ChildProcessError:
                        continue
        return found

    # -- adding -----------------------------------------------------------------------------

    def _add(self, chance: random.Random) -> None:
        if self.places.count(State.PENDING) > BUSY:
            return
        for _ in range(chance.randint(1, 3)):
            chance.choice(
                (self._add_by_command, self._add_by_program, self._add_and_die, self._drop, self._write_slowly)
            )(chance)

    def _new_name(self, way: str) -> str:
        with self._spawning:
            self._numbers[way] += 1
            return f"{way}_{self._numbers[way]:04d}"

    def _add_by_command(self, chance: random.Random) -> None:
        said = self.wait(
            self.spawn("add", "Do something", "--priority", chance.choice(("high", "normal", "low")))
        ).strip()
        if re.fullmatch(r"task_\d+", said):
            self._told(said, "added by command")
        else:
            self._blame(f"add said: {said}")

    def _add_by_program(self, chance: random.Random) -> None:
        self._told(Spool(self.root).add("Do something"), "added by program")

    def _add_and_die(self, chance: random.Random) -> None:
        """He pulls the plug: it is there, whole, or it is not."""
        name = self._new_name("cut")
        self.attempted.add(name)
        child = self.spawn("add", "Do something", "--id", name)
        time.sleep(chance.uniform(0.0, 0.08))
        child.kill()
        self.wait(child)
        self.done["adds killed"] += 1

    def _drop(self, chance: random.Random) -> None:
        name = self._new_name("drop")
        draft = f"{self.root}/tasks/pending/.{name}.tmp"
        with open(draft, "w", encoding="utf-8") as file:
            file.write(f"description: Do {name}\n")
        os.rename(draft, f"{self.root}/tasks/pending/{name}.yaml")
        self._told(name, "dropped")

    def _write_slowly(self, chance: random.Random) -> None:
        name = self._new_name("slow")
        with self._saving:
            with open(f"{self.root}/tasks/pending/{name}.yaml", "w", encoding="utf-8") as file:
                for line in ("description: |\n", f"  Do {name}\n", "  and all of it\n", "priority: high\n"):
                    file.write(line)
                    file.flush()
                    time.sleep(chance.uniform(0.0, 0.1))
            self._told(name, "written slowly")

    def _told(self, task_id: str, how: str) -> None:
        if task_id in self.acknowledged:
            self._blame(f"{task_id}: was given to two people")
        self.acknowledged.add(task_id)
        self.done[how] += 1

    # -- retrying and cancelling ------------------------------------------------------------

    def _retry(self, chance: random.Random) -> None:
        ids = [*self.places.ids(State.REVIEW), *self.places.ids(State.FAILED)]
        if ids:
            self.wait(self.spawn("retry", chance.choice(ids), "--note", "once more"))
            self.done["retried"] += 1

    def _cancel(self, chance: random.Random) -> None:
        ids = [*self.places.ids(State.PENDING), *self.places.ids(State.ASSIGNED)]
        if ids:
            self.wait(self.spawn("cancel", chance.choice(ids)))
            self.done["cancelled"] += 1

    # -- git --------------------------------------------------------------------------------

    def _git(self, *words: str) -> int:
        with self._spawning:
            child = subprocess.Popen(
                ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "gc.auto=0", *words],
                cwd=self.root, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            self._known.add(child.pid)
        code = child.wait()
        self._known.discard(child.pid)
        return code

    def _run_git(self, chance: random.Random) -> None:
        with self._saving:
            way = chance.choice(("commit", "commit", "branch", "stash", "reset"))
            if way == "commit":
                self._git("add", "-A")
                self._git("commit", "-q", "-m", "more")
            elif way == "branch":
                self._git("checkout", "-q", "other") and self._git("checkout", "-q", "-f", "other")
                time.sleep(chance.uniform(0.0, 0.5))
                self._home()
            elif way == "stash":
                self._git("stash", "-q")
                time.sleep(chance.uniform(0.0, 0.5))
                if self._git("stash", "pop", "-q"):
                    self._home()
                # What ran when it was stashed is deleted again by the pop, though it may wait by now: put it back.
                self._git("checkout", "-q", "HEAD", "--", "tasks/pending")
            else:
                self._git("reset", "-q", "--hard")
            self.done[f"git {way}"] += 1

    def _home(self) -> None:
        self._git("checkout", "-q", "-f", "main")
        self._git("reset", "-q", "--hard")
        self._git("stash", "clear")

    def git_home(self) -> None:
        """Everything that was ever committed is back, whatever branch it was on."""
        self._home()
