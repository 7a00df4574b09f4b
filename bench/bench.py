"""`make bench`: our figures, each beside something that everybody knows, measured in the same run.

A figure is a median with its smallest and largest value; what is compared is measured in turns
(A B A B), so that a busy machine is busy for both. Nothing here is a test: the exit code says
only whether everything could be measured.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import signal
import sys

import page
from rows import ASKED_FOR, QUICK, ROWS
from tools import REPOSITORY, Figure, Place, machine, median


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure orchestrate, as ratios, side by side.")
    parser.add_argument("--quick", action="store_true", help="the rows that tell most, fewer rounds: under a minute")
    parser.add_argument("--million", action="store_true", help="the row `million`, too: many minutes")
    parser.add_argument("--write", action="store_true", help="keep it in docs/performance.json, and draw the page anew")
    parser.add_argument(
        "--only", metavar="NAME", action="append", choices=list(ROWS), help=f"one of: {', '.join(ROWS)}"
    )
    parser.add_argument("--at", metavar="FOLDER", default="", help="work there, whatever disk that is")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    sys.path.insert(0, REPOSITORY)
    compileall.compile_dir(os.path.join(REPOSITORY, "orchestrator"), quiet=1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that `Place` is cleared
    place = Place(options.at)
    where = machine(place)
    found: dict[str, list[Figure]] = {}
    problems: list[str] = []
    if not options.json:
        print(where, flush=True)
    usual = QUICK if options.quick else [name for name in ROWS if name not in ASKED_FOR]
    for name in [*(options.only or usual), *(["million"] if options.million else [])]:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        try:
            found[name] = ROWS[name](place, options.quick)
        except Exception as error:  # noqa: BLE001 (one row that cannot be measured must not cost the others)
            problems.append(f"{name}: could not be measured: {type(error).__name__}: {error}")
        if options.write and name in found:  # at once: a later row may take long, or be interrupted
            page.keep(where, {name: found[name]})
    figures = [figure for row in found.values() for figure in row]
    if options.json:
        shown = [figure.plain() for figure in figures]
        print(json.dumps({"machine": where, "quick": options.quick, "figures": shown, "problems": problems}, indent=1))
    else:
        print_table(figures)
        for problem in problems:
            print(problem)
    return 1 if problems else 0


def print_table(figures: list[Figure]) -> None:
    """One row a figure."""
    rows = [("what", "ours", "beside it", "ratio", "bound", "met")]
    for one in figures:
        ours = one.shown or _number(one.ours, one.unit)
        beside = f"{one.beside}: {_number(one.theirs, one.unit)}" if one.theirs else one.beside
        ratio = f"{one.ratio:.2f} ×" if one.ratio is not None else ""
        bound = ", ".join(bound.text for bound in one.bounds)
        missed = [bound.text for bound in one.bounds if not bound.met]
        met = (
            ""
            if not one.bounds
            else "yes"
            if not missed
            else "NO"
            if len(one.bounds) == 1
            else f"NO: {', '.join(missed)}"
        )
        rows.append((one.what, ours, beside, ratio, bound, met))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for number, row in enumerate(rows):
        cells = [
            cell.rjust(width) if column == 3 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        print("  ".join((*cells, row[5])).rstrip())
        if number == 0:
            print("-" * (sum(widths) + 14))
        elif figures[number - 1].note:
            print(f"    {figures[number - 1].note}")


def _number(values: object, unit: str) -> str:
    if not values:
        return ""
    assert isinstance(values, (list, tuple))
    one = [
        f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.3f}"
        for value in (median(values), min(values), max(values))
    ]
    spread = f" ({one[1]}–{one[2]})" if len(values) > 1 else ""
    return f"{one[0]} {unit}{spread}"


if __name__ == "__main__":
    sys.exit(main())
