"""Open the trained classifier of a run."""

from __future__ import annotations

from kerasllm.errors import RunError
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.recipe import load
from kerasllm.run import Run
from kerasllm.training.precision import resolve_precision


def open_classifier(run: Run) -> TextClassifier:
    """Loads the trained model of a run, to compute in the precision of its recipe.

    Args:
        run: A finished run.

    Raises:
        KerasllmError: If the run trained no classifier, or a file of it is missing or broken.
    """
    recipe = load(str(run.recipe))
    if recipe.task != "text_classification":
        raise RunError(
            f"The model of this run has no labels: its task is {recipe.task}",
            where=str(run.path),
            fix="write texts with `kerasllm generate`, measure it with `kerasllm evaluate`",
        )
    precision = resolve_precision(recipe.training.precision)
    return TextClassifier.from_preset(run.model, precision=precision)
