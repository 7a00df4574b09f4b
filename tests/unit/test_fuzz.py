"""Whatever stands in a file: never an exception, never a hang, always a reason of one line; nothing lost.

The examples are the same each time. For others, and more: FUZZ=20000 pytest tests/unit/test_fuzz.py
"""

from __future__ import annotations

# ruff: noqa: RET503
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from helpers import read, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator import config, history
from orchestrator.agents import AGENTS
from orchestrator.agents.base import Answer, Evidence
from orchestrator.cli import status
from orchestrator.config import AgentConfig, Config
from orchestrator.context import Context
from orchestrator.errors import InvalidConfig, InvalidTask, OrchestrateError
from orchestrator.intake import Intake
from orchestrator.recovery import Recovery
from orchestrator.registry import AgentRegistry
from orchestrator.result import judge, read_facts
from orchestrator.rules import built, stated
from orchestrator.runs import FACTS, Result, assigned_run, read_exit, read_record, read_result
from orchestrator.spool import Spool
from orchestrator.starter import Starter
from orchestrator.states import ENDED, Outcome, State
from orchestrator.task import FIELDS, Task, parse
from orchestrator.writing import to_yaml

MORE = int(os.environ.get("FUZZ", "0"))


def fuzzed(examples: int) -> Any:
    return settings(
        max_examples=MORE or examples,
        derandomize=not MORE,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


# -- what can stand in a file ---------------------------------------------------------------------

KEYS = (*FIELDS, "content", "preferred_agent_type", "agents", "queue", "retry", "limits", "notes", "questions", "task_id",
        "agent_id", "run", "status", "completed_at", "goes_to", "paused_until", "reason", "retry_at", "tokens", "boot",
        "started_at", "started_monotonic", "argv", "pid", "max_size", "command", "fake", "counts", "<<", "x")  # fmt: skip
SCALARS = ("", "x", "no", "010", "12:30", "0o7", "1e999", "-1", "1" * 30, ".inf", "2025-01-15T10:00:00Z", "0001-01-01", "~", "true",
           "success", "pending", "completed", "|\n  a\n  b", ">\n  a", "'it''s'", '"\\u0007\\ud800"', '"\\x1b[31m"', "../../etc", "/etc/passwd", "task_001",
           "[a, b]", "{a: b}", "[[[[", "{a: [b, {c: d}]}", "&a x", "*a", "!!python/object:os.system x", "% x", "@x", "`x`", "\t", "\u202e", "é", "e\u0301")  # fmt: skip
LINES = st.builds(
    lambda key, mark, value: f"{key}{mark}{value}\n",
    st.sampled_from(KEYS),
    st.sampled_from((": ", ":", " : ", "")),
    st.sampled_from(SCALARS),
)
LOOSE = st.sampled_from(
    (
        "---\n",
        "...\n",
        "<<<<<<< HEAD\n",
        ">>>>>>> x\n",
        "- a\n",
        "  b: c\n",
        "#\n",
        "\n",
        "? x\n",
        "%YAML 1.1\n",
        "\0",
        "\ufeff",
        "}",
        "]",
    )
)
DOCUMENTS = st.lists(st.one_of(LINES, LOOSE), max_size=8).map(
    lambda parts: "".join(parts).encode("utf-8", "surrogatepass")
)
CONTENTS = st.one_of(
    DOCUMENTS,
    DOCUMENTS.map(lambda text: b"description: do it\n" + text),
    st.binary(max_size=200),
    DOCUMENTS.map(lambda text: text.decode("utf-8", "replace").encode("utf-16")),
    DOCUMENTS.map(lambda text: b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n")),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(), st.text(max_size=12), st.sampled_from(SCALARS)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(("type", "result", "usage", "error", "message", "text", "item", "x")), inner, max_size=4)),
    max_leaves=8,
)  # fmt: skip
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("subtype", "is_error", "result", "usage", "error", "item", "message", "stats", "status", "role", "content", "session_id", "thread_id", "errors", "permission_denials", "api_error_status", "num_turns", "total_cost_usd", "rate_limit_info", "delta", "payload"), VALUES),
        "type": st.one_of(
            st.sampled_from(("result", "assistant", "system", "rate_limit_event", "turn.completed", "turn.failed", "turn.started",
                             "thread.started", "item.completed", "message", "error", "init", "tool_use")),
            VALUES,
        ),
    },
)  # fmt: skip
OUTPUTS = st.lists(
    st.one_of(EVENTS.map(lambda event: json.dumps(event).encode()), CONTENTS, st.just(b'{"a":' * 3000)), max_size=5
).map(b"\n".join)


