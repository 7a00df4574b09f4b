"""orchestrate: many coding-agent CLIs on a queue that is nothing but files.

The tour, in the order a task meets the rooms:

    spool       a task is a file, its state the folder it lies in, a rename the only change
    intake      from a dropped file to a waiting entry, or to rejected/ with a reason
    waiting     what waits, and which of it is next; router: on which agent; retry: or when again
    dispatcher  the one loop, the one thread that moves tasks
    launcher    starts a run in a session of its own; supervisor watches over it
    result      reads what the run left, and judges it; agents/: what each program prints
    context     merges the result into the pages that every later agent reads
    finish      commits: the task's file moves to completed/, failed/ or review/
    recovery    what a crash left, put right; starting is recovering
    pull        the same for workers that fetch their tasks: claim, report, taken back if silent

`TaskQueue` (queue) is the door for Python programs, `AgentWorker` (worker) a worker to be subclassed. `AgentRegistry`
(registry, known) says who can do what and how well it goes, `CapabilityRouter` (router) who would do a task.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.queue import TaskQueue
    from orchestrator.registry import AgentRegistry
    from orchestrator.router import CapabilityRouter
    from orchestrator.worker import AgentWorker

__version__ = "0.1.0"
__all__ = ["AgentRegistry", "AgentWorker", "CapabilityRouter", "TaskQueue", "__version__"]


def __getattr__(name: str) -> object:
    # Loaded when asked for: `orchestrate add` and `status` import this package, and answer in milliseconds.
    if name == "TaskQueue":
        from orchestrator import queue

        return queue.TaskQueue
    if name == "AgentWorker":
        from orchestrator import worker

        return worker.AgentWorker
    if name == "AgentRegistry":
        from orchestrator import registry

        return registry.AgentRegistry
    if name == "CapabilityRouter":
        from orchestrator import router

        return router.CapabilityRouter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
