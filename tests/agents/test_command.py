from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.agents.base import Evidence, Request
from orchestrator.agents.command import CommandAgent
from orchestrator.errors import OrchestrateError
from orchestrator.states import Outcome

AGENT = CommandAgent()


@pytest.mark.parametrize(
    ("command", "prompt", "argv", "stdin"),
    [
        ("aider --yes", "stdin", ["aider", "--yes"], True),
        ("aider {prompt} {prompt_file}", "stdin", ["aider", "Do {output_file}.", "FOLDER/prompt.md"], False),
        ("aider -m {prompt}", "file", ["aider", "-m", "Do {output_file}."], False),
        ("sh -c 'cat {prompt_file}'", "stdin", ["sh", "-c", "cat FOLDER/prompt.md"], False),
        ("aider --message", "argument", ["aider", "--message", "Do {output_file}."], False),
        ("aider {prompt} --yes", "argument", ["aider", "Do {output_file}.", "--yes"], False),
        ("gemini --prompt={prompt}", "argument", ["gemini", "--prompt=Do {output_file}."], False),
        ("aider -f", "file", ["aider", "-f", "FOLDER/prompt.md"], False),
        ("aider -f {prompt_file} -y", "file", ["aider", "-f", "FOLDER/prompt.md", "-y"], False),
        (
            "codex -o{output_file} --x={output_file}",
            "stdin",
            ["codex", "-oFOLDER/answer.md", "--x=FOLDER/answer.md"],
            True,
        ),
    ],
)
def test_command_line(
    request_for: Callable[..., Request], command: str, prompt: str, argv: list[str], stdin: bool
) -> None:
    request = request_for(command, "Do {output_file}.", prompt=prompt)
    invocation = AGENT.invoke(request)
    assert invocation.argv == tuple(word.replace("FOLDER", request.folder) for word in argv)
    assert (invocation.stdin, invocation.env) == (stdin, {})


@pytest.mark.parametrize(("prompt", "fits"), [("x" * 131_071, True), ("x" * 131_072, False), ("é" * 65_536, False)])
def test_one_argument_has_a_limit(request_for: Callable[..., Request], prompt: str, fits: bool) -> None:
    request = request_for("aider", prompt, prompt="argument")
    if fits:
        assert AGENT.invoke(request).argv == ("aider", prompt)
    else:
        with pytest.raises(OrchestrateError, match=r"131,072 bytes.*`prompt: stdin` or `prompt: file`"):
            AGENT.invoke(request)
    for mode in ("stdin", "file"):
        AGENT.invoke(request_for("aider", prompt, prompt=mode))


def test_no_argument_holds_a_nul(request_for: Callable[..., Request]) -> None:
    with pytest.raises(OrchestrateError, match="NUL"):
        AGENT.invoke(request_for("aider", "a\0b", prompt="argument"))


@pytest.mark.parametrize("path", ["a[", "a[x]", "a b", "a..b", "[1", "a.", "a[1.5]"])
def test_a_path_that_is_none_is_refused_before_the_run(
    request_for: Callable[..., Request], written: Callable[..., Evidence], path: str
) -> None:
    with pytest.raises(OrchestrateError, match="JSON path"):
        AGENT.invoke(request_for("x", answer=path))
    assert AGENT.read(written('{"a": 1}', output="json", answer=path)).outcome is Outcome.UNREADABLE


DOCUMENT = """{
  "result": {"text": "hello", "none": null, "blank": " ", "list": [1, {"é": true}]},
  "choices": [{"message": {"content": "chosen"}}], "items": [{"text": "a"}, {"text": "z"}],
  "a key": {"b.c": "quoted"}
}
"""
LINES = """starting up
{"type": "step", "result": {"text": "early"}}
{"type": "step", "result": {"text": "late"}}
{"type": "done", "result": {"text": null}}
{"cut
"""


