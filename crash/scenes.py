"""What is going on while we kill: each scene is a tree that is prepared in peace, then steps under fire.

A step is a command line, the dispatcher for a while, or a person's hand. The same steps are run in
process (calls counted by `trap`) and from outside (system calls counted by strace).
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from stage import CONFIG, Serve, Stage, begun, drained, task_text

Step = Sequence[str] | Serve | Callable[[Stage], None]
SCRIPT = '. "$CRASH_WORLD/agent.sh"; say'


# A program that speaks as claude does, once its account may go on.
LIMITED = """\
agents:
  claude: {command: 'sh -c ". $CRASH_WORLD/agent.sh; fail 1 ''Error: rate limit reached''; events"'}
"""


class Scene(NamedTuple):
    """A name, and what is done."""

    name: str
    covers: str
    prepare: Sequence[Step]
    steps: Sequence[Step]
    may_end: Mapping[str, tuple[str, ...]] = {}  # states a task may have after all; completed if not named
    runs: Mapping[str, tuple[int, ...]] = {}  # how often it may have been executed; once if not named
    check: Callable[[Stage], list[str]] = lambda stage: []  # what else has to hold in the end
    fresh: bool = False  # what lives in it cannot be copied: prepared anew each time


def drop(task_id: str, script: str = "say", state: str = "pending", more: str = "") -> Step:
    """A person puts a task file there."""
    return lambda stage: stage.task(task_id, script, state, more)


def put(name: str, text: str) -> Step:
    """A person puts any file there."""
    return lambda stage: stage.write(name, text)


def copy(source: str, target: str) -> Step:
    """A person, or git, makes a copy below tasks/."""
    return lambda stage: stage.write(f"tasks/{target}", _text(f"{stage.root}/tasks/{source}"))


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def go(stage: Stage) -> None:
    """What agents wait for that `hold`."""
    go_on(f"{stage.world}/go")


def go_on(path: str) -> None:
    with open(path, "w", encoding="ascii"):
        pass


def taken_out(stage: Stage) -> bool:
    """A person moves the file of a running task back to pending."""
    if begun("one 1")(stage) and not os.path.exists(f"{stage.world}/moved"):
        os.rename(f"{stage.root}/tasks/assigned/one.yaml", f"{stage.root}/tasks/pending/one.yaml")
        go_on(f"{stage.world}/moved")
    return True


def cancelled(stage: Stage) -> bool:
    """What `cancel` does for a running task, as a person of another process."""
    if begun("one 1")(stage):
        go_on(f"{stage.root}/tasks/runs/one/1/cancelled")
    return begun("one 1")(stage)


def lost_completed(stage: Stage) -> None:
    """As `git checkout` does it: the file of a completed task is in pending again, and nowhere else."""
    os.rename(f"{stage.root}/tasks/completed/one.yaml", f"{stage.root}/tasks/pending/one.yaml")
    os.unlink(f"{stage.root}/tasks/completed/one_result.yaml")


def is_paused(stage: Stage) -> bool:
    """Whether an agent is paused."""
    folder = f"{stage.root}/.orchestrator/agents"
    return os.path.isdir(folder) and any(not name.startswith(".") for name in os.listdir(folder))


def end_pauses(stage: Stage) -> bool:
    """A person deletes them."""
    if not is_paused(stage):
        return False
    for name in os.listdir(f"{stage.root}/.orchestrator/agents"):
        with suppress(FileNotFoundError):  # a draft that has got its name meanwhile
            os.unlink(f"{stage.root}/.orchestrator/agents/{name}")
    return True


ended_badly = (
    drop("ill", "fail 1 'no such luck'; say", more="max_retries: 0\n"),
    drop("worse", "fail 1 'no such luck'; say", more="max_retries: 0\n"),
    drop("asks", "fail 1 'no such luck'; say", more="max_retries: 0\n"),
    drop("gone"),
    ("cancel", "gone"),
    Serve(),
)
lives = Serve(until=begun("one 1"), number=signal.SIGTERM)

SCENES = (
    Scene(
        "add",
        "submit, id allocation, the compiled copy of config.yaml",
        [drop("task_003"), Serve()],
        [("add", "first", "--run", SCRIPT), ("add", "second", "--run", SCRIPT, "--priority", "high"),
         ("add", "third", "--run", SCRIPT, "--id", "named")],
    ),
    Scene(
        "run",
        "claim, run, answer, merge, finish; a dependency; two at once",
        [drop("one"), drop("two"), drop("three", more="dependencies: [one]\n")],
        [Serve()],
    ),
    Scene(
        "retry",
        "a second attempt, at once and on the only slot; failed for good",
        [put("config.yaml", CONFIG.replace("max_instances: 2", "max_instances: 1")), drop("one", "fail 1 'no such luck'; say"), drop("two", "fail 9 'no such luck'; say", more="max_retries: 1\n")],
        [Serve()],
        may_end={"two": ("review",)},
        runs={"one": (2,), "two": (2,)},
    ),
    Scene(
        "person",
        "retry and cancel of what has ended, with a note",
        ended_badly,
        [("retry", "ill", "--note", "use the other door"), ("cancel", "asks"), ("retry", "gone"), Serve()],
        may_end={"ill": ("completed", "review"), "asks": ("failed", "review"), "worse": ("review",), "gone": ("completed", "failed")},
        runs={"ill": (1, 2), "gone": (0, 1)},
    ),
    Scene(
        "cancel",
        "cancel of a waiting task",
        [drop("one"), drop("two")],
        [("cancel", "one")],
        may_end={"one": ("completed", "failed")},
        runs={"one": (0, 1)},
    ),
    Scene(
        "cancel-running",
        "cancel of a running task without a dispatcher",
        [drop("one", "hold; say"), lives],
        [("cancel", "one")],
        may_end={"one": ("completed", "failed")},
        fresh=True,
    ),
    Scene(
        "cancel-served",
        "cancel of a running task by its dispatcher",
        [drop("one", "hold; say")],
        [Serve(meanwhile=cancelled)],
        may_end={"one": ("completed", "failed")},
    ),
    Scene(
        "take-up",
        "a dispatcher that goes, and the next that takes its runs up",
        [drop("one", "hold; say"), drop("two", "hold; fail 1 'no such luck'; say"), Serve(until=begun("one 1", "two 1"), number=signal.SIGTERM), go],
        [Serve()],
        runs={"two": (2,)},
        fresh=True,
    ),
    Scene(
        "stop-now",
        "a stop that ends the runs; they start again with the next dispatcher",
        [drop("one", "hold; say")],
        [Serve(until=begun("one 1"), number=signal.SIGQUIT), go, Serve()],
        runs={"one": (1, 2)},
    ),
    Scene(
        "taken-out",
        "a running task's file moved back by hand: its run is ended, and never are there two",
        [drop("one", "hold; say")],
        [Serve(meanwhile=taken_out, until=begun("one 2"), number=signal.SIGTERM), go, Serve()],
        runs={"one": (1, 2)},
    ),
    Scene(
        "rejected",
        "no task; a copy that came back; another text of a used id; a completed task's file that came back",
        [drop("one"), drop("two"), Serve(), lost_completed, copy("completed/two.yaml", "pending/two.yaml"),
         put("tasks/pending/bad.yaml", "no_key: of a task\n"), drop("good"),
         put("tasks/pending/other.yaml", task_text("another").replace("description", "id: two\ndescription"))],
        [Serve()],
        may_end={"bad": ("rejected",), "other": ("rejected",)},
        runs={"bad": (0,), "other": (0,)},
    ),
    Scene(
        "pause",
        "a rate limit: the agent is paused, a person ends the pause",
        [put("config.yaml", LIMITED), put("tasks/pending/one.yaml", "description: Do one\n")],
        [Serve(until=is_paused, number=signal.SIGINT), ("agents", "--resume", "claude"), Serve(until=lambda stage: drained(stage) or is_paused(stage))],
        runs={"one": (2,)},
    ),
    Scene(
        "archive",
        "ended tasks out of the way",
        [*ended_badly, drop("fine"), Serve()],
        [("archive", "--older-than", "0s")],
        may_end={"fine": ("completed", "archive"), "gone": ("failed", "archive"), "ill": ("review",), "worse": ("review",), "asks": ("review",)},
        runs={"gone": (0,)},
    ),
    Scene(
        "init",
        "a queue that is made where nothing is",
        [lambda stage: shutil.rmtree(stage.root), lambda stage: os.mkdir(stage.root)],
        [("init",), ("add", "first", "--run", SCRIPT)],
    ),
)  # fmt: skip
BY_NAME = {scene.name: scene for scene in SCENES}
