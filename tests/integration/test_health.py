"""No agent, no disk, no descriptors, no processes: nothing is lost, it is said why, and it goes on by itself."""

from __future__ import annotations

import http.server
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.driver import AGENT, Driver, living, until

ALERT = """\
#!/bin/sh
printf '%s\\n' "$1" >>"$ORCHESTRATE_TEST_ALERTS"
test "$1" = "$ORCHESTRATE_ALERT"
"""


def why(root: Driver, task_id: str) -> str:
    """The reason that `tasks` shows for a waiting task; "" if it does not wait."""
    return {row["task_id"]: str(row["reason"]) for row in root.json("tasks", "--status", "pending")}.get(task_id, "")


def look(root: Driver) -> None:
    os.kill(root.pid, signal.SIGUSR1)


def program(root: Driver, name: str, text: str) -> str:
    path = root.root / name
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.chmod(0o755)
    draft.rename(path)
    return str(path)


@pytest.fixture
def alerts(root: Driver) -> Path:
    """The file that gets a line for each alert; `alert` is the command for it."""
    program(root, "alert", ALERT)
    path = root.root / "alerts"
    path.touch()
    root.environment["ORCHESTRATE_TEST_ALERTS"] = str(path)
    return path


# -- agents that do not start ---------------------------------------------------------------------


def test_an_agent_that_does_not_start_rests_and_one_task_tries_it_before_the_others(root: Driver) -> None:
    broken = program(root, "mine.sh", "#!/there/is/no/such/interpreter\n")
    root.configure({"mine": {"command": f"'{broken}'", "max_instances": 3}})
    ids = ["a", "b", "c", "d"]
    for one in ids:
        root.drop(one, max_retries=0)
    root.start()
    until(lambda: "did not start 3 times in a row" in why(root, "a"), what=lambda: root.log)
    until(lambda: [root.places(one) for one in ids] == [["pending"]] * 4, what="nobody's attempts are spent on that")
    assert root.result("a", 1)["status"] == "not_started" and root.result("a", 1)["counts"] is False
    assert "paused until" in why(root, "d") and "127" in why(root, "d")
    runs = sum(root.count(one) for one in ids)
    assert 3 <= runs <= 5

    pause = root.root / ".orchestrator/agents/mine.yaml"

    def over() -> None:
        """The pause is over."""
        lines = pause.read_text().splitlines()
        pause.write_text(
            "".join(f"{line}\n" for line in lines if "paused_until" not in line) + "paused_until: 2020-01-01\n"
        )
        look(root)

    over()
    until(lambda: sum(root.count(one) for one in ids) > runs)
    until(lambda: "did not start" in why(root, "a") and "paused until" in why(root, "a"), what=lambda: root.log)
    assert sum(root.count(one) for one in ids) == runs + 1, "one task tries"
    values = dict(line.split(": ", 1) for line in pause.read_text().splitlines())
    assert int(values["failed_starts"]) >= 4
    root.kill()
    root.start()
    assert "did not start" in why(root, "a"), "a restart forgets nothing of it"

    program(
        root,
        "mine.sh",
        f"#!/bin/sh\necho up >>'{root.root}/ups'\nwhile [ ! -e '{root.root}/go' ]; do sleep 0.05; done\necho well\n",
    )
    over()
    until(lambda: (root.root / "ups").exists())
    root.seen()
    assert (root.root / "ups").read_text() == "up\n"
    held = [reason for one in ids if (reason := why(root, one))]
    assert len(held) == 3 and all("is tried with one task first" in reason for reason in held)
    root.go()
    root.reach("completed", *ids)
    assert not pause.exists()


