"""Trusted verbs on files: publish whole or not at all, move without overwriting, sync, lock.

Durable means: the data synced, then the name, then the folder, before anyone is told
(qmail and maildir do it so). `rename(2)` replaces its target in silence, so every move here
refuses: `renameat2(RENAME_NOREPLACE)` on Linux, `renamex_np(RENAME_EXCL)` on macOS, and
`link` + `unlink` where neither works, which recovery knows how to finish.

Standard library alone, and little of it: the fast commands import this.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from orchestrator import disk
from orchestrator.errors import AlreadyExists

DRAFT_AGE_LIMIT = 3600.0  # seconds after which a draft of a dead writer is swept away


def sync_folder(path: str) -> None:
    """Make the names in a folder durable."""
    sync_folders((path,))


def make_folders(*paths: str, sync: bool = False) -> None:
    """Each that is missing (with `sync`: durably); what it lies in has to be there. Raises OSError."""
    above = []
    for path in paths:
        try:
            os.mkdir(path)
            above.append(os.path.dirname(path))
        except FileExistsError:
            pass
    if sync and above:
        sync_folders(above)


def sync_folders(paths: Iterable[str]) -> None:
    """Each folder once, all at the same time."""
    fds = []
    try:
        for path in () if disk.is_relaxed() else dict.fromkeys(paths):
            fds.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        sync_all(fds)
    finally:
        for fd in fds:
            os.close(fd)


def sync_all(fds: Sequence[int]) -> None:
    """Wait for all of these to be on the disk. Raises OSError."""
    begin_sync(fds)()


def begin_sync(fds: Sequence[int]) -> Callable[[], None]:
    """Begin with it; what is returned waits for the end, and raises OSError. They have to stay open until then."""
    if len(fds) > 1 and not disk.is_relaxed():
        from orchestrator import syncing  # the fast commands sync one folder, and do without

        return syncing.begin(fds)
    return partial(_sync_each, tuple(fds))


def _sync_each(fds: Sequence[int]) -> None:
    for fd in fds:
        disk.sync(fd)


_DRAFT = re.compile(r"\.(\d+)-[0-9a-f]{4,}-[0-9a-f]{6}\.tmp")


def draft(folder: str, content: bytes, mode: int = 0o644, sync: bool = True) -> str:
    """A new hidden file in `folder` that holds `content`, synced; its path. No reader looks at it."""
    fd, path = write_draft(folder, content, mode)
    try:
        if sync:
            disk.sync(fd)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(fd)
    return path


def draft_name(folder: str) -> str:
    """A name for something that nobody looks at; swept away if we die."""
    return f"{folder}/.{os.getpid()}-{time.time_ns():x}-{os.urandom(3).hex()}.tmp"


def write_draft(folder: str, content: bytes, mode: int = 0o644) -> tuple[int, str]:
    path = draft_name(folder)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        write_all(fd, content)
    except BaseException:
        os.close(fd)
        os.unlink(path)
        raise
    return fd, path


def write_all(fd: int, content: bytes) -> None:
    """Every byte; a short write is no error of ours but must not be taken for success."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def write(path: str, content: bytes, mode: int = 0o644) -> None:
    """Write a file that nobody reads before we say so; not synced."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        write_all(fd, content)
    finally:
        os.close(fd)


def publish(path: str, content: bytes, *, drafts: str = "", sync: bool = True) -> None:
    """Make a new file appear whole under `path`. Raises AlreadyExists if the name is taken.

    `sync` makes the data durable; the name is durable once the caller syncs the folder.
    """
    temporary = draft(drafts or os.path.dirname(path), content, sync=sync)
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise AlreadyExists(f"{path}: exists already; nothing was overwritten") from None
    finally:
        os.unlink(temporary)


def replace(path: str, content: bytes, *, drafts: str = "", sync: bool = True) -> None:
    """Exchange a file of ours for a new one, whole or not at all."""
    temporary = draft(drafts or os.path.dirname(path), content, sync=sync)
    try:
        os.rename(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if drafts and isinstance(error, OSError) and error.errno == errno.EXDEV:
            return replace(path, content, sync=sync)
        raise


def link(source: str, target: str) -> None:
    """A second name for a file, or a copy where the file system has no such thing.

    Raises FileExistsError if `target` is there.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
            raise
        with open(source, "rb") as file:
            try:
                publish(target, file.read())
            except AlreadyExists:
                raise FileExistsError(errno.EEXIST, "exists", target) from None


