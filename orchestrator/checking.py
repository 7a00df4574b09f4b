"""From a parsed mapping to a frozen model, or to one line that says what, where and what to write."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.names import counted, nearest, printable

M = TypeVar("M", bound=BaseModel)


class Frozen(BaseModel):
    """What travels is frozen, and knows every key it may have."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def checked(model: type[M], values: dict[str, Any], known: Iterable[str], error: type[Exception]) -> M:
    """`values` as a `model`; raises `error` with one line naming the first thing that is wrong."""
    try:
        return model.model_validate(values)
    except ValidationError as failure:
        first = failure.errors(include_url=False, include_input=False)[0]
        raise error(_line(first, known, failure.error_count() - 1)) from None


def _line(first: Any, known: Iterable[str], more: int) -> str:
    place = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("function-", "tuple[", "bool")))
    rest = f" (and {counted(more, 'more problem')})" if more else ""
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        return f"unknown key {printable(place)!r}{nearest(key, known)}{rest}"
    if first["type"] == "missing":
        return f"{place}: is missing; add it{rest}"
    message = str(first["msg"]).removeprefix("Value error, ")
    return (f"{printable(place)}: {message}" if place else message) + rest
