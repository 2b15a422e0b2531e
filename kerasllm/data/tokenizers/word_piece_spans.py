"""Where the tokens of plain ASCII texts stand, from the lengths of words and tokens alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tokenizers

from kerasllm.data.tokenizers.token_rows import row_offsets

_BETWEEN, _LETTER, _MARK, _REMOVED = range(4)


class WordPieceSpans:
    """Finds the spans of WordPiece tokens in texts of ASCII.

    There a word is a run of letters and digits, or one mark of punctuation, and a token has as
    many characters as it is long. An unknown token is the whole word.

    Args:
        engine: The reference, which tells what each character is.
        vocabulary: The tokens in the order of their ids.
        prefix: What tokens begin with that continue a word.
        unknown_token: The token of words that the vocabulary cannot spell.
    """

    def __init__(
        self,
        engine: tokenizers.Tokenizer,
        vocabulary: Sequence[str],
        prefix: str,
        unknown_token: str,
    ):
        kinds = [_kind(engine, chr(code)) for code in range(0x80)]
        self._kinds = bytes(kinds).ljust(256, b"\0")
        self._removed = bytes(code for code, kind in enumerate(kinds) if kind == _REMOVED)
        self._unknown = np.array([token == unknown_token for token in vocabulary])
        continues = np.array([token.startswith(prefix) for token in vocabulary])
        self._continues = continues & ~self._unknown
        lengths = np.fromiter(map(len, vocabulary), np.int64, len(vocabulary))
        self._lengths = lengths - len(prefix) * self._continues

    def holds(self, texts: Sequence[str]) -> np.ndarray:
        """Returns which texts are ASCII without characters that are removed from words, bool
        `[len(texts)]`."""
        held = np.fromiter(map(str.isascii, texts), bool, len(texts))
        # Rarely does any text hold such a character.
        joined = "".join(texts).encode()
        if len(joined.translate(None, self._removed)) < len(joined):
            for row in np.flatnonzero(held):
                content = texts[row].encode()
                held[row] = len(content.translate(None, self._removed)) == len(content)
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
        kinds = np.frombuffer("\n".join(["", *texts, ""]).encode().translate(self._kinds), np.uint8)
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


def _kind(engine: tokenizers.Tokenizer, character: str) -> int:
    """Asks the reference what a character between two letters does."""
    normalized = engine.normalizer.normalize_str(f"a{character}b")
    words = [word for word, _ in engine.pre_tokenizer.pre_tokenize_str(normalized)]
    if len(words) == 1:
        return _REMOVED if words == ["ab"] else _LETTER
    return _BETWEEN if len(words) == 2 else _MARK
