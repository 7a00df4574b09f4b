"""The queue for models, by the official client: every tool, what can be read, errors, rubbish, and clients that go."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import anyio
import pytest
from integration.driver import REPOSITORY, Driver, until
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from orchestrator import TaskQueue
from orchestrator.errors import OrchestrateError, Refused
from orchestrator.extras import mcp_http, mcp_working
from orchestrator.extras.mcp import NO_MESSAGE, Server
from orchestrator.extras.mcp_words import PREFIX, TOOLS
from orchestrator.extras.mcp_working import Tools

Script = Callable[[Client], Awaitable[None]]


class Caller:
    """Calls tools by their short names, and notes which."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.called: set[str] = set()

    async def __call__(self, tool: str, **given: Any) -> Any:
        """What a tool that has to succeed gives."""
        self.called.add(tool)
        found = await self.client.call_tool(PREFIX + tool, given)
        assert not found.is_error, (tool, given, found.content)
        assert found.structured_content is not None
        [text] = [one.text for one in found.content]
        values = found.structured_content
        assert json.loads(text) == (values["result"] if list(values) == ["result"] else values)
        return values["result"] if list(values) == ["result"] else values

    async def refused(self, tool: str, **given: Any) -> str:
        """The one line of a tool that has to say no."""
        found = await self.client.call_tool(PREFIX + tool, given)
        assert found.is_error, (tool, given, found.structured_content)
        [text] = [one.text for one in found.content]
        assert "\n" not in text and "Traceback" not in text and len(text) < 400
        return str(text)


def over_stdio(root: Driver, script: Script) -> None:
    """A client, and the server that it starts as every client does; the server has nothing to say beside the protocol."""
    words = StdioServerParameters(
        command=sys.executable, args=["-m", "orchestrator.cli", "-C", str(root.root), "mcp"], env=root.environment
    )
    with open(root.root / "stderr", "w+") as errors:

        async def main() -> None:
            async with Client(stdio_client(words, errlog=errors)) as client:
                await script(client)

        anyio.run(main)
        errors.seek(0)
        assert errors.read() == ""


def within(root: Driver, script: Script) -> None:
    """The same in this process."""

    async def main() -> None:
        async with Client(Server(Tools(str(root.root)))) as client:
            await script(client)

    anyio.run(main)


def tasks(root: Driver) -> list[str]:
    return sorted(path.name for path in (root.root / "tasks").rglob("*.yaml"))


# -- tools ----------------------------------------------------------------------------------------


