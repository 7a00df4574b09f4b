"""Keep what a run measured in docs/performance.json, and draw docs/performance.md's tables and curves from it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import Any

from tools import REPOSITORY, Figure

DOCS = os.path.join(REPOSITORY, "docs")
KEPT = os.path.join(DOCS, "performance.json")
PAGE = os.path.join(DOCS, "performance.md")
TABLES = {
    "throughput": ("throughput",),
    "submit": ("submit",),
    "scale": ("scale", "million", "history"),
    "way": ("way",),
}
GUARANTEE = re.compile(r"([^·:]+): ([^·]+?)(?: · |$)")


def keep(where: str, found: dict[str, list[Figure]]) -> None:
    """These rows in the place of those of the same names; then the page and the curves anew."""
    kept: dict[str, Any] = {}
    if os.path.exists(KEPT):
        with open(KEPT, encoding="utf-8") as file:
            kept = json.load(file)
    where = where.partition(" in /")[0]
    kept |= {row: {"machine": where, "figures": [one.plain() for one in figures]} for row, figures in found.items()}
    with open(KEPT, "w", encoding="utf-8") as file:
        file.write("{\n" + ",\n".join(f"{json.dumps(row)}: {json.dumps(kept[row])}" for row in sorted(kept)) + "\n}\n")
    draw(kept)


def draw(kept: dict[str, Any]) -> None:
    """Every table between its two marks; the curves."""
    with open(PAGE, encoding="utf-8") as file:
        text = file.read()
    special = {row for rows in TABLES.values() for row in rows}
    tables = {name: [row for row in rows if row in kept] for name, rows in TABLES.items()}
    tables["figures"] = [row for row in kept if row not in special]
    for name, rows in tables.items():
        lines = _guaranteed(kept[name]) if name in ("throughput", "submit") and rows else _plain(kept, rows)
        body = "\n".join([*(lines or ["Not measured yet."]), *_machines(kept, rows)])
        text = re.sub(
            f"(<!-- drawn: {name} -->\n).*?(<!-- end -->)", lambda mark, body=body: mark[1] + body + "\n" + mark[2],
            text, flags=re.DOTALL,
        )  # fmt: skip
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(text)
    _curves(kept)


def _machines(kept: dict[str, Any], rows: Sequence[str]) -> list[str]:
    return [f"\n{one}" for one in dict.fromkeys(f"{kept[row]['machine']}." for row in rows)]


def _plain(kept: dict[str, Any], rows: Sequence[str]) -> list[str]:
    lines = ["| what | ours | beside it | ratio | must reach |", "|---|---|---|---|---|"] if rows else []
    for row in rows:
        for one in kept[row]["figures"]:
            beside = f"{one['beside'] or ''} {_said(one['theirs'], one['unit'])}".strip()
            what = one["what"] + (f" ({one['note']})" if one["note"] and row == "way" else "")
            ours = one["shown"] or _said(one["ours"], one["unit"])
            lines.append(f"| {what} | {ours} | {beside} | {_times(one['ratio'])} | {_bounds(one)} |")
    return lines


def _guaranteed(kept: dict[str, Any]) -> list[str]:
    """A line a peer with what it guarantees, ours first."""
    lines: list[str] = []
    for what in dict.fromkeys(one["what"] for one in kept["figures"]):
        group = [one for one in kept["figures"] if one["what"] == what]
        names = [name.strip() for name, _ in GUARANTEE.findall(group[0]["note"])]
        lines += ["", f"**{what}**", ""] if lines else [f"**{what}**", ""]
        lines += [f"| | {group[0]['unit']} | ours is | must reach | {' | '.join(names)} |"]
        lines += ["|---" * (4 + len(names)) + "|"]
        durable = "not synced" if "relaxed" in what else "yes"
        if kept["figures"][0]["row"] == "submit":
            durable = f"{'all' if 'at once' in what else 'each'}, when the call returns"
        lines.append(
            f"| **orchestrate** | {_said(group[0]['ours'], '')} | | | {durable} |{' yes |' * (len(names) - 1)}"
        )
        for one in group:
            cells = " | ".join(value for _, value in GUARANTEE.findall(one["note"]))
            theirs = _said(one["theirs"], "")
            lines.append(f"| {one['beside']} | {theirs} | {_times(one['ratio'])} | {_bounds(one)} | {cells} |")
    return lines


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.1f} ×" if ratio >= 2 else f"{ratio:.2f} ×"


def _bounds(one: dict[str, Any]) -> str:
    return ", ".join(f"{bound['text']}{'' if bound['met'] else ' **missed**'}" for bound in one["bounds"])


def _said(values: dict[str, float] | None, unit: str) -> str:
    if not values:
        return ""
    shown = [
        f"{values[name]:,.3g}" if values[name] < 100 else f"{values[name]:,.0f}" for name in ("median", "min", "max")
    ]
    return f"{shown[0]} {unit}".strip() + (f" ({shown[1]}–{shown[2]})" if values["count"] > 1 else "")


# -- curves ------------------------------------------------------------------------------------------


def _curves(kept: dict[str, Any]) -> None:
    """Three small pictures; none where matplotlib is not here."""
    try:
        import matplotlib
    except ImportError:
        print("no curves: matplotlib is not here (make bench installs it)")
        return
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "orchestrate", "font.size": 9})
    points = {}
    for row in ("million", "scale"):
        for one in kept.get(row, {"figures": []})["figures"]:
            points[one["what"].partition(",")[0], one["at"]] = one["ours"]["median"], one
    _line(
        "throughput",
        "tasks a second",
        [(at, 1000 / y) for (what, at), (y, _) in points.items() if what == "cost of a task"],
    )
    _line(
        "memory",
        "MB resident",
        [(at, y) for (what, at), (y, _) in points.items() if what == "memory of the dispatcher"],
    )
    shares: list[tuple[str, list[float]]] = []
    for one in kept.get("latency", {"figures": []})["figures"][-1:]:
        shares += [("started by hand", one["theirs"]["all"]), ("nothing else waits", one["ours"]["all"])]
    shares += [
        (f"{at:,} wait", one["ours"]["all"])
        for (what, at), (_, one) in sorted(points.items())
        if what.startswith("drop")
    ]
    _shares(shares)


def _line(name: str, what: str, points: list[tuple[int, float]]) -> None:
    from matplotlib import pyplot

    if not points:
        return
    figure, axes = pyplot.subplots(figsize=(4.5, 2.4))
    axes.plot(*zip(*sorted(points), strict=True), marker="o", markersize=3)
    axes.set(xscale="log", xlabel="tasks that wait", ylabel=what)
    axes.set_ylim(bottom=0)
    _save(figure, name)


def _shares(found: list[tuple[str, list[float]]]) -> None:
    from matplotlib import pyplot

    if not found:
        return
    figure, axes = pyplot.subplots(figsize=(4.5, 2.4))
    for name, values in found:
        axes.plot(sorted(values), [100 * (place + 1) / len(values) for place in range(len(values))], label=name)
    axes.set(xscale="log", xlabel="drop → first instruction, ms", ylabel="% of drops")
    axes.legend(fontsize=7)
    _save(figure, "latency")


def _save(figure: Any, name: str) -> None:
    from matplotlib import pyplot

    figure.tight_layout()
    figure.savefig(f"{DOCS}/performance-{name}.svg", metadata={"Date": None})
    pyplot.close(figure)
