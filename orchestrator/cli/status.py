"""`orchestrate status`: from names, counts and a few small files of our own; parses no task."""

from __future__ import annotations

import os
import time
from typing import Any

from orchestrator import plain, progress
from orchestrator.cli.settings import problem
from orchestrator.locks import is_locked
from orchestrator.names import printable
from orchestrator.places import Places, find_root, is_slot
from orchestrator.states import State

STALE_SECONDS = 60.0  # without a sign of life
NEEDS_YOU = 5  # tasks of a kind that are named
NAMED = 1000  # of those in review that --json names


def flat(path: str) -> dict[str, str]:
    """The one-line values of a file that we wrote ourselves (`writing.to_yaml`), without a YAML parser."""
    found: dict[str, str] = {}
    try:
        with open(path, encoding="utf-8", errors="replace", opener=plain.opener) as file:
            for line in file:
                key, mark, value = line.rstrip("\n").partition(": ")
                if mark and not key.startswith((" ", "-")):
                    found[key] = _unquoted(value)
    except OSError:
        pass
    return found


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == '"':
        if "\\" in text:
            import json

            try:
                return str(json.loads(text.replace("\\x", "\\u00")))
            except ValueError:
                return text[1:-1]
        return text[1:-1]
    return text


def view(root: str) -> dict[str, object]:
    """Everything that `status` shows, as plain values."""
    queue = Places(root)
    now = time.time()
    running: list[dict[str, Any]] = []
    for task_id, names in sorted(queue.assignments().items()):
        said = flat(f"{queue.tasks}/{State.ASSIGNED}/{names[-1]}")
        run = int(said.get("run", "0") or 0)
        percent, finding = progress.last(queue.run_folder(task_id, run))
        title = printable(flat(queue.path(State.ASSIGNED, task_id)).get("description", ""), 60)
        running.append(
            {
                "task_id": task_id,
                "agent_id": said.get("agent_id", ""),
                "agent_type": said.get("agent_type", ""),
                "run": run,
                "since": said.get("assigned_at", ""),
                "seconds": _age(f"{queue.run_folder(task_id, run)}/prompt.md", now),
                "quiet_seconds": _age(f"{queue.run_folder(task_id, run)}/alive", now),
                "title": "" if title in ("|", "|-") else title,
                "percent": percent,
                "finding": finding,
            }
        )
    slots, unrecorded = [row["agent_id"] for row in running], halted(root, "unrecorded")
    for row in running:  # a slot goes on before its last task has moved on
        is_shared = is_slot(row["agent_id"]) and slots.count(row["agent_id"]) > 1
        alive = f"{queue.run_folder(row['task_id'], row['run'])}/alive"
        row["unrecorded"] = bool(unrecorded) and is_slot(row["agent_id"]) and not is_locked(alive)
        row["ending"] = is_shared and os.path.exists(f"{queue.run_folder(row['task_id'], row['run'])}/exit")
    counts = {str(state): queue.count(state) for state in State}
    review = [
        {"task_id": one, "reason": flat(queue.result_path(State.REVIEW, one)).get("reason", "")}
        for one in (queue.ids(State.REVIEW)[:NAMED] if counts["review"] else [])
    ]
    runs = dispatcher(root)
    lacks = stranded(root) if runs else {}
    return {
        "root": root,
        "dispatcher": runs and {**runs, "quiet_seconds": _age(f"{queue.own}/heartbeat", now)},
        "halted": halted(root) or None,
        "unread": halted(root, "unread") or None,
        "unrecorded": unrecorded or None,
        "counts": counts,
        "running": running,
        "agents": _agents(root, running, lacks.get("missing", {}), now),
        "review": review,
        "stranded": {"count": lacks.get("count", 0), "tasks": lacks.get("tasks", {})},
    }


def how_far(percent: float | None, finding: object) -> str:
    """What a run has reported last, as it follows its name; "" if nothing."""
    if percent is None:
        return ""
    import json

    text = finding if isinstance(finding, str) else json.dumps(finding, ensure_ascii=False)
    return f", {percent:g} %" + (f": {printable(' '.join(text.split()), 100)}" if finding is not None else "")


def stranded(root: str) -> dict[str, Any]:
    """What the dispatcher said of tasks that no agent here can do, and of agents without a program."""
    import json

    try:
        with open(f"{root}/.orchestrator/stranded.json", encoding="utf-8", opener=plain.opener) as file:
            return dict(json.load(file))
    except (OSError, ValueError, TypeError):
        return {}


def halted(root: str, what: str = "halted") -> str:
    """Why the dispatcher, if one runs, starts nothing now (`unread`: which files it cannot read; `unrecorded`: why it
    cannot record what has ended); "" if it does."""
    running = is_locked(f"{root}/.orchestrator/dispatcher.lock")
    return flat(f"{root}/.orchestrator/heartbeat").get(what, "") if running else ""


def over(root: str, folder: str) -> str:
    """What is to be said of a run that has ended and is not judged; "" if nothing is."""
    if is_locked(f"{folder}/alive"):
        return ""
    if why := halted(root, "unrecorded"):
        return f", has ended, and cannot be recorded: {why}"
    return ", has ended; the next start judges it" if os.path.exists(f"{folder}/exit") and not dispatcher(root) else ""


def _age(path: str, now: float) -> int:
    try:
        return max(0, int(now - os.stat(path).st_mtime))
    except OSError:
        return 0


