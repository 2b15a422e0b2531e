"""Generates targets for sources: batches, limits, and what is compiled."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from kerasllm.errors import DataError
from kerasllm.generation.compiled import size_of, xla_is_faster
from kerasllm.generation.encoder_decoder.decoders import decoder_for
from kerasllm.generation.encoder_decoder.rules import Rules
from kerasllm.generation.encoder_decoder.search import Beams, choose_tokens, search_beams
from kerasllm.generation.generator import Generated
from kerasllm.generation.sampling import Sampler, numbers_of, uniform_numbers
from kerasllm.generation.settings import GenerationSettings
from kerasllm.generation.traced import traced
from kerasllm.models.encoder_decoder import EncoderDecoder

# The smallest sizes of sources and targets that XLA compiles for.
_SHORTEST = 16


class Seq2SeqGenerator:
    """Generates targets with an encoder-decoder: greedy, by sampling or by beam search.

    Sources of similar length are computed together, and each gets what it would get alone, as far
    as rounding lets it. Encoder, cache and search are one graph; on GPUs and TPUs, and for large
    models in float32 on processors, XLA compiles it for a few sizes, which are rounded up.

    Args:
        model: The model.
        batch_size: The maximum number of sources that are computed together. Defaults to `32`.
        xla: Whether XLA compiles. Defaults to `None`: where it was measured to be faster.

    Attributes:
        batch_size: As given.
        decoder: What computes the logits.
        compilations: How many functions have been compiled.

    Example:

    ```python
    generator = Seq2SeqGenerator(model)
    sources = model.encode_source(["A dog runs.", "Two men talk."])
    made = generator.generate(sources, GenerationSettings(beams=4, early_stopping=True))
    model.tokenizer.decode(made[0].tokens)
    ```
    """

    def __init__(self, model: EncoderDecoder, *, batch_size: int = 32, xla: bool | None = None):
        self.batch_size = batch_size
        self.decoder = decoder_for(model)
        self.compilations = 0
        self._model = model
        self._xla = xla_is_faster(model.backbone) if xla is None else xla
        # What is compiled for sizes is compiled for few.
        self._rounds = self._xla or not self.decoder.in_graph
        self._made: dict = {}

    def refresh(self) -> None:
        """Takes the weights as they are now, after training; nothing is compiled again."""
        self.decoder.refresh()

    def generate(
        self,
        sources: Sequence[Sequence[int]],
        settings: GenerationSettings,
        *,
        on_done: Callable[[int], None] | None = None,
    ) -> list[Generated]:
        """Generates a target for each source.

        Args:
            sources: Token ids, of `model.encode_source`.
            settings: How. `stop` is not read: what ends a target is a token.
            on_done: Called with the number of sources that are done, after each batch. Defaults to
                `None`.

        Returns:
            One for each source, in order: the tokens without the one that ended them, and
            `"length"` where the limit did.

        Raises:
            DataError: If a source is empty or longer than the model can read.
        """
        for number, source in enumerate(sources, start=1):
            self._check(source, f"source {number}")
        most = self._model.max_target_length
        limits = [settings.limit(len(source), most) for source in sources]
        drawn = max(limits, default=0) if settings.samples else 0
        uniform = uniform_numbers(sources, settings.seed, drawn)
        results: dict[int, Generated] = {}
        for batch in self._batches([len(source) for source in sources]):
            tokens = self._compute(
                [sources[i] for i in batch],
                [limits[i] for i in batch],
                settings,
                [uniform[i] for i in batch],
            )
            for number, row in zip(batch, tokens):
                results[number] = self._generated(row[: limits[number]], settings)
            if on_done is not None:
                on_done(len(results))
        return [results[number] for number in range(len(sources))]

    def _check(self, source: Sequence[int], where: str) -> None:
        longest = self._model.max_source_length
        if not len(source):
            raise DataError("The source is empty", where=where, fix="give a text")
        if longest is not None and len(source) > longest:
            raise DataError(
                f"The source has {len(source):,} tokens, and the model reads {longest:,}",
                where=where,
                fix="shorten it",
            )

    def _batches(self, lengths: list[int]) -> Iterator[list[int]]:
        """Yields which sources are computed together, the longest first: memory runs out early."""
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size]

    def _compute(self, sources, limits, settings: GenerationSettings, uniform) -> np.ndarray:
        """Returns the tokens of a batch, int32 `[sources, slots]`."""
        rows, length, slots = len(sources), max(map(len, sources)), max(limits)
        if self._rounds:
            rows = size_of(rows, 1)
            slots = size_of(slots, _SHORTEST)
            length = min(
                size_of(length, _SHORTEST), self._model.max_source_length or np.iinfo(int).max
            )
        token_ids = np.full((rows, length), self._model.pad_token_id, np.int32)
        padding_mask = np.zeros((rows, length), np.int32)
        for row, source in enumerate(sources):
            token_ids[row, : len(source)] = source
            padding_mask[row, : len(source)] = 1
        # Padding rows read one token: a softmax over nothing is no number.
        padding_mask[len(sources) :, 0] = 1
        arguments = [token_ids, padding_mask, np.array([*limits, *[0] * (rows - len(limits))])]
        if settings.beams == 1:
            random = np.zeros((rows, slots if settings.samples else 0), np.float32)
            for row, numbers in enumerate(uniform):
                # Of slots that were rounded up the last ones are not used.
                random[row, : len(numbers)] = numbers[: random.shape[1]]
            arguments += [numbers_of(settings), random]
        function = self._function(settings, (rows, length, slots) if self._rounds else None)
        return function(self.decoder.weights, tf.constant(slots), *map(_tensor, arguments)).numpy()

    def _function(self, settings: GenerationSettings, sizes: tuple[int, ...] | None):
        """Returns what computes a batch: for any size, or for the rounded ones where XLA does."""
        rules = Rules.of(self._model, settings)
        if settings.beams > 1:
            way = Beams(settings.beams, float(settings.length_penalty), settings.early_stopping)
            search = search_beams
        else:
            # The rules have the repetition penalty.
            way = dataclasses.replace(Sampler.of(settings), penalizes=False)
            search = choose_tokens
        key = (rules, way, sizes)
        if key not in self._made:
            start = self._model.start_token_id

            def compute(weights, slots, token_ids, padding_mask, limits, *others):
                self.compilations += 1
                slots = slots if sizes is None else sizes[-1]
                inputs = (token_ids, padding_mask, limits, slots, *others)
                return search(self.decoder, rules, way, start, weights, *inputs)

            self._made[key] = traced(
                functools.partial(compute),
                self.decoder.in_graph,
                jit_compile=self._xla,
                input_signature=None if self._rounds else self._signature(way),
            )
        return self._made[key]

    def _signature(self, way: Beams | Sampler) -> list:
        """Returns the types of what is computed with, for batches of any size."""
        weights = tf.nest.map_structure(tf.TensorSpec.from_tensor, self.decoder.weights)
        ids = tf.TensorSpec([None, None], tf.int32)
        slots, limits = tf.TensorSpec([], tf.int32), tf.TensorSpec([None], tf.int32)
        signature = [weights, slots, ids, ids, limits]
        if isinstance(way, Sampler):
            signature.append(tf.TensorSpec([5], tf.float32))
            signature.append(tf.TensorSpec([None, None], tf.float32))
        return signature

    def _generated(self, row: np.ndarray, settings: GenerationSettings) -> Generated:
        """Returns what a row has got, of all tokens up to its limit."""
        rules = Rules.of(self._model, settings)
        ends = np.flatnonzero(np.isin(row, rules.end_token_ids))
        if not len(ends):
            return Generated(row.tolist(), "length")
        # An end that the limit forced is none of the model's.
        forced = rules.forced_last is not None and ends[0] == len(row) - 1
        return Generated(row[: ends[0]].tolist(), "length" if forced else "stop")


def _tensor(value: np.ndarray) -> tf.Tensor:
    return tf.constant(value, tf.float32 if value.dtype.kind == "f" else tf.int32)