@pytest.mark.parametrize(
    ("stdout", "path", "text"),
    [
        (DOCUMENT, "result.text", "hello"),
        (DOCUMENT, "$.result.text", "hello"),
        (DOCUMENT, "$.choices[0].message.content", "chosen"),
        (DOCUMENT, "items[-1].text", "z"),
        (DOCUMENT, "['a key'][\"b.c\"]", "quoted"),
        (DOCUMENT, "result.list", '[1, {"é": true}]'),
        (DOCUMENT, "result.list[0]", "1"),
        (DOCUMENT, "", DOCUMENT.strip()),
        (DOCUMENT, "$", DOCUMENT.strip()),
        ('[{"text": "in a list"}]', "[0].text", "in a list"),
        (LINES, "result.text", "late"),
        (LINES, "type", "done"),
        (LINES, "", LINES.strip()),
        ('{"a": "\\ud83d"}', "a", "?"),
    ],
)
def test_json_answers(written: Callable[..., Evidence], stdout: str, path: str, text: str) -> None:
    answer = AGENT.read(written(stdout, output="json", answer=path))
    assert (answer.outcome, answer.text, answer.error) == (Outcome.SUCCESS, text, "")


@pytest.mark.parametrize(
    ("stdout", "path", "words"),
    [
        (DOCUMENT, "result.answer", "nothing at result.answer"),
        (DOCUMENT, "items[2].text", "nothing at items[2].text"),
        (DOCUMENT, "items[-3]", "nothing at items[-3]"),
        (DOCUMENT, "items.text", "nothing at items.text"),
        (DOCUMENT, "result[0]", "nothing at result[0]"),
        (DOCUMENT, "result.none", "nothing at result.none"),
        (DOCUMENT, "result.blank", "empty at result.blank"),
        (LINES, "answer", "nothing at answer"),
        ("just words", "result.text", "no JSON in its output, where result.text"),
        ("just words", "", "no JSON"),
        ("", "result.text", "no JSON"),
        ("[" * 100_000, "a", "no JSON"),
    ],
)
def test_json_without_the_answer(written: Callable[..., Evidence], stdout: str, path: str, words: str) -> None:
    answer = AGENT.read(written(stdout, output="json", answer=path))
    assert answer.outcome is Outcome.UNREADABLE
    assert words in answer.error


@pytest.mark.parametrize(
    ("stdout", "stderr", "code", "good", "outcome", "words"),
    [
        ("the answer\n", "429 rate limit\n", 0, (0,), Outcome.SUCCESS, "the answer"),
        ("Error: not logged in\n", "", 0, (0,), Outcome.SUCCESS, "Error: not logged in"),
        ("partly\n", "", 3, (0, 3), Outcome.SUCCESS, "partly"),
        (b"caf\xe9", "", 0, (0,), Outcome.SUCCESS, "caf\ufffd"),
        (" \n", "", 0, (0,), Outcome.UNREADABLE, "printed nothing"),
        ("out\n", "first\nlast\n\n", 1, (0,), Outcome.AGENT_ERROR, "exit status 1: last"),
        ("one\ntwo\n", "\n", 2, (0,), Outcome.AGENT_ERROR, "exit status 2: two"),
        ("", "", 137, (0,), Outcome.AGENT_ERROR, "exit status 137: it printed nothing"),
        ("fine\n", "\x1b[31mred\x07\n", 0, (1,), Outcome.AGENT_ERROR, "exit status 0: red\\x07"),
        ("fine\n", "", None, (0,), Outcome.LOST, "not known"),
    ],
)
def test_text_answers(
    written: Callable[..., Evidence],
    stdout: str | bytes,
    stderr: str,
    code: int | None,
    good: tuple[int, ...],
    outcome: Outcome,
    words: str,
) -> None:
    answer = AGENT.read(written(stdout, stderr, code, success_exit_codes=good))
    assert answer.outcome is outcome
    assert (answer.text if outcome is Outcome.SUCCESS else answer.error) == words or words in answer.error


def test_an_answer_in_a_file_needs_no_output(written: Callable[..., Evidence]) -> None:
    for output in ("text", "json"):
        evidence = written("", command="x -o {output_file}", output=output, answer="a")
        assert AGENT.read(evidence).outcome is Outcome.SUCCESS


def test_it_has_no_last_word() -> None:
    assert not AGENT.answered('{"type":"result"}')
