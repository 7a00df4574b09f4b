"""git moves the queue under the dispatcher's feet: nothing is lost, nothing is run twice, nobody has to be asked."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from integration.driver import Driver, until

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed here")


class Repository:
    """A root that is a git repository."""

    def __init__(self, root: Driver) -> None:
        self.root = root
        self.root.ok("init")
        self("init", "-b", "main")

    def __call__(self, *words: str, cwd: Path | None = None, fails: bool = False) -> str:
        git = ["git", "-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "pull.rebase=false"]
        done = subprocess.run(
            [*git, "-C", str(cwd or self.root.root), *words], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode != 0) is fails, (words, done.stdout, done.stderr)
        return done.stdout

    def can(self, *words: str) -> bool:
        """Whether git did it."""
        try:
            self(*words)
        except AssertionError:
            return False
        return True

    def commit(self, text: str) -> None:
        self("add", "-A")
        self("commit", "-m", text)

    def look(self) -> None:
        """The dispatcher has looked at all that git did."""
        os.kill(self.root.pid, signal.SIGUSR1)
        self.root.seen()


@pytest.fixture
def git(root: Driver) -> Repository:
    return Repository(root)


def test_reset_stash_and_checkout_bring_no_task_back_to_life(root: Driver, git: Repository) -> None:
    ledger = root.root.parent / "ledger"
    root.drop("well", f"@ledger '{ledger}'", "@say well", "@facts 'notes: [\"seen\"]'")
    root.drop("bad", f"@ledger '{ledger}'", "@exit 1", max_retries=0)
    root.drop("long", f"@ledger '{ledger}'", f"@wait '{root.root.parent}/go'", "@say long")
    root.drop("typo", desription="x")
    git.commit("a queue")
    root.start()
    root.reach("completed", "well")
    root.reach("review", "bad")
    until(lambda: root.members("long") and root.rejected("typo.yaml"))

    def all_is_as_it_was() -> None:
        git.look()
        where = {"well": ["completed"], "bad": ["review"], "long": ["assigned"]}
        # A file that came while git held its lock is looked at again a moment later.
        pending = root.root / "tasks/pending"
        until(
            lambda: {one: root.places(one) for one in where} == where and not list(pending.glob("*.yaml")),
            what=lambda: root.log[-2000:],
        )
        assert sorted(ledger.read_text().split()) == sorted(["well", "1", "bad", "1", "long", "1"])
        assert root.answer("well").startswith("well") and root.result("well")["status"] == "success"
        assert len(list((root.root / "tasks/rejected").glob("*.yaml"))) == 1, "the same bytes were put aside twice"

    git("reset", "--hard")
    all_is_as_it_was()
    git("stash", "-u")  # takes away all that is not committed: results, outputs, the folders that get empty
    all_is_as_it_was()
    git("stash", "drop")
    git.commit("results")
    git("checkout", "-b", "before", "HEAD~1")  # a branch on which nothing has run
    all_is_as_it_was()
    git("checkout", "main", fails=True)  # git overwrites nothing; what the dispatcher made lies in its way
    git("checkout", "-f", "main")
    all_is_as_it_was()
    git("reset", "--hard", "HEAD~1")
    all_is_as_it_was()
    (root.root.parent / "go").touch()
    root.reach("completed", "long")
    assert "Traceback" not in root.log
    rows = root.json("tasks", "--status", "completed")
    assert {row["task_id"] for row in rows} == {"well", "long"}


def test_pull_and_rebase_submit_while_results_are_made(root: Driver, git: Repository, tmp_path: Path) -> None:
    upstream, colleague = tmp_path / "upstream.git", tmp_path / "colleague"
    git.commit("a queue")
    git("init", "--bare", "-b", "main", str(upstream), cwd=tmp_path)
    git("remote", "add", "origin", str(upstream))
    git("push", "-u", "origin", "main")
    git("clone", str(upstream), str(colleague), cwd=tmp_path)

    def push(name: str) -> None:
        (colleague / f"tasks/pending/{name}.yaml").write_text(
            f"description: |\n  Do it\n  @ledger ../ledger\n  @say {name}\n"
        )
        git("add", "-A", cwd=colleague)
        git("commit", "-m", name, cwd=colleague)
        git("push", "origin", "main", cwd=colleague)

    root.start()
    push("first")
    git("pull")
    root.reach("completed", "first")
    push("second")
    git.commit("what came of the first")
    # What came of the first is undone, and done again. git gives up if a page is written in the midst of it: then again.
    until(lambda: git.can("pull", "--rebase", "--autostash"))
    root.reach("completed", "second")
    push("third")
    git.commit("what came of the second")  # both have gone on: a merge
    git("pull", "--no-edit")
    root.reach("completed", "third")
    git.commit("what came of the third")
    git("push", "origin", "main")
    git("pull", cwd=colleague)
    seen = sorted(path.name for path in (colleague / "tasks/completed").glob("*.yaml"))
    assert seen == sorted(f"{one}{end}.yaml" for one in ("first", "second", "third") for end in ("", "_result"))
    git.look()
    assert sorted((root.root.parent / "ledger").read_text().split("\n")[:-1]) == ["first 1", "second 1", "third 1"]
    assert not list((root.root / "tasks/rejected").glob("*.yaml"))


def test_what_is_tracked_is_what_the_page_says(root: Driver, git: Repository) -> None:
    """And `git add -A` trips over nothing that is half written."""
    root.drop("one", "@say well", "@facts 'notes: [\"seen\"]'")
    root.start()
    root.reach("completed", "one")
    for draft in ("tasks/completed/.12-ab-cd.tmp", "context/.12-ab-cd.tmp", "context/notes/.12-ab-cd.tmp"):
        (root.root / draft).touch()
    git.commit("all of it")
    tracked = set(git("ls-files").split("\n"))
    assert {"tasks/completed/one.yaml", "tasks/completed/one_result.yaml", "config.yaml", ".gitignore"} <= tracked
    assert {"context/current_state.md", "context/agent_outputs/one_output.md", "context/notes/fake.md"} <= tracked
    no = ("tasks/assigned/", "tasks/runs/", ".orchestrator/", "tasks/.drafts/", "context/completed_tasks.json")
    assert not [name for name in tracked if name.startswith(no) or name.endswith(".tmp")]


def test_a_fresh_clone_knows_what_was_completed(root: Driver, git: Repository, tmp_path: Path) -> None:
    root.drop("one", "@say well")
    root.start()
    root.reach("completed", "one")
    git.commit("all of it")
    git("clone", str(root.root), str(tmp_path / "clone"), cwd=tmp_path)
    clone = Driver(tmp_path, "clone")
    clone.ok("init")
    assert '"mark": "one/1"' in (clone.root / "context/completed_tasks.json").read_text()
