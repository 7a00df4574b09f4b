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
from functools import partial
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
    return _way(kind)(values)  # type: ignore[no-any-return]


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


# -- the quick way: of each declared type a function that returns the value, or raises one of UNCLEAR ----------------------

Way = Callable[[Any], Any]


@functools.cache
def _way(kind: Any) -> Way:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return functools.reduce(_ruled, kind.__metadata__, _way(kind.__origin__))
    if origin is tuple:
        return partial(_several, _way(parts[0]))
    if origin is dict:
        return partial(_mapping, _way(parts[1]))
    if origin is Literal:
        return lambda value: parts[parts.index(value)]
    if origin in (Union, UnionType):
        return partial(_any_of, tuple(map(_way, parts)))
    if hasattr(kind, "_fields"):
        hints = kind.__annotations__
        needed = frozenset(name for name, hint in hints.items() if hint.__metadata__[-1].required)
        return partial(_fields, kind, {name: _way(hint) for name, hint in hints.items()}, needed)
    return {str: _text, float: _float}.get(kind) or partial(_exactly, kind)


def _ruled(way: Way, rule: Rule) -> Way:
    before, after = rule.before, rule.after
    bounds = [(_WITHIN[name], bound) for name, bound in rule.bounds.items()]
    if not (before or after or bounds):
        return way

    def ruled(value: Any) -> Any:
        value = way(before(value) if before else value)
        for within, bound in bounds:
            if value is not None and not within(value, bound):
                raise ValueError
        return after(value) if after else value

    return ruled


def _fields(kind: Any, ways: dict[str, Way], needed: frozenset[str], value: Any) -> Any:
    if type(value) is not dict or not needed <= value.keys():
        raise ValueError
    return kind(**{key: ways[key](one) for key, one in value.items()})


def _any_of(ways: Iterable[Way], value: Any) -> Any:
    for way in ways:
        try:
            return way(value)
        except UNCLEAR:
            continue
    raise ValueError


def _several(way: Way, value: Any) -> Any:
    if type(value) is not list and type(value) is not tuple:
        raise ValueError
    return tuple([way(one) for one in value])


def _mapping(way: Way, value: Any) -> Any:
    if type(value) is not dict:
        raise ValueError
    return {_text(key): way(one) for key, one in value.items()}


def _text(value: Any) -> Any:
    if type(value) is not str or not (value.isascii() or value.encode()):  # which raises for half a character
        raise ValueError
    return value


def _float(value: Any) -> Any:
    if type(value) is not float and type(value) is not int:
        raise ValueError
    return float(value)


def _exactly(kind: Any, value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError
    return value
