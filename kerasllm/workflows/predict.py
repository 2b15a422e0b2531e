"""Classify texts with a trained classifier, as they come."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from kerasllm.data.batch_plan import pad_rows
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
        tokens = _TokensInMemory(*model.tokenizer.encode(batch, recipe.max_length))
        logits = task.predict_logits(model, tokens, buckets=recipe.buckets)
        for text, chances in zip(batch, task.probabilities(logits), strict=True):
            yield {
                "text": text,
                "label": model.labels.names[int(chances.argmax())],
                "probabilities": dict(zip(model.labels.names, chances.tolist(), strict=True)),
            }


class _TokensInMemory:
    """Token ids of texts that no store holds.

    Args:
        ids: int32, the ids of all texts, one after the other.
        offsets: int64 `[texts + 1]`, where each text begins and ends.
    """

    def __init__(self, ids: np.ndarray, offsets: np.ndarray):
        self._ids = ids
        self._offsets = offsets
        self.lengths = np.diff(offsets).astype(np.int32)

    def gather(self, rows: np.ndarray, length: int, pad_id: int) -> np.ndarray:
        """Returns the padded ids of some texts, int32 `[rows, length]`."""
        return pad_rows(self._ids, self._offsets[:-1][rows], self.lengths[rows], length, pad_id)
