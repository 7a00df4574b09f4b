"""Files that somebody wrote to do harm, against the real dispatcher: nothing of them is run by a shell, nothing outside
the root is named, and each is kept as it was with a reason of one line while good tasks go on."""

from __future__ import annotations

import json
import os
import shlex
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from integration.driver import AGENT, Driver, living, until

# The first ones leave a line that a shell can parse, whatever the others do to theirs.
EVIL = (
    "$(touch CANARY)", "`touch CANARY`", "a\ntouch CANARY\n", ";touch CANARY;", "|touch CANARY|", "&touch CANARY&", "'$(touch CANARY);'",
    '";touch CANARY;"', "$IFS;touch${IFS}CANARY", "-o <(touch CANARY)", "\x1b]0;$(touch CANARY)\x07",
)  # fmt: skip

GOOD = b"description: |\n  @say well\n"


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[Driver]:
    """A queue in a path that no shell would survive."""
    driver = Driver(tmp_path, "a \"queue\" of 'mine' $HOME $(touch CANARY) `touch CANARY`;touch CANARY & ünï %s \\ *")
    yield driver
    driver.close()


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


# -- a shell --------------------------------------------------------------------------------------


def test_no_word_of_a_task_a_name_a_config_or_an_answer_reaches_a_shell(odd: Driver, tmp_path: Path) -> None:
    teller = tmp_path / "teller"
    teller.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >>told\n')
    teller.chmod(0o755)
    env = {f"EVIL_{n}": text for n, text in enumerate(EVIL)}
    words = " ".join(map(shlex.quote, EVIL))
    odd.make(
        {
            "by_stdin": {"command": f"{AGENT} {words}", "env": env, "capabilities": list(EVIL)},
            "by_word": {"command": f"{AGENT} --prompt {{prompt}}", "prompt": "argument"},
            "by_file": {"command": f"{AGENT} --prompt-file {{prompt_file}} {{output_file}}", "prompt": "file"},
            "shell": {"env": env},
        },
        alerts={"command": f"{shlex.quote(str(teller))} {words}"},
        retry={"max_retries": 0},
    )
    evil = "\n".join(EVIL)
    (odd.root / EVIL[0]).write_text("named only\n")
    pid = odd.start()
    for agent in ("by_stdin", "by_word", "by_file"):
        facts = "".join(f" {shlex.quote('notes: ' + json.dumps(list(EVIL)))}")
        odd.drop(
            agent, evil, f"@say {words}".replace("\n", "\\n"), "@facts" + facts, preferred_agent=agent,
            context_files=[EVIL[0]], subtasks=list(EVIL), task_type=EVIL[0],
        )  # fmt: skip
    odd.drop("script", evil, run='cat "$ORCHESTRATE_PROMPT_FILE"; echo well')
    for n, text in enumerate(EVIL):
        odd.drop(f"{n}{text}", "@say well", preferred_agent="by_word")
        odd.drop(f"dependency_{n}", dependencies=[text])
        odd.drop(f"id_{n}", id=text)
        odd.drop(f"agent_{n}", preferred_agent=text)
        odd.drop(f"file_{n}", context_files=[f"{n}{text}"])
        odd.drop(f"needs_{n}", requirements=[f"no{text}"])
    odd.drop("fails", "@say " + words.replace("\n", "\\n"), "@exit 3", preferred_agent="by_word")
    odd.reach("completed", "by_stdin", "by_word", "by_file", "script")
    odd.reach("review", "fails")
    until(
        lambda: len(list((odd.root / "tasks/completed").glob("[0-9]*_result.yaml"))) == len(EVIL), what=lambda: odd.log
    )
    for n in range(len(EVIL)):
        for kind in ("dependency", "id", "agent", "file"):
            reason = until(lambda kind=kind, n=n: odd.rejected(f"{kind}_{n}.yaml"))
            assert reason.count("\n") == 1 and reason[:-1].isprintable(), reason
    odd.ok("retry", "fails", "--note", evil)
    odd.ok("add", f"{evil}\n@say well", "--agent", "by_file", "--id", "added", "--wait")
    odd.ok("cancel", "needs_0")
    for look in (["status"], ["tasks"], ["agents"], ["show", "fails"], ["logs", "fails"], ["validate"], ["doctor"]):
        assert "Traceback" not in odd.run(*look).stderr, look
    until(lambda: odd.count("fails") == 2)
    odd.reach("review", "fails")
    assert evil in odd.prompt("by_word") and EVIL[0] in odd.prompt("by_word") and odd.answer("script").endswith("well")
    assert EVIL[0] in (odd.root / "context/notes/by_word.md").read_text()
    # the last agent goes away: the alert's command, too, gets its words as they are
    odd.configure(
        {"gone": {"command": str(tmp_path / "gone")}}, alerts={"command": f"{shlex.quote(str(teller))} {words}"}
    )
    os.kill(pid, 1)
    told = until(lambda: (odd.root / "told").exists() and (odd.root / "told").read_text())
    assert all(text in told for text in EVIL)
    assert living(pid) and "Traceback" not in odd.log
    places = [tmp_path, Path(os.readlink(f"/proc/{pid}/cwd")), Path.cwd()]
    assert [path for place in places for path in place.rglob("CANARY*")] == []


