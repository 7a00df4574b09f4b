"""What an agent is told: one readable text, saved in the run's folder before anything starts.

It names files instead of holding them (the context may have 100 MB), starts with a heading (a
first `/` is a command to some programs), and is the same text whatever program reads it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from orchestrator.context import NOTES, PAGES
from orchestrator.names import page_name
from orchestrator.runs import FACTS_EXAMPLE
from orchestrator.task import Task

ANSWER_LIMIT = 4000  # characters of a dependency's answer that are quoted; the file holds the rest

FACTS_HELP = f"""\
End your answer with one block of this form. Leave out what does not apply; every item is one line in quotes.

```orchestrate
{FACTS_EXAMPLE}
```
"""

CLEARER = """\
**Your last answer could not be read.** The program has to end with a final message that is not
empty, and the block at its end has to be valid YAML: a list of quoted one-line texts under each key.
"""


def assemble(
    task: Task,
    root: str,
    output_path: str,
    agent: str,
    attempt: int,
    answers: Mapping[str, tuple[str, str]],
    last: str = "",
    note: str = "",
    unreadable: bool = False,
    preamble: str = "",
) -> str:
    """The prompt. `answers` maps a dependency's id to (its output file relative to root, its text);
    `last` says what went wrong in the attempt before, `note` what a person added since; `preamble` is
    a specialist's own."""
    parts = [
        f"# Task {task.id}{f' (attempt {attempt})' if attempt > 1 else ''}",
        "",
        *(("## How you work", "", preamble, "") if preamble else ()),
        "## What to do",
        "",
        task.description.strip(),
    ]
    if task.subtasks:
        parts += ["", "Its parts:", "", *(f"- [ ] {one}" for one in task.subtasks)]
    if note:
        parts += ["", "## From the person who gave it back", "", note.strip()]
    if last:
        parts += ["", "## What went wrong last time", "", last]
        if unreadable:
            parts += ["", CLEARER.strip()]
        parts += ["", "The work of that attempt may be there in part: look before you start."]
    if pages := context_pages(task, root, agent):
        parts += ["", "## Context: read these files first", "", *(f"- {page}" for page in pages)]
    if answers:
        parts += ["", "## Answers of the tasks that this one depends on"]
        for task_id, (path, text) in answers.items():
            cut = text.strip()[:ANSWER_LIMIT]
            more = f"\n(cut here; all of it is in {path})" if len(text.strip()) > ANSWER_LIMIT else ""
            parts += ["", f"### {task_id} ({path})", "", cut + more]
    shown = os.path.relpath(output_path, root) if output_path.startswith(root + "/") else output_path
    parts += [
        "",
        "## Where to write",
        "",
        f"Work in the current folder. Write your answer to `{shown}` (also in $ORCHESTRATE_OUTPUT_FILE);",
        "if you write nothing there, your final message is the answer.",
        "",
        "## How to hand back facts",
        "",
        FACTS_HELP.strip(),
        "",
    ]
    return "\n".join(parts)


def context_pages(task: Task, root: str, agent: str) -> Sequence[str]:
    """The files to read, relative to the root: the task's own first, then the shared pages that exist."""
    pages = list(task.context_files)
    if task.context_required is True:
        names = [*PAGES, f"{NOTES}/{agent}.md"]
        pages += [f"context/{name}" for name in names if os.path.exists(f"{root}/context/{name}")]
    elif task.context_required:
        pages += [f"context/{page_name(name)}" for name in task.context_required]
    return list(dict.fromkeys(pages))
