"""Reading what anybody may have written: bounded, strict, and never anything but InvalidTask."""

from __future__ import annotations

import os
import random
import socket
import time
from pathlib import Path

import pytest
from helpers import until, write

from orchestrator.errors import InvalidTask
from orchestrator.reading import SIZE_LIMIT, StillWritten, parse_mapping, read_bytes
from orchestrator.strict import DEPTH_LIMIT

pytestmark = pytest.mark.fast


def why(content: bytes) -> str:
    with pytest.raises(InvalidTask) as caught:
        parse_mapping(content)
    return str(caught.value)


# -- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("off", "off"), ("y", "y"), ("12:30", "12:30"), ("2025-01-15", "2025-01-15"),
        ("2025-01-15T10:00:00Z", "2025-01-15T10:00:00Z"), ("1_000", "1_000"), ("0b1", "0b1"), (".inf", ".inf"),
        (".nan", ".nan"), ("=", "="), ("1e", "1e"), ("0x", "0x"), ("nULL", "nULL"), ("tRUE", "tRUE"), ("'1'", "1"),
        ("010", 10), ("0o17", 15), ("0x1F", 31), ("-7", -7), ("+7", 7), ("1.5", 1.5), ("-.5", -0.5), ("1e3", 1000.0),
        ("true", True), ("FALSE", False), ("~", None), ("null", None), ("", None), ("[]", []), ("{}", {}),
        ("[a, 1, no]", ["a", 1, "no"]), ("{b: {c: d}}", {"b": {"c": "d"}}),
    ],
)  # fmt: skip
def test_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = parse_mapping(f"key: {text}\n".encode())["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbfdescription: x\n", b"description: x\r\n", b"---\ndescription: x\n...\n", b"# c\ndescription: x"],
)
def test_a_byte_order_mark_and_windows_line_ends_are_no_mistake(content: bytes) -> None:
    assert parse_mapping(content) == {"description": "x"}


def test_windows_line_ends_inside_a_text_become_plain_ones() -> None:
    assert parse_mapping(b"description: |\r\n  a\r\n  b\r\n") == {"description": "a\nb\n"}


# -- attacks and mistakes -----------------------------------------------------------------------

