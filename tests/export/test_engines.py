"""The formats keras, keras_hub, litert and onnx: what others load says what the model says."""

import contextlib
import io
import re
import subprocess
import sys
import types

import keras_hub
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
import tokenizers

from kerasllm.errors import CommandError
from kerasllm.export import litert
from kerasllm.export import onnx as onnx_format
from kerasllm.export.formats import FORMATS
from kerasllm.models.classify import classify
from kerasllm.models.decoder import load_causal_lm
from kerasllm.models.decoder_forward import hidden_states
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.workflows.export import export
from kerasllm.workflows.report import Report

ENGINES = ("keras", "keras_hub", "litert", "onnx")
TEXTS = ["a good great film .", "awful", "the plot is dull and weak , but the music is bright !"]


@pytest.fixture(scope="module")
def exports(tmp_path_factory, toy_run, toy_language_model):
    """Exports a run to a format, once."""
    done = {}

    def get(kind: str, format: str):
        if (kind, format) not in done:
            run = toy_run if kind == "classifier" else toy_language_model
            output = tmp_path_factory.mktemp("exports") / kind / format
            done[kind, format] = export(run, format, output=output, rows=20, report=Report.silent())
        return done[kind, format]

    return get


@pytest.fixture(scope="module")
def classifier(toy_run):
    return TextClassifier.from_preset(toy_run / "model", precision="float32")


@pytest.mark.parametrize("kind", ["classifier", "language_model"])
@pytest.mark.parametrize("format", ENGINES)
def test_the_files_say_what_the_model_says(exports, kind, format):
    exported = exports(kind, format)
    for parity in exported.parity:
        assert parity.holds
        if parity.precision == "float32":
            assert parity.largest_difference < 1e-4 and parity.agreement == 1
    assert (exported.folder / "README.md").is_file()


def test_int8_is_the_smallest_file_and_float16_in_between(exports):
    files = exports("classifier", "litert").files
    sizes = [files[f"model_{name}.tflite"] for name in ("int8", "float16", "float32")]
    assert sizes == sorted(sizes)
    assert all(one.least_agreement >= 0.99 for one in exports("classifier", "litert").parity)


def test_onnx_takes_any_number_of_rows_of_any_length(exports, classifier):
    folder = exports("classifier", "onnx").folder
    onnx.checker.check_model(str(folder / "model.onnx"))
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    assert {tuple(one.shape) for one in session.get_inputs()} == {("batch", "length")}
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    for texts in (TEXTS, TEXTS[1:2]):
        encoded = tokenizer.encode_batch(texts)
        given = {
            "token_ids": [one.ids for one in encoded],
            "padding_mask": [one.attention_mask for one in encoded],
            "segment_ids": [one.type_ids for one in encoded],
        }
        given = {name: np.array(rows, np.int32) for name, rows in given.items()}
        found = session.run(["probabilities"], given)[0]
        for said, row in zip(classify(classifier, texts), found, strict=True):
            np.testing.assert_allclose(row, list(said["probabilities"].values()), atol=1e-5)


def test_a_language_model_gives_the_logits_of_every_token(exports, toy_language_model):
    model = load_causal_lm(toy_language_model / "model")
    ids = np.array([model.tokenizer.encode_whole("Call me Ishmael.")], np.int32)
    expected = np.asarray(model({"token_ids": ids}))
    folder = exports("language_model", "onnx").folder
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    found = session.run(["logits"], {"token_ids": ids})[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    read = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert read.encode("Call me Ishmael.").ids == ids[0].tolist()


@pytest.mark.parametrize(
    ("kind", "format"),
    [*(("classifier", format) for format in ENGINES), ("language_model", "onnx")],
)
def test_the_code_of_the_card_runs(exports, kind, format, monkeypatch):
    folder = exports(kind, format).folder
    monkeypatch.chdir(folder)
    # What users install beside LiteRT files has the interpreter that TensorFlow has too.
    stub = types.ModuleType("ai_edge_litert.interpreter")
    stub.Interpreter = tf.lite.Interpreter
    monkeypatch.setitem(sys.modules, "ai_edge_litert", types.ModuleType("ai_edge_litert"))
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", stub)
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue().strip()
    if kind == "classifier":
        assert re.search("positive|negative", printed.getvalue())


@pytest.mark.slow
def test_keras_loads_both_without_kerasllm(exports, classifier):
    """In a process of its own, in which kerasllm cannot be imported."""
    file = exports("classifier", "keras").folder / "model.keras"
    preset = exports("classifier", "keras_hub").folder
    code = f"""
import sys
sys.modules["kerasllm"] = None
import keras, keras_hub
for model in (
    keras.saving.load_model({str(file)!r}, compile=False, safe_mode=True),
    keras_hub.models.TextClassifier.from_preset({str(preset)!r}, compile=False),
):
    print([int(row.argmax()) for row in model.predict({TEXTS!r}, verbose=0)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "UserWarning" not in done.stderr
    names = list(classifier.labels.names)
    expected = [names.index(said["label"]) for said in classify(classifier, TEXTS)]
    assert done.stdout.splitlines() == [str(expected)] * 2


@pytest.mark.parametrize("family", ["Llama", "GPT2"])
def test_litert_holds_the_language_models_that_its_converter_takes(family):
    """Fails when KerasHub or LiteRT learn to: then `decoders` in the registry can grow."""
    sizes = {"vocabulary_size": 20, "num_layers": 1, "hidden_dim": 8, "intermediate_dim": 8}
    backbone = {
        "Llama": lambda: keras_hub.models.LlamaBackbone(
            num_query_heads=2, num_key_value_heads=1, **sizes
        ),
        "GPT2": lambda: keras_hub.models.GPT2Backbone(num_heads=2, max_sequence_length=16, **sizes),
    }[family]()
    function = tf.function(lambda ids: hidden_states(backbone, ids))
    traced = function.get_concrete_function(tf.TensorSpec([None, None], tf.int32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], backbone)
    expected = f"{family}Backbone" in FORMATS["litert"].decoders
    with contextlib.nullcontext() if expected else pytest.raises(Exception, match="StridedSlice"):
        converter.convert()


def test_a_model_that_is_too_large_for_litert_is_refused_with_what_takes_it(
    monkeypatch, toy_run, tmp_path
):
    monkeypatch.setattr(litert, "_LARGEST_FILE", 1000)
    with pytest.raises(CommandError) as caught:
        export(toy_run, "litert", output=tmp_path / "out", report=Report.silent())
    assert "transformers" in caught.value.fix
    assert not list(tmp_path.iterdir())


def test_an_onnx_model_that_is_too_large_for_one_file_has_two(monkeypatch, toy_run, tmp_path):
    monkeypatch.setattr(onnx_format, "_LARGEST_FILE", 1000)
    exported = export(toy_run, "onnx", output=tmp_path / "out", rows=5, report=Report.silent())
    assert exported.files["model.onnx.data"] > 1000
    assert exported.parity[0].holds
