"""What a run prints cannot fill the disk: its head and its tail are kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers import read, write

from orchestrator import output

pytestmark = pytest.mark.fast


def disk(path: str) -> int:
    return os.stat(path).st_blocks * 512


def test_a_cap_gives_back_the_middle_and_keeps_head_and_tail(tmp_path: Path) -> None:
    path = write(tmp_path / "log", b"".join(b"line %07d\n" % n for n in range(300_000)))
    size = os.stat(path).st_size
    assert output.cap(path, 100_000) == size
    assert disk(path) <= 120_000
    with open(path, "rb") as file:
        content = file.read()
    assert content.startswith(b"line 0000000\nline 0000001\n")
    assert content.endswith(b"line 0299998\nline 0299999\n")
    assert content[:40_000].count(b"\0") == content[-40_000:].count(b"\0") == 0


def test_a_writer_does_not_notice_the_cap(tmp_path: Path) -> None:
    path = f"{tmp_path}/log"
    with open(path, "ab", buffering=0) as file:
        for n in range(40):
            file.write(b"%02d" % n * 25_000)
            output.cap(path, 100_000)
            assert disk(path) <= 200_000
    with open(path, "rb") as file:
        content = file.read()
    assert content.startswith(b"00" * 20_000)
    assert content.endswith(b"39" * 20_000)


def test_a_file_within_its_cap_stays_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "log", os.urandom(100_000))
    with open(path, "rb") as file:
        before = file.read()
    output.cap(path, 100_000)
    output.compact(path, 100_000)
    with open(path, "rb") as file:
        assert file.read() == before


def test_compacting_says_how_much_is_gone(tmp_path: Path) -> None:
    path = write(tmp_path / "log", b"h" * 60_000 + b"m" * 900_000 + b"t" * 60_000)
    output.cap(path, 100_000)
    output.compact(path, 100_000)
    content = read(path)
    assert os.stat(path).st_size < 101_000
    assert content.startswith("h" * 45_000)
    assert content.endswith("t" * 45_000)
    head, _, rest = content.partition("\n[… ")
    gone, _, tail = rest.partition(" bytes left out: max_output_mb …]\n")
    assert len(head) + len(tail) + int(gone.replace(",", "")) == 1_020_000
