"""Predictions of a classifier: logits, labels and probabilities of texts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from kerasllm.data.batch_plan import EpochPlans
from kerasllm.data.examples import Examples
from kerasllm.data.labels import Labels
from kerasllm.data.length_batches import map_by_length
from kerasllm.data.loading import place_of
from kerasllm.data.pipeline import needs_one_shape, prediction_dataset, prediction_rows
from kerasllm.data.readers.sources import Source
from kerasllm.data.rows import Tokens, TokensInMemory, model_inputs
from kerasllm.data.token_store import segment_starts_of
from kerasllm.errors import KerasllmError
from kerasllm.evaluation.classification import log_softmax
from kerasllm.evaluation.multi_label import sigmoid
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.runtime.threads import operations_at_once

PREDICTION_BUCKETS = 16
# One is prepared, and ends on fewer cores than there are, while the other is computed.
_BATCHES_AT_A_TIME = 2


def predict_logits(
    model: TextClassifier,
    tokens: Tokens,
    *,
    buckets: int = PREDICTION_BUCKETS,
    packed: bool = True,
    notify: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Returns the logits of some rows, float32 `[rows, classes]`, in the order of the rows.

    Rows are sorted by length for the computation, so that little is padded.

    Args:
        model: A classifier.
        tokens: The rows.
        buckets: The maximum number of lengths to pad to. Defaults to `16`.
        packed: Whether only the real tokens are computed, where the model can. Defaults to `True`.
        notify: Called with the number of each batch of `model.prediction_batch` rows that is
            done. Defaults to `None`.
    """
    if packed and len(tokens.lengths) and (forward := model.packed) is not None:
        return _packed_logits(model, forward, tokens, notify)
    strategy = model.distribute_strategy
    if needs_one_shape(strategy):
        buckets = 1
    plan = EpochPlans(tokens.lengths, model.prediction_batch, buckets, pad_to=model.pad_to)()
    batches = prediction_dataset(
        tokens,
        plan,
        inputs=model.input_names,
        pad_id=model.tokenizer.pad_token_id,
        strategy=strategy,
    )
    done = keras.callbacks.LambdaCallback(
        on_predict_batch_end=lambda batch, logs: notify and notify(batch)
    )
    outputs = model.predict(batches, verbose=0, callbacks=[done])
    logits = np.empty((len(tokens.lengths), *outputs.shape[1:]), outputs.dtype)
    logits[prediction_rows(plan, strategy)] = outputs
    return logits


def _packed_logits(
    model: TextClassifier, forward: Callable, tokens: Tokens, notify: Callable | None
) -> np.ndarray:
    pad_id = model.tokenizer.pad_token_id

    def compute(rows: np.ndarray) -> np.ndarray:
        lengths = tokens.lengths[rows].astype(np.int32)
        inputs = model_inputs(tokens, rows, int(lengths[-1]), model.input_names, pad_id)
        return np.asarray(forward(inputs, lengths), np.float32)

    workers = max(_BATCHES_AT_A_TIME, operations_at_once())
    return map_by_length(
        tokens.lengths, model.prediction_batch, compute, workers=workers, notify=notify
    )


def tokenize(model: TextClassifier, texts: Sequence[str | tuple[str, str]]) -> TokensInMemory:
    """Returns the token ids of texts, or of pairs of texts, as a classifier reads them."""
    tokenizer = model.tokenizer
    if not model.outputs.pair:
        return TokensInMemory(*tokenizer.encode(list(texts), model.max_length))
    first, second = ([pair[side] for pair in texts] for side in (0, 1))
    found = tokenizer.encode_pairs(
        first, second, model.max_length, truncation=model.outputs.truncation
    )
    starts = segment_starts_of(found.segments, found.offsets)
    return TokensInMemory(found.ids, found.offsets, starts, second_segment=tokenizer.second_segment)


def classify(
    model: TextClassifier,
    texts: Sequence[str | tuple[str, str]],
    *,
    tokens: TokensInMemory | None = None,
    buckets: int = PREDICTION_BUCKETS,
) -> list[dict]:
    """Predicts labels or scores of some texts.

    Args:
        model: A classifier.
        texts: The texts; pairs of texts, where the model reads two.
        tokens: What `tokenize` gives of them. Defaults to `None`: they are tokenized now.
        buckets: The maximum number of lengths to pad to. Defaults to `16`.

    Returns:
        For each text, in the order given: `text`, and `text_pair` where there are two; then
        `label` and `probabilities` (by name), or `labels` (those above their thresholds) and
        `probabilities`, or `score`.

    Example:

    ```python
    classify(model, ["A film to remember."])[0]["label"]
    ```
    """
    tokens = tokens or tokenize(model, texts)
    found = decode(model, predict_logits(model, tokens, buckets=buckets))
    if model.outputs.pair:
        given = [{"text": text, "text_pair": other} for text, other in texts]
    else:
        given = [{"text": text} for text in texts]
    return [{**text, **one} for text, one in zip(given, found, strict=True)]


