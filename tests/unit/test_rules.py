"""The quick way of reading what is declared, and pydantic's: whatever the quick one takes, both take, as the same value."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from helpers import REPOSITORY
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator import checking
from orchestrator.config import AgentConfig, Config
from orchestrator.profiles import Profile
from orchestrator.rules import UNCLEAR, plainly, stated
from orchestrator.states import Priority
from orchestrator.task import Task

pytestmark = pytest.mark.fast

MORE = int(os.environ.get("FUZZ", "0"))

WORDS = st.text(max_size=8) | st.sampled_from(
    ["high", "0", "a", "b", "../c", "/d", "x.md", "2025-01-15", "2025-01-15T10:00:00+02:00", "9999-12-31T23:00-05:00",
     "0001-01-01", "claude", "stdin", "json", "unique", "sh -c {prompt}", "A=1 tool", "it's", "\0", "\ud800", "yes", "1"]
)  # fmt: skip
NUMBERS = (
    st.integers(-3, 200) | st.integers() | st.floats() | st.sampled_from([0, 1, 1000, 1001, 10**20, 2**53 + 1, 10**400])
)
ANY: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.integers(), inner, max_size=3),
    max_leaves=6,
)


def typed(kind: Any) -> st.SearchStrategy[Any]:
    """Values of the very type that is declared, good or bad."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Priority:
        return st.sampled_from(["high", "normal", "low", "HIGH", "urgent", "2", 0, 1, 2, 3])
    if kind is datetime:
        return WORDS
    if origin is Annotated:
        return typed(kind.__origin__)
    if origin in (Union, UnionType):
        return st.one_of([typed(one) for one in parts])
    if origin is tuple:
        return st.lists(typed(parts[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(st.sampled_from(["claude", "a b", "mine", "shell", ""]), typed(parts[1]), max_size=2)
    if origin is Literal:
        return st.sampled_from(parts)
    if hasattr(kind, "_fields"):
        return mapping(kind, typed)
    return {str: WORDS, bool: st.booleans(), int: st.integers(-3, 1002) | st.integers(), type(None): st.none(),
            float: st.integers(-3, 99) | st.floats()}[kind]  # fmt: skip


def mapping(kind: Any, of: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Of some of the fields that are declared."""
    fields = {name: of(hint) for name, hint in kind.__annotations__.items()}
    here = {"description": fields.pop("description")} if kind is Task else {}
    return st.fixed_dictionaries(here, optional=fields)


def both(kind: Any, values: dict[str, Any]) -> tuple[Any, Any]:
    """What the quick way makes of it, and pydantic; None for what one does not take."""
    found: list[Any] = []
    for way in (plainly, lambda kind, values: checking.built(kind, values, (), ArithmeticError)):
        try:
            found.append(way(kind, values))
        except (*UNCLEAR, ArithmeticError):
            found.append(None)
    return found[0], found[1]


def fuzzed(examples: int) -> Any:
    """The same examples each time; others, and more: FUZZ=20000."""
    return settings(max_examples=MORE or examples, derandomize=not MORE, database=None, deadline=None)


KINDS = st.sampled_from([Task, Config, AgentConfig, Profile])


@pytest.mark.heavy
@fuzzed(120)
@given(KINDS.flatmap(lambda kind: st.tuples(st.just(kind), mapping(kind, lambda hint: typed(hint) | ANY))))
@example((Task, {}))
@example((Task, {"description": "x", "task_type": "\ud800"}))
@example((Task, {"description": "x", "max_retries": True}))
@example((Task, {"description": "x", "timeout_minutes": 10**400}))
@example((Task, {"description": "x", "timeout_minutes": float("nan")}))
@example((AgentConfig, {"success_exit_codes": [True], "max_memory_mb": 2**53 + 1}))
@example((AgentConfig, {"command": "x", "env": {1: "x"}}))
@example((Config, {"queue": {"default_priority": None}, "agents": {"claude": None}}))
def test_what_is_taken_quickly_is_what_pydantic_makes_of_it(one: tuple[Any, dict[str, Any]]) -> None:
    quick, thorough = both(*one)
    assert quick is None or repr(quick) == repr(thorough)


@pytest.mark.heavy
@fuzzed(120)
@given(KINDS.flatmap(lambda kind: st.tuples(st.just(kind), typed(kind))))
def test_of_values_of_the_right_types_both_say_the_same(one: tuple[Any, dict[str, Any]]) -> None:
    quick, thorough = both(*one)
    assert "\\ud800" in repr(one[1]) or repr(quick) == repr(thorough)


@pytest.mark.heavy
@fuzzed(60)
@given(KINDS.flatmap(lambda kind: st.tuples(st.just(kind), typed(kind))))
@example((Task, {"description": "x", "created_at": "2025-01-15T10:00:00.5+02:00"}))
def test_what_is_written_down_can_be_read_again_and_is_what_pydantic_would_write(
    one: tuple[Any, dict[str, Any]],
) -> None:
    kind, values = one
    quick, thorough = both(kind, values)
    if quick is None or thorough is None:
        return
    text = json.dumps(stated(quick))
    assert repr(plainly(kind, json.loads(text))) == repr(quick)
    if kind is not Config:
        model = checking.model_of(kind).model_validate(values)
        assert text == json.dumps(model.model_dump(mode="json", exclude_defaults=True))


def test_a_plain_file_needs_no_pydantic_and_its_reasons_are_those_of_pydantic() -> None:
    said = subprocess.run(
        [sys.executable, "-c", """
import sys
from orchestrator.errors import InvalidTask
from orchestrator.task import parse
parse(b"description: x\\npriority: high\\ndependencies: [a, b]\\ntimeout_minutes: 30\\ncontext_required: false\\n", "t")
assert "pydantic" not in sys.modules
try:
    parse(b"description: x\\nmax_retries: many\\n", "t")
except InvalidTask as reason:
    print(reason)
"""],
        capture_output=True, text=True, check=True, cwd=REPOSITORY,
    )  # fmt: skip
    assert said.stdout == (
        "line 2: max_retries: Input should be a valid integer, unable to parse string as an integer\n"
    )
