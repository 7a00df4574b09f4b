"""One interpreter that has loaded the command line and forks for each command: a process of its own with its own words,
folder, environment, input and output, without the time to load everything again. The suite types 800 commands.

    warm = Warm(environment())
    done = warm.run(["tasks", "--json"], cwd=root, env=environment(), stdin=None, seconds=60)

What a fresh interpreter does with its environment (PYTHON…, locale) is no business of this one: see `Driver.run`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence


class Warm:
    """The side of whoever wants commands run."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env=dict(env), pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def run(
        self, words: Sequence[str | bytes], cwd: str, env: Mapping[str, str], stdin: str | None, seconds: float
    ) -> subprocess.CompletedProcess[str]:
        """One command to its end. Raises subprocess.TimeoutExpired; it is killed then."""
        asked = json.dumps({"words": [os.fsdecode(one) for one in words], "cwd": cwd, "env": dict(env)}).encode()
        asked_r, asked_w = os.pipe()
        out, err, said = os.pipe(), os.pipe(), os.pipe()
        into = os.pipe() if stdin is not None else (os.open(os.devnull, os.O_RDONLY), -1)
        socket.send_fds(self._socket, [b"!"], [asked_r, into[0], out[1], err[1], said[1]])
        for fd in (asked_r, into[0], out[1], err[1], said[1]):
            os.close(fd)
        kept: dict[int, bytes] = {}
        threads = [threading.Thread(target=_drain, args=(fd, kept)) for fd in (out[0], err[0])]
        threads.append(threading.Thread(target=_fill, args=(asked_w, asked)))
        if stdin is not None:
            threads.append(threading.Thread(target=_fill, args=(into[1], stdin.encode())))
        for one in threads:
            one.daemon = True
            one.start()
        pid = int(_line(said[0], 30.0))
        try:
            code = int(_line(said[0], seconds))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(list(words), seconds) from None
        finally:
            os.close(said[0])
        for one in threads:
            one.join(seconds)  # a daemon that kept its output open is a defect, as with subprocess.run
            if one.is_alive():
                raise subprocess.TimeoutExpired(list(words), seconds)
        text = [kept[fd].decode("utf-8", "replace").replace("\r\n", "\n") for fd in (out[0], err[0])]
        return subprocess.CompletedProcess(list(words), code, *text)

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._server.wait(30)


def _drain(fd: int, kept: dict[int, bytes]) -> None:
    parts = []
    while part := os.read(fd, 1 << 16):
        parts.append(part)
    os.close(fd)
    kept[fd] = b"".join(parts)


def _fill(fd: int, content: bytes) -> None:
    try:
        while content:
            content = content[os.write(fd, content) :]
    except BrokenPipeError:
        pass
    os.close(fd)


def _line(fd: int, seconds: float) -> bytes:
    text = b""
    while not text.endswith(b"\n"):
        if not select.select([fd], [], [], seconds)[0]:
            raise TimeoutError
        one = os.read(fd, 1)
        if not one:
            raise EOFError("the interpreter that runs the commands has died")
        text += one
    return text


def serve(number: int) -> None:
    """The other side: a process for each packet, which forks the command, waits, and says how it ended."""
    from orchestrator.cli import (  # noqa: F401
        commands,
        events,
        lane,
        logs,
        looks,
        machine,
        main,
        pages,
        pulling,
        records,
        stopping,
        submit,
        views,
        waits,
    )  # fmt: skip

    with socket.socket(fileno=number) as asking:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who waits for a command is nobody's concern
        while True:
            message, fds, _, _ = socket.recv_fds(asking, 1, 5)
            if not message:
                return
            if os.fork() == 0:
                asking.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _wait_for(fds)
            for fd in fds:
                os.close(fd)


def _wait_for(fds: list[int]) -> None:
    asked_fd, into, out, err, said = fds
    with open(asked_fd, "rb") as file:
        asked = json.load(file)
    pid = os.fork()
    if pid == 0:
        for target, fd in enumerate((into, out, err)):
            os.dup2(fd, target)
        os.closerange(3, 1000)
        _command(asked["words"], asked["cwd"], asked["env"])
    for fd in (into, out, err):
        os.close(fd)
    os.write(said, b"%d\n" % pid)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(said, b"%d\n" % status)
    os._exit(0)


def _command(words: list[str], cwd: str, env: dict[str, str]) -> None:
    code = 1
    try:
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        sys.stdin, sys.stdout = open(0, encoding="utf-8"), open(1, "w", encoding="utf-8")
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)
        from orchestrator import cli

        sys.argv = [f"{os.path.dirname(cli.__file__)}/__main__.py", *words]
        try:
            code = cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code & 0xFF)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
