"""Open the trained classifier of a run."""

from __future__ import annotations

from kerasllm.models.text_classifier import TextClassifier
from kerasllm.recipe import load
from kerasllm.run import Run
from kerasllm.training.precision import resolve_precision


def open_classifier(run: Run) -> TextClassifier:
    """Loads the trained model of a run, to compute in the precision of its recipe.

    Args:
        run: A finished run.

    Raises:
        KerasllmError: If a file of the run is missing or broken.
    """
    precision = resolve_precision(load(str(run.recipe)).training.precision)
    return TextClassifier.from_preset(run.model, precision=precision)
