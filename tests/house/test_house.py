"""The house rules: floors, sizes, schemas and docs in step with the code."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import typer

from orchestrator import schemas
from orchestrator.cli import commands, looks, machine, pulling, records
from orchestrator.cli.base import app
from orchestrator.states import MOVES, State

pytestmark = [pytest.mark.fast, pytest.mark.house]

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "orchestrator"

# From the ground up: a room may use those that stand before it, and no other.
FLOORS = [
    "errors",
    "states",
    "clock",
    "names",
    "counting",
    "writing",
    "disk",
    "syncing",
    "files",
    "plain",
    "locks",
    "events",
    "journal",
    "together",
    "output",
    "lines",
    "strict",
    "reading",
    "fetching",
    "apart",
    "checking",
    "rules",
    "task",
    "config",
    "process",
    "groups",
    "places",
    "ids",
    "hold",
    "adding",
    "spool",
    "progress",
    "runs",
    "completed",
    "performance",
    "agents.base",
    "agents.flags",
    "agents.lookup",
    "agents.wording",
    "agents.shell",
    "agents.claude",
    "agents.codex",
    "agents.gemini",
    "agents.cursor",
    "agents.command",
    "agents",
    "profiles",
    "context",
    "waiting",
    "history",
    "launcher",
    "prompt",
    "result",
    "retry",
    "roster",
    "router",
    "known",
    "health",
    "registry",
    "stranded",
    "live",
    "supervisor",
    "hands",
    "checklist",
    "returned",
    "needs",
    "backlog",
    "aside",
    "arriving",
    "intake",
    "offers",
    "ended",
    "finish",
    "verdicts",
    "alerts",
    "report",
    "pull",
    "watch",
    "looking",
    "aio",
    "queue",
    "starter",
    "recovery",
    "watcher",
    "worker",
    "dispatcher",
    "app",
    "archive",
    "checkup",
    "schemas",
    "extras",
    "extras.alerts",
    "extras.mcp_words",
    "extras.mcp_asking",
    "extras.mcp_working",
    "extras.mcp_reading",
    "extras.mcp",
    "extras.mcp_http",
]


@cache
def modules() -> dict[str, Path]:
    """Room → its file, without the command line."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__" and not name.startswith("cli"):
            found[name] = path
    return found


def imports(path: Path) -> set[str]:
    """The rooms that a file imports, at the top or inside a function; not those for types only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "orchestrator":
            base = (node.module or "").removeprefix("orchestrator").removeprefix(".")
            for alias in node.names:
                whole = f"{base}.{alias.name}" if base else alias.name
                found.add(whole if whole in modules() or not base else base)
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("orchestrator.") for a in node.names if a.name.startswith("orchestrator.")}
    return {name for name in found if name != "__version__"}


def test_every_room_stands_on_a_floor() -> None:
    assert sorted(modules()) == sorted(FLOORS)


def test_imports_go_down_only() -> None:
    wrong = [
        f"{name} imports {used}"
        for name, path in modules().items()
        for used in imports(path)
        if used not in FLOORS or FLOORS.index(used) >= FLOORS.index(name)
    ]
    assert wrong == []


def test_no_room_is_larger_than_an_evening_allows() -> None:
    large = {
        str(p.relative_to(REPOSITORY)): n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 300
    }
    assert large == {}


def test_add_and_status_load_neither_typer_nor_pydantic_nor_yaml() -> None:
    code = "import sys; sys.argv = ['orchestrate', 'status']; import orchestrator.cli.lane, orchestrator.cli.submit, orchestrator.cli.status, orchestrator.spool; print(*sys.modules)"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COV")}  # coverage loads much
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY, env=plain
    ).stdout
    heavy = {
        "typer",
        "click",
        "pydantic",
        "yaml",
        "rich",
        "watchdog",
        "filelock",
        "asyncio",
        "subprocess",
        "logging",
        "inspect",
    }
    assert heavy & set(said.split()) == set()


def test_the_shipped_schemas_are_those_of_the_models() -> None:
    for name, text in schemas.texts().items():
        assert (PACKAGE / "schemas" / name).read_text(encoding="utf-8") == text, "run: make schemas"


def test_the_task_schema_names_every_key_and_refuses_others() -> None:
    schema = json.loads(schemas.texts()["task.schema.json"])
    assert schema["additionalProperties"] is False
    for key in ("description", "content", "priority", "dependencies", "preferred_agent", "preferred_agent_type", "run"):
        assert key in schema["properties"]


@pytest.mark.heavy
def test_the_docs_are_drawn_from_the_code() -> None:
    said = subprocess.run(
        [sys.executable, "docs/make.py", "--check"], capture_output=True, text=True, check=False, cwd=REPOSITORY
    )
    assert said.returncode == 0, said.stderr


def test_every_command_has_json_and_an_example() -> None:
    assert commands and looks and machine and pulling and records
    group = typer.main.get_command(app)
    names = list(group.commands)  # type: ignore[attr-defined]
    assert len(names) >= 17
    for name in names:
        command = group.commands[name]  # type: ignore[attr-defined]
        assert "Example: orchestrate" in (command.help or "") or 'Example: eval "$(orchestrate' in (
            command.help or ""
        ), name
        assert any("--json" in option.opts for option in command.params), name


def test_the_diagram_in_the_readme_knows_every_state() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for state in State:
        assert f"{state}/" in text, state
    assert set(MOVES) == set(State)


def test_every_make_target_is_there() -> None:
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in ["demo", "start", "stop", "add", "status", "watch", "test", "fast", "check", "bench", "clean"]:
        assert re.search(rf"^{target}:.*##", text, re.MULTILINE), target


def test_ci_runs_the_test_command_and_nothing_else() -> None:
    lines = [
        line for line in (REPOSITORY / ".ci" / "run").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert lines[-1] == "exec make test"
    assert os.access(REPOSITORY / ".ci" / "run", os.X_OK)


def test_a_decision_fits_on_a_page() -> None:
    for path in (REPOSITORY / "docs" / "decisions").glob("*.md"):
        assert re.fullmatch(r"\d{4}-[a-z-]+\.md", path.name)
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 40


def test_decisions_are_numbered_and_every_link_of_the_docs_leads_somewhere() -> None:
    numbers = [path.name[:4] for path in (REPOSITORY / "docs" / "decisions").iterdir()]
    assert sorted(numbers) == sorted(set(numbers))
    pages = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")]
    headings = {
        page: {
            re.sub(r"[^\w -]", "", line.strip("# ").lower()).replace(" ", "-")
            for line in page.read_text().splitlines()
            if line.startswith("#")
        }
        for page in pages
    }
    lost = []
    for page in pages:
        for where, _, heading in re.findall(r"\]\((?!https?:)([^)#\s]*)(#?)([^)\s]*)\)", page.read_text()):
            target = (page.parent / where).resolve() if where else page
            if not target.exists() or (heading and heading not in headings.get(target, set())):
                lost.append(f"{page.relative_to(REPOSITORY)}: {where}#{heading}")
    assert lost == []
