"""What a model can learn: one module a task.

A task's module has `prepare_data(recipe, notify)`, `build_model(recipe, data, precision)`,
`build_loss(recipe)`, `evaluate(model, rows, buckets=)`, `save(recipe, model, run)` and
`places_of(rows, numbers)`; see `text_classification`, the first of them. A task whose loss
compares with the model as it was also has `prepare_reference(model, data, recipe, zero=)`, which is
called just before the training.

What tasks have in common or say of texts has modules of its own: `batches`, `classify`, `scoring`.
"""

from __future__ import annotations

import importlib
from types import ModuleType


def task_of(recipe) -> ModuleType:
    """Returns the module of a recipe's task."""
    return importlib.import_module(f"kerasllm.tasks.{recipe.task}")
