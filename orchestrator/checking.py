"""Pydantic's part: what is declared (`rules`) as a model; a value of it, or one line that says what, where and what to
write."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from orchestrator.names import counted, nearest, printable

M = TypeVar("M", bound=BaseModel)


@functools.cache
def model_of(kind: Any) -> type[BaseModel]:
    """The model of a NamedTuple whose fields are `Annotated[type, Rule(…)]`."""
    fields: dict[str, Any] = {}
    for name, hint in kind.__annotations__.items():
        default: Any = ... if hint.__metadata__[-1].required else kind._field_defaults[name]
        if hasattr(default, "_fields"):
            of: Any = type(default)
            default = Field(model_of(of)(), validate_default=True)
        fields[name] = (_hint(hint), default)
    config = ConfigDict(extra="forbid")
    return create_model(kind.__name__, __config__=config, __doc__=kind.__doc__, **fields)


def _hint(kind: Any) -> Any:
    """A declared type as pydantic reads it."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        found = _hint(kind.__origin__)
        for rule in kind.__metadata__:
            found = Annotated[found, Field(**rule.bounds)]
            if {int, float}.intersection((kind.__origin__, *get_args(kind.__origin__))):
                found = Annotated[found, BeforeValidator(_number)]
            if rule.before:
                shape = {"json_schema_input_type": rule.shape} if rule.shape else {}
                found = Annotated[found, BeforeValidator(rule.before, **shape)]
            if rule.after:
                found = Annotated[found, AfterValidator(rule.after)]
            shown: Any = {"description": rule.says, "json_schema_extra": rule.schema}
            found = Annotated[found, Field(**{name: value for name, value in shown.items() if value})]
        return found
    if origin in (Union, UnionType):
        return Union[tuple(map(_hint, parts))]  # noqa: UP007 (made of what is only known here)
    if origin is dict:
        return dict[str, _hint(parts[1])]  # type: ignore[misc]
    if hasattr(kind, "_fields"):
        return Annotated[model_of(kind), AfterValidator(functools.partial(_plain, kind))]
    return kind


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"write a number, not {str(value).lower()}")
    return value


def _plain(kind: Any, found: BaseModel) -> Any:
    return kind(*(getattr(found, name) for name in kind._fields))


def built(kind: Any, values: dict[str, Any], known: Iterable[str], error: type[Exception]) -> Any:
    """`values` as a `kind`, in pydantic's judgement; raises `error` with its reason."""
    return _plain(kind, checked(model_of(kind), values, known, error))


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
