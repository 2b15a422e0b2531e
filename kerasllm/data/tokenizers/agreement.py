"""Texts for which FastBertTokenizer provably splits words as Hugging Face `tokenizers` does."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import compress

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text
from tokenizers import normalizers, pre_tokenizers

LONGEST_WORD = 100
"""A longer word is the unknown token: in characters for the reference, in bytes for the other."""

# Characters that are asked about: ASCII, Latin, Greek, Cyrillic, Hebrew, Arabic, and punctuation
# and symbols. Those beyond are left to the reference: Chinese and its neighbours write no spaces,
# so that the check of word lengths would refuse nearly all such text.
_BLOCKS = (range(0x80), range(0xA0, 0x700), range(0x2000, 0x2300))
_LAST = 0x2300

# For `bytes.translate`: 1 for each byte that stands between words for certain.
_BETWEEN_WORDS = bytes(byte < 128 and not chr(byte).isalnum() for byte in range(256))


class TokenizerAgreement:
    """Knows for which texts the two libraries cut out the same words.

    The fast library folds case and normalizes by tables of its own. So each character is put
    between two letters and given to both libraries, as installed, and counts as common only if
    the same words come out. That says enough about a whole text because both normalize and
    classify one character at a time, with two exceptions, which are kept out:

    - canonical reordering (part of NFD) moves combining marks, so no combining mark is common;
    - a special token that is written in a text is one token for the reference, so such a text is
      not common.

    Both replace words of more than 100 characters by the unknown token, but the fast one counts
    bytes: a text that is not ASCII is common only if it has no longer stretch without a space or
    ASCII punctuation, and a character only if normalizing does not lengthen it.

    Args:
        lowercase: Whether text is lower-cased.
        strip_accents: Whether accents are removed; `None` follows `lowercase`.
        split_on_cjk: Whether Chinese characters are words by themselves.
        special_tokens: The special tokens.
    """

    def __init__(
        self,
        lowercase: bool,
        strip_accents: bool | None,
        split_on_cjk: bool,
        special_tokens: Sequence[str],
    ):
        self._special_tokens = tuple(special_tokens)
        self._common, self._piece = _ask_both(lowercase, strip_accents, split_on_cjk)
        self._ascii_table = (~self._common[:256]).tobytes()

    @property
    def characters(self) -> list[int]:
        """The code points that are common."""
        return np.flatnonzero(self._common).tolist()

    def holds(self, texts: Sequence[str]) -> np.ndarray:
        """Returns which texts are common ground, bool `[len(texts)]`."""
        common = np.zeros(len(texts), bool)
        ascii_only = np.fromiter(map(str.isascii, texts), bool, len(texts))
        for rows, check in (
            (ascii_only, self._ascii_problems),
            (~ascii_only, self._unicode_problems),
        ):
            if rows.any():
                common[rows] = ~self._rows_with_problems(list(compress(texts, rows)), check)
        return common

    def can_come_up(self, token: str) -> bool:
        """Whether a word of common text, or a piece of one, may be this token."""
        return self._piece.fullmatch(token) is not None

    def _rows_with_problems(
        self, texts: list[str], check: Callable[[str], np.ndarray]
    ) -> np.ndarray:
        """Looks at all texts at once: joined, because the work is a few passes of NumPy."""
        joined = "\n".join(texts)
        # A text ends where its line feed stands.
        ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)) + 1) - 1
        places = np.concatenate([check(joined), self._special_places(joined)])
        found = np.zeros(len(texts), bool)
        found[np.searchsorted(ends, places)] = True
        return found

    def _ascii_problems(self, joined: str) -> np.ndarray:
        problems = joined.encode("ascii").translate(self._ascii_table)
        return np.flatnonzero(np.frombuffer(problems, bool))

    def _unicode_problems(self, joined: str) -> np.ndarray:
        characters = np.frombuffer(joined.encode("utf-32-le"), np.uint32)
        strange = np.flatnonzero(~self._common.take(characters, mode="clip"))
        content = joined.encode()
        spaces = np.flatnonzero(np.frombuffer(content.translate(_BETWEEN_WORDS), bool))
        spaces = np.concatenate([[-1], spaces, [len(content)]])
        long = np.flatnonzero(np.diff(spaces) > LONGEST_WORD + 1)
        if not len(long):
            return strange
        # A byte that continues a character is no character of its own.
        first_bytes = (np.frombuffer(content, np.uint8) & 0xC0) != 0x80
        numbers = np.cumsum(first_bytes) - 1
        return np.concatenate([strange, numbers[spaces[long] + 1]])

    def _special_places(self, joined: str) -> np.ndarray:
        places = []
        for token in self._special_tokens:
            # To look for one character is far cheaper, and most text has no "[".
            if token[0] not in joined:
                continue
            place = joined.find(token)
            while place >= 0:
                places.append(place)
                place = joined.find(token, place + 1)
        return np.array(places, np.int64)


@functools.cache
def _ask_both(
    lowercase: bool, strip_accents: bool | None, split_on_cjk: bool
) -> tuple[np.ndarray, re.Pattern]:
    """Gives each character to both libraries.

    Returns:
        Which characters are common, bool `[_LAST + 1]`, the last for all beyond; and what tokens
        look like that common text can lead to.
    """
    asked = [
        chr(code) for block in _BLOCKS for code in block if not unicodedata.combining(chr(code))
    ]
    normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=split_on_cjk,
        strip_accents=strip_accents,
        lowercase=lowercase,
    )
    pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast_answers = _fast_words([f"a{character}b" for character in asked], lowercase)
    common = np.zeros(_LAST + 1, bool)
    # What words of common text are made of once it is normalized, and what is a word by itself.
    letters, marks = set(), set()
    for character, fast_answer in zip(asked, fast_answers):
        normalized = normalizer.normalize_str(f"a{character}b")
        words = [word for word, _ in pre_tokenizer.pre_tokenize_str(normalized)]
        longest = len(character.encode()) + len("ab")
        if words != fast_answer or len("".join(words).encode()) > longest:
            continue
        common[ord(character)] = True
        if len(words) == 3:
            marks.add(words[1])
        else:
            letters.update(*words)
    letters, marks = (re.escape("".join(sorted(found))) for found in (letters, marks))
    return common, re.compile(f"(##)?[{letters}]{{1,{LONGEST_WORD}}}|[{marks}]")


def _fast_words(texts: list[str], lowercase: bool) -> list[list[str]]:
    """Returns the words that FastBertTokenizer would look up: with no vocabulary to speak of, a
    word is one unknown token, and its offsets give it away."""
    normalizer = tf_text.FastBertNormalizer(lower_case_nfd_strip_accents=lowercase)
    splitter = tf_text.FastWordpieceTokenizer(vocab=["[UNK]", "\ue000"], token_out_type=tf.int32)
    normalized = normalizer.normalize(tf.constant(texts))
    _, starts, ends = splitter.tokenize_with_offsets(normalized)
    return [
        [text[start:end].decode() for start, end in zip(row_starts, row_ends)]
        for text, row_starts, row_ends in zip(normalized.numpy(), starts.to_list(), ends.to_list())
    ]
