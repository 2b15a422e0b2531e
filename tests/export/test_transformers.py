"""The format transformers: what transformers itself would have written, and the way back.

`tests/reference` holds models that transformers saved, with what it computes with them. A model
that was read from such a folder must leave as the same tensors under the same names, and with a
configuration that says the same; `benchmarks/transformers_export.py` runs transformers on it.
"""

import json
import shutil

import keras
import ml_dtypes  # noqa: F401  makes NumPy know bfloat16, in which a reference is stored
import numpy as np
import pytest
import safetensors.numpy
import tokenizers

from kerasllm.data.chat.templates import ChatTemplate, built_in, own, read_template
from kerasllm.data.labels import Labels
from kerasllm.data.tokenizers import TokenizerJson, from_folder
from kerasllm.errors import CommandError, JobError, PresetError
from kerasllm.export import transformers
from kerasllm.export.formats import Options, load_format
from kerasllm.export.safetensors_files import save_weights
from kerasllm.export.source import Source
from kerasllm.export.transformers import save_encoder
from kerasllm.models.classify import probabilities
from kerasllm.models.decoder import load_causal_lm
from kerasllm.models.decoders import tensors
from kerasllm.models.encoder import build_task
from kerasllm.models.huggingface.heads import read_labels
from kerasllm.models.text_classifier import Outputs, TextClassifier
from kerasllm.tasks.task import find
from tests.export.hugging_face_models import (
    CLASSIFIERS,
    DECODERS,
    REFERENCE,
    classifier,
    decoder,
    read,
    stored,
)

FORMAT = load_format("transformers")
OPTIONS = Options()
# What transformers writes of a model, and that says nothing about its numbers or is its default.
UNSAID = set(
    """
    transformers_version initializer_range use_cache tie_word_embeddings dtype torch_dtype
    is_decoder add_cross_attention pretraining_tp attention_bias mlp_bias qa_dropout
    sinusoidal_pos_embds head_dim rope_parameters max_window_layers layer_types sliding_window
    use_sliding_window embd_pdrop resid_pdrop attn_pdrop use_bidirectional_attention
    reorder_and_upcast_attn scale_attn_weights scale_attn_by_inverse_layer_idx summary_type
    summary_use_proj summary_proj_to_labels summary_first_dropout
    """.split()
)


def source_of(model: TextClassifier) -> Source:
    return Source(find("text_classification"), model, "toy", model.max_length, [])


def assert_same_weights(ours: keras.Model, theirs: keras.Model) -> None:
    pairs = zip(ours.trainable_variables, theirs.trainable_variables, strict=True)
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs)


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory):
    """Each family, exported: the source, transformers' numbers, and the folder."""
    made = {}
    for name in CLASSIFIERS:
        source, expected = classifier(name)
        folder = tmp_path_factory.mktemp(name)
        FORMAT.refuse(source, OPTIONS)
        FORMAT.write(source, folder, OPTIONS)
        made[name] = source, expected, folder
    return made


@pytest.fixture(scope="module")
def language_models(tmp_path_factory):
    """Each family, exported: the source and the folder."""
    made = {}
    for name in DECODERS:
        source = decoder(name)
        folder = tmp_path_factory.mktemp(name)
        FORMAT.refuse(source, OPTIONS)
        FORMAT.write(source, folder, OPTIONS)
        made[name] = source, folder
    return made


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_trained_head_is_read_and_gives_the_logits_of_transformers(classifiers, name):
    source, expected, _ = classifiers[name]
    np.testing.assert_allclose(source.expected, probabilities(expected["logits"]), atol=1e-5)
    assert source.model.labels.names == ("bad", "so-so", "très bien")


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_leaves_with_the_tensors_of_transformers(classifiers, name):
    _, _, folder = classifiers[name]
    ours, theirs = stored(folder), stored(REFERENCE / "classifiers" / name)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        np.testing.assert_array_equal(ours[key], value, err_msg=key)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_leaves_with_the_configuration_of_transformers(classifiers, name):
    _, _, folder = classifiers[name]
    ours, theirs = read(folder), read(REFERENCE / "classifiers" / name)
    # Two spellings of one thing in transformers' ALBERT; its classifier reads the longer one.
    if name == "albert":
        del theirs["classifier_dropout"]
    said = {key: value for key, value in theirs.items() if key not in UNSAID and value is not None}
    assert {key: ours.get(key) for key in said} == said
    assert ours["dtype"] == "float32"


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifiers_texts_become_the_ids_of_transformers(classifiers, name):
    source, expected, folder = classifiers[name]
    engine = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = [encoding.ids for encoding in engine.encode_batch(source.rows)]
    assert ids == [[id for id in row if id >= 0] for row in expected["ids"].tolist()]
    assert read(folder, "tokenizer_config.json")["model_max_length"] == 40


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_comes_back_as_it_left(classifiers, name, tmp_path):
    source, _, folder = classifiers[name]
    again = TextClassifier.from_preset(folder, precision="float32")
    assert_same_weights(again.task, source.model.task)
    assert again.labels.names == source.model.labels.names
    assert again.max_length == source.max_length
    FORMAT.write(source_of(again), tmp_path, OPTIONS)
    for file in ("config.json", "model.safetensors", "labels.json", "tokenizer_config.json"):
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes(), file


