"""The shared context: merge a result into the pages, once; keep every word that people wrote.

A run's result is the fragment: one immutable file. The pages are put together from fragments, by
adding a block at the end of a page (never by rewriting it: 100 MB of context cost a merge nothing):

    project_overview.md      people's own; never touched
    current_state.md         a checklist between two marks; the rest of the page is people's
    completed_tasks.json     one line per completed task
    objectives.md  code_structure.md  known_issues.md  notes/<agent>.md
    agent_outputs/<task>_output.md

Each block carries its run's mark (`task_001/1`). A run that may have been merged before (a crash
came between) is looked for by that mark; all others cannot have been.
"""

from __future__ import annotations

import glob
import json
import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

from orchestrator import disk, files, locks, output, plain
from orchestrator.completed import CompletedList, holds, row
from orchestrator.runs import Result, read_result
from orchestrator.states import Outcome, State

PAGES = ("project_overview.md", "current_state.md", "objectives.md", "code_structure.md", "known_issues.md")
NOTES = "notes"
OUTPUTS = "agent_outputs"
COMPLETED = "completed_tasks.json"
ANSWER_LIMIT = 4_000_000  # characters of an answer that are read
BEGIN, END = "<!-- orchestrate: tasks -->", "<!-- orchestrate: end -->"

HEADINGS = {
    "project_overview.md": "# Project overview\n\nWhat this project is, for everyone who works on it. Yours to write.\n",
    "current_state.md": f"# Current state\n\nWhat stands between the two marks is kept up to date; the rest is yours.\n\n{BEGIN}\n{END}\n",
    "objectives.md": "# Objectives\n",
    "code_structure.md": "# Code structure\n",
    "known_issues.md": "# Known issues\n",
}