def dispatcher(root: str) -> dict[str, object] | None:
    if not is_locked(f"{root}/.orchestrator/dispatcher.lock"):
        return None
    import json

    try:
        with open(f"{root}/.orchestrator/dispatcher.json", encoding="utf-8", opener=plain.opener) as file:
            kept = json.load(file)
        names = (("pid", "pid"), ("since", "started_at"), ("agents", "agents"), ("path", "path"))
        return {k: kept[name] for k, name in names} | {"ending": bool(kept.get("ending"))}
    except (OSError, ValueError, KeyError):
        return {"pid": 0, "since": 0, "agents": {}, "path": "", "ending": False}


def _local(moment: str) -> str:
    import calendar

    seconds = calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%SZ"))
    return time.strftime("%b %d %H:%M:%S", time.localtime(seconds))


def _agents(root: str, running: list[dict[str, Any]], missing: dict[str, str], now: float) -> list[dict[str, object]]:
    slots = (dispatcher(root) or {}).get("agents") or {row["agent_type"]: 0 for row in running}
    assert isinstance(slots, dict)
    rows: list[dict[str, object]] = []
    for name, count in slots.items():
        pause = flat(f"{root}/.orchestrator/agents/{name}.yaml")
        until = pause.get("paused_until", "")
        current = until > time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        rows.append(
            {
                "name": name,
                "slots": count,
                "busy": sum(row["agent_type"] == name and not row["ending"] for row in running),
                "ending": sum(row["agent_type"] == name and row["ending"] for row in running),
                "paused_until": until if current else None,
                "reason": pause.get("reason", "") if current else "",
                "missing": missing.get(name),
            }
        )
    return rows


def show(root: str, as_json: bool) -> int:
    """Print it."""
    root = find_root(root)
    found = {**view(root), "problem": problem(root) or None}
    if as_json:
        import json

        print(json.dumps(found))
        return 0
    from orchestrator.cli.paint import Paint, fold, span

    paint = Paint()
    runs, counts = found["dispatcher"], found["counts"]
    assert isinstance(counts, dict)
    if isinstance(runs, dict):
        since = time.strftime("%b %d %H:%M", time.localtime(float(runs["since"])))
        quiet = float(runs["quiet_seconds"])
        word = paint.bad(f"does not answer for {span(quiet)}") if quiet > STALE_SECONDS else ""
        word = word or (paint.warm("stopping") if runs["ending"] else paint.good("running"))
        print(f"dispatcher  {word} (pid {runs['pid']}, since {since})")
    else:
        print(f"dispatcher  {paint.bad('not running')} ('orchestrate start')")
    if found["halted"]:
        print("halted      " + fold(paint.bad(str(found["halted"])), 12))
    if found["unread"]:
        print("unread      " + fold(paint.warm(str(found["unread"])), 12))
    if found["unrecorded"]:
        text = f"what has ended cannot be recorded, and is tried again: {found['unrecorded']}"
        print("unrecorded  " + fold(paint.bad(text), 12))
    if found["problem"]:
        text = f"{found['problem']}; until it is mended the last good settings count"
        print("config      " + fold(paint.bad(text), 12))
    order = ("pending", "assigned", "completed", "failed", "review", "rejected")
    print(
        "tasks       "
        + fold("  ".join(f"{counts[one]} {'running' if one == 'assigned' else one}" for one in order), 12)
    )
    for row in found["agents"]:  # type: ignore[attr-defined]
        until = paint.bad(f"paused until {_local(row['paused_until'])}") if row["paused_until"] else ""
        of = f" of {row['slots']}" if row["slots"] else ""
        ends = f", {row['ending']} ending" if row["ending"] else ""
        paused = f"  {until} ({row['reason']}); '{_RESUME} {row['name']}' ends that" if until else ""
        lacks = f"  {paint.bad(row['missing'])}" if row["missing"] else ""
        print("agent       " + fold(f"{row['name']}: {row['busy']}{of} busy{ends}{lacks or paused}", 12))
    for row in found["running"]:  # type: ignore[attr-defined]
        on = "on " if is_slot(row["agent_id"]) else ""
        far = ", ending" if row["ending"] else how_far(row["percent"], row["finding"])
        far = ", has ended; unrecorded" if row["unrecorded"] else far
        where = f"{row['agent_type']} {on}{row['agent_id']}, run {row['run']}{far}"
        quiet = float(row["quiet_seconds"])
        silent = f"  {paint.warm(f'quiet for {span(quiet)}')}" if quiet > STALE_SECONDS else ""
        print("running     " + fold(f"{row['task_id']}  {span(row['seconds'])}  {where}{silent}  {row['title']}", 12))
    needs: list[tuple[str, str]] = []
    for row in found["agents"]:  # type: ignore[attr-defined]
        if advice := row["paused_until"] and _advice(row["reason"]):
            needs.append((row["name"], f"{row['reason']}: {advice}, then '{_RESUME} {row['name']}'"))
    review = [(row["task_id"], row["reason"]) for row in found["review"]]  # type: ignore[attr-defined]
    lost: Any = found["stranded"]
    for rows, count, state in (
        (review, counts["review"], "review"),
        ([*lost["tasks"].items()], lost["count"], "pending"),
    ):
        needs += rows[:NEEDS_YOU]
        needs += (
            [("…", f"and {count - NEEDS_YOU} more: orchestrate tasks --status {state}")] if count > NEEDS_YOU else []
        )
    for who, why in needs:
        print("needs you   " + fold(f"{who}  {why}", 12))
    return 0


_RESUME = "orchestrate agents --resume"


def _advice(reason: str) -> str:
    """What a person has to do about a pause; "" if it is over by itself."""
    from orchestrator.retry import RULES
    from orchestrator.states import Outcome

    rules = {rule.paused_by or str(one): rule for one, rule in RULES.items() if one in (Outcome.AUTH, Outcome.QUOTA)}
    return rules[reason].advice if reason in rules else ""
