"""The spans that a token classifier finds in texts, in characters of the original text."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from kerasllm.data.tag_schemes import Spans
from kerasllm.data.word_windows import NO_TOKEN, WordWindows, cut_texts
from kerasllm.evaluation.tag_decoding import Decoded, decode_tags, span_probabilities
from kerasllm.models.token_classifier import TokenClassifier, word_logits
from kerasllm.models.token_outputs import token_logits


class Prepared(NamedTuple):
    """Texts, cut into words and windows of tokens."""

    texts: Sequence[str]
    words: list[list[tuple[int, int]]]
    windows: WordWindows


def prepare_texts(model: TokenClassifier, texts: Sequence[str]) -> Prepared:
    """Cuts texts into words and windows, as a model reads them."""
    words = [model.tagging.joins.words(text) for text in texts]
    windows = cut_texts(model.tokenizer, texts, words, model.max_length, model.stride)
    return Prepared(texts, words, windows)


def tag_texts(
    model: TokenClassifier,
    texts: Sequence[str],
    *,
    prepared: Prepared | None = None,
    logits: Callable[..., np.ndarray] | None = None,
) -> list[dict[str, Any]]:
    """Finds spans in texts.

    Args:
        model: The model.
        texts: The texts.
        prepared: What `prepare_texts` gives of them. Defaults to `None`: they are prepared now.
        logits: Computes the outputs of all tokens of rows, as `token_logits` does of a model.
            Defaults to `None`: that.

    Returns:
        For each text `text`; `spans`, each with `start`, `end`, `text`, `label` and `probability`,
        in order; and `tokens` and `tags`, its words and their tags.
    """
    texts, words, windows = prepared or prepare_texts(model, texts)
    rows = windows.tokens
    found = logits(rows) if logits else token_logits(model, rows)
    starts = np.repeat(windows.offsets[:-1], np.diff(windows.word_offsets))
    places = np.where(windows.word_tokens == NO_TOKEN, NO_TOKEN, starts + windows.word_tokens)
    offsets = np.concatenate([[0], np.cumsum(list(map(len, words)))]).astype(np.int64)
    decoded = decode_tags(word_logits(found, places, model.tags), offsets, model.tags)
    return described(model, texts, words, offsets, decoded)


def described(
    model: TokenClassifier,
    texts: Sequence[str],
    words: Sequence[Sequence[tuple[int, int]]],
    offsets: np.ndarray,
    decoded: Decoded,
) -> list[dict[str, Any]]:
    """Returns what the tags of words mean, as `tag_texts` does."""
    spans = model.tags.spans(decoded.tags, offsets)
    chances = span_probabilities(decoded, spans.starts, spans.ends)
    places = list(itertools.chain.from_iterable(words))
    ends = np.searchsorted(spans.sentences, np.arange(len(texts)), side="right")
    found, first = [], 0
    for number, text in enumerate(texts):
        last = int(ends[number])
        mine = range(first, last)
        tags = decoded.tags[offsets[number] : offsets[number + 1]]
        found.append(
            {
                "text": text,
                "spans": [_span(model, text, spans, chances, places, one) for one in mine],
                "tokens": [text[start:end] for start, end in words[number]],
                "tags": [model.labels.names[tag] for tag in tags],
            }
        )
        first = last
    return found


def _span(
    model: TokenClassifier,
    text: str,
    spans: Spans,
    chances: np.ndarray,
    places: Sequence[tuple[int, int]],
    number: int,
) -> dict[str, Any]:
    start, end = places[spans.starts[number]][0], places[spans.ends[number] - 1][1]
    return {
        "start": start,
        "end": end,
        "text": text[start:end],
        "label": model.tags.types[spans.types[number]],
        "probability": float(chances[number]),
    }


def tag_stream(
    model: TokenClassifier, texts: Iterable[str], *, chunk: int = 2048
) -> Iterator[dict[str, Any]]:
    """Finds spans in texts as they come, in memory that does not grow with their number.

    While some are computed, the next ones are prepared.

    Args:
        model: The model.
        texts: The texts, read as they are needed.
        chunk: Texts that are computed together. With `1` a text is answered before the next one is
            read. Defaults to `2048`.

    Yields:
        What `tag_texts` gives, in the order of the texts.
    """
    from kerasllm.models.classify import ahead, chunks

    def ready(some: list[str]) -> Prepared:
        return prepare_texts(model, some)

    groups = chunks(texts, chunk)
    for prepared in map(ready, groups) if chunk == 1 else ahead(ready, groups):
        yield from tag_texts(model, prepared.texts, prepared=prepared)