def test_an_exported_classifier_can_be_fine_tuned_with_other_labels(classifiers):
    source, _, folder = classifiers["bert"]
    task = build_task(folder, num_classes=2)
    assert task.num_classes == 2
    assert_same_weights(task.backbone, source.model.task.backbone)


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta"])
def test_an_encoder_leaves_without_a_head(classifiers, name, tmp_path):
    source, _, folder = classifiers[name]
    task = source.model.task
    save_encoder(task.backbone, task.preprocessor.tokenizer, tmp_path)
    assert read(tmp_path)["architectures"][0].endswith("Model")
    whole, bare = stored(folder), stored(tmp_path)
    prefix = f"{read(folder)['model_type']}."
    assert bare.keys() == {key.removeprefix(prefix) for key in whole if key.startswith(prefix)}
    assert_same_weights(build_task(tmp_path, num_classes=2).backbone, task.backbone)
    with pytest.raises(PresetError, match="is not a text classifier"):
        TextClassifier.from_preset(tmp_path)


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_leaves_with_the_tensors_of_transformers(language_models, name):
    _, folder = language_models[name]
    ours, theirs = stored(folder), stored(REFERENCE / "decoders" / name)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        np.testing.assert_array_equal(ours[key], value, err_msg=key)


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_leaves_with_the_configuration_of_transformers(language_models, name):
    _, folder = language_models[name]
    ours, theirs = read(folder), read(REFERENCE / "decoders" / name)
    unsaid = UNSAID if "rope_scaling" in ours else {*UNSAID, "original_max_position_embeddings"}
    said = {key: value for key, value in theirs.items() if key not in unsaid and value is not None}
    assert {key: ours.get(key) for key in said} == said
    for key in ("head_dim", "sliding_window", "tie_word_embeddings"):
        if theirs.get(key) is not None and key in ours:
            assert ours[key] == theirs[key]
    positions = theirs.get("rope_parameters", {})
    scaling = ours.get("rope_scaling", {"rope_type": "default"})
    assert positions.get("rope_theta") == ours.get("rope_theta")
    for key, value in positions.items():
        if key not in ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings"):
            assert scaling[key] == value


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_comes_back_as_it_left(language_models, name):
    source, folder = language_models[name]
    again = load_causal_lm(folder)
    assert again.backbone.get_config() == {
        **source.model.backbone.get_config(),
        **{key: again.backbone.get_config()[key] for key in ("name", "dtype")},
    }
    assert_same_weights(again.backbone, source.model.backbone)
    assert again.max_length == source.model.max_length == 64
    assert again.tokenizer.fingerprint == source.model.tokenizer.fingerprint
    assert again.tokenizer.named_tokens == source.model.tokenizer.named_tokens
    assert again.tokenizer.stop_token_ids == (2,) and again.tokenizer.start_token == "<s>"
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    assert read(folder, "generation_config.json") == ids


def test_a_chat_template_leaves_with_what_kerasllm_alone_would_tell_it(tmp_path):
    source = decoder("llama")
    messages = [{"role": "user", "content": "ship"}]
    for name in ("plain", "chatml"):
        (folder := tmp_path / name).mkdir()
        source.model.chat_template = template = built_in(name, source.model.tokenizer)
        FORMAT.write(source, folder, OPTIONS)
        again = own(read_template(folder), from_folder(folder))
        assert again.render(messages, True) == template.render(messages, True)
    # As transformers renders it: it knows the special tokens and nothing else.
    blank = ChatTemplate((tmp_path / "plain" / "chat_template.jinja").read_text())
    assert blank.render(messages).startswith("<s>User: ship")


def test_weights_are_shared_out_among_files_of_a_size(tmp_path):
    source = decoder("llama_untied_sharded")
    FORMAT.write(source, tmp_path, OPTIONS)
    (tmp_path / "model.safetensors").unlink()
    save_weights(tensors(source.model.backbone), tmp_path, largest=20_000)
    index = read(tmp_path, "model.safetensors.index.json")
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(files) > 2 and files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert sorted(set(index["weight_map"].values())) == files
    assert index["metadata"]["total_size"] == sum(one.nbytes for one in stored(tmp_path).values())
    for name, file in index["weight_map"].items():
        with safetensors.safe_open(tmp_path / file, framework="numpy") as opened:
            assert opened.metadata() == {"format": "pt"} and name in opened.keys()
    assert_same_weights(load_causal_lm(tmp_path).backbone, source.model.backbone)


