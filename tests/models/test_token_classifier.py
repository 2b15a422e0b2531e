"""Tests of models with a tag for each word: spans in texts, files, other encoders, and graphs."""

import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kerasllm import recipe as recipes
from kerasllm.compression.distill import distilled
from kerasllm.compression.quantize import quantize
from kerasllm.compression.student import student_of
from kerasllm.data.labels import Labels
from kerasllm.data.rows import TokensInMemory
from kerasllm.data.words import Joins
from kerasllm.errors import PresetError
from kerasllm.evaluation.tagged_words import mistakes_in
from kerasllm.export.graph_encoder import GraphEncoder
from kerasllm.export.graph_word_piece import GraphWordPiece
from kerasllm.models.encoder import build_task, is_trained, load_task
from kerasllm.models.token_classifier import Tagging, TokenClassifier, trained_head
from kerasllm.models.token_outputs import token_logits
from kerasllm.recipe.compression import Quantization
from kerasllm.tasks.task import EvaluateOptions, find

NAMES = ["O", "B-X", "I-X", "B-Y", "I-Y"]
JOINS = Joins.learn([["it", "'s", "3.5", "@x"]])


def made(preset, labels=NAMES, joins=JOINS, max_length=12, scheme="iob2", **options):
    keras.utils.set_random_seed(0)
    task = build_task(preset, len(labels), pooling="tokens", **options)
    task.preprocessor.sequence_length = max_length
    kernel = task.output_dense.kernel
    kernel.assign(np.random.default_rng(0).normal(0, 1, kernel.shape))
    return TokenClassifier(task, Labels(labels), tagging=Tagging(scheme, joins))


@pytest.fixture(scope="module")
def model(deep_toy_preset):
    return made(deep_toy_preset)


@pytest.fixture(scope="module")
def graph_tokenizer(model):
    return GraphWordPiece(model.tokenizer)


@pytest.fixture(scope="module")
def in_graph(model, graph_tokenizer):
    head = find("token_classification").head(model)
    return GraphEncoder(model, head, graph_tokenizer).functions["serving_default"]


TEXTS = [
    "The dull actor was great!",
    "",
    "a film\r\n e\u0301te\u0301 [SEP] the 👍🏽 scene, it's 3.5 @x",
    "the film was good . " * 12,
    "\u0301\u0301",
    "x" * 200 + " film",
    "東京 film\x00 was [MASK][MASK] great ½ ﬁ ß 👨\u200d👩\u200d👧 bad",
    "नमस्ते film \u200b\u00ad. \ufeffthe film\u2028bad",
]


def spans_of(model, texts):
    found = model.tag(texts)
    for text, one in zip(texts, found, strict=True):
        assert one["text"] == text and len(one["tokens"]) == len(one["tags"])
        place = 0
        for span in one["spans"]:
            assert text[span["start"] : span["end"]] == span["text"] != ""
            assert place <= span["start"] and 0 < span["probability"] <= 1
            place = span["end"]
    return [[(span["start"], span["end"], span["label"]) for span in one["spans"]] for one in found]


def test_spans_are_in_the_characters_of_the_text(model):
    found = spans_of(model, TEXTS)
    assert any(found)
    # However many texts there are, and in whatever order.
    assert spans_of(model, TEXTS[::-1]) == found[::-1]
    assert [spans_of(model, [text])[0] for text in TEXTS] == found


ANY = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
WORDS = st.lists(
    st.one_of(st.sampled_from(["film", "bad", "🎉", "e\u0301", "\r\n", "\u200d", "it's"]), ANY),
    max_size=8,
).map("".join)


def check_any_text(model, text):
    assert spans_of(model, [text]) is not None


@settings(max_examples=100)
@given(WORDS)
@example("x" * 3000)
@example("\x00\x01\u202e\ud7ff\U0010ffff")
def test_any_text_has_spans_that_are_in_it(model, text):
    check_any_text(model, text)


