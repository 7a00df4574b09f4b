"""Colour and columns where a person looks; plain lines in a pipe (https://no-color.org is honoured)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

CELL = 32  # characters of any column but the last


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
        return paint.get(word, self.strong if word == "running" else str)(word)


def columns(rows: Sequence[Sequence[str]], paint: Paint, heading: Sequence[str] = ()) -> None:
    """Rows under a heading, aligned; a terminal's line is not exceeded. In a pipe: tabs, no heading."""
    if not sys.stdout.isatty() and not paint.on:
        for row in rows:
            print("\t".join(row))
        return
    table = [[*map(_shortened, row[:-1]), row[-1]] for row in ([heading, *rows] if heading else rows)]
    if not table:
        return
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    limit = os.get_terminal_size().columns if sys.stdout.isatty() else 200
    for number, row in enumerate(table):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        left = "  ".join(cells[:-1])
        line = f"{left}  {row[-1]}"[: max(40, limit)].rstrip()
        if heading and number == 0:
            print(paint.faint(line))
        else:
            for word in ("completed", "failed", "rejected", "review", "running"):
                if f"  {word} " in line:
                    line = line.replace(f"  {word} ", f"  {paint.state(word)} ", 1)
                    break
            print(line)


def _shortened(cell: str) -> str:
    """A long title leaves room for the reason behind it; `show` has all of both."""
    return cell if len(cell) <= CELL else cell[: CELL - 1] + "…"


def span(seconds: float) -> str:
    """A time that a person can take in: 42s, 3m10s, 2h05m, 4d."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m" if whole < 86400 else f"{whole // 86400}d"
