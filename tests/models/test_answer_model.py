"""Tests of models that find answers: in texts, files, other encoders, and graphs."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kerasllm.compression.distill import distilled
from kerasllm.compression.student import student_of
from kerasllm.errors import DataError, PresetError
from kerasllm.export.graph_encoder import GraphEncoder
from kerasllm.export.graph_word_piece import GraphWordPiece
from kerasllm.models.answer_model import Answering, AnswerModel, trained_head
from kerasllm.models.encoder import build_task, is_trained
from kerasllm.models.token_classifier import trained_head as trained_tags
from kerasllm.models.token_outputs import token_logits
from kerasllm.tasks.task import find
from kerasllm.training.span_loss import SoftenedSpanDivergence, SpanCrossentropy


def made(preset, max_length=24, **answering):
    keras.utils.set_random_seed(0)
    task = build_task(preset, 2, pooling="tokens")
    task.preprocessor.sequence_length = max_length
    kernel = task.output_dense.kernel
    kernel.assign(np.random.default_rng(0).normal(0, 1, kernel.shape))
    answering = {"max_question_length": 8, "max_answer_length": 6} | answering
    return AnswerModel(task, answering=Answering(**answering))


@pytest.fixture(scope="module")
def model(deep_toy_preset):
    return made(deep_toy_preset)


PAIRS = [
    ("the film ?", "The dull actor was great!"),
    ("a very long question " * 5, "the film was good . " * 12),
    ("the actor ?", "a film\r\n e\u0301te\u0301 [SEP] the 👍🏽 scene, it's 3.5 @x"),
    ("[SEP] ?", "x" * 200 + " film"),
    ("\u0301", "\u0301\u0301"),
    ("the film ?", "\u200b\x01"),
    ("東京", "東京 film\x00 was [MASK][MASK] great ½ ﬁ ß 👨\u200d👩\u200d👧 bad"),
    ("the", "नमस्ते film \u200b\u00ad. \ufeffthe film\u2028bad"),
]


def answers_of(model, pairs, **options):
    found = model.answer(pairs, **options)
    for (question, context), one in zip(pairs, found, strict=True):
        assert (one["text"], one["text_pair"]) == (question, context)
        for span in one["n_best"]:
            assert context[span["start"] : span["end"]] == span["answer"] != ""
            assert 0 < span["score"] <= 1
        if one["start"] is None:
            assert one["answer"] == "" and one["end"] is None
        else:
            assert context[one["start"] : one["end"]] == one["answer"]
            assert one["n_best"][0]["answer"] == one["answer"]
    return found


def test_answers_are_in_the_characters_of_the_context(model):
    found = answers_of(model, PAIRS, n_best=4)
    assert {len(one["n_best"]) for one in found} == {0, 1, 3, 4}
    # However many questions there are, and in whatever order.
    backwards = answers_of(model, PAIRS[::-1], n_best=4)[::-1]
    alone = [answers_of(model, [pair], n_best=4)[0] for pair in PAIRS]
    for one, *others in zip(found, backwards, alone, strict=True):
        for other in others:
            assert (one["answer"], one["start"]) == (other["answer"], other["start"])
            assert one["score"] == pytest.approx(other["score"], abs=1e-5)


def test_above_the_threshold_there_is_no_answer(model):
    for threshold, none in ((-1e9, True), (1e9, False)):
        model.answering = dataclasses.replace(model.answering, threshold=threshold)
        for one in answers_of(model, PAIRS[:2]):
            assert (one["start"] is None) == none
            assert one["n_best"] and np.isfinite(one["no_answer"])
    model.answering = dataclasses.replace(model.answering, threshold=None)
    assert "no_answer" not in answers_of(model, PAIRS[:1])[0]


ANY = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
CONTEXTS = st.lists(
    st.one_of(st.sampled_from(["film", "bad", "🎉", "e\u0301", "\r\n", "\u200d", "it's"]), ANY),
    max_size=8,
).map("".join)


@settings(max_examples=100)
@given(CONTEXTS)
@example("x" * 3000)
@example("\x00\x01\u202e\ud7ff\U0010ffff")
def test_any_context_has_answers_that_are_in_it(model, context):
    answers_of(model, [("the film ?", context)], n_best=3)


@pytest.mark.slow
@settings(max_examples=1000)
@given(ANY, CONTEXTS)
def test_a_thousand_contexts_have_answers_that_are_in_them(model, question, context):
    answers_of(model, [(question, context)], n_best=3)


def test_a_graph_on_texts_gives_the_same_answers(model):
    model.answering = dataclasses.replace(model.answering, threshold=1e9)
    scores = sorted(one["no_answer"] for one in answers_of(model, PAIRS) if one["n_best"])
    threshold = (scores[2] + scores[3]) / 2
    model.answering = dataclasses.replace(model.answering, threshold=threshold)
    head = find("question_answering").head(model)
    graph = GraphEncoder(model, head, GraphWordPiece(model.tokenizer))
    function = graph.functions["serving_default"]
    outputs = function(*(tf.constant(list(column)) for column in zip(*PAIRS)))
    outputs = {name: one.numpy() for name, one in outputs.items()}
    expected = answers_of(model, PAIRS)
    for row, one in enumerate(expected):
        assert outputs["answer"][row].decode() == one["answer"]
        for name in ("start", "end"):
            assert outputs[name][row] == (-1 if one[name] is None else one[name])
        assert outputs["score"][row] == pytest.approx(one["score"], rel=1e-3)
        if one["n_best"]:
            assert outputs["no_answer"][row] == pytest.approx(one["no_answer"], abs=1e-3)
    assert len({one["start"] is None for one in expected}) == 2
    nothing = function(tf.constant([], tf.string), tf.constant([], tf.string))
    assert nothing["answer"].shape == (0,)


def test_the_fused_and_the_packed_forward_pass_are_the_plain_one(model):
    windows = model.cut(PAIRS[:3])
    rows = np.arange(len(windows.tokens))
    from kerasllm.data.rows import model_inputs

    inputs = model_inputs(windows.tokens, rows, 24, model.input_names, 0)
    plain = np.asarray(model(inputs, training=False))
    real = np.arange(24) < windows.tokens.lengths[:, None]
    np.testing.assert_allclose(token_logits(model, windows.tokens), plain[real], atol=1e-4)
    fused = np.asarray(made_without_dropout(model).fuse()(inputs))
    np.testing.assert_allclose(fused[real], plain[real], atol=1e-3)


def made_without_dropout(model):
    """The model of these tests has dropouts, which the fused pass draws."""
    for layer in model.task._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return model


def test_a_model_is_saved_and_opened_with_what_it_knows(model, tmp_path, toy_preset):
    saved = AnswerModel(model.task, answering=Answering(5, 8, 6, -0.5))
    saved.save_to_preset(tmp_path / "model")
    opened = AnswerModel.from_preset(tmp_path / "model")
    assert opened.answering == saved.answering
    assert opened.max_length == 24
    np.testing.assert_array_equal(
        token_logits(opened, opened.cut(PAIRS).tokens), token_logits(saved, saved.cut(PAIRS).tokens)
    )
    # It is the head of nothing else, and nothing else is one of its kind.
    assert not is_trained(tmp_path / "model")
    assert trained_tags(tmp_path / "model", saved.labels.__class__(["O", "B-X"])) is None
    head = trained_head(tmp_path / "model")
    np.testing.assert_array_equal(head["kernel"], model.task.output_dense.kernel)
    assert trained_head(toy_preset) is None
    with pytest.raises(PresetError, match="not a question answering model"):
        AnswerModel.from_preset(toy_preset)
    (tmp_path / "model" / "answering.json").write_text("{}")
    with pytest.raises(DataError, match=r"cannot be read: 'stride'"):
        AnswerModel.from_preset(tmp_path / "model")


# The losses


def test_the_loss_is_of_the_context_and_of_no_answer_alone():
    logits = np.random.default_rng(0).normal(size=(2, 6, 2)).astype("float32")
    targets = np.array([[3, 4, 3, 5], [0, 0, 2, 4]])
    wanted = []
    for row, (start, end, first, last) in enumerate(targets):
        places = [0, *range(first, last)]
        chances = np.log(np.exp(logits[row, places]) / np.exp(logits[row, places]).sum(0))
        wanted.append(-(chances[places.index(start), 0] + chances[places.index(end), 1]) / 2)
    loss = SpanCrossentropy(reduction="none")
    np.testing.assert_allclose(loss(targets, logits), wanted, rtol=1e-5)
    # However far rows are padded, and whatever is there.
    padded = np.pad(logits, [(0, 0), (0, 3), (0, 0)], constant_values=7.0)
    np.testing.assert_allclose(loss(targets, padded), wanted, rtol=1e-5)
    smoothed = SpanCrossentropy(0.1, reduction="none")
    assert (np.asarray(smoothed(targets, logits)) != np.asarray(loss(targets, logits))).all()
    assert SpanCrossentropy.from_config(smoothed.get_config()).label_smoothing == 0.1


def test_a_student_learns_the_choices_of_its_teacher(model):
    loss = SoftenedSpanDivergence(2.0, reduction="none")
    logits = np.random.default_rng(0).normal(size=(1, 4, 2)).astype("float32")
    teacher = np.concatenate([logits, [[[1.0], [0.0], [1.0], [0.0]]]], -1).astype("float32")
    assert float(loss(teacher, logits)[0]) == pytest.approx(0, abs=1e-6)
    other = logits + [[[0.0], [9.0], [0.0], [9.0]]]
    assert float(loss(teacher, other)[0]) == pytest.approx(0, abs=1e-6)
    assert float(loss(teacher, -logits)[0]) > 0
    student = student_of(model, layers=1)
    assert student.answering == model.answering
    made = distilled(student, model, hidden=0.0)
    made.compile(keras.optimizers.SGD(0.0), SpanCrossentropy())
    windows = model.cut(PAIRS[:2])
    from kerasllm.data.rows import model_inputs

    rows = np.arange(2)
    inputs = model_inputs(windows.tokens, rows, 24, model.input_names, 0)
    first = windows.answers.firsts[:2]
    last = first + np.diff(windows.answers.span_offsets)[:2]
    y = tf.constant(np.stack([first, first, first, last], 1), tf.int32)
    inputs = {name: tf.constant(value) for name, value in inputs.items()}
    found, _ = made.loss_and_outputs(inputs, y, tf.constant([0.5, 0.5]))
    assert np.isfinite(float(found))
