"""context/completed_tasks.json: a list that is valid JSON at every instant, and grows without being rewritten."""

from __future__ import annotations

import errno
import json
import mmap
import os
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator import disk, files, plain
from orchestrator.errors import AlreadyExists
from orchestrator.runs import Result, utc

EMPTY = "[\n]\n"
_TAIL = b"\n]\n"


class CompletedList:
    """The list; the caller holds the context's lock while it adds."""

    def __init__(self, path: str, results: Callable[[], Sequence[Result]]) -> None:
        self.path = path
        self._results = results  # of all completed tasks, for when the list has to be made anew

    def add(self, lines: Sequence[tuple[str, bytes]], doubtful: set[str]) -> None:
        """Add rows, (mark, JSON) each, durably; those of `doubtful` marks only if they are not there."""
        fd, made_anew = self._open()  # made anew from the results, it may hold these already
        try:
            new = [
                line
                for mark, line in lines
                if not (made_anew or mark in doubtful) or not holds(fd, f'"mark": "{mark}"'.encode(), b"")
            ]
            if new:
                # One write over the closing bracket: a reader sees the old list or the new one.
                end = os.fstat(fd).st_size - len(_TAIL)
                before = os.pread(fd, min(end, 4096), end - min(end, 4096)).rstrip()
                comma = b"" if before.endswith(b"[") else b","
                whole = comma + b"\n" + b",\n".join(new) + _TAIL
                if (taken := os.pwrite(fd, whole, end)) < len(whole):  # the last bytes that there was room for
                    os.ftruncate(fd, end)
                    os.pwrite(fd, _TAIL, end)
                    raise OSError(errno.ENOSPC, f"took {taken} of {len(whole)} bytes", self.path)
            disk.sync(fd)
        finally:
            os.close(fd)

    def _open(self) -> tuple[int, bool]:
        for made_anew in (False, True):
            try:
                fd = plain.opener(self.path, os.O_RDWR)
            except (FileNotFoundError, IsADirectoryError, plain.NotPlain):
                plain.aside(self.path)
                self.rebuild()
                continue
            size = os.fstat(fd).st_size
            if size >= len(_TAIL) and os.pread(fd, len(_TAIL), size - len(_TAIL)) == _TAIL:
                return fd, made_anew
            os.close(fd)
            self.rebuild()
        raise OSError(f"{self.path}: cannot be kept as a list")

    def rebuild(self) -> None:
        """The whole list from the results, when it is gone, torn, or written by other hands.

        What it held and the results do not is kept; what cannot be read is kept beside it.
        """
        rows: dict[str, dict[str, Any]] = {}
        try:
            with open(self.path, "rb", opener=plain.opener) as file:
                content = file.read()
            try:
                for one in json.loads(content):
                    rows[str(one.get("mark") or json.dumps(one))] = one
            except (ValueError, AttributeError, TypeError, RecursionError):
                _keep_beside(self.path, content)
                rows = {one["mark"]: one for one in reversed(_rows(content.splitlines())) if "mark" in one}
        except FileNotFoundError:
            pass
        for result in self._results():
            rows.setdefault(result.mark, row(result))
        body = ",\n".join(json.dumps(one, ensure_ascii=False) for one in rows.values())
        text = f"[\n{body}{_TAIL.decode()}" if rows else EMPTY
        files.replace(self.path, text.encode("utf-8", "replace"))

    def recent(self, count: int) -> list[dict[str, Any]]:
        """The last rows, newest first; read from the file's end."""
        try:
            with open(self.path, "rb", opener=plain.opener) as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 2000 * count))
                lines = file.read().splitlines()
        except OSError:
            return []
        return _rows(lines, count)


def _rows(lines: Sequence[bytes], count: int = 1 << 60) -> list[dict[str, Any]]:
    """The rows that can be read, the last one first."""
    rows: list[dict[str, Any]] = []
    for line in reversed(lines):
        try:
            one = json.loads(line.rstrip(b","))
        except (ValueError, RecursionError):
            continue
        if isinstance(one, dict):
            rows.append(one)
        if len(rows) == count:
            break
    return rows


def _keep_beside(path: str, content: bytes) -> None:
    number = 1
    while content.strip():
        place = f"{path}.broken{f'.{number}' if number > 1 else ''}"
        number += 1
        if os.path.lexists(place):
            continue
        try:
            files.publish(place, content)
            return
        except AlreadyExists:
            continue


def row(result: Result) -> dict[str, Any]:
    """What the list holds of a task."""
    return {
        "mark": result.mark,
        "task_id": result.task_id,
        "title": result.title,
        "agent_id": result.agent_id,
        "agent_type": result.agent_type,
        "completed_at": utc(result.completed_at),
        "output_file": result.output_file,
        "files_modified": list(result.files_modified),
    }


def holds(fd: int, mark: bytes, block: bytes) -> bool:
    """Whether a page holds this mark. A block that a power cut tore at the very end is cut off first."""
    size = os.fstat(fd).st_size
    if size == 0:
        return False
    with mmap.mmap(fd, size, prot=mmap.PROT_READ) as page:
        place = page.find(mark)
        if place < 0:
            return False
        rest = page[place:]
    whole = block[block.find(mark) :]
    if block and rest != whole and whole.startswith(rest.rstrip(b"\0")):
        os.ftruncate(fd, place)
        return False
    return True
