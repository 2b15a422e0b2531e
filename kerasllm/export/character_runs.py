"""What a tokenizer makes of each character, as two small tables that a graph can look up.

A normalizer and a splitter that look at one character at a time are known when every character of
Unicode has been shown to them. Neighbours mostly fare alike, so that a few thousand runs of them
say it all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

SPACE = ord(" ")
ITSELF = -1
NOTHING = 0

_BLOCK = 256
_SURROGATES = range(0xD800, 0xE000)


@dataclass(frozen=True, eq=False)
class CharacterRuns:
    """What becomes of each character.

    Attributes:
        starts: Where each run of characters that fare alike starts, int32 `[runs]`, ascending.
        patterns: What becomes of a character of each run, int32 `[runs, width]`: characters one
            after the other, `SPACE` between words, `ITSELF`, and `NOTHING` in what is left over.
    """

    starts: np.ndarray
    patterns: np.ndarray

    @classmethod
    def of(cls, words: Callable[[str], list[str]]) -> CharacterRuns:
        """Asks about every character.

        Args:
            words: Gives the normalized words of a text, looking at one character at a time.
        """
        return cls.of_patterns(_patterns(words))

    @classmethod
    def of_patterns(cls, patterns: Iterable[tuple[int, tuple[int, ...]]]) -> CharacterRuns:
        """Makes runs from ascending start characters and what each run maps to."""
        runs = [(0, ())]
        for code, pattern in patterns:
            if pattern != runs[-1][1]:
                runs.append((code, pattern))
        table = np.full((len(runs), max(len(pattern) for _, pattern in runs)), NOTHING, np.int32)
        for row, (_, pattern) in zip(table, runs):
            row[: len(pattern)] = pattern
        return cls(np.array([start for start, _ in runs], np.int32), table)

    def pattern(self, code: int) -> tuple[int, ...]:
        """Returns what one character maps to."""
        row = self.patterns[np.searchsorted(self.starts, code, side="right") - 1]
        return tuple(int(each) for each in row if each != NOTHING)

    def changed(self, patterns: Mapping[int, tuple[int, ...]]) -> CharacterRuns:
        """Returns runs in which some characters become something else."""
        codes = sorted({*self.starts.tolist(), *patterns, *(code + 1 for code in patterns)})
        return CharacterRuns.of_patterns(
            (code, patterns.get(code) or self.pattern(code)) for code in codes
        )


def _patterns(words: Callable[[str], list[str]]) -> Iterator[tuple[int, tuple[int, ...]]]:
    for start in range(0, 0x110000, _BLOCK):
        if start in _SURROGATES:
            continue
        block = [chr(code) for code in range(start, start + _BLOCK)]
        # A stretch of like characters, such as one that has no characters yet, fares as one.
        answer = words(f"a{''.join(block)}b")
        if answer == ["ab"]:
            yield start, ()
        elif answer == [f"a{''.join(block)}b"]:
            yield start, (ITSELF,)
        elif answer == ["a", *block, "b"]:
            yield start, (SPACE, ITSELF, SPACE)
        else:
            for character in block:
                becomes = " ".join(words(f"a{character}b"))[1:-1]
                yield (
                    ord(character),
                    tuple(ITSELF if each == character != " " else ord(each) for each in becomes),
                )
