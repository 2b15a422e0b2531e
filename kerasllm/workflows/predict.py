"""Classify texts with a trained classifier, as they come."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

from kerasllm.recipe import load
from kerasllm.run import Run
from kerasllm.tasks import text_classification as task
from kerasllm.workflows.open_classifier import open_classifier

CHUNK = 1024


def predict(run: str | Path, texts: Iterable[str], *, chunk: int = CHUNK) -> Iterator[dict]:
    """Classifies texts, in memory that does not grow with their number.

    Args:
        run: The run directory.
        texts: The texts, read as they are needed.
        chunk: Texts that are computed together, sorted by length within. Defaults to `1024`.

    Yields:
        For each text, in the order given: `{"text": ..., "label": ..., "probabilities": {name:
        probability}}`.

    Raises:
        KerasllmError: If the run is refused.

    Example:

    ```python
    for prediction in predict("my_run", ["A film to remember.", "A film to forget."]):
        print(prediction["label"], prediction["text"])
    ```
    """
    opened = Run.open(run)
    recipe = load(str(opened.recipe)).data
    model = open_classifier(opened)
    texts = iter(texts)
    while batch := list(itertools.islice(texts, chunk)):
        yield from task.classify(model, batch, buckets=recipe.buckets)
