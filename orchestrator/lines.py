"""YAML as nearly everybody writes it, read line by line: `key: value`, lists, blocks of text, mappings in mappings.

To load PyYAML costs as much as an empty Python, and its events ten times what this does. What is not plainly of this kind
is left to `strict`, which also says what is wrong; this says no to nothing. A test holds that both say the same.
"""

from __future__ import annotations

import re
from typing import Any

from orchestrator.errors import InvalidTask

LONGEST = 16_384  # characters; so few hold less values than a document may
DEEPEST = 8  # mappings in one another

_WORD = r"[\w./][\w./-]*"
_QUOTED = r""""[^"\\]*"|'[^']*'"""
_KEY = r"[A-Za-z_][A-Za-z0-9_-]{0,99}"
_PAIR = rf"{_KEY}: (?:{_WORD}|{_QUOTED}|\{{\}})"
_VALUE = (
    r"(?P<plain>[\w./($](?:[^: ]++|:(?! |$)| ++(?=[^ #]))*+)"
    rf"|(?P<quoted>{_QUOTED})"
    rf"|\[(?P<list>(?:(?:{_WORD}|{_QUOTED})(?:, ?(?:{_WORD}|{_QUOTED}))*)?)\]"
    rf"|\{{(?P<mapping>(?:{_PAIR}(?:, {_PAIR})*)?)\}}"
)
_LINE = re.compile(rf"( *)(?:({_KEY}):|-(?= \S))(?: ++(?:{_VALUE}|(?P<block>\|-?)))? *+(?:(?<= )#.*)?")
_ONE = re.compile(rf"(?:({_KEY}): )?({_WORD}|{_QUOTED}|\{{\}})")


def _integer(text: str) -> int:
    if len(text) > 20:
        raise InvalidTask(f"a number of {len(text)} digits")
    return int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10)


def _float(text: str) -> float:
    number = float(text[:100])
    if number - number:  # beyond what a float holds
        raise InvalidTask("a number out of range")
    return number


# YAML 1.2's core types.
_NAMED = {text: value for value, texts in ((None, ("", "~", "null", "Null", "NULL")), (True, ("true", "True", "TRUE")),
          (False, ("false", "False", "FALSE"))) for text in texts}  # fmt: skip
_WHOLE = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_BROKEN = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def plain(text: str) -> object:
    """What a word without quotes is. Raises InvalidTask for a number that is too large."""
    if text[:1] in "+-.0123456789" and text:
        if _WHOLE.fullmatch(text):
            return _integer(text)
        return _float(text) if _BROKEN.fullmatch(text) else text
    return _NAMED.get(text, text)


def mapping(text: str) -> dict[str, Any] | None:
    """The mapping that these lines are; None if they are not plainly one."""
    if len(text) > LONGEST or not text.endswith("\n") or not text.replace("\n", "").isprintable():
        return None
    try:
        return _mapping(text.split("\n")[:-1]) or None
    except InvalidTask:
        return None


def _mapping(lines: list[str]) -> dict[str, Any] | None:
    here: dict[str, Any] = {}
    top, indent, above = here, 0, list[tuple[int, dict[str, Any]]]()  # what is open around this, outermost first
    key: str | None = None  # whose value may be on the next lines
    items: list[object] | None = None  # a list that may go on, so far in:
    inset = 0
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        found = _LINE.fullmatch(line)
        if found is None:
            if line.lstrip(" ")[:1] in ("", "#"):
                continue
            return None
        depth, name = len(found[1]), found[2]
        if name is None:  # an item of a list
            if items is None and key is not None and depth >= indent:
                here[key] = items = []
                key, inset = None, depth
            if items is None or depth != inset or found["block"]:
                return None
            items.append(_value(found))
            continue
        items = None
        if depth > indent:
            if key is None or len(above) == DEEPEST:
                return None
            above.append((indent, here))
            here[key] = here = {}
            indent = depth
        while depth < indent:
            indent, here = above.pop()
        if depth != indent or name in here or plain(name) != name:
            return None
        key = None
        if found["block"]:
            first = len(lines[number]) - len(lines[number].lstrip(" ")) if number < len(lines) else 0
            if first <= indent or len(lines[number]) == first:
                return None
            begun = number
            while number < len(lines) and not lines[number][:first].strip(" "):
                number += 1
            body = "\n".join([one[first:] for one in lines[begun:number]]).rstrip("\n")
            here[name] = body if found["block"] == "|-" else body + "\n"
        else:
            here[name] = _value(found)
            if found.lastgroup is None:
                key = name
    return top


def _value(found: re.Match[str]) -> object:
    kind = found.lastgroup
    if kind is None:
        return None
    text = found[kind]
    if kind == "plain":
        return plain(text)
    if kind == "quoted":
        return text[1:-1]
    if kind == "list":
        return [_one(one[2]) for one in _ONE.finditer(text)]
    values = {one[1]: _one(one[2]) for one in _ONE.finditer(text)}
    if any(plain(name) != name for name in values) or len(values) < text.count(": "):
        raise InvalidTask("not plainly")
    return values


def _one(text: str) -> object:
    return {} if text == "{}" else text[1:-1] if text[0] in "\"'" else plain(text)
