"""What a preset was trained with is read from its files."""

import json

import families
import kagglehub
import pytest
from huggingface_hub.utils import filter_repo_objects

from kerasllm.errors import PresetError
from kerasllm.models import bert_classifier, hub
from kerasllm.models.pooling import pooling_of

_OFF = {
    "pooling_mode_cls_token": False,
    "pooling_mode_mean_tokens": False,
    "pooling_mode_max_tokens": False,
    "include_prompt": True,
}
_PACKAGE = "sentence_transformers.models."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return families.save_preset("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture
def sentence_encoder(folder, tmp_path):
    """Makes a folder with the files of sentence-transformers."""

    def make(modes, modules=None, place="1_Pooling"):
        for file in folder.iterdir():
            if not (tmp_path / file.name).exists():
                (tmp_path / file.name).symlink_to(file)
        if modules is not None:
            (tmp_path / "modules.json").write_text(json.dumps(modules))
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / "config.json").write_text(json.dumps(_OFF | modes))
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_max_tokens": True}, None),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, None),
        ({}, None),
    ],
)
def test_a_sentence_encoder_says_how_it_pools(sentence_encoder, modes, expected):
    assert pooling_of(sentence_encoder(modes)) == expected


def test_modules_say_where_the_pooling_is(sentence_encoder):
    modules = [
        {"idx": 0, "path": "", "type": f"{_PACKAGE}Transformer"},
        {"idx": 1, "path": "2_Other", "type": f"{_PACKAGE}Pooling"},
    ]
    mean = {"pooling_mode_mean_tokens": True}
    assert pooling_of(sentence_encoder(mean, modules, "2_Other")) == "mean"
    assert pooling_of(sentence_encoder(mean, modules[:1])) is None
    modules[1]["path"] = "../elsewhere"
    assert pooling_of(sentence_encoder(mean, modules)) is None


def test_auto_is_what_the_preset_was_trained_with(folder, sentence_encoder):
    assert pooling_of(folder) is None
    assert bert_classifier(folder, 2).pooling == "cls"
    made = sentence_encoder({"pooling_mode_mean_tokens": True})
    assert bert_classifier(made, 2).pooling == "mean"
    assert bert_classifier(made, 2, pooling="cls").pooling == "cls"


def test_the_table_says_it_where_the_files_do_not():
    assert pooling_of("minilm_l6_en_uncased") == "mean"
    assert pooling_of("smollm2_135m_instruct") is None


def test_a_broken_file_is_an_error_and_not_a_guess(sentence_encoder):
    made = sentence_encoder({})
    (made / "1_Pooling" / "config.json").write_text("{")
    with pytest.raises(PresetError, match="config.json cannot be read"):
        pooling_of(made)


def test_a_task_of_keras_hub_says_it(folder, tmp_path, monkeypatch):
    task = {"class_name": "BertTextEmbedder", "config": {"pooling_mode": "mean"}}
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "task.json").write_text(json.dumps(task))
    assert pooling_of(tmp_path) == "mean"
    asked = []

    def download(handle, path):
        asked.append(handle)
        return str(tmp_path / path)

    monkeypatch.setattr(kagglehub, "model_download", download)
    assert pooling_of("all_minilm_l6_v2_en") == "mean"
    assert asked == ["keras/sentence-transformers/keras/all_minilm_l6_v2_en/1"]
    # No other preset is asked over the network.
    assert pooling_of("bert_base_en") is None and len(asked) == 1
    task["config"]["pooling_mode"] = "max"
    (tmp_path / "task.json").write_text(json.dumps(task))
    assert pooling_of("all_minilm_l6_v2_en") is None


def test_the_hub_gives_the_files_that_say_it():
    files = ["modules.json", "1_Pooling/config.json", "2_Dense/pytorch_model.bin"]
    kept = filter_repo_objects(
        files, allow_patterns=list(hub.ALLOWED), ignore_patterns=list(hub.IGNORED)
    )
    assert list(kept) == files[:2]
