"""Heads of tasks that export does not name: formats read what `Head` says, and nothing else."""

import contextlib
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from kerasllm.errors import CommandError
from kerasllm.export.card import write_card
from kerasllm.export.formats import Options, load_format
from kerasllm.export.graph_encoder import GraphEncoder
from kerasllm.export.parity import compare
from kerasllm.export.saved_model import graph_tokenizer
from kerasllm.export.warm_up import FILE_NAME as WARM_UP
from tests.export import other_heads
from tests.export.other_heads import PAIRS, TEXTS

HEADS = {
    "pair": (other_heads.pair_head, 3, PAIRS),
    "multi_label": (other_heads.multi_label_head, 3, TEXTS),
    "regression": (other_heads.regression_head, 1, TEXTS),
    "token": (other_heads.token_head, 2, TEXTS),
}
OPTIONS = Options()
ENGINES = ("onnx", "litert", "transformers")
OF_KERAS = ("keras", "keras_hub")


@pytest.fixture(scope="module")
def sources():
    made = {}

    def get(name):
        if name not in made:
            head, outputs, rows = HEADS[name]
            made[name] = other_heads.source(head(), outputs, rows)
        return made[name]

    return get


def export(source, format, folder):
    """Writes a format, and returns how far it is from the model."""
    chosen = load_format(format)
    chosen.refuse(source, OPTIONS)
    chosen.write(source, folder, OPTIONS)
    found = chosen.predict(source, folder, OPTIONS)
    return compare(source.head, format, "float32", source.expected, found)


@pytest.mark.parametrize("name", HEADS)
def test_what_is_expected_is_what_the_model_gives_each_row_alone(sources, name):
    source = sources(name)
    parts = []
    for row in range(len(source.rows)):
        inputs = source.tokens.inputs([row])
        raw = source.model.task({name: inputs[name] for name in source.input_names})
        found = np.asarray(source.head.outputs(raw)[source.head.compared])
        parts.extend(source.compared_in(found, source.tokens.lengths[[row]]))
    np.testing.assert_allclose(source.expected, np.concatenate(parts), atol=1e-5)
    # Which differ from row to row, or nothing would be compared.
    assert np.ptp(source.expected, axis=0).max() > 0.05


def test_a_pair_has_two_segments_that_count(sources):
    source = sources("pair")
    assert [row.max() for row in source.tokens.segments] == [1] * len(PAIRS)
    assert max(source.tokens.lengths) == other_heads.MAX_LENGTH
    segments = [np.zeros_like(row) for row in source.tokens.segments]
    without = replace(source)
    without.__dict__["tokens"] = replace(source.tokens, segments=segments)
    assert np.abs(without.expected - source.expected).max() > 0.01


@pytest.mark.parametrize("format", ["saved_model", *ENGINES, *OF_KERAS])
@pytest.mark.parametrize("name", ["pair", "multi_label", "regression", "token"])
def test_every_format_holds_every_head(sources, name, format, tmp_path):
    source = sources(name)
    if name == "token" and format in OF_KERAS:
        with pytest.raises(CommandError, match="no class for the head of this token classifier"):
            export(source, format, tmp_path)
        return
    parity = export(source, format, tmp_path)
    assert parity.holds, str(parity)
    assert parity.rows == (source.tokens.lengths.sum() if name == "token" else len(source.rows))


def graph_outputs(source, rows):
    tokenizer, _ = graph_tokenizer(source)
    graph = GraphEncoder(source.model, source.head, tokenizer, source.truncation)
    columns = [[row] for row in rows] if isinstance(rows[0], str) else rows
    texts = [tf.constant(list(column)) for column in zip(*columns, strict=True)]
    return graph.functions["serving_default"](*texts)


def test_outputs_of_tokens_have_one_width_in_a_graph(sources):
    source = sources("token")
    outputs = graph_outputs(source, TEXTS * 4)
    lengths = np.tile(source.tokens.lengths, 4)
    assert outputs["probabilities"].shape == (len(lengths), lengths.max(), 2)
    np.testing.assert_array_equal(outputs["tokens"].numpy().sum(1), lengths)
    found = source.compared_in(outputs["probabilities"].numpy(), lengths)
    expected = np.concatenate([source.expected] * 4)
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-5)
    assert graph_outputs(source, [""])["tokens"].shape == (1, 2)


def test_only_the_second_text_is_cut_where_the_model_says_so(sources, tmp_path):
    head, outputs, rows = HEADS["pair"]
    # The reference refuses a first text that leaves no room.
    rows = [row for row in rows if len(row[0].split()) < 6]
    source = other_heads.source(head(), outputs, rows)
    source.model.truncation = "only_second"
    longest_first = other_heads.source(head(), outputs, rows)
    both = [[row.tolist() for row in one.tokens.ids] for one in (source, longest_first)]
    ids, _ = graph_tokenizer(source)[0].pairs(
        *map(tf.constant, source.columns), source.max_length, "only_second"
    )
    assert ids.to_list() == both[0]
    assert export(source, "onnx", tmp_path).holds
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    assert content["truncation"]["strategy"] == "OnlySecond"


@pytest.mark.parametrize("format", ["saved_model", "onnx", "keras_hub"])
@pytest.mark.parametrize("name", ["pair", "regression"])
def test_the_code_of_the_card_runs(sources, name, format, tmp_path, monkeypatch):
    source, chosen = sources(name), load_format(format)
    chosen.write(source, tmp_path, OPTIONS)
    monkeypatch.chdir(tmp_path)
    usage = chosen.usage(source, OPTIONS).replace("FOLDER", str(tmp_path))
    code = re.search(r"```python\n(.*?)```", usage, re.DOTALL)[1]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue().strip()


def test_the_card_reads_the_head(sources):
    format = load_format("transformers")
    cards = {}
    for name in HEADS:
        source = sources(name)
        parity = compare(source.head, "onnx", "float32", source.expected, source.expected)
        cards[name] = write_card(source, "transformers", format, OPTIONS, [parity], {})
    assert "An estimator of the family Bert" in cards["regression"]
    assert "- unit: stars" in cards["regression"] and "values that agree" in cards["regression"]
    assert "function_to_apply='none'" in cards["regression"]
    assert "| number | label | threshold |" in cards["multi_label"]
    assert "| 1 | y | 0.4 |" in cards["multi_label"] and "top_k=None" in cards["multi_label"]
    assert "predict({'text': 'the film', 'text_pair': 'it is good'}" in cards["pair"]
    assert "pipeline_tag: token-classification" in cards["token"]
    assert 'pipeline("token-classification", "./")' in cards["token"]


def test_warm_up_requests_have_both_texts(sources, tmp_path):
    load_format("saved_model").write(sources("pair"), tmp_path, OPTIONS)
    (first, *_) = tf.data.TFRecordDataset(str(tmp_path / WARM_UP)).as_numpy_iterator()
    for word in (b"text", b"text_pair", *(text.encode() for text in PAIRS[0])):
        assert word in first


@pytest.mark.parametrize("name", ["pair", "token"])
def test_transformers_finds_the_class_and_its_tensors(sources, name, tmp_path):
    source = sources(name)
    load_format("transformers").write(source, tmp_path, OPTIONS)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == [f"Bert{source.head.architecture}"]
    assert config["id2label"] == source.head.config["id2label"]
    names = safetensors.numpy.load_file(tmp_path / "model.safetensors").keys()
    assert "classifier.weight" in names
    assert any(".pooler." in one for one in names) == (name == "pair")
