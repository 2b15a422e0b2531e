"""Confident learning: as in the paper, and planted errors are found first."""

import numpy as np
import pytest

from kerasllm.data.report.label_noise import confident_learning, cross_validated, enough_rows


def by_the_paper(probabilities, labels):
    """The confident joint and the joint of Northcutt et al. (2021), equations 1 to 3, in loops."""
    rows, count = probabilities.shape
    thresholds = [
        np.mean([probabilities[row, j] for row in range(rows) if labels[row] == j])
        for j in range(count)
    ]
    joint, errors = np.zeros((count, count)), set()
    for row in range(rows):
        confident = [j for j in range(count) if probabilities[row, j] >= thresholds[j]]
        if confident:
            likely = max(confident, key=lambda j: probabilities[row, j])
            joint[labels[row], likely] += 1
            if likely != labels[row]:
                errors.add(row)
    estimated = np.zeros_like(joint)
    for i in range(count):
        for j in range(count):
            estimated[i, j] = joint[i, j] / joint[i].sum() * np.sum(labels == i)
    return estimated / estimated.sum(), errors


@pytest.mark.parametrize("seed", range(5))
def test_the_joint_is_that_of_the_paper(seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, 200)
    logits = random.normal(0, 1, (200, 4)) + 2 * np.eye(4)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    joint, errors = by_the_paper(probabilities, labels)
    found = confident_learning(probabilities, labels)
    np.testing.assert_allclose(found.joint, joint)
    assert set(found.rows.tolist()) == errors
    assert found.share == pytest.approx(1 - np.trace(joint))


def test_planted_errors_come_first():
    random = np.random.default_rng(0)
    true = random.integers(0, 3, 900)
    features = random.normal(0, 1, (900, 20)) + 3.5 * np.eye(3, 20)[true]
    labels = true.copy()
    planted = random.choice(900, 45, replace=False)
    labels[planted] = (labels[planted] + 1) % 3
    found = confident_learning(cross_validated(features, labels), labels)
    first = found.rows[:45]
    right = np.isin(first, planted)
    assert right.sum() >= 30 and right.mean() > 0.9
    assert (found.suggested[:45][right] == true[first[right]]).mean() > 0.95
    assert found.share == pytest.approx(0.05, abs=0.04)


def test_rows_of_a_rare_label_are_left_out():
    assert enough_rows(np.array([0] * 5 + [1] * 4)).tolist() == [True] * 5 + [False] * 4
