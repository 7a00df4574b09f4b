"""The queue from Python in ten steps: register, create, route, assign, execute, monitor, query, learn, depend, MCP.

    make test                                     # or: pip install .
    .venv/bin/python examples/quickstart.py       # in a new folder; or: examples/quickstart.py FOLDER

Nothing runs beside it: no server, no database, no dispatcher. Look into the folder when it is done: a task is a file,
and the folder that it lies in is its state.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time

from orchestrator import AgentRegistry, CapabilityRouter, TaskQueue
from orchestrator.errors import OrchestrateError
from orchestrator.router import refusal
from orchestrator.task import Task


def say(number: int, step: str, *lines: object) -> None:
    """What a step did."""
    print(f"{number:2}. {step:9} {lines[0]}")
    for line in lines[1:]:
        print(f"{'':13} {line}")


def main(root: str) -> None:
    """All ten, in a root of their own. Raises OrchestrateError: one line that says what, where and what to do."""
    # Any folder is a queue once its folders are there (`orchestrate init` adds config.yaml and pages for agents).
    os.makedirs(root, exist_ok=True)
    queue = TaskQueue(root)
    queue.make_folders()
    registry = AgentRegistry(root)  # who there is: the agents of config.yaml, and whoever registers

    # 1. Register: who can do what, and how many tasks at once. One small file each, .orchestrator/workers/.
    registry.register_agent("researcher", ["web", "search"], {"max_concurrent_tasks": 5})
    registry.register_agent("writer", ["prose"], {"max_concurrent_tasks": 2})
    workers = [one for one in registry.list_agents() if one in ("researcher", "writer")]
    web = [one for one in workers if one in registry.list_agents("web")]  # an agent of config.yaml may be able to, too
    say(1, "register", f"{', '.join(workers)}; of these for the web: {', '.join(web)}")

    # 2. Create: durable when the call returns. `requirements` are capabilities that its agent must have.
    sources = queue.create_task("Find three sources on rivers", "research", "high", requirements=["web"])
    digest = queue.create_task("Summarize last week", task_type="summary", priority="low")
    say(2, "create", f"{sources} (high), {digest} (low)", f"a task is a file: tasks/pending/{sources}.yaml")

    # 3. Route: of those that can do it, the best score: success rate × (1 − running ÷ most at once). Nothing is touched.
    #    Agents of config.yaml, and specialists, are handed their tasks by a dispatcher: `choose` says which slot, and
    #    `orchestrate why ID` shows all. Here it is for the workers to fetch it.
    task = Task(id=sources, description="Find three sources on rivers", requirements=("web",))
    agents = registry.everybody(time.time())
    weighed = {row.agent: row for row in CapabilityRouter(agents).weigh(task)}
    able = [agent for agent in agents if agent.worker_type and not refusal(agent, task)]
    best = max(able, key=lambda agent: agent.score).name
    say(3, "route", f"{sources} is for {best} (score {weighed[best].score:.2f}); writer {weighed['writer'].why}")

    # 4. Assign: atomic, and fenced. The number of the run has to come with every report; an old one is refused.
    #    (Or let the worker fetch the best it can do: `queue.get_next_task("researcher")`.)
    mine = queue.assign_task(sources, best)
    told = mine.prompt_file.removeprefix(f"{root}/")
    say(4, "assign", f"run {mine.run} of {mine.task_id} is {best}'s; what it is told: {told}")

    # 5. Execute: what a worker says while it works, and at the end. `findings` is any JSON value that others may read
    #    meanwhile; `notes` go into the pages that every later agent reads; `metrics` are numbers.
    queue.start_task(sources, best, mine.run)
    queue.report_progress(sources, 50, {"found": ["the Rhine"]}, best, mine.run)
    half = queue.get_task_status(sources)
    result = {"text": "The Rhine, the Nile and the Po.\n", "notes": ["the archive is slow before noon"]}
    queue.complete_task(sources, result, {"input": 900, "output": 80}, best, mine.run)
    try:
        queue.complete_task(sources, "once more", agent_id=best, run=mine.run)
    except OrchestrateError as refused:
        say(5, "execute", f"at {half.percent:g} % it had {half.finding}", f"a second report is refused: {refused}")

    # 6. Monitor: counted from the files each time, so that it cannot be out of step with them.
    status, count = queue.get_task_status(sources), queue.get_queue_statistics()
    health = registry.get_agent_health(best)
    well = f"success rate {count['success_rate']:.2f}"
    say(
        6, "monitor", f"{sources} is {status.status}; its answer: {status.output_file}",
        f"{count['pending_count']} pending, {count['completed_count']} completed, {well}",
        f"{best} is {health.status} ({health.runs} run, success rate {health.success_rate:.2f})",
    )  # fmt: skip

    # 7. Query: by status, type, agent, priority, and when it was created. `orchestrate events` searches what happened.
    done = queue.query_tasks({"status": "completed", "task_type": "research", "created_after": time.time() - 3600})
    low = queue.query_tasks({"priority": "low"})
    say(7, "query", f"completed research: {_ids(done)}; low priority: {_ids(low)}")

    # 8. Learn: say that an agent can do more, and how sure that is. From then on its runs of that kind decide, and what
    #    it is no good at fades. What it has done outside the queue can be told, too.
    registry.learn_new_capability("writer", "summaries", confidence=0.8)
    registry.update_agent_performance("writer", success=True, seconds=2.0, task_type="summaries")
    known = registry.get_agent_capability("writer")
    short = queue.create_task("Make it shorter", requirements=["summaries"])
    taken = queue.get_next_task("writer")
    assert taken is not None and taken.task_id == short  # normal goes before low
    sure = known.learned["summaries"]
    say(8, "learn", f"writer can {', '.join(known.all)} now (summaries: {sure:.2f}), and takes {taken.task_id}")
    queue.fail_task(taken.task_id, "no text to shorten", should_retry=False, agent_id="writer", run=taken.run)

    # 9. Depend: a task waits until all that it depends on is completed; it is told their answers then.
    draft = queue.create_task("Write a page about them", requirements=["prose"], dependencies=[sources])
    final = queue.create_task("Correct the page", requirements=["prose"], dependencies=[draft])
    could = queue.poll_tasks("writer")
    page = queue.assign_task(draft, "writer")
    with open(page.prompt_file, encoding="utf-8") as file:
        answer = "The Rhine, the Nile and the Po." in file.read()
    queue.complete_task(draft, "Three rivers …\n", agent_id="writer", run=page.run)
    then = queue.poll_tasks("writer")
    say(
        9, "depend", f"before: writer could do {_ids(could)}; {draft} was told the answer of {sources}: {answer}",
        f"after:  {_ids(then)}",
    )  # fmt: skip
    assert final in _ids(then)

    # 10. MCP: the same queue as tools for models. `orchestrate mcp` serves it to claude, codex, gemini and others.
    try:
        import mcp  # noqa: F401
    except ImportError:
        say(10, "mcp", "left out: the extra is not here; pip install 'orchestrate-agents[mcp]'")
    else:
        say(10, "mcp", f"a model has created {asyncio.run(_over_mcp(root))}")
    print(f"{'':13} look around: orchestrate -C {root} tasks")


async def _over_mcp(root: str) -> str:
    """Create a task as a model does: by the official client, which starts the server and talks to it over stdio."""
    from mcp import Client, StdioServerParameters, stdio_client

    server = StdioServerParameters(command=sys.executable, args=["-m", "orchestrator.cli", "-C", root, "mcp"])
    async with Client(stdio_client(server)) as client:
        found = await client.call_tool("orchestration_create_task", {"content": "Draw a map", "task_type": "drawing"})
        assert found.structured_content is not None, found.content
        return str(found.structured_content["task_id"])


def _ids(tasks: list) -> str:  # type: ignore[type-arg]
    return ", ".join(one.task_id for one in tasks) or "nothing"


if __name__ == "__main__":
    try:
        main(os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="quickstart-"))
    except OrchestrateError as error:  # FOLDER was no new one, perhaps
        sys.exit(f"quickstart: {error}")
