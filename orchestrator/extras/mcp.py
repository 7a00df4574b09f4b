"""The queue for models: `orchestrate mcp`, over stdio or streamable HTTP, by the official SDK.

The tools are the methods of `mcp_working.Tools`: their signatures are the schemas, their docstrings the descriptions.
A call runs in a thread, so that others are answered meanwhile, and one call after the other: a `TaskQueue` is for one
at a time. What goes wrong is one line for the model, and nothing was changed then.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, get_args, get_origin, get_type_hints

from pydantic import create_model

from orchestrator import __version__
from orchestrator.checking import checked
from orchestrator.errors import OrchestrateError, report, said
from orchestrator.extras import mcp_reading
from orchestrator.extras.mcp_words import INSTRUCTIONS, PREFIX, TOOLS
from orchestrator.extras.mcp_working import Tools
from orchestrator.names import nearest, printable

try:
    import anyio
    import anyio.to_thread
    from mcp.server.lowlevel.helper_types import ReadResourceContents
    from mcp.server.mcpserver import Context, MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.server.mcpserver.tools import Tool
    from mcp.server.stdio import stdio_server
    from mcp.shared._stream_protocols import ReadStream, WriteStream
    from mcp.shared.exceptions import MCPError
    from mcp.shared.message import SessionMessage
    from mcp_types import (
        INTERNAL_ERROR,
        INVALID_PARAMS,
        PARSE_ERROR,
        CallToolResult,
        ErrorData,
        InputRequiredResult,
        JSONRPCError,
        JSONRPCRequest,
        JSONRPCResponse,
        TextContent,
        ToolAnnotations,
    )
    from mcp_types import Resource as ListedResource
    from mcp_types import ResourceTemplate as ListedTemplate
except ImportError:
    raise OrchestrateError(
        "orchestrate mcp needs the MCP SDK, 2.3 or newer: pip install 'orchestrate-agents[mcp]'"
    ) from None

BEAT_SECONDS = 10.0
PARTING_SECONDS = 10.0
LISTEN = "subscriptions/listen"
NO_MESSAGE = "this line is no JSON-RPC message; write one JSON object a line"


class Server(MCPServer[Any]):
    """The tools of one root, as the protocol has them."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self._turn = threading.Lock()
        self._offered = {one.name: one for one in (self._tool(name, kind) for name, kind in TOOLS.items())}
        # What goes wrong is told to the client; nobody reads what an SDK logs of it.
        super().__init__(
            "orchestrate", version=__version__, instructions=INSTRUCTIONS, log_level="CRITICAL",
            tools=list(self._offered.values()),
        )  # fmt: skip

    def alone(self, call: Callable[[], Any]) -> Any:
        """What `call` gives, with no other call at the same time."""
        with self._turn:
            return call()

    async def serve(
        self, messages: ReadStream[SessionMessage | Exception], answers: WriteStream[SessionMessage]
    ) -> None:
        """Serve one client, until there is no more to read."""
        await self._lowlevel_server.run(messages, answers, self._lowlevel_server.create_initialization_options())

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool. Raises ToolError, with one line that says what to do."""
        tool = self._offered.get(name)
        if tool is None:
            raise ToolError(f"there is no tool {printable(name)!r}{nearest(name, self._offered)}")
        words, known = tool.fn_metadata, tool.parameters["properties"]
        if unknown := next((word for word in arguments if word not in known), ""):
            raise ToolError(
                f"{name} takes no {printable(unknown)!r}{nearest(unknown, known)}; it takes {', '.join(known)}"
            )
        checked(words.arg_model, words.pre_parse_json(arguments), known, ToolError)
        return await super().call_tool(name, arguments, context)

    async def list_resources(self) -> list[ListedResource]:
        """What there is to read now."""
        found = await self._read(lambda: mcp_reading.listed(self.tools.queue))
        return [ListedResource(uri=one.uri, name=one.title, mime_type=one.mime_type) for one in found]

    async def list_resource_templates(self) -> list[ListedTemplate]:
        """What else may be read."""
        return [
            ListedTemplate(uri_template=f"{mcp_reading.SCHEME}{path}", name=path.partition("/")[0], description=text)
            for path, text in mcp_reading.KINDS.items()
        ]

    async def read_resource(
        self, uri: object, context: Context[Any, Any] | None = None
    ) -> Iterable[ReadResourceContents]:
        """Read one. Raises MCPError, with one line."""
        found = await self._read(lambda: mcp_reading.read(self.tools.queue, str(uri)))
        return [ReadResourceContents(content=found.text, mime_type=found.mime_type)]

    async def _read(self, call: Callable[[], Any]) -> Any:
        try:
            return await anyio.to_thread.run_sync(self.alone, call)
        except OrchestrateError as problem:
            raise MCPError(INVALID_PARAMS, str(problem)) from None
        except OSError as error:
            raise MCPError(INTERNAL_ERROR, said(error)) from None
        except Exception:  # noqa: BLE001 (ours: a report to paste)
            raise MCPError(INTERNAL_ERROR, report()) from None

    def _tool(self, name: str, kind: str) -> Tool:
        method = getattr(self.tools, name)
        signature = inspect.signature(method, eval_str=True)

        def call(**given: Any) -> CallToolResult:
            try:
                found = _plain(self.alone(lambda: method(**given)))
            except OrchestrateError as problem:
                return _answer(str(problem))
            except OSError as error:
                return _answer(said(error))
            except Exception:  # noqa: BLE001 (ours: a report to paste)
                return _answer(report())
            return _answer(
                json.dumps(found, ensure_ascii=False), found if isinstance(found, dict) else {"result": found}
            )

        call.__name__ = name
        call.__signature__ = signature.replace(return_annotation=_model(signature.return_annotation))  # type: ignore[attr-defined]
        tool = Tool.from_function(
            call,
            name=PREFIX + name,
            description=" ".join(str(method.__doc__).split()),
            annotations=ToolAnnotations(
                read_only_hint=kind == "looks", destructive_hint=kind == "ends", open_world_hint=False
            ),
            structured_output=True,
        )
        tool.parameters["additionalProperties"] = False
        return tool


def _answer(text: str, values: dict[str, Any] | None = None) -> CallToolResult:
    content = [TextContent(type="text", text=text)]
    return CallToolResult(content=content, structured_content=values, is_error=values is None)


def _plain(value: Any) -> Any:
    """As JSON has it. What an agent left may hold bytes that are no text."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _model(hint: Any) -> Any:
    """The type of an answer as a model, so that it has a schema: a NamedTuple is an object, not a list."""
    if hasattr(hint, "_fields"):
        hints = get_type_hints(hint)
        fields: dict[str, Any] = {
            name: (_model(hints[name]), hint._field_defaults[name])
            if name in hint._field_defaults
            else _model(hints[name])
            for name in hint._fields
        }
        return create_model(hint.__name__, __doc__=hint.__doc__, **fields)
    if get_origin(hint) in (list, tuple, Sequence):
        return list[_model(get_args(hint)[0])]  # type: ignore[misc]
    return hint


