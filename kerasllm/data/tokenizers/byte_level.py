"""Byte-level BPE as a `tokenizer.json`: made of a vocabulary and merges, or trained on text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from kerasllm.data.tokenizers.tokenizer_json import TokenizerJson

END_OF_TEXT = "<|endoftext|>"

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
BYTE_LEVEL_DECODER = {**_BYTE_LEVEL, "add_prefix_space": True, "use_regex": True}
"""The decoder of a `tokenizer.json` of byte-level BPE."""


def byte_level_json(
    vocabulary: Mapping[str, int],
    merges: Sequence[str],
    *,
    special_tokens: Sequence[str] = (),
    other_tokens: Sequence[str] = (),
    splits: Sequence[Mapping[str, Any]] = (),
    normalizer: Mapping[str, Any] | None = None,
    whole_words_first: bool = False,
) -> dict[str, Any]:
    """Returns a `tokenizer.json` of byte-level BPE, as the object that it is in JSON.

    Args:
        vocabulary: The id of each token.
        merges: The merges, the first to apply first, each as `"left right"`.
        special_tokens: Tokens of the vocabulary that are recognised where they are written in a
            text, and left out of decoded text. Defaults to `()`.
        other_tokens: Tokens of the vocabulary that are recognised, and not left out. Defaults
            to `()`.
        splits: Pre-tokenizers that split a text in words. Defaults to `()`: GPT-2's rules.
        normalizer: What is done to a text first. Defaults to `None`: nothing.
        whole_words_first: Whether a word that is in the vocabulary is taken without its merges.
            Defaults to `False`.
    """
    byte_level = {**_BYTE_LEVEL, "use_regex": not any(s["type"] == "Split" for s in splits)}
    steps = [*map(dict, splits), byte_level]
    added = {**dict.fromkeys(other_tokens, False), **dict.fromkeys(special_tokens, True)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": vocabulary[token],
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": special,
            }
            for token, special in sorted(added.items(), key=lambda item: vocabulary[item[0]])
        ],
        "normalizer": normalizer,
        "pre_tokenizer": (
            byte_level if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps}
        ),
        "post_processor": None,
        "decoder": BYTE_LEVEL_DECODER,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": whole_words_first,
            "vocab": dict(vocabulary),
            "merges": [merge.split(" ") for merge in merges],
        },
    }


def train_byte_level_bpe(
    texts: Iterable[str],
    vocabulary_size: int,
    *,
    special_tokens: Sequence[str] = (END_OF_TEXT,),
    min_frequency: int = 2,
) -> TokenizerJson:
    """Trains GPT-2's kind of tokenizer on text. The same text gives the same tokenizer.

    Args:
        texts: The texts to learn merges from.
        vocabulary_size: The number of tokens to end up with: special tokens, the 256 bytes, and
            merges. Fewer come out where the text has no more pairs that are frequent enough.
        special_tokens: Tokens that are never split, and get the first ids; the first of them
            ends a text. Defaults to `("<|endoftext|>",)`.
        min_frequency: How often a pair must stand in the text to be merged. Defaults to `2`.

    References:
        [Radford et al., 2019, Language Models are Unsupervised Multitask Learners]

    Example:

    ```python
    tokenizer = train_byte_level_bpe(["Call me Ishmael. Some years ago..."], 4096)
    ```
    """
    least = 256 + len(special_tokens)
    if vocabulary_size < least:
        raise ValueError(
            f"A byte-level vocabulary has at least {least} tokens: 256 bytes and "
            f"{len(special_tokens)} special. Received: vocabulary_size={vocabulary_size}"
        )
    engine = tokenizers.Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    engine.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            min_frequency=min_frequency,
            special_tokens=list(special_tokens),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    end = special_tokens[0] if special_tokens else None
    return TokenizerJson(
        engine.to_str(), end_token=end, named_tokens={"bos_token": end} if end else None
    )
