"""The queue: the only room that knows that a task is a file in a folder.

    tasks/pending/   task_001.yaml                               people and programs write here
    tasks/assigned/  task_001.yaml  task_001_agent_01.yaml       who has it
    tasks/completed/ task_001.yaml  task_001_result.yaml         failed/ and review/ alike
    tasks/rejected/  whatever.yaml  whatever.yaml.reason.txt     no task
    tasks/runs/      task_001/1/ …                               one folder per run
    tasks/archive/   2026-11/ …                                  ended long ago

Every change of state is one move that refuses to overwrite. Moves collect the folders they
touched; `sync` makes them durable together, so that many tasks cost few syncs. Nobody is told
of a change before `sync` has returned.

This module loads in a few milliseconds (no YAML, no pydantic): `orchestrate add` is used in loops.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from orchestrator import events, files, ids, locks, plain
from orchestrator.adding import Adding
from orchestrator.errors import NotFound, Refused
from orchestrator.names import nearest, numbered, printable
from orchestrator.places import find_root, is_task_name
from orchestrator.states import MOVES, State
from orchestrator.together import Together
from orchestrator.writing import Value, to_yaml

HINT_LIMIT = 5000  # files: among more, the nearest id to a wrong one is not looked for


class Spool(Adding):
    """A queue of files below `root`. Any number of processes may use it at once.

    Spool("/path/to/project").add({"description": "Fix the login"})  →  "task_001"
    """

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._together = Together()

    # -- move -------------------------------------------------------------------------------

    def _move(self, source: str, target: str, before: State, after: State) -> None:
        assert after in MOVES[before], f"{before} → {after} is no lawful move"
        files.move(source, target)
        self._together.folder(os.path.dirname(source))
        self._together.folder(os.path.dirname(target))

    def claim(self, name: str, task_id: str) -> None:
        """pending/<name> → assigned/<id>.yaml. Raises FileExistsError, FileNotFoundError; nothing changed then."""
        source = f"{self.tasks}/{State.PENDING}/{name}"
        self._move(source, self.path(State.ASSIGNED, task_id), State.PENDING, State.ASSIGNED)

    def assign(self, task_id: str, agent_id: str, agent_type: str, run: int, assigned_at: str, boot: str = "") -> None:
        """Write who has a claimed task; there, and durable, after `sync`. The file lives as long as the run.
        `boot` tells whoever finds it whether there was a power cut in between."""
        who: dict[str, Value] = {"task_id": task_id, "agent_id": agent_id, "agent_type": agent_type}
        content = to_yaml({**who, "assigned_at": assigned_at, "run": run, "boot": boot or None})
        # Over what a mishap may have left there: the claim was ours alone, so no run lives that it could speak of.
        # Nothing of ours is started before it is durable, so one that a power cut tore speaks of no run at all.
        path = self.assignment_path(task_id, agent_id)
        if boot:
            self._together.put(path, content, self._drafts)
        else:
            self._together.publish(path, content, self._drafts, over=True)

    def release(self, task_id: str) -> None:
        """assigned → pending: to be tried again. Raises FileExistsError, FileNotFoundError; nothing changed then."""
        self._to_pending(task_id, State.ASSIGNED)

    def _to_pending(self, task_id: str, before: State) -> None:
        mine, there = self.path(before, task_id), self.path(State.PENDING, task_id)
        with self._releasing():  # nobody takes it for a copy meanwhile
            try:
                self._move(mine, there, before, State.PENDING)
            except FileExistsError:
                if not plain.same(mine, there, patience=0.2):
                    raise
                os.replace(mine, there)  # a copy came back meanwhile (git reset); nothing is lost under it
        for path in (mine, there):
            self._together.folder(os.path.dirname(path))

    def _releasing(self) -> AbstractContextManager[None]:
        files.make_folders(self.own)
        return locks.locked(f"{self.own}/release.lock")

    def make_run_folder(self, task_id: str, number: int) -> bool:
        """A run's folder, and those it lies in; whether a link was in its place (`unlink_run`)."""
        path = self.run_folder(task_id, number)
        above = os.path.dirname(path)
        if plain.is_folder(above) and plain.is_folder(path):
            return False
        was_linked = self.unlink_run(task_id, number)
        try:
            files.make_folders(above, path)
        except FileNotFoundError:
            files.make_folders(self.runs, above, path)
        return was_linked

    def unlink_run(self, task_id: str, number: int) -> bool:
        """What was put in the place of a run's folder, or of its task's, and is none, gets another name: nothing is
        written where a link leads. Whether something was."""
        path = self.run_folder(task_id, number)
        found = [one for one in (os.path.dirname(path), path) if plain.is_folder(one) is False]
        for one in found:
            plain.aside(one, files_too=True)
        return bool(found)

    def place_result(self, task_id: str, state: State, run_result: str) -> None:
        """Give a run's result its name beside where the task is about to go. Twice does no harm."""
        target = self.result_path(state, task_id)
        try:
            files.link(run_result, target)
        except FileExistsError:
            # Left by an attempt that died before its commit, or by an earlier verdict: the run's
            # own folder keeps each of them.
            plain.aside(target)
            with open(run_result, "rb", opener=plain.opener) as file:
                files.replace(target, file.read())
        self._together.folder(os.path.dirname(target))

    def take_back_result(self, task_id: str, state: State, run_result: str) -> None:
        """Undo `place_result`: the task never got there. The run's folder keeps the result."""
        if os.path.exists(target := self.result_path(state, task_id)) and os.path.samefile(target, run_result):
            os.unlink(target)

    def commit(self, task_id: str, state: State) -> None:
        """assigned → its end. This move is the commit. Raises FileNotFoundError: it is ours no more."""
        self._move(self.path(State.ASSIGNED, task_id), self.path(state, task_id), State.ASSIGNED, state)

    def unassign(self, task_id: str, agent_id: str, run: int = 0) -> None:
        """Nobody has it any more. The note of a run goes into its folder: where files were deleted,
        ext4 without a journal is slow for minutes to make new ones."""
        note = self.assignment_path(task_id, agent_id)
        with suppress(OSError):  # somebody deleted that folder, or it is on another disk
            if run:
                os.rename(note, f"{self.run_folder(task_id, run)}/assigned.yaml")
                return
        with suppress(FileNotFoundError):
            os.unlink(note)

    def drop_copy(self, path: str, kept: str) -> bool:
        """Remove a file if `kept` holds the same bytes; False, and nothing was done, if it does not."""
        with self._releasing():  # and does not come back to its place meanwhile
            dropped = plain.drop_copy(path, kept, self._drafts)
        self._together.folder(os.path.dirname(path))
        return dropped

    def drop(self, path: str) -> None:
        """Remove a file of ours that nobody needs any more."""
        os.unlink(path)
        self._together.folder(os.path.dirname(path))

    def reject(self, path: str, before: State, reason: str) -> str:
        """Move what is no task aside, as it is, and say why beside it (there after `sync`); its new path.

        The reason is one line; it does not repeat the content.
        """
        name = os.path.basename(path)
        said = f"{printable(f'tasks/{before}/{name}')}: {reason}\n".encode("utf-8", "replace")
        for count in range(1, 10_000):
            target = f"{self.tasks}/{State.REJECTED}/{numbered(name, count)}"
            if plain.is_there(target + ".reason.txt"):
                if self.drop_copy(path, target):  # it came back as it was (git reset, a sync tool)
                    return target
                if plain.is_there(target) or not plain.holds(target + ".reason.txt", said):
                    continue  # else a power cut took the move back, and not the reason
            try:
                self._move(path, target, before, State.REJECTED)
            except FileExistsError:
                continue
            try:
                self._together.publish(target + ".reason.txt", said, drafts=self._drafts, over=True)
            except OSError:
                files.move(target, path)  # no room for the reason: nothing was done
                raise
            return target
        raise Refused(f"{printable(path)}: tasks/rejected/ holds 10,000 files of that name")

    def sync(self, *folders: str) -> None:
        """Make every move and note since the last sync durable, and the names in these folders. Raises OSError."""
        self.begin_sync(*folders)()

    def begin_sync(self, *folders: str) -> Callable[[], None]:
        """Begin with `sync`; what is returned waits for its end, and raises what it raised."""
        together, self._together = self._together, Together()
        for folder in folders:
            together.folder(folder)
        touched = together.folders()

        def again() -> None:
            for folder in touched:
                self._together.folder(folder)

        return together.begin(again)

    def sweep_drafts(self, now: float) -> int:
        """Remove what writers that died left half made."""
        ours = (self._drafts, self.runs, self.own, f"{self.own}/agents")
        return sum(files.sweep_drafts(folder, now) for folder in (*ours, *(f"{self.tasks}/{one}" for one in State)))

    # -- what a person says -----------------------------------------------------------------

    def require(self, task_id: str) -> State:
        """The state of a task. Raises NotFound with the nearest id."""
        state = self.state_of(task_id)
        if state is None and (where := self.archived(task_id)):
            raise NotFound(f"{printable(task_id)}: archived as {os.path.relpath(where, self.root)}")
        if state is None and ids.file_of(self, task_id):
            state = State.PENDING
        if state is None:
            few = sum(len(self.names(state)) for state in State) < HINT_LIMIT
            everywhere = [one for state in State if few for one in self.ids(state)]
            like = f"; tasks/rejected/{task_id}.yaml is none" if task_id in everywhere else nearest(task_id, everywhere)
            raise NotFound(f"{printable(task_id) or repr(task_id)}: no such task{like}")
        return state

    def mark(self, task_id: str, word: str, note: str = "") -> None:
        """Leave a person's word (`retried`) in the folder of the last run."""
        if not (numbers := self.run_numbers(task_id)):
            return
        self.make_run_folder(task_id, numbers[-1])
        path = f"{self.run_folder(task_id, numbers[-1])}/{word}"
        files.replace(path, note.encode(), drafts=self._drafts)
        files.sync_folder(os.path.dirname(path))

    def retry(self, task_id: str, note: str = "") -> None:
        """Bring a failed task, or one in review, back to pending with a fresh budget of attempts.

        A task that waits for its next attempt is tried at once. Raises NotFound, Refused.
        """
        state = self.require(task_id)
        if state is State.COMPLETED:
            raise Refused(f"{task_id}: is completed; a finished result never changes. Add a new task instead")
        if state is not State.PENDING and plain.is_there(self.path(State.COMPLETED, task_id)):
            raise Refused(f"{task_id}: is in tasks/completed/, too; 'orchestrate doctor --repair' keeps one of them")
        if state is State.ASSIGNED:
            raise Refused(f"{task_id}: is running; 'orchestrate cancel {task_id}' ends it first")
        mine, other = self.path(state, task_id), self.path(State.PENDING, task_id)
        if mine != other and plain.is_there(other) and not plain.same(mine, other):
            raise Refused(f"{task_id}: tasks/pending/ holds another file of that id; move it away first")
        self.mark(task_id, "retried", note)
        if state is not State.PENDING:
            self._bring_back(task_id, state)
        elif not self.run_numbers(task_id):
            return  # it waits for nothing that a person's word could change
        events.record(self.own, "retried", task_id, f"a person said so{f': {printable(note)}' if note else ''}")

    def _bring_back(self, task_id: str, state: State) -> None:
        self._to_pending(task_id, state)
        # The verdict's second name goes; the file itself stays in the run's folder.
        if plain.is_there(result := self.result_path(state, task_id)):
            self.sync()  # no power cut leaves an ended task without the verdict
            self.drop(result)
        self.sync()

    def cancel_waiting(self, task_id: str, result: bytes) -> None:
        """pending → failed (review → failed), with a result that says it was cancelled.

        Raises Refused; FileNotFoundError if it was claimed in that very moment. Nothing was changed then.
        """
        state = self.require(task_id)
        if state not in (State.PENDING, State.REVIEW):
            raise Refused(f"{task_id}: is {state}; only a waiting or running task can be cancelled")
        target = self.result_path(State.FAILED, task_id)
        if plain.is_there(self.path(State.FAILED, task_id)):
            raise Refused(f"{task_id}: tasks/failed/ holds a file of that id already; move it away first")
        name = f"{task_id}.yaml" if state is State.REVIEW else ids.file_of(self, task_id) or f"{task_id}.yaml"
        files.replace(target, result)
        files.sync_folder(os.path.dirname(target))  # the move is the commit: what belongs to it is durable before
        try:
            self._move(f"{self.tasks}/{state}/{name}", self.path(State.FAILED, task_id), state, State.FAILED)
        except FileNotFoundError:
            os.unlink(target)
            raise
        if state is State.REVIEW:
            with suppress(FileNotFoundError):
                os.unlink(self.result_path(state, task_id))
        self.sync()
        events.record(self.own, "cancelled", task_id, f"by a person while it was {state}")


__all__ = ["Spool", "find_root", "is_task_name"]