class Context:
    """The pages of one root. Any number of processes may merge at once; none loses anything."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.folder = f"{root}/context"
        self._lock = f"{root}/.orchestrator/context.lock"
        self._completed = CompletedList(f"{self.folder}/{COMPLETED}", self.results)

    def make(self) -> list[str]:
        """The pages that are missing, with a heading each; their names. Drafts of writers that died go."""
        self.make_folders()
        for folder in (self.folder, f"{self.folder}/{OUTPUTS}", f"{self.folder}/{NOTES}"):
            files.sweep_drafts(folder, time.time())
        made = []
        for name, text in HEADINGS.items():
            if not plain.is_there(f"{self.folder}/{name}"):
                files.replace(f"{self.folder}/{name}", text.encode())
                made.append(name)
        with locks.locked(self._lock):  # two may make it at once, and one of them add to it already
            if not plain.is_there(self._completed.path):
                self._completed.rebuild()
                made.append(COMPLETED)
        if made:
            files.sync_folder(self.folder)
        return made

    def keep(self) -> None:
        """`make`, if it was not done, or not to its end."""
        if os.path.exists(self._completed.path):
            self.make_folders()
        else:
            self.make()

    def make_folders(self) -> None:
        """Those that are missing: git takes away the ones that it empties."""
        files.make_folders(
            self.folder,
            f"{self.folder}/{OUTPUTS}",
            f"{self.folder}/{NOTES}",
            os.path.dirname(self._lock),
            sync=True,
        )

    # -- outputs ----------------------------------------------------------------------------

    @staticmethod
    def output_name(task_id: str) -> str:
        """Where a completed task's answer is, relative to the root."""
        return f"context/{OUTPUTS}/{task_id}_output.md"

    def answer(self, task_id: str) -> tuple[str, str]:
        """(where it is, the text) of a completed task's answer, whatever bytes are in it; no text if there is none."""
        name = self.output_name(task_id)
        path = f"{self.root}/{name}"  # a link would show an agent what lies outside the root
        return name, output.text(path, ANSWER_LIMIT) if plain.is_plain(path) else ""

    def place_output(self, task_id: str, source: str) -> None:
        """Give the run's answer its name among the outputs; an older run's is replaced (its folder keeps it)."""
        target = f"{self.root}/{self.output_name(task_id)}"
        try:
            files.link(source, target)
        except FileExistsError:
            plain.aside(target)
            if os.path.exists(target) and os.path.samefile(source, target):
                return
            if os.path.exists(target):
                os.unlink(target)
            # After a power cut there may be none, but never an older run's beside the verdict of this one.
            files.sync_folder(os.path.dirname(target))
            files.link(source, target)

    # -- merge ------------------------------------------------------------------------------

    def merge(self, results: Sequence[Result], maybe_merged: Iterable[str] = ()) -> None:
        """Add the blocks of these results to the pages, durably. `maybe_merged` are the marks that a
        crash may have merged already; they are looked for first."""
        doubtful = set(maybe_merged)
        blocks: dict[str, list[tuple[str, bytes]]] = {}
        for result in results:
            for page, block in _blocks(result):
                blocks.setdefault(page, []).append((result.mark, block))
        if not blocks:
            return
        with locks.locked(self._lock):
            for page, page_blocks in blocks.items():
                path = f"{self.folder}/{page}"
                if page == COMPLETED:
                    self._completed.add(page_blocks, doubtful)
                else:
                    self._add_blocks(path, page_blocks, doubtful)

    def _add_blocks(self, path: str, blocks: Sequence[tuple[str, bytes]], doubtful: set[str]) -> None:
        existed = os.path.isfile(path)
        if not existed:
            plain.aside(path)
        fd = plain.opener(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            new = [block for mark, block in blocks if mark not in doubtful or not holds(fd, _comment(mark), block)]
            if new:
                size = os.fstat(fd).st_size
                before = b"" if size and os.pread(fd, 1, size - 1) == b"\n" else b"\n"
                if not size:  # new, or a power cut kept its name alone
                    name = os.path.relpath(path, self.folder)
                    before = HEADINGS.get(name, f"# Notes of {os.path.basename(path)[:-3]}\n").encode()
                files.write_all(fd, before + b"".join(new))
            disk.sync(fd)
        finally:
            os.close(fd)
        if not existed:
            files.sync_folder(os.path.dirname(path))

    def results(self) -> list[Result]:
        """Every result that lies beside a completed task, also in the archive; oldest first."""
        tasks = glob.escape(f"{self.root}/tasks")
        names = [
            name
            for folder in (State.COMPLETED, f"archive/*/{State.COMPLETED}")
            for name in glob.iglob(f"{tasks}/{folder}/*_result.yaml")
        ]
        return sorted(filter(None, map(read_result, names)), key=lambda result: result.completed_at)

    def recent(self, count: int) -> list[dict[str, Any]]:
        """The last rows of completed_tasks.json, newest first."""
        return self._completed.recent(count)

    # -- the checklist ----------------------------------------------------------------------

    def write_state(self, lines: Sequence[str]) -> bool:
        """Put the checklist between its marks; False if a person saved the page at the same instant."""
        path = f"{self.folder}/current_state.md"
        body = "\n".join((BEGIN, *(line.replace("<!--", "&lt;!--") for line in lines), END))
        with locks.locked(self._lock):
            _settle(path)
            try:
                with open(path, "rb", opener=plain.opener) as file:
                    before = file.read()
            except (FileNotFoundError, plain.NotPlain):
                plain.aside(path)
                files.replace(path, HEADINGS["current_state.md"].encode())
                before = HEADINGS["current_state.md"].encode()
            text = before.decode("utf-8", "surrogateescape")
            start, end = _between(text)
            if start >= 0:
                after = text[:start] + body + text[end + len(END) :]
            else:
                after = text.rstrip("\n") + ("\n\n" if text.strip() else "") + body + "\n"
            content = after.encode("utf-8", "surrogateescape")
            return content == before or files.exchange(path, content, before)


def _settle(path: str) -> None:
    """Somebody died in the midst of an exchange: what he held back is the page as it was or as it is, but for
    the checklist; or it is what a person saved in that very moment, and is kept."""
    other = files.held_back(path)
    if not plain.is_there(other):
        return
    if _without_checklist(other) in (_without_checklist(path), ""):
        os.unlink(other)
    else:
        files.move(other, f"{path}.saved-{time.time_ns():x}")


def _without_checklist(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape", newline="", opener=plain.opener) as file:
        text = file.read()
    start, end = _between(text)
    return (text[:start] + text[end:] if start >= 0 else text).strip()


def _between(text: str) -> tuple[int, int]:
    """Where the checklist's marks are: the first end that has a beginning before it; (-1, -1) if none."""
    end = text.find(END)
    while end >= 0:
        start = text.rfind(BEGIN, 0, end)
        if start >= 0:
            return start, end
        end = text.find(END, end + 1)
    return -1, -1


def _blocks(result: Result) -> list[tuple[str, bytes]]:
    found = []
    if result.status is Outcome.SUCCESS:
        found.append((COMPLETED, json.dumps(row(result), ensure_ascii=False).encode("utf-8", "replace")))
    for page, items in (
        ("objectives.md", result.objectives),
        ("code_structure.md", result.code_structure),
        ("known_issues.md", result.known_issues),
        (f"{NOTES}/{result.agent_type}.md", result.notes),
    ):
        if items:
            who = f"({result.task_id}, {result.agent_type})"
            lines = (" ".join(item.split()).replace("<!--", "&lt;!--") for item in items)  # nobody writes our marks
            body = "".join(f"- {line} {who}\n" for line in lines)
            found.append((page, b"\n" + _comment(result.mark) + b"\n" + body.encode("utf-8", "replace")))
    return found


def _comment(mark: str) -> bytes:
    return f"<!-- {mark} -->".encode()
