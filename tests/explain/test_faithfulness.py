"""Deletion, insertion and occlusion on an output that is known."""

import numpy as np
import pytest

from kerasllm.explain.faithfulness import faithfulness_of, occlusion


class Sum:
    """The output is the sum of the weights of the words that are there."""

    def __init__(self, weights, offset=0.0):
        self.weights, self.count = np.array(weights, float), len(weights)
        self.value, self.baseline_value = offset + self.weights.sum(), offset

    def with_words(self, kept):
        return self.baseline_value + kept @ self.weights


@pytest.mark.parametrize("sign", [1, -1])
def test_the_right_order_is_better_than_chance_and_the_reverse_is_worse(sign):
    path = Sum(sign * np.array([8.0, 0, 1, 0, 4, 0, 0, 2]), offset=3.0)
    scores = occlusion(path)
    assert scores == pytest.approx(path.weights)
    found, reverse = faithfulness_of(path, scores), faithfulness_of(path, -scores)
    assert found.deletion < 0.2 < found.random - found.random_std
    assert found.insertion == pytest.approx(1 - found.deletion)
    assert found.random == pytest.approx(0.5, abs=1e-9)
    assert reverse.deletion > 0.8 and reverse.insertion < 0.2
    assert found == faithfulness_of(path, scores)


def test_where_the_text_moves_nothing_there_is_no_figure():
    assert faithfulness_of(Sum([1.0]), np.array([1.0])) is None
    assert faithfulness_of(Sum([2.0, -2.0, 0.01]), np.array([2.0, -2.0, 0.01])) is None
