"""Looking into JSON that another program wrote: any value may be missing or of another type.

A path is a row of steps: a key of an object, or a place in a list (from the end if negative).
"""

from __future__ import annotations

import re

from orchestrator.errors import OrchestrateError

Step = str | int

_STEP = re.compile(r"""\.?([^.\[\]\s"']+) | \[(-?\d+)\] | \["([^"]*)"\] | \['([^']*)'\]""", re.VERBOSE)


def steps(path: str) -> tuple[Step, ...]:
    """`$.choices[0].message["a key"]` as steps; none for an empty path."""
    text = path.strip().removeprefix("$")
    row: list[Step] = []
    at = 0
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            raise OrchestrateError(f"answer: {path!r} is no JSON path; write it like items[-1].text")
        name, place, *quoted = match.groups()
        row.append(int(place) if place else name or quoted[0] or quoted[1] or "")
        at = match.end()
    return tuple(row)


def found(document: object, *path: Step) -> object:
    """What lies at the path; None if nothing does."""
    for step in path:
        if isinstance(step, str) and isinstance(document, dict):
            document = document.get(step)
        elif isinstance(step, int) and isinstance(document, list) and -len(document) <= step < len(document):
            document = document[step]
        else:
            return None
    return document


def text_at(document: object, *path: Step) -> str:
    """The text at the path; "" for anything else. It can always be written as UTF-8."""
    value = found(document, *path)
    return clean(value) if isinstance(value, str) else ""


def number_at(document: object, *path: Step) -> float:
    """The number at the path; 0 for anything else, negative, or beyond all sense."""
    value = found(document, *path)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15:
        return value
    return 0


def count_at(document: object, *path: Step) -> int:
    """The whole number at the path, as `number_at`."""
    return int(number_at(document, *path))


def clean(text: str) -> str:
    """JSON may hold half a surrogate pair, which no file takes."""
    return text.encode("utf-8", "replace").decode()
