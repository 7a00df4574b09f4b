"""How well agents do: one file each, appended by anybody, counted once, of the last runs only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers import at_once

from orchestrator.performance import AGE, COMPACT_BYTES, WINDOW, Performance, Run

pytestmark = pytest.mark.fast

NOW = 1_800_000_000.0


@pytest.fixture
def performance(tmp_path: Path) -> Performance:
    return Performance(str(tmp_path))


def run(number: int, well: bool | None = True, at: float = NOW, *kinds: str, seconds: float = 2.0) -> Run:
    return Run(f"task_{number}/1", well, seconds, at, kinds)


def note(performance: Performance, signs: str, *kinds: str, start: int = 0) -> None:
    """`+` a run that went well, `-` one that did not, `0` one that says nothing."""
    for number, sign in enumerate(signs, start):
        performance.note("a", run(number, {"+": True, "-": False, "0": None}[sign], NOW, *kinds))


def test_the_share_of_runs_that_went_well_is_counted(performance: Performance) -> None:
    note(performance, "+++-")
    standing = performance.of("a", NOW)
    assert (standing.runs, standing.well, standing.success_rate, standing.seconds) == (4, 3, 0.75, 2.0)
    assert performance.of("nobody", NOW).success_rate == 1.0


def test_what_was_not_the_agents_doing_says_nothing_of_it(performance: Performance) -> None:
    note(performance, "+00000-")
    assert performance.of("a", NOW)[:2] == (2, 1)


def test_a_run_counts_once_however_often_it_was_noted(performance: Performance) -> None:
    for _ in range(3):
        performance.note("a", run(1, False))
    performance.note("a", run(2))
    assert performance.of("a", NOW)[:2] == (2, 1)


def test_only_the_last_runs_count(performance: Performance) -> None:
    note(performance, "-" * 30 + "+" * WINDOW)
    assert performance.of("a", NOW)[:2] == (WINDOW, WINDOW)


def test_what_is_too_old_counts_no_more(performance: Performance) -> None:
    performance.note("a", run(1, False, NOW - AGE - 1))
    performance.note("a", run(2, True, NOW - AGE + 1))
    assert performance.of("a", NOW)[:2] == (1, 1)
    assert performance.of("a", NOW + 120)[:2] == (0, 0), "also for who has read it before"


def test_a_newcomers_first_runs_count_as_well_done_until_they_are_made(performance: Performance) -> None:
    assert performance.of("a", NOW).expected == 1.0
    note(performance, "-")
    assert performance.of("a", NOW).expected == 0.8
    note(performance, "----", start=1)
    assert performance.of("a", NOW).expected == 0.0
    note(performance, "+" * 15, start=5)
    assert performance.of("a", NOW).expected == 0.75


def test_a_torn_line_harms_neither_those_before_nor_those_after(performance: Performance) -> None:
    note(performance, "+-")
    path = f"{performance.folder}/a.runs"
    with open(path, "a") as file:
        file.write("\ntask_9/1\t-\t2.0\t1800000000.0\tsq")
    assert performance.of("a", NOW)[:2] == (2, 1)
    note(performance, "+", start=2)
    assert performance.of("a", NOW)[:2] == (3, 2)
    Path(path).write_bytes(b"\xff\xfe\0rubbish\n\t\t\t\t\n" + Path(path).read_bytes())
    assert performance.of("a", NOW)[:2] == (3, 2)


def test_the_file_stays_small_and_nothing_that_counts_is_lost(performance: Performance) -> None:
    for number in range(2000):
        performance.note("a", run(number, number % 4 != 0))
    assert os.path.getsize(f"{performance.folder}/a.runs") < COMPACT_BYTES + 200
    standing = performance.of("a", NOW)
    assert standing.runs == WINDOW
    assert standing.well == sum(1 for number in range(2000 - WINDOW, 2000) if number % 4)


NOTING = """
import sys
from orchestrator.performance import Performance, Run
performance = Performance(sys.argv[1])
input()
for n in range(12):  # a line so long that it is compacted at every one
    performance.note("a", Run(f"{sys.argv[2]}_{n}/1", True, 1.0, 1800000000.0, ("long" * 5000,)))
"""


@pytest.mark.heavy
def test_many_writers_at_once_lose_nothing_also_while_it_is_compacted(performance: Performance, tmp_path: Path) -> None:
    at_once(NOTING, [(str(tmp_path), f"p{number}") for number in range(4)])
    assert performance.of("a", NOW).runs == 48


def test_the_records_are_made_again_in_the_order_of_time(performance: Performance, tmp_path: Path) -> None:
    assert performance.is_empty()
    rows = [("a", run(n, n < 10, NOW - 1000 + n)) for n in range(60)]
    performance.rebuild(reversed(rows))
    assert not performance.is_empty()
    assert performance.of("a", NOW)[:2] == (WINDOW, 0)


def test_records_of_those_who_went_long_ago_are_swept(performance: Performance) -> None:
    note(performance, "+")
    os.utime(f"{performance.folder}/a.runs", (NOW - AGE - 5, NOW - AGE - 5))
    performance.note("b", run(1))
    os.utime(f"{performance.folder}/b.runs", (NOW - AGE + 5, NOW - AGE + 5))
    performance.sweep(NOW)
    assert [name for name in os.listdir(performance.folder) if name.endswith(".runs")] == ["b.runs"]


# -- learning -----------------------------------------------------------------------------------


def test_what_an_agent_did_well_often_enough_it_can(performance: Performance) -> None:
    note(performance, "++++", "sql")
    assert performance.of("a", NOW).learned == {}
    note(performance, "+", "sql", start=4)
    assert performance.of("a", NOW).learned == {"sql": 0.75}
    note(performance, "--", "sql", start=5)
    assert performance.of("a", NOW).learned == {}


def test_a_stated_capability_fades_when_the_evidence_turns(performance: Performance) -> None:
    performance.learn("a", "sql", 0.9, NOW)
    assert performance.of("a", NOW).learned == {"sql": 0.9}
    note(performance, "++", "sql")
    assert performance.of("a", NOW).learned["sql"] > 0.9
    note(performance, "-" * 6, "sql", start=2)
    assert performance.of("a", NOW).learned["sql"] >= 0.5
    note(performance, "-" * 6, "sql", start=8)
    assert performance.of("a", NOW).learned == {}


def test_what_was_before_it_was_stated_does_not_count_against_it(performance: Performance) -> None:
    for number in range(10):
        performance.note("a", run(number, False, NOW - 100, "sql"))
    performance.learn("a", "sql", 0.8, NOW - 50)
    performance.learn("a", "sql", 0.7, NOW - 50)
    assert performance.of("a", NOW).learned == {"sql": 0.7}


def test_another_kind_says_nothing_of_it(performance: Performance) -> None:
    performance.learn("a", "sql", 0.6, NOW)
    note(performance, "-" * 20, "web")
    assert performance.of("a", NOW).learned == {"sql": 0.6}
