"""Words of a raw text, split by the classes of their characters.

The same few rules in NumPy here and in a graph (`kerasllm.export`): so a text has the same words
wherever a model reads it. Words of training data are their own; which pieces they are made of is
learned (`Joins`), so that a raw text is cut into words like those that the model was trained on.
"""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

SPACE, WORD, SINGLE, IDEOGRAPH, EXTEND = range(5)
"""Classes of characters: between words; of words; a piece of its own; one that is never joined to
others; and one that belongs to what is before it, such as an accent."""

_KNOWN = 0x33480
_TAGS = range(0xE0000, 0xE0200)
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_SCRIPTS_WITHOUT_SPACES = (
    *(range(0x0E00, 0x0EE0), range(0x1000, 0x10A0), range(0x1780, 0x1800)),
    *(range(0x2E80, 0x3000), range(0x3005, 0x3008), range(0x3040, 0x3100), range(0x31F0, 0x3200)),
    *(range(0x3400, 0x4DC0), range(0x4E00, 0xA000), range(0xF900, 0xFB00)),
    *(range(0x20000, 0x33480),),
)
LETTERS = 0
"""A piece of letters, in the keys of `Joins`, which no character of a text is."""
CODES = 1 << 21
"""More than there are characters."""


@functools.cache
def character_classes() -> np.ndarray:
    """Returns the class of each character, int8 `[characters]`; later ones are as the last."""
    found = np.full(max(_TAGS) + 2, SINGLE, np.int8)
    for code in (*range(_KNOWN), *_TAGS):
        character = chr(code)
        kind = unicodedata.category(character)
        if character.isspace() or kind[0] == "Z":
            found[code] = SPACE
        elif kind[0] == "M" or kind in ("Cc", "Cf"):
            found[code] = EXTEND
        elif kind[0] in "LN" or character == "_":
            found[code] = WORD
    found[_SKIN_TONES] = EXTEND
    for codes in _SCRIPTS_WITHOUT_SPACES:
        part = found[codes.start : codes.stop]
        part[part == WORD] = IDEOGRAPH
    return found


