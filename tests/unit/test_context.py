"""The shared context: merged once, nothing lost, and people's words stay people's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from helpers import at_once, read, write

from orchestrator import files
from orchestrator.context import BEGIN, END, Context
from orchestrator.runs import Result
from orchestrator.states import Outcome, State

pytestmark = pytest.mark.fast


@pytest.fixture
def context(tmp_path: Path) -> Context:
    made = Context(str(tmp_path))
    made.make()
    return made


def result(task_id: str = "task_001", run: int = 1, status: Outcome = Outcome.SUCCESS, **fields: Any) -> Result:
    return Result(task_id, "agent_01", "claude", run, status, 1_700_000_000.0, **fields)


def page(context: Context, name: str) -> str:
    return read(f"{context.folder}/{name}")


def rows(context: Context) -> list[dict[str, Any]]:
    found = json.loads(page(context, "completed_tasks.json"))
    assert isinstance(found, list)
    return found


def marks(context: Context) -> list[str]:
    return [row["mark"] for row in rows(context)]


def keep(context: Context, one: Result, state: State = State.COMPLETED) -> None:
    """As if it had been committed."""
    write(f"{context.root}/tasks/{state}/{one.task_id}_result.yaml", one.to_yaml())


# -- make ---------------------------------------------------------------------------------------


def test_missing_pages_are_made_and_those_that_exist_stay(context: Context) -> None:
    write(f"{context.folder}/objectives.md", "mine")
    os.unlink(f"{context.folder}/known_issues.md")
    assert context.make() == ["known_issues.md"]
    assert page(context, "objectives.md") == "mine"
    assert rows(context) == []


# -- merge --------------------------------------------------------------------------------------


def test_each_fact_goes_to_its_page_with_its_mark_and_who_said_it(context: Context) -> None:
    context.merge(
        [result(title="Fix it", notes=("n1", "n2"), known_issues=("i",), objectives=("o",), code_structure=("c",),
                files_modified=("a.py",), output_file="context/agent_outputs/task_001_output.md")]
    )  # fmt: skip
    assert page(context, "known_issues.md").endswith("\n<!-- task_001/1 -->\n- i (task_001, claude)\n")
    assert page(context, "objectives.md").endswith("\n<!-- task_001/1 -->\n- o (task_001, claude)\n")
    assert page(context, "code_structure.md").endswith("\n<!-- task_001/1 -->\n- c (task_001, claude)\n")
    assert page(context, "notes/claude.md").endswith(
        "\n<!-- task_001/1 -->\n- n1 (task_001, claude)\n- n2 (task_001, claude)\n"
    )
    (row,) = rows(context)
    assert (row["task_id"], row["title"], row["mark"]) == ("task_001", "Fix it", "task_001/1")
    assert row["files_modified"] == ["a.py"]


def test_a_task_that_did_not_succeed_is_not_among_the_completed_but_its_notes_stay(context: Context) -> None:
    context.merge([result(status=Outcome.NEEDS_ANSWER, notes=("n",))])
    assert rows(context) == []
    assert "- n (task_001" in page(context, "notes/claude.md")


def test_a_fact_of_several_lines_is_one_item_and_cannot_forge_another(context: Context) -> None:
    context.merge([result(notes=("a\n- b\n\n# c", "x\ud800y"))])
    assert "- a - b # c (task_001, claude)\n- x?y (task_001, claude)\n" in page(context, "notes/claude.md")


@pytest.mark.heavy
def test_merges_by_eight_processes_at_once_lose_nothing(context: Context) -> None:
    code = """
import sys
from orchestrator.context import Context
from orchestrator.runs import Result
from orchestrator.states import Outcome
context, me = Context(sys.argv[1]), sys.argv[2]
input()
for n in range(12):
    context.merge([
        Result(f"task_{me}_{n}_{k}", "agent_01", "claude", 1, Outcome.SUCCESS, 1.7e9, notes=("note " * 50,), known_issues=("issue",))
        for k in range(3)
    ])
