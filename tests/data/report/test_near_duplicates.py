"""Near duplicates by MinHash: what is alike is paired, what is not is not."""

import random

import numpy as np
import pytest

from kerasllm.data.report.near_duplicates import Sketches, groups_of, plain

pytest.importorskip("rensa")


def _sentences(count: int) -> list[str]:
    draw = random.Random(0)
    words = [
        "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9)))
        for _ in range(2000)
    ]
    return [" ".join(draw.choices(words, k=14)) for _ in range(count)]


def test_small_changes_are_found_and_nothing_else():
    texts = _sentences(3000)
    changed = {}
    for row in range(0, 300, 3):
        words = texts[row].split()
        words[row % len(words)] = "changed"
        changed[row] = len(texts)
        texts.append(" ".join(words))
    sketches = Sketches()
    for start in range(0, len(texts), 500):
        sketches.add(texts[start : start + 500])
    found = {tuple(pair) for pair in sketches.pairs().tolist()}
    expected = set(changed.items())
    assert len(found & expected) >= 97
    assert len(found - expected) <= 1


def test_short_texts_and_none_at_all():
    sketches = Sketches()
    assert len(sketches.pairs()) == 0
    sketches.add(["no", "", "no", "yes"])
    assert len(sketches.pairs()) == 0


def test_groups_are_named_by_their_first_row():
    pairs = np.array([[1, 4], [4, 6], [2, 3]])
    assert groups_of(pairs, 7).tolist() == [0, 1, 2, 2, 1, 5, 1]


def test_plain_text():
    assert plain("  It's\n GOOD! ") == "it s good"
