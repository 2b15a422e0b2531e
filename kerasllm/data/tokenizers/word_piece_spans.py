"""Where WordPiece's tokens stand in ordinary text, from the lengths of words and tokens alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tokenizers

from kerasllm.data.tokenizers.token_rows import row_offsets

_OTHER, _BETWEEN, _LETTER, _MARK = range(4)


class WordPieceSpans:
    """Finds the spans of WordPiece tokens in texts where no character is removed or grows.

    There a word is a run of letters and digits, or one mark of punctuation, and a token stands for
    as many characters as it has. An unknown token is the whole word.

    Args:
        engine: The reference, which tells what each character is.
        characters: The code points to ask about; a text with others is left to the reference.
        vocabulary: The tokens in the order of their ids.
        prefix: What tokens begin with that continue a word.
        unknown_token: The token of words that the vocabulary cannot spell.
    """

    def __init__(
        self,
        engine: tokenizers.Tokenizer,
        characters: Sequence[int],
        vocabulary: Sequence[str],
        prefix: str,
        unknown_token: str,
    ):
        self._kinds = np.full(max(characters) + 2, _OTHER, np.uint8)
        for code in characters:
            self._kinds[code] = _kind(engine, chr(code))
        self._unknown = np.array([token == unknown_token for token in vocabulary])
        continues = np.array([token.startswith(prefix) for token in vocabulary])
        self._continues = continues & ~self._unknown
        lengths = np.fromiter(map(len, vocabulary), np.int64, len(vocabulary))
        self._lengths = lengths - len(prefix) * self._continues

    def holds(self, texts: Sequence[str]) -> np.ndarray:
        """Returns which texts have such characters only, bool `[len(texts)]`."""
        kinds = self._kinds_of(texts)
        ends = row_offsets(np.fromiter(map(len, texts), np.int64, len(texts)) + 1)[1:]
        held = np.ones(len(texts), bool)
        held[np.searchsorted(ends, np.flatnonzero(kinds[1:-1] == _OTHER), side="right")] = False
        return held

    def spans(self, texts: Sequence[str], ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Returns the spans of tokens.

        Args:
            texts: Texts that it holds.
            ids: Their tokens one after the other, int32 `[tokens]`.
            offsets: Where each text's tokens start, int64 `[texts + 1]`.

        Returns:
            Where each token starts and ends in its text, int32 `[tokens, 2]`.
        """
        kinds = self._kinds_of(texts)
        letter, mark = kinds == _LETTER, kinds[1:-1] == _MARK
        word_starts = np.flatnonzero((letter[1:-1] & ~letter[:-2]) | mark)
        word_ends = np.flatnonzero((letter[1:-1] & ~letter[2:]) | mark) + 1
        text_starts = row_offsets(np.fromiter(map(len, texts), np.int64, len(texts)) + 1)[:-1]
        first = ~self._continues[ids]
        word = np.cumsum(first) - 1
        ends = np.cumsum(self._lengths[ids])
        starts = ends - self._lengths[ids]
        # From places in all tokens joined to places in all texts joined, and then in each text.
        shift = (word_starts - starts[first])[word] - np.repeat(text_starts, np.diff(offsets))
        spans = np.stack([starts + shift, ends + shift], axis=1).astype(np.int32)
        unknown = np.flatnonzero(self._unknown[ids])
        words = word[unknown]
        spans[unknown, 1] = spans[unknown, 0] + (word_ends - word_starts)[words]
        return spans

    def _kinds_of(self, texts: Sequence[str]) -> np.ndarray:
        """Returns the kinds of all characters, with a line feed around each text."""
        codes = np.frombuffer("\n".join(["", *texts, ""]).encode("utf-32-le"), np.uint32)
        return self._kinds.take(codes, mode="clip")


def _kind(engine: tokenizers.Tokenizer, character: str) -> int:
    """Asks the reference what a character between two letters does."""
    normalized = engine.normalizer.normalize_str(f"a{character}b")
    words = [word for word, _ in engine.pre_tokenizer.pre_tokenize_str(normalized)]
    kind = {1: _LETTER, 2: _BETWEEN, 3: _MARK}.get(len(words), _OTHER)
    return kind if sum(map(len, words)) == (2 if kind == _BETWEEN else 3) else _OTHER
