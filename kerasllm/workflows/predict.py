"""Predict for texts with a trained model, as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from kerasllm.errors import RunError
from kerasllm.tasks.task import PredictOptions
from kerasllm.workflows.trained import Trained, open_run

CHUNK = 2048


def predict(
    run: str | Path | Trained,
    inputs: Iterable,
    *,
    chunk: int = CHUNK,
    options: PredictOptions | None = None,
) -> Iterator[dict]:
    """Predicts for texts, in memory that does not grow with their number.

    While some are computed, the next ones are tokenized.

    Args:
        run: The run directory, or what `open_run` gave.
        inputs: Texts, or tuples of texts where a row has two; read as they are needed.
        chunk: Texts that are computed together, sorted by length within. With `1` a text is
            answered before the next one is read. Defaults to `2048`.
        options: What else there is to say; see `PredictOptions`. Defaults to `None`: nothing.

    Yields:
        What the task predicts for each, in the order given; a classifier `{"text": ..., "label":
        ..., "probabilities": {name: probability}}`.

    Raises:
        KerasllmError: If the run is refused.

    Example:

    ```python
    for prediction in predict("my_run", ["A film to remember.", "A film to forget."]):
        print(prediction["label"], prediction["text"])
    ```
    """
    trained = run if isinstance(run, Trained) else open_run(run)
    refuse_unless_it_predicts(trained)
    trained.refuse_several_processes()
    model, buckets = trained.open(), trained.buckets
    yield from trained.task.predict(model, inputs, buckets=buckets, chunk=chunk, options=options)


def refuse_unless_it_predicts(trained: Trained) -> None:
    """Raises a `RunError` if the model predicts nothing."""
    if not trained.task.predicts:
        raise RunError(
            f"The model of this run does not predict labels: its task is {trained.task.name}",
            where=str(trained.source),
            fix="generate text with `kerasllm generate`, or evaluate it with `kerasllm evaluate`",
        )