BOMB = "a: &a [x,x]\n" + "".join(f"{c}: &{c} [*{p},*{p},*{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True))
MERGE = "a: &a {k: 1}\n" + "".join(
    f"{c}: &{c}\n  <<: [*{p},*{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
)

BAD = {
    "alias bomb": (BOMB.encode(), "an anchor"),
    "merge keys": (MERGE.encode(), "an anchor"),
    "alias": (b"a: *b\n", "an alias"),
    "tag": (b"a: !!python/object/apply:os.system [id]\n", "a tag"),
    "plain tag": (b"a: !x y\n", "a tag"),
    "duplicate key": (b"a: 1\nb: 2\na: 3\n", "line 3: the key 'a' stands twice"),
    "duplicate key deep": (b"a:\n  b: 1\n  b: 2\n", "line 3: the key 'b' stands twice"),
    "key that is no word": (b"1: x\n", "a key must be a word"),
    "key that is a list": (b"? [a]\n: x\n", "a key must be a word"),
    "two documents": (b"a: 1\n---\nb: 2\n", "second document"),
    "list": (b"- a\n", "no mapping"),
    "text": (b"do this\n", "no mapping"),
    "empty": (b"", "is empty"),
    "blank": (b" \n\t\n", "is empty"),
    "only a mark": (b"\xef\xbb\xbf", "is empty"),
    "only comments": (b"# later\n", "is empty but for comments"),
    "nul": (b"a: x\0y\n", "NUL"),
    "utf-16": ("description: x".encode("utf-16"), "is not UTF-8"),
    "utf-16 without mark": ("description: x".encode("utf-16-le"), "NUL"),
    "latin-1": ("description: Größe".encode("latin-1"), "is not UTF-8"),
    "surrogates": (b"a: \xed\xa0\x80\n", "is not UTF-8"),
    "conflict": (b"a: 1\n<<<<<<< HEAD\nb: 2\n=======\nb: 3\n>>>>>>> x\n", "merge-conflict markers"),
    "conflict end": (b"a: |\n  x\n>>>>>>> theirs\n", "merge-conflict markers"),
    "open quote": (b'a: "x\n', "is not YAML: line"),
    "tab": (b"a:\n\t- b\n", "is not YAML: line 2"),
    "open bracket": (b"a: [x\n", "is not YAML"),
    "control character": (b"a: b\nc: \x01\n", "line 2: a control character (U+0001); remove it"),
    "unknown escape": (b'a: "\\q"\n', "is not YAML"),
    "half a pair escaped": (b'a: "\\ud800"\n', "is not YAML"),
    "huge number": (b"a: " + b"9" * 5000 + b"\n", "digits"),
    "number out of range": (b"a: 1e999\n", "out of range"),
    "tag lines": (b"".join(b"%%TAG !a%d! b\n" % n for n in range(50_000)) + b"--- {a: b}\n", "holds a %TAG line"),
    "nested lists": (b"a: " + b"[" * 30_000, "nested deeper"),
    "nested mappings": (b"a: " + b"{a: " * 30_000, "nested deeper"),
    "nested blocks": (b"- " * 30_000, "nested deeper"),
    "nested keys": (b"? " * 30_000, "nested deeper"),
    "many values": (b"a: [" + b"x," * 30_000 + b"]\n", "more than"),
    "many keys": (b"".join(b"k%d: 1\n" % n for n in range(30_000)), "more than"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_no_task_is_refused_quickly_in_one_line(case: str) -> None:
    content, words = BAD[case]
    begun = time.process_time()
    reason = why(content)
    assert words in reason
    assert reason.isprintable()
    assert len(reason) < 300
    assert time.process_time() - begun < 2.0


def test_what_is_as_deep_as_the_limit_is_read() -> None:
    levels = DEPTH_LIMIT - 1
    assert parse_mapping(b"a: " + b"[" * levels + b"]" * levels)
    assert "nested deeper" in why(b"a: " + b"[" * (levels + 1) + b"]" * (levels + 1))


def test_merge_keys_are_keys_like_others() -> None:
    assert parse_mapping(b"<<: {a: 1}\n") == {"<<": {"a": 1}}


def test_conflict_markers_that_a_text_quotes_are_no_conflict() -> None:
    assert parse_mapping(b"a: |\n  <<<<<<< HEAD\n  x\n  >>>>>>> y\n")


def test_the_reason_does_not_repeat_the_content() -> None:
    assert "hunter2" not in why(b'password: hunter2\nx: "hunter2\n')


def test_garbage_is_refused_and_nothing_else() -> None:
    chance = random.Random(20251121)
    alphabet = [b"a", b": ", b"\n", b"- ", b"[", b"]", b"{", b"}", b"&x ", b"*x", b"!t ", b"'", b'"', b"#", b"|", b">", b"%",
                b"?", b"\t", b"  ", b"---\n", b"\xff", b"\0", b"\xc3\xa9", b"<<", b",", b"0x", b"1e9", b"~", b"\\", b"@"]  # fmt: skip
    read = 0
    for _ in range(5000):
        content = b"".join(chance.choices(alphabet, k=chance.randrange(1, 25)))
        try:
            assert isinstance(parse_mapping(content), dict)
            read += 1
        except InvalidTask as reason:
            assert str(reason).isprintable(), content
    assert read > 10


# -- files --------------------------------------------------------------------------------------


def refused(path: str, **options: object) -> str:
    with pytest.raises(InvalidTask) as caught:
        read_bytes(path, **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    content = os.urandom(300_000)
    assert read_bytes(write(tmp_path / "a", content)) == content
    assert read_bytes(write(tmp_path / "b", b"")) == b""


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_bytes(f"{tmp_path}/none")


def test_a_fifo_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.yaml")
    assert "is a FIFO" in refused(f"{tmp_path}/x.yaml")


def test_a_folder_a_link_a_socket_and_a_device_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = write(tmp_path / "target", "description: x\n")
    os.symlink(target, tmp_path / "link")
    os.symlink("nowhere", tmp_path / "dangling")
    os.symlink("self", tmp_path / "self")
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert "is a socket" in refused("socket")
    assert "is a folder" in refused(str(tmp_path))
    assert "is a symbolic link" in refused(f"{tmp_path}/link")
    assert "is a symbolic link" in refused(f"{tmp_path}/dangling")
    assert "is a symbolic link" in refused(f"{tmp_path}/self")
    assert "is a device" in refused("/dev/null")


def test_a_file_of_10_mb_is_refused_without_being_read(tmp_path: Path) -> None:
    path = write(tmp_path / "big", b"")
    os.truncate(path, 10_000_000)
    assert "10,000,000 bytes" in refused(path)
    os.truncate(path, SIZE_LIMIT)
    assert len(read_bytes(path)) == SIZE_LIMIT


def test_a_file_that_somebody_writes_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "description: x\n")
    with open(path, "ab"):
        with pytest.raises(StillWritten):
            read_bytes(path, settled=True)
        assert read_bytes(path)  # who does not ask, reads
    assert until(lambda: read_bytes(path, settled=True), 3.0)
