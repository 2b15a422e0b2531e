"""Generates tokens after prompts: batches, streams, and when a text ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import keras_hub
import numpy as np
import tensorflow as tf

from kerasllm.errors import DataError
from kerasllm.generation.beam import beam_search
from kerasllm.generation.compiled import LARGE, Functions, Sizes, padded, xla_is_faster
from kerasllm.generation.decoders import ReadDecoder, decoder_for
from kerasllm.generation.sampling import Sampler, numbers_of, uniform_numbers
from kerasllm.generation.settings import GenerationSettings

# The share of the machine's memory that copies of the weights may take, and how many there may be.
_MEMORY_FOR_COPIES = 0.25
_MOST_COPIES = 4
# Tokens between two looks at the text, where texts end a generation.
_LOOK_EVERY = 8


@dataclass(frozen=True)
class Generated:
    """What was generated after a prompt.

    Attributes:
        tokens: The new tokens, without the one that ended them.
        finish_reason: `"stop"`: a stop token or text came; `"length"`: the maximum number of new
            tokens came.
    """

    tokens: list[int]
    finish_reason: str


class Generator:
    """Generates tokens with a KerasHub `CausalLM`, compiled once for each size.

    A prompt gives the same tokens alone and in a batch, as far as rounding lets it: in bfloat16 two
    tokens may be so near to each other that the number of rows decides. Sizes are rounded up (a few
    each of rows, of prompt lengths and of new tokens), and a function is compiled for each when
    first needed.

    Args:
        task: A KerasHub `CausalLM`.
        batch_size: The maximum number of prompts that are computed together. Defaults to `8`.
        longest: The maximum number of tokens that the model can read. Defaults to `None`: as its
            backbone says, if it does.
        xla: Whether XLA compiles. Defaults to `None`: where it was measured to be faster.

    Attributes:
        batch_size: As given.
        longest: As given, or as the backbone says.
        decoder: What computes the logits.
        keeps_weights: Whether a copy of the weights as the processor's kernels read them is worth
            its memory here.

    Example:

    ```python
    generator = Generator(task)
    generator.generate([[1, 504], [1, 338, 28]], GenerationSettings(max_new_tokens=20))
    ```
    """

    def __init__(
        self,
        task: keras_hub.models.CausalLM,
        *,
        batch_size: int = 8,
        longest: int | None = None,
        xla: bool | None = None,
    ):
        self.batch_size = batch_size
        self.longest = longest or getattr(task.backbone, "max_sequence_length", None)
        self.decoder = decoder_for(task)
        xla = xla_is_faster(task.backbone) if xla is None else xla
        large = task.backbone.count_params() > LARGE
        copies = _copies(self.decoder) if large and self.decoder.packs else 0
        self.keeps_weights = copies > 0
        self._functions = Functions(self.decoder, xla, 0 if xla else copies)

    @property
    def compilations(self) -> int:
        """How many functions have been compiled."""
        return self._functions.compilations

    def refresh(self) -> None:
        """Takes the weights as they are now, after training.

        Nothing is compiled again, but once, the first time, on a processor with a large model: the
        fastest functions keep the weights, and are given up with it.
        """
        self.decoder.refresh()
        self._functions.forget_weights()

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        settings: GenerationSettings,
        *,
        ends: Callable[[list[int]], bool] | None = None,
    ) -> list[Generated]:
        """Generates what follows each prompt.

        Args:
            prompts: Token ids.
            settings: How; its `stop_token_ids` end a text, its `stop` is the caller's.
            ends: Tells of new tokens whether they are a whole text already. Defaults to `None`.

        Returns:
            One for each prompt, in order.

        Raises:
            DataError: If a prompt is empty or leaves no room for a new token.
            CommandError: If a setting is one of encoder-decoders.
        """
        settings.refuse_for_decoders()
        limits = [self.room(p, settings, f"prompt {i}") for i, p in enumerate(prompts, start=1)]
        uniform = self._uniform(prompts, settings)
        results: dict[int, Generated] = {}
        for batch in self._batches([len(prompt) for prompt in prompts]):
            chosen = [prompts[i] for i in batch]
            if settings.beams > 1:
                found = [self._beams(prompts[i], limits[i], settings) for i in batch]
            else:
                rows = _Rows(
                    self, chosen, [limits[i] for i in batch], settings, [uniform[i] for i in batch]
                )
                while not rows.done:
                    rows.advance(_LOOK_EVERY if ends else settings.max_new_tokens)
                    for row in rows.open if ends else ():
                        if ends(rows.tokens(row)):
                            rows.end(row)
                found = [rows.generated(row) for row in range(len(chosen))]
            results.update(zip(batch, found))
        return [results[i] for i in range(len(prompts))]

    def stream(self, prompt: Sequence[int], settings: GenerationSettings) -> Iterator[int]:
        """Generates what follows one prompt, and gives each token as soon as it is there.

        Args:
            prompt: Token ids.
            settings: How. Beam search gives its tokens at the end.

        Yields:
            The tokens that `generate` gives, also the stop token that ends them.
        """
        settings.refuse_for_decoders()
        limit = self.room(prompt, settings)
        if settings.beams > 1:
            yield from self._beams(prompt, limit, settings, with_stop=True)
            return
        rows = _Rows(self, [prompt], [limit], settings, self._uniform([prompt], settings))
        given, chunk = 0, 1
        while True:
            tokens = rows.tokens(0, with_stop=True)
            yield from tokens[given:]
            given = len(tokens)
            if rows.done:
                return
            rows.advance(chunk)
            # A call costs some of a token's time: the first tokens come one by one.
            chunk = min(2 * chunk, 4)

    def room(
        self, prompt: Sequence[int], settings: GenerationSettings, where: str = "prompt"
    ) -> int:
        """Returns how many tokens may follow a prompt.

        Args:
            prompt: Token ids.
            settings: The largest that will be requested.
            where: The prompt's place, for errors. Defaults to `"prompt"`.

        Raises:
            DataError: If the prompt is empty or leaves no room for a new token.
        """
        if not len(prompt):
            raise DataError("The prompt is empty", where=where, fix="give a text")
        if self.longest is None:
            return settings.max_new_tokens
        if len(prompt) >= self.longest:
            raise DataError(
                f"The prompt has {len(prompt):,} tokens, and the model reads {self.longest:,} for "
                "prompt and answer together",
                where=where,
                fix="shorten it",
            )
        return min(settings.max_new_tokens, self.longest - len(prompt))

    def _uniform(self, prompts, settings: GenerationSettings) -> list[np.ndarray]:
        count = settings.max_new_tokens if settings.samples else 0
        return uniform_numbers(prompts, settings.seed, count)

    def _batches(self, lengths: list[int]) -> Iterator[list[int]]:
        """Yields which prompts are computed together: such of a like length."""
        order = sorted(range(len(lengths)), key=lambda i: lengths[i])
        while order:
            batch = order[: self.batch_size]
            if not self.decoder.mixes_lengths:
                batch = [i for i in batch if lengths[i] == lengths[batch[0]]]
            yield batch
            order = order[len(batch) :]

    def _beams(self, prompt, limit: int, settings: GenerationSettings, with_stop: bool = False):
        stops = settings.stop_token_ids or ()
        sizes = Sizes.holding(settings.beams, len(prompt), limit, self.longest)
        weights = self.decoder.weights
        tokens = beam_search(self._functions, weights, list(prompt), sizes, limit, settings, stops)
        if with_stop:
            return tokens
        stopped = tokens[-1] in stops
        return Generated(tokens[:-1] if stopped else tokens, "stop" if stopped else "length")


class _Rows:
    """A batch while it is generated."""

    def __init__(self, generator: Generator, prompts, limits, settings, uniform):
        self._limits = limits
        self._stops = settings.stop_token_ids or ()
        self._stopped_by_text: set[int] = set()
        self._generator = generator
        longest = max(len(prompt) for prompt in prompts)
        sizes = Sizes.holding(len(prompts), longest, max(limits), generator.longest)
        sampler = Sampler.of(settings)
        token_ids, lengths = padded(prompts, sizes)
        random = np.zeros((sizes.rows, sizes.new), np.float32)
        for row, numbers in enumerate(uniform):
            random[row, : len(numbers)] = numbers[: sizes.new]
        self._arguments = [
            tf.constant(each) for each in (lengths, random, numbers_of(settings))
        ] + [tf.constant(self._stops, tf.int32, shape=[len(self._stops)])]
        self._advance = generator._functions.advance(sizes, sampler)
        start = generator._functions.start(sizes, sampler)
        ended = np.arange(sizes.rows) >= len(prompts)
        first, *others = self._arguments
        weights = generator.decoder.weights
        self._take(start(weights, tf.constant(token_ids), first, tf.constant(ended), *others))

    @property
    def open(self) -> list[int]:
        """The rows that continue."""
        return [row for row in range(len(self._limits)) if not self._ended[row]]

    @property
    def done(self) -> bool:
        return not self.open

    def advance(self, count: int) -> None:
        """Computes up to `count` more tokens of each row."""
        until = min(self._count + count, max(self._limits[row] for row in self.open))
        state = {**self._state, "ended": tf.constant(self._ended)}
        weights = self._generator.decoder.weights
        self._take(self._advance(weights, state, *self._arguments, tf.constant(until)))

    def tokens(self, row: int, with_stop: bool = False) -> list[int]:
        """Returns the new tokens of a row."""
        tokens = self._new[row, : min(self._count, self._limits[row])].tolist()
        for place, token in enumerate(tokens):
            if token in self._stops:
                return tokens[: place + with_stop]
        return tokens

    def end(self, row: int) -> None:
        """Ends a row: its text is whole."""
        self._ended[row] = True
        self._stopped_by_text.add(row)

    def generated(self, row: int) -> Generated:
        """Returns what a row has got."""
        tokens = self.tokens(row)
        whole = min(self._count, self._limits[row])
        stopped = row in self._stopped_by_text or len(tokens) < whole
        return Generated(tokens, "stop" if stopped else "length")

    def _take(self, state) -> None:
        self._state = state
        self._count = int(state["count"])
        self._new = state["new"].numpy()
        self._ended = state["ended"].numpy().copy()
        for row, limit in enumerate(self._limits):
            self._ended[row] |= self._count >= limit


def _copies(decoder: ReadDecoder) -> int:
    """Returns how many copies of a decoder's weights the memory of this machine leaves room for."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on every system
        return 0
    return min(_MOST_COPIES, int(memory * _MEMORY_FOR_COPIES) // decoder.weight_bytes)