_Rename = Callable[[str, str, int], int]
_NOREPLACE, _EXCHANGE = (1, 2) if sys.platform == "linux" else (4, 2)
_rename_with_flags: list[_Rename | None] = []  # looked up once, at the first move


def _system_rename() -> _Rename | None:
    if not _rename_with_flags:
        import ctypes

        found: _Rename | None = None
        try:
            library = ctypes.CDLL(None, use_errno=True)
            name = "renameat2" if sys.platform == "linux" else "renamex_np"
            function = getattr(library, name)

            def call(source: str, target: str, flags: int) -> int:
                a, b = os.fsencode(source), os.fsencode(target)
                if sys.platform == "linux":
                    failed = function(-100, a, -100, b, flags)
                else:
                    failed = function(a, b, flags)
                return ctypes.get_errno() if failed else 0

            found = call
        except (OSError, AttributeError):
            found = None
        _rename_with_flags.append(found)
    return _rename_with_flags[0]


def has_atomic_move() -> bool:
    """Whether this system has a rename that refuses."""
    return _system_rename() is not None


def move(source: str, target: str) -> None:
    """Rename, refusing to overwrite. One file, one name, at every instant.

    Raises FileExistsError and FileNotFoundError; then nothing was changed.
    """
    rename = _system_rename()
    code = rename(source, target, _NOREPLACE) if rename else errno.ENOSYS
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        if os.path.isdir(source) and not os.path.islink(source):
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
            os.rename(source, target)
        else:
            os.link(source, target, follow_symlinks=False)
            os.unlink(source)
    elif code:
        raise OSError(code, os.strerror(code), source, None, target)


def exchange(path: str, content: bytes, expected: bytes) -> bool:
    """Put `content` in the place of a file that people write too, if it still holds `expected`.

    False: somebody saved in between; his version is back in place and nothing of it is lost. Whoever dies in
    this leaves what he held in `held_back(path)`: it may be that version. The caller holds a lock.
    """
    path = os.path.realpath(path)  # a link stays one
    temporary = draft(os.path.dirname(path), content)
    try:
        os.chmod(temporary, os.stat(path).st_mode & 0o7777)
        os.rename(temporary, held_back(path))
    except BaseException:
        os.unlink(temporary)
        raise
    temporary = held_back(path)
    rename = _system_rename()
    try:
        if rename is None or rename(temporary, path, _EXCHANGE):
            with open(path, "rb") as file:  # no exchange here: look, then replace
                if file.read() != expected:
                    return False
            os.rename(temporary, path)
            temporary = ""
            return True
        with open(temporary, "rb") as file:
            if file.read() == expected:
                return True
        rename(temporary, path, _EXCHANGE)
        with open(temporary, "rb") as file:
            if file.read() != content:  # saved once more in that very moment: what we hold is a person's
                os.rename(temporary, f"{path}.saved-{time.time_ns():x}")
                temporary = ""
        return False
    finally:
        if temporary:
            os.unlink(temporary)


def held_back(path: str) -> str:
    """Where `exchange` keeps the other version of a file for a moment."""
    return "/.".join(os.path.split(os.path.realpath(path))) + ".other"


def may_live(pid: str) -> bool:
    """Whether a process may still write: one that is dead and not buried (a zombie) does not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return sys.platform != "linux"


def sweep_drafts(folder: str, now: float) -> int:
    """Remove what writers that died left half made; how many. A live writer takes milliseconds."""
    swept = 0
    try:
        names = os.listdir(folder)
    except OSError:
        return 0
    for name in names:
        ours = name.startswith(".") and _DRAFT.fullmatch(name)  # there may be a million others
        if not ours:
            continue
        try:
            if not may_live(ours[1]) or now - os.stat(f"{folder}/{name}").st_mtime > DRAFT_AGE_LIMIT:
                os.unlink(f"{folder}/{name}")
                swept += 1
        except OSError:
            continue
    return swept