def test_a_cli_that_dies_before_its_first_word_did_not_start_but_a_command_that_fails_did(root: Driver) -> None:
    broken = program(root, "claude", "#!/bin/sh\necho 'Cannot find module cli.js' >&2\nexit 1\n")
    mine = program(root, "mine.sh", "#!/bin/sh\nexec ./claude\n")
    root.drop("cli", preferred_agent="claude", max_retries=0)
    root.drop("command", preferred_agent="mine", max_retries=0)
    root.drop("script", run="no_such_command", max_retries=0)
    root.configure({"claude": {"command": f"'{broken}'"}, "mine": {"command": f"'{mine}'"}, "shell": {}})
    root.start()
    root.reach("review", "command", "script")
    until(lambda: "did not start 3 times" in why(root, "cli"))
    assert "Cannot find module" in why(root, "cli")


def test_a_task_that_alone_cannot_start_where_others_do_reaches_a_person(root: Driver) -> None:
    """`exit 127` of its own making: the agent is not to blame once others have gone well on it."""
    code = "#!/bin/sh\ngrep -q '@poison' && exit 127\necho well\n"
    root.configure({"mine": {"command": program(root, "mine.sh", code).join("''"), "max_instances": 1}})
    root.drop("bad", "@poison", max_retries=0)
    root.drop("good")
    root.start()
    root.reach("completed", "good")
    root.reach("review", "bad")
    assert root.count("bad") == 2 and root.json("agents")[0]["state"] == "ready"


# -- nobody left ----------------------------------------------------------------------------------


def test_when_every_agent_is_down_somebody_is_told_once_and_the_queue_stays(root: Driver, alerts: Path) -> None:
    command = f"'{root.root}/alert'"
    nobody = {"gone": {"command": "no-such-program-at-all"}}
    root.configure(nobody, alerts={"command": command})
    root.start()
    root.seen()
    assert alerts.read_text() == "", "nothing waits: nobody has to be told"
    root.drop("one", "@say well")
    said = until(lambda: alerts.read_text(), what=lambda: root.log)
    assert "every agent is down" in said and "no-such-program-at-all" in said and said.count("\n") == 1
    assert "every agent is down" in root.json("status")["halted"]
    assert "every agent is down" in root.ok("status")
    assert "not on PATH" in why(root, "one") and root.places("one") == ["pending"]
    root.drop("two", "@say well")
    root.kill()
    root.start()
    root.seen()
    assert alerts.read_text() == said, "once for each time, not for each turn, nor for each dispatcher"
    root.configure(alerts={"command": command})
    os.kill(root.pid, signal.SIGHUP)
    root.reach("completed", "one", "two")
    assert root.json("status")["halted"] is None and "work goes on" in root.log
    root.configure(nobody, alerts={"command": command})
    os.kill(root.pid, signal.SIGHUP)
    until(lambda: root.log.count("config.yaml taken up") == 2)
    root.drop("three", "@say well")
    until(lambda: alerts.read_text().count("\n") == 2)


def test_an_alert_that_fails_or_hangs_holds_nobody_up_and_leaves_no_zombie(root: Driver) -> None:
    hangs = program(root, "alert", "#!/bin/sh\necho $$ >alert.pid\nexec sleep 300\n")
    root.configure({"gone": {"command": "no-such-program-at-all"}}, alerts={"command": f"'{hangs}'"})
    root.drop("one", "@say well")
    root.start()
    pid = int(until(lambda: (root.root / "alert.pid").exists() and (root.root / "alert.pid").read_text()))
    root.configure(alerts={"command": "no-such-alert"})
    os.kill(root.pid, signal.SIGHUP)
    root.reach("completed", "one")
    root.seen()
    assert living(pid), "it is no leftover of that run"
    root.configure({"gone": {"command": "no-such-program-at-all"}}, alerts={"command": "no-such-alert"})
    os.kill(root.pid, signal.SIGHUP)
    root.drop("two", "@say well")
    until(lambda: "alerts.command: cannot be started" in root.log, what=lambda: root.log)
    os.kill(pid, signal.SIGTERM)
    until(lambda: "alerts.command: ended with exit status -15" in root.log, what=lambda: root.log)
    assert not Path(f"/proc/{pid}").exists()


