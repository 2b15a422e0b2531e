"""Hidden words filled in inside a graph, as outside of it."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasllm.export.graph_encoder import GraphEncoder
from kerasllm.export.graph_word_piece import GraphWordPiece
from kerasllm.models.masked_lm import MaskedLM
from kerasllm.tasks.task import find

REFERENCE = Path(__file__).parents[1] / "reference" / "masked_lms" / "bert"


def test_texts_are_filled_in_as_outside_of_the_graph():
    model = MaskedLM.from_preset(REFERENCE)
    head = find("masked_lm").head(model)
    graph = GraphEncoder(model, head, GraphWordPiece(model.tokenizer))
    texts = ["The [MASK] was very [MASK]  good .", "no mask", "[MASK]", "é [MASK], dull"]
    found = graph.functions["serving_default"](tf.constant(texts))
    filled = [each.decode() for each in found["filled"].numpy()]
    expected = model.fill(texts)
    assert filled == [one["filled"] for one in expected]
    assert found["words"].shape == (4, 2, 5)
    for row, one in enumerate(expected):
        for place, mask in enumerate(one["masks"]):
            words = [word["word"] for word in mask["words"]]
            assert [each.decode() for each in found["words"][row, place].numpy()] == words
            chances = [word["probability"] for word in mask["words"]]
            np.testing.assert_allclose(found["probabilities"][row, place], chances, atol=1e-5)
