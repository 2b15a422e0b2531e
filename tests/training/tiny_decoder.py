"""Tiny decoders and token stores in memory, for tests of causal language models."""

import keras
import keras_hub
import numpy as np

from kerasllm.data.pairs import Pairs
from kerasllm.models.causal_lm import CausalLM

VOCABULARY = 61


class NoTokenizer:
    """Stands where only the padding's id is asked for."""

    pad_token_id = 0


class MemoryStore:
    """Rows in memory with the methods of a token store that `Sequences` read."""

    def __init__(self, rows, trained=None):
        self.rows = [np.array(row, np.int32) for row in rows]
        self.marks = trained or [np.ones(len(row), np.uint8) for row in rows]
        self.lengths = np.array([len(row) for row in rows], np.int32)

    def __len__(self):
        return len(self.rows)

    def slices(self, rows, starts, lengths):
        parts = [self.rows[r][s : s + n] for r, s, n in zip(rows, starts, lengths)]
        assert [len(part) for part in parts] == list(lengths)
        return np.concatenate(parts)

    def trained(self, rows, starts, lengths):
        return np.concatenate([self.marks[r][s : s + n] for r, s, n in zip(rows, starts, lengths)])


def random_store(count: int, low: int, high: int, marked: bool = True, seed: int = 0):
    """Returns rows of random tokens, of which some are trained on."""
    random = np.random.default_rng(seed)
    rows = [random.integers(1, VOCABULARY, random.integers(low, high)) for _ in range(count)]
    marks = [(random.random(len(row)) < 0.6).astype(np.uint8) for row in rows]
    return MemoryStore(rows, marks if marked else None)


def random_pairs(count: int, low: int, high: int, seed: int = 0) -> Pairs:
    """Returns pairs of answers to prompts of three tokens."""
    random = np.random.default_rng(seed)
    rows = [random.integers(1, VOCABULARY, random.integers(low, high)) for _ in range(2 * count)]
    for chosen, rejected in zip(rows[::2], rows[1::2], strict=True):
        rejected[:3] = chosen[:3]
    marks = [(np.arange(len(row)) > 2).astype(np.uint8) for row in rows]
    return Pairs(MemoryStore(rows, marks))


def gpt2(dropout: float = 0.0, precision: str = "float32", layers: int = 2, **options) -> CausalLM:
    """Returns a GPT-2, the same weights each time."""
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=VOCABULARY,
        num_layers=layers,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=32,
        dropout=dropout,
        dtype=precision,
    )
    return CausalLM(keras_hub.models.GPT2CausalLM(backbone), NoTokenizer(), **options)


def llama(precision: str = "float32", layers: int = 2, **options) -> CausalLM:
    """Returns a Llama with grouped queries and tied embeddings."""
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.Llama3Backbone(
        vocabulary_size=VOCABULARY,
        num_layers=layers,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        tie_word_embeddings=True,
        dtype=precision,
    )
    return CausalLM(keras_hub.models.Llama3CausalLM(backbone), NoTokenizer(), **options)
