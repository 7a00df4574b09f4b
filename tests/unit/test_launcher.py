"""Starting a run and stopping it: real programs, real signals, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from helpers import printed, python, read, until, waited, write

from orchestrator import process, runs
from orchestrator.agents.base import ARGUMENT_LIMIT
from orchestrator.config import Config
from orchestrator.errors import AlreadyExists
from orchestrator.launcher import TERM_SECONDS, LocalLaunch, Started, Stopping, end_leftovers, environment

Start = Callable[..., Started]


@pytest.fixture
def start(folder: str, tmp_path: Path) -> Iterator[Start]:
    """Start a shell script, or a command line, as a run."""
    all_of_them = []

    def started(script: str = "", *argv: str, prompt: str = "", env: Mapping[str, str] | None = None) -> Started:
        stdin = write(f"{folder}/prompt.md", prompt)
        words = argv or ("/bin/sh", "-c", script)
        environ = dict(os.environ) if env is None else env
        all_of_them.append(LocalLaunch().start(folder, words, environ, str(tmp_path), stdin))
        return all_of_them[-1]

    yield started
    end_leftovers(folder)
    for one in all_of_them:
        waited(one.process)


def ended(one: Started, folder: str) -> int | None:
    waited(one.process)
    return runs.read_exit(folder)


# -- start --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137), ("kill -INT $$", 130),
     ("kill -SEGV $$", 139)],
)  # fmt: skip
def test_the_exit_status_is_written(start: Start, folder: str, script: str, status: int) -> None:
    assert ended(start(script), folder) == status


def test_a_program_that_is_not_there_has_its_status_too(start: Start, folder: str, tmp_path: Path) -> None:
    assert ended(start("", f"{tmp_path}/none"), folder) == 127
    os.unlink(f"{folder}/exit")
    assert ended(start("", write(tmp_path / "plain", "x")), folder) == 126


def test_the_status_is_written_though_the_whole_group_gets_the_signal(start: Start, folder: str) -> None:
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)):
        one = start("echo up; exec sleep 300")
        until(lambda: printed(f"{folder}/stdout.log").endswith("up\n"))
        os.killpg(one.process.pid, number)
        assert ended(one, folder) == status
        os.unlink(f"{folder}/exit")
        os.truncate(f"{folder}/stdout.log", 0)


def test_a_run_killed_with_its_wrapper_leaves_no_status(start: Start, folder: str) -> None:
    one = start("echo up; sleep 300")
    until(lambda: printed(f"{folder}/stdout.log"))
    os.killpg(one.process.pid, signal.SIGKILL)
    assert ended(one, folder) is None


def test_the_prompt_is_the_standard_input(start: Start, folder: str) -> None:
    prompt = "Größe\n\0" + "x" * 1_000_000 + "\nend"
    assert ended(start("cat; cat", prompt=prompt), folder) == 0
    assert printed(f"{folder}/stdout.log") == prompt


def test_output_goes_to_files_and_the_workplace_is_the_current_folder(
    start: Start, folder: str, tmp_path: Path
) -> None:
    ended(start('pwd; echo oops >&2; echo "$ORCHESTRATE_RUN_FOLDER"'), folder)
    assert printed(f"{folder}/stdout.log") == f"{os.path.realpath(tmp_path)}\n{folder}\n"
    assert read(f"{folder}/stderr.log") == "oops\n"


def test_arguments_arrive_as_they_are(start: Start, folder: str) -> None:
    words = ["a b", "$HOME", "`id`", "'", '"', "\n", "", "-n", "*", "é", "\\"]
    ended(start("", shutil.which("python3") or "", "-c", "import sys; print(sys.argv[1:])", *words), folder)
    assert printed(f"{folder}/stdout.log") == f"{words}\n"


SCRIPTS = (
    "echo $# $*; false; echo no",
    "# a comment\necho a\n\nexit 3",
    "pwd; cd /; pwd; in=1; set -- x y; echo $2",
    "trap 'echo bye' EXIT; nope",
    "trap 'echo term; exit 4' TERM; sh -c 'kill $PPID'; sleep 0.1; echo on",
    "if",
    "exit 5) ; (echo",
    "set -u; echo ${in-none} ${s-none} ${OLDPWD-none} $1",
    "cat; exec sh -c 'exit 6'",
    "(exit 7) || echo $?; { echo x; exit 8; } | cat",
    "echo $0; echo ${0}",
    "test $$ = $(sh -c 'echo $PPID')",
    "kill -KILL $$",
)  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_does_what_it_does_in_a_shell_of_its_own(
    start: Start, folder: str, script: str, tmp_path: Path
) -> None:
    words = ("/bin/sh", "-e", "-c", script, "script")
    alone = subprocess.run(words, input="given\n", capture_output=True, text=True, cwd=tmp_path, check=False)
    status = alone.returncode if alone.returncode >= 0 else 128 - alone.returncode
    found = ended(start("", *words, prompt="given\n"), folder)
    assert (found, printed(f"{folder}/stdout.log")) == (status, alone.stdout)
    assert bool(read(f"{folder}/stderr.log")) == bool(alone.stderr)


@pytest.mark.parametrize("bytes_of_it", [29_000, 131_000, ARGUMENT_LIMIT - 5, ARGUMENT_LIMIT])
def test_a_script_as_long_as_an_argument_may_be_is_started(start: Start, folder: str, bytes_of_it: int) -> None:
    script = "echo ok\n"
    script += "#" * (bytes_of_it - len(script))
    assert ended(start("", "/bin/sh", "-e", "-c", script, "script"), folder) == 0
    assert printed(f"{folder}/stdout.log") == "ok\n"


def test_a_run_has_a_session_of_its_own_and_no_descriptor_but_its_lock(start: Start, folder: str) -> None:
    held = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(held, True)
    try:
        one = start("ls -l /proc/$$/fd; ps -o sid= -p $$ 2>/dev/null || cut -d' ' -f6 /proc/$$/stat")
        ended(one, folder)
    finally:
        os.close(held)
    out = printed(f"{folder}/stdout.log")
    assert sorted(line.rpartition("/")[2] for line in out.splitlines() if "->" in line) == sorted(
        ["prompt.md", "stdout.log", "stderr.log", "alive"]
    )
    assert out.split()[-1] == str(one.process.pid)


def test_the_lock_is_held_until_the_last_heir_is_gone(start: Start, folder: str) -> None:
    assert not runs.is_alive(folder)
    one = start("setsid sleep 300 >/dev/null 2>&1 </dev/null & exit 0")
    assert ended(one, folder) == 0
    assert runs.is_alive(folder)
    with pytest.raises(AlreadyExists):
        start("exit 0")
    (pid,) = process.members(folder)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not runs.is_alive(folder))
    assert ended(start("exit 0"), folder) == 0


def test_what_cannot_be_started_raises_and_holds_nothing(folder: str, tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError):
        LocalLaunch().start(folder, ("true",), {}, f"{tmp_path}/none", os.devnull)
    with pytest.raises(OSError):
        LocalLaunch().start(folder, ("true",), {}, str(tmp_path), f"{tmp_path}/no prompt")
    assert not runs.is_alive(folder)
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_run_outlives_its_parent_and_its_status_is_learned_later(folder: str, tmp_path: Path) -> None:
    code = """