def test_a_model_does_everything_over_stdio(root: Driver) -> None:
    async def script(client: Client) -> None:
        offered = {one.name: one for one in (await client.list_tools()).tools}
        assert set(offered) == {PREFIX + name for name in TOOLS} and len(offered) >= 18
        for one in offered.values():
            assert one.description and one.output_schema and one.input_schema["additionalProperties"] is False
        assert offered[PREFIX + "get_task_status"].annotations.read_only_hint  # type: ignore[union-attr]
        call = Caller(client)

        me = await call("register_agent", agent_id="me", capabilities=["tidy"], max_concurrent_tasks=5)
        assert me["capabilities"] == ["tidy"] and me["max_concurrent_tasks"] == 5
        first = await call("create_task", content="Find sources", task_type="research", requirements=["tidy"])
        second = await call("create_task", content="Write", dependencies=[first["task_id"]], priority="high")
        third = await call("create_task", content="By name", preferred_agent="me", task_id="mine")
        assert (first["note"], third["task_id"]) == ("", "mine")
        assert "(did you mean 'tidy'?)" in (await call("create_task", content="x", requirements=["tody"]))["note"]

        routed = await call("route_task", task_id=first["task_id"])
        weighed = {row["agent"]: row["why"] for row in routed["agents"]}
        assert (weighed["me"], weighed["fake"]) == ("fetches its work itself", "lacks tidy")
        assert routed["agent"] == "" and "for worker me" in routed["reason"]
        assert "(did you mean 'tidy'?)" in (await call("route_task", requirements=["tody"]))["reason"]
        assert (await call("route_task"))["agent"] == "fake"
        assert (await call("should_rebalance"))["should_rebalance"] is False

        assert [one["task_id"] for one in await call("poll_tasks", agent_id="me")] == [first["task_id"], "mine"]
        mine = await call("assign_task", task_id="mine", agent_id="me")
        [claimed] = await call("get_next_task", agent_id="me")
        assert claimed["task_id"] == first["task_id"] and claimed["run"] == 1 and "Find sources" in claimed["prompt"]
        assert await call("get_next_task", agent_id="me", limit=3) == []
        held = {"task_id": claimed["task_id"], "agent_id": "me", "run": claimed["run"]}
        assert (await call("start_task", **held))["status"] == "running"
        assert (await call("report_progress", percent=50, findings={"sources": 3}, **held))["finding"] == {"sources": 3}
        assert (await call("heartbeat", **held))["run"] == 1
        status = await call("get_task_status", task_id=claimed["task_id"])
        assert (status["percent"], status["agent_id"], status["run"]) == (50.0, "me", 1)

        old = await call.refused("complete_task", task_id="mine", result="late", agent_id="me", run=7)
        assert "run 7 of mine is not me's" in old
        done = await call("complete_task", result="[1, 2]", notes="slow site", metrics={"input": 9, "rows": 2}, **held)
        assert (done["status"], done["outcome"]) == ("completed", "success")
        twice = await call.refused("complete_task", result="again", **held)
        assert "the task has ended (completed)" in twice and "late.md" in twice
        given = await call("give_back_task", task_id="mine", agent_id="me", run=mine["run"], why="no time")
        assert given["status"] == "pending"
        await call("assign_task", task_id="mine", agent_id="me")
        failed = await call("fail_task", task_id="mine", error="no", should_retry=False, agent_id="me", run=2)
        assert failed["status"] == "failed"
        assert (await call("retry_task", task_id="mine", note="try again"))["status"] == "pending"

        assert (await call("queue_statistics"))["completed_count"] == 1
        assert [one["task_id"] for one in await call("query_tasks", status="completed")] == [claimed["task_id"]]
        assert {one["agent_id"] for one in await call("list_agents")} == {"fake", "me"}
        health = await call("get_agent_health", agent_id="me")
        assert health["status"] == "healthy" and health["runs"] == 2
        learned = await call("learn_capability", agent_id="me", capability="sql", confidence=0.9)
        assert learned["learned"] == {"sql": 0.9}
        statistics = await call("agent_statistics")
        assert statistics["total_agents"] == 2 and statistics["skill_distribution"]["sql"] == 1
        await call("unregister_agent", agent_id="me")
        assert call.called == set(TOOLS)

        assert (await call("get_task_status", task_id=second["task_id"]))["status"] == "pending"
        read = (await client.read_resource(f"orchestrate://results/{claimed['task_id']}")).contents[0]
        assert json.loads(read.text)["text"] == "[1, 2]\n" or json.loads(read.text)["text"] == "[1, 2]"

    over_stdio(root, script)
    assert TaskQueue(str(root.root)).get_task_status("mine").status == "pending"


