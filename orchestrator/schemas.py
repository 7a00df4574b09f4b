"""The JSON Schemas of the task file and of config.yaml, made from the models.

`python -m orchestrator.schemas` writes them anew into orchestrator/schemas/; a test keeps them current.
Editors with a YAML language server complete and check with them.
"""

from __future__ import annotations

import json
import os
from typing import Any

from orchestrator.checking import model_of
from orchestrator.config import Config
from orchestrator.task import ALIASES, Task

FOLDER = os.path.join(os.path.dirname(__file__), "schemas")


def task_schema() -> dict[str, Any]:
    """Of a task file: what `task.parse` takes, aliases included."""
    schema = model_of(Task).model_json_schema()
    properties = schema["properties"]
    for alias, name in ALIASES.items():
        properties[alias] = {**properties[name], "description": f"Alias of {name}."}
    schema.pop("required", None)
    schema["anyOf"] = [{"required": [name]} for name in ("description", "content", "run")]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_without_nulls(schema),
        "title": "orchestrate task",
    }


def config_schema() -> dict[str, Any]:
    """Of config.yaml."""
    schema = model_of(Config).model_json_schema()
    agent = schema["properties"]["agents"]["additionalProperties"]
    schema["properties"]["agents"]["additionalProperties"] = {"anyOf": [agent, {"type": ["string", "null"]}]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "orchestrate config"}


def _without_nulls(schema: dict[str, Any]) -> dict[str, Any]:
    for value in schema["properties"].values():
        value.pop("default", None)
        value.pop("title", None)
    return schema


def texts() -> dict[str, str]:
    """File name → content."""
    found = {"task.schema.json": task_schema(), "config.schema.json": config_schema()}
    return {name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for name, schema in found.items()}


if __name__ == "__main__":
    os.makedirs(FOLDER, exist_ok=True)
    for name, text in texts().items():
        with open(os.path.join(FOLDER, name), "w", encoding="utf-8") as file:
            file.write(text)