@contextmanager
def queue() -> Iterator[Spool]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        made = Spool(folder)
        made.make_folders()
        yield made


def said(reason: Exception) -> None:
    text = str(reason)
    assert text and text.isprintable() and len(text) < 2000, text


# -- what people write ----------------------------------------------------------------------------


@fuzzed(300)
@given(CONTENTS, st.text(max_size=20))
def test_a_task_file_is_a_task_or_has_a_reason(content: bytes, stem: str) -> None:
    try:
        task = parse(content, stem)
    except InvalidTask as reason:
        return said(reason)
    assert task.id and "/" not in task.id and task.title.isprintable()
    assert json.dumps(stated(task))


@fuzzed(150)
@given(CONTENTS)
def test_a_config_is_a_config_or_has_a_reason(content: bytes) -> None:
    with queue() as made:
        write(f"{made.root}/config.yaml", content)
        try:
            found = config.load(made.root)
        except InvalidConfig as reason:
            return said(reason)
        assert AgentRegistry(made.own, found, {}).agents is not None


NAMES = st.one_of(
    st.text(st.characters(blacklist_characters="/\0"), min_size=1, max_size=40).map(lambda t: t.encode("utf-8", "surrogateescape" if not any("\ud800" <= c <= "\udfff" for c in t) else "replace")),
    st.binary(min_size=1, max_size=250).map(lambda t: t.replace(b"/", b"_").replace(b"\0", b"_")),
    st.sampled_from((b"a", b"A", "é".encode(), "e\u0301".encode(), b"x" * 250, b"-rf", b"$(touch x)", b"a\nb", b"\x1b[31m")),
)  # fmt: skip


@fuzzed(80)
@given(st.dictionaries(NAMES, CONTENTS, max_size=4), st.sampled_from((b".yaml", b".yml")))
def test_a_dropped_file_waits_or_is_put_aside_and_a_good_one_waits(files: dict[bytes, bytes], ending: bytes) -> None:
    with queue() as made:
        pending = f"{made.tasks}/pending".encode()
        given_: list[bytes] = []
        for name, content in files.items():
            path = pending + b"/" + name[:250] + ending
            with open(path, "wb") as file:
                file.write(content)
            given_.append(content)
        write(f"{made.tasks}/pending/good one.yaml", "id: the_good_one\ndescription: x\n")
        told: list[tuple[str, str, str]] = []
        intake = Intake(made, Config(), ["shell"], lambda *fact: told.append(fact))
        for later in (0.0, 10.0, 20.0):
            intake.look(None, time.time() + later)
            while intake.next_look() == 1.0:
                intake.go_on(time.time() + later)
        assert "the_good_one" in intake.waiting.by_id
        assert all(text.isprintable() for _, _, text in told), told
        kept = []
        for state in (State.PENDING, State.REJECTED):
            for name in os.listdir(f"{made.tasks}/{state}".encode()):
                if not name.endswith(b".reason.txt"):
                    with open(f"{made.tasks}/{state}".encode() + b"/" + name, "rb") as file:
                        kept.append(file.read())
                if state is State.REJECTED and not name.endswith(b".reason.txt"):
                    reason = read(f"{made.tasks}/rejected/{os.fsdecode(name)}.reason.txt")
                    assert reason.count("\n") == 1 and reason[:-1].isprintable()
        assert set(given_) <= set(kept), "what somebody wrote is gone"
        view = status.view(made.root)
        assert json.dumps(view)