def test_what_is_wrong_is_one_line_that_says_what_to_do_and_changes_nothing(root: Driver) -> None:
    root.drop("task_001")

    async def script(client: Client) -> None:
        call = Caller(client)
        await call("register_agent", agent_id="me")
        [claimed] = await call("get_next_task", agent_id="me")
        before = tasks(root)
        for tool, given, said in (
            ("craete_task", {"content": "x"}, "(did you mean 'orchestration_create_task'?)"),
            ("create_task", {}, "content: is missing; add it"),
            ("create_task", {"contents": "x"}, "takes no 'contents' (did you mean 'content'?)"),
            (
                "create_task",
                {"content": "x", "priority": "urgent"},
                "priority: Input should be 'high', 'normal' or 'low'",
            ),
            ("create_task", {"content": " "}, "is empty"),
            ("create_task", {"content": "x", "preferred_agent": "fale"}, "(did you mean 'fake'?)"),
            ("create_task", {"content": "x", "task_id": "../x"}, "may hold letters"),
            ("create_task", {"content": "x", "requirements": [1]}, "requirements.0: "),
            ("get_task_status", {"task_id": "tsk_001"}, "(did you mean 'task_001'?)"),
            ("get_task_status", {"task_id": "../../config"}, "no such task"),
            ("query_tasks", {"created_after": "yesterday"}, "write a time such as"),
            ("query_tasks", {"limit": 0}, "limit: "),
            ("poll_tasks", {"agent_id": "mee"}, "(did you mean 'me'?)"),
            ("get_agent_health", {"agent_id": "fke"}, "(did you mean 'fake'?)"),
            ("register_agent", {"agent_id": "two", "max_concurrent_tasks": 0}, "1 or more, not 0"),
            ("register_agent", {"agent_id": "me"}, "choose another id"),
            ("register_agent", {"agent_id": "fake"}, "choose another"),
            ("unregister_agent", {"agent_id": "me"}, "has task_001; complete or fail that first"),
            ("unregister_agent", {"agent_id": "fake"}, "is an agent of config.yaml"),
            ("list_agents", {"capability": "tidy"}, "no agent has the capability 'tidy' now"),
            ("learn_capability", {"agent_id": "me", "capability": "a b", "confidence": 1}, "capability 'a b' may hold"),
            ("learn_capability", {"agent_id": "me", "capability": "sql", "confidence": 2}, "a number from 0 to 1"),
            ("get_next_task", {"agent_id": "me"}, "has task_001 already"),
            ("assign_task", {"task_id": "task_001", "agent_id": "me"}, "has task_001 already"),
            ("report_progress", {"task_id": "task_001", "percent": 101}, "from 0 to 100"),
            (
                "report_progress",
                {"task_id": "task_001", "percent": 1, "findings": "x" * 10_000_000},
                "1,000,000 is the most",
            ),
            ("report_progress", {"task_id": "task_001", "percent": 1, "agent_id": "me", "run": 2}, "run 2 of task_001"),
            ("heartbeat", {"agent_id": "me", "task_id": "task_001", "run": 9}, "run 9"),
            ("complete_task", {"task_id": "task_001", "run": 1, "agent_id": "me", "metrics": {"a b": 1}}, "is no name"),
            ("route_task", {"task_id": "nope"}, "no such task"),
        ):
            line = await call.refused(tool, **given)
            assert said in line, (tool, line)
        assert tasks(root) == before
        assert (await call("get_task_status", task_id="task_001"))["percent"] is None
        assert (await call("complete_task", task_id="task_001", agent_id="me", run=claimed["run"]))[
            "status"
        ] == "completed"

    within(root, script)


def test_a_fault_of_ours_is_a_report_and_no_traceback(root: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskQueue, "get_queue_statistics", lambda self: 1 / 0)
    monkeypatch.setattr("orchestrator.extras.mcp_reading.listed", lambda queue: 1 / 0)

    async def script(client: Client) -> None:
        said = await Caller(client).refused("queue_statistics")
        report = Path(said.partition("The report: ")[2])
        assert "a fault of ours" in said and "ZeroDivisionError" in report.read_text()
        report.unlink()
        with pytest.raises(MCPError, match="a fault of ours") as failed:
            await client.list_resources()
        os.unlink(str(failed.value).partition("The report: ")[2])

    within(root, script)


def test_others_are_answered_while_one_call_takes_long(root: Driver) -> None:
    server = Server(Tools(str(root.root)))
    ended: list[str] = []

    async def main() -> None:
        async with Client(server) as client, anyio.create_task_group() as group:
            turn = threading.Event()
            taken = threading.Event()

            def long() -> None:
                taken.set()
                assert turn.wait(60)

            async def slow() -> None:
                await client.call_tool(PREFIX + "queue_statistics", {})
                ended.append("the call")

            holder = threading.Thread(target=server.alone, args=(long,))
            holder.start()
            assert await anyio.to_thread.run_sync(taken.wait, 60)
            group.start_soon(slow)
            await anyio.wait_all_tasks_blocked()
            await client.list_tools()
            ended.append("the list")
            turn.set()
            await anyio.to_thread.run_sync(holder.join)

    anyio.run(main)
    assert ended == ["the list", "the call"]


# -- who lives ------------------------------------------------------------------------------------