"""
    at_once(code, [(context.root, str(me)) for me in range(8)])
    expected = sorted(f"task_{me}_{n}_{k}/1" for me in range(8) for n in range(12) for k in range(3))
    assert sorted(marks(context)) == expected
    for name in ("notes/claude.md", "known_issues.md"):
        lines = page(context, name).splitlines()
        assert sorted(line[5:-4] for line in lines if line.startswith("<!-- ")) == expected
        assert sum(line.startswith("- ") for line in lines) == len(expected)


def test_a_mark_that_may_have_been_merged_appears_once(context: Context) -> None:
    one, two = result(notes=("n",), known_issues=("i",)), result("task_002", notes=("n",))
    for _ in range(3):
        context.merge([one, two], ["task_001/1", "task_002/1"])
    assert marks(context) == ["task_001/1", "task_002/1"]
    assert page(context, "notes/claude.md").count("<!-- task_001/1 -->") == 1
    assert page(context, "notes/claude.md").count("- n (") == 2
    assert page(context, "known_issues.md").count("- i (") == 1


def test_a_mark_is_not_found_in_a_longer_one(context: Context) -> None:
    context.merge([result("task_001", 12, notes=("twelve",)), result("my_task_001", 1, notes=("mine",))])
    context.merge([result("task_001", 1, notes=("one",))], ["task_001/1"])
    assert page(context, "notes/claude.md").count("\n- ") == 3
    assert marks(context) == ["task_001/12", "my_task_001/1", "task_001/1"]


def test_a_crash_between_two_pages_is_made_good(context: Context) -> None:
    one = result(notes=("n",), known_issues=("i",))
    context.merge([one._replace(notes=())])  # as far as it came
    context.merge([one], [one.mark])
    assert marks(context) == ["task_001/1"]
    assert page(context, "known_issues.md").count("<!-- task_001/1 -->") == 1
    assert page(context, "notes/claude.md").count("<!-- task_001/1 -->") == 1


@pytest.mark.heavy
def test_a_block_torn_anywhere_is_made_whole_and_nothing_before_it_is_lost(context: Context) -> None:
    path = f"{context.folder}/notes/claude.md"
    context.merge([result("task_000", notes=("before",))])
    before = os.stat(path).st_size
    one = result(notes=("first note", "second note"))
    context.merge([one])
    with open(path, "rb") as file:
        whole = file.read()
    for size in range(before, len(whole) + 1):
        for tail in (b"", b"\0" * 40):  # a power cut may leave the length without the data
            if tail and size == len(whole):
                continue
            write(path, whole[:size] + tail)
            context.merge([one], [one.mark])
            text = read(path)
            assert text.startswith(whole[:before].decode())
            assert text.endswith(
                "\n<!-- task_001/1 -->\n- first note (task_001, claude)\n- second note (task_001, claude)\n"
            )
            assert text.count("<!-- task_001/1 -->") == 1


def test_words_added_behind_a_block_are_no_torn_block(context: Context) -> None:
    one = result(notes=("n",))
    context.merge([one])
    path = f"{context.folder}/notes/claude.md"
    write(path, read(path) + "A person's words.\n")
    before = read(path)
    context.merge([one], [one.mark])
    assert read(path) == before


def test_people_may_write_into_the_pages_that_blocks_are_added_to(context: Context) -> None:
    write(f"{context.folder}/known_issues.md", "# Ours\n\nEverything is broken.")
    context.merge([result(known_issues=("i",))])
    assert (
        page(context, "known_issues.md")
        == "# Ours\n\nEverything is broken.\n\n<!-- task_001/1 -->\n- i (task_001, claude)\n"
    )


def test_the_overview_is_never_touched(context: Context) -> None:
    write(f"{context.folder}/project_overview.md", "mine")
    context.merge([result(notes=("n",), objectives=("o",))])
    context.write_state(["x"])
    context.make()
    assert page(context, "project_overview.md") == "mine"


# -- completed_tasks.json -----------------------------------------------------------------------


def test_the_list_is_valid_json_after_every_merge_and_reads_from_its_end(context: Context) -> None:
    for n in range(30):
        context.merge([result(f"task_{n:03d}", title="Größe " * 40)])
        assert len(rows(context)) == n + 1
    assert [row["task_id"] for row in context.recent(3)] == ["task_029", "task_028", "task_027"]
    assert len(context.recent(100)) == 30


REFORMATTED = {
    "indented": lambda text: json.dumps(json.loads(text), indent=2) + "\n",
    "indented, no newline at the end": lambda text: json.dumps(json.loads(text), indent=4),
    "one line": lambda text: json.dumps(json.loads(text)),
    "compact": lambda text: json.dumps(json.loads(text), separators=(",", ":")) + "\n",
    "windows line ends": lambda text: text.replace("\n", "\r\n"),
    "newlines at the end": lambda text: text + "\n\n",
}


@pytest.mark.parametrize("how", REFORMATTED)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_list_that_was_reformatted_goes_on(context: Context, how: str, count: int) -> None:
    context.merge([result(f"task_{n}") for n in range(count)])
    path = f"{context.folder}/completed_tasks.json"
    write(path, REFORMATTED[how](read(path)))
    context.merge([result("task_new")])
    context.merge([result("task_newer")], ["task_newer/1"])
    assert marks(context) == [*(f"task_{n}/1" for n in range(count)), "task_new/1", "task_newer/1"]


def test_a_list_that_somebody_emptied_by_hand_goes_on(context: Context) -> None:
    write(f"{context.folder}/completed_tasks.json", "[\n\n]\n")
    context.merge([result("task_new")])
    assert marks(context) == ["task_new/1"]


def test_rows_of_other_hands_are_kept(context: Context) -> None:
    write(
        f"{context.folder}/completed_tasks.json",
        '[{"task_id": "by hand"}, {"task_id": "task_0", "mark": "task_0/1", "extra": 5}]',
    )
    keep(context, result("task_0"))
    context.merge([result("task_1")])
    assert [row["task_id"] for row in rows(context)] == ["by hand", "task_0", "task_1"]
    assert rows(context)[1]["extra"] == 5


@pytest.mark.parametrize("how", ["missing", "empty", "torn", "no list", "garbage", "nuls"])
def test_a_list_that_is_broken_is_repaired_and_nothing_is_lost(context: Context, how: str) -> None:
    path = f"{context.folder}/completed_tasks.json"
    for n in range(3):
        context.merge([result(f"task_{n}")])
        keep(context, result(f"task_{n}"))
    whole = read(path)
    broken = {"empty": b"", "torn": whole[:-150].encode(), "no list": b'{"a": 1}\n', "garbage": b"\xff\xfe[\n]",
              "nuls": whole.encode() + b"\0" * 100}  # fmt: skip
    if how == "missing":
        os.unlink(path)
    else:
        write(path, broken[how])
    context.merge([result("task_new")])
    assert sorted(marks(context)) == ["task_0/1", "task_1/1", "task_2/1", "task_new/1"]
    if how in ("torn", "no list", "garbage", "nuls"):
        kept = [Path(context.folder, name).read_bytes() for name in os.listdir(context.folder) if "broken" in name]
        assert kept == [broken[how]]


@pytest.mark.heavy
def test_a_list_torn_at_any_byte_is_repaired(context: Context) -> None:
    path = f"{context.folder}/completed_tasks.json"
    for n in range(2):
        context.merge([result(f"task_{n}")])
        keep(context, result(f"task_{n}"))
    whole = read(path)
    for size in (*range(0, len(whole) - 40, 7), *range(len(whole) - 40, len(whole))):
        write(path, whole[:size])
        context.merge([result("task_1")], ["task_1/1"])
        assert sorted(marks(context)) == ["task_0/1", "task_1/1"], size


def test_a_page_of_which_a_power_cut_kept_the_name_alone_gets_its_heading(context: Context) -> None:
    for name in ("notes/fake.md", "known_issues.md"):
        write(f"{context.folder}/{name}", "")
    context.merge([result("task_1")._replace(agent_type="fake", notes=("n",), known_issues=("k",))])
    assert read(f"{context.folder}/notes/fake.md").startswith("# Notes of fake\n")
    assert read(f"{context.folder}/known_issues.md").startswith("# ")


def test_a_torn_list_keeps_the_rows_of_tasks_that_were_archived(context: Context) -> None:
    path = f"{context.folder}/completed_tasks.json"
    context.merge([result("archived_long_ago")])
    context.merge([result("task_1")])
    write(path, read(path)[:-40])
    context.merge([result("task_2")])
    assert "archived_long_ago/1" in marks(context)


def test_each_broken_list_is_kept_beside(context: Context) -> None:
    for n in range(2):
        write(f"{context.folder}/completed_tasks.json", f"broken {n}")
        context.merge([result(f"task_{n}")])
    kept = {read(f"{context.folder}/{name}") for name in os.listdir(context.folder) if "broken" in name}
    assert kept == {"broken 0", "broken 1"}


@pytest.mark.parametrize("content", ['[{"mark": "a/1", "title": "\\ud800"}]', "[" * 100_000, "[1, 2]", "[null]"])
def test_whatever_the_list_holds_a_merge_goes_on(context: Context, content: str) -> None:
    write(f"{context.folder}/completed_tasks.json", content)
    context.merge([result("task_1")])
    assert "task_1/1" in marks(context)


# -- outputs ------------------------------------------------------------------------------------


def test_an_output_gets_its_name_and_a_later_run_replaces_it_only_there(context: Context) -> None:
    first = write(f"{context.root}/tasks/runs/task_001/1/output.md", "one")
    second = write(f"{context.root}/tasks/runs/task_001/2/output.md", "two")
    for source, text in ((first, "one"), (first, "one"), (second, "two"), (second, "two")):
        context.place_output("task_001", source)
        assert read(f"{context.root}/{context.output_name('task_001')}") == text
    assert (read(first), read(second)) == ("one", "two")


# -- the checklist ------------------------------------------------------------------------------


def test_the_checklist_stands_between_its_marks_and_all_other_words_are_kept(context: Context) -> None:
    path = f"{context.folder}/current_state.md"
    write(path, f"# Ours\r\nbefore \xff\n{BEGIN}\nold\n{END}\nafter\n".encode("latin-1"))
    assert context.write_state(["- [ ] new"]) is True
    with open(path, "rb") as file:
        assert file.read() == f"# Ours\r\nbefore \xff\n{BEGIN}\n- [ ] new\n{END}\nafter\n".encode("latin-1")


def test_a_page_without_marks_gets_them_at_its_end_once(context: Context) -> None:
    path = write(f"{context.folder}/current_state.md", "# Ours\n\nwords")
    for n in range(3):
        assert context.write_state([f"- {n}"])
    assert read(path) == f"# Ours\n\nwords\n\n{BEGIN}\n- 2\n{END}\n"
    os.unlink(path)
    assert context.write_state(["- x"])
    assert f"{BEGIN}\n- x\n{END}\n" in read(path)


@pytest.mark.parametrize(
    "text",
    [
        f"{BEGIN}\n- old\nmine\n",
        f"mine\n{END}\n",
        f"{END}\nmine\n{BEGIN}\n",
        f"{BEGIN}\n{BEGIN}\nmine\n",
        f"mine {END} {BEGIN} mine too\n{BEGIN}\n- x\n{END}\n",
    ],
)
def test_a_page_whose_marks_somebody_broke_keeps_his_words_and_does_not_grow(context: Context, text: str) -> None:
    path = write(f"{context.folder}/current_state.md", text)
    sizes = []
    for _ in range(4):
        assert context.write_state(["- new"])
        assert "mine" in read(path)
        sizes.append(len(read(path)))
    assert sizes[1:] == sizes[:1] * 3
    assert read(path).count("- new") == 1


def test_a_title_that_quotes_a_mark_does_not_make_the_page_grow(context: Context) -> None:
    sizes = []
    for _ in range(4):
        assert context.write_state([f"- [ ] mend {END} and {BEGIN}", "- [ ] next"])
        sizes.append(len(page(context, "current_state.md")))
    assert sizes == sizes[:1] * 4


def test_an_unchanged_checklist_is_not_written_again(context: Context) -> None:
    context.write_state(["- x"])
    before = os.stat(f"{context.folder}/current_state.md")
    assert context.write_state(["- x"]) is True
    after = os.stat(f"{context.folder}/current_state.md")
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("how", ["in place", "by rename"])
def test_what_a_person_saves_at_the_same_instant_is_not_overwritten(
    context: Context, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path = f"{context.folder}/current_state.md"
    exchange = files.exchange

    def person_first(*arguments: Any) -> bool:  # the instant between reading the page and writing it
        if how == "in place":
            write(path, "saved by a person")
        else:
            os.replace(write(f"{path}.new", "saved by a person"), path)
        return exchange(*arguments)

    monkeypatch.setattr(files, "exchange", person_first)
    assert context.write_state(["- x"]) is False
    assert read(path) == "saved by a person"
    monkeypatch.undo()
    assert context.write_state(["- x"]) is True
    assert read(path) == f"saved by a person\n\n{BEGIN}\n- x\n{END}\n"


def test_what_a_writer_that_died_left_half_made_is_taken_away(tmp_path: Path) -> None:
    context = Context(str(tmp_path))
    context.make()
    dead = "999999999-abcdef-abcdef"
    left = [write(f"{context.folder}/{place}.{dead}.tmp", "half") for place in ("", "agent_outputs/", "notes/")]
    mine = write(f"{context.folder}/.{os.getpid()}-abcdef-abcdef.tmp", "still being written")
    context.make()
    assert not any(map(os.path.exists, left)) and os.path.exists(mine)
