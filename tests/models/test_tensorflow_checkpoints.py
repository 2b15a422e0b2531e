"""Folders with a TensorFlow checkpoint of BERT are presets, or are refused by what is wrong."""

import json
import shutil

import checkpoints
import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

from kerasllm.errors import PresetError
from kerasllm.models import decoder as gpt
from kerasllm.models import encoder as bert
from kerasllm.models import presets, tensorflow_checkpoints

# google-research and Model Garden mean the tanh form by "gelu", which is what KerasHub computes.
SAME = 1e-5


@pytest.fixture(scope="module")
def google(tmp_path_factory):
    return checkpoints.save_google(tmp_path_factory.mktemp("google") / "uncased")


@pytest.fixture(scope="module")
def garden(tmp_path_factory):
    return checkpoints.save_garden(tmp_path_factory.mktemp("garden") / "uncased")


@pytest.fixture
def copy(google, tmp_path):
    """A folder of google-research's to change."""
    return shutil.copytree(google, tmp_path / "copy")


def assert_as_transformers(folder):
    numbers = np.load(checkpoints.REFERENCE / "expected.npz")
    backbone = bert.build_task(folder, num_classes=2).backbone
    found = backbone(
        {
            "token_ids": numbers["token_ids"],
            "padding_mask": numbers["mask"],
            "segment_ids": numbers["segments"],
        }
    )
    real = numbers["mask"].astype(bool)
    hidden = keras.ops.convert_to_numpy(found["sequence_output"])
    np.testing.assert_allclose(hidden[real], numbers["hidden"][real], atol=SAME, rtol=0)
    pooled = keras.ops.convert_to_numpy(found["pooled_output"])
    np.testing.assert_allclose(pooled, numbers["pooled"], atol=SAME, rtol=0)


def refusal(folder):
    with pytest.raises(PresetError) as caught:
        bert.build_task(folder, num_classes=2)
    assert "kerasllm-" not in str(caught.value), "temporary folders mean nothing to a user"
    return caught.value


def test_a_checkpoint_of_google_research_computes_what_transformers_does(google):
    assert sorted(path.name for path in google.iterdir() if "ckpt" in path.name) == [
        "bert_model.ckpt.data-00000-of-00001",
        "bert_model.ckpt.index",
        "bert_model.ckpt.meta",
    ]
    assert_as_transformers(google)


def test_a_checkpoint_of_model_garden_does_too(garden):
    assert_as_transformers(garden)


@pytest.mark.parametrize("numbered", [False, True])
def test_an_encoder_is_found_under_any_name_in_another_model(tmp_path, numbered):
    encoder = checkpoints.garden_encoder(numbered)
    model = tf.Module()
    model.encoder_network = encoder
    model.head = tf.Variable(np.ones((32, 2), "float32"))
    # The table of the encoder is also of the head, and may be stored under its name.
    tables = "layer_with_weights-0" if numbered else "_embedding_layer"
    model.embedding_table = getattr(encoder, tables).embeddings
    optimizer = slots_of(encoder)
    folder = checkpoints.save_garden(tmp_path / "f", "ctl", model=model, optimizer=optimizer)
    keys = tf.train.load_checkpoint(str(folder / "ctl-1")).get_variable_to_shape_map()
    assert "model/embedding_table/.ATTRIBUTES/VARIABLE_VALUE" in keys
    assert_as_transformers(folder)


def slots_of(encoder):
    slots = tf.Module()
    slots.momentums = [tf.Variable(tf.zeros_like(v)) for v in encoder.variables]
    slots.iterations = tf.Variable(3, dtype="int64")
    return slots


