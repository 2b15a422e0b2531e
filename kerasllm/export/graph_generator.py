"""A language model as TensorFlow functions: prompts in, text out, with its cache in the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from kerasllm.export.graph_byte_level_bpe import GraphByteLevelBPE
from kerasllm.generation.decoders import ReadDecoder
from kerasllm.generation.sampling import draw, keep_top_p
from kerasllm.models.causal_lm import CausalLM

MAX_NEW_TOKENS = 128
"""How many tokens follow a prompt where a signature does not ask."""

# What is put in a chat template instead of a user's message.
_PLACEHOLDER = "PLACEHOLDER"

_PROMPT = tf.TensorSpec([None], tf.string, name="prompt")
_MESSAGE = tf.TensorSpec([None], tf.string, name="message")
_COUNT = tf.TensorSpec([], tf.int32, name="max_new_tokens")
_SAMPLING = (
    tf.TensorSpec([], tf.float32, name="temperature"),
    tf.TensorSpec([], tf.int32, name="top_k"),
    tf.TensorSpec([], tf.float32, name="top_p"),
    tf.TensorSpec([], tf.int32, name="seed"),
)
_IDS = (
    tf.TensorSpec([None, None], tf.int32, name="token_ids"),
    tf.TensorSpec([None, None], tf.int32, name="padding_mask"),
)

Choose = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class GraphGenerator:
    """What a SavedModel of a language model computes.

    The signatures are:

    - `serving_default`: `prompt`; the most likely tokens, at most `MAX_NEW_TOKENS`;
    - `greedy`: `prompt` and `max_new_tokens`;
    - `sampled`: also `temperature`, `top_k` (0: all), `top_p` (1: all) and `seed`;
    - `chat`: `message`, what a user says, and `max_new_tokens`; for models with a chat template;
    - `next_token`: `prompt`; the logits of the token after it;
    - `token_ids`: `token_ids` and `padding_mask`, 1 for a token; the logits of the token after each
      row;
    - `generate_ids`: these and `max_new_tokens`; the ids that follow.

    All but the last two give `text` or `logits`, a row for each prompt, and are there only with a
    tokenizer.

    Args:
        model: The language model, in float32, of a family whose weights can be read.
        tokenizer: Its tokenizer, or `None`.

    Attributes:
        module: What holds the weights.
        functions: The functions to save, by the names of their signatures.
    """

    def __init__(self, model: CausalLM, tokenizer: GraphByteLevelBPE | None):
        self._decoder = ReadDecoder(model.task)
        self._weights = variables_of_weights(self._decoder.weights)
        self.module = tf.Module()
        self.module.weights = tf.nest.flatten(self._weights)
        self._longest = model.max_length
        self._stops = list(model.tokenizer.stop_token_ids)
        self._pad = model.tokenizer.pad_token_id
        self._tokenizer = tokenizer
        # All signatures share these two, which are traced once.
        self._prefill = tf.function(self._read_prompts, autograph=False)
        self._step = tf.function(self._read_tokens, autograph=False)
        self.functions = {
            "token_ids": _function(self._logits_of_ids, *_IDS),
            "generate_ids": _function(self._ids_of_ids, *_IDS, _COUNT),
        }
        if tokenizer is not None:
            self.functions |= {
                "serving_default": _function(self._greedy, _PROMPT),
                "greedy": _function(self._greedy, _PROMPT, _COUNT),
                "sampled": _function(self._sampled, _PROMPT, _COUNT, *_SAMPLING),
                "next_token": _function(self._next_token, _PROMPT),
            }
        chat = chat_parts(model)
        if tokenizer is not None and chat is not None:
            self._before, self._after, self._chat_stops = chat
            self.functions["chat"] = _function(self._chat, _MESSAGE, _COUNT)

    def _greedy(self, prompt, max_new_tokens=MAX_NEW_TOKENS):
        ids = self._tokenizer.rows(prompt)
        return {"text": self._tokenizer.text(self._generate(ids, max_new_tokens, _most_likely))}

    def _chat(self, message, max_new_tokens):
        prompt = tf.strings.join([self._before, message, self._after])
        ids = self._tokenizer.tokens(tf.strings.unicode_transcode(prompt, "UTF-8", "UTF-8"))
        stops = [*self._stops, *self._chat_stops]
        new = self._generate(ids, max_new_tokens, _most_likely, stops)
        return {"text": self._tokenizer.text(new)}

    def _sampled(self, prompt, max_new_tokens, temperature, top_k, top_p, seed):
        # A prompt has random numbers of its own, and so the same text in any batch.
        uniform = own_random_numbers(prompt, seed, tf.maximum(max_new_tokens, 1))

        def choose(logits, number):
            warm = logits / tf.where(temperature > 0, temperature, 1.0)
            kept = keep_top_p(_keep_top_k(warm, top_k), top_p)
            drawn = draw(kept, tf.gather(uniform, number, axis=1))
            return tf.where(temperature > 0, drawn, _most_likely(logits, number))

        ids = self._tokenizer.rows(prompt)
        return {"text": self._tokenizer.text(self._generate(ids, max_new_tokens, choose))}

    def _next_token(self, prompt):
        token_ids, lengths = self._padded(self._tokenizer.rows(prompt), new=0)
        return {"logits": self._prefill(token_ids, lengths, tf.shape(token_ids)[1])[0]}

    def _logits_of_ids(self, token_ids, padding_mask):
        token_ids, lengths = self._padded(_ragged(token_ids, padding_mask), new=0)
        return {"logits": self._prefill(token_ids, lengths, tf.shape(token_ids)[1])[0]}

    def _ids_of_ids(self, token_ids, padding_mask, max_new_tokens):
        ids = self._generate(_ragged(token_ids, padding_mask), max_new_tokens, _most_likely)
        found = ids.to_tensor(self._pad)
        return {
            "token_ids": found,
            "padding_mask": tf.sequence_mask(ids.row_lengths(), tf.shape(found)[1], tf.int32),
        }

    def _padded(self, ids: tf.RaggedTensor, new: int = 1) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns prompts that leave room for new tokens, the ends of those that are too long."""
        if self._longest is not None:
            room = self._longest - new
            starts = tf.maximum(ids.row_lengths() - room, 0)
            place = tf.ragged.range(ids.row_lengths())
            ids = tf.ragged.boolean_mask(ids, place >= starts[:, None])
        # An empty prompt is read as one padding token: there must be one to continue from.
        empty = tf.cast(ids.row_lengths() == 0, tf.int64)
        stand_in = tf.RaggedTensor.from_row_lengths(
            tf.fill([tf.reduce_sum(empty)], self._pad), empty
        )
        ids = tf.concat([ids, stand_in], 1)
        return ids.to_tensor(), tf.cast(ids.row_lengths(), tf.int32)

    def _read_prompts(self, token_ids, lengths, slots):
        return self._decoder.prefill(self._weights, token_ids, lengths, slots)

    def _read_tokens(self, cache, token, slot, prompt, lengths):
        logits, new = self._decoder.step(self._weights, cache, token, slot, prompt, lengths)
        return logits, _shaped(new, cache)

    def _generate(
        self, ids: tf.RaggedTensor, most, choose: Choose, stops: list[int] | None = None
    ) -> tf.RaggedTensor:
        """Returns the tokens that follow prompts, int32 `[rows, (tokens)]`, without stop tokens.

        Args:
            ids: The prompts.
            most: The maximum number of new tokens, int32.
            choose: Takes logits and how many tokens there are, and gives the next ones.
            stops: Tokens that end a text. Defaults to `None`: the tokenizer's.
        """
        stops = self._stops if stops is None else stops
        token_ids, lengths = self._padded(ids)
        most, room = tf.maximum(most, 1), tf.fill(tf.shape(lengths), tf.int32.max)
        if self._longest is not None:
            room = self._longest - lengths
        prompt = tf.shape(token_ids)[1]
        logits, cache = self._prefill(token_ids, lengths, prompt + most)
        token = choose(logits, tf.constant(0))
        made = tf.TensorArray(tf.int32, most, element_shape=[None]).write(0, token)

        def continues(count, token, ended, made, cache):
            return (count < most) & ~tf.reduce_all(ended | (count >= room))

        def advance(count, token, ended, made, cache):
            logits, cache = self._step(cache, token, prompt + count - 1, prompt, lengths)
            token = choose(logits, count)
            ended |= _among(token, stops)
            return count + 1, token, ended, made.write(count, token), cache

        state = (tf.constant(1), token, _among(token, stops), made, cache)
        count, _, _, made, _ = tf.while_loop(continues, advance, state)
        new = tf.transpose(made.gather(tf.range(count)))
        # Rows that had ended continued with the others.
        ended = tf.cumsum(tf.cast(_among(new, stops), tf.int32), axis=1) > 0
        return tf.ragged.boolean_mask(new, ~ended & (tf.range(count) < room[:, None]))


