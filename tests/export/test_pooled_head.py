"""A head on the mean of all tokens: sentence-transformers' layout, and KerasHub's with a head."""

import contextlib
import importlib.util
import io
import json
import re

import keras_hub
import numpy as np
import pytest
import safetensors.numpy
import tokenizers

from kerasllm.errors import CommandError
from kerasllm.export import run_transformers
from kerasllm.export.card import write_card
from kerasllm.export.formats import Options, load_format
from kerasllm.export.parity import compare
from kerasllm.export.source import Source
from kerasllm.export.transformers import has_transformers
from kerasllm.models import bert_classifier
from kerasllm.tasks.task import find

TEXTS = [
    "a good great film .",
    "awful",
    "the plot is dull and weak , but the music is bright ! " * 3,
    "",
]
OPTIONS = Options()


@pytest.fixture(scope="module")
def source(toy_preset):
    model = bert_classifier(
        toy_preset,
        labels=["bad", "good"],
        pooling="mean",
        max_length=24,
        dropout=0.0,
        precision="float32",
    )
    dense = model.task.output_dense
    dense.kernel.assign(np.random.default_rng(3).normal(0, 1, dense.kernel.shape))
    dense.bias.assign([0.25, -0.5])
    return Source(find("text_classification"), model, "toy", 24, TEXTS)


def export(source, format, folder):
    chosen = load_format(format)
    chosen.refuse(source, OPTIONS)
    chosen.write(source, folder, OPTIONS)
    found = chosen.predict(source, folder, OPTIONS)
    return compare(source.head, format, "float32", source.expected, found)


@pytest.mark.parametrize("format", ["saved_model", "transformers", "litert", "onnx", "keras_hub"])
def test_every_other_format_holds_it(source, format, tmp_path):
    parity = export(source, format, tmp_path)
    assert parity.holds and parity.largest_difference < 1e-5
    assert np.ptp(source.expected, axis=0).max() > 0.05


def test_a_keras_file_is_refused_with_what_holds_it(source, tmp_path):
    with pytest.raises(CommandError, match="no class for the head") as caught:
        export(source, "keras", tmp_path)
    assert caught.value.fix == "use --format keras_hub, saved_model or onnx"


@pytest.fixture(scope="module")
def folder(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sentence_transformers")
    load_format("transformers").write(source, folder, OPTIONS)
    return folder


def test_the_folder_is_one_of_sentence_transformers(source, folder):
    def read(name):
        return json.loads((folder / name).read_text())

    modules = read("modules.json")
    kinds = [one["type"].removeprefix("sentence_transformers.models.") for one in modules]
    assert kinds == ["Transformer", "Pooling", "Dense"]
    assert [one["path"] for one in modules] == ["", "1_Pooling", "2_Dense"]
    assert read("sentence_bert_config.json") == {"max_seq_length": 24, "do_lower_case": False}
    pooling = read("1_Pooling/config.json")
    assert pooling["word_embedding_dimension"] == 32 and pooling["pooling_mode_mean_tokens"]
    assert sum(on is True for name, on in pooling.items() if name.startswith("pooling")) == 1
    dense = read("2_Dense/config.json")
    assert (dense["in_features"], dense["out_features"], dense["bias"]) == (32, 2, True)
    assert dense["activation_function"] == "torch.nn.modules.linear.Identity"
    tensors = safetensors.numpy.load_file(folder / "2_Dense" / "model.safetensors")
    kernel = np.asarray(source.model.task.output_dense.kernel)
    np.testing.assert_array_equal(tensors["linear.weight"], kernel.T)
    np.testing.assert_array_equal(tensors["linear.bias"], [0.25, -0.5])
    assert read("config.json")["architectures"] == ["BertModel"]
    engine = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = [row.tolist() for row in source.tokens.ids]
    assert [one.ids for one in engine.encode_batch(TEXTS)] == ids


def test_the_card_shows_both_ways(source, folder):
    format = load_format("transformers")
    parity = compare(source.head, "transformers", "float32", source.expected, source.expected)
    card = write_card(source, "transformers", format, OPTIONS, [parity], {})
    assert "library_name: sentence-transformers" in card
    codes = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert 'SentenceTransformer("./").encode(texts)' in codes[0]
    assert "AutoModel.from_pretrained" in codes[1]
    for code in codes:
        compile(code, "README.md", "exec")


def test_the_code_of_the_keras_hub_card_runs(source, tmp_path, monkeypatch):
    format = load_format("keras_hub")
    format.write(source, tmp_path, OPTIONS)
    assert isinstance(
        keras_hub.models.Backbone.from_preset(str(tmp_path)), keras_hub.models.BertBackbone
    )
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", format.usage(source, OPTIONS), re.DOTALL)[1]
    code = re.sub("texts = .*", f"texts = {TEXTS!r}", code)
    names, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), names)
    assert len(printed.getvalue().splitlines()) == len(TEXTS)
    np.testing.assert_allclose(names["outputs"]["probabilities"], source.expected, atol=1e-5)


@pytest.mark.skipif(not has_transformers(), reason="transformers and torch are not installed")
def test_transformers_gives_the_same_logits(source, folder):
    logits, lengths = run_transformers.logits_of(folder, TEXTS)
    assert lengths.tolist() == source.tokens.lengths.tolist()
    found = source.head.outputs(logits)["probabilities"]
    np.testing.assert_allclose(found, source.expected, atol=1e-5)


@pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None,
    reason="sentence-transformers is not installed",
)
def test_sentence_transformers_gives_the_same_logits(source, folder):
    from sentence_transformers import SentenceTransformer

    logits = SentenceTransformer(str(folder)).encode(TEXTS)
    found = source.head.outputs(logits)["probabilities"]
    np.testing.assert_allclose(found, source.expected, atol=1e-5)
