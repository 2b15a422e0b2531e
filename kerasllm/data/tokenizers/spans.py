"""Character spans from Hugging Face `tokenizers`: where each token stands in the original text."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers
from tokenizers import processors

from kerasllm.data.tokenizers.pairs import post_processor_steps
from kerasllm.data.tokenizers.token_rows import flatten, row_offsets


def engine_spans(
    engine: tokenizers.Tokenizer,
    texts: Sequence[str],
    trims: Sequence[processors.ByteLevel] = (),
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the tokens of whole texts with their spans, as Hugging Face `tokenizers` gives them.

    Args:
        engine: The library's tokenizer.
        texts: The texts.
        trims: Steps of post-processing that take spaces out of spans. Defaults to `()`.

    Returns:
        What `Tokenizer._tokenize_spans` returns.
    """
    encodings = engine.encode_batch(list(texts), add_special_tokens=False)
    for trim in trims:
        encodings = [trim.process(encoding, None, False) for encoding in encodings]
    ids, offsets = flatten([encoding.ids for encoding in encodings])
    return ids, flatten_spans(encoding.offsets for encoding in encodings), offsets


def flatten_spans(rows: Iterable[Sequence[tuple[int, int]]]) -> np.ndarray:
    """Returns the spans of all rows one after the other, int32 `[tokens, 2]`."""
    spans = itertools.chain.from_iterable(rows)
    return np.fromiter(itertools.chain.from_iterable(spans), np.int32).reshape(-1, 2)


def characters_of_bytes(texts: Sequence[str], spans: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Returns spans in characters for spans in bytes of UTF-8.

    Args:
        texts: The texts.
        spans: Where each token's bytes start and end in its text, int64 `[tokens, 2]`.
        offsets: Where the tokens of each text start, int64 `[texts + 1]`.

    Returns:
        The spans in characters, int32 `[tokens, 2]`. A character that is cut belongs to the token
        of its first byte.
    """
    content = [text.encode() for text in texts]
    joined = np.frombuffer(b"".join(content), np.uint8)
    # A byte that continues a character is no character of its own.
    characters = row_offsets((joined & 0xC0) != 0x80)
    starts = row_offsets(np.fromiter(map(len, content), np.int64, len(content)))[:-1]
    base = np.repeat(starts, np.diff(offsets))[:, None]
    return (characters[spans + base] - characters[base]).astype(np.int32)


def trims_of(processor: Mapping[str, Any] | None) -> list[processors.ByteLevel]:
    """Returns the steps of a `post_processor` that take the spaces out of spans.

    Args:
        processor: The `post_processor` of a `tokenizer.json`, as the object that it is in JSON.
    """
    return [
        processors.ByteLevel(add_prefix_space=step["add_prefix_space"], trim_offsets=True)
        for step in post_processor_steps(processor)
        if step["type"] in ("ByteLevel", "RobertaProcessing") and step["trim_offsets"]
    ]
