"""`make demo`: a small real pipeline on this very repository, with nothing but the shell agent.

Three tasks read the code, a fourth collects their answers, a fifth fails once and is tried again,
a sixth asks a person. Everything happens in demo/, which is made anew each time.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.environ.get("DEMO_ROOT") or os.path.join(REPOSITORY, "demo")
ENDS = {"count": "completed", "lint": "completed", "todos": "completed", "flaky": "completed",
        "report": "completed", "licence": "review"}  # fmt: skip

CONFIG = """\
agents:
  shell:
    max_instances: 3
    env: {DEMO_REPOSITORY: REPOSITORY}
retry:
  retry_delay_seconds: 1
"""


def orchestrate(*words: str) -> None:
    """Type a command, and show that it was typed."""
    print(f"$ orchestrate {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "orchestrator.cli", "--root", ROOT, *words], check=False)


def main() -> int:
    """Run it; 0 if everything ended as it should."""
    run = [sys.executable, "-m", "orchestrator.cli", "--root", ROOT]
    if os.path.isdir(ROOT):
        subprocess.run([*run, "stop", "--now"], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.rmtree(ROOT)
    os.makedirs(ROOT)
    with open(os.path.join(ROOT, "config.yaml"), "w", encoding="utf-8") as file:
        file.write(CONFIG.replace("REPOSITORY}", f"{json.dumps(REPOSITORY)}}}"))
    subprocess.run([*run, "init"], check=True, stdout=subprocess.DEVNULL)
    orchestrate("start")
    print("$ cp examples/demo/*.yaml demo/tasks/pending/", flush=True)
    for name in sorted(ENDS):
        shutil.copyfile(
            os.path.join(REPOSITORY, "examples", "demo", f"{name}.yaml"),
            os.path.join(ROOT, "tasks", "pending", f"{name}.yaml"),
        )  # not shutil.copy: it would set the mode of a file that is claimed already
    print("$ orchestrate logs -f", flush=True)
    follow()
    orchestrate("status")
    orchestrate("stop")
    print("$ tree demo/tasks demo/context", flush=True)
    print(tree(ROOT))
    print(NEXT)
    return 0 if all(os.path.exists(f"{ROOT}/tasks/{end}/{task}.yaml") for task, end in ENDS.items()) else 1


def follow() -> None:
    """The dispatcher's log as it is written, until every task has ended; two minutes at most."""
    log = os.path.join(ROOT, ".orchestrator", "dispatcher.log")
    shown, deadline = 0, time.monotonic() + 120
    while time.monotonic() < deadline:
        with open(log, encoding="utf-8") as file:
            lines = file.read().splitlines()
        for line in lines[shown:]:
            moment, text = line[11:19], line[32:]
            print(f"{moment}  {text}", flush=True)
        shown = len(lines)
        if all(any(f" {task} {end} " in line for line in lines) for task, end in ENDS.items()):
            return
        time.sleep(0.05)


def tree(root: str) -> str:
    """The files of the queue, as they lie now."""
    found = []
    for folder in ("tasks", "context"):
        for place, folders, names in os.walk(os.path.join(root, folder)):
            folders.sort()
            folders[:] = [one for one in folders if not one.startswith(".") and one != "schema"]
            if os.path.basename(os.path.dirname(place)) == "runs" and place.split(os.sep)[-1] != "flaky":
                folders[:] = []  # one of them says it all
            found += [
                os.path.relpath(os.path.join(place, name), root) for name in sorted(names) if not name.startswith(".")
            ]
    return "\n".join(found)


NEXT = """
What to look at next:
  demo/context/agent_outputs/report_output.md      the report
  demo/context/current_state.md                    what every agent reads first
  demo/tasks/runs/flaky/1/result.yaml              why the first attempt failed
  .venv/bin/orchestrate -C demo show licence       what the task in review asks; to answer it:
  .venv/bin/orchestrate -C demo retry licence --note "MIT"
  .venv/bin/orchestrate -C demo start
  .venv/bin/orchestrate -C demo wait licence
  .venv/bin/orchestrate -C demo stop
"""


if __name__ == "__main__":
    sys.exit(main())