# -- out of the root ------------------------------------------------------------------------------


def test_no_context_file_and_no_answer_leads_out_of_the_root(root: Driver, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("hunter2\n")
    (root.root / "docs").mkdir()
    for name, target in {
        "link": outside / "secret", "folder": outside, "docs/middle": Path("../../outside"), "proc": Path("/proc/self/root"),
        "cwd": Path("/proc/self/cwd/.."), "loop": Path("loop"), "twice": Path("link"), "above": Path(".."), "brother": Path(f"../{root.root.name}2"),
    }.items():  # fmt: skip
        (root.root / name).symlink_to(target)
    Path(f"{root.root}2").mkdir()
    Path(f"{root.root}2/secret").write_text("secret\n")
    for name in ("plan.md", "good.md", "deep/plan.md"):
        (root.root / "docs" / name).parent.mkdir(exist_ok=True)
        (root.root / "docs" / name).write_text("a plan\n")
    (root.root / "inside").symlink_to("docs/good.md")
    paths = [
        "link", "folder/secret", "docs/middle/secret", f"proc{outside}/secret", "cwd/outside/secret", "loop", "twice", "above/outside/secret",
        "brother/secret", "docs/../../outside/secret", "..", str(outside / "secret"), "~/secret", "~root/secret", "./../outside/secret",
        f"/proc/self/root{outside}/secret", "docs/plan.md\0", "", "l" * 5000, "folder/none", "docs//middle//secret", "//etc/passwd",
    ]  # fmt: skip
    root.configure({"fake": {"command": AGENT}})
    root.start()
    root.drop("busy", "@wait go", "@say well")
    until(lambda: root.members("busy"))
    root.drop("one_changed", context_files=["docs/good.md", "docs/plan.md"])
    root.drop("middle_changed", context_files=["docs/deep/plan.md"])
    root.drop("good", "@say well", context_files=["inside", "docs/good.md"])
    for n, path in enumerate(paths):
        root.drop(f"path_{n}", context_files=["docs/good.md", path])
        root.drop(f"page_{n}", context_required=[f"../{path}"])
    for n, path in enumerate(paths):
        reason = until(lambda n=n: root.rejected(f"path_{n}.yaml"), what=path)
        assert any(words in reason for words in ("the root", "does not exist", "is empty", "NUL", "longer than")), (
            reason
        )
        until(lambda n=n: root.rejected(f"page_{n}.yaml"), what=path)
    root.seen()
    (root.root / "docs/plan.md").unlink()
    (root.root / "docs/plan.md").symlink_to(outside / "secret")
    (root.root / "docs/deep").rename(root.root / "docs/was_deep")
    (root.root / "docs/deep").symlink_to(outside)
    (outside / "plan.md").write_text("secret\n")
    root.go()
    root.reach("completed", "good")
    for name in ("one_changed", "middle_changed"):
        assert "leads out of the root" in until(lambda name=name: root.rejected(f"{name}.yaml"))
    answer = root.root / "context/agent_outputs/busy_output.md"  # brought by git, or by an agent
    answer.unlink()
    answer.symlink_to(outside / "secret")
    root.drop("reads", "@say well", dependencies=["busy"])
    root.reach("completed", "reads")
    assert "hunter2" not in root.prompt("reads")
    assert sorted(os.listdir(root.root / "tasks/runs")) == ["busy", "good", "reads"]
    assert "- inside\n- docs/good.md\n" in root.prompt("good")


# -- in the place of a task -----------------------------------------------------------------------


def test_whatever_lies_in_pending_is_kept_with_a_reason_and_good_ones_go_on(
    root: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending, rejected = root.root / "tasks/pending", root.root / "tasks/rejected"
    pid = root.start()
    root.drop("first", "@say well")
    root.reach("completed", "first")
    before = descriptors(pid)
    bad: dict[str, str] = {}  # name → words of the reason

    def put(name: str | bytes, content: bytes, words: str = "") -> None:
        name = os.fsdecode(name)
        path = f"{tmp_path}/draft"
        Path(path).write_bytes(content)
        if words:
            bad[name] = words
        os.rename(path, f"{pending}/{name}")

    # names; of a good one the id is made from the name
    long, wide = "x" * 250 + ".yaml", "é" * 125 + ".yaml"
    odd = [
        b"caf\xe9.yaml",
        b"\xff\xfe.yaml",
        b"a\nb.yaml",
        b"a\x1b[2Jb.yaml",
        b"$(reboot).yaml",
        b"-rf *.yaml",
        "\u202etxt.yaml".encode(),
    ]
    for name in [*odd, long.encode(), wide.encode()]:
        put(
            b"bad" + name if len(name) < 250 else name.replace(b"x", b"y").replace("é".encode(), "ö".encode()),
            b"no: task\n",
            "unknown key 'no'",
        )
        put(b"good" + name if len(name) < 250 else name, GOOD)
    # the same id for people, or for another file system; the first to be read waits
    later = GOOD + b"dependencies: [later]\n"
    pairs = [
        ("Case.yaml", "cASE.yaml", "in upper and lower case only"),
        ("n\u00e9.yaml", "ne\u0301.yaml", "waits already"),
    ]
    for first, second, words in pairs:
        put(first, later)
        until(lambda first=first: first[:-5] in root.ok("tasks", "--json"))
        root.seen()
        put(second, later + b"# other bytes\n", words)
    # what is no file
    outside = tmp_path / "outside.yaml"
    outside.write_text("no: task\n")
    (tmp_path / "linked.yaml").write_bytes(GOOD)
    os.link(outside, pending / "hard.yaml")
    os.link(tmp_path / "linked.yaml", pending / "linked.yaml")
    (pending / "dangling.yaml").symlink_to("/nowhere")
    (pending / "loop.yaml").symlink_to("loop.yaml")
    (pending / "folder.yaml").mkdir()
    (pending / "folder.yaml/inside.yaml").write_text("description: x\n")
    monkeypatch.chdir(pending)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.yaml")
    os.mkfifo("fifo.yaml")
    bad |= {
        "hard.yaml": "unknown key 'no'", "dangling.yaml": "a symbolic link", "loop.yaml": "a symbolic link", "folder.yaml": "a folder",
        "socket.yaml": "a socket", "fifo.yaml": "a FIFO",
    }  # fmt: skip
    with suppress(PermissionError):
        os.mknod("device.yaml", stat.S_IFCHR | 0o600, os.makedev(1, 5))
        bad["device.yaml"] = "a device"
    if os.geteuid():
        put(".draft", b"description: x\n")
        os.chmod(".draft", 0)
        os.rename(".draft", "shut.yaml")
        bad["shut.yaml"] = "cannot be read: Permission denied"
    # what a parser dies of
    sparse = tmp_path / "sparse"
    sparse.touch()
    os.truncate(sparse, 1 << 30)
    os.rename(sparse, "gigabyte.yaml")
    bad["gigabyte.yaml"] = "has 1,073,741,824 bytes"
    bomb = "a: &a [x,x]\n" + "".join(
        f"{c}: &{c} [{', '.join(['*' + p] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
    )
    put("bomb.yaml", bomb.encode() + b"description: x\n", "an anchor")
    for n, opening in enumerate((b"[", b"{a: ", b"- ", b"? ")):
        put(f"deep_{n}.yaml", b"description: " * (n < 2) + opening * 100_000, "nested deeper")
    put(
        "tags.yaml", b"".join(b"%%TAG !a%d! b\n" % n for n in range(150_000)) + b"--- {description: x}\n", "a %TAG line"
    )
    put("key.yaml", b"description: x\n? " + b"k" * 4_000_000 + b"\n: 1\n", "unknown key 'kkk")
    put("path.yaml", b"description: x\ncontext_files: [" + b"a/" * 500_000 + b"]\n", "longer than 1,000")
    put("agent.yaml", b"description: x\npreferred_agent: " + b"a" * 4_000_000, "unknown agent 'aaa")
    root.drop("good", "@say well")
    root.reach("completed", "good")
    until(
        lambda: all(root.rejected(kept(name)) for name in bad),
        what=lambda: [name for name in bad if not root.rejected(kept(name))],
    )
    root.drop("later", "@say well")
    root.reach("completed", "later")
    for name, words in bad.items():
        reason = root.rejected(kept(name))
        assert words in reason and reason.count("\n") == 1 and reason[:-1].isprintable() and len(reason) < 800, (
            name,
            reason,
        )
        assert os.path.lexists(rejected / kept(name)), name
    assert os.path.samefile(outside, rejected / "hard.yaml") and outside.read_text() == "no: task\n"
    assert os.readlink(rejected / "loop.yaml") == "loop.yaml" and (rejected / "folder.yaml/inside.yaml").exists()
    assert (rejected / "gigabyte.yaml").stat().st_size == 1 << 30
    kinds = {name: stat.S_IFMT((rejected / f"{name}.yaml").lstat().st_mode) for name in ("socket", "fifo")}
    assert kinds == {"socket": stat.S_IFSOCK, "fifo": stat.S_IFIFO}
    assert (tmp_path / "linked.yaml").read_bytes() == GOOD
    good = len(odd) + 2 + len(pairs) + len(("linked", "first", "good", "later"))
    until(
        lambda: (
            len([name for name in os.listdir(root.root / "tasks/completed") if name.endswith("_result.yaml")]) >= good
        )
    )
    assert living(pid) and root.pid == pid and "Traceback" not in root.log
    until(lambda: not root.members() and descriptors(pid) <= before, what=lambda: os.listdir(f"/proc/{pid}/fd"))


def kept(name: str) -> str:
    """Its name in rejected/: cut so that `.reason.txt` fits behind it."""
    stem, ending = os.path.splitext(name)
    while len(os.fsencode(stem + ending)) > 235:
        stem = stem[:-1]
    return stem + ending


# -- many -----------------------------------------------------------------------------------------


def test_good_tasks_come_through_thousands_of_bad_files(root: Driver, tmp_path: Path) -> None:
    kinds = (b"", b"\0", b"\xff\xfe", b"[" * 30_000, b"a: &a [*a]\n", b"description: x\npriority: very\n", b"- a\n", b"<<<<<<< HEAD\n", b"? x\n", b"no: task\n")  # fmt: skip
    pid, pending = root.start(), root.root / "tasks/pending"
    count, good = 3000, [f"good_{n}" for n in range(20)]
    for n in range(count):
        (tmp_path / "draft").write_bytes(kinds[n % len(kinds)])
        os.utime(tmp_path / "draft", (1, 1))  # an empty file that is new has a moment to be filled
        os.rename(tmp_path / "draft", pending / f"bad_{n}.yaml")
        if n % (count // len(good)) == 0:
            root.drop(good[n * len(good) // count], "@say well")
    root.reach("completed", *good, seconds=120)
    rejected = root.root / "tasks/rejected"
    until(lambda: len(os.listdir(rejected)) == 2 * count, 120, lambda: len(os.listdir(rejected)))
    for n in range(count):
        reason = root.rejected(f"bad_{n}.yaml")
        assert reason.count("\n") == 1 and f"bad_{n}.yaml: " in reason
    assert living(pid) and "Traceback" not in root.log
