"""Warm-up requests of TensorFlow Serving.

They are in `assets.extra/tf_serving_warmup_requests`, a TFRecord file of TensorFlow Serving's
`PredictionLog` messages. A message in a message is bytes after the number of its field and its
size, and so few of them are put together here that no package with their classes is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

FILE_NAME = "assets.extra/tf_serving_warmup_requests"

# Numbers of fields: PredictionLog.predict_log, PredictLog.request; of PredictRequest the
# model_spec and the inputs; of ModelSpec the name and the signature_name; of an entry of a map
# its key and its value.
_PREDICT_LOG, _REQUEST = 6, 1
_MODEL_SPEC, _INPUTS = 1, 2
_NAME, _SIGNATURE_NAME = 1, 3
_KEY, _VALUE = 1, 2

Request = tuple[str, Mapping[str, np.ndarray]]


def write_warm_up(folder: Path, model: str, requests: Sequence[Request]) -> None:
    """Writes requests into the folder of a SavedModel.

    Args:
        folder: The folder.
        model: The name that the model is served by.
        requests: The name of the signature and the inputs of each.
    """
    file = folder / FILE_NAME
    file.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for signature, inputs in requests:
            request = _field(_MODEL_SPEC, _text(_NAME, model) + _text(_SIGNATURE_NAME, signature))
            for name, value in inputs.items():
                tensor = tf.make_tensor_proto(value).SerializeToString()
                request += _field(_INPUTS, _text(_KEY, name) + _field(_VALUE, tensor))
            writer.write(_field(_PREDICT_LOG, _field(_REQUEST, request)))


def _text(number: int, value: str) -> bytes:
    return _field(number, value.encode())


def _field(number: int, content: bytes) -> bytes:
    """Returns a field of bytes as protocol buffers write it."""
    length_delimited = 2
    return _varint(number << 3 | length_delimited) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])