def test_texts_are_lower_cased_where_the_vocabulary_is(copy):
    """The folder is not called uncased: its vocabulary has no word with a capital."""
    lines = []
    tokenizer = bert.load_tokenizer(copy, progress=lines.append)
    reference = np.load(checkpoints.REFERENCE.parent / "bert" / "expected.npz")
    ids, _ = tokenizer.encode(list(reference["texts"]), max_length=24)
    np.testing.assert_array_equal(ids, reference["ids"][reference["ids"] != 0])
    assert lines == [f"{copy}: a TensorFlow checkpoint; texts are read in lower case"]
    vocabulary = (copy / "vocab.txt").read_text()
    cased = vocabulary.replace("[unused0]\n[unused1]\n", "The\nFilm\n")
    (copy / "vocab.txt").write_text(cased)
    bert.load_tokenizer(copy, progress=lines.append)
    assert lines[1].endswith("texts are read with their case")
    (copy / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    bert.load_tokenizer(copy, progress=lines.append)
    assert lines[2] == lines[0]


def test_a_params_yaml_says_the_same_as_bert_config(garden, tmp_path):
    folder = shutil.copytree(garden, tmp_path / "folder")
    (folder / "params.yaml").write_text(params())
    assert_as_transformers(folder)
    (folder / "bert_config.json").unlink()
    assert_as_transformers(folder)
    checkpoints.save_texts(folder, {**checkpoints.BERT_CONFIG, "intermediate_size": 48})
    assert "intermediate_size is 48 in bert_config.json, but 64 in params.yaml" in str(
        refusal(folder)
    )


def params(kind="bert", **changes):
    sizes = {
        "vocab_size": 60,
        "hidden_size": 32,
        "num_layers": 2,
        "num_attention_heads": 4,
        "hidden_activation": "gelu",
        "intermediate_size": 64,
        "dropout_rate": 0.1,
        "attention_dropout_rate": 0.1,
        "max_position_embeddings": 24,
        "embedding_size": None,
        "return_all_encoder_outputs": True,
        "norm_first": False,
        **changes,
    }
    return yaml.safe_dump({"task": {"model": {"encoder": {"type": kind, kind: sizes}}}})


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("albert", {}, "the encoder is of the type 'albert'"),
        ("bert", {"norm_first": True}, "norm_first is True"),
        ("bert", {"output_range": 1}, "output_range is 1"),
        ("bert", {"hidden_activation": "relu"}, "hidden_act is 'relu'"),
        ("bert", {"embedding_size": 16}, "embedding_size is 16"),
        ("bert", {"num_layers": 0}, "num_hidden_layers must be a whole number above 0"),
        ("bert", {"attention_window": 3}, "attention_window is 3"),
    ],
)
def test_a_params_yaml_of_another_model_is_refused_by_name(garden, tmp_path, kind, changes, said):
    folder = shutil.copytree(garden, tmp_path / "folder")
    (folder / "bert_config.json").unlink()
    (folder / "params.yaml").write_text(params(kind, **changes))
    error = refusal(folder)
    assert said in error.what
    assert str(folder / "params.yaml") in error.where


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"relative_attention": True}, "relative_attention is True"),
        ({"model_type": "roberta"}, "model_type is 'roberta'"),
        ({"num_hidden_layers": 3}, "bert/encoder/layer_2/attention/self/query/kernel is missing"),
        ({"num_hidden_layers": 1}, "bert/encoder/layer_1/attention/output/LayerNorm/beta is not"),
        ({"max_position_embeddings": 512}, "position_embeddings has shape (24, 32)"),
        ({"num_attention_heads": 5}, "5 heads do not divide"),
        ({"vocab_size": 61}, "vocab.txt has 60 tokens, and the configuration says vocab_size 61"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_by_name(copy, changes, said):
    file = copy / "bert_config.json"
    file.write_text(json.dumps({**checkpoints.BERT_CONFIG, **changes}))
    assert said in refusal(copy).what


def test_a_missing_key_means_what_it_does_to_google_research(copy):
    """Its BertConfig has 16 segments where nothing is said: not the 2 of the tensors."""
    config = {k: v for k, v in checkpoints.BERT_CONFIG.items() if k != "type_vocab_size"}
    (copy / "bert_config.json").write_text(json.dumps(config))
    assert "token_type_embeddings has shape (2, 32), where the configuration says (16, 32)" in (
        refusal(copy).what
    )


def test_heads_that_the_shapes_of_model_garden_contradict_are_refused(garden, tmp_path):
    folder = shutil.copytree(garden, tmp_path / "folder")
    checkpoints.save_texts(folder, {**checkpoints.BERT_CONFIG, "num_attention_heads": 8})
    assert "(32, 4, 8), where the configuration says (32, 8, 4)" in refusal(folder).what


BIAS = "bert/encoder/layer_1/output/dense/bias"
EXTRA = "bert/encoder/layer_0/adapter/kernel"


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (lambda t: {k: v for k, v in t.items() if k != BIAS}, f"tensor {BIAS} is missing"),
        (lambda t: {**t, EXTRA: t[BIAS]}, f"tensor {EXTRA} is not part of the BERT"),
        (lambda t: {**t, BIAS: t[BIAS].astype("int32")}, f"tensor {BIAS} holds int32"),
        (lambda t: {**t, **{f"copy/{k}": v for k, v in t.items()}}, "holds 2 encoders"),
        (lambda t: {"model/wte": t[BIAS]}, "holds no BERT of google-research or Model Garden"),
    ],
)
def test_tensors_that_are_not_a_berts_are_refused_by_name(tmp_path, tensors, said):
    folder = checkpoints.save_google(tmp_path / "f", tensors(checkpoints.google_tensors()))
    assert said in refusal(folder).what


