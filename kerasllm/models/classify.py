"""What a classifier says of texts: logits of rows, labels and probabilities of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kerasllm.data.batch_plan import EpochPlans
from kerasllm.data.pipeline import (
    Tokens,
    TokensInMemory,
    model_inputs,
    needs_one_shape,
    prediction_dataset,
    prediction_rows,
)
from kerasllm.evaluation.classification import log_softmax
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.runtime.threads import operations_at_once

PREDICTION_BATCH_SIZE = 64
PREDICTION_BUCKETS = 16
# One is prepared, and ends on fewer cores than there are, while the other is computed.
_BATCHES_AT_A_TIME = 2


def predict_logits(
    model: TextClassifier,
    tokens: Tokens,
    *,
    buckets: int = PREDICTION_BUCKETS,
    packed: bool = True,
) -> np.ndarray:
    """Returns the logits of some rows, float32 `[rows, classes]`, in the order of the rows.

    Rows are sorted by length for the computation, so that little is padded.

    Args:
        model: A classifier.
        tokens: The rows.
        buckets: The most lengths to pad to. Defaults to `16`.
        packed: Whether only the real tokens are computed, where the model can. Defaults to `True`.
    """
    if packed and len(tokens.lengths) and (forward := model.packed) is not None:
        return _packed_logits(model, forward, tokens)
    strategy = model.distribute_strategy
    if needs_one_shape(strategy):
        buckets = 1
    plan = EpochPlans(tokens.lengths, PREDICTION_BATCH_SIZE, buckets, pad_to=model.pad_to)()
    batches = prediction_dataset(
        tokens,
        plan,
        inputs=model.input_names,
        pad_id=model.tokenizer.pad_token_id,
        strategy=strategy,
    )
    outputs = model.predict(batches, verbose=0)
    logits = np.empty((len(tokens.lengths), *outputs.shape[1:]), outputs.dtype)
    logits[prediction_rows(plan, strategy)] = outputs
    return logits


def _packed_logits(model: TextClassifier, forward: Callable, tokens: Tokens) -> np.ndarray:
    logits = np.empty((len(tokens.lengths), len(model.labels)), np.float32)
    order = np.argsort(tokens.lengths, kind="stable")
    pad_id = model.tokenizer.pad_token_id

    def compute(start: int) -> None:
        rows = order[start : start + PREDICTION_BATCH_SIZE]
        lengths = tokens.lengths[rows].astype(np.int32)
        inputs = model_inputs(tokens, rows, int(lengths[-1]), model.input_names, pad_id)
        logits[rows] = forward(inputs, lengths)

    with ThreadPoolExecutor(max(_BATCHES_AT_A_TIME, operations_at_once())) as threads:
        for _ in threads.map(compute, range(0, len(order), PREDICTION_BATCH_SIZE)):
            pass
    return logits


def tokenize(model: TextClassifier, texts: Sequence[str]) -> TokensInMemory:
    """Returns the token ids of texts, as a classifier reads them."""
    return TokensInMemory(*model.tokenizer.encode(list(texts), model.max_length))


def classify(
    model: TextClassifier,
    texts: Sequence[str],
    *,
    tokens: TokensInMemory | None = None,
    buckets: int = PREDICTION_BUCKETS,
) -> list[dict]:
    """Classifies some texts.

    Args:
        model: A classifier.
        texts: The texts.
        tokens: What `tokenize` gives of them. Defaults to `None`: they are tokenized now.
        buckets: The most lengths to pad to. Defaults to `16`.

    Returns:
        For each text, in the order given: `{"text": ..., "label": ..., "probabilities": {name:
        probability}}`.

    Example:

    ```python
    classify(model, ["A film to remember."])[0]["label"]
    ```
    """
    tokens = tokens or tokenize(model, texts)
    chances = probabilities(predict_logits(model, tokens, buckets=buckets))
    names = model.labels.names
    return [
        {
            "text": text,
            "label": names[int(row.argmax())],
            "probabilities": dict(zip(names, row.tolist(), strict=True)),
        }
        for text, row in zip(texts, chances, strict=True)
    ]


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Returns the softmax of logits `[rows, classes]`, computed in float64."""
    return np.exp(log_softmax(logits))