def codes_of(text: str) -> np.ndarray:
    """Returns the characters of a text, uint32 `[characters]`."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


class Joins:
    """Which pieces of a text are one word where no space is between them.

    A key is of two neighbours, the piece of letters and numbers or the character that each is, and
    whether a character has letters on both sides: so `3.5` and `U.S` can be words though a period
    after a word is none of it, and `'s` though `it` before it is another word.

    Args:
        keys: int, the keys of pieces that are joined. Defaults to none: each piece is a word.

    Example:

    >>> joins = Joins.learn([["@me", "it", "'s", "3.5", "m", "."], ["@you", "."]])
    >>> text = "@them: it's 4.5."
    >>> [text[start:end] for start, end in joins.words(text)]
    ['@them', ':', 'it', "'s", '4.5', '.']
    """

    def __init__(self, keys: Iterable[int] = ()):
        self.keys = np.array(sorted(keys), np.int64)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Joins) and np.array_equal(self.keys, other.keys)

    __hash__ = None

    @classmethod
    def learn(cls, sentences: Iterable[Sequence[str]]) -> Joins:
        """Learns which pieces the words of sentences are made of.

        Args:
            sentences: Their words.
        """
        joined: Counter[int] = Counter()
        apart: Counter[int] = Counter()
        cut: dict[str, _Pieces] = {}
        for sentence in sentences:
            before: _Pieces | None = None
            for word in sentence:
                if word not in cut:
                    cut[word] = _Pieces.of(word)
                pieces = cut[word]
                joined.update(pieces.inside)
                if before is not None and before.last is not None and pieces.first is not None:
                    if (key := pieces.after(before)) is not None:
                        apart[key] += 1
                    if before.last[0] == LETTERS and pieces.first[0] > 0 and pieces.first[1]:
                        # `'s` is one word as well where `it` is right before it.
                        joined[_key(pieces.first[0], LETTERS, True)] += 1
                before = pieces
        return cls(key for key, count in joined.items() if count > apart[key])

    def words(self, text: str, cuts: Sequence[int] = ()) -> list[tuple[int, int]]:
        """Returns where the words of a text begin and end.

        Args:
            text: The text.
            cuts: Where a word ends in any case. Defaults to nowhere.
        """
        starts, ends, kinds = _pieces(codes_of(text))
        if not len(starts):
            return []
        if len(self.keys) and len(starts) > 1:
            keys = _keys(starts, ends, kinds)
            joined = (keys >= 0) & np.isin(keys, self.keys)
            if len(cuts):
                joined &= ~np.isin(starts[1:], cuts)
            kept = np.append(True, ~joined)
            starts, ends = starts[kept], ends[np.append(kept[1:], True)]
        return list(zip(starts.tolist(), ends.tolist(), strict=True))


class _Pieces:
    """The pieces of a word, as far as `Joins` learns from them."""

    def __init__(self, inside: list[int], first: tuple | None, last: tuple | None):
        self.inside, self.first, self.last = inside, first, last

    @classmethod
    def of(cls, word: str) -> _Pieces:
        if word.isascii() and word.isalnum():
            return cls([], (LETTERS, False), (LETTERS, False))
        starts, ends, kinds = _pieces(codes_of(word))
        if not len(starts):
            return cls([], None, None)
        keys = _keys(starts, ends, kinds)
        several = len(starts) > 1
        first = (int(kinds[0]), several and kinds[1] == LETTERS and starts[1] == ends[0])
        last = (int(kinds[-1]), several and kinds[-2] == LETTERS and starts[-1] == ends[-2])
        return cls([key for key in keys.tolist() if key >= 0], first, last)

    def after(self, before: _Pieces) -> int | None:
        """Returns the key of the last piece of the word before and the first one of this."""
        (left, in_word), (right, goes_on) = before.last, self.first
        if left < 0 or right < 0 or (left != LETTERS and right == LETTERS and in_word):
            # `Mr. Smith` says nothing of `3.5`.
            return None
        infix = left == LETTERS and right != LETTERS and goes_on
        return _key(left, right, infix)


def _key(left, right, infix):
    return (left * CODES + right) * 2 + infix


def _pieces(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns where pieces start and end, and what each is: `LETTERS`, a character, or -1."""
    table = character_classes()
    classes = table[np.minimum(codes, len(table) - 1)]
    places = np.arange(len(codes))
    # What belongs to the character before it is of that one's class.
    base = np.maximum.accumulate(np.where(classes != EXTEND, places, 0))
    kinds = classes[base]
    # At the start of a text there is none.
    kinds[kinds == EXTEND] = SINGLE
    before = np.append(np.int8(SPACE), kinds[:-1])
    alone = (kinds == SINGLE) | (kinds == IDEOGRAPH)
    begins = (kinds != SPACE) & (
        (before == SPACE) | (alone & (base == places)) | ((kinds == WORD) & (before != WORD))
    )
    # An accent after a space begins nothing and is of the space: it is left out.
    starts = np.flatnonzero(begins)
    stops = np.flatnonzero(np.append(begins | (kinds == SPACE), True))
    ends = stops[np.searchsorted(stops, starts, side="right")]
    found = np.where(kinds[starts] == WORD, LETTERS, codes[starts].astype(np.int64))
    found = np.where(kinds[starts] == IDEOGRAPH, -1, found)
    return starts, ends, found


def _keys(starts: np.ndarray, ends: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Returns the key of each two neighbours, -1 where a space or an ideograph is between."""
    left, right = kinds[:-1], kinds[1:]
    beside = starts[1:] == ends[:-1]
    letters = kinds == LETTERS
    # Of a character: whether it has letters on both sides.
    both = np.zeros(len(kinds), bool)
    if len(kinds) > 2:
        both[1:-1] = letters[:-2] & letters[2:] & beside[:-1] & beside[1:] & ~letters[1:-1]
    infix = both[:-1] | both[1:]
    known = beside & (left >= 0) & (right >= 0)
    return np.where(known, _key(left.astype(np.int64), right.astype(np.int64), infix), -1)