def test_a_run_of_a_quiet_client_lives_until_it_has_ended_and_not_for_ever(
    root: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.drop("one")
    root.drop("two")
    tools = Tools(str(root.root))
    tools.register_agent("me", max_concurrent_tasks=2)
    claimed = tools.get_next_task("me", 2)
    alive = [root.runs(one.task_id) / "1" / "alive" for one in claimed]
    for path in alive:
        os.utime(path, (1, 1))
    tools.complete_task(claimed[1].task_id, agent_id="me", run=1)
    os.utime(alive[1], (1, 1))
    tools.beat()
    assert alive[0].stat().st_mtime > 1 and alive[1].stat().st_mtime == 1
    os.utime(alive[0], (1, 1))
    monkeypatch.setattr(mcp_working, "QUIET_SECONDS", -1.0)
    tools.beat()
    monkeypatch.undo()
    tools.beat()
    assert alive[0].stat().st_mtime == 1


def test_inside_a_run_a_report_is_about_that_run(root: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    root.drop("one")
    tools = Tools(str(root.root))
    tools.register_agent("me")
    [claimed] = tools.get_next_task("me")
    for name, value in (("TASK_ID", "one"), ("AGENT_ID", "me"), ("RUN", "2")):
        monkeypatch.setenv(f"ORCHESTRATE_{name}", value)
    with pytest.raises(OrchestrateError, match="run 2"):
        tools.report_progress("one", 5)
    assert tools.report_progress("one", 5, agent_id="me", run=claimed.run).percent == 5.0


# -- read -----------------------------------------------------------------------------------------


def test_pages_tasks_and_results_are_read_and_nothing_outside_them(root: Driver) -> None:
    pages = root.root / "context"
    (pages / "notes").mkdir(parents=True)
    (pages / "a page.md").write_text("# Words: é\n")
    (pages / "notes/big.md").write_bytes(b"first\n" + b"x" * 1_000_000)
    (pages / "link.md").symlink_to(root.root / "config.yaml")
    (pages / "elsewhere").symlink_to(root.root / "tasks")
    os.mkfifo(pages / "fifo.md")
    root.drop("één", priority="high")
    root.drop("a_file", id="another_id")

    async def script(client: Client) -> None:
        async def text(uri: str) -> str:
            return str((await client.read_resource(f"orchestrate://{uri}")).contents[0].text)

        found = {one.uri for one in (await client.list_resources()).resources}
        assert found == {
            "orchestrate://context/a%20page.md", "orchestrate://context/notes/big.md", "orchestrate://tasks/%C3%A9%C3%A9n",
            "orchestrate://tasks/another_id",
        }  # fmt: skip
        for uri in found:
            assert await text(uri.removeprefix("orchestrate://"))
        templates = (await client.list_resource_templates()).resource_templates
        assert [one.uri_template.partition("/{")[0][14:] for one in templates] == ["tasks", "results", "context"]
        assert await text("context/a%20page.md") == "# Words: é\n"
        big = await text("context/notes/big.md")
        assert big.startswith("[… 6 bytes before this are left out …]\nxxx") and "first" not in big
        task = json.loads(await text("tasks/één"))
        assert task["status"] == "pending" and task["priority"] == "high" and task["task"]["description"] == "Do één"
        for uri, said in (
            ("context/link.md", "a link stands in the way"),
            ("context/elsewhere/pending/één.yaml", "a link stands in the way"),
            ("context/fifo.md", "is no regular file"),
            ("context/notes", "is no regular file|Is a directory"),
            ("context/../config.yaml", "leaves the root"),
            ("context/%2e%2e%2fconfig.yaml", "leaves the root"),
            ("context/%2fetc/passwd", "leaves the root"),
            ("context/x%00y", "NUL"),
            ("context/none.md", "there is no such page"),
            ("tasks/..%2f..%2fconfig", "may hold letters"),
            ("tasks/none", "no such task"),
            ("results/één", r"has no result \(it is pending\)"),
            ("secrets/x", "there is no such resource"),
        ):
            with pytest.raises(MCPError, match=said):
                await text(uri)
        with pytest.raises(MCPError, match="there is no such resource"):
            await client.read_resource("file:///etc/passwd")

    within(root, script)


# -- rubbish, and clients that go -----------------------------------------------------------------

HELLO = (
    b'{"jsonrpc":"2.0","id":"hello","method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},'
    b'"clientInfo":{"name":"test","version":"1"}}}\n{"jsonrpc":"2.0","method":"notifications/initialized"}\n'
)


def line(number: int, tool: str, **given: Any) -> bytes:
    params = {"name": PREFIX + tool, "arguments": given}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode() + b"\n"


@contextmanager
def serving(root: Driver, code: str = "") -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes], IO[bytes]]]:
    """A server and its three pipes, to be spoken to by hand."""
    words = ["-c", code, str(root.root)] if code else ["-m", "orchestrator.cli", "-C", str(root.root), "mcp"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, *words], env=root.environment, stdin=pipe, stdout=pipe, stderr=pipe
    ) as child:
        assert child.stdin and child.stdout and child.stderr
        try:
            yield child, child.stdin, child.stdout, child.stderr
        finally:
            child.kill()