class Hook(http.server.BaseHTTPRequestHandler):
    """Takes what is posted."""

    def do_POST(self) -> None:
        self.server.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words: Any) -> None:
        pass


def test_an_alert_reaches_a_webhook_and_without_the_extra_it_is_said_what_to_type(root: Driver) -> None:
    pytest.importorskip("apprise")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.got = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hook = f"http://127.0.0.1:{server.server_port}/hook"
    root.configure({"gone": {"command": "no-such-program-at-all"}}, alerts={"notify": [hook]})
    root.drop("one")
    root.start()
    [said] = until(lambda: server.got, what=lambda: root.log)  # type: ignore[attr-defined]
    assert said["title"] == "orchestrate" and "every agent is down" in said["message"]
    server.shutdown()
    server.server_close()
    root.ok("stop")
    (root.root / ".orchestrator/heartbeat").unlink()
    (root.root / "without/apprise").mkdir(parents=True)
    (root.root / "without/apprise/__init__.py").write_text("raise ImportError\n")
    root.start(PYTHONPATH=f"{root.root}/without:{root.environment['PYTHONPATH']}")
    until(lambda: "pip install 'orchestrate-agents[alerts]'" in root.log, what=lambda: root.log)
    until(lambda: "alerts.notify: ended with exit status 1" in root.log)
    assert hook not in root.log


# -- heartbeats -----------------------------------------------------------------------------------


def test_a_dispatcher_and_a_run_without_a_sign_of_life_are_told_apart_from_those_with_one(root: Driver) -> None:
    root.drop("one", "@wait go", "@say well")
    pid = root.start()
    until(lambda: root.members("one"))
    assert root.json("status")["dispatcher"]["quiet_seconds"] < 60 and "running (pid" in root.ok("status")
    os.kill(pid, signal.SIGSTOP)
    try:
        past = time.time() - 130
        for path in (root.root / ".orchestrator/heartbeat", root.runs("one") / "1/alive"):
            os.utime(path, (past, past))
        text = root.ok("status")
        assert "does not answer for 2m1" in text and "quiet for 2m1" in text
        [row] = root.json("status")["running"]
        assert 130 <= row["quiet_seconds"] < 200
    finally:
        os.kill(pid, signal.SIGCONT)
    root.go()
    root.reach("completed", "one")


# -- no room --------------------------------------------------------------------------------------


def test_with_a_disk_that_is_nearly_full_nothing_starts_and_what_runs_goes_on(root: Driver, alerts: Path) -> None:
    root.drop("runs", "@wait go", "@say well")
    root.start()
    until(lambda: root.members("runs"))
    command = f"'{root.root}/alert'"
    root.configure(limits={"min_free_disk_mb": 1e12}, alerts={"command": command})
    os.kill(root.pid, signal.SIGHUP)
    root.ok("add", "Do it\n@say well", "--id", "waits")
    until(lambda: "MB free on the disk" in why(root, "waits"))
    assert "MB free on the disk" in root.ok("status")
    root.go()
    root.reach("completed", "runs")
    assert root.places("waits") == ["pending"] and root.count("waits") == 0
    assert alerts.read_text().count("MB free on the disk") == 1
    root.configure()
    os.kill(root.pid, signal.SIGHUP)
    root.reach("completed", "waits")


