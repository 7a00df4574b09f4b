"""`init` and `service`: what a new queue needs, and what keeps its dispatcher running."""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib import resources
from xml.sax.saxutils import escape

from orchestrator import files, plain
from orchestrator.config import BUILT_IN
from orchestrator.context import Context
from orchestrator.errors import OrchestrateError, WrongUsage
from orchestrator.names import printable
from orchestrator.spool import Spool

IGNORED = (
    "/.orchestrator/",
    "/tasks/assigned/",
    "/tasks/runs/",
    "/tasks/archive/",
    "/tasks/.drafts/",
    "/tasks/*/.*.tmp",  # what is half written: `git add -A` would trip over a name that is gone
    "/context/**/.*",
    "/context/completed_tasks.json",  # made from the results, and written at every end: git would only be in the way
)
SCHEMAS = ("task.schema.json", "config.schema.json")


def make(root: str) -> list[str]:
    """Make what is missing; the names of what was made, relative to the root."""
    made = [] if os.path.isdir(f"{root}/tasks/pending") else ["tasks/"]
    os.makedirs(root, exist_ok=True)
    Spool(root).make_folders()
    made += [f"context/{name}" for name in Context(root).make()]
    os.makedirs(f"{root}/tasks/schema", exist_ok=True)
    for name in SCHEMAS:
        text = resources.files("orchestrator").joinpath("schemas", name).read_text(encoding="utf-8")
        made += _put(root, f"tasks/schema/{name}", text, renew=True)
    for folder in ("pending", "completed", "failed", "review", "rejected"):
        if not os.listdir(f"{root}/tasks/{folder}"):
            made += _put(root, f"tasks/{folder}/.gitkeep", "")
    made += _put(root, "config.yaml", config_text())
    made += _ignore(root)
    return made


def _put(root: str, name: str, text: str, renew: bool = False) -> list[str]:
    path = f"{root}/{name}"
    if os.path.lexists(path):
        with open(path, encoding="utf-8", errors="replace", opener=plain.opener) as file:
            if not renew or file.read() == text:
                return []
    files.replace(path, text.encode(), drafts=f"{root}/.orchestrator")
    return [name]


def _ignore(root: str) -> list[str]:
    path = f"{root}/.gitignore"
    try:
        with open(path, encoding="utf-8", errors="replace", opener=plain.opener) as file:
            present = file.read()
    except FileNotFoundError:
        present = ""
    missing = [line for line in IGNORED if line not in present.splitlines()]
    if not missing:
        return []
    with open(path, "a", encoding="utf-8", opener=plain.opener) as file:
        gap = "" if not present or present.endswith("\n") else "\n"
        file.write(
            f"{gap}# orchestrate: this machine's own, and what only means something while it runs\n"
            + "\n".join(missing)
            + "\n"
        )
    return [".gitignore"]


def config_text() -> str:
    """A config.yaml for this machine: the agents that were found are on, the others are shown."""
    lines = [
        "# yaml-language-server: $schema=tasks/schema/config.schema.json",
        "# Who works here. The permission flags are yours to decide: an agent that may not write, cannot work.",
        "",
        "agents:",
        "  shell: # runs a task's own `run:` script; needs nothing installed",
        "    max_instances: 2",
    ]
    for name, command in BUILT_IN.items():
        found = shutil.which(command.split()[0])
        mark = "  " if found else "  # "
        lines += [
            f"{mark}{name}:{'' if found else ' # not found on PATH here'}",
            f"{mark}  command: {command!r}".replace("'", '"'),
            f"{mark}  max_instances: 2",
            f"{mark}  timeout_seconds: 3600",
        ]
    lines += [
        "",
        "queue:",
        "  max_size: 1000",
        "  default_priority: normal",
        "  default_timeout_minutes: 60",
        "",
        "retry:",
        "  max_retries: 3",
        "  retry_delay_seconds: 60",
        "",
    ]
    return "\n".join(lines)


def service_name(root: str) -> str:
    """What the unit of this queue is called: two queues must not share one."""
    return "orchestrate-" + ("-".join(re.findall(r"[A-Za-z0-9_.]+", os.path.basename(root))) or "queue")


def service_unit(root: str, kind: str) -> str:
    """The unit's text. It carries the PATH of now: a service starts with a PATH that has no agent in it."""
    path, name = os.environ.get("PATH", ""), service_name(root)
    if kind == "systemd":
        for what, value in (("root", root), ("PATH", path)):
            if "\n" in value:
                raise OrchestrateError(f"{what} {printable(value)!r} holds a newline; systemd cannot take it")
        return f"""\
# Save this as ~/.config/systemd/user/{name}.service, then:
# systemctl --user daemon-reload && systemctl --user enable --now {name}
# It starts when you log in; for a start with the machine, once: loginctl enable-linger
[Unit]
Description=orchestrate dispatcher of {_percent(root)}

[Service]
Type=exec
WorkingDirectory={_percent(root)}
Environment={_quoted("PATH=" + path, dollars=False)}
ExecStart={_quoted(sys.executable)} -m orchestrator.cli --root {_quoted(root)} start --foreground
ExecReload=/bin/kill -HUP $MAINPID
# TERM leaves the runs going; the next start takes them up. So a restart ends no agent's work.
KillMode=process
Restart=on-failure
RestartSec=5

[Install]
WantedBy=default.target
"""
    if kind == "launchd":
        words = [sys.executable, "-m", "orchestrator.cli", "--root", root, "start", "--foreground"]
        arguments = "\n".join(f"    <string>{escape(word)}</string>" for word in words)
        return f"""\
<?xml version="1.0" encoding="UTF-8"?>
<!-- Save this as ~/Library/LaunchAgents/{name}.plist, then: launchctl load ~/Library/LaunchAgents/{name}.plist -->
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key><string>{name}</string>
  <key>ProgramArguments</key>
  <array>
{arguments}
  </array>
  <key>WorkingDirectory</key><string>{escape(root)}</string>
  <key>EnvironmentVariables</key>
  <dict><key>PATH</key><string>{escape(path)}</string></dict>
  <key>RunAtLoad</key><true/>
  <key>KeepAlive</key><dict><key>SuccessfulExit</key><false/></dict>
  <key>AbandonProcessGroup</key><true/>
  <key>StandardErrorPath</key><string>{escape(root)}/.orchestrator/launchd.log</string>
</dict>
</plist>
"""
    raise WrongUsage(f"--kind {printable(kind)!r}: write systemd or launchd")


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str, dollars: bool = True) -> str:
    """One word of a systemd line: quotes and backslashes escaped, % doubled; $ doubled where it is expanded."""
    body = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{body.replace("$", "$$") if dollars else body}"'
