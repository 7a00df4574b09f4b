"""Write the small YAML files of the spool by hand: the same bytes each time, no parser loaded.

Only what we write ourselves: words, numbers, lists of words, one level of mapping. Everything
that could be read as something else is quoted, so `reading.py` gives back what was put in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from orchestrator.errors import InvalidTask
from orchestrator.names import printable

Scalar = str | int | float | None
Value = Scalar | bool | Sequence[str] | Mapping[str, Scalar]

# A plain scalar: starts with a letter, holds nothing that YAML gives a meaning to.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
_ESCAPES = str.maketrans({'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"})


def to_yaml(fields: Mapping[str, Value]) -> bytes:
    """A mapping as YAML, one key a line, in the order given; keys whose value is None are left out."""
    return "".join(f"{key}: {_value(value)}\n" for key, value in fields.items() if value is not None).encode(
        "utf-8", "replace"
    )


def _value(value: Value) -> str:
    if isinstance(value, str):
        return _block(value) if "\n" in value.strip("\n") else quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_scalar(v)}" for k, v in value.items() if v is not None) + "}"
    if not isinstance(value, Sequence) or not all(isinstance(one, str) for one in value):
        raise InvalidTask(f"{printable(repr(value))} is no text, number or list of texts")
    items = [quoted(item) for item in value]
    if sum(map(len, items)) <= 70:
        return "[" + ", ".join(items) + "]"
    return "".join(f"\n  - {item}" for item in items)


def _scalar(value: str | int | float | None) -> str:
    return quoted(value) if isinstance(value, str) else repr(value)


def quoted(text: str) -> str:
    """A word as it is where that is safe, else in double quotes."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    body = text.translate(_ESCAPES)
    return f'"{body if body.isascii() and body.isprintable() else "".join(map(_escaped, body))}"'


def _escaped(character: str) -> str:
    if _plain(character):
        return character
    number = ord(character)
    if 0xD800 <= number <= 0xDFFF:
        return "\\uFFFD"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def _plain(character: str) -> bool:
    """Whether YAML reads this character as it is, and takes it for no line break. (A pattern of these ranges would
    cost every command 4 ms.)"""
    number = ord(character)
    return (
        0x20 <= number <= 0x7E
        or (0xA0 <= number <= 0xD7FF and number not in (0x2028, 0x2029))
        or (0xE000 <= number <= 0xFFFD and number != 0xFEFF)
        or number >= 0x10000
    )


def _block(text: str) -> str:
    """A text of several lines as a literal block, where every character survives that."""
    lines = text.split("\n")
    if not all(_plain(c) or c in "\t\n" for c in text) or text.startswith((" ", "\t", "\n")) or text.endswith("\n\n"):
        return quoted(text)
    mark = "|" if lines[-1] == "" else "|-"
    return mark + "".join(f"\n  {line}" if line else "\n" for line in (lines[:-1] if lines[-1] == "" else lines))