import os, sys
from orchestrator.launcher import LocalLaunch
folder, root = sys.argv[1:]
script = f"echo up; while [ ! -e {root}/gate ]; do sleep 0.01; done; exit 3"
LocalLaunch().start(folder, ("/bin/sh", "-c", script), dict(os.environ), root, os.devnull)
os.kill(os.getpid(), 9)
"""
    parent = python(code, folder, str(tmp_path))
    parent.wait(20)
    parent.communicate()
    until(lambda: printed(f"{folder}/stdout.log") == "up\n")
    assert runs.is_alive(folder)
    assert runs.read_exit(folder) is None
    write(tmp_path / "gate", "")
    until(lambda: not runs.is_alive(folder))
    assert runs.read_exit(folder) == 3


def test_where_there_is_no_room_for_a_status_the_record_takes_it(folder: str, tmp_path: Path) -> None:
    os.symlink("/dev/full", f"{folder}/exit")
    LocalLaunch().start(folder, ("/bin/sh", "-c", "exit 3"), dict(os.environ), str(tmp_path), os.devnull)
    until(lambda: not runs.is_alive(folder))
    assert runs.read_exit(folder) == 3


# -- environment --------------------------------------------------------------------------------

OURS = {
    "PATH": "/bin", "HOME": "/root", "LANG": "C", "ANTHROPIC_API_KEY": "a", "OPENAI_API_KEY": "o", "my_token": "t", "AWS_PROFILE": "w",
    "GITHUB_TOKEN": "g", "DB_PASSWORD": "p", "CLIENT_SECRET_ID": "c", "TOKENIZERS_PARALLELISM": "false", "KEYBOARD": "us",
}  # fmt: skip


@pytest.mark.fast
def test_secrets_are_withheld_and_all_else_is_passed() -> None:
    assert set(environment(OURS, Config().secrets, (), {})) == {
        "PATH",
        "HOME",
        "LANG",
        "TOKENIZERS_PARALLELISM",
        "KEYBOARD",
    }


@pytest.mark.fast
def test_what_an_agent_needs_is_passed_and_no_more() -> None:
    found = environment(OURS, Config().secrets, ("ANTHROPIC_*", "GITHUB_TOKEN"), {"X": "1", "HOME": "/x"})
    assert {name for name in found if name in OURS} == {
        "PATH", "HOME", "LANG", "TOKENIZERS_PARALLELISM", "KEYBOARD", "ANTHROPIC_API_KEY", "GITHUB_TOKEN",
    }  # fmt: skip
    assert (found["X"], found["HOME"]) == ("1", "/x")


@pytest.mark.fast
def test_a_secret_that_the_config_adds_by_name_is_passed() -> None:
    assert environment({}, ("*_TOKEN",), (), {"MY_TOKEN": "mine"}) == {"MY_TOKEN": "mine"}


def test_a_withheld_secret_does_not_reach_the_program(start: Start, folder: str) -> None:
    ended(
        start("env", env=environment({**os.environ, "MY_API_KEY": "s3cret"}, Config().secrets, (), {"ADDED": "yes"})),
        folder,
    )
    out = printed(f"{folder}/stdout.log")
    assert "s3cret" not in out
    assert "ADDED=yes\n" in out


# -- stop ---------------------------------------------------------------------------------------


def test_a_program_that_ends_when_asked_is_asked_once(start: Start, folder: str) -> None:
    one = start("trap 'echo INT; exit 5' INT; trap 'echo TERM' TERM; echo up; while :; do sleep 0.01; done")
    until(lambda: printed(f"{folder}/stdout.log") == "up\n")
    stopping = Stopping(one.identity, folder, 30.0, 100.0)
    stopping.step(100.0)
    assert ended(one, folder) == 5
    assert printed(f"{folder}/stdout.log") == "up\nINT\n"


def test_who_ignores_the_interrupt_is_terminated_after_the_grace_and_not_before(start: Start, folder: str) -> None:
    one = start("trap 'echo INT' INT; trap 'echo TERM; exit 7' TERM; echo up; while :; do sleep 0.01; done")
    until(lambda: printed(f"{folder}/stdout.log") == "up\n")
    stopping = Stopping(one.identity, folder, 30.0, 100.0)
    stopping.step(100.0)
    until(lambda: "INT" in printed(f"{folder}/stdout.log"))
    stopping.step(129.9)
    stopping.step(129.95)
    assert process.is_same(one.identity)
    assert "TERM" not in printed(f"{folder}/stdout.log")
    stopping.step(130.0)
    assert ended(one, folder) == 7


STUBBORN = """
trap '' INT TERM HUP QUIT
setsid /bin/sh -c "trap '' INT TERM HUP; echo \\$\\$ >>'$ORCHESTRATE_RUN_FOLDER/pids'; while :; do sleep 1; done" &
echo $$ >>"$ORCHESTRATE_RUN_FOLDER/pids"
while :; do sleep 1; done
"""


def test_an_agent_that_ignores_every_request_is_killed_with_its_grandchild_in_another_session(
    start: Start, folder: str
) -> None:
    one = start(STUBBORN)
    until(lambda: os.path.exists(f"{folder}/pids") and read(f"{folder}/pids").count("\n") == 2)
    known = [process.identity(int(pid)) for pid in read(f"{folder}/pids").split()]
    assert len({os.getsid(one.pid) for one in known}) == 2
    stopping = Stopping(one.identity, folder, 30.0, 100.0)
    stopping.step(100.0)
    stopping.step(130.0)
    assert all(process.is_same(one) for one in known)
    stopping.step(130.0 + TERM_SECONDS)
    until(lambda: not any(process.is_same(one) for one in known))
    waited(one.process)
    until(lambda: not process.members(folder))
    assert not runs.is_alive(folder)


def test_what_starts_behind_the_kill_is_killed_by_the_next_step(start: Start, folder: str) -> None:
    one = start("exit 0")
    waited(one.process)
    stopping = Stopping(one.identity, folder, 0.0, 100.0)
    stopping.step(200.0)
    late = subprocess.Popen(["sleep", "300"], env={process.RUN_FOLDER: folder})
    until(lambda: process.members(folder))
    stopping.step(201.0)
    assert late.wait(10) == -signal.SIGKILL


def test_what_a_run_left_behind_is_ended(start: Start, folder: str) -> None:
    one = start("for n in 1 2 3; do setsid sleep 300 >/dev/null 2>&1 & done; exit 0")
    ended(one, folder)
    assert end_leftovers(folder) == 3
    assert process.members(folder) == []
    assert end_leftovers(folder) == 0
