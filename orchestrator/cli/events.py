"""`orchestrate events`: the journal of facts, searched, and followed as it grows."""

from __future__ import annotations

import json
import select
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.cli.listing import seconds
from orchestrator.cli.paint import Paint, put
from orchestrator.cli.status import how_far
from orchestrator.errors import OrchestrateError, WrongUsage
from orchestrator.events import KINDS
from orchestrator.journal import Reading
from orchestrator.names import nearest, printable
from orchestrator.runs import utc

LOOK_SECONDS = 0.1
FIRST = 10  # events from before, with --follow and no word about how many
LONGEST = 2000  # characters of a text on a terminal
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def moment(text: str) -> float:
    """`2h`, `yesterday`, `monday`, a date, or a time of ISO 8601 (UTC if it does not say), as epoch seconds; 0.0 for
    "". Raises WrongUsage."""
    word = text.strip().lower()
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if word in ("", "today", "yesterday", *DAYS):
        back = (today.weekday() - DAYS.index(word)) % 7 or 7 if word in DAYS else int(word == "yesterday")
        return (today - timedelta(days=back)).timestamp() if word else 0.0
    try:
        return time.time() - seconds(word)
    except OrchestrateError:
        pass
    try:
        found = datetime.fromisoformat(text.strip())
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise WrongUsage(
            f"--since {printable(text)!r} is no time; write 2h, 3d, yesterday, 2025-01-15 or 2025-01-15T10:00:00Z (UTC)"
        ) from None


def kinds(words: Iterable[str]) -> frozenset[str]:
    """The kinds that these words name, also several with commas. Raises WrongUsage, with the nearest."""
    found = [part.strip() for word in words for part in word.split(",") if part.strip()]
    for one in found:
        if one not in KINDS:
            hint = nearest(one, KINDS)
            raise WrongUsage(f"--type {printable(one)!r}: there is no such kind{hint}; there are: {', '.join(KINDS)}")
    return frozenset(found)


class Wanted:
    """Which events somebody wants to see."""

    def __init__(self, task_id: str, agent: str, words: Iterable[str]) -> None:
        self.task_id, self.agent, self.kinds = task_id, agent, kinds(words)

    def of(self, rows: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Those of these."""
        for row in rows:
            if self.task_id and row.get("task_id") != self.task_id:
                continue
            if self.agent and self.agent not in (row.get("agent_id"), row.get("agent_type")):
                continue
            if not self.kinds or row["kind"] in self.kinds:
                yield row

    def must(self) -> list[str]:
        """What each of their lines holds."""
        return [json.dumps(one, ensure_ascii=False) for one in (self.task_id, self.agent) if one]


def print_events(root: str, wanted: Wanted, since: float, limit: int | None, follow: bool, as_json: bool) -> None:
    """Print them; with `follow`, until somebody interrupts it or hangs up."""
    reading = Reading(f"{root}/.orchestrator", since, wanted.must())
    rows = wanted.of(reading.rows(follow))
    limit = FIRST if follow and limit is None and not since else limit
    if limit is not None:
        rows = iter(deque(rows, min(limit, 1 << 60)))
    if as_json and not follow:
        put(list(rows))
        return
    line = _as_json if as_json else _Lines().line
    found = _print(rows, line)
    if not follow:
        if not found:
            print("orchestrate: no such event in .orchestrator/events", file=sys.stderr)
        return
    reader = select.poll()
    reader.register(sys.stdout.fileno(), 0)
    try:
        while not reader.poll(1000 * LOOK_SECONDS):  # else whoever read us has gone
            _print(wanted.of(reading.rows(True)), line)
    except KeyboardInterrupt:
        pass  # how it is meant to end


def _print(rows: Iterable[Mapping[str, Any]], line: Any) -> bool:
    found = False
    for row in rows:
        print(line(row), flush=True)
        found = True
    return found


def _as_json(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "replace").decode()


class _Lines:
    """An event as a line: aligned where a person looks, with tabs between its four parts in a pipe."""

    def __init__(self) -> None:
        self._paint = Paint()
        self._tty = sys.stdout.isatty()

    def line(self, row: Mapping[str, Any]) -> str:
        """Time (UTC), kind, task, text."""
        at, kind = utc(float(row["at"])), str(row["kind"])
        task_id, text = (" ".join(str(row.get(key) or "").splitlines()) for key in ("task_id", "text"))
        if kind == "progress" and "findings" in row:
            text = f"{text}{how_far(0, row['findings']).removeprefix(', 0 %')}"
        if not self._tty:
            return "\t".join(one.replace("\t", " ") for one in (at, kind, task_id, text))
        text = f"{printable(task_id)}  {printable(text, LONGEST)}" if task_id else printable(text, LONGEST)
        return f"{self._paint.faint(at)}  {self._paint.state(f'{printable(kind):12}')}  {text}"