@pytest.fixture
def small(root: Driver) -> Iterator[Driver]:
    """A root on a disk of its own, of six megabytes."""
    folder = root.root / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("only root may mount")
    driver = Driver(folder).make({"fake": {"command": AGENT, "max_instances": 2}}, limits={"min_free_disk_mb": 2})
    yield driver
    driver.close()
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_loses_nothing_and_refuses_whole(small: Driver) -> None:
    small.drop("runs", "@wait go", "@say well")
    small.drop("prints", "@wait go", "@print_mb 1", "@say well")
    small.start()
    until(lambda: len(small.members()) == 4)
    for number in range(3):
        small.drop(f"waits{number}", "@say well")
    filler = small.root / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096) == 4096:
                pass
        except OSError:
            pass
    until(lambda: "0 MB free on the disk" in small.ok("status"), what=lambda: small.log)
    before = sorted(os.listdir(small.root / "tasks/pending"))
    refused = small.run("add", "x" * 20_000)
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1 and "No space left" in refused.stderr
    assert sorted(os.listdir(small.root / "tasks/pending")) == before
    assert os.listdir(small.root / "tasks/.drafts") == []
    assert "problem  file system: takes no new file: No space left" in small.run("doctor").stdout
    small.go()
    until(lambda: not small.members())
    assert [small.places(one) for one in ("runs", "prints")] == [["assigned"]] * 2, "there is no room for a verdict"
    until(lambda: "No space left" in (small.json("status")["unrecorded"] or ""), what=lambda: small.log)
    assert all(row["unrecorded"] for row in small.json("status")["running"])
    assert "has ended, and cannot be recorded: No space left" in small.ok("tasks", "--status", "assigned")
    filler.unlink()
    # Their own output found no room either: what they did is not known, and they are run again.
    small.reach("completed", "runs", "prints", "waits0", "waits1", "waits2")
    assert [small.count(f"waits{number}") for number in range(3)] == [1, 1, 1]
    assert small.json("status")["halted"] is None and small.json("status")["unrecorded"] is None


def limit(pid: int, kind: int, soft: int) -> tuple[int, int]:
    before = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (soft, before[1]))
    return before


def test_without_descriptors_nobody_is_taken_for_dead_and_nothing_is_lost(root: Driver) -> None:
    root.drop("runs", f"@ledger '{root.root}/ledger'", "@wait go", "@say well", max_retries=0)
    root.start()
    until(root.ledger)
    root.kill()
    pid = root.start()  # that run is no child of this one: it is known by what it holds
    until(lambda: "runs resumed" in root.log)
    before = limit(pid, resource.RLIMIT_NOFILE, 6)
    try:
        look(root)
        root.drop("waits", f"@ledger '{root.root}/ledger'", "@say well")
        until(lambda: "Too many open files" in root.ok("status"), what=lambda: root.log)
        look(root)
        until(lambda: "this turn was not finished: Too many open files" in root.log, what=lambda: root.log)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    root.reach("completed", "waits")
    assert root.ledger() == ["runs 1", "waits 1"] and root.places("runs") == ["assigned"]
    root.go()
    root.reach("completed", "runs")
    assert root.count("runs") == root.count("waits") == 1 and root.pid == pid
    assert root.json("status")["halted"] is None


def test_a_disk_that_takes_nothing_any_more_does_not_hold_up_a_stop(root: Driver) -> None:
    root.drop("a", "@wait go", "@say well")
    pid = root.start()
    until(lambda: root.members("a"))
    limit(pid, resource.RLIMIT_FSIZE, 0)  # of what the dispatcher writes; as on a disk that has become read-only
    root.go()
    until(lambda: "1 ended run cannot be recorded" in root.log or not root.members("a"))
    assert root.places("a") == ["assigned"]
    assert "dispatcher stopped" in root.ok("stop", "--now")
    root.start()
    root.reach("completed", "a")
    assert root.count("a") == 1


@pytest.fixture
def another_user() -> Iterator[Driver]:
    """A root whose dispatcher is not root's: root has no limit of processes."""
    folder = Path(tempfile.mkdtemp(prefix="orchestrate-"))
    folder.chmod(0o755)
    driver = Driver(folder).make({"shell": {}})
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root has no limit of processes, and cannot be another without setpriv")
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 54321, 54321)
    yield driver
    driver.close()
    shutil.rmtree(folder)


