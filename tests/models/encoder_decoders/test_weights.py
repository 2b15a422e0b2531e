"""What a file of weights holds is used, or refused by name."""

import numpy as np
import pytest
import references_of_pairs as references

from kerasllm.errors import PresetError
from kerasllm.models.encoder_decoders import load_backbone

FC1 = "model.encoder.layers.0.fc1.weight"
SHARED = "model.shared.weight"


def _changed(name, folder, **tensors):
    """Copies a reference with tensors replaced, added, or with `None` taken out."""
    held = {**references.tensors_of(name), **tensors}
    return references.copy(name, folder, {k: v for k, v in held.items() if v is not None})


@pytest.mark.parametrize(
    ("name", "tensors", "message"),
    [
        ("bart", {FC1: None}, f"tensor {FC1} is missing"),
        ("bart", {FC1: np.zeros((3, 16), "float32")}, r"has the shape \(3, 16\)"),
        ("bart", {"adapter.weight": np.zeros(3, "float32")}, "adapter.weight is not part of"),
        ("bart", {SHARED: None}, f"tensor {SHARED} is missing"),
        ("bart", {SHARED: np.zeros((90, 16), "float32")}, "vocab_size is 96"),
        ("bart", {"lm_head.weight": np.zeros((96, 16), "float32")}, "tie_word_embeddings is true"),
        (
            "bart",
            {"model.encoder.embed_tokens.weight": np.zeros((96, 16), "float32")},
            "share their embeddings",
        ),
        ("bart", {"encoder.layers.0.fc1.weight": np.zeros(3, "float32")}, "occurs twice"),
        ("bart", {"final_logits_bias": np.zeros((1, 5), "float32")}, "the vocabulary has 96"),
        (
            "marian",
            {"model.encoder.embed_positions.weight": np.ones((32, 16), "float32")},
            "holds no sinusoids",
        ),
        ("t5", {"lm_head.weight": np.zeros((96, 16), "float32")}, "tie_word_embeddings is true"),
    ],
)
def test_weights_that_do_not_fit_are_named(name, tensors, message, tmp_path):
    folder = _changed(name, tmp_path, **tensors)
    with pytest.raises(PresetError, match=message):
        load_backbone(folder)


def test_copies_of_the_embeddings_and_bare_names_are_read(tmp_path):
    held = references.tensors_of("bart")
    bare = {name.removeprefix("model."): value for name, value in held.items()}
    # As the first transformers wrote it: embeddings at each place of their use.
    for place in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"):
        bare[place] = bare["shared.weight"].copy()
    del bare["shared.weight"]
    model = references.without_tokenizer(references.copy("bart", tmp_path, bare))
    assert references.error_of(model, "bart") < 1e-4


def test_a_t5_reads_what_its_first_files_hold_besides(tmp_path):
    name = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    folder = _changed(
        "t5",
        tmp_path,
        **{
            name: np.ones((32, 4), "float32"),
            "lm_head.weight": references.tensors_of("t5")["shared.weight"].copy(),
        },
    )
    model = references.without_tokenizer(folder)
    assert references.error_of(model, "t5") < 1e-4
    assert model.output_embedding.tie_weights
