"""Read what a run left, and judge it: by the adapter's events and the exit status, never by words
that happen to stand in the output."""

from __future__ import annotations

import os
import re
import textwrap
from typing import Any, NamedTuple

from orchestrator import output, plain
from orchestrator.agents.base import Agent, Answer, Evidence
from orchestrator.config import BUILT_IN, AgentConfig
from orchestrator.errors import InvalidTask, said
from orchestrator.names import printable
from orchestrator.reading import parse_mapping
from orchestrator.runs import FACTS, FACTS_EXAMPLE, words
from orchestrator.states import Outcome
from orchestrator.together import Together

CANNOT_EXECUTE = (126, 127)  # what a shell, env(1) and the loader of shared libraries say then
TEXT_LIMIT = 2_000_000  # characters of an answer that are kept; the log has all that the cap left
# Models indent the fence, forget to close it, write ~~~ or `orchestrate yaml`: a question must not get lost by that.
_BLOCK = re.compile(
    r"^[ \t]*(`{3,}|~{3,})[ \t]*orchestrate\b[^\n]*\n(.*?)(?:^[ \t]*\1[ \t]*\r?$|\Z)",
    re.MULTILINE | re.DOTALL | re.IGNORECASE,
)
_KEY = re.compile(rf"({'|'.join(FACTS)})[ \t]*:[ \t]*(.*)")
_NOTHING = {"", "none", "n/a", "na", "-", "nothing", "no", "[]"}


class Verdict(NamedTuple):
    """What became of a run."""

    outcome: Outcome
    error: str
    answer: Answer
    facts: dict[str, tuple[str, ...]]
    exit_code: int | None


def judge(
    folder: str,
    adapter: Agent,
    settings: AgentConfig,
    ended_at: float,
    stopped: Outcome | None = None,
    stopped_why: str = "",
    answered: bool = False,
    together: Together | None = None,
    *,
    exit_code: int | None,
) -> Verdict:
    """The verdict on a run that has ended. `stopped` says why we ended it, if we did; `answered`,
    that it had given its final answer and only did not go away; `exit_code`, how its program ended, if that is known.

    Writes the run's output.md if the agent did not; it is there and durable after `together.sync()`.
    """
    evidence = Evidence(
        f"{folder}/stdout.log", f"{folder}/stderr.log", 0 if answered else exit_code, settings, folder, ended_at
    )
    own, text, lies, kept = f"{folder}/output.md", "", False, False
    try:
        answer = adapter.read(evidence)
        lies = plain.is_there(own)
        if kept := lies and plain.is_plain(own) and os.path.getsize(own) > 0:
            with open(own, "rb", opener=plain.opener) as file:
                text = file.read(4 * TEXT_LIMIT).decode("utf-8", "replace")
    except PermissionError as problem:
        if not plain.is_lasting(problem):
            raise
        plain.aside(own, files_too=True)  # nothing is lost of it
        answer, kept = Answer(Outcome.UNREADABLE, error=f"what it left cannot be read: {said(problem)}"), False
    outcome, error = answer.outcome, answer.error
    if outcome is not Outcome.SUCCESS and output.was_cut(evidence.stdout):
        error += " (its output was cut: limits.max_output_mb)"
    if stopped in (Outcome.TIMEOUT, Outcome.STUCK) and outcome is Outcome.UNAVAILABLE:
        error = f"{stopped_why}: {error}"
    elif stopped is not None:
        outcome, error = stopped, stopped_why
    elif exit_code and not plain.is_there(evidence.stdout):
        outcome, error = Outcome.OUT_OF_RESOURCES, "its output could not be opened: no room on the disk"
    elif outcome is not Outcome.SUCCESS and exit_code is None and not answered:
        outcome = Outcome.LOST
        error = "its wrapper or the machine died, and how it ended is not known"
    elif outcome is Outcome.AGENT_ERROR and _never_began(adapter.kind, exit_code or 0, evidence.stdout):
        outcome = Outcome.NOT_STARTED
    group = together or Together()
    if kept:
        group.file(own)
    else:
        text = _cut(answer.text)
        if lies:
            plain.aside(own)
        group.publish(own, text.encode("utf-8", "replace"), over=True)
    if together is None:
        group.sync()
    facts: dict[str, tuple[str, ...]] = {}
    if outcome is Outcome.SUCCESS:
        try:
            facts = read_facts(answer.text) or read_facts(text)
        except InvalidTask as problem:
            outcome, error = Outcome.UNREADABLE, f"the orchestrate block in its answer: {problem}"
        if facts.get("questions"):
            outcome, error = Outcome.NEEDS_ANSWER, "asks: " + "; ".join(facts["questions"])
    return Verdict(outcome, printable(" ".join(error.split()), 500), answer, facts, exit_code)


def _never_began(kind: str, exit_code: int, stdout: str) -> bool:
    """Whether its program was never up: a shell could not start it, or it did not say the first word that it is
    known to say. A task's own script is the task's."""
    silent = os.stat(stdout).st_size == 0
    return silent and (kind in BUILT_IN or (kind != "shell" and exit_code in CANNOT_EXECUTE))


def read_facts(text: str) -> dict[str, tuple[str, ...]]:
    """The structured facts of an answer: its last ```orchestrate block. Raises InvalidTask if that
    cannot be read; {} if there is none."""
    bodies = [textwrap.dedent(body.expandtabs()).strip() for _, body in _BLOCK.findall(text)]
    bodies = [body for body in bodies if body and body != FACTS_EXAMPLE]  # an echo of the prompt says nothing
    if not bodies:
        return {}
    try:
        values = parse_mapping(bodies[-1].encode("utf-8", "replace"))
    except InvalidTask as problem:
        values = _by_lines(bodies[-1])
        if not values:
            raise problem from None
    facts = {key: words(values[key]) for key in FACTS if values.get(key)}
    return {key: kept for key, found in facts.items() if (kept := tuple(x for x in found if x.lower() not in _NOTHING))}


def _by_lines(body: str) -> dict[str, Any]:
    """The facts of a block that is no YAML: one forgotten quote must not cost the work of a whole run."""
    found: dict[str, list[str]] = {}
    key = ""
    for line in body.splitlines():
        match = _KEY.match(line)
        if match:
            key, rest = match[1], match[2].strip()
            found.setdefault(key, [])
            if rest.startswith("["):
                found[key] += [one.strip().strip("\"'") for one in rest.strip("[]").split(",")]
            elif rest:
                found[key].append(rest.strip("\"'"))
        elif key and line.strip():
            text = line.strip()
            if text.startswith("- ") or not found[key]:
                found[key].append(text.removeprefix("- ").strip().strip("\"'"))
            else:
                found[key][-1] += " " + text
    return dict(found)


def _cut(text: str) -> str:
    if len(text) <= TEXT_LIMIT:
        return text
    half = TEXT_LIMIT // 2
    return f"{text[:half]}\n\n[… {len(text) - TEXT_LIMIT:,} characters left out …]\n\n{text[-half:]}"
