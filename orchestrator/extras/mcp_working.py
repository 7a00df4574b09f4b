"""What a model may do with the queue over MCP: `asking`, and fetch tasks and report on them. One method a tool. Says
nothing of the protocol; `extras.mcp` serves it.

A model that works on a claimed task is silent for minutes. Over stdio its client is alive as long as this process is,
so `beat` says for it that its runs live, until QUIET_SECONDS after the last word about one.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import Field

from orchestrator import output
from orchestrator.clock import Clock
from orchestrator.errors import OrchestrateError
from orchestrator.extras.mcp_asking import Asking
from orchestrator.extras.mcp_words import AgentId, Claimed, Ended, Heard, Limit, Lines, Mine, Run, TaskId
from orchestrator.looking import TaskStatus
from orchestrator.pull import Assignment
from orchestrator.runs import Result

QUIET_SECONDS = 1800.0  # of a client over stdio, until its run has to be heard of by itself
PROMPT_LIMIT = 200_000  # characters


class Tools(Asking):
    """One root, for one client or several; one call at a time."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._clock = Clock()
        self._mine: dict[str, tuple[str, int, float]] = {}  # task → agent, run, when it was last spoken of (lived)

    # -- work -------------------------------------------------------------------------------

    def poll_tasks(
        self, agent_id: AgentId, status: Literal["pending", "assigned"] = "pending", limit: Limit = 10
    ) -> list[TaskStatus]:
        """What a registered agent could claim now, the best first (pending); or what it has (assigned)."""
        return self.queue.poll_tasks(agent_id, status, limit)

    def get_next_task(self, agent_id: AgentId, limit: Limit = 1) -> list[Claimed]:
        """Claim the best tasks that a registered agent can do; an empty list if there is nothing for it now."""
        return [self._claimed(one, agent_id) for one in self.queue.claim_tasks(agent_id, limit)]

    def assign_task(self, task_id: TaskId, agent_id: AgentId) -> Claimed:
        """Claim this very task for a registered agent; nobody else gets it then."""
        return self._claimed(self.queue.assign_task(task_id, agent_id), agent_id)

    def start_task(self, task_id: TaskId, agent_id: Mine = "", run: Run = 0) -> TaskStatus:
        """Say that the work on a claimed task begins."""
        self.queue.start_task(task_id, *self._who(task_id, agent_id, run))
        return self.queue.get_task_status(task_id)

    def heartbeat(self, agent_id: AgentId, task_id: str = "", run: Run = 0) -> Heard:
        """Say that a registered agent lives and still works on a task. One that is silent for 60 seconds loses it."""
        self.queue.heartbeat(agent_id, task_id, run)
        self._spoken_of(task_id)
        return Heard(agent_id, task_id, run)

    def report_progress(
        self,
        task_id: TaskId,
        percent: Annotated[float, Field(description="0 to 100.")],
        findings: Annotated[Any, Field(description="What was found so far: any JSON value, up to a megabyte.")] = None,
        agent_id: Mine = "",
        run: Run = 0,
    ) -> TaskStatus:
        """Say how far a task is, and what was found so far; anybody may read it while the work goes on."""
        self.queue.report_progress(task_id, percent, findings, *self._who(task_id, agent_id, run))
        return self.queue.get_task_status(task_id)

    def complete_task(
        self,
        task_id: TaskId,
        result: Annotated[str, Field(description="The answer; if left out, what the agent wrote to output_file.")] = "",
        metrics: Annotated[
            dict[str, float] | None, Field(description="Numbers; input, output, cached are tokens, cost_usd is money.")
        ] = None,
        files_modified: Lines = (),
        notes: Annotated[Lines, Field(description="What later agents should know.")] = (),
        known_issues: Annotated[Lines, Field(description="Found broken and not mended.")] = (),
        objectives: Annotated[Lines, Field(description="What should be done next.")] = (),
        agent_id: Mine = "",
        run: Run = 0,
    ) -> Ended:
        """Report that a claimed task is done; durable, and what depends on it may start, when this returns."""
        found = {
            "text": result, "files_modified": files_modified, "notes": notes, "known_issues": known_issues,
            "objectives": objectives,
        }  # fmt: skip
        return _ended(self.queue.complete_task(task_id, found, metrics, *self._who(task_id, agent_id, run)))

    def fail_task(
        self,
        task_id: TaskId,
        error: Annotated[str, Field(description="What went wrong, in one line.")],
        should_retry: Annotated[bool | None, Field(description="Left out: as the rules say; false: never.")] = None,
        agent_id: Mine = "",
        run: Run = 0,
    ) -> Ended:
        """Report that a claimed task did not work out."""
        return _ended(self.queue.fail_task(task_id, error, should_retry, *self._who(task_id, agent_id, run)))

    def give_back_task(self, task_id: TaskId, agent_id: AgentId, run: Run, why: str) -> Ended:
        """Give a claimed task back undone, through no fault of its own: it waits again, and no attempt is counted."""
        return _ended(self.queue.give_back(task_id, agent_id, run, why))

    # -- for those who serve it -------------------------------------------------------------

    def beat(self) -> None:
        """Say for those who claimed here that their runs live; no longer for one that nobody spoke of for long."""
        now = self._clock.lived()
        for task_id, (agent_id, run, spoken_at) in list(self._mine.items()):
            try:
                if now - spoken_at > QUIET_SECONDS:
                    del self._mine[task_id]
                else:
                    self.queue.heartbeat(agent_id, task_id, run)
            except OrchestrateError:  # it is not ours any more
                del self._mine[task_id]
            except OSError:  # again in a moment
                continue

    # -- inside -----------------------------------------------------------------------------

    def _claimed(self, one: Assignment, agent_id: str) -> Claimed:
        self._mine[one.task_id] = (agent_id, one.run, self._clock.lived())
        prompt = output.text(one.prompt_file, PROMPT_LIMIT)
        return Claimed(
            one.task_id, one.run, one.description, prompt, one.prompt_file, one.output_file, one.task_type,
            one.priority, one.requirements,
        )  # fmt: skip

    def _spoken_of(self, task_id: str) -> None:
        if mine := self._mine.get(task_id):
            self._mine[task_id] = (*mine[:2], self._clock.lived())

    def _who(self, task_id: str, agent_id: str, run: int) -> tuple[str, int]:
        """Inside a run of the dispatcher's, that run, if nothing else is said."""
        self._spoken_of(task_id)
        if task_id == os.environ.get("ORCHESTRATE_TASK_ID") and not agent_id and not run:
            number = os.environ.get("ORCHESTRATE_RUN", "")
            return os.environ.get("ORCHESTRATE_AGENT_ID", ""), int(number) if number.isdecimal() else 0
        return agent_id, run


def _ended(result: Result) -> Ended:
    return Ended(result.task_id, result.run, str(result.state), str(result.status), result.reason, result.output_file)
