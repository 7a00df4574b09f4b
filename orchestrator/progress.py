"""How far a run is: progress.jsonl in its folder, one line a report, readable by anybody while the run goes on.

Loads little: `orchestrate status` shows it, too.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from orchestrator import files, plain
from orchestrator.errors import OrchestrateError

PROGRESS_BYTES = 1_000_000  # of one report


def line(percent: float, findings: Any = None) -> bytes:
    """One report: 0 to 100, and any JSON value. Raises OrchestrateError."""
    if isinstance(percent, bool) or not isinstance(percent, (int, float)) or not 0 <= percent <= 100:
        raise OrchestrateError(f"percent: write a number from 0 to 100, not {percent!r}")
    row = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "percent": percent, "findings": findings}
    try:
        text = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")
    except (TypeError, ValueError, RecursionError) as error:
        raise OrchestrateError(f"findings: {error}; write what JSON can hold") from None
    if len(text) > PROGRESS_BYTES:
        raise OrchestrateError(
            f"findings: {len(text):,} bytes, and {PROGRESS_BYTES:,} is the most; write them to a file and name it"
        )
    return text


def last(folder: str) -> tuple[float | None, Any]:
    """(percent, finding) of a run's last report; (None, None) if it has made none. A torn last line is passed over."""
    percent, finding = None, None
    try:
        with open(f"{folder}/progress.jsonl", "rb", opener=plain.opener) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 2 * PROGRESS_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return None, None
    for one in reversed(lines):
        try:
            row = json.loads(one)
            percent = float(row["percent"]) if percent is None else percent
            finding = row.get("findings")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
        if finding is not None:
            break
    return percent, finding


def append(path: str, content: bytes) -> None:
    """Add a report, durably."""
    existed = os.path.exists(path)
    plain.append(path, content, sync=True)
    if not existed:
        files.sync_folder(os.path.dirname(path))
