"""A SavedModel of a classifier: texts in, the model's labels out, by TensorFlow alone."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.errors import CommandError
from kerasllm.export import run_saved_model, saved_model
from kerasllm.export.formats import Options
from kerasllm.export.warm_up import FILE_NAME
from kerasllm.models.classify import classify
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.workflows.export import export
from kerasllm.workflows.report import Report

TEXTS = ["a good great film .", "awful", "", "the plot is dull and weak , but its music is good"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory, toy_run):
    output = tmp_path_factory.mktemp("saved_model") / "reviews"
    return export(toy_run, output=output, rows=40, report=Report.silent())


@pytest.fixture(scope="module")
def classifier(toy_run):
    return TextClassifier.from_preset(toy_run / "model", precision="float32")


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(str(exported.folder))


def test_a_process_without_keras_says_what_the_model_says(exported):
    # `predict` runs in one: see below.
    (parity,) = exported.parity
    assert parity.holds and parity.rows == 40
    assert parity.agreement == 1 and parity.largest_difference < 1e-5


@pytest.mark.parametrize("package", ["keras", "kerasllm", "keras_hub", "tensorflow_text"])
def test_the_process_of_the_check_can_import_nothing_of_ours(package):
    folder = Path(run_saved_model.__file__).parent
    code = f"import sys; sys.path.append({str(folder)!r}); import run_saved_model"
    code += f"; run_saved_model.block(); import {package}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode and f"import of {package} halted" in done.stderr


def test_texts_in_labels_and_probabilities_out(loaded, classifier):
    answer = loaded.signatures["serving_default"](text=tf.constant(TEXTS))
    for number, said in enumerate(classify(classifier, TEXTS)):
        labels = [label.decode() for label in answer["labels"].numpy()[number]]
        assert answer["label"].numpy()[number].decode() == said["label"]
        assert labels == list(said["probabilities"])
        np.testing.assert_allclose(
            answer["probabilities"].numpy()[number], list(said["probabilities"].values()), atol=1e-5
        )


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 50])
def test_any_number_of_texts(loaded, classifier, count):
    texts = (TEXTS * 20)[:count]
    found = loaded.signatures["serving_default"](text=tf.constant(texts, tf.string))
    assert found["probabilities"].shape == (count, 2)
    if count:
        expected = [list(one["probabilities"].values()) for one in classify(classifier, texts)]
        np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)


def test_token_ids_in(loaded, classifier):
    ids, _ = classifier.tokenizer.encode(TEXTS[:1], classifier.max_length)
    inputs = {name: tf.zeros([1, len(ids) + 3], tf.int32) for name in classifier.input_names}
    inputs["token_ids"] = tf.constant([[*ids, 0, 0, 0]])
    inputs["padding_mask"] = tf.constant([[1] * len(ids) + [0] * 3])
    found = loaded.signatures["token_ids"](**inputs)["probabilities"]
    (said,) = classify(classifier, TEXTS[:1])
    np.testing.assert_allclose(found[0], list(said["probabilities"].values()), atol=1e-5)


def test_a_text_that_is_no_utf_8_does_not_break_the_others(loaded, classifier):
    texts = [b"a good \xff film", b"awful"]
    found = loaded.signatures["serving_default"](text=tf.constant(texts))
    expected = classify(classifier, ["a good \ufffd film", "awful"])
    assert [one.decode() for one in found["label"].numpy()] == [one["label"] for one in expected]


def test_the_weights_are_there_once(exported, classifier):
    size = sum(size for name, size in exported.files.items() if name.startswith("variables/"))
    assert size < 4 * classifier.task.count_params() + 20_000
    assert exported.files["saved_model.pb"] < 5_000_000


def test_in_bfloat16_it_is_half_as_large_and_says_nearly_the_same(exported, toy_run, tmp_path):
    output, rows = tmp_path / "fast", 40
    small = export(
        toy_run, output=output, precisions=("bfloat16",), rows=rows, report=Report.silent()
    )
    (parity,) = small.parity
    assert parity.precision == "bfloat16" and parity.holds
    assert 1e-5 < parity.largest_difference < 0.05
    sizes = [
        sum(size for name, size in one.files.items() if name.startswith("variables/"))
        for one in (exported, small)
    ]
    assert sizes[1] < 0.6 * sizes[0]
    assert "It computes in bfloat16" in (output / "README.md").read_text(encoding="utf-8")
    texts = tf.constant(TEXTS)
    classify = tf.saved_model.load(str(output)).signatures["serving_default"]
    assert classify(text=texts)["probabilities"].dtype == tf.float32


def test_a_language_model_in_bfloat16_is_refused():
    with pytest.raises(CommandError, match="float32") as caught:
        saved_model.FORMAT.refuse(SimpleNamespace(generates=True), Options(("bfloat16",)))
    assert "leave --precision out" in caught.value.fix


def test_warm_up_requests_are_those_of_tensorflow_serving(exported):
    """Read back by hand: field 6 of `PredictionLog` holds field 1, the `PredictRequest`."""
    records = list(tf.data.TFRecordDataset(str(exported.folder / FILE_NAME)).as_numpy_iterator())
    batches = []
    for record in records:
        request = dict(_fields(dict(_fields(record))[6]))
        request = dict(_fields(request[1]))
        model = dict(_fields(request[1]))
        assert (model[1], model[3]) == (b"run", b"serving_default")
        entry = dict(_fields(request[2]))
        assert entry[1] == b"text"
        tensor = tf.make_ndarray(type(tf.make_tensor_proto(0)).FromString(entry[2]))
        batches.append(tensor.shape)
    assert batches == [(1,), (8,), (32,)]


def test_the_card_shows_code_that_runs(exported, tmp_path):
    card = (exported.folder / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    code = code.replace("FOLDER", str(exported.folder))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code + "\nimport json; print(json.dumps(outputs['label'].shape[0]))",
        ],
        capture_output=True,
        text=True,
    )
    *printed, rows = done.stdout.splitlines()
    assert json.loads(rows) == 2
    assert len(printed) == 2 and all(re.match("positive|negative", line) for line in printed)


def _fields(message: bytes):
    """Yields the fields of bytes of a protocol buffer: the number and the content of each."""
    while message:
        number, message = _varint(message)
        size, message = _varint(message)
        yield number >> 3, message[:size]
        message = message[size:]


def _varint(message: bytes) -> tuple[int, bytes]:
    value, shift = 0, 0
    while True:
        byte, message = message[0], message[1:]
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, message


@pytest.mark.slow
@pytest.mark.parametrize("run", ["toy_run", "toy_language_model"])
def test_without_a_tokenizer_in_the_graph_it_takes_ids_and_says_so(
    run, request, tmp_path, monkeypatch
):
    monkeypatch.setattr(saved_model, "graph_tokenizer", lambda source: (None, "it is a test"))
    folder = tmp_path / "exported"
    exported = export(request.getfixturevalue(run), output=folder, rows=8, report=Report.silent())
    assert exported.parity[0].holds
    assert "serving_default" not in tf.saved_model.load(str(folder)).signatures
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "it is a test" in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code.replace("FOLDER/", "").replace("FOLDER", ".")], cwd=folder
    )
    assert done.returncode == 0
