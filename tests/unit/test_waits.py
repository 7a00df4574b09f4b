"""`wait` ends when nobody but a person could change anything, and says why it waits until then."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from helpers import write

from orchestrator.cli import waits
from orchestrator.hold import Hold
from orchestrator.spool import Spool

pytestmark = pytest.mark.fast

AGENTS = {"agents": {"shell": {"capabilities": ["sql"]}, "ghost": {"command": "no-such-program-here"}}}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_SECONDS", "WHY_SECONDS", "HELD_SECONDS"):
        monkeypatch.setattr(waits, name, 0.01)


@pytest.fixture
def served(queue: Spool) -> Iterator[Spool]:
    """A dispatcher holds this root (though it does nothing)."""
    write(f"{queue.root}/config.yaml", json.dumps(AGENTS))
    lock = Hold(queue.root)
    yield queue
    lock.release()


def drop(queue: Spool, task_id: str, folder: str = "pending", **fields: object) -> None:
    values = {"description": "x", "run": "true", **fields}
    write(f"{queue.tasks}/{folder}/{task_id}.yaml", json.dumps({k: v for k, v in values.items() if v is not None}))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"dependencies": ["nothing"]}, "waits for nothing (no such task)"),
        ({"dependencies": ["refused"]}, "waits for refused (rejected: unknown key 'x')"),
        ({"dependencies": ["asks"]}, "waits for asks (in review)"),
        ({"dependencies": ["gone_wrong"]}, "waits for gone_wrong (failed)"),
        ({"requirements": ["chess"]}, "needs capability chess; agents have sql"),
        ({"preferred_agent": "ghost", "run": None}, "ghost cannot start: 'no-such-program-here' is not on PATH"),
    ],
)
def test_it_ends_with_1_and_the_reason_when_only_a_person_can_help(
    served: Spool, capsys: pytest.CaptureFixture[str], fields: dict[str, object], reason: str
) -> None:
    drop(served, "refused", "rejected")
    write(f"{served.tasks}/rejected/refused.yaml.reason.txt", "tasks/pending/refused.yaml: unknown key 'x'\n")
    drop(served, "asks", "review")
    drop(served, "gone_wrong", "failed")
    drop(served, "held", **fields)
    drop(served, "behind", dependencies=["held"])
    code, rows = waits.wait_for(served.root, [], timeout=20)
    assert code == 1
    assert {row["task_id"]: (row["state"], row["reason"]) for row in rows} == {
        "held": ("pending", reason), "behind": ("pending", "waits for held (waiting)")
    }  # fmt: skip
    said = capsys.readouterr().err
    assert said.count(f"held: {reason}\n") == 1 and "only a person can change this; 2 tasks did not run" in said


def test_it_goes_on_while_something_runs_that_could_change_it(served: Spool) -> None:
    drop(served, "held", dependencies=["nothing"])
    drop(served, "runs", "assigned")
    served.assign("runs", "agent_01", "shell", 1, "2025-01-15T10:00:00Z")
    served.sync()
    assert waits.wait_for(served.root, ["held"], timeout=0.3)[0] == 124


def test_it_goes_on_while_one_of_them_can_start_by_itself(served: Spool) -> None:
    drop(served, "held", dependencies=["nothing"])
    drop(served, "free")
    code, rows = waits.wait_for(served.root, [], timeout=0.3)
    assert code == 124 and {row["task_id"] for row in rows} == {"held", "free"}


def test_without_a_dispatcher_it_says_so_once_and_goes_on(queue: Spool, capsys: pytest.CaptureFixture[str]) -> None:
    drop(queue, "one")
    drop(queue, "two")
    assert waits.wait_for(queue.root, [], timeout=0.3)[0] == 124
    assert capsys.readouterr().err.splitlines() == [
        "orchestrate: one and 1 more: no dispatcher runs ('orchestrate start')",
        "orchestrate: 2 tasks have not ended after 0.3 s: one, two",
    ]


def test_what_was_rejected_or_taken_away_meanwhile_is_told_apart(queue: Spool) -> None:
    drop(queue, "refused", "rejected", id="other")
    write(f"{queue.tasks}/rejected/refused.yaml.reason.txt", "tasks/pending/refused.yaml: unknown key 'x'\n")
    assert waits.wait_for(queue.root, ["refused"])[1] == [
        {"task_id": "refused", "state": "rejected", "reason": "unknown key 'x'"}
    ]
    assert waits._ended(queue, "nobody") == {
        "task_id": "nobody", "state": "gone", "reason": "its file was taken away"
    }  # fmt: skip
