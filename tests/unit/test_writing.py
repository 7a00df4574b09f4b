"""What we write, our own reader gives back, whatever the words are."""

from __future__ import annotations

import random

import pytest

from orchestrator.reading import parse_mapping
from orchestrator.writing import quoted, to_yaml

pytestmark = pytest.mark.fast

NASTY = [
    "", " ", "\n", "\t", "a", "a b", " a", "a ", "a\n", "a\nb", "a\nb\n", "a\nb\n\n", "\na", "\n\na\nb", "a\n\nb", " a\nb", "a\n b",
    "\ta\nb", "a\n\tb", "a\n  \nb", "a\nb\n  ", "a\nb  ", "a  \nb", "a\nb\n\t", "a\r\nb", "a\rb", "a\n\rb", "a\x85b\nc", "a\u2028b\nc",
    "true", "True", "no", "on", "off", "y", "N", "null", "~", "Null", "1", "-1", "+1", "010", "0o17", "0x1f", "1.5", "1e3", ".5", ".inf",
    "nan", "12:30", "2025-01-15", "2025-01-15T10:00:00Z", "1_000", "=", "<<", "---", "...", "--- a", "a\n---\nb", "a\n...\nb", "%YAML 1.1",
    "- a", "-", "? a", "?", ": a", ":", "a: b", "a:b", "a #b", "#a", "&a", "*a", "!a", "!!str a", "|", "|-", ">", "> a\nb", "@a", "`a`",
    "'", "''", '"', '""', "'a'", '"a"', "\\", "\\n", 'a\\"b', "[a]", "{a}", "a, b", "a]", "]", "}", ",", "{a: b}", "a\tb", "a\0b",
    "\x01", "\x1b[31m", "\x7f", "\x80", "\x9f", "\xa0", "\xad", "\ufeff", "a\ufeffb", "\ufffe", "\uffff", "\u200b", "\u202e", "é", "e\u0301",
    "任务", "😀", "\U0010ffff", "a\n😀\nb", "key: |\n  value", "<<<<<<< HEAD\nx\n>>>>>>> y", "a\n<<<<<<< HEAD\nb", "x" * 5000, "x\n" * 500,
    "C:\\path\\to", "/usr/bin", "a/b.c-d_e", "a.", "a..", "task_001", "A", "e3", "0", "00", "-", "--", "é\nè", "#!/bin/sh\nset -e\necho \"$x\" | cat\n",
]  # fmt: skip


def back(value: object) -> object:
    return parse_mapping(to_yaml({"first": "1", "key": value, "last": "2"}))["key"]  # type: ignore[dict-item]


@pytest.mark.parametrize("text", NASTY)
def test_a_text_comes_back_as_it_was(text: str) -> None:
    assert back(text) == text
    assert back([text]) == [text]
    assert back([text, "a", text, "x" * 80]) == [text, "a", text, "x" * 80]
    assert back({"a": text, "b": text}) == {"a": text, "b": text}


def test_any_text_comes_back_as_it_was() -> None:
    chance = random.Random(1)
    pieces = [
        *"ab01 \n\t\r:#-?,[]{}&*!|>'\"%@`\\~=.<",
        "\n ",
        "\n  ",
        "\n\n",
        ": ",
        " #",
        "é",
        "😀",
        "\x85",
        "\u2028",
        "\ufeff",
        "\0",
    ]
    for _ in range(4000):
        text = "".join(chance.choices(pieces, k=chance.randrange(0, 14)))
        assert back(text) == text, repr(text)


def test_any_character_comes_back_as_it_was() -> None:
    characters = [
        chr(n)
        for n in (*range(0x3000), *range(0xD700, 0xD800), *range(0xE000, 0xE100), *range(0xFE00, 0x10100), 0x10FFFF)
    ]
    for start in range(0, len(characters), 500):
        for text in ("".join(characters[start : start + 500]), "x\n" + "\nx".join(characters[start : start + 500])):
            assert back(text) == text


@pytest.mark.parametrize("value", [0, -1, 10**19, 1.5, -0.25, 1e-07, 1e22, 123456.789, True, False])
def test_a_number_comes_back_with_its_type(value: float) -> None:
    found = back(value)
    assert found == value
    assert type(found) is type(value)


def test_none_is_left_out_and_the_order_is_kept() -> None:
    assert to_yaml({"b": 1, "a": None, "c": ()}) == b"b: 1\nc: []\n"
    assert back({"a": 1, "b": None, "c": 1.5}) == {"a": 1, "c": 1.5}


def test_half_a_surrogate_pair_becomes_a_mark_and_breaks_nothing() -> None:
    assert back("a\ud800b") == "a\ufffdb"
    assert back("a\nb\udfff") == "a\nb\ufffd"


def test_the_same_fields_give_the_same_bytes_and_plain_words_stay_plain() -> None:
    fields = {"id": "task_001", "description": "Fix it.\nSoon.\n", "dependencies": ["task_000"]}
    assert to_yaml(fields) == to_yaml(dict(fields))  # type: ignore[arg-type]
    assert to_yaml(fields) == b"id: task_001\ndescription: |\n  Fix it.\n  Soon.\ndependencies: [task_000]\n"  # type: ignore[arg-type]
    assert quoted("src/auth.py") == "src/auth.py"
