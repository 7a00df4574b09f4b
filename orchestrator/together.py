"""Many files made durable at once, in the order of one: the data, the names, the folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from orchestrator import disk, files, plain
from orchestrator.errors import AlreadyExists


class Together:
    """Files that shall be durable together. One after the other, each would cost a round to the disk (on a
    journal, a commit) of its own. The order is that of `publish`: the data, then the names, then the folders.
    """

    def __init__(self, whole: str = "") -> None:
        """`whole`: a folder that all are written to. There are so many that the data of its whole file system are synced
        in one round, where it has such a thing (`is_whole`)."""
        self._whole = _open_whole(whole) if whole and not disk.is_relaxed() else None
        self._open: list[int] = [] if self._whole is None else [self._whole]
        self._names: list[tuple[str, str, bool]] = []  # draft, name, whether it takes another's place
        self._folders: dict[str, None] = {}

    @property
    def is_whole(self) -> bool:
        """Whether no file is kept open until `sync`."""
        return self._whole is not None

    def publish(self, path: str, content: bytes, drafts: str = "", over: bool = False) -> None:
        """As `publish` (`over`: as `replace`), but the name appears in `sync`."""
        fd, temporary = files.write_draft(drafts or os.path.dirname(path), content)
        self._names.append((temporary, path, over))
        if self._whole is None:
            self._open.append(fd)
        else:
            os.close(fd)

    def put(self, path: str, content: bytes, drafts: str) -> None:
        """As `replace`, and the data are durable after `sync`: a power cut before that may leave it torn, which whoever
        reads it has to know. All that is not `publish`ed costs one round to the disk."""
        fd, temporary = files.write_draft(drafts, content)
        self._open.append(fd)
        try:
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    def file(self, path: str) -> None:
        """The data of a file, whoever wrote it."""
        fd = plain.opener(path, os.O_RDONLY)
        self._open.append(fd)

    def folder(self, path: str) -> None:
        """The names in a folder."""
        self._folders[path] = None

    def sync(self) -> None:
        """Wait for all. Raises AlreadyExists if a name was taken; the others are there, and durable, then."""
        self.begin()()

    def folders(self) -> list[str]:
        """Those whose names are to be synced."""
        return list(self._folders)

    def begin(self, failed: Callable[[], None] = lambda: None) -> Callable[[], None]:
        """Begin with the data; what is returned does the rest of `sync`, and raises what that raises.
        `failed` is called first then."""

        def end() -> None:
            try:
                self._end(data)
            except BaseException:
                failed()
                raise

        try:
            while self._folders and not self._names and not disk.is_relaxed():  # all are there: no second round
                self._open.append(os.open(self._folders.popitem()[0], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            data = files.begin_sync(self._open) if self._whole is None else partial(_wait_whole, self._whole)
        except BaseException:
            self.drop()
            failed()
            raise
        return end

    def _end(self, data: Callable[[], None]) -> None:
        taken: list[str] = []
        try:
            data()
            while self._names:
                temporary, path, over = self._names[0]  # in the order they came: a later one may speak of an earlier
                try:
                    (os.replace if over else files.move)(temporary, path)
                except FileExistsError:
                    taken.append(path)
                    os.unlink(temporary)
                self._names.pop(0)
            files.sync_folders(self._folders)
        finally:
            self.drop()
        if taken:
            raise AlreadyExists(f"{', '.join(taken)}: exists already; nothing was overwritten")

    def drop(self) -> None:
        """Give up what has not been synced; nothing is left of it."""
        while self._open:
            os.close(self._open.pop())
        while self._names:
            os.unlink(self._names.pop()[0])
        self._folders.clear()
        self._whole = None


def _open_whole(folder: str) -> int | None:
    from orchestrator import syncing  # `orchestrate add` does without

    return syncing.open_whole(folder)


def _wait_whole(fd: int) -> None:
    from orchestrator import syncing

    syncing.wait_whole(fd)
