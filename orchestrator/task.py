"""A task, as its file states it: frozen, every key known, every value checked.

The JSON Schema that editors use is generated from this (`orchestrator/schemas/`).
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, NamedTuple

from orchestrator.errors import InvalidTask
from orchestrator.names import PRIORITIES, id_from_stem, id_problem, natural, nearest, path_problem, printable, title_of
from orchestrator.reading import line_of, parse_mapping, typed
from orchestrator.rules import Rule, built, stated
from orchestrator.states import Priority
from orchestrator.writing import Value, to_yaml

ALIASES = {"content": "description", "preferred_agent_type": "preferred_agent"}


def _priority(value: Any) -> Any:
    if isinstance(value, str):
        word = value.strip().lower()
        if word in PRIORITIES:
            return Priority(PRIORITIES[word])
        if word in ("0", "1", "2"):
            return Priority(int(word))
    elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 2:
        return Priority(value)
    raise ValueError("write high, normal or low (or 0, 1, 2)")


def _moment(value: Any) -> Any:
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            try:
                moment = datetime.combine(date.fromisoformat(value), datetime.min.time())
            except ValueError:
                raise ValueError("write a time such as 2025-01-15T10:00:00Z") from None
    else:
        raise ValueError("write a time such as 2025-01-15T10:00:00Z, in quotes")
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is beyond the calendar") from None


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else () if value is None else value


def _id(value: str) -> str:
    if value and (problem := id_problem(value)):
        raise ValueError(problem)
    return value


def _description(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty; say what to do")
    return value


def _script(value: str | None) -> str | None:
    if "\0" in (value or ""):
        raise ValueError("holds a NUL, which no script may")
    return value


def _dependencies(value: tuple[str, ...]) -> tuple[str, ...]:
    for one in value:
        if problem := id_problem(one):
            raise ValueError(problem)
    return tuple(dict.fromkeys(value))


def _paths(value: bool | tuple[str, ...]) -> bool | tuple[str, ...]:
    for one in () if isinstance(value, bool) else value:
        if problem := path_problem(one):
            raise ValueError(problem)
    return value


PriorityField = Annotated[
    Priority,
    Rule(
        before=_priority, shape=Any,
        schema={"type": ["string", "integer"], "enum": ["high", "normal", "low", 0, 1, 2]},
    ),
]  # fmt: skip
MomentField = Annotated[datetime, Rule(before=_moment, shape=str)]
Words = Annotated[tuple[str, ...], Rule(before=_listed, shape=list[str] | str)]


class Task(NamedTuple):
    """One request. Raises InvalidTask (through `parse`) for anything that is not one."""

    id: Annotated[str, Rule("Unique name; the file's stem if left out.", after=_id)] = ""
    description: Annotated[str, Rule("What to do. Alias: content.", after=_description, required=True)] = ""
    priority: Annotated[PriorityField | None, Rule("high, normal or low (0, 1, 2).")] = None
    created_at: Annotated[MomentField | None, Rule("For people and filters; the order is by arrival.")] = None
    dependencies: Annotated[Words, Rule("Ids of tasks that must be completed first.", after=_dependencies)] = ()
    context_files: Annotated[
        Words, Rule("Files to read first, relative to the root; each must exist.", after=_paths)
    ] = ()
    context_required: Annotated[
        bool | tuple[str, ...],
        Rule("true: the shared pages are named in the prompt; false: none; a list: these must exist.", after=_paths),
    ] = True
    preferred_agent: Annotated[
        str | None, Rule("The agent of config.yaml that must do it. Alias: preferred_agent_type.")
    ] = None
    timeout_minutes: Annotated[float | None, Rule("Of time that the machine was awake.", gt=0, le=60 * 24 * 7)] = None
    subtasks: Annotated[Words, Rule("Parts of the work, named one by one in the prompt.")] = ()
    task_type: Annotated[str | None, Rule("A word to filter by: code, research, …", max_length=100)] = None
    requirements: Annotated[Words, Rule("Capabilities that the agent must have.")] = ()
    run: Annotated[
        str | None, Rule("A script for the shell agent (sh -e, or its own #! line).", after=_script, min_length=1)
    ] = None
    max_retries: Annotated[int | None, Rule("Further attempts after a failed one.", ge=0, le=100)] = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """What it is about, as far as it says: its type and its requirements."""
        return tuple(dict.fromkeys(filter(None, (self.task_type, *self.requirements))))

    @property
    def title(self) -> str:
        """The first line of the description, for lists."""
        return title_of(self.description)

    def words(self) -> dict[str, Any]:
        """What its file states but its id, in the words that it is written in."""
        values = stated(self._replace(id=""))
        if self.priority is not None:
            values["priority"] = self.priority.name.lower()
        return {key: int(v) if isinstance(v, float) and v.is_integer() else v for key, v in values.items()}

    @property
    def order(self) -> tuple[object, ...]:
        return natural(self.id)


FIELDS = Task._fields


def parse(content: bytes, stem: str) -> Task:
    """The task that these bytes state; `stem` names it where they do not.

    Raises InvalidTask with one line that says what is wrong and what to write.
    """
    return _of(parse_mapping(content), stem, content)


def check(fields: Mapping[str, Value]) -> Task:
    """The task that these fields are once they are written down. Raises InvalidTask.

    Words, numbers and lists of words are read as they were written (`writing.to_yaml`), and need not be written for it.
    """
    if all(map(_is_simple, fields.values())):
        return _of({str(key): value for key, value in fields.items() if value is not None}, "task", b"")
    return parse(to_yaml(fields), "task")


def _is_simple(value: object) -> bool:
    if type(value) in (list, tuple):
        return all(map(_is_text, value))  # type: ignore[call-overload]
    return value is None or type(value) in (int, bool) or _is_text(value)


def _is_text(value: object) -> bool:
    return type(value) is str and len(value) < 10_000 and value.replace("\n", "").isprintable()


def _of(values: dict[str, Any], stem: str, content: bytes) -> Task:
    for alias, name in ALIASES.items():
        if alias in values:
            if name in values:
                raise InvalidTask(f"has both {name!r} and its alias {alias!r}; keep one")
            values[name] = values.pop(alias)
    if "description" not in values and isinstance(values.get("run"), str):
        values["description"] = "Run: " + (values["run"].strip().splitlines() or [""])[0]
    if values.get("id") is None or values["id"] == "":
        values["id"] = id_from_stem(stem)
        if not values["id"]:
            raise InvalidTask(f"its name {printable(stem)!r} gives no id; add a line 'id: task_name'")
    if not isinstance(values["id"], str):
        text = typed(content, "id") or printable(str(values["id"]), 40)  # 007 is not 7
        raise InvalidTask(f'id: write it in quotes: id: "{text}"')
    for key in values:
        if key not in FIELDS:
            raise InvalidTask(
                f"{line_of(content, key)}unknown key {printable(key)!r}{nearest(key, (*FIELDS, *ALIASES))}"
            )
    if "description" not in values:
        raise InvalidTask("has no description; the smallest task is one line: description: what to do")
    try:
        task = built(Task, values, (*FIELDS, *ALIASES), InvalidTask)
    except InvalidTask as reason:
        key = str(reason).partition(":")[0].partition(".")[0]
        raise InvalidTask(f"{line_of(content, key) if key in FIELDS else ''}{reason}") from None
    if task.id in task.dependencies:
        raise InvalidTask(f"depends on itself ({task.id} → {task.id})")
    return task