def _function(function: Callable, *specs: tf.TensorSpec):
    return tf.function(function, input_signature=specs, autograph=False)


def own_random_numbers(texts, seed, count):
    """Returns random numbers that depend on a text and the seed alone.

    Args:
        texts: string `[rows]`.
        seed: An integer.
        count: How many numbers each row gets, int or int32.

    Returns:
        float32 `[rows, count]`, from 0 to below 1.
    """
    own = tf.strings.to_hash_bucket_fast(texts, 2**31 - 1)
    seeds = tf.stack([tf.fill(tf.shape(own), tf.cast(seed, own.dtype)), own], 1)
    return tf.map_fn(
        lambda seeds: tf.random.stateless_uniform([count], seeds),
        seeds,
        fn_output_signature=tf.TensorSpec([None], tf.float32),
    )


def variables_of_weights(weights: Any, shared: Mapping[int, tf.Variable] | None = None) -> Any:
    """Returns tensors as variables, one for each: a head may be the embeddings.

    Args:
        weights: Tensors, nested.
        shared: Variables that are there already, by the `id` of the tensor that they hold. Defaults
            to `None`: none.
    """
    made = dict(shared or {})

    def variable(tensor):
        if id(tensor) not in made:
            made[id(tensor)] = tf.Variable(tensor, trainable=False)
        return made[id(tensor)]

    return tf.nest.map_structure(variable, weights)


