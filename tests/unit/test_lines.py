"""What is read line by line is what YAML says; of what is not plainly so, nothing is said."""

from __future__ import annotations

import random

import pytest

from orchestrator import lines, strict
from orchestrator.errors import InvalidTask
from orchestrator.reading import parse_mapping
from orchestrator.writing import to_yaml

pytestmark = pytest.mark.fast

TASK = """\
# yaml-language-server: $schema=../schema/task.schema.json
id: fix_login
description: |
  The login: it fails.

    - with an umlaut  # or two
priority: high   # said he
created_at: 2025-01-15T10:00:00Z
dependencies: [reproduce_login, "b c"]
context_files:
- docs/login.md
- 'my file.md'
timeout_minutes: 30
run: 'true'
max_retries:
"""

CONFIG = """\
agents:
  # the one that we pay for
  claude: # here
    command: "claude --dangerously-skip-permissions"
    env: {MODE: batch, "N": 1}

  shell: {}
  other: {env: {}}
queue:
    max_size: 10
"""


def test_what_people_and_we_ourselves_write_is_read_line_by_line() -> None:
    said = {
        "task_id": "a",
        "text": 'x "y" #z',
        "seconds": 1.5,
        "cost": 1e-05,
        "tokens": {"input": 5},
        "is": True,
        "none": [],
    }
    written = to_yaml(
        {**said, "notes": ["more: of", "it"] * 10, "answer": "two\nlines\n", "other": "two\nlines"}
    ).decode()
    for text in (TASK, CONFIG.replace('"N"', "N"), written.replace('x \\"y\\" #z', "x #z")):
        assert lines.mapping(text) == strict.mapping(text) is not None
    assert lines.mapping(CONFIG) is None and parse_mapping(CONFIG.encode())["agents"]["claude"]["env"] == {
        "MODE": "batch",
        "N": 1,
    }


@pytest.mark.parametrize(
    "text",
    [
        "", "\n", "# c\n", "a: b", "a: b: c\n", "a: b :\n", "a: 'b''c'\n", 'a: "b\\n"\n', "a: &b c\n", "a: *b\n", "a: !t b\n",
        "a: b\n  c\n", "a:\n  b\n", "a: |\n\n  b\n", "a: |2\n  b\n", "a: >\n  b\n", "a: |\n", "a:\tb\n", "a:b\n", "<<: {}\n",
        "a: b\na: c\n", "1: b\n", "null: b\n", " a: b\n", "a:\n    b: c\n  d: e\n", "- a\n", "a:\n- - b\n", "a:\n- b: c\n",
        "a:\n- b\n  c\n", "a:\n  - b\n - c\n", "---\na: b\n", "a: b\n...\n", "%TAG !a! b\n", "a: b\n<<<<<<< c\n", "a: [b\n",
        "a: [b: c]\n", "a: [b, [c]]\n", "a: {b: 1, b: 2}\n", "a: {1: b}\n", "a: - b\n", "a: @b\n", "a: \x01\n", "a: b\0\n",
        "a: \ufeffb\n", "a: b\u2028c\n", f"a: {'9' * 30}\n", "a: 1e999\n", f"{'a' * 2000}: b\n", f"a: {'b' * 20_000}\n",
        "".join(f"{' ' * n}a:\n" for n in range(25)), "? a\n: b\n", "a: b\r\n",
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_the_parser(text: str) -> None:
    assert lines.mapping(text) is None


ENDS = ["a", "b c", "null", "true", "1", "-5", "0x1F", "1.5", "1e3", "~", "x:y", "x: y", "x #y", "x#y", "#c", "'q'", '"d"',
        "'it''s'", '"e\\n"', "[a, b]", "[]", "{}", "{a: 1}", "{a: {}, b: c}", "{a: b, a: c}", "[a,b]", "[a, 'b, c']", "[ a ]", "|", ">", "- a",
        "-", "?", "é ü", " lead", "trail ", "%", "@", "&x", "*y", "!t", "---", "...", "/p/q", "(x", "~/x", "012", "a,b", "a]",
        "{b", "x:", ":x", "a'b", "'a'b", "{a: 'x: y', b: 2}", "{1: a}", "\xa0", "9" * 25, "1e999", "- a: b"]  # fmt: skip


def some(chance: random.Random, inset: int = 0) -> list[str]:
    """Lines of a mapping, most of them well."""
    found = []
    for key in chance.sample(
        ["a", "b", "id", "n", "key_name", "a-b", "_x", "y", "No", "null"], chance.choice([1, 1, 2, 3])
    ):
        begun, kind = f"{' ' * inset}{key}:", chance.random()
        deeper = " " * (inset + chance.choice([0, 1, 2, 3]))
        if kind < 0.5:
            found.append(f"{begun} {chance.choice(ENDS)}{chance.choice(['', '', '  ', ' # c'])}")
        elif kind < 0.65:
            found += [begun, *some(chance, inset + chance.choice([1, 2, 4]))]
        elif kind < 0.8:
            found += [begun, *(f"{deeper}- {chance.choice(ENDS)}" for _ in range(chance.choice([1, 2, 3])))]
        else:
            body = [deeper + "x", deeper + "# h", deeper + "  - y", "", deeper + " ", " " * inset, deeper + '"']
            found += [f"{begun} {chance.choice(['|', '|-'])}", *chance.choices(body, k=chance.choice([1, 2, 4]))]
        found += chance.choices(["", "# c", f"{deeper}# d"], k=chance.random() < 0.1)
    return found


def test_what_is_taken_for_plain_is_what_yaml_says() -> None:
    chance = random.Random(20251122)
    taken = 0
    for _ in range(6000):
        text = "\n".join(some(chance)) + "\n"
        if (found := lines.mapping(text)) is not None:
            taken += 1
            try:
                assert repr(strict.mapping(text)) == repr(found), text
            except InvalidTask as problem:
                pytest.fail(f"{text!r} was taken for plain: {problem}")
    assert taken > 1000
