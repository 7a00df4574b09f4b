"""Colour and columns where a person looks; plain lines in a pipe (https://no-color.org is honoured)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

CELL = 32  # characters of any column before the last has all it needs
INDENT, LINES = 4, 3  # of a last column below its row
SHORT = 12  # characters that are left of any other where there is no room


class Paint:
    """Wraps words in colour, or not."""

    def __init__(self) -> None:
        wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.on = bool(wanted and (sys.stdout.isatty() or os.environ.get("FORCE_COLOR")))

    def _in(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.on else text

    def good(self, text: str) -> str:
        return self._in("32", text)

    def bad(self, text: str) -> str:
        return self._in("31", text)

    def warm(self, text: str) -> str:
        return self._in("33", text)

    def faint(self, text: str) -> str:
        return self._in("2", text)

    def strong(self, text: str) -> str:
        return self._in("1", text)

    def state(self, word: str) -> str:
        """A state in its colour."""
        paint = {"completed": self.good, "failed": self.bad, "rejected": self.bad, "review": self.warm}
        return paint.get(word.strip(), self.strong if word.strip() == "running" else str)(word)


def columns(rows: Sequence[Sequence[str]], paint: Paint, heading: Sequence[str], give: Sequence[str]) -> None:
    """Rows under a heading, aligned, each on one line of the terminal; the last column is what is left of it. Where that
    is too little for what stands in it, it has the lines below for itself.

    On a narrow one, cells become shorter, and then the columns `give` are left out, the first first; so are those with
    nothing in them. In a pipe: everything, with tabs, and no heading.
    """
    if not sys.stdout.isatty() and not paint.on:
        for row in rows:
            print("\t".join(row))
        return
    last = len(heading) - 1
    natural = [max(map(_width, column)) for column in zip(heading, *rows, strict=True)]
    shown = [i for i in range(len(heading)) if i in (0, last) or any(row[i] for row in rows)]
    limit, leave = line_width(), [heading.index(name) for name in give]
    widths = [min(width, SHORT) if i else min(width, CELL) for i, width in enumerate(natural)]
    widths[last] = min(natural[last], max(2 * SHORT, limit // 3))
    while (room := limit - sum(widths[i] for i in shown) - 2 * (len(shown) - 1)) < 0 and leave:
        if (out := leave.pop(0)) in shown:
            shown.remove(out)
    for i, wanted in [(i, min(natural[i], CELL)) for i in shown[:-1]] + [(i, natural[i]) for i in reversed(shown)]:
        more = max(0, min(room, wanted - widths[i]))
        widths[i], room = widths[i] + more, room - more
    widths[last] += min(room, 0)
    for number, row in enumerate([heading, *rows]):
        below = number > 0 and _width(row[last]) > widths[last]
        cells = [_fitted("" if below and i == last else row[i], widths[i]) for i in shown]
        if number == 0:
            print(paint.faint("  ".join(cells).rstrip()))
        else:
            cells = [paint.state(cell) if heading[i] == "STATE" else cell for i, cell in zip(shown, cells, strict=True)]
            print("  ".join(cells).rstrip())
        beneath = max(limit, 20) - INDENT
        for line in _wrapped(row[last], beneath)[:LINES] if below else ():
            print(" " * INDENT + _fitted(line, beneath).rstrip())


def fold(text: str, indent: int) -> str:
    """A text that stands behind `indent` characters: on a terminal what is too long for its line goes on below, word
    by word."""
    room = max(20, line_width() - indent)
    if not sys.stdout.isatty() or _width(text) <= room:
        return text
    return f"\n{' ' * indent}".join(_wrapped(text, room))


def _wrapped(text: str, room: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)


def line_width() -> int:
    """Characters of a line; 200 where it is no terminal's."""
    wanted = os.environ.get("COLUMNS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    return (os.get_terminal_size(sys.stdout.fileno()).columns or 80) if sys.stdout.isatty() else 200


def _width(text: str) -> int:
    """How wide a terminal draws it: letters of the East take two columns."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text if c != "\x1b")


def _fitted(text: str, width: int) -> str:
    """As much of it as fits (`show` has all of it), and spaces."""
    if _width(text) > width:
        while text and _width(text) > width - 1:
            text = text[:-1]
        text = f"{text.rstrip()}…"
    return text + " " * (width - _width(text))


def span(seconds: float) -> str:
    """A time that a person can take in: 42s, 3m10s, 2h05m, 4d."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m" if whole < 86400 else f"{whole // 86400}d"


def put(values: Any) -> None:
    """Print JSON."""
    import json

    text = json.dumps(values, ensure_ascii=False)
    print(text.encode("utf-8", "replace").decode())  # a file's name need not be UTF-8