def test_rubbish_is_answered_and_so_is_all_that_was_asked_before_the_client_went(root: Driver) -> None:
    rubbish = (
        b"hello\n", b"\x00\xff\xfe\n", b"[]\n", b"[" * 100_000 + b"\n", b'{"jsonrpc":"2.0"}\n', b"9" * 9_000 + b"\n",
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}\n',
    )  # fmt: skip
    strange = (
        b'{"jsonrpc":"2.0","id":7,"method":"no/such"}\n',
        b'{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"x","arguments":"y"}}\n',
        line(9, "get_task_status", task_id={"a": 1}),
        line(10, "get_task_status", task_id="\ud800"),
    )
    good = [line(number, "create_task", content=f"No. {number}") for number in range(100, 110)]
    with serving(root) as (child, *_):
        out, err = child.communicate(
            b"".join((*rubbish, HELLO, *rubbish, *strange, *good, b'{"jsonrpc":"2.0","id"')), 60
        )
    answers = [json.loads(one) for one in out.splitlines()]
    assert child.returncode == 0 and err == b""
    assert all(one["jsonrpc"] == "2.0" for one in answers)
    assert sum(one.get("error", {}).get("message") == NO_MESSAGE for one in answers) >= 2 * len(rubbish) + 1
    known = {one["id"]: one for one in answers if one["id"] is not None}
    assert set(known) - {10} == {"hello", 7, 8, 9, *range(100, 110)} and "error" in known[7] and "error" in known[8]
    assert known[9]["result"]["content"][0]["text"] == "task_id: Input should be a valid string"
    assert {known[number]["result"]["structuredContent"]["task_id"] for number in range(100, 110)} == {
        one.task_id for one in TaskQueue(str(root.root)).list_tasks()
    }


def test_a_client_that_dies_in_the_middle_leaves_whole_files_and_no_process(root: Driver) -> None:
    acknowledged = set()
    with serving(root) as (child, stdin, stdout, stderr):
        stdin.write(HELLO + b"".join(line(number, "create_task", content=f"No. {number}") for number in range(40)))
        stdin.flush()
        while len(acknowledged) < 3:
            answer = json.loads(stdout.readline())
            if isinstance(answer["id"], int):
                acknowledged.add(answer["result"]["structuredContent"]["task_id"])
        stdout.close()
        stdin.close()
        assert child.wait(60) in (0, 1)
        assert stderr.read() == b""
    waiting = TaskQueue(str(root.root)).list_tasks()
    assert acknowledged <= {one.task_id for one in waiting}
    assert all(one.title.startswith("No. ") for one in waiting)
    assert os.listdir(root.root / "tasks/.drafts") == []


def test_the_server_says_for_its_quiet_client_that_it_lives_and_ctrl_c_ends_it(root: Driver) -> None:
    root.drop("one")
    code = "import sys; from orchestrator.extras import mcp; mcp.BEAT_SECONDS = 0.05; mcp.serve(sys.argv[1])"
    with serving(root, code) as (child, stdin, stdout, stderr):
        stdin.write(HELLO + line(1, "register_agent", agent_id="me"))
        stdin.flush()
        assert stdout.readline() and "structuredContent" in json.loads(stdout.readline())["result"]
        stdin.write(line(2, "get_next_task", agent_id="me"))
        stdin.flush()
        assert json.loads(stdout.readline())["result"]["structuredContent"]["result"][0]["task_id"] == "one"
        alive = root.runs("one") / "1" / "alive"
        os.utime(alive, (1, 1))
        until(lambda: alive.stat().st_mtime > 1)
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == -signal.SIGINT and stderr.read() == b""


# -- HTTP -----------------------------------------------------------------------------------------


