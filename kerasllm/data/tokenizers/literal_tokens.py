"""Special tokens written in a text that mean their letters, beside others that are tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import numpy as np
import tokenizers

from kerasllm.data.tokenizers.spans import engine_spans

# Characters of private use: first those that stand for a special token as letters, then those by
# which the engine here knows it as a token.
FIRST_LETTER = 0xF0000
FIRST_TOKEN = 0x100000


class LiteralTokens:
    """Encodes texts in which some special tokens are letters and others are tokens.

    A text holds the character `letter_of(token)` where the letters of a special token are meant.
    The engine is the tokenizer's own, in which each special token has another name: so its letters
    are letters to it, with all that comes before and after them tokenized as ever.

    Args:
        content: The content of a `tokenizer.json`.
        special: The special tokens and their ids.

    Attributes:
        letters: The characters that stand for the letters of special tokens, and these.

    Example:
        >>> literal = LiteralTokens(content, {"</s>": 2})
        >>> ids, spans = literal.encode_spans("a " + literal.letter_of("</s>") + " b</s>")
        >>> int((ids == 2).sum())
        1
    """

    def __init__(self, content: str, special: dict[str, int]):
        self._tokens = list(special)
        self.letters = {chr(FIRST_LETTER + n): token for n, token in enumerate(special)}
        names = {token: chr(FIRST_TOKEN + n) for n, token in enumerate(special)}
        self._names = names
        parts = json.loads(content)
        for token in parts.get("added_tokens", ()):
            token["content"] = names.get(token["content"], token["content"])
        _rename(parts["model"], names)
        self._engine = tokenizers.Tokenizer.from_str(json.dumps(parts, ensure_ascii=False))
        # One that the vocabulary of the model lacks has a new id under a new name.
        found = {self._engine.token_to_id(name): special[token] for token, name in names.items()}
        self._ids = found
        longest_first = sorted(special, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, (*self.letters, *longest_first))))

    def letter_of(self, token: str) -> str:
        """Returns the character that stands for the letters of a special token."""
        return chr(FIRST_LETTER + self._tokens.index(token))

    def encode_spans(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of a text and the characters that each stands for.

        Args:
            text: The text.

        Returns:
            As `TokenizerJson.encode_spans`; places are those in `text`.
        """
        pieces, starts, ends, at = [], [], [], 0
        for match in self._pattern.finditer(text):
            _append(pieces, starts, ends, text[at : match.start()], range(at, match.start()))
            found = match[0]
            piece = self.letters.get(found) or self._names[found]
            pieces.append(piece)
            starts += [match.start()] * len(piece)
            ends += [match.end()] * len(piece)
            at = match.end()
        _append(pieces, starts, ends, text[at:], range(at, len(text)))
        ids, spans, _ = engine_spans(self._engine, ["".join(pieces)])
        ids = np.array([self._ids.get(id, id) for id in ids.tolist()], np.int32)
        first, last = np.array([*starts, len(text)]), np.array([0, *ends])
        spans = spans.astype(np.int64)
        begins, stops = first[spans[:, 0]], last[spans[:, 1]]
        return ids, np.stack([begins, np.maximum(begins, stops)], axis=1)


def _rename(model: dict, names: dict[str, str]) -> None:
    """Renames tokens in the vocabulary that a model could make out of letters."""
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(token, token): id for token, id in vocabulary.items()}
    elif isinstance(vocabulary, list):
        model["vocab"] = [[names.get(token, token), score] for token, score in vocabulary]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]


def _append(pieces: list, starts: list, ends: list, text: str, places: Sequence[int]) -> None:
    pieces.append(text)
    starts += places
    ends += [place + 1 for place in places]
