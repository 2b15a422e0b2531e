"""Classify texts with a trained classifier, as they come."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kerasllm.data.pipeline import TokensInMemory
from kerasllm.errors import KerasllmError
from kerasllm.models.classify import PREDICTION_BUCKETS, classify, tokenize
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.recipe import load
from kerasllm.run import Run
from kerasllm.workflows.open_classifier import open_classifier

CHUNK = 2048


def predict(run: str | Path, texts: Iterable[str], *, chunk: int = CHUNK) -> Iterator[dict]:
    """Classifies texts, in memory that does not grow with their number.

    While some are computed, the next ones are tokenized.

    Args:
        run: The run directory.
        texts: The texts, read as they are needed.
        chunk: Texts that are computed together, sorted by length within. With `1` a text is
            answered before the next one is read. Defaults to `2048`.

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
    yield from predict_with(open_classifier(opened), texts, chunk=chunk, buckets=recipe.buckets)


def predict_with(
    model: TextClassifier,
    texts: Iterable[str],
    *,
    chunk: int = CHUNK,
    buckets: int = PREDICTION_BUCKETS,
) -> Iterator[dict]:
    """Classifies texts as `predict` does, with a model that is loaded."""

    def tokens(some: list[str]) -> tuple[list[str], TokensInMemory]:
        return some, tokenize(model, some)

    chunks = _chunks(texts, chunk)
    for some, found in map(tokens, chunks) if chunk == 1 else _ahead(tokens, chunks):
        yield from classify(model, some, tokens=found, buckets=buckets)


def _chunks(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    texts = iter(texts)
    while some := list(itertools.islice(texts, size)):
        yield some


def _ahead(function: Callable, items: Iterable) -> Iterator:
    """Yields a function of each item; the next one is computed while the last one is used.

    Items are taken by the caller's thread: what blocks, as stdin does, can be interrupted there.
    """
    with ThreadPoolExecutor(1) as pool:
        ready = None
        try:
            for item in items:
                last, ready = ready, pool.submit(function, item)
                if last is not None:
                    yield last.result()
        except KerasllmError:
            # A bad row takes nothing from the rows before it.
            if ready is not None:
                yield ready.result()
            raise
        if ready is not None:
            yield ready.result()
