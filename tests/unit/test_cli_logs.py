"""`logs`: what the agent CLIs stream, made readable; every byte of it with --raw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import write

from orchestrator import runs
from orchestrator.cli.logs import Readable, print_log
from orchestrator.cli.told import KINDS, Told
from orchestrator.spool import Spool

pytestmark = pytest.mark.fast

TRANSCRIPTS = Path(__file__).parents[1] / "agents" / "transcripts"

TOLD = {
    "claude/tool_stream": """\
claude-opus-5-5, session d1bea18c-ca5a-40a4-b39e-8f0aa6c98e3b
I will write
→ Write: /home/dev/project/f.txt
← File created successfully at: /home/dev/project/f.txt (file state is current in your context — no need to Read it back)
→ Bash: echo hi; exit 3
← failed: Exit code 3 hi
done
= completed, 3,000 tokens in, 150 out, $0.0150
""",
    "codex/tool_shell_yolo": """\
session 01a1f8dd-1e1d-7ef3-9ab7-416da266b20f
→ shell: /bin/bash -lc 'echo hi > /home/dev/project/d.txt; echo out; exit 3'
← exit 3: out
done
= completed, 2,000 tokens in, 100 out
""",
    "gemini/tool_shell_yolo_stream": """\
auto, session 2d776c8d-2ea7-4f0a-ab9b-cb4e56af1fc0
on it
→ run_shell_command: echo hi > /home/dev/project/c.txt; echo OUTX; exit 3
← OUTX
FOUND OUTX in toolresult
= completed, 3,000 tokens in, 150 out
""",
    "cursor/tool_stream": """\
composer-2, session c6b62c6f-7ead-4fd6-9922-e952131177ff
I run it
→ shell: echo hi
← hi
done
= completed, 1,020 tokens in, 50 out
""",
    "codex/err_429": """\
session 01a1f8de-c3cf-7c03-ae38-c65168ab9e1c
! exceeded retry limit, last status: 429 Too Many Requests
= failed: exceeded retry limit, last status: 429 Too Many Requests
""",
}


def ran(queue: Spool, adapter: str, content: bytes) -> None:
    """Task one ran twice; the second run, of this adapter, printed this."""
    write(f"{queue.tasks}/completed/one.yaml", "description: x\n")
    write(f"{queue.run_folder('one', 1)}/stdout.log", "the first\n")
    folder = queue.run_folder("one", 2)
    write(f"{folder}/stdout.log", content)
    write(f"{folder}/stderr.log", "a warning\n")
    runs.write_record(folder, runs.Record("b", 0.0, 0.0, "agent_01", "mine", adapter, ("x",), ""))
    write(f"{folder}/result.yaml", "status: success\n")


@pytest.mark.parametrize("case", TOLD)
def test_a_recorded_stream_is_readable_by_default_and_whole_with_raw(
    queue: Spool, capfd: pytest.CaptureFixture[str], case: str
) -> None:
    content = (TRANSCRIPTS / f"{case}.out").read_bytes()
    ran(queue, case.partition("/")[0], content)
    for follow in (False, True):
        print_log(queue.root, "one", 0, False, False, follow, False)
        assert capfd.readouterr().out == TOLD[case]
    print_log(queue.root, "one", 0, False, True, False, False)
    assert capfd.readouterr().out == content.decode()
    print_log(queue.root, "one", 0, True, False, False, False)
    assert capfd.readouterr().out == "a warning\n"
    print_log(queue.root, "one", 1, False, False, False, False)
    assert capfd.readouterr().out == "the first\n"
    print_log(queue.root, "one", 0, False, False, False, True)
    said = json.loads(capfd.readouterr().out)
    assert (said["run"], said["task_id"], said["text"]) == (2, "one", content.decode())


def test_what_comes_in_pieces_is_printed_when_its_line_is_whole(capfd: pytest.CaptureFixture[str]) -> None:
    content = (TRANSCRIPTS / "gemini/tool_shell_yolo_stream.out").read_bytes()
    readable = Readable()
    for place in range(0, len(content), 7):
        readable.take(content[place : place + 7])
    readable.end()
    assert capfd.readouterr().out == TOLD["gemini/tool_shell_yolo_stream"]


def test_no_recorded_stream_is_too_much_and_none_is_silent() -> None:
    for kind in KINDS:
        for path in (TRANSCRIPTS / kind).glob("*.out"):
            lines = path.read_text(errors="replace").splitlines()
            told = Told()
            said = "".join(map(told.line, lines)) + told.end()
            assert bool(said.strip()) == bool("".join(lines).strip()), path


def test_what_is_no_event_is_shown_and_cannot_drive_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    readable = Readable()
    readable.take(b'plain \x1b[31mwords\n{"type": 7}\n{"type": "assistant", "message": {"content": "x"}}\n[1]\n{"half')
    readable.end()
    assert capfd.readouterr().out == 'plain �[31mwords\n[1]\n{"half\n'


def test_events_of_other_shapes_than_known_do_no_harm() -> None:
    values: list[object] = [None, 7, "x", [], {}, [None], [{"type": "text"}], {"type": "tool_use", "input": 7}]
    for kind in ("assistant", "user", "system", "message", "item.completed", "item.started", "tool_call", "result"):
        for value in values:
            for key in ("message", "item", "tool_call", "usage", "content", "delta", "result", "permission_denials"):
                Told().line(json.dumps({"type": kind, "subtype": "completed", "role": "assistant", key: value}))
                Told().line(
                    json.dumps(
                        {
                            "type": kind,
                            "message": {"content": [value]},
                            "item": {"type": "file_change", "changes": value},
                        }
                    )
                )


def test_on_a_terminal_no_byte_drives_it_but_raw_and_a_pipe_have_them_all(
    queue: Spool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    content = "wörds\r\n\x1b]0;title\x07\x1b[2J\tend\n"
    ran(queue, "command", content.encode())
    write(f"{queue.run_folder('one', 2)}/stderr.log", "\x1b[31m")
    write(f"{queue.own}/dispatcher.log", "\x1b[31m")
    print_log(queue.root, "one", 0, False, False, False, False)
    assert capfd.readouterr().out == content
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_log(queue.root, "one", 0, False, True, False, False)
    assert capfd.readouterr().out == content
    for follow in (False, True):
        print_log(queue.root, "one", 0, False, False, follow, False)
        assert capfd.readouterr().out == "wörds\n�]0;title��[2J\tend\n"
    for task_id in ("one", ""):
        print_log(queue.root, task_id, 0, bool(task_id), False, False, False)
        assert capfd.readouterr().out == "�[31m"