def test_the_files_are_run_and_not_the_model(classifiers, language_models):
    for source, folder in (classifiers["bert"][::2], language_models["llama"]):
        found = FORMAT.predict(source, folder, OPTIONS)
        np.testing.assert_array_max_ulp(found, source.expected, 2)


def test_what_transformers_cannot_run_is_told_by_its_last_line(classifiers, monkeypatch):
    source, _, folder = classifiers["bert"]
    monkeypatch.setattr(transformers, "has_transformers", lambda: True)
    (script := folder / "broken.py").write_text("raise ValueError('no such layer')")
    monkeypatch.setattr(transformers.run_transformers, "__file__", str(script))
    with pytest.raises(JobError, match="cannot run the exported folder: ValueError: no such layer"):
        FORMAT.predict(source, folder, OPTIONS)


def test_the_labels_of_the_training_data_come_back_unless_the_names_were_changed(
    classifiers, tmp_path
):
    task = classifiers["bert"][0].model.task
    model = TextClassifier(task, Labels(["-1", "0", "1"], ["bad", "mixed", "good"]))
    FORMAT.write(source_of(model), tmp_path, OPTIONS)
    assert read_labels(tmp_path).raw == ("-1", "0", "1")
    assert read_labels(tmp_path).names == ("bad", "mixed", "good")
    names = {"0": "dull", "2": "bright", "1": "uneven"}
    (tmp_path / "config.json").write_text(json.dumps({**read(tmp_path), "id2label": names}))
    assert read_labels(tmp_path).raw == ("dull", "uneven", "bright")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"problem_type": "ranking"}, "problem_type is 'ranking', and must be one of single"),
        ({"problem_type": "regression"}, "id2label must name one output"),
        ({"id2label": {"0": "only"}}, "id2label must name at least two"),
        ({"id2label": {"0": "a", "2": "b"}}, "id2label must name at least two"),
        ({"id2label": {"0": "a", "1": "b"}}, r"classifier.weight has shape \(3, 16\)"),
        ({"architectures": ["BertForMaskedLM"]}, "is not a text classifier"),
    ],
)
def test_a_head_of_another_kind_is_refused_by_name(classifiers, tmp_path, change, complaint):
    folder = shutil.copytree(classifiers["bert"][2], tmp_path / "changed")
    (folder / "config.json").write_text(json.dumps({**read(folder), **change}))
    with pytest.raises(PresetError, match=complaint):
        TextClassifier.from_preset(folder)


@pytest.mark.parametrize(
    ("outputs", "names"),
    [
        (Outputs("multi_label", thresholds=(0.3, 0.5, 0.7)), ["a", "b", "c"]),
        (Outputs("single_label", pair=True, truncation="only_second"), ["a", "b", "c"]),
    ],
)
def test_what_the_outputs_mean_comes_back(classifiers, tmp_path, outputs, names):
    task = classifiers["bert"][0].model.task
    FORMAT.write(source_of(TextClassifier(task, Labels(names), outputs=outputs)), tmp_path, OPTIONS)
    assert TextClassifier.from_preset(tmp_path).outputs == outputs
    # Of a folder that transformers wrote, its own configuration says the problem.
    (tmp_path / "outputs.json").unlink()
    assert TextClassifier.from_preset(tmp_path).outputs == Outputs(outputs.problem)


def test_a_head_that_is_not_in_the_file_is_missed(classifiers, tmp_path):
    folder = shutil.copytree(classifiers["bert"][2], tmp_path / "changed")
    kept = {name: value for name, value in stored(folder).items() if "classifier" not in name}
    safetensors.numpy.save_file(kept, folder / "model.safetensors")
    with pytest.raises(PresetError, match="tensor classifier.weight is missing"):
        TextClassifier.from_preset(folder)


def test_a_head_that_transformers_does_not_have_is_refused():
    model = classifier("bert")[0].model
    model.task.activation = keras.activations.softmax
    with pytest.raises(CommandError, match="activation softmax") as refused:
        FORMAT.refuse(source_of(model), OPTIONS)
    assert "keras_hub" in refused.value.fix


def test_a_qwen_2_with_other_rules_for_words_is_refused():
    source = decoder("qwen2")
    content = json.loads(source.model.tokenizer.content)
    content["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": r"\s+|\S+"}
    source.model.tokenizer = TokenizerJson(
        json.dumps(content), start_token="<s>", end_token="</s>", pad_token="<pad>"
    )
    with pytest.raises(CommandError, match="Qwen's word splitting"):
        FORMAT.refuse(source, OPTIONS)


def test_the_card_says_who_checked_it(classifiers, language_models):
    for source in (classifiers["bert"][0], language_models["gpt2"][0]):
        usage = FORMAT.usage(source, OPTIONS)
        assert "from transformers import pipeline" in usage
        assert not FORMAT.engine().foreign