def test_a_checkpoint_without_a_pooler_gets_a_new_one(tmp_path):
    tensors = {k: v for k, v in checkpoints.google_tensors().items() if "/pooler/" not in k}
    folder = checkpoints.save_google(tmp_path / "folder", tensors)
    with tensorflow_checkpoints.staged(folder) as stage:
        assert stage.fresh_pooler


DATA = "bert_model.ckpt.data-00000-of-00001"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / DATA).unlink(), f"{DATA} is missing"),
        (lambda f: (f / DATA).rename(f / DATA.replace("1", "2")), "00001-of-00002 is missing"),
        (lambda f: truncate(f / DATA), "bert_model.ckpt cannot be read: Read less bytes"),
        (lambda f: flip(f / DATA), "Checksum does not match"),
        (lambda f: truncate(f / "bert_model.ckpt.index"), "bert_model.ckpt cannot be read"),
        (lambda f: (f / "bert_config.json").unlink(), "looked for bert_config.json and params"),
        (lambda f: (f / "bert_config.json").rename(f / "albert_config.json"), "of ALBERT"),
        (lambda f: (f / "bert_config.json").write_text("{"), "bert_config.json cannot be read"),
        (lambda f: (f / "bert_model.ckpt.index").unlink(), "there is no bert_model.ckpt.index"),
        (lambda f: shutil.copy(f / "bert_model.ckpt.index", f / "x.index"), "holds 2 checkpoints"),
        (lambda f: (f / "vocab.txt").unlink(), "no vocab.txt"),
        (lambda f: (f / "vocab.txt").write_bytes(b"\xff\n" * 60), "not UTF-8 text"),
        (lambda f: truncate(f / "vocab.txt"), "the configuration says vocab_size 60"),
    ],
)
def test_missing_and_broken_files_are_one_readable_error(copy, spoil, said):
    spoil(copy)
    error = refusal(copy)
    assert said in error.what
    assert error.fix


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(bytes(content))


def test_the_path_that_tensorflow_gives_a_checkpoint_is_answered_with_the_folder(google):
    with pytest.raises(PresetError) as caught:
        presets.resolve(str(google / "bert_model.ckpt"))
    assert caught.value.fix == f"give its folder: {google}"


@pytest.mark.parametrize("read", [gpt.load_causal_lm, gpt.load_text_side, gpt.can_pack])
def test_it_is_no_language_model(google, read):
    with pytest.raises(PresetError, match="is a TensorFlow checkpoint of BERT"):
        read(google)
