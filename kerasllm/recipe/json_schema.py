"""The JSON schema of recipes, by which editors complete and explain keys, and mark mistakes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from kerasllm.recipe.compression import RECIPES as COMPRESSION
from kerasllm.recipe.loader import schema_of

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REF = "#/$defs/"


def json_schema(task: str | None = None) -> dict[str, Any]:
    """Returns the JSON schema of recipes.

    Args:
        task: The recipes of this task alone. Defaults to `None`: those of all tasks, told apart by
            the key `task`.

    Returns:
        A schema of the draft 2020-12. An editor reads the values of YAML as it does, so a text may
        also be a number or a boolean there, as in a recipe.

    Raises:
        RecipeError: If there is no such task, with the nearest name that there is.

    Example:

    >>> json_schema("text_classification")["properties"]["training"]
    {'$ref': '#/$defs/ClassificationTraining', 'default': ...}
    """
    tasks = [task] if task is not None else _all_tasks()
    models: list[type[BaseModel]] = [schema_of(name) for name in tasks]
    places, found = models_json_schema(
        [(model, "validation") for model in models], schema_generator=_Editors
    )
    definitions = found["$defs"]
    top = {
        name: places[model, "validation"]["$ref"].removeprefix(_REF)
        for name, model in zip(tasks, models, strict=True)
    }
    if task is not None:
        whole = definitions.pop(top[task])
        return {"$schema": _DIALECT, **whole, "title": f"Recipe: {task}", "$defs": definitions}
    return {
        "$schema": _DIALECT,
        "title": "Recipe of kerasllm",
        "type": "object",
        "properties": {"task": {"enum": tasks, "description": "what is trained, and on what data"}},
        "required": ["task"],
        "allOf": [
            {
                "if": {"properties": {"task": {"const": name}}, "required": ["task"]},
                "then": {"$ref": _REF + top[name]},
            }
            for name in tasks
        ],
        "$defs": definitions,
    }


def _all_tasks() -> list[str]:
    # Tasks stand above recipes, and none is known here by name.
    from kerasllm.tasks import task as tasks

    return [*tasks.names(), *COMPRESSION]


class _Editors(GenerateJsonSchema):
    """What editors make of YAML: `label: 0` is a number there, and in a recipe a text."""

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        found = super().str_schema(schema)
        return found if "pattern" in found else {**found, "type": ["string", "number", "boolean"]}
