"""Read a file that anybody may have put there: bounded, strict, never raising anything but
`InvalidTask`.

PyYAML alone is not safe for this: some 25 KB of nesting end the process inside libyaml,
366 bytes of merge keys and two megabytes of %TAG lines run for a minute, aliases explode in
whatever walks them later, duplicate keys pass in silence, and YAML 1.1 turns `no`, `12:30` and
`010` into other things. So a pass over the events comes first and stops early; then a loader of our own builds YAML
1.2's core types only, with string keys, each once.
"""

from __future__ import annotations

import errno
import math
import os
import re
import stat
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


class _Loader(_Base):  # type: ignore[misc]
    """YAML 1.2 core schema; mappings with string keys, each once."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, Any]]] = {}


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    for _c in _first:
        _Loader.yaml_implicit_resolvers.setdefault("" if _c == "\0" else _c, []).append(
            (f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"))
        )


def _mapping(loader: Any, node: yaml.MappingNode) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise InvalidTask(f"line {key_node.start_mark.line + 1}: a key must be a word, not {printable(str(key))}")
        if key in found:
            raise InvalidTask(f"line {key_node.start_mark.line + 1}: the key {printable(key)!r} stands twice")
        found[key] = loader.construct_object(value_node, deep=True)
    return found


def _integer(loader: Any, node: yaml.ScalarNode) -> int:
    text = node.value
    if len(text) > 20:
        raise InvalidTask(f"line {node.start_mark.line + 1}: a number of {len(text)} digits")
    return int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10)


def _float(loader: Any, node: yaml.ScalarNode) -> float:
    number = float(node.value[:100])
    if not math.isfinite(number):
        raise InvalidTask(f"line {node.start_mark.line + 1}: a number out of range")
    return number


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)
_Loader.add_constructor("tag:yaml.org,2002:bool", lambda loader, node: node.value.lower() == "true")


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


def read_bytes(path: str, limit: int = SIZE_LIMIT, settled: bool = False) -> bytes:
    """The whole content of a regular file. Follows no symlink, waits for no FIFO.

    With `settled`, a file that somebody still writes raises StillWritten, and nobody can start
    to write it while it is read. Raises InvalidTask (what is wrong with the file), and OSError
    (FileNotFoundError, …) for what is not the file's fault.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
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
        _walk(text)
        value = yaml.load(text, Loader=_Loader)  # a safe loader, made stricter
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = printable(str(error.problem or "cannot be parsed"))
        if "Unicode character escape" in problem:
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


def _walk(text: str) -> None:
    """One pass over the events, before anything is built; stops at the first that may not be."""
    depth = documents = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Base)):
        mark = event.start_mark
        where = f"line {mark.line + 1}: " if mark else ""
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise InvalidTask(f"{where}a second document starts; one file is one task")
        elif isinstance(event, yaml.AliasEvent):
            raise InvalidTask(f"{where}an alias (*{printable(event.anchor or '', 40)}); write the value out")
        elif isinstance(event, yaml.NodeEvent):
            if event.anchor:
                raise InvalidTask(f"{where}an anchor (&{printable(event.anchor, 40)}); write the value out")
            if tag := getattr(event, "tag", None):
                raise InvalidTask(f"{where}a tag ({printable(tag, 40)}); plain values only")
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > DEPTH_LIMIT:
                    raise InvalidTask(f"{where}nested deeper than {DEPTH_LIMIT} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if count > EVENT_LIMIT:
            raise InvalidTask(f"{where}more than {EVENT_LIMIT:,} values")
