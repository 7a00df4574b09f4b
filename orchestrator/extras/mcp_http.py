"""The queue for models over streamable HTTP, on this machine alone: `orchestrate mcp --http PORT`.

A page in a browser can send requests to 127.0.0.1 too, so each has to carry a token that only this user can read. Host
and Origin are checked by the SDK.
"""

from __future__ import annotations

import hmac
import os
import secrets
import socket
import stat
import tempfile
from collections.abc import Callable

from orchestrator import plain
from orchestrator.errors import Refused, said
from orchestrator.extras.mcp import Server
from orchestrator.extras.mcp_working import Tools

# isort: split
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

TOKEN = "mcp.token"  # in .orchestrator/
TOKEN_BYTES = 32


def serve(root: str, port: int, token_file: str, tell: Callable[[str, str], None]) -> None:
    """Serve whoever knows the token, on 127.0.0.1, until we are stopped. `tell` gets the URL and the token's file.

    Raises OrchestrateError.
    """
    path = token_file or f"{root}/.orchestrator/{TOKEN}"
    if not token_file:
        _make_token(path)
    guard = Guard(Server(Tools(root)).streamable_http_app(), _token(path))
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError as error:
            raise Refused(f"--http {port}: {error.strerror}; choose another port, or 0 for any that is free") from None
        sock.listen()  # from now on nobody is turned away
        tell(f"http://127.0.0.1:{sock.getsockname()[1]}/mcp", path)
        settings = uvicorn.Config(guard, log_level="critical", access_log=False, timeout_graceful_shutdown=2)
        uvicorn.Server(settings).run(sockets=[sock])


class Guard:
    """Lets in who has the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._said = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._said):
                text = "send 'Authorization: Bearer …' with the token that 'orchestrate mcp --http' named on start\n"
                return await PlainTextResponse(text, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
        return await self._app(scope, receive, send)


def _make_token(path: str) -> None:
    """Write a new one, if there is none; nobody ever sees half of it."""
    if os.path.lexists(path):
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fd, draft = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".draft-")  # mode 600
    try:
        with open(fd, "w") as file:
            file.write(f"{secrets.token_urlsafe(TOKEN_BYTES)}\n")
        os.link(draft, path)
    except FileExistsError:  # another server was faster
        pass
    finally:
        os.unlink(draft)


def _token(path: str) -> str:
    """Raises Refused for a file that others may read, or that holds no token."""
    try:
        with open(path, "rb", opener=plain.opener) as file:
            mode = os.fstat(file.fileno())
            token = file.read(4096).decode("ascii", "replace").strip()
    except OSError as error:
        raise Refused(f"the token: {said(error)}") from None
    if stat.S_IMODE(mode.st_mode) & 0o077 or mode.st_uid not in (0, os.geteuid()):
        raise Refused(f"{path}: others may read this token; chmod 600 it, or delete it for a new one")
    if len(token) < 16 or not token.isprintable() or " " in token:
        raise Refused(f"{path}: holds no token of 16 characters or more in one word")
    return token