@pytest.mark.slow
@settings(max_examples=1000)
@given(WORDS)
def test_a_thousand_texts_have_spans_that_are_in_them(model, text):
    check_any_text(model, text)


def test_a_graph_on_texts_finds_the_same_spans(model, in_graph):
    outputs = {name: one.numpy() for name, one in in_graph(tf.constant(TEXTS)).items()}
    expected = model.tag(TEXTS)
    for row, text in enumerate(TEXTS):
        there = outputs["starts"][row] >= 0
        found = zip(
            *(outputs[name][row][there].tolist() for name in ("starts", "ends")),
            *([one.decode() for one in outputs[name][row][there]] for name in ("texts", "labels")),
            strict=True,
        )
        spans = expected[row]["spans"]
        ours = [tuple(one[key] for key in ("start", "end", "text", "label")) for one in spans]
        assert list(found) == ours, text
        np.testing.assert_allclose(
            outputs["probabilities"][row][there],
            [one["probability"] for one in spans],
            atol=1e-4,
        )


def test_a_graph_knows_where_tokens_stand(model, graph_tokenizer):
    texts = [*TEXTS, "[SEP][SEP]film [MASK]é", "İ ﬁ ẛ̣film"]
    expected = model.tokenizer.encode_offsets(texts, 1 << 20)
    found = graph_tokenizer.tokens_with_spans(tf.constant(texts))
    for row in range(len(texts)):
        spans = expected.spans[expected.offsets[row] + 1 : expected.offsets[row + 1] - 1]
        assert np.stack([found[1][row], found[2][row]], 1).tolist() == spans.tolist()


def test_each_word_is_measured_once_and_unknown_types_are_missed(model, tmp_path):
    file = tmp_path / "a.conll"
    words = [("the", "O"), ("film", "B-X"), ("was", "O"), ("dull", "B-Z"), ("actor", "I-Z")]
    content = "".join(f"{word}\t{tag}\n" for word, tag in words * 9) + "\nbad\tB-Y\n"
    file.write_text(content, encoding="utf-8")
    task = find("token_classification")
    recipe = recipes.load("ner", [f"data.train={file}"])
    rows, remarks = task.rows(model, str(file), recipe, EvaluateOptions(), lambda text: None)
    assert len(rows) > 2 and any("B-Z, I-Z" in one for one in remarks)
    found = task.evaluate(model, rows)
    metrics = found.metrics
    assert (metrics["words"], metrics["sentences"], metrics["truncated_words"]) == (46, 2, 0)
    assert metrics["entities"] == 19 and metrics["per_class"]["Z"]["recall"] == 0
    assert len(found.decisions) == 46
    told = list(found.rows)
    assert told[0]["tokens"][:5] == [word for word, _ in words] and len(told[0]["tags"]) == 45
    assert told[0]["tags"][:5] == [tag for _, tag in words]
    # What is predicted for the sentence is what is measured, long as it is.
    text = " ".join(told[0]["tokens"])
    assert model.tag([text])[0]["tags"] == told[0]["predicted"]
    for one in mistakes_in(rows, found, model.tags, 5):
        assert one["where"].startswith(f"{file}:") and one["text"] in (text, "bad")


def test_outputs_are_those_of_keras_hub_for_each_token(model):
    random = np.random.default_rng(1)
    lengths = [5, 1, 12, 7]
    ids = random.integers(5, 20, sum(lengths)).astype(np.int32)
    offsets = np.cumsum([0, *lengths])
    found = token_logits(model, TokensInMemory(ids, offsets))
    for a, b in itertools.pairwise(offsets):
        inputs = {
            "token_ids": ids[None, a:b],
            "segment_ids": np.zeros((1, b - a), np.int32),
            "padding_mask": np.ones((1, b - a), np.int32),
        }
        np.testing.assert_allclose(found[a:b], model.task(inputs)[0], atol=1e-5)


