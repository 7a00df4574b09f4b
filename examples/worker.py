"""A worker in Python: counts words. Beside a queue (`orchestrate init`):

PYTHONPATH=examples orchestrate worker worker:Counter
orchestrate add "Count the words of this sentence" --requires counting
"""

from __future__ import annotations

from orchestrator import AgentWorker
from orchestrator.pull import Assignment


class Counter(AgentWorker):
    """Plain, and one task at a time."""

    capabilities = ("counting",)

    def execute(self, task: Assignment) -> str:
        """The answer is a text; a mapping could bring notes and metrics, too."""
        count = len(task.description.split())
        self.report_progress(50, findings={"words": count})
        return f"{count} words\n"


class Patient(AgentWorker):
    """The same with `async`, four at a time."""

    capabilities = ("counting",)
    max_concurrent_tasks = 4

    async def execute(self, task: Assignment) -> dict[str, object]:
        """With facts for the pages, and numbers for the record."""
        count = len(task.description.split())
        return {"text": f"{count} words\n", "notes": [f"{task.task_id} has {count} words"], "metrics": {"words": count}}
