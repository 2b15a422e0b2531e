"""Where keys are trusted, nothing of a model that they have not signed is read."""

import json
import os
import shutil

import pytest

from kerasllm.cli.main import main
from kerasllm.errors import CommandError, SignatureError
from kerasllm.models import presets
from kerasllm.models.adapters.peft import read_adapter
from kerasllm.run import Run
from kerasllm.signing import trust
from kerasllm.workflows.sign import sign, verify
from kerasllm.workflows.trained import open_trained
from tests.signing.keys import make_key


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return {name: make_key(folder, name) for name in ("my", "other")}


@pytest.fixture
def run(tmp_path):
    """A finished run; reading its recipe, or any other of its files, fails."""
    run = tmp_path / "run"
    for name in ("recipe.yaml", "environment.json", "metrics.json", "model/config.json"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("{ not what it should be")
    (run / "adapter").mkdir()
    (run / "adapter/adapter_config.json").write_text("{ not JSON")
    return run


@pytest.fixture
def trusted(keys, monkeypatch):
    monkeypatch.setenv(trust.VARIABLE, str(keys["my"][1]))


def signed(folder, keys, by="my"):
    sign(folder, keys[by][0])
    return folder


OPEN = {
    "run": lambda run: open_trained(run),
    "preset": lambda run: presets.resolve(run),
    "model": lambda run: presets.resolve(run / "model"),
    "adapter": lambda run: read_adapter(run / "adapter"),
    "name": lambda run: presets.resolve(str(run)),
}


@pytest.mark.parametrize("kind", OPEN)
def test_an_unsigned_run_is_refused_before_it_is_read(run, keys, trusted, kind):
    with pytest.raises(
        SignatureError, match=r"not signed, and KERASLLM_TRUST requires a signature"
    ):
        OPEN[kind](run)
    signed(run, keys, by="other")
    with pytest.raises(SignatureError, match="signed with another key"):
        OPEN[kind](run)
    signed(run, keys)
    (run / "model/config.json").write_text("{ changed")
    with pytest.raises(SignatureError, match="1 file changed: model/config.json"):
        OPEN[kind](run)
    signed(run, keys)
    with pytest.raises(Exception) as error:
        OPEN[kind](run)
    assert not isinstance(error.value, SignatureError)


VERBS = (
    ["predict", "RUN", "a text"],
    ["evaluate", "RUN", "--data", "x.csv"],
    ["generate", "RUN", "--prompt", "x"],
    ["chat", "RUN"],
    ["serve", "RUN", "--port", "0"],
    ["export", "RUN"],
    ["compress", "RUN", "--method", "int8"],
)


@pytest.mark.parametrize("command", VERBS, ids=lambda command: command[0])
def test_every_verb_refuses_it(run, trusted, capsys, command):
    with pytest.raises(SystemExit) as ended:
        main([str(run) if word == "RUN" else word for word in command])
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert "The model is not signed, and KERASLLM_TRUST requires a signature" in shown, shown


def test_of_a_run_that_is_signed_which_its_model_is_opened_from(run, keys):
    signed(run, keys)
    key = [str(keys["my"][1])]
    (run / "metrics.jsonl").write_text("{}\n")
    (run / "export/onnx").mkdir(parents=True)
    (run / "export/onnx/model.onnx").write_text("written later")
    assert len(verify(run, key).signed.files) == 5
    assert len(verify(run / "model", key).signed.files) == 5, "its signature is the run's"
    for name in ("model/extra.json", "adapter/extra.json"):
        (run / name).write_text("{}")
        with pytest.raises(SignatureError, match=f"not covered by the signature: {name}"):
            verify(run, key)
        (run / name).unlink()
    # Whether a folder is a run is no way round its signature.
    (run / "recipe.yaml").unlink()
    with pytest.raises(SignatureError, match="1 file missing: recipe.yaml"):
        verify(run, key)


def test_a_folder_that_is_made_a_run_is_none(run, keys, tmp_path):
    folder = signed(shutil.copytree(run / "model", tmp_path / "preset"), keys)
    for name in ("recipe.yaml", "metrics.json"):
        (folder / name).write_text("task: text_classification")
    with pytest.raises(SignatureError, match="not covered by the signature: metrics.json, recipe"):
        verify(folder, [str(keys["my"][1])])


def test_what_was_checked_is_checked_again_when_it_changed(run, keys, trusted, monkeypatch):
    signed(run, keys)
    calls = []
    monkeypatch.setattr(trust, "verify", lambda *arguments: calls.append(arguments))
    Run.open(run), Run.open(run), Run.open(run)
    assert len(calls) == 1
    file = run / "model/config.json"
    state = file.stat()
    file.write_text("{ NOT what it should be")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    Run.open(run)
    assert len(calls) == 2, "a date can be set back"


def test_a_gguf_file_is_covered_by_the_signature_of_its_folder(tmp_path, keys, trusted):
    for name in ("one.gguf", "two.gguf", "README.md"):
        (tmp_path / "models").mkdir(exist_ok=True)
        (tmp_path / "models" / name).write_text(name)
    file = tmp_path / "models/one.gguf"
    with pytest.raises(SignatureError, match="not signed"):
        presets.resolve(file)
    signed(file.parent, keys)
    (file.parent / "two.gguf").write_text("changed, and not read")
    assert presets.resolve(file) == file
    file.write_text("changed")
    with pytest.raises(SignatureError, match="1 file changed: one.gguf"):
        presets.resolve(file)


@pytest.mark.parametrize(
    "preset", ["pypi://some==1.0/path", "kaggle://a/b/keras/c", "bert_tiny_en_uncased"]
)
def test_what_others_fetch_has_no_signature(trusted, preset):
    with pytest.raises(SignatureError, match="not signed"):
        presets.resolve(preset)


def test_a_preset_whose_digests_are_known_needs_none(trusted, monkeypatch, tmp_path):
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path))
    (tmp_path / "presets/minilm_l6_en_uncased").mkdir(parents=True)
    checked = []
    monkeypatch.setattr(presets.digests, "verify", lambda *given: checked.append(given[1]))
    monkeypatch.setattr(presets, "check_folder", lambda folder: folder)
    presets.resolve("minilm_l6_en_uncased")
    assert "model.safetensors" in checked[0] and "config.json" in checked[0]