# -- what agents leave ----------------------------------------------------------------------------


@fuzzed(200)
@given(st.text(max_size=40), CONTENTS, st.sampled_from(("```", "~~~", "  ```")))
def test_a_block_of_facts_is_read_or_has_a_reason(before: str, body: bytes, fence: str) -> None:
    text = f"{before}\n{fence}orchestrate\n{body.decode('utf-8', 'replace')}\n{fence}\n"
    try:
        facts = read_facts(text)
    except InvalidTask as reason:
        return said(reason)
    assert set(facts) <= set(FACTS)
    result = Result("a", "agent_01", "fake", 1, Outcome.SUCCESS, 1e9, **facts)
    with queue() as made:
        write(f"{made.root}/result.yaml", result.to_yaml())
        again = read_result(f"{made.root}/result.yaml")
        assert again is not None and again.status is Outcome.SUCCESS
        context = Context(made.root)
        context.make()
        context.merge([result])
        json.loads(read(f"{context.folder}/completed_tasks.json"))


@fuzzed(250)
@given(st.sampled_from(sorted(AGENTS)), OUTPUTS, OUTPUTS, st.sampled_from((None, 0, 1, 41, 130, 143, 173, 255)),
       st.sampled_from(("text", "json")), st.sampled_from(("", "result", "a[0].b", "[", "$.x['y']")))  # fmt: skip
def test_a_verdict_is_reached_whatever_was_printed(
    kind: str, out: bytes, err: bytes, code: int | None, form: str, answer: str
) -> None:
    with queue() as made:
        folder = made.run_folder("a", 1)
        write(f"{folder}/stdout.log", out)
        write(f"{folder}/stderr.log", err)
        if code is not None:
            write(f"{folder}/exit", f"{code}\n")
        agent = AGENTS[kind]
        options = AgentConfig(command="any", output=form, answer=answer)  # type: ignore[arg-type]
        read_ = agent.read(Evidence(f"{folder}/stdout.log", f"{folder}/stderr.log", code, options, folder, 1e9))
        assert isinstance(read_, Answer) and isinstance(read_.outcome, Outcome)
        agent.answered(out.decode("utf-8", "replace").splitlines()[-1] if out.splitlines() else "")
        verdict = judge(folder, agent, options, 1e9, exit_code=code)
        assert verdict.error.isprintable() and (verdict.error or verdict.outcome is Outcome.SUCCESS)
        tokens = verdict.answer.tokens._asdict() if verdict.answer.tokens else None
        result = Result(
            "a", "agent_01", kind, 1, verdict.outcome, 1e9, session_id=verdict.answer.session_id, tokens=tokens,
            cost_usd=verdict.answer.cost_usd, reason=verdict.error, retry_at=verdict.answer.retry_at, **verdict.facts,
        )  # fmt: skip
        write(f"{folder}/result.yaml", result.to_yaml())
        again = read_result(f"{folder}/result.yaml")
        assert again is not None and (again.status, again.reason) == (verdict.outcome, verdict.error)


# -- what lies in our own folders -----------------------------------------------------------------


@fuzzed(200)
@given(CONTENTS)
def test_our_own_small_files_may_hold_anything(content: bytes) -> None:
    with queue() as made:
        folder = made.run_folder("a", 1)
        for name in ("result.yaml", "alive", "exit", "retried", "output.md", "assigned.yaml"):
            write(f"{folder}/{name}", content)
        write(f"{made.own}/agents/fake.yaml", content)
        write(f"{made.own}/last_id", content)
        write(f"{made.own}/config.json", content)
        write(f"{made.own}/dispatcher.json", content)
        read_result(f"{folder}/result.yaml")
        read_record(folder)
        read_exit(folder)
        assert assigned_run(f"{folder}/assigned.yaml")[2] >= 0
        history.attempts(made, "a")
        AgentRegistry(made.own, built(Config, {"agents": {"fake": {"command": "true"}}}, (), ValueError), {}).paused(
            "fake", 0.0
        )
        status.flat(f"{folder}/result.yaml")
        json.dumps(status.view(made.root))
        assert made.put({"description": "x"}).startswith("task_")


