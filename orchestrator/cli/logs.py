"""What a run printed: readable where its program prints events, else as it is; and the dispatcher's own log."""

from __future__ import annotations

import codecs
import json
import os
import sys
import time
from collections.abc import Callable

from orchestrator import plain, runs
from orchestrator.cli.status import how_far
from orchestrator.cli.told import KINDS, Told
from orchestrator.cli.views import Views
from orchestrator.errors import NotFound
from orchestrator.states import State

LOOK_SECONDS = 0.1


def print_log(root: str, task_id: str, number: int, errors: bool, raw: bool, follow: bool, as_json: bool) -> None:
    """Print it; with `follow` until the run has ended. Raises NotFound."""
    folder, number = _run(root, task_id, number, follow) if task_id else ("", 0)
    path = f"{folder}/{'stderr' if errors else 'stdout'}.log" if folder else f"{root}/.orchestrator/dispatcher.log"
    record = runs.read_record(folder) if folder else None
    if record and record.adapter == "worker":
        path = f"{folder}/progress.jsonl"
    if not folder and not follow and not os.path.exists(path):
        raise NotFound("no dispatcher has run here yet; 'orchestrate start'")
    if as_json:
        while follow and not _is_over(folder):
            time.sleep(LOOK_SECONDS)
        shown: list[bytes] = []
        _copy(path, 0, shown.append)
        text = b"".join(shown).decode("utf-8", "replace")
        file = os.path.relpath(path, root)
        of_run = {"task_id": task_id, "run": number} if folder else {}
        print(json.dumps({**of_run, "file": file, "text": text}))
        return
    is_told = record is not None and record.adapter in (*KINDS, "worker") and not errors and not raw
    readable = Readable(Reported() if record and record.adapter == "worker" else Told()) if is_told else None
    put = readable.take if readable else _write if raw or not sys.stdout.isatty() else _Safe().take
    place = _copy(path, 0, put)
    while follow:
        over = _is_over(folder)
        place = _copy(path, place, put)
        if over:
            break
        time.sleep(LOOK_SECONDS)
    if readable:
        readable.end()
    elif folder and not place and _is_over(folder):
        print(f"orchestrate: {task_id}: run {number} printed nothing{' there' if errors else ''}", file=sys.stderr)


def _run(root: str, task_id: str, number: int, follow: bool) -> tuple[str, int]:
    """The folder and the number of a run; with `follow`, of one that is still to come. Raises NotFound."""
    views = Views(root)
    state, path = views.find(task_id)
    home = views.home(task_id)
    numbers = home.run_numbers(task_id)
    if not numbers and follow and state in (State.PENDING, State.ASSIGNED):
        print(f"orchestrate: {task_id}: has not run yet: {views.reason(task_id, state, path)}", file=sys.stderr)
        while not numbers and home.state_of(task_id) in (State.PENDING, State.ASSIGNED):
            time.sleep(LOOK_SECONDS)
            numbers = home.run_numbers(task_id)
    if not numbers:
        reason = views.reason(task_id, state, path)
        raise NotFound(f"{task_id}: has not run{f': {reason}' if reason else ''}")
    if number and number not in numbers:
        raise NotFound(f"{task_id}: has no run {number} (there are {', '.join(map(str, numbers))})")
    return home.run_folder(task_id, number or numbers[-1]), number or numbers[-1]


def _is_over(folder: str) -> bool:
    """Whether nothing more will come."""
    return bool(folder) and (
        os.path.exists(f"{folder}/result.yaml") or (os.path.exists(f"{folder}/exit") and not runs.is_alive(folder))
    )


def _copy(path: str, place: int, put: Callable[[bytes], object]) -> int:
    """Hand on what has come since `place`; where the file ends now."""
    try:
        with open(path, "rb", opener=plain.opener) as file:
            if os.fstat(file.fileno()).st_size < place:
                place = 0  # rolled over
            file.seek(place)
            while part := file.read(1 << 16):
                put(part.replace(b"\0", b""))
                place += len(part)
    except FileNotFoundError:
        return place
    sys.stdout.flush()
    return place


def _write(part: bytes) -> None:
    sys.stdout.buffer.write(part)


class Reported:
    """What a worker reports, a line each."""

    def line(self, line: str) -> str:
        """What to print for it."""
        try:
            row = json.loads(line)
            far = how_far(float(row["percent"]), row.get("findings"))
            return f"{row['at']}  {far.removeprefix(', ')}\n"
        except (ValueError, KeyError, TypeError, RecursionError):  # a torn one
            return ""

    def end(self) -> str:
        """Nothing is open."""
        return ""


def _harmless(text: str) -> str:
    """Without what could drive a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


class _Safe:
    """Prints what a program printed where a person looks."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def take(self, part: bytes) -> None:
        """More of it; a character may be torn between two parts."""
        print(_harmless(self._decoder.decode(part).replace("\r\n", "\n")), end="")


class Readable:
    """Prints what a stream of events tells, whole lines of it."""

    def __init__(self, told: Told | Reported | None = None) -> None:
        self._told = told or Told()
        self._rest = b""
        self._nothing = True

    def take(self, part: bytes) -> None:
        """More of the stream."""
        *lines, self._rest = (self._rest + part).split(b"\n")
        for line in lines:
            self._put(self._told.line(line.decode("utf-8", "replace")))

    def end(self) -> None:
        """There is no more."""
        self._put(self._told.line(self._rest.decode("utf-8", "replace")) + self._told.end())
        if self._nothing:
            print("orchestrate: nothing that a person need read; --raw prints all there is", file=sys.stderr)

    def _put(self, text: str) -> None:
        if text:
            self._nothing = False
            print(_harmless(text), end="", flush=True)
