"""An encoder with a head as TensorFlow functions: texts or token ids in, the head's outputs out."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from kerasllm.export.graph_tokenizer import GraphTokenizer, valid
from kerasllm.export.graph_windows import (
    GraphPairs,
    GraphTexts,
    compute_in_windows,
    cut_in_graph,
)
from kerasllm.export.token_rows import LONGEST_FIRST
from kerasllm.models.accelerated.packed_encoder import PackedEncoder, can_pack
from kerasllm.tasks.task import Head
from kerasllm.training.fit import FineTunedModel

# So few rows of similar length are computed together: padding costs more than another call. There
# is less of it where tokens are packed.
_ROWS_AT_ONCE, _PACKED_ROWS_AT_ONCE = 8, 16


class GraphEncoder:
    """What a SavedModel of an encoder computes.

    The signatures are `serving_default`, on texts by the names in `Head.texts`, and `token_ids`.
    Both give the outputs of the head, a row for each text: TensorFlow Serving's REST shape wants
    that.

    Args:
        model: The model, in the precision to compute in.
        head: Its head.
        tokenizer: Its tokenizer, or `None`: there is no signature on texts then.
        truncation: How a pair of texts that is too long is cut. Defaults to `"longest_first"`.

    Attributes:
        module: What holds the weights.
        functions: The functions to save, by the names of their signatures.
    """

    def __init__(
        self,
        model: FineTunedModel,
        head: Head,
        tokenizer: GraphTokenizer | None,
        truncation: str = LONGEST_FIRST,
    ):
        self.module = tf.Module()
        self.module.weights = [variable.value for variable in model.task.weights]
        self._task = model.task
        self._head = head
        # It computes the first token, or the mean, and no others.
        packs = not head.per_token and can_pack(model.task)
        self._packed = PackedEncoder(model.task) if packs else None
        self._names = list(model.task.input)
        self._max_length, self._pad_to = model.max_length, model.pad_to
        self._tokenizer, self._truncation = tokenizer, truncation
        self.functions = {"token_ids": self._token_ids_function()}
        if tokenizer is not None:
            texts = [tf.TensorSpec([None], tf.string, name=name) for name in head.texts]
            windows = self.of_windows if len(head.texts) == 1 else self.of_pair_windows
            of_texts = windows if head.of_texts else self.of_texts
            function = tf.function(of_texts, input_signature=texts, autograph=False)
            self.functions["serving_default"] = function

    def of_windows(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Computes the outputs that `Head.of_texts` makes of texts, string `[batch]`."""
        texts, tokenizer = valid(texts), self._tokenizer
        ids, starts, ends = tokenizer.tokens_with_spans(texts)
        before = int(tokenizer.start_token_id is not None)
        after = tokenizer.special_tokens - before

        def compute(windows: tf.RaggedTensor) -> tf.RaggedTensor:
            rows = tokenizer.between_special(windows)
            raw, lengths, _ = self._in_length_batches(rows, tf.zeros_like(rows))
            outputs = tf.RaggedTensor.from_tensor(raw, lengths)
            return outputs[:, before:-after] if after else outputs[:, before:]

        room = self._max_length - tokenizer.special_tokens
        logits = compute_in_windows(ids, room, self._head.of_texts.stride, compute)
        return self._head.of_texts.make(GraphTexts(texts, starts, ends, logits))

    def of_pair_windows(self, first: tf.Tensor, second: tf.Tensor) -> dict[str, tf.Tensor]:
        """Computes the outputs that `Head.of_texts` makes of pairs of texts, string `[batch]`."""
        of_texts, tokenizer = self._head.of_texts, self._tokenizer
        first, second = valid(first), valid(second)
        asked = tokenizer.tokens(first)[:, : of_texts.first_length]
        ids, starts, ends = tokenizer.tokens_with_spans(second)
        room = self._max_length - tokenizer.pair_special_tokens - asked.row_lengths()
        stride = room // 2 if of_texts.stride is None else tf.minimum(room, of_texts.stride)
        windows = cut_in_graph(ids, room, tf.maximum(stride, 1))
        rows, segments = tokenizer.joined(tf.gather(asked, windows.rows), windows.ids)
        raw, _, _ = self._in_length_batches(rows, segments)
        begin = tf.gather(asked.row_lengths(), windows.rows) + tokenizer.before_second
        places = tf.ragged.range(begin, begin + windows.ids.row_lengths())
        of_second = tf.gather(raw, places, batch_dims=1)
        # No rows have no first token.
        of_first = tf.gather(raw, tf.zeros_like(windows.rows), batch_dims=1)
        found = GraphPairs(first, second, starts, ends, windows, of_first, of_second)
        return of_texts.make(found)

    def of_texts(self, *texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Computes the outputs of texts, string `[batch]`; or of first and of second texts."""
        raw, lengths, longest = self._in_length_batches(*self._tokenize(texts))
        outputs = self._head.outputs(raw)
        if self._head.per_token:
            outputs = {**outputs, "tokens": tf.sequence_mask(lengths, longest, tf.int32)}
        return outputs

    def _in_length_batches(
        self, ids: tf.RaggedTensor, segments: tf.RaggedTensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Computes rows of similar length together.

        Returns:
            What the model computes of the rows, padded, in their order; their lengths, and the
            largest of these.
        """
        lengths = tf.cast(ids.row_lengths(), tf.int32)
        order = tf.argsort(lengths, stable=True)
        ids, segments = tf.gather(ids, order), tf.gather(segments, order)
        rows, together = tf.size(order), _PACKED_ROWS_AT_ONCE if self._packed else _ROWS_AT_ONCE
        calls = -(-rows // together)
        if self._head.per_token:
            # Nothing tells how wide no rows are.
            calls = tf.maximum(calls, 1)
        longest = tf.reduce_max(tf.concat([lengths, [0]], 0))
        found = tf.TensorArray(tf.float32, calls, element_shape=self._task.output_shape)

        def compute(call, found):
            part = slice(call * together, tf.minimum((call + 1) * together, rows))
            raw = self._of_rows(ids[part], segments[part])
            if self._head.per_token:
                raw = tf.pad(raw, [[0, 0], [0, longest - tf.shape(raw)[1]], [0, 0]])
            return call + 1, found.write(call, raw)

        _, found = tf.while_loop(
            lambda call, _: call < calls, compute, (0, found), parallel_iterations=1
        )
        return tf.gather(found.concat(), tf.argsort(order)), lengths, longest

    def _tokenize(self, texts: tuple[tf.Tensor, ...]) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Returns the ids of rows and their segments."""
        if len(texts) == 2:
            return self._tokenizer.pairs(*texts, self._max_length, self._truncation)
        ids = self._tokenizer.rows(*texts, self._max_length)
        return ids, tf.zeros_like(ids)

    def _token_ids_function(self) -> tf.types.experimental.PolymorphicFunction:
        specs = [tf.TensorSpec([None, self._pad_to], tf.int32, name=name) for name in self._names]

        @tf.function(input_signature=specs, autograph=False)
        def of_token_ids(*inputs):
            return self._head.outputs(self._raw(dict(zip(self._names, inputs, strict=True))))

        return of_token_ids

    def _of_rows(self, ids: tf.RaggedTensor, segments: tf.RaggedTensor) -> tf.Tensor:
        lengths = tf.cast(ids.row_lengths(), tf.int32)
        token_ids = ids.to_tensor(self._tokenizer.pad_token_id, shape=[None, self._pad_to])
        inputs = {
            "token_ids": token_ids,
            "padding_mask": tf.sequence_mask(lengths, tf.shape(token_ids)[1], tf.int32),
            "segment_ids": segments.to_tensor(shape=[None, self._pad_to]),
        }
        inputs = {name: inputs[name] for name in self._names}
        return self._packed(inputs, lengths) if self._packed else self._raw(inputs)

    def _raw(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return tf.cast(self._task(inputs, training=False), tf.float32)
