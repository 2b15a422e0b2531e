"""The common parts of the two formats that are loaded as a KerasHub task."""

from __future__ import annotations

from pathlib import Path

import keras_hub
import numpy as np
import tensorflow as tf

from kerasllm.export.source import Source
from kerasllm.export.token_example import texts_of
from kerasllm.models.save_preset import whole_task
from kerasllm.training.fit import FineTunedModel

OPENING = """\
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
import keras_hub
import numpy as np\
"""
"""The first lines of code that uses KerasHub."""

_ROWS_AT_ONCE = 8
INSTALL = "`pip install keras-hub tensorflow tensorflow-text`."


def has_class(source: Source) -> bool:
    """Returns whether the model's task is of a class of KerasHub's own."""
    return type(source.model.task).__module__.partition(".")[0] == "keras_hub"


def save_labels(model: FineTunedModel, folder: Path) -> None:
    """Writes what a classifier's outputs mean, and how the training data write its labels."""
    if hasattr(model, "save_outputs"):
        model.save_outputs(folder)


def predict(source: Source, task: keras_hub.models.Task) -> np.ndarray:
    """Runs a task that was loaded; see `Format.predict`.

    An encoder is given the texts, a language model the tokens: KerasHub has no preprocessor for
    some of their tokenizers.
    """
    if source.generates:
        return _last_logits(source, task)
    columns = tuple(tf.constant(column) for column in source.columns)
    given = columns if len(columns) > 1 else columns[0]
    raw = np.asarray(task.predict(given, batch_size=32, verbose=0), np.float32)
    lengths = source.tokens.lengths
    if len(columns) > 1:
        # Given as tokens: KerasHub cuts a pair to one token more of the first text, and the
        # reference of the longer one, where an odd number of tokens is left.
        for row in np.flatnonzero(lengths >= source.max_length):
            inputs = source.tokens.inputs([row], source.max_length)
            inputs = {name: inputs[name] for name in source.input_names}
            raw[row] = np.asarray(task(inputs, training=False))[0]
    found = source.head.outputs(tf.constant(raw))[source.head.compared]
    return np.concatenate(source.compared_in(np.asarray(found), lengths))


def _last_logits(source: Source, task: keras_hub.models.Task) -> np.ndarray:
    parts = []
    for start in range(0, len(source.rows), _ROWS_AT_ONCE):
        inputs = source.tokens.inputs(range(len(source.rows))[start : start + _ROWS_AT_ONCE])
        del inputs["segment_ids"]
        found = task(inputs, training=False)
        last = inputs["padding_mask"].sum(axis=1) - 1
        parts.append(tf.gather(tf.cast(found, tf.float32), last, batch_dims=1).numpy())
    return np.concatenate(parts)


def usage(source: Source, load: str, *, what: str) -> str:
    """Returns the Markdown of a model card.

    Args:
        source: What was exported.
        load: The Python that loads the task.
        what: A sentence on the files.
    """
    code = [OPENING.replace("import keras_hub", "import keras\nimport keras_hub"), ""]
    if not source.generates:
        code += [
            f"model = {load}",
            f"texts = {texts_of(source)!r}",
            f"logits = model.predict({columns_of(source)})",
            *source.head.from_logits,
            *source.head.reading,
        ]
    elif whole_task(source.model).preprocessor is not None:
        code += [f"model = {load}", 'print(model.generate("One day", max_length=32))']
    else:
        code += [f"model = {load}  # takes token_ids and padding_mask"]
    return "\n".join([f"{what} {INSTALL}\n", "```python", *code, "```"])


def columns_of(source: Source) -> str:
    """Returns Python for what a preprocessor of KerasHub takes of `texts`."""
    return "texts" if len(source.head.texts) == 1 else "tuple(map(list, zip(*texts)))"
