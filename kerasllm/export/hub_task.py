"""What the two formats have in common that are loaded as a KerasHub task."""

from __future__ import annotations

import keras_hub
import numpy as np
import tensorflow as tf

from kerasllm.export.source import Source
from kerasllm.models.save_preset import whole_task

_ROWS_AT_ONCE = 8


def predict(source: Source, task: keras_hub.models.Task) -> np.ndarray:
    """Runs a task that was loaded; see `Format.predict`.

    A classifier is given the texts, a language model the tokens: KerasHub has no preprocessor for
    some of their tokenizers.
    """
    if source.is_classifier:
        found = task.predict(tf.constant(source.rows), batch_size=32, verbose=0)
        return tf.nn.softmax(tf.cast(found, tf.float32)).numpy()
    ids, mask = source.padded()
    last = mask.sum(axis=1) - 1
    parts = []
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        found = task({"token_ids": ids[part], "padding_mask": mask[part]}, training=False)
        parts.append(tf.gather(tf.cast(found, tf.float32), last[part], batch_dims=1).numpy())
    return np.concatenate(parts)


def usage(source: Source, load: str, *, what: str) -> str:
    """Returns the Markdown of a model card.

    Args:
        source: What was exported.
        load: The Python that loads the task.
        what: A sentence on the files.
    """
    head = 'import os\n\nos.environ["KERAS_BACKEND"] = "tensorflow"\nimport keras\nimport keras_hub\n'
    if source.is_classifier:
        names = list(source.model.labels.names)
        code = (
            f"model = {load}\n"
            f"labels = {names!r}\n"
            'texts = ["one text", "and another"]\n'
            "for text, logits in zip(texts, model.predict(texts)):\n"
            "    print(labels[logits.argmax()], text)"
        )
    elif whole_task(source.model).preprocessor is not None:
        code = f'model = {load}\nprint(model.generate("One day", max_length=32))'
    else:
        code = f"model = {load}  # takes token_ids and padding_mask"
    return (
        f"{what} `pip install keras-hub tensorflow tensorflow-text`.\n\n"
        f"```python\n{head}\n{code}\n```"
    )