def test_a_hub_is_asked_for_all_that_is_signed(trusted, keys, monkeypatch, tmp_path):
    import huggingface_hub

    asked = {}

    def download(repo, **options):
        asked.update(options)
        (tmp_path / "repo").mkdir(exist_ok=True)
        (tmp_path / "repo/config.json").write_text("{ not JSON")
        return str(tmp_path / "repo")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(SignatureError, match="not signed"):
        presets.resolve("hf://owner/name")
    assert asked["allow_patterns"] is None and asked["ignore_patterns"] is None


def test_a_run_on_an_object_store_is_fetched_and_then_checked(s3, run, keys, trusted):
    def put(folder):
        for file in folder.rglob("*"):
            if file.is_file():
                s3.put("bucket", f"runs/mine/{file.relative_to(folder)}", file.read_bytes())

    put(run)
    with pytest.raises(SignatureError, match="not signed"):
        presets.resolve("s3://bucket/runs/mine")
    put(signed(run, keys))
    with pytest.raises(Exception) as error:
        presets.resolve("s3://bucket/runs/mine")
    assert not isinstance(error.value, SignatureError)
    s3.put("bucket", "runs/mine/model/evil.json", b"{}")
    with pytest.raises(SignatureError, match="not covered by the signature: model/evil.json"):
        presets.resolve("s3://bucket/runs/mine")


