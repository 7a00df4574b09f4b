"""Plain rules about names, in the standard library alone: the fast commands use them too.

An id is a file name in a folder that people, git, shells and several systems share, so it is
checked whole (`fullmatch`: a `$` would let a newline through) and stays short enough that
`<id>_agent_01.yaml` and `<id>.yaml.reason.txt` fit into 255 bytes.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sized

ID_LIMIT = 100  # characters; 180 bytes at most
PATH_LIMIT = 1000  # characters; each part of a path is looked up with all before it
_ID = re.compile(r"\w[\w.-]*")
_RESERVED = re.compile(r".*(_result|_agent_\d+)")  # names of the files beside a task
_NUMBERS = re.compile(r"(\d+)")

PRIORITIES = {"high": 0, "normal": 1, "low": 2}


def id_problem(text: str) -> str:
    """Why `text` cannot be a task's id, in words that follow "id …"; "" if it can."""
    if not text:
        return "is empty"
    if not isinstance(text, str):
        return f"{printable(text)} is no text"
    if len(text) > ID_LIMIT or len(text.encode("utf-8", "surrogatepass")) > 180:
        return f"is longer than {ID_LIMIT} characters"
    if not _ID.fullmatch(text):
        return f"{printable(text)!r} may hold letters, digits, '_', '-' and '.', and starts with a letter or digit"
    if unicodedata.normalize("NFC", text) != text:
        return f"{text!r} is not in Unicode's composed form (NFC)"
    if _RESERVED.fullmatch(text):
        return f"{text!r} ends like a file that lies beside a task (…_result, …_agent_01)"
    return ""


def id_from_stem(stem: str) -> str:
    """The id of a file that states none: its stem, with what an id may not hold as '_'; a long one is cut, and ends
    with a number of its own."""
    if not id_problem(stem):
        return stem
    text = unicodedata.normalize("NFC", stem.encode("utf-8", "replace").decode())
    whole = re.sub(r"[^\w.-]", "_", text).lstrip(".-")
    text = whole[:ID_LIMIT]
    while len(text.encode()) > 180:
        text = text[:-1]
    if text != whole:  # two long names may begin alike
        import zlib

        text = f"{text[:-9]}_{zlib.crc32(whole.encode()):08x}"
    if _RESERVED.fullmatch(text):
        text += "_task"
    return text if not id_problem(text) else ""


def path_problem(text: str) -> str:
    """Why `text` cannot name a file below the root; "" if it can. Looks at the words only."""
    if not text or "\0" in text:
        return "is empty" if not text else "holds a NUL"
    if len(text) > PATH_LIMIT:
        return f"is longer than {PATH_LIMIT:,} characters"
    if text.startswith(("/", "~")) or ".." in text.split("/"):
        return f"{printable(text)!r} leaves the root; write it relative to the root"
    return ""


def page_name(name: str) -> str:
    """`known_issues` → `known_issues.md`."""
    return name if "." in name else f"{name}.md"


def natural(text: str) -> tuple[object, ...]:
    """Sort key by which task_2 comes before task_10."""
    return tuple(int(part) if part.isdecimal() else part for part in _NUMBERS.split(text))


def counted(things: Sized | int, word: str) -> str:
    """`1 task`, `2 tasks`."""
    number = things if isinstance(things, int) else len(things)
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def numbered(name: str, count: int) -> str:
    """`name`, or `stem.2.yaml` and so on; short enough that `.reason.txt` fits behind it."""
    stem, ending = os.path.splitext(name)
    while len(os.fsencode(f"{stem}{ending}")) > 235:
        stem, ending = (stem[:-1], ending) if stem else (ending[:200], "")
    return f"{stem}{ending}" if count == 1 else f"{stem}.{count}{ending}"


def title_of(description: str) -> str:
    """The first line of a description, for lists."""
    return printable((description.strip().splitlines() or [""])[0], 80)


def count_problem(value: object, least: int = 0) -> str:
    """Why this is no whole number of `least` or more, in words that follow its name; "" if it is."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return ""
    return f"write a whole number{f' of {least} or more' if least else ''}, not {printable(repr(value))}"


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word most like `word`, as ` (did you mean 'x'?)`, or ""."""
    import difflib

    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def printable(text: str, limit: int = 200) -> str:
    """`text` safe for a terminal and a log line: no control, no bidirectional characters."""
    text = str(text)  # of a program of somebody else's, it may be anything
    text = text[:limit] + ("…" if len(text) > limit else "")
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c
        if c.isprintable() and not 0xD800 <= ord(c) <= 0xDFFF
        else c.encode("unicode_escape", "surrogatepass").decode()
        for c in text
    )
