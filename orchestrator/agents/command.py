"""Any program that prints its answer, by config.yaml alone.

command: aider --yes-always --message-file {prompt_file}
prompt: file          # or stdin, or argument ({prompt})
output: text          # or json, with `answer: choices[0].message.content`
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from orchestrator.agents.base import ARGUMENT_LIMIT, Answer, Evidence, Invocation, Request, json_lines, tail_text
from orchestrator.agents.flags import Words
from orchestrator.agents.lookup import Step, clean, found, steps
from orchestrator.agents.shell import ONLY_SHELL
from orchestrator.agents.wording import ANSWER_LIMIT, by_status, wrote_answer
from orchestrator.errors import OrchestrateError, PromptTooLong
from orchestrator.states import Outcome

if TYPE_CHECKING:
    from orchestrator.task import Task


class CommandAgent:
    """A program we know nothing of but its settings."""

    kind = "command"
    needs_env: tuple[str, ...] = ()
    quiet_seconds = 0

    def refuses(self, task: Task) -> str:
        return ONLY_SHELL if task.run else ""

    def invoke(self, request: Request) -> Invocation:
        settings = request.settings
        steps(settings.answer)  # a path that cannot be read is told before a run is spent on it
        places = {"stdin": "", "argument": "{prompt}", "file": "{prompt_file}"}
        values = {
            "{prompt}": request.prompt,
            "{prompt_file}": request.prompt_path,
            "{output_file}": request.output_path,
        }
        put = [place for place in ("{prompt}", "{prompt_file}") if any(place in word for word in request.words)]
        wanted = places[settings.prompt]
        # Where no word has a place for it, it is the last; where one has, that says how it is handed over.
        added = (values[wanted],) if wanted and not put else ()
        argv = tuple(_filled(word, values) for word in request.words) + added
        if "{prompt}" in (*put, wanted):
            _refuse_as_argument(argv)
        return Invocation(argv, stdin=not wanted and not put)

    def read(self, evidence: Evidence) -> Answer:
        settings = evidence.settings
        if failed := by_status(evidence, settings.success_exit_codes):
            return failed
        whole = tail_text(evidence.stdout, ANSWER_LIMIT).strip()
        if not whole and ("{output_file}" in settings.command or wrote_answer(evidence)):
            return Answer(Outcome.SUCCESS)  # its answer is in that file
        if settings.output == "json":
            return _read_json(evidence.stdout, whole, settings.answer)
        if not whole:
            return Answer(Outcome.UNREADABLE, error="it succeeded, but printed nothing")
        return Answer(Outcome.SUCCESS, whole)

    def answered(self, last_line: str) -> bool:
        return False


def _filled(word: str, values: dict[str, str]) -> str:
    """The word with its places filled. What is put in is not looked at again."""
    for place, value in values.items():
        if place in word:
            return value.join(_filled(part, values) for part in word.split(place))
    return word


def _refuse_as_argument(argv: Words) -> None:
    longest = max((len(word.encode("utf-8", "replace")) for word in argv), default=0)
    if longest > ARGUMENT_LIMIT:
        raise PromptTooLong(
            f"the prompt makes an argument of {longest:,} bytes, and {ARGUMENT_LIMIT:,} is the most: "
            "set `prompt: stdin` or `prompt: file` for this agent"
        )
    if any("\0" in word for word in argv):
        raise OrchestrateError("the prompt holds a NUL, which no argument may: set `prompt: stdin` or `file`")


def _read_json(path: str, whole: str, answer: str) -> Answer:
    try:
        row = steps(answer)
    except OrchestrateError as error:
        return Answer(Outcome.UNREADABLE, error=str(error))
    documents, text = _search(path, whole, row)
    if not documents:
        wanted = answer or "a document"
        return Answer(Outcome.UNREADABLE, error=f"no JSON in its output, where {wanted} was looked for")
    if text is None:
        return Answer(Outcome.UNREADABLE, error=f"its JSON output has nothing at {answer} (`answer:` of its agent)")
    if not text.strip():
        return Answer(Outcome.UNREADABLE, error=f"its JSON output is empty at {answer}")
    return Answer(Outcome.SUCCESS, text)


def _search(path: str, whole: str, row: tuple[Step, ...]) -> tuple[int, str | None]:
    """How many documents there are, and the text at the path in the last that has it."""
    try:
        return 1, _text(found(json.loads(whole), *row), whole, row)
    except (ValueError, RecursionError):
        pass  # lines, then
    count = 0
    text: str | None = None
    for document in json_lines(path):
        count += 1
        value = found(document, *row)
        text = text if value is None else _text(value, whole, row)
    return count, text


def _text(value: object, whole: str, row: tuple[Step, ...]) -> str | None:
    if not row:
        return whole
    if value is None or isinstance(value, str):
        return value if value is None else clean(value)
    return json.dumps(value, ensure_ascii=False)
