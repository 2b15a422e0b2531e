"""Integrated gradients are those of captum on the model of transformers, and add up."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.data.token_offsets import SPECIAL, TokenOffsets
from kerasllm.errors import JobError
from kerasllm.explain.embedded_model import EmbeddedModel
from kerasllm.explain.integrated_gradients import integrated_gradients
from kerasllm.explain.path import Path as Line
from kerasllm.models.decoder_forward import logits
from kerasllm.models.explained.output import ExplainedOutput

REFERENCE = Path(__file__).parents[1] / "reference"
EXPECTED = json.loads((REFERENCE / "explained.json").read_text(encoding="utf-8"))
DECODERS = ("gpt2", "llama", "qwen2")


def _graph(name):
    if name in DECODERS:
        from kerasllm.models import decoders

        backbone = decoders.load_backbone(REFERENCE / "decoders" / name)
        return backbone, lambda states: logits(backbone, states[:, -1])[:, 11]
    from kerasllm.models.text_classifier import TextClassifier

    model = TextClassifier.from_preset(REFERENCE / "classifiers" / name, precision="float32")
    return model.task, lambda outputs: outputs[:, 1]


def _line(graph, value, ids, baseline):
    ids, baseline = np.array(ids, np.int32), np.array(baseline)
    owners = np.where(ids == baseline, SPECIAL, 0).astype(np.int32)
    tokens = TokenOffsets(("",), ids, np.zeros_like(ids), owners, np.zeros((len(ids), 2), int))
    output = ExplainedOutput(tokens, graph, value, "one", "its logit", "one")
    replaced = int(baseline[owners != SPECIAL][0])
    return Line(EmbeddedModel(graph), output, replaced, np.where(owners == SPECIAL, -1, 0))


@pytest.mark.parametrize("name", EXPECTED)
def test_the_attributions_of_tokens_are_those_of_captum(name):
    graph, value = _graph(name)
    for row in EXPECTED[name]:
        found = integrated_gradients(_line(graph, value, row["ids"], row["baseline"]))
        assert np.abs(found.tokens - row["scores"]).max() < 1e-3
        assert found.relative_error < 1e-3


def test_steps_are_doubled_until_the_scores_add_up_or_it_is_refused():
    graph, value = _graph("bert")
    line = _line(graph, value, *(EXPECTED["bert"][0][key] for key in ("ids", "baseline")))
    assert integrated_gradients(line, steps=3, max_error=1.0).steps == 3
    with pytest.raises(JobError, match="do not add up") as caught:
        integrated_gradients(line, steps=2, max_error=1e-12)
    assert caught.value.fix == "use more steps: --steps 4"


def test_scores_that_add_up_by_chance_are_computed_with_more_steps():
    class Cancelling:
        """Two tokens whose derivatives are equal and opposite, and too wavy for few steps."""

        value, baseline_value, moved = 2.0, 1.0, 1.0
        text, baseline = tf.ones((3, 1)), tf.zeros((3, 1))

        def derivatives(self, shares):
            wave = 5 * np.cos(40 * shares)
            return np.stack([wave, -wave, np.ones_like(shares)], axis=1)

    found = integrated_gradients(Cancelling())
    assert found.steps > 16
    assert found.tokens == pytest.approx([np.sin(40) / 8, -np.sin(40) / 8, 1], abs=1e-3)