def described(root: str) -> list[dict[str, Any]]:
    """Every tool as a client sees it: name, description, schemas."""
    found = anyio.run(Server(Tools(root)).list_tools)
    return [one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in found]


# -- stdio ----------------------------------------------------------------------------------------


def serve(root: str) -> None:
    """Serve whoever started this process, over stdio, until he closes our standard input."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever waits for a line cannot be woken; nothing is half done
    try:
        anyio.run(_serve, Server(Tools(root)))
    except* BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


async def _serve(server: Server) -> None:
    async with stdio_server() as (lines, out), anyio.create_task_group() as group:
        put, messages = anyio.create_memory_object_stream[SessionMessage | Exception]()
        answers = _Answers(out)

        async def sift() -> None:  # the SDK passes over what is no message; whoever wrote it would wait for ever
            async with put:
                async for one in lines:
                    if isinstance(one, Exception):
                        error = ErrorData(code=PARSE_ERROR, message=NO_MESSAGE)
                        await out.send(SessionMessage(JSONRPCError(jsonrpc="2.0", id=None, error=error)))
                    else:
                        answers.owe(one)
                        await put.send(one)
                await answers.settle()

        group.start_soon(sift)
        group.start_soon(_beat, server)
        await server.serve(messages, answers)
        group.cancel_scope.cancel()


class _Answers:
    """Where answers go. What was asked before the client closed its side is answered before we go."""

    def __init__(self, out: WriteStream[SessionMessage]) -> None:
        self._out = out
        self._owed: set[object] = set()
        self._settled = anyio.Event()

    def owe(self, asked: SessionMessage) -> None:
        """This one is to be answered; what a client listens to is not: that never ends."""
        if isinstance(asked.message, JSONRPCRequest) and asked.message.method != LISTEN:
            self._owed.add(asked.message.id)

    async def settle(self) -> None:
        """Wait until all are answered, or for PARTING_SECONDS."""
        with anyio.move_on_after(PARTING_SECONDS):
            while self._owed:
                self._settled = anyio.Event()
                await self._settled.wait()

    async def send(self, item: SessionMessage, /) -> None:
        await self._out.send(item)
        if isinstance(item.message, (JSONRPCResponse, JSONRPCError)):
            self._owed.discard(item.message.id)
            self._settled.set()

    async def aclose(self) -> None:
        await self._out.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def _beat(server: Server) -> None:
    while True:
        await anyio.sleep(BEAT_SECONDS)
        await anyio.to_thread.run_sync(server.alone, server.tools.beat)
