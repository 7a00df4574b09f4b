"""Read a file that anybody may have put there: bounded, strict, never raising anything but
`InvalidTask`.

PyYAML alone is not safe for this: some 25 KB of nesting end the process inside libyaml,
366 bytes of merge keys and two megabytes of %TAG lines run for a minute, aliases explode in
whatever walks them later, duplicate keys pass in silence, and YAML 1.1 turns `no`, `12:30` and
`010` into other things. So only its events are used, and the first that may not be ends it; what they say is built
here: YAML 1.2's core types only, with string keys, each once.
"""

from __future__ import annotations

import errno
import math
import os
import re
import stat
from collections.abc import Callable
from typing import Any

import yaml

from orchestrator import locks
from orchestrator.errors import InvalidTask
from orchestrator.names import printable

SIZE_LIMIT = 4 * 1024 * 1024  # bytes
DEPTH_LIMIT = 20
EVENT_LIMIT = 20_000

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONFLICT = re.compile(rb"^(<{7} |>{7} |\|{7} )", re.MULTILINE)
_LIKELY = re.compile(rb"(?:description|content|run)[\"']?\s*:")  # what has none of these is hardly a task
_PRIORITY = re.compile(rb"(?:^|[{,])\s*[\"']?priority[\"']?\s*:\s*[\"']?(\w+)", re.MULTILINE)
_TAG_LINE = re.compile(rb"^%TAG\b", re.MULTILINE)
# How JSON escapes a character above U+FFFF (json.dump does so); YAML knows no halves of characters.
_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


def _character(pair: re.Match[str]) -> str:
    return pair[1] + bytes.fromhex(pair[2] + pair[3]).decode("utf-16-be")


def _integer(text: str) -> int:
    if len(text) > 20:
        raise InvalidTask(f"a number of {len(text)} digits")
    return int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10)


def _float(text: str) -> float:
    number = float(text[:100])
    if not math.isfinite(number):
        raise InvalidTask("a number out of range")
    return number


_PLAIN: dict[str, list[tuple[re.Pattern[str], Callable[[str], object]]]] = {}  # YAML 1.2's core types, by first letter
for _pattern, _first, _made in (
    (r"~|null|Null|NULL|", ["", *"~nN"], lambda text: None),
    (r"true|True|TRUE|false|False|FALSE", "tTfF", lambda text: text.lower() == "true"),
    (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789", _integer),
    (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789", _float),
):
    for _c in _first:
        _PLAIN.setdefault(_c, []).append((re.compile(_pattern), _made))


class StillWritten(Exception):
    """Some process has the file open for writing: look again later."""


def glance(path: str, status: os.stat_result) -> str | None:
    """The priority that a file seems to state ("" for none); None if it is hardly a task. By this it is decided which
    of many is read first, and nothing else: a glance costs a tenth of reading and parsing it."""
    if not stat.S_ISREG(status.st_mode):
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return ""  # whoever reads it says why not
    try:
        content = os.read(fd, 4096)
    except OSError:
        return ""
    finally:
        os.close(fd)
    if status.st_size <= 4096 and not _LIKELY.search(content):
        return None
    match = _PRIORITY.search(content)
    return match[1].decode("ascii", "replace").lower() if match else ""


def read_bytes(path: str, limit: int = SIZE_LIMIT, settled: bool = False, wait: bool = False) -> bytes:
    """The whole content of a regular file. Follows no symlink, waits for no FIFO; with `wait`, for whoever has it now.

    With `settled`, a file that somebody still writes raises StillWritten, and nobody can start
    to write it while it is read. Raises InvalidTask (what is wrong with the file), and OSError
    (FileNotFoundError, …) for what is not the file's fault.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | (0 if wait else os.O_NONBLOCK))
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENODEV):
            raise  # not there, or no descriptors, no memory, a bad disk: no fault of the file's
        if isinstance(error, PermissionError) and os.access(path, os.R_OK):
            raise  # it may be read, and could not: that passes
        raise InvalidTask(_not_a_file(path) or f"cannot be read: {error.strerror}") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidTask(_kind(status.st_mode))
        if status.st_size > limit:
            raise InvalidTask(f"has {status.st_size:,} bytes; a task file has at most {limit:,}")
        if settled and locks.lease(fd, status.st_mtime) is False:
            raise StillWritten(path)
        content = b""
        while part := os.read(fd, min(status.st_size, limit - len(content)) + 1):  # asks for no buffer of `limit`
            content += part
            if len(content) > limit:
                raise InvalidTask(f"has more than {limit:,} bytes")
        return content
    finally:
        os.close(fd)


def _kind(mode: int) -> str:
    name = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
    }.get(stat.S_IFMT(mode), "a device")
    return f"is {name}, not a file; put the task itself here"


def _not_a_file(path: str) -> str:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return ""
    return "" if stat.S_ISREG(mode) else _kind(mode)


def parse_mapping(content: bytes) -> dict[str, Any]:
    """The one mapping of a YAML document. Raises InvalidTask with line and reason."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidTask(f"is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    if "\0" in text:
        raise InvalidTask("holds a NUL byte; it is not text")
    if _CONFLICT.search(content):
        raise InvalidTask("holds merge-conflict markers (<<<<<<<); resolve them and put it here again")
    if _TAG_LINE.search(content):  # libyaml compares each with all before it
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
                return parse_mapping(joined.encode())
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


def line_of(content: bytes, key: str) -> str:
    """`line 3: ` for the line on which a key of the outermost mapping stands; "" if it cannot be told."""
    if len(key) > 100:
        return ""  # a pattern of megabytes takes seconds to compile
    text = content.decode("utf-8-sig", "replace")
    word = rf"""["']?{re.escape(key)}["']?\s*:"""
    match = re.search(rf"^{word}", text, re.MULTILINE) or re.search(rf"[{{,]\s*{word}", text)
    return f"line {text.count(chr(10), 0, match.end()) + 1}: " if match else ""


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
    for pattern, made in _PLAIN.get(text[:1], ()) if event.implicit[0] else ():  # else it is in quotes, or a block
        if pattern.fullmatch(text):
            try:
                return made(text)
            except InvalidTask as problem:
                raise InvalidTask(f"{_line(event)}{problem}") from None
    return text


def _line(event: Any) -> str:
    return f"line {event.start_mark.line + 1}: " if event.start_mark else ""
