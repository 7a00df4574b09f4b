"""YAML, read strictly: what `lines` does not take for plain, and why it is none.

PyYAML alone is not safe for this: some 25 KB of nesting end the process inside libyaml,
366 bytes of merge keys and two megabytes of %TAG lines run for a minute, aliases explode in
whatever walks them later, duplicate keys pass in silence, and YAML 1.1 turns `no`, `12:30` and
`010` into other things. So only its events are used, and the first that may not be ends it; what they say is built
here: YAML 1.2's core types only, with string keys, each once.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from orchestrator.errors import InvalidTask
from orchestrator.lines import plain
from orchestrator.names import printable

DEPTH_LIMIT = 20
EVENT_LIMIT = 20_000

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONFLICT = re.compile(r"^(<{7} |>{7} |\|{7} )", re.MULTILINE)
_TAG_LINE = re.compile(r"^%TAG\b", re.MULTILINE)
# How JSON escapes a character above U+FFFF (json.dump does so); YAML knows no halves of characters.
_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


def _character(pair: re.Match[str]) -> str:
    return pair[1] + bytes.fromhex(pair[2] + pair[3]).decode("utf-16-be")


def mapping(text: str) -> dict[str, Any]:
    """The one mapping of a YAML document. Raises InvalidTask with line and reason."""
    if "\0" in text:
        raise InvalidTask("holds a NUL byte; it is not text")
    if _CONFLICT.search(text):
        raise InvalidTask("holds merge-conflict markers (<<<<<<<); resolve them and put it here again")
    if _TAG_LINE.search(text):  # libyaml compares each with all before it
        raise InvalidTask("holds a %TAG line; plain values only")
    if not text.strip():
        raise InvalidTask("is empty; the smallest task is one line: description: what to do")
    try:
        value = _built(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = printable(str(error.problem or "cannot be parsed"))
        if "Unicode character escape" in problem:
            if (joined := _PAIR.sub(_character, text)) != text:
                return mapping(joined)
            problem += "; write the character itself, in UTF-8"
        raise InvalidTask(f"is not YAML: {where}{problem}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, max(0, text.find(chr(error.character)))) + 1
        raise InvalidTask(f"line {line}: a control character (U+{error.character:04X}); remove it") from None
    except yaml.YAMLError as error:
        raise InvalidTask(f"is not YAML: {printable(str(error).splitlines()[0])}") from None
    except (ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise InvalidTask(
            f"cannot be read: {printable(str(error).splitlines()[0] if str(error) else type(error).__name__)}"
        ) from None
    if value is None:
        raise InvalidTask("is empty but for comments; the smallest task is one line: description: what to do")
    if not isinstance(value, dict):
        raise InvalidTask("is no mapping; write lines such as 'description: what to do'")
    return value


def _built(text: str) -> object:
    """The value of a document, from one pass over its events that stops at the first that may not be."""
    value: object = None
    inside: list[dict[str, object] | list[object]] = []  # what is open, outermost first
    keys: list[str | None] = []  # of each: that whose value comes next
    wrong: tuple[int, str] | None = None  # a key that is no word: what is open around it, and what to say
    documents = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Base)):
        if count > EVENT_LIMIT:
            raise InvalidTask(f"{_line(event)}more than {EVENT_LIMIT:,} values")
        if isinstance(event, yaml.NodeEvent):
            new = _begun(event)
            if not inside:
                value = new
            elif isinstance(there := inside[-1], list):
                there.append(new)
            elif (key := keys[-1]) is not None:
                there[key], keys[-1] = new, None
            elif isinstance(new, (dict, list)):  # told at its end: it may be worse
                wrong = wrong or (len(inside), f"{_line(event)}a key must be a word, not a list or mapping")
            elif not isinstance(new, str):
                raise InvalidTask(f"{_line(event)}a key must be a word, not {printable(str(new))}")
            elif new in there:
                raise InvalidTask(f"{_line(event)}the key {printable(new)!r} stands twice")
            else:
                keys[-1] = new
            if isinstance(new, (dict, list)):
                inside.append(new)
                keys.append(None)
                if len(inside) > DEPTH_LIMIT:
                    raise InvalidTask(f"{_line(event)}nested deeper than {DEPTH_LIMIT} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            inside.pop()
            keys.pop()
            if wrong and len(inside) == wrong[0]:
                raise InvalidTask(wrong[1])
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise InvalidTask(f"{_line(event)}a second document starts; one file is one task")
    return value


def _begun(event: Any) -> object:
    """A scalar's value; of what holds others, it is still empty."""
    if isinstance(event, yaml.AliasEvent):
        raise InvalidTask(f"{_line(event)}an alias (*{printable(event.anchor or '', 40)}); write the value out")
    if event.anchor:
        raise InvalidTask(f"{_line(event)}an anchor (&{printable(event.anchor, 40)}); write the value out")
    if event.tag:
        raise InvalidTask(f"{_line(event)}a tag ({printable(event.tag, 40)}); plain values only")
    if isinstance(event, yaml.MappingStartEvent):
        return {}
    if isinstance(event, yaml.SequenceStartEvent):
        return []
    text: str = event.value
    try:
        return plain(text) if event.implicit[0] else text  # else it is in quotes, or a block
    except InvalidTask as problem:
        raise InvalidTask(f"{_line(event)}{problem}") from None


def _line(event: Any) -> str:
    return f"line {event.start_mark.line + 1}: " if event.start_mark else ""
