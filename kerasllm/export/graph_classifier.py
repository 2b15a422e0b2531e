"""A classifier as TensorFlow functions: texts, or token ids, in; labels and probabilities out."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from kerasllm.export.graph_tokenizer import GraphTokenizer
from kerasllm.models.accelerated.packed_encoder import PackedEncoder, can_pack
from kerasllm.models.text_classifier import TextClassifier

# So few rows are computed together, those of like length: what fills them up costs more than
# another call. Less is filled up where tokens are packed.
_ROWS_AT_ONCE, _PACKED_ROWS_AT_ONCE = 8, 16


class GraphClassifier:
    """What a SavedModel of a classifier computes.

    Args:
        model: The classifier, in the precision to compute in.
        tokenizer: Its tokenizer, or `None`: there is no signature on texts then.

    Attributes:
        module: What holds the weights.
        functions: The functions to save, by the names of their signatures.
    """

    def __init__(self, model: TextClassifier, tokenizer: GraphTokenizer | None):
        self.module = tf.Module()
        self.module.weights = [variable.value for variable in model.task.weights]
        self._task = model.task
        self._packed = PackedEncoder(model.task) if can_pack(model.task) else None
        self._names = list(model.task.input)
        self._labels = model.labels.names
        self._max_length, self._pad_to = model.max_length, model.pad_to
        self._tokenizer = tokenizer
        self.functions = {"token_ids": self._token_ids_function()}
        if tokenizer is not None:
            text = tf.TensorSpec([None], tf.string, name="text")
            function = tf.function(self.of_texts, input_signature=[text], autograph=False)
            self.functions["serving_default"] = function

    def of_texts(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Classifies texts, string `[batch]`; see `_answer`."""
        ids = self._tokenizer.rows(text, self._max_length)
        order = tf.argsort(ids.row_lengths(), stable=True)
        ids = tf.gather(ids, order)
        rows, together = tf.size(order), _PACKED_ROWS_AT_ONCE if self._packed else _ROWS_AT_ONCE
        calls = -(-rows // together)
        found = tf.TensorArray(tf.float32, calls, element_shape=[None, len(self._labels)])

        def classify(call, found):
            first = call * together
            part = ids[first : tf.minimum(first + together, rows)]
            return call + 1, found.write(call, self._logits_of_rows(part))

        _, found = tf.while_loop(
            lambda call, _: call < calls, classify, (0, found), parallel_iterations=1
        )
        return self._answer(tf.gather(found.concat(), tf.argsort(order)))

    def _token_ids_function(self) -> tf.types.experimental.PolymorphicFunction:
        specs = [tf.TensorSpec([None, self._pad_to], tf.int32, name=name) for name in self._names]

        @tf.function(input_signature=specs, autograph=False)
        def of_token_ids(*inputs):
            return self._answer(self._logits(dict(zip(self._names, inputs, strict=True))))

        return of_token_ids

    def _logits_of_rows(self, ids: tf.RaggedTensor) -> tf.Tensor:
        lengths = tf.cast(ids.row_lengths(), tf.int32)
        token_ids = ids.to_tensor(self._tokenizer.pad_token_id, shape=[None, self._pad_to])
        inputs = {
            "token_ids": token_ids,
            "padding_mask": tf.sequence_mask(lengths, tf.shape(token_ids)[1], tf.int32),
            "segment_ids": tf.zeros_like(token_ids),
        }
        inputs = {name: inputs[name] for name in self._names}
        return self._packed(inputs, lengths) if self._packed else self._logits(inputs)

    def _logits(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return tf.cast(self._task(inputs, training=False), tf.float32)

    def _answer(self, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns each text's label, and the probability of every label with its name.

        All have a row for each text: TensorFlow Serving's REST shape wants that.
        """
        labels = tf.constant(self._labels)
        return {
            "label": tf.gather(labels, tf.argmax(logits, -1)),
            "labels": tf.broadcast_to(labels, tf.shape(logits)),
            "probabilities": tf.nn.softmax(logits),
        }
