"""Students: what they begin as, what they learn from, and that micro-batches change nothing."""

import keras
import keras_hub
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.compression.distill import DistilledClassifier, with_hidden_states
from kerasllm.compression.student import even_layers, student_from, student_of
from kerasllm.data.labels import Labels
from kerasllm.errors import RecipeError
from kerasllm.models import TextClassifier, bert_classifier
from tests.toy import save_toy_preset


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A toy encoder of four layers."""
    return save_toy_preset(tmp_path_factory.mktemp("preset") / "toy", num_layers=4)


@pytest.fixture(scope="module")
def teacher(preset) -> TextClassifier:
    keras.utils.set_random_seed(0)
    return bert_classifier(preset, labels=["no", "yes"], max_length=32, precision="float32")


def batch(rows: int = 8) -> tuple:
    """Returns rows of different lengths, labels and weights."""
    random = np.random.default_rng(0)
    token_ids = random.integers(5, 25, (rows, 10)).astype("int32")
    mask = (np.arange(10) < random.integers(3, 11, (rows, 1))).astype("int32")
    x = {"token_ids": token_ids * mask, "padding_mask": mask, "segment_ids": 0 * mask}
    return x, random.integers(0, 2, rows).astype("int32"), random.random(rows).astype("float32")


@given(st.integers(1, 48), st.data())
def test_layers_are_spread_evenly_up_to_the_last(depth, data):
    count = data.draw(st.integers(1, depth))
    chosen = even_layers(depth, count)
    assert len(set(chosen)) == count and sorted(chosen) == chosen and chosen[-1] == depth - 1
    gaps = np.diff([-1, *chosen])
    assert gaps.max() - gaps.min() <= 1


def test_a_student_of_the_lowest_layers_computes_what_the_teacher_does_there(teacher):
    student = student_of(teacher, 2, start="first")
    x, *_ = batch()
    wanted = with_hidden_states(teacher.task, [0, 1])(x)
    found = with_hidden_states(student.task, [0, 1])(x)
    for one, other in zip(wanted["hidden"], found["hidden"], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(wanted["logits"], teacher(x), atol=1e-5)
    assert student.labels == teacher.labels and student.max_length == teacher.max_length


def test_an_even_student_begins_as_every_second_layer(teacher, tmp_path):
    student = student_of(teacher, 2)
    for layer, source in zip(student.task.backbone.transformer_layers, (1, 3), strict=True):
        wanted = teacher.task.backbone.transformer_layers[source].get_weights()
        for one, other in zip(layer.get_weights(), wanted, strict=True):
            np.testing.assert_array_equal(one, other)
    student.save_to_preset(tmp_path / "student")
    alone = keras_hub.models.TextClassifier.from_preset(str(tmp_path / "student"))
    x, *_ = batch()
    np.testing.assert_allclose(alone(x), student(x), atol=1e-6)


def test_the_loss_is_that_of_labels_logits_and_hidden_states(teacher):
    student = student_of(teacher, 2)
    model = DistilledClassifier(
        student, teacher, temperature=3.0, labels=0.5, logits=2.0, hidden=0.25
    )
    model.compile(keras.optimizers.SGD(0.0))
    x, y, weight = batch()
    share = weight / weight.sum()
    # Dropout is off, to compare.
    for layer in student.task._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0
    loss, logits = model.loss_and_outputs(x, y, share)

    wanted = with_hidden_states(teacher.task, [1, 3])(x)
    found = with_hidden_states(student.task, [0, 1])(x)
    of = {"teacher": np.asarray(wanted["logits"]), "student": np.asarray(found["logits"])}
    soft = {who: _softmax(values / 3) for who, values in of.items()}
    hard = -np.log(_softmax(of["student"])[np.arange(len(y)), y])
    divergence = (soft["teacher"] * np.log(soft["teacher"] / soft["student"])).sum(-1) * 9
    mask = x["padding_mask"]
    apart = sum(
        (((np.asarray(a) - np.asarray(b)) ** 2).mean(-1) * mask).sum(-1) / mask.sum(-1)
        for a, b in zip(wanted["hidden"], found["hidden"], strict=True)
    )
    expected = (share * (0.5 * hard + 2.0 * divergence + 0.25 * apart / 2)).sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    np.testing.assert_allclose(logits, of["student"], atol=1e-5)


def test_it_learns_alike_in_micro_batches_and_leaves_the_teacher_alone(deep_toy_preset):
    teacher = bert_classifier(deep_toy_preset, labels=["no", "yes"], precision="float32")
    before = [np.asarray(weight) for weight in teacher.task.weights]
    x, y, weight = batch()
    results = []
    for accumulate in (1, 2):
        model = DistilledClassifier(student_of(teacher, 1, dropout=0.0), teacher)
        model.compile(keras.optimizers.SGD(0.1), accumulate=accumulate)
        history = model.fit(x, y, sample_weight=weight, batch_size=8, epochs=6, verbose=0)
        results.append([np.asarray(value) for value in model.trainable_variables])
        assert len(model.weights) == len(model.task.weights), "the teacher is no part of it"
        assert history.history["loss"][-1] < history.history["loss"][0]
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    for weight, value in zip(teacher.task.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_a_student_must_be_smaller_and_of_separate_layers(teacher):
    with pytest.raises(RecipeError, match="Received: 4") as caught:
        student_of(teacher, 4)
    assert "from 1 to 3" in caught.value.fix
    backbone = keras_hub.models.AlbertBackbone(
        vocabulary_size=30,
        num_layers=2,
        num_heads=2,
        embedding_dim=8,
        hidden_dim=16,
        intermediate_dim=16,
        max_sequence_length=16,
    )
    task = keras_hub.models.AlbertTextClassifier(backbone, num_classes=2)
    with pytest.raises(RecipeError, match="share their weights"):
        student_of(TextClassifier(task, Labels(["no", "yes"])), 1)


def test_a_student_from_a_preset_reads_the_same_tokens(teacher, tmp_path):
    narrow = save_toy_preset(tmp_path / "narrow", hidden_dim=16)
    student = student_from(str(narrow), teacher)
    with pytest.raises(RecipeError, match="width of 32, the student's of 16"):
        DistilledClassifier(student, teacher)
    assert DistilledClassifier(student, teacher, hidden=0.0).labels == teacher.labels

    words = tmp_path / "narrow/assets/tokenizer/vocabulary.txt"
    words.write_text(words.read_text().replace("film", "movie"))
    with pytest.raises(RecipeError, match="uses another tokenizer"):
        student_from(str(narrow), teacher)


def _softmax(values):
    exponents = np.exp(values - values.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)
