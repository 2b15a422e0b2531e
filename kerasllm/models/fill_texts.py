"""The most probable words in the places of a text that are masked."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from kerasllm.data.length_batches import in_length_batches
from kerasllm.data.masked_rows import POSITIONS
from kerasllm.data.rows import TokensInMemory, model_inputs
from kerasllm.models.masked_lm import MaskedLM

N_BEST = 5
"""How many words are told of each place, unless it is told."""

MASKS = ("[MASK]", "<mask>")
"""How a masked word is written, regardless of the model's own token for it."""

_LENGTH_STEP = 8


def fill_texts(
    model: MaskedLM, texts: Sequence[str], *, n_best: int = N_BEST
) -> list[dict[str, Any]]:
    """Fills in the masked words of texts, each by itself.

    A place is read with as much of the text around it as the model takes.

    Args:
        model: The model.
        texts: Texts with `[MASK]`, or the model's own token, where a word is hidden.
        n_best: How many words there are for each place. Defaults to `5`.

    Returns:
        For each `text`; `filled`, the text with the most probable word in each place; and `masks`,
        of each place `start`, its first character, `end`, the one after its last, and `words`, the
        most probable first, each with `word`, `token` and `probability`.
    """
    places = [mask_places(model, text) for text in texts]
    ids, masks = _tokenized(model, texts, places)
    rows, positions, owners = _windows(model, ids, masks)
    found = _most_probable(model, rows, positions, n_best)
    words: list[list] = [[] for _ in texts]
    for owner, candidates in sorted(
        (pair for of_row in zip(owners, found) for pair in zip(*of_row)), key=lambda pair: pair[0]
    ):
        words[owner[0]].append(candidates)
    return [
        _described(model, text, spans, of_text)
        for text, spans, of_text in zip(texts, places, words, strict=True)
    ]


def fill_stream(
    model: MaskedLM, texts: Iterable[str], *, n_best: int = N_BEST, chunk: int = 2048
) -> Iterator[dict[str, Any]]:
    """Fills in the masked words of texts as they come.

    Args:
        model: The model.
        texts: The texts, read as they are needed.
        n_best: As for `fill_texts`. Defaults to `5`.
        chunk: Texts that are computed together. Defaults to `2048`.

    Yields:
        What `fill_texts` gives, in the order of the texts.
    """
    from kerasllm.models.classify import chunks

    for some in chunks(texts, chunk):
        yield from fill_texts(model, some, n_best=n_best)


def mask_places(model: MaskedLM, text: str) -> list[tuple[int, int]]:
    """Returns where words are hidden in a text: first characters, and those after the last."""
    found = []
    for token in dict.fromkeys([*MASKS, model.vocabulary.mask_token]):
        start = text.find(token)
        while start >= 0:
            found.append((start, start + len(token)))
            start = text.find(token, start + len(token))
    return sorted(found)


def _tokenized(model, texts, places) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns the tokens of each text without those around it, and the places of masks in them."""
    tokenizer, mask_id = model.tokenizer, model.vocabulary.mask_id
    parts, counts = [], []
    for text, spans in zip(texts, places, strict=True):
        edges = [0, *(edge for span in spans for edge in span), len(text)]
        own = [text[start:end] for start, end in zip(edges[::2], edges[1::2])]
        # The space before a masked word belongs to it.
        parts += [*(part.rstrip() for part in own[:-1]), own[-1]]
        counts.append(len(own))
    ids, offsets = tokenizer.encode(parts, 2**31 - 1)
    first = int(tokenizer.start_token_id is not None)
    last = int(tokenizer.end_token_id is not None)
    pieces = [ids[a + first : b - last] for a, b in itertools.pairwise(offsets)]
    found, masks, number = [], [], 0
    for count in counts:
        row: list[np.ndarray] = []
        at, own_masks = 0, []
        for piece in pieces[number : number + count]:
            if row:
                own_masks.append(at)
                row.append(np.array([mask_id], np.int32))
                at += 1
            row.append(piece)
            at += len(piece)
        number += count
        found.append(np.concatenate(row))
        masks.append(np.array(own_masks, int))
    return found, masks


def _windows(model, ids, masks) -> tuple[list, list, list]:
    """Returns rows of tokens, the places of masks in them, and whose they are: text and number."""
    tokenizer = model.tokenizer
    start = [] if tokenizer.start_token_id is None else [tokenizer.start_token_id]
    end = [] if tokenizer.end_token_id is None else [tokenizer.end_token_id]
    room = model.max_length - len(start) - len(end)
    rows, positions, owners = [], [], []
    for text, (tokens, own) in enumerate(zip(ids, masks, strict=True)):
        done = 0
        while done < len(own):
            # As many masks as fit into half of a row, in its middle.
            inside = own[done:]
            if len(tokens) > room:
                inside = inside[inside - inside[0] < max(room // 2, 1)]
            middle = (inside[0] + inside[-1]) // 2
            first = int(np.clip(middle - room // 2, 0, max(len(tokens) - room, 0)))
            rows.append(np.concatenate([start, tokens[first : first + room], end]).astype(np.int32))
            positions.append(inside - first + len(start))
            owners.append([(text, number) for number in range(done, done + len(inside))])
            done += len(inside)
    return rows, positions, owners


def _most_probable(model, rows, positions, n_best) -> list[list[list[tuple[int, float]]]]:
    """Returns tokens with their probabilities for each mask of each row."""
    if not rows:
        return []
    lengths = np.array([len(row) for row in rows])
    tokens = TokensInMemory(np.concatenate(rows), np.concatenate([[0], np.cumsum(lengths)]))
    found: list = [None] * len(rows)
    compute = model.most_probable(min(n_best, len(model.vocabulary.words)))
    for some in in_length_batches(lengths, model.prediction_batch):
        width = min(-(-int(lengths[some].max()) // _LENGTH_STEP) * _LENGTH_STEP, model.max_length)
        inputs = model_inputs(tokens, some, width, model.input_names, model.tokenizer.pad_token_id)
        most = max(len(positions[row]) for row in some)
        inputs[POSITIONS] = np.array(
            [np.pad(positions[row], (0, most - len(positions[row]))) for row in some], np.int32
        )
        given = {name: inputs[name] for name in model.input_names}
        chances, numbers = map(np.asarray, compute(given))
        for place, row in enumerate(some):
            found[row] = [
                list(zip(numbers[place, one].tolist(), chances[place, one].tolist()))
                for one in range(len(positions[row]))
            ]
    return found


def _described(model, text, spans, candidates) -> dict[str, Any]:
    masks = [
        {
            "start": start,
            "end": end,
            "words": [
                {
                    "word": model.vocabulary.text(number),
                    "token": model.vocabulary.tokens[number],
                    "probability": chance,
                }
                for number, chance in of_place
            ],
        }
        for (start, end), of_place in zip(spans, candidates, strict=True)
    ]
    filled, at = [], 0
    for mask in masks:
        filled += [text[at : mask["start"]], mask["words"][0]["word"]]
        at = mask["end"]
    return {"text": text, "filled": "".join([*filled, text[at:]]), "masks": masks}