def test_over_http_only_who_has_the_token_and_comes_from_here_is_let_in(root: Driver) -> None:
    child = root.spawn("mcp", "--http", "0", "--json")
    assert child.stdout and child.stderr
    found = json.loads(child.stdout.readline())
    path = Path(found["token_file"])
    assert path.parent == root.root / ".orchestrator" and path.stat().st_mode & 0o777 == 0o600
    strangers_are_turned_away(found["url"], path.read_text().strip())
    assert tasks(root) == []
    two_clients_share_the_work(root, found["url"], path.read_text().strip())
    child.terminate()
    assert child.wait(60) in (0, -signal.SIGTERM) and child.stderr.read() == ""


def strangers_are_turned_away(url: str, token: str) -> None:
    hello = json.loads(HELLO.splitlines()[0])
    accepts = {"Accept": "application/json, text/event-stream"}
    let_in = {**accepts, "Authorization": f"Bearer {token}"}

    async def main() -> None:
        async with create_mcp_http_client() as http:
            for headers, path, status in (
                (accepts, url, 401),
                ({**accepts, "Authorization": "Bearer wrong"}, url, 401),
                ({**accepts, "Authorization": token}, url, 401),
                ({**let_in, "Host": "evil.example"}, url, 421),
                ({**let_in, "Origin": "http://evil.example"}, url, 403),
                (accepts, url[:-4], 401),
                (let_in, url[:-4], 404),
            ):
                answer = await http.post(path, headers=headers, json=hello)
                assert (answer.status_code, token in answer.text) == (status, False), headers
            assert (await http.post(url, headers=let_in, content=b"x" * 10_000_000)).status_code == 413
            rubbish = await http.post(url, headers={**let_in, "Content-Type": "application/json"}, content=b"rubbish")
            assert rubbish.status_code == 400

    anyio.run(main)
    address = ("127.0.0.1", int(url.rpartition(":")[2].partition("/")[0]))
    with socket.create_connection(address) as torn:  # goes in the middle of a request
        torn.sendall(b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")


def two_clients_share_the_work(root: Driver, url: str, token: str) -> None:
    for number in range(6):
        root.drop(f"task_{number}")
    done: list[str] = []

    async def work(name: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            create_mcp_http_client(headers) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            call = Caller(client)
            await call("register_agent", agent_id=name)
            while found := await call("get_next_task", agent_id=name):
                await call(
                    "complete_task", task_id=found[0]["task_id"], result=name, agent_id=name, run=found[0]["run"]
                )
                done.append(found[0]["task_id"])

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(work, "one")
            group.start_soon(work, "two")

    anyio.run(main)
    assert sorted(done) == [f"task_{number}" for number in range(6)]
    assert TaskQueue(str(root.root)).get_queue_statistics()["completed_count"] == 6


def test_a_token_that_others_may_read_is_none(root: Driver) -> None:
    path = root.root / "token"

    def refusal() -> str:
        with pytest.raises(Refused) as refused:
            mcp_http.serve(str(root.root), 0, str(path), lambda url, file: None)
        return str(refused.value)

    assert "No such file" in refusal()
    path.write_text("a" * 40)
    path.chmod(0o640)
    assert "chmod 600" in refusal()
    path.chmod(0o600)
    path.write_text("short\n")
    assert "holds no token" in refusal()
    path.unlink()
    os.mkfifo(path, 0o600)
    assert "is no regular file" in refusal()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Refused, match="choose another port"):
            mcp_http.serve(str(root.root), taken.getsockname()[1], "", lambda url, file: None)


# -- the command ----------------------------------------------------------------------------------


def test_without_the_extra_it_is_said_what_to_type(root: Driver) -> None:
    (root.root / "without/mcp").mkdir(parents=True)
    (root.root / "without/mcp/__init__.py").write_text("raise ImportError\n")
    path = f"{root.root}/without:{root.environment['PYTHONPATH']}"
    done = root.run("mcp", PYTHONPATH=path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "pip install 'orchestrate-agents[mcp]'" in done.stderr
    assert root.run("status", PYTHONPATH=path).returncode == 0
    assert root.run("mcp", "--json", PYTHONPATH=path).returncode == 2


def test_the_command_line_loads_no_sdk() -> None:
    code = "import sys; from orchestrator.cli import commands, looks, machine, pulling; print(*sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    ).stdout
    assert not {"mcp", "mcp_types", "anyio", "starlette", "uvicorn", "pydantic"} & set(said.split())
