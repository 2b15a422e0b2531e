"""`TrainedModel.explain` does what the command does."""

import pytest

import kerasllm
from kerasllm.errors import CommandError


def test_explanations_in_python(toy_run):
    run = kerasllm.load(toy_run)
    text = "dull film with a weak plot and it is awful ."
    [found] = run.explain(text, checks=False)
    assert found.target == "negative" and found.predicted.startswith("negative (")
    assert {word.word for word in found.strongest(2)} == {"dull", "weak"}
    assert "".join(piece for piece, _ in found.pieces()) == text
    again = run._trained.explainer()
    assert run._trained.explainer() is again
    model = run._trained._in_float32
    bias = model.weights[-1]
    bias.assign(bias + 1)
    [trained] = run.explain(text, checks=False)
    assert trained.value == pytest.approx(found.value + 1, abs=1e-4)
    bias.assign(bias - 1)
    with pytest.raises(CommandError, match="no label 'good'"):
        run.explain([text], target="good")
