"""`orchestrate tasks`: a page of what there is."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from orchestrator.errors import OrchestrateError, WrongUsage
from orchestrator.names import nearest, printable
from orchestrator.places import find_root

PAGE = 200  # rows, if nobody says how many
STATES = ("pending", "running", "completed", "failed", "review", "rejected")
WORDS = {"assigned": ("running",), "waiting": ("pending",), "active": ("pending", "running"),
         "ended": ("completed", "failed", "review"), "all": STATES, **{one: (one,) for one in STATES}}  # fmt: skip
# option → what it says, for the lane
OPTIONS = {"--status": "status", "-s": "status", "--type": "task_type", "--agent": "agent", "--priority": "priority",
           "--since": "since", "--until": "until", "--limit": "limit", "-n": "limit", "--offset": "offset"}  # fmt: skip


def show(
    root: str, as_json: bool, limit: int = PAGE, offset: int = 0, *, status: Sequence[str] = (), task_type: str = "",
    agent: str = "", priority: str = "", since: str = "", until: str = "",
) -> None:  # fmt: skip
    """Print it; `root` as it was said. Raises WrongUsage."""
    from orchestrator.cli.paint import Paint, columns, put, span
    from orchestrator.cli.views import Views

    wanted: set[str] = set()
    for word in status or ["all"]:
        for part in word.split(","):
            if part not in WORDS:
                raise WrongUsage(f"--status {printable(part)!r}: write one of {', '.join(WORDS)}{nearest(part, WORDS)}")
            wanted |= set(WORDS[part])
    first, last = _moment(since, 0.0), _moment(until, 4e9)
    words = {"0": "high", "1": "normal", "2": "low"}
    if priority and words.get(priority, priority.lower()) not in words.values():
        raise WrongUsage(f"--priority {printable(priority)!r}: write high, normal or low")
    from orchestrator.runs import epoch

    def keep(row: dict[str, Any]) -> bool:
        return (
            (not task_type or row["type"] == task_type)
            and (not agent or agent in (row["agent"], row.get("agent_id")))
            and (not priority or row["priority"] == words.get(priority, priority.lower()))
            and first <= (epoch(row["since"]) or last) <= last
        )

    is_any = not (task_type or agent or priority or since or until)
    rows, more = Views(find_root(root)).page(wanted, None if is_any else keep, offset, limit)
    if as_json:
        put(rows)
        _more(more, offset + limit)
        return
    lines = [
        (row["task_id"], row["state"], row["priority"], row["agent"], span(row["seconds"]), row["title"], row["reason"])
        for row in rows
    ]
    heading = ("TASK", "STATE", "PRIORITY", "AGENT", "SINCE", "TITLE", "WHY")
    columns(lines, Paint(), heading, give=("PRIORITY", "SINCE", "AGENT", "TITLE"))
    _more(more, offset + limit)


def _more(more: bool, place: int) -> None:
    sys.stdout.flush()  # first what was asked for
    if more:
        print(f"orchestrate: there are more: --offset {place}, or --limit 0 for all", file=sys.stderr)


def _moment(text: str, otherwise: float) -> float:
    if not text:
        return otherwise
    from orchestrator.runs import epoch

    try:
        return time.time() - seconds(text)
    except OrchestrateError:
        found = epoch(text)
        if not found:
            raise WrongUsage(f"{printable(text)!r} is no time; write 2h, 3d or 2025-01-15") from None
        return found


def seconds(text: str) -> float:
    """An age such as 30d, in seconds. Raises WrongUsage."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
    number, unit = text[:-1], text[-1:]
    if unit not in units or not number.replace(".", "", 1).isdecimal():
        raise WrongUsage(f"{printable(text)!r} is no age; write 30d, 12h or 90m")
    return float(number) * units[unit]
