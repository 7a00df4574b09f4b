"""What a task's file and config.yaml may say, declared once: a NamedTuple, each field `Annotated[type, Rule(…)]`.

Pydantic makes a model of that (`checking.model_of`): it decides, it says why not, the JSON Schemas are its own. To load it
costs five times an empty Python, so it is asked only about what is not plainly valid: every value of the very type that
is declared, and within its bounds. The quick way never says no, and a test holds that both say the same of all else.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable
from datetime import datetime
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

T = TypeVar("T", bound=tuple[Any, ...])
UNCLEAR = (ValueError, TypeError, KeyError, OverflowError)

_WITHIN: dict[str, Callable[[Any, float], bool]] = {
    "gt": operator.gt,
    "ge": operator.ge,
    "le": operator.le,
    "min_length": lambda value, least: len(value) >= least,
    "max_length": lambda value, most: len(value) <= most,
}


class Rule:
    """What holds of a value besides its type. `before` and `after` change or refuse it (ValueError), as its type is looked
    at; `bounds` are pydantic's. For the JSON Schema: `says` in words, `shape` if another type may be written, `schema`."""

    def __init__(
        self, says: str = "", *, before: Callable[[Any], Any] | None = None, after: Callable[[Any], Any] | None = None,
        required: bool = False, shape: Any = None, schema: dict[str, Any] | None = None, **bounds: float,
    ) -> None:  # fmt: skip
        self.says = says
        self.before = before
        self.after = after
        self.required = required
        self.shape = shape
        self.schema = schema
        self.bounds = bounds


def built(kind: type[T], values: dict[str, Any], known: Iterable[str], error: type[Exception]) -> T:
    """`values` as a `kind`; raises `error` with one line naming the first thing that is wrong. `known`: every key that
    there is, for "did you mean"."""
    try:
        return plainly(kind, values)
    except UNCLEAR:
        from orchestrator import checking

        return checking.built(kind, values, known, error)  # type: ignore[no-any-return]


def plainly(kind: type[T], values: dict[str, Any]) -> T:
    """`values` as a `kind`. Raises one of UNCLEAR if they are not plainly that."""
    return _value(kind, values)  # type: ignore[no-any-return]


def stated(value: Any) -> Any:
    """What is no default, as JSON has it."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        normal = type(value)._field_defaults  # type: ignore[attr-defined]
        return {name: stated(one) for name, one in zip(value._fields, value, strict=True) if one != normal.get(name)}
    if isinstance(value, dict):
        return {key: stated(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return [stated(one) for one in value]
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value.value if isinstance(value, Enum) else value


@functools.cache
def _fields(kind: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """Field → what it is declared as; and those that have to be there."""
    hints = kind.__annotations__
    return hints, frozenset(name for name, hint in hints.items() if hint.__metadata__[-1].required)


@functools.cache
def _parts(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    origin = get_origin(kind)
    if origin is Annotated:
        return Annotated, (kind.__origin__, *kind.__metadata__)
    return (Union if origin is UnionType else origin), get_args(kind)


def _value(kind: Any, value: Any) -> Any:
    if kind is str:
        if type(value) is str and (value.isascii() or value.encode()):  # else it is half a character
            return value
    elif kind is bool or kind is int:
        if type(value) is kind:
            return value
    elif kind is float:
        if type(value) is int or type(value) is float:
            return float(value)
    elif kind is None or kind is type(None):
        if value is None:
            return None
    else:
        return _made(kind, value)
    raise ValueError


def _made(kind: Any, value: Any) -> Any:
    origin, parts = _parts(kind)
    if origin is Annotated:
        return _ruled(parts[0], parts[1:], value)
    if origin is Union:
        for one in parts:
            try:
                return _value(one, value)
            except UNCLEAR:
                continue
    elif origin is tuple:
        if type(value) is list or type(value) is tuple:
            return tuple([_value(parts[0], one) for one in value])
    elif origin is dict:
        if type(value) is dict:
            return {_value(str, key): _value(parts[1], one) for key, one in value.items()}
    elif origin is Literal:
        if value in parts:
            return value
    elif hasattr(kind, "_fields"):
        hints, required = _fields(kind)
        if type(value) is dict and required <= value.keys():
            return kind(**{key: _value(hints[key], one) for key, one in value.items()})
    elif isinstance(value, kind):
        return value
    raise ValueError


def _ruled(kind: Any, rules: tuple[Rule, ...], value: Any) -> Any:
    for rule in reversed(rules):
        if rule.before:
            value = rule.before(value)
    value = _value(kind, value)
    for rule in rules:
        if value is not None and not all(_WITHIN[name](value, bound) for name, bound in rule.bounds.items()):
            raise ValueError
        if rule.after:
            value = rule.after(value)
    return value