def test_a_recipe_narrows_what_is_trusted_and_never_widens_it(run, keys, monkeypatch):
    folder, (my, other) = run / "model", (str(keys[name][1]) for name in ("my", "other"))
    with pytest.raises(SignatureError, match="not signed, and model.trust requires a signature"):
        trust.check(folder, my)
    signed(run, keys)
    trust.check(folder, [my, other])
    with pytest.raises(SignatureError, match="another key"):
        trust.check(folder, other)
    monkeypatch.setenv(trust.VARIABLE, other)
    with pytest.raises(SignatureError, match="another key"):
        trust.check(folder, my)


def test_the_key_of_a_recipe_is_met_before_the_preset_is_read(run, keys, tmp_path):
    from kerasllm.recipe import load
    from kerasllm.workflows.job import prepare
    from kerasllm.workflows.report import Report

    settings = [f"model.preset={run / 'model'}", f"model.trust={keys['my'][1]}"]
    for name in ("bert_cls", "gpt_sft_lora", "gpt_dpo", "ner"):
        with pytest.raises(
            SignatureError, match="not signed, and model.trust requires a signature"
        ):
            prepare(load(name, settings), Report.silent())


def test_what_a_process_writes_itself_it_reads(run, trusted):
    trust.trust_own(run)
    Run.open(run)


def test_several_keys_and_folders_of_keys(run, keys, tmp_path, monkeypatch):
    signed(run, keys)
    (tmp_path / "trusted").mkdir()
    monkeypatch.setenv(trust.VARIABLE, str(tmp_path / "trusted"))
    with pytest.raises(CommandError, match=r"no public key(.|\n)*KERASLLM_TRUST"):
        Run.open(run)
    shutil.copy(keys["other"][1], tmp_path / "trusted/other.pub")
    (tmp_path / "trusted/README").write_text("Keys of the team")
    with pytest.raises(SignatureError, match="another key"):
        Run.open(run)
    monkeypatch.setenv(trust.VARIABLE, f"{tmp_path / 'trusted'}{os.pathsep}{keys['my'][1]}")
    Run.open(run)
    shutil.copy(keys["my"][0], tmp_path / "trusted/mine.pem")
    with pytest.raises(CommandError, match=r"is a private key(.|\n)*KERASLLM_TRUST: .*mine.pem"):
        Run.open(run)
    monkeypatch.setenv(trust.VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(CommandError, match="cannot be read"):
        Run.open(run)
    monkeypatch.setenv(trust.VARIABLE, "")
    Run.open(run)


def test_signing_and_verifying_at_the_command_line(run, keys, capsys, tmp_path):
    def typed(*words):
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        return ended.value.code, capsys.readouterr()

    private, public = keys["my"]
    status, shown = typed("verify", run)
    assert status == 2 and "There is nothing to verify" in shown.err
    status, shown = typed("sign", run, "--key", private)
    assert status == 0 and shown.out.startswith("Signed 5 files with the key ")
    status, shown = typed("verify", run, "--key", public)
    assert status == 0 and "5 files as they were signed" in shown.out
    status, shown = typed("verify", run, "--key", public, "--json")
    found = json.loads(shown.out)
    assert found["signed"] and "recipe.yaml" in found["files"]
    status, shown = typed("verify", run)
    assert status == 2 and "no trusted key was given" in shown.err
    (run / "model/config.json").write_text("{")
    status, shown = typed("verify", run, "--key", public)
    assert status == 2 and "model/config.json" in shown.err
    shutil.copy(private, run / "model/my.key")
    status, shown = typed("sign", run, "--key", run / "model/my.key")
    assert status == 2 and "would be published with it" in shown.err
    (run / "metrics.json").unlink()
    status, shown = typed("sign", run, "--key", private)
    assert status == 2 and "did not finish" in shown.err


def test_a_missing_package_is_named_with_its_extra(run, keys, trusted, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cryptography", None)
    for action in (lambda: Run.open(run), lambda: sign(run, keys["my"][0])):
        with pytest.raises(CommandError, match=r'needs cryptography(.|\n)*"kerasllm\[sign\]"'):
            action()
