"""The most important words of each class, over many texts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kerasllm.errors import CommandError
from kerasllm.explain.explanation import Explanation


@dataclass(frozen=True)
class MovingWord:
    """A word, in lower case, and how far it moves a class.

    Attributes:
        word: The word.
        score: The mean of its scores.
        spread: The standard deviation of its scores.
        count: How often it was read.
        texts: In how many texts.
    """

    word: str
    score: float
    spread: float
    count: int
    texts: int


@dataclass(frozen=True)
class MovingWords:
    """The words that move one class most.

    Attributes:
        group: The class.
        texts: How many texts it was explained in.
        up: The words that raise it most, the strongest first.
        down: The words that lower it most.
    """

    group: str
    texts: int
    up: tuple[MovingWord, ...]
    down: tuple[MovingWord, ...]

    def as_dict(self) -> dict[str, Any]:
        """Returns it as `json.dumps` takes it."""
        return asdict(self)


def words_that_move(
    explanations: Iterable[Explanation], *, least: int = 3, most: int = 15
) -> list[MovingWords]:
    """Returns the words that move each class most, for each class that was explained.

    Args:
        explanations: The explanations, each of a class that its text was predicted to have.
        least: How often a word must have been read; where no word was, once is enough. Defaults to
            `3`.
        most: The maximum number of words that are told of a class and a direction. Defaults to
            `15`.

    Raises:
        CommandError: If the explanations have nothing in common.
    """
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    texts: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    counts: dict[str, int] = defaultdict(int)
    for number, found in enumerate(explanations):
        if found.group is None:
            raise CommandError(
                "The explained outputs differ from text to text",
                where="--global",
                fix="leave --global out to explain texts one by one",
            )
        counts[found.group] += 1
        for word in found.words:
            if word.score is not None:
                scores[found.group][word.word.casefold()].append(word.score)
                texts[found.group][word.word.casefold()].add(number)
    result = []
    for group in sorted(counts):
        read = scores[group]
        enough = {word: all_ for word, all_ in read.items() if len(all_) >= least} or read
        words = [
            MovingWord(
                word,
                float(np.mean(each)),
                float(np.std(each)),
                len(each),
                len(texts[group][word]),
            )
            for word, each in enough.items()
        ]
        words.sort(key=lambda word: -word.score)
        up = tuple(word for word in words[:most] if word.score > 0)
        down = tuple(word for word in words[::-1][:most] if word.score < 0)
        result.append(MovingWords(group, counts[group], up, down))
    return result