@fuzzed(100)
@given(CONTENTS, CONTENTS, CONTENTS, st.sampled_from(ENDED))
def test_starting_makes_something_of_whatever_lies_in_the_folders(
    task: bytes, note: bytes, result: bytes, state: State
) -> None:
    with queue() as made:
        write(made.path(State.ASSIGNED, "a"), task)
        write(made.assignment_path("a", "agent_01"), note)
        write(made.path(State.ASSIGNED, "b"), task)
        write(made.assignment_path("b", "agent_02"), to_yaml({"agent_id": "agent_02", "agent_type": "fake", "run": 1}))
        write(f"{made.run_folder('b', 1)}/alive", result)
        write(f"{made.run_folder('b', 1)}/exit", "0\n")
        write(made.result_path(state, "a"), result)
        write(made.result_path(state, "c"), result)
        write(made.path(state, "d"), task)
        write(made.result_path(state, "d"), result)
        registry = AgentRegistry(made.own, built(Config, {"agents": {"fake": {"command": "true"}}}, (), ValueError), {})
        told: list[str] = []
        new_live = Starter.live.__get__(_Starter(made))
        recovery = Recovery(made, registry, lambda *run: new_live(Config(), *run), lambda *fact: told.append(fact[2]))
        lives = recovery.run(time.time())
        assert {live.id for live in lives} <= {"a", "b"} and all(text.isprintable() for text in told)
        everywhere = [(s, i) for s in State for i in ("a", "b", "d") if os.path.exists(made.path(s, i))]
        assert sorted(i for _, i in everywhere) == ["a", "b", "d"], everywhere


class _Starter:
    """As much of a starter as a run needs to be watched."""

    def __init__(self, queue: Spool) -> None:
        self.queue = queue
        self.clock = self

    def lived(self) -> float:
        return 0.0


@fuzzed(120)
@given(CONTENTS, CONTENTS, st.lists(st.text(max_size=20), max_size=3))
def test_pages_may_hold_anything_and_lose_nothing_of_it(page: bytes, listed: bytes, lines: list[str]) -> None:
    with queue() as made:
        context = Context(made.root)
        context.make()
        for name in ("current_state.md", "known_issues.md", "notes/fake.md"):
            write(f"{context.folder}/{name}", page)
        write(f"{context.folder}/completed_tasks.json", listed)
        result = Result(
            "a", "agent_01", "fake", 1, Outcome.SUCCESS, 1e9, known_issues=("k\nk",), notes=("<!-- b/1 -->",)
        )
        context.merge([result])
        context.merge([result], ["a/1"])
        assert context.write_state(lines) and context.write_state(lines)
        rows = json.loads(read(f"{context.folder}/completed_tasks.json"))
        assert [row["mark"] for row in rows if isinstance(row, dict) and row.get("mark") == "a/1"] == ["a/1"]
        with open(f"{context.folder}/known_issues.md", "rb") as file:
            found = file.read()
        assert found.startswith(page) and found.count(b"<!-- a/1 -->") == 1 + page.count(b"<!-- a/1 -->")
        with open(f"{context.folder}/current_state.md", "rb") as file:
            assert file.read().startswith(page.rstrip(b"\n"))
        context.recent(5)


@fuzzed(100)
@given(
    st.lists(st.text(max_size=15), min_size=1, max_size=6),
    st.dictionaries(
        st.sampled_from(("id", "priority", "run", "dependencies")),
        st.lists(st.text(max_size=10), min_size=1, max_size=2),
    ),
)
def test_what_is_added_on_the_command_line_is_a_task_or_has_a_reason(
    words: list[str], options: dict[str, list[str]]
) -> None:
    from orchestrator.cli.submit import fields_of

    with queue() as made:
        try:
            task_id = made.put(fields_of(words, options, made.root))
        except OrchestrateError as reason:
            return said(reason)
        with open(made.path(State.PENDING, task_id), "rb") as file:
            assert isinstance(parse(file.read(), task_id), Task)
