"""An encoder-decoder as TensorFlow functions: sources in, targets out, with its search in them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from kerasllm.export.graph_generator import own_random_numbers, variables_of_weights
from kerasllm.export.graph_tokenizer import GraphTokenizer, between, valid
from kerasllm.generation.encoder_decoder.decoders import ReadDecoder
from kerasllm.generation.encoder_decoder.rules import Rules
from kerasllm.generation.encoder_decoder.search import Beams, choose_tokens, search_beams
from kerasllm.generation.sampling import Sampler, numbers_of
from kerasllm.generation.seq2seq_texts import settings_of

if TYPE_CHECKING:
    from kerasllm.models.seq2seq_lm import Seq2SeqLM

_TEXT = tf.TensorSpec([None], tf.string, name="text")
_COUNT = tf.TensorSpec([], tf.int32, name="max_new_tokens")
_IDS = (
    tf.TensorSpec([None, None], tf.int32, name="token_ids"),
    tf.TensorSpec([None, None], tf.int32, name="padding_mask"),
)
_LIMITS = tf.TensorSpec([None], tf.int32, name="limits")
_TARGETS = tf.TensorSpec([None, None], tf.int32, name="target_token_ids")


class GraphWriter:
    """What a SavedModel of an encoder-decoder computes.

    Targets are generated as the model's own settings say: by beam search, greedy or sampled. The
    signatures are:

    - `serving_default`: `text`, the sources; `output`, the targets, and `finish_reason`, `"stop"`
      or, where the limit cut a target, `"length"`;
    - `limited`: `text` and `max_new_tokens`, instead of the model's own;
    - `score`: `text` and `target_token_ids`; `logits`, those of each token of given targets;
    - `token_ids`: `token_ids` and `padding_mask` of sources, 1 for a token; the same of the
      targets, and `stopped`, 0 where the limit cut a target;
    - `score_ids`: as `score`, with the ids of sources.

    Those that take `text` are there only with a tokenizer.

    Args:
        model: The model, in float32, of a family whose weights can be read.
        tokenizer: Its tokenizer, or `None`.

    Attributes:
        module: What holds the weights.
        functions: The functions to save, by the names of their signatures.
    """

    def __init__(self, model: Seq2SeqLM, tokenizer: GraphTokenizer | None):
        parts = model.parts
        self._parts, self._prefix, self._longest = parts, model.prefix, model.max_length
        self._settings = settings_of(model)
        self._most = parts.max_target_length
        self._rules = Rules.of(parts, self._settings)
        self._tokenizer = tokenizer
        self._decoder = ReadDecoder(parts)
        embedding = parts.backbone.token_embedding.embeddings.value
        # The encoder reads this variable too.
        shared = {id(self._decoder.weights["embedding"]): embedding}
        self._weights = variables_of_weights(self._decoder.weights, shared)
        self.module = tf.Module()
        self.module.decoder = tf.nest.flatten(self._weights)
        self.module.tokenizer = [] if tokenizer is None else list(tokenizer.resources)
        self.module.encoder = [one.value for one in self._decoder.encoder.variables]
        # The signatures share these two, which are traced once.
        self._search = _function(self._search_tokens, *_IDS, _LIMITS)
        self._score = _function(self._logits, *_IDS, _TARGETS)
        self.functions = {
            "token_ids": _function(self._ids_of_ids, *_IDS),
            "score_ids": self._score,
        }
        if tokenizer is not None:
            self.functions |= {
                "serving_default": _function(self._write, _TEXT),
                "limited": _function(self._write, _TEXT, _COUNT),
                "score": _function(self._score_text, _TEXT, _TARGETS),
            }

    def _write(self, text, max_new_tokens=None):
        targets, stopped = self._generate(*self._source_ids(text), max_new_tokens)
        reasons = tf.where(stopped, "stop", "length")
        written = tf.strings.strip(self._tokenizer.text(targets))
        return {"output": written, "finish_reason": reasons}

    def _score_text(self, text, target_token_ids):
        return self._score(*self._source_ids(text), target_token_ids)

    def _ids_of_ids(self, token_ids, padding_mask):
        targets, stopped = self._generate(token_ids, padding_mask)
        found = targets.to_tensor(self._parts.pad_token_id)
        mask = tf.sequence_mask(targets.row_lengths(), tf.shape(found)[1], tf.int32)
        stopped = tf.cast(stopped, tf.int32)
        return {"token_ids": found, "padding_mask": mask, "stopped": stopped}

    def _source_ids(self, text) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the ids of sources and their mask: with the prefix, and cut."""
        texts = tf.strings.join([self._prefix, valid(text)])
        frame = self._parts.source_frame
        whole = between(frame.before, self._tokenizer.tokens(texts), frame.after)
        lengths = tf.cast(whole.row_lengths(), tf.int32)
        ids = whole.to_tensor(self._parts.pad_token_id)
        # The last id, which ends a source, stays the last.
        last = tf.gather(ids, lengths - 1, batch_dims=1)[:, None]
        ids = ids[:, : self._longest]
        places = tf.range(tf.shape(ids)[1])
        cut = (lengths[:, None] > self._longest) & (places == self._longest - 1)
        return tf.where(cut, last, ids), tf.cast(places < lengths[:, None], tf.int32)

    def _generate(
        self, token_ids, padding_mask, max_new_tokens=None
    ) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """Returns the targets of sources, int32 `[rows, (tokens)]`, and whether each ended itself.

        Args:
            token_ids: int32 `[rows, length]`.
            padding_mask: int32 of the same shape, 1 for a token.
            max_new_tokens: int32, instead of the model's own. Defaults to `None`.
        """
        limits = self._limits(tf.reduce_sum(padding_mask, 1), max_new_tokens)
        return self._until_end(self._search(token_ids, padding_mask, limits), limits)

    def _search_tokens(self, token_ids, padding_mask, limits):
        settings, start = self._settings, self._parts.start_token_id
        slots = tf.maximum(tf.reduce_max(limits), 1)
        given = (self._weights, token_ids, padding_mask, limits, slots)
        if settings.beams > 1:
            beams = Beams(settings.beams, float(settings.length_penalty), settings.early_stopping)
            return search_beams(self._decoder, self._rules, beams, start, *given)
        sampler = dataclasses.replace(Sampler.of(settings), penalizes=False)
        random = None
        if settings.samples:
            # A source has random numbers of its own, and so the same target in any batch.
            said = tf.ragged.boolean_mask(token_ids, padding_mask > 0)
            own = tf.strings.reduce_join(tf.strings.as_string(said), -1, separator=" ")
            random = own_random_numbers(own, settings.seed, slots)
        return choose_tokens(
            self._decoder, self._rules, sampler, start, *given, numbers_of(settings), random
        )

    def _limits(self, lengths, max_new_tokens):
        """Returns how many tokens each target may have; as `GenerationSettings.limit`."""
        settings = self._settings
        most = settings.max_new_tokens if max_new_tokens is None else max_new_tokens
        limits = tf.fill(tf.shape(lengths), most)
        if self._most is not None:
            limits = tf.minimum(limits, self._most)
        if settings.max_length_ratio is not None:
            own = tf.cast(lengths, tf.float64) * settings.max_length_ratio
            limits = tf.minimum(limits, tf.cast(own, tf.int32) + settings.max_length_extra)
        return tf.maximum(limits, 1)

    def _until_end(self, tokens, limits) -> tuple[tf.RaggedTensor, tf.Tensor]:
        ends = tf.reduce_any(tokens[..., None] == list(self._rules.end_token_ids), -1)
        places = tf.range(tf.shape(tokens)[1])
        # An end that the limit forced is none of the model's.
        own = limits - 1 if self._rules.forced_last is not None else limits
        stopped = tf.reduce_any(ends & (places < own[:, None]), 1)
        after = tf.cumsum(tf.cast(ends, tf.int32), axis=1) > 0
        return tf.ragged.boolean_mask(tokens, ~after & (places < limits[:, None])), stopped

    def _logits(self, token_ids, padding_mask, target_token_ids):
        rows, length = tf.shape(target_token_ids)[0], tf.shape(target_token_ids)[1]
        memory, cache = self._decoder.start(self._weights, token_ids, padding_mask, 1, length)
        first = tf.fill([rows, 1], self._parts.start_token_id)
        read = tf.concat([first, target_token_ids], 1)
        shape = [None, self._parts.vocabulary_size]
        found = tf.TensorArray(tf.float32, length, element_shape=shape)

        def advance(count, cache, found):
            logits, cache = self._decoder.step(self._weights, memory, cache, read[:, count], count)
            return count + 1, cache, found.write(count, logits)

        _, _, found = tf.while_loop(
            lambda count, *_: count < length, advance, (tf.constant(0), cache, found)
        )
        return {"logits": tf.transpose(found.stack(), [1, 0, 2])}


def _function(function: Any, *specs: tf.TensorSpec):
    return tf.function(function, input_signature=specs, autograph=False)