def test_the_fused_pass_is_that_of_keras_hub(deep_toy_preset):
    model = made(deep_toy_preset, dropout=0.0)
    ids = np.array([[2, 6, 7, 3, 0], [2, 8, 9, 10, 3]], np.int32)
    inputs = {
        "token_ids": tf.constant(ids),
        "segment_ids": tf.zeros_like(ids),
        "padding_mask": tf.constant((ids > 0).astype(np.int32)),
    }
    expected = model.task(inputs)
    found = model.fuse()(inputs)
    assert found.shape == expected.shape == (2, 5, 5)
    mask = ids > 0
    np.testing.assert_allclose(found.numpy()[mask], expected.numpy()[mask], atol=1e-4)


def test_it_is_saved_with_its_tags_and_its_words(model, tmp_path):
    model.save_to_preset(tmp_path)
    again = TokenClassifier.from_preset(tmp_path)
    assert spans_of(again, TEXTS) == spans_of(model, TEXTS)
    assert again.tagging.joins == JOINS and again.max_length == 12
    assert json.loads((tmp_path / "head.json").read_text())["pooling"] == "tokens"
    # It is no classifier of texts; one can be trained on its encoder.
    assert not is_trained(tmp_path)
    with pytest.raises(PresetError, match="outputs for every token"):
        load_task(tmp_path)
    (tmp_path / "head.safetensors").unlink()
    with pytest.raises(PresetError, match="head of the model cannot be read"):
        TokenClassifier.from_preset(tmp_path)


def test_a_trained_head_is_kept_for_the_same_tags_in_any_order(model, tmp_path):
    model.save_to_preset(tmp_path)
    other = ["O", "B-Y", "I-Y", "B-X", "I-X"]
    head = trained_head(tmp_path, Labels(other))
    kernel = np.asarray(model.task.output_dense.kernel)
    np.testing.assert_array_equal(head["kernel"], kernel[:, [0, 3, 4, 1, 2]])
    assert trained_head(tmp_path, Labels(["O", "B-Z", "I-Z"])) is None


def test_plain_tags_are_spans_of_a_word(toy_preset):
    model = made(toy_preset, ["NN", "DT", "."], joins=Joins(), scheme="plain")
    assert [one[:2] for one in spans_of(model, ["The film."])[0]] == [(0, 3), (4, 8), (8, 9)]


def test_a_student_learns_from_a_teacher(model):
    student = student_of(model, 1, dropout=0.0)
    kernel = student.task.output_dense.kernel
    kernel.assign(np.zeros(kernel.shape))
    trained = distilled(student, model, hidden=0.0)
    trained.compile(keras.optimizers.Adam(0.01))
    ids = np.random.default_rng(0).integers(5, 20, (16, 6)).astype(np.int32)
    x = {
        "token_ids": ids,
        "segment_ids": np.zeros_like(ids),
        "padding_mask": np.ones_like(ids),
    }
    weights = np.ones((16, 6), np.float32)
    y = np.asarray(model.task(x)).argmax(-1).astype(np.int32)
    history = trained.fit(x, y, sample_weight=weights, epochs=5, batch_size=16, verbose=0)
    losses = history.history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert spans_of(student, TEXTS[:1]) is not None


def test_it_is_quantized_and_opens_again(toy_preset, tmp_path):
    model = made(toy_preset)
    expected = model.tag(TEXTS[:1])[0]["tags"]
    quantize(model.task.backbone, Quantization(method="int8"))
    model.save_to_preset(tmp_path)
    again = TokenClassifier.from_preset(tmp_path)
    assert again.packed is not None
    found = again.tag(TEXTS[:1])[0]["tags"]
    assert sum(map(str.__eq__, found, expected)) >= len(expected) - 1


def test_python_says_how_it_trains(model):
    with pytest.raises(ValueError, match="is trained and evaluated as a run"):
        model.compile() or model.fit(["a film"], ["O"])
    with pytest.raises(ValueError, match="model.tag"):
        model.predict(["a film"])