def chat_parts(model: CausalLM) -> tuple[str, str, list[int]] | None:
    """Returns what comes before and after a user's message, and what ends the answer.

    `None` if there is no chat template, or one that does not leave the message as it is.
    """
    template, tokenizer = model.chat_template, model.tokenizer
    if template is None:
        return None
    stops = [tokenizer.token_to_id(text) for text in template.stop]
    said = f" {_PLACEHOLDER} "
    parts = template.render([{"role": "user", "content": said}], True).split(said)
    if None in stops or len(parts) != 2:
        return None
    return parts[0], parts[1], stops


def _most_likely(logits, _):
    return tf.argmax(logits, -1, output_type=tf.int32)


def _keep_top_k(logits, k):
    size = logits.shape[-1]
    k = tf.where(k > 0, tf.minimum(k, size), size)
    return tf.where(logits >= tf.math.top_k(logits, k).values[:, -1:], logits, -float("inf"))


def _among(tokens, stops: list[int]):
    return tf.reduce_any(tokens[..., None] == tf.constant(stops, tf.int32), -1)


def _ragged(token_ids, mask) -> tf.RaggedTensor:
    return tf.ragged.boolean_mask(token_ids, mask > 0)


def _shaped(cache, like):
    """Returns a cache with the sizes that are known; a loop must not lose them."""
    return [
        tuple(tf.ensure_shape(each, other.shape) for each, other in zip(pair, others))
        for pair, others in zip(cache, like)
    ]