def test_without_processes_tasks_wait_and_start_when_there_are_some(another_user: Driver) -> None:
    root = another_user
    reads = "-all,+dac_override,+dac_read_search"  # it may look into root's folders all the same
    caps = [f"--inh-caps={reads}", f"--ambient-caps={reads}"]
    other = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", *caps] if os.geteuid() == 0 else []

    def run(*words: str) -> None:
        subprocess.run(
            [*other, sys.executable, *words], cwd=root.root, env=root.environment, check=True, capture_output=True
        )

    def processes(soft: str) -> None:
        code = "import resource as r, sys; kind = r.RLIMIT_NPROC; hard = r.prlimit(int(sys.argv[1]), kind)[1]"
        run("-c", f"{code}; r.prlimit(int(sys.argv[1]), kind, ({soft}, hard))", str(root.pid))

    root.drop("before", run="echo well")
    run("-m", "orchestrator.cli", "start")
    root.reach("completed", "before")
    processes("1")
    try:
        root.drop("one", run="echo well", max_retries=0)
        until(lambda: "temporarily unavailable" in why(root, "one"), what=lambda: root.log)
        assert root.places("one") == ["pending"] and "temporarily unavailable" in root.ok("status")
    finally:
        processes("hard")
    root.reach("completed", "one")
    assert root.result("one")["run"] == 1, "no attempt was spent"
    assert root.json("status")["halted"] is None


# -- no right -------------------------------------------------------------------------------------

# A dispatcher to which permissions apply, whoever starts it: without root's right to pass over them.
POWERLESS = (
    "import ctypes, sys; [ctypes.CDLL(None).prctl(24, right) for right in (1, 2, 3)]; "
    "from orchestrator.cli import main; sys.argv = ['orchestrate', 'start']; sys.exit(main())"
)


def test_a_folder_that_nobody_may_look_into_ends_no_run(root: Driver) -> None:
    """What cannot be looked for is not gone; it goes on once it may be looked into again."""
    root.drop("a", "@wait go", "@say well")
    subprocess.run([sys.executable, "-c", POWERLESS], cwd=root.root, env=root.environment, check=True, timeout=60)
    until(lambda: "a started" in root.log)
    folder = root.root / "tasks/assigned"
    folder.chmod(0)
    try:
        for one in ("b", "c", "d"):  # each after a scan
            look(root)
            root.drop(one, "@say well")
            until(lambda one=one: f"ERROR   {one} " in root.log)
    finally:
        folder.chmod(0o755)
    root.go()
    root.reach("completed", "a", "b", "c", "d")
    assert root.count("a") == 1


def test_what_cannot_be_claimed_waits_with_that_reason_and_is_claimed_when_it_can_be(root: Driver) -> None:
    pending, assigned = root.root / "tasks/pending", root.root / "tasks/assigned"
    assigned.mkdir(exist_ok=True)
    assigned.chmod(0o555)
    foreign = root.drop("foreign", "@say well", priority="high")
    root.drop("a", "@say well")
    try:
        subprocess.run([sys.executable, "-c", POWERLESS], cwd=root.root, env=root.environment, check=True, timeout=60)
        until(lambda: "lets nothing be claimed or started: Permission denied" in why(root, "a"), what=lambda: root.log)
        assert root.json("status")["halted"].endswith("Permission denied; tried again and again")
        if os.geteuid() == 0:  # in a folder like /tmp nobody moves what another put there
            os.chown(foreign, 54321, -1)  # to be claimed first
            os.chown(pending, 54321, -1)
            pending.chmod(0o1777)
    finally:
        assigned.chmod(0o755)
    root.reach("completed", "a")
    if os.geteuid() == 0:
        assert root.places("foreign") == ["pending"]
        assert "foreign.yaml: cannot be claimed: Operation not permitted" in root.json("status")["unread"]
        root.drop("foreign", "@say well", "# it is ours now")
    root.reach("completed", "foreign")
    until(lambda: root.json("status")["halted"] is root.json("status")["unread"] is None)
