"""Names: what may be an id, what may be a path, and what a terminal may see."""

from __future__ import annotations

import unicodedata

import pytest

from orchestrator.names import (
    ID_LIMIT,
    id_from_stem,
    id_problem,
    natural,
    nearest,
    path_problem,
    printable,
)

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("good", ["task_001", "a", "7", "fix-login.v2", "Größe", "任务_1", "x" * ID_LIMIT, "a..b"])
def test_an_id_of_letters_digits_and_three_signs_is_accepted(good: str) -> None:
    assert id_problem(good) == ""


@pytest.mark.parametrize(
    "bad",
    ["", "a/b", "../a", "..", ".", ".a", "-a", "a b", "a\n", "\na", "a\0", "a\\b", "a:b", "a*", "~a", "a\u202eb",
     "a\ud800", "x" * (ID_LIMIT + 1), "任" * 61, "x_result", "x_agent_01", "x_agent_7"],
)  # fmt: skip
def test_an_id_that_could_be_another_file_or_no_file_is_refused_in_one_printable_line(bad: str) -> None:
    problem = id_problem(bad)
    assert problem
    assert problem.isprintable()


def test_an_id_in_decomposed_form_is_refused_because_file_systems_disagree_about_it() -> None:
    assert id_problem("Ångström") == ""
    assert "NFC" in id_problem("\u212bngstr\u00f6m")  # the sign of the unit, which NFC makes a letter
    assert id_problem(unicodedata.normalize("NFD", "Ångström"))


@pytest.mark.parametrize("longest", ["x" * ID_LIMIT, "任" * 60])
def test_the_names_of_files_beside_the_longest_id_fit_into_255_bytes(longest: str) -> None:
    assert id_problem(longest) == ""
    for name in (f"{longest}_agent_1000.yaml", f"{longest}.yaml.reason.txt", f"{longest}_result.yaml"):
        assert len(name.encode()) <= 255


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("task_1", "task_1"),
        ("fix the login", "fix_the_login"),
        ("..hidden", "hidden"),
        ("a\nb", "a_b"),
        ("a/../b", "a_.._b"),
        ("x_result", "x_result_task"),
        ("x_agent_01", "x_agent_01_task"),
        ("...", ""),
        ("", ""),
        ("cafe\u0301", "café"),
    ],
)
def test_a_file_without_an_id_is_named_by_its_stem(stem: str, expected: str) -> None:
    assert id_from_stem(stem) == expected


@pytest.mark.parametrize("stem", ["\udcff\udcfe", "x" * 250, "任" * 100, "!!!", "a" * 93 + "_result", "\u0301"])
def test_whatever_a_stem_gives_is_an_id_or_nothing(stem: str) -> None:
    found = id_from_stem(stem)
    assert found == "" or id_problem(found) == ""


@pytest.mark.parametrize("bad", ["", "/etc/passwd", "../x", "a/../../b", "~/x", "~root", "a\0b"])
def test_a_path_that_leaves_the_root_is_refused(bad: str) -> None:
    assert path_problem(bad)


@pytest.mark.parametrize("good", ["a", "a/b.py", "./a", "a..b", "..a", "a b/ü"])
def test_a_path_below_the_root_is_accepted(good: str) -> None:
    assert path_problem(good) == ""


def test_task_2_comes_before_task_10() -> None:
    ids = ["task_10", "task_2", "task_1b", "b", "task_1", "2", "10", "a9z", "a10a"]
    assert sorted(ids, key=natural) == ["2", "10", "a9z", "a10a", "b", "task_1", "task_1b", "task_2", "task_10"]


def test_digits_of_all_scripts_can_be_sorted() -> None:
    assert sorted(["a²", "a٣", "a2", "٣", "x"], key=natural)  # int("²") would raise


def test_the_nearest_word_is_offered_and_no_far_one() -> None:
    assert nearest("priorty", ["priority", "run"]) == " (did you mean 'priority'?)"
    assert nearest("zzzz", ["priority", "run"]) == ""


@pytest.mark.parametrize(
    "text", ["a\x1b[2Jb", "a\nb", "a\rb", "a\u202eb", "a\u2066b", "a\ud800b", "a\x9bb", "\u2028", "\0"]
)
def test_nothing_that_moves_a_cursor_or_turns_text_round_is_shown(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()  # no half of a surrogate pair
    assert text not in shown


def test_printable_text_is_shown_as_it_is_and_long_text_is_cut() -> None:
    assert printable("Größe → 任务") == "Größe → 任务"
    assert printable("x" * 500, 10) == "x" * 10 + "…"


def test_two_long_names_that_begin_alike_are_two_ids() -> None:
    ids = {id_from_stem("n" * 200 + end) for end in "ab"} | {id_from_stem("é" * 120 + end) for end in "ab"}
    assert len(ids) == 4 and not any(map(id_problem, ids))
    assert id_from_stem("n" * 100) == "n" * 100
