"""What the adapters' tests share: recorded runs, and requests as the dispatcher makes them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.agents.base import Evidence, Request

TRANSCRIPTS = Path(__file__).parent / "transcripts"
ENDED_AT = 1795176702.0  # 2026-11-20 12:11:42 UTC, when most of them were recorded
SESSION = "11111111-2222-4333-8444-555555555555"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key and no folder of the person who runs the tests."""
    for name in ("CODEX_HOME", "CURSOR_API_KEY", "CURSOR_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def settings_of(**values: Any) -> Any:
    known = {"command": "", "adapter": None, "prompt": "stdin", "output": "text", "answer": ""}
    return SimpleNamespace(**known | {"success_exit_codes": (0,), "env": {}} | values)


@pytest.fixture
def settings() -> Callable[..., Any]:
    return settings_of


@pytest.fixture
def recorded() -> Callable[..., Evidence]:
    """The evidence of a recorded run: a negative status is a signal, no status is not known."""

    def evidence(kind: str, case: str, **changes: Any) -> Evidence:
        base = TRANSCRIPTS / kind / case
        code = json.loads(base.with_suffix(".json").read_text())["exit"]
        code = None if code == "TIMEOUT" else 128 - code if code < 0 else code
        out, err = str(base) + ".out", str(base) + ".err"
        return Evidence(out, err, code, settings_of(), "/nowhere", ENDED_AT)._replace(**changes)

    return evidence


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Evidence]:
    """The evidence of a run that printed this."""

    def evidence(stdout: str | bytes = "", stderr: str = "", code: int | None = 0, **changes: Any) -> Evidence:
        out, err = tmp_path / "stdout.log", tmp_path / "stderr.log"
        out.write_bytes(stdout if isinstance(stdout, bytes) else stdout.encode())
        err.write_text(stderr)
        return Evidence(str(out), str(err), code, settings_of(**changes), str(tmp_path), ENDED_AT)

    return evidence


@pytest.fixture
def request_for(tmp_path: Path) -> Callable[..., Request]:
    """A request with this command, split as the dispatcher splits it."""

    def request(command: str, text: str = "Do it.", run: str | None = None, **changes: Any) -> Request:
        words = tuple(shlex.split(command))
        task: Any = SimpleNamespace(run=run)
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        settings = settings_of(command=command, **changes)
        files = str(folder / "prompt.md"), str(folder / "answer.md")
        return Request(task, settings, words, text, *files, str(folder), SESSION)

    return request