def decode(model: TextClassifier, logits: np.ndarray) -> list[dict]:
    """Returns what outputs of a classifier mean, a dict for each row; see `classify`."""
    names, problem = model.labels.names, model.outputs.problem
    if problem == "regression":
        return [{"score": score} for score in scores(model, logits).tolist()]
    if problem == "multi_label":
        chances = sigmoid(logits)
        return [
            {
                "labels": [name for name, is_given in zip(names, row, strict=True) if is_given],
                "probabilities": dict(zip(names, chance.tolist(), strict=True)),
            }
            for row, chance in zip(chances >= thresholds(model), chances, strict=True)
        ]
    return [
        {
            "label": names[int(row.argmax())],
            "probabilities": dict(zip(names, row.tolist(), strict=True)),
        }
        for row in probabilities(logits)
    ]


def scores(model: TextClassifier, logits: np.ndarray) -> np.ndarray:
    """Returns the scores of a regression in their own unit, float64 `[rows]`."""
    found = np.asarray(logits, np.float64)[:, 0]
    if model.standardized:
        return found * model.outputs.std + model.outputs.mean
    return found


def thresholds(model: TextClassifier) -> np.ndarray:
    """Returns the probability from which on each label is given, float64 `[labels]`."""
    own = model.outputs.thresholds
    return np.full(len(model.labels), 0.5) if own is None else np.asarray(own)


def classify_stream(
    model: TextClassifier,
    texts: Iterable[str | tuple[str, str]],
    *,
    buckets: int = PREDICTION_BUCKETS,
    chunk: int = 2048,
) -> Iterator[dict]:
    """Classifies texts as they come, in memory that does not grow with their number.

    While some are computed, the next ones are tokenized.

    Args:
        model: A classifier.
        texts: The texts, read as they are needed.
        buckets: The maximum number of lengths to pad to. Defaults to `16`.
        chunk: Texts that are computed together, sorted by length within. With `1` a text is
            answered before the next one is read. Defaults to `2048`.

    Yields:
        What `classify` gives, in the order of the texts.
    """

    def tokens(some: list[str]) -> tuple[list[str], TokensInMemory]:
        return some, tokenize(model, some)

    groups = chunks(texts, chunk)
    for some, found in map(tokens, groups) if chunk == 1 else ahead(tokens, groups):
        yield from classify(model, some, tokens=found, buckets=buckets)


def chunks(texts: Iterable[str | tuple[str, str]], size: int) -> Iterator[list[str]]:
    """Yields so many texts at a time, the last ones fewer."""
    texts = iter(texts)
    while some := list(itertools.islice(texts, size)):
        yield some


def ahead(function: Callable, items: Iterable) -> Iterator:
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


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Returns the softmax of logits `[rows, classes]`, computed in float64."""
    return np.exp(log_softmax(logits))


def wrong_examples(
    source: Source, examples: Examples, labels: Labels, logits: np.ndarray, count: int = 5
) -> list[dict]:
    """Returns the examples that the model got wrong with the most confidence.

    Args:
        source: The files that the examples were read from; their texts are read again.
        examples: The examples.
        labels: The classes.
        logits: float `[examples, classes]`, the outputs of the model.
        count: How many to return. Defaults to `5`.

    Returns:
        For each example `text`, `label`, `predicted`, `probability` and `where` (`file:line`).
    """
    chances = probabilities(logits)
    predicted = chances.argmax(axis=-1)
    wrong = np.flatnonzero(predicted != examples.labels)
    wrong = wrong[np.argsort(-chances[wrong, predicted[wrong]], kind="stable")][:count]
    place = place_of(examples.store)
    texts = source.texts_of(examples.rows[wrong])
    return [
        {
            "text": text,
            "label": labels.names[examples.labels[index]],
            "predicted": labels.names[predicted[index]],
            "probability": float(chances[index, predicted[index]]),
            "where": place(int(examples.rows[index])),
        }
        for index, text in zip(wrong, texts, strict=True)
    ]
