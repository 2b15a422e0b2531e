"""Jobs in Python: the numbers of the command, errors of kerasllm's own, tables as data."""

import json
import os
import sys

import numpy as np
import pandas as pd
import pytest

import kerasllm
from kerasllm.cli.main import main
from kerasllm.errors import CommandError, DataError, KerasllmError, RecipeError, RunError
from kerasllm.run import Run
from tests import forked
from tests.conftest import cached_in, toy_settings
from tests.toy import save_toy_preset, toy_rows, write_csv
from tests.workflows.toy_runs import weights

# With dropout, which is drawn for each slice, and long enough for XLA to fuse.
SETTINGS = {"training.epochs": 2, "data.buckets": 1, "model.dropout": 0.1, "data.test": None}
SETTINGS["training.checkpoint_every"] = 5

FROM_PYTHON = """
import json, sys
import pandas as pd
import kerasllm
settings, train, output = json.loads(sys.argv[1])
run = kerasllm.finetune("bert_cls", train=pd.read_csv(train), output=output, **settings)
print(json.dumps(run.metrics))
"""


def settings_of(folder, preset):
    settings = dict(setting.split("=", 1) for setting in toy_settings(folder, preset))
    return {key: json.loads(value) for key, value in settings.items()} | SETTINGS


@pytest.fixture(scope="module")
def same_job(tmp_path_factory):
    """The folder of two runs of one job, by the command on a file and by Python on a DataFrame."""
    folder = tmp_path_factory.mktemp("same_job")
    write_csv(folder / "train.csv", toy_rows(240))
    preset = save_toy_preset(folder / "preset", num_layers=1)
    settings = settings_of(folder, preset)
    train = settings.pop("data.train")
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("XLA_FLAGS", "TF_XLA_FLAGS", "TF_CPP_MIN_LOG_LEVEL")
    } | {"KERASLLM_CACHE": str(folder / "cache")}
    options = [f"--set={key}={json.dumps(value)}" for key, value in settings.items()]
    command = ["-m", "kerasllm", "finetune", "--recipe", "bert_cls"]
    command += ["--train", train, *options, "--output", str(folder / "command")]
    python = ["-c", FROM_PYTHON, json.dumps([settings, train, str(folder / "python")])]
    said = []
    for arguments in (command, python):
        done = forked.run(*arguments, env=environment, cwd=forked.ROOT)
        assert done.returncode == 0, done.stderr[-3000:]
        said.append(done)
    return folder, said[1]


def test_python_and_the_command_end_with_the_same_weights(same_job):
    folder, _ = same_job
    expected, found = weights(folder / "command"), weights(folder / "python")
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


def test_python_shows_the_report_and_nothing_of_tensorflow(same_job):
    _, said = same_job
    assert "Results" in said.stderr
    notices = ("oneDNN", "cuda", "Warning", "WARNING", "E0000")
    assert not any(notice in said.stderr for notice in notices)


def test_the_run_of_a_table_can_be_run_again_and_resumed(same_job):
    folder, _ = same_job
    recipe = kerasllm.recipe.load(folder / "python" / "recipe.yaml")
    assert os.path.dirname(recipe.data.train) == str(folder / "cache" / "tables")
    with cached_in(folder / "cache"):
        with pytest.raises(RunError, match="finished"):
            kerasllm.finetune(resume=True, output=folder / "python")
        (folder / "python" / "metrics.json").unlink()
        settings = settings_of(folder, folder / "preset")
        settings.pop("data.train")
        train = pd.read_csv(folder / "train.csv")
        settings |= {"train": train, "output": folder / "python", "verbose": False}
        resumed = kerasllm.finetune("bert_cls", resume=True, **settings)
    assert resumed.metrics["train"]["loss"] > 0
    environment = json.loads(Run(folder / "python").environment.read_text())
    assert environment["resumed"][0]["from_step"] > 0
    assert environment["command"] == "kerasllm.finetune"


@pytest.fixture(autouse=True)
def cache(session_cache, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(session_cache))


@pytest.fixture
def command(capsys):
    """Runs a command and returns what it printed."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        assert not ended.value.code
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def run(toy_run):
    return kerasllm.load(toy_run)


def test_what_was_trained_is_described(run, toy_run):
    assert run.path == toy_run and run.recipe.task == "text_classification"
    assert run.metrics == Run(toy_run).read_metrics()
    accuracy = run.metrics["test"]["accuracy"]
    shown = f"TrainedModel('{toy_run}', task='text_classification', test_accuracy={accuracy:.4f})"
    assert repr(run) == shown
    html = run._repr_html_()
    assert "<table>" in html and f"<td>{accuracy:.4f}</td>" in html and "macro F1" in html
    assert kerasllm.load(toy_run / "model").path == toy_run


def test_the_history_is_a_data_frame_of_what_was_logged(run, monkeypatch):
    history = run.history()
    assert {"step", "epoch", "loss", "accuracy", "learning_rate", "val_loss"} <= set(history)
    assert history["step"].is_monotonic_increasing and history["step"].is_unique
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    rows = run.history(as_dicts=True)
    assert [row["step"] for row in rows] == history["step"].tolist()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(CommandError, match="pip install pandas"):
        run.history()


def test_predictions_are_those_of_the_command(run, toy_run, command, tmp_path):
    texts = [text for text, _ in toy_rows(6, seed=3)]
    lines = command("predict", toy_run, "--json", *texts).splitlines()
    expected = [json.loads(line) for line in lines]
    assert run.predict(texts) == expected
    assert run.predict(np.array(texts)) == expected
    assert run.predict(pd.Series(texts, index=range(10, 16))) == expected
    assert run.predict(pd.DataFrame({"text": texts})) == expected
    assert run.predict(pd.DataFrame({"said": texts}), text="said") == expected
    assert run.predict([{"text": text} for text in texts]) == expected
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    assert run.predict(tmp_path / "texts.txt") == expected
    assert run.predict(texts[0])[0]["label"] == expected[0]["label"]
    assert run.model is run.model


def test_an_evaluation_is_that_of_the_command(run, toy_run, command, tmp_path):
    rows = toy_rows(40, seed=4)
    file = write_csv(tmp_path / "test.csv", rows)
    expected = json.loads(command("evaluate", toy_run, "--data", file, "--json"))
    frame = pd.DataFrame(rows, columns=["text", "label"])
    assert run.evaluate(str(file)) == run.evaluate(frame) == expected
    swapped = frame.rename(columns={"text": "said", "label": "meant"})
    found = run.evaluate(swapped, text="said", label="meant", verbose=False)
    assert found == expected and "<table>" in found._repr_html_()
    assert run.evaluate(verbose=False)["accuracy"] == run.metrics["test"]["accuracy"]


def test_an_export_is_checked(run, tmp_path):
    exported = run.export("keras_hub", tmp_path / "exported", verbose=False)
    assert exported.folder == tmp_path / "exported" and exported.parity[0].agreement == 1.0
    with pytest.raises(RunError) as caught:
        run.export("keras_hub", tmp_path / "exported", verbose=False)
    assert "overwrite=True" in caught.value.fix and "--" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda run: run.predict([1]), DataError, "Item 0 is not a text"),
        (lambda run: run.predict(["a", " "]), DataError, "Item 1 is not a text"),
        (lambda run: run.predict([("a", "b")]), DataError, "reads one text at a time"),
        (lambda run: run.predict(["a"], abstain_below=2), CommandError, "where: abstain_below"),
        (lambda run: run.predict(["a"], text_pair="b"), KerasllmError, "text_pair"),
        (lambda run: run.evaluate(3), DataError, "This is not data: int"),
        (lambda run: run.evaluate("a.csv", stride=3), CommandError, "where: stride"),
        (lambda run: run.generate("a"), RunError, "does not generate text"),
        (lambda run: run.generate([3]), CommandError, "where: prompt 0"),
        (lambda run: run.generate("a", temperature=-1), CommandError, "temperature must be"),
        (lambda run: run.export("onyx"), KerasllmError, "onnx"),
    ],
)
def test_what_is_refused_is_refused_by_kerasllm(run, call, kind, words):
    with pytest.raises(kind) as caught:
        call(run)
    assert words in str(caught.value) and " --" not in str(caught.value)


def test_a_language_model_generates_what_the_command_does(toy_language_model, command):
    run = kerasllm.load(toy_language_model)
    prompts = ["Call me", "The whale"]
    arguments = [part for prompt in prompts for part in ("--prompt", prompt)]
    said = command("generate", toy_language_model, *arguments, "--max-new-tokens", 8, "--json")
    expected = [json.loads(line)["text"] for line in said.splitlines()]
    assert run.generate(prompts, max_new_tokens=8) == expected
    assert run.generate(prompts[0], max_new_tokens=8) == expected[0]
    # The model is the user's: what is generated follows its weights.
    weights = run.model.get_weights()
    draw = np.random.default_rng(0).normal
    run.model.set_weights([draw(size=weight.shape) for weight in weights])
    assert run.generate(prompts, max_new_tokens=8) != expected
    run.model.set_weights(weights)
    assert run.generate(prompts, max_new_tokens=8) == expected
    with pytest.raises(RunError, match="does not predict labels"):
        run.predict(["a"])
    with pytest.raises(CommandError, match="no chat template"):
        run.generate([[{"role": "user", "content": "Hi"}]])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(training={"epoch": 2}), "training.epochs?"),
        (dict(epochs=2), "training.epochs?"),
        (dict(training={"epochs": 0}), "Received: 0"),
        (dict(seed=-1), "Received: -1"),
        (dict(strategy="mirorred"), "mirrored"),
        (dict(train=[{"text": "a"}, 3]), "where: train"),
        (dict(train=pd.DataFrame([["a", "b"]], columns=["text", "text"])), "'text' 2 times"),
        (dict(training={"epochs": 1}, **{"training.epochs": 2}), "given twice"),
    ],
)
def test_a_job_that_is_refused_is_refused_before_it_starts(arguments, words, tmp_path):
    with pytest.raises(KerasllmError) as caught:
        kerasllm.finetune("bert_cls", output=tmp_path / "run", **arguments)
    assert words in str(caught.value) and not (tmp_path / "run").exists()


def test_a_recipe_is_named_or_that_of_a_run(tmp_path):
    with pytest.raises(RecipeError, match="did you mean bert_cls"):
        kerasllm.finetune("bert_clas")
    with pytest.raises(RecipeError, match="A recipe is missing"):
        kerasllm.finetune(train="a.csv")
    with pytest.raises(RunError, match="no run to resume"):
        kerasllm.finetune(resume=True, output=tmp_path)
    with pytest.raises(RecipeError, match="starts from a trained model"):
        kerasllm.finetune("compress_int8")


def test_what_is_no_run_is_refused_by_name(tmp_path, toy_run):
    with pytest.raises(RunError, match="no run directory 'no_such', and there is no preset"):
        kerasllm.load("no_such")
    with pytest.raises(RunError, match="no run directory"):
        kerasllm.load(tmp_path / "no_such")
    with pytest.raises(RunError, match=f"did you mean {toy_run}"):
        kerasllm.load(toy_run.parent)
    with pytest.raises(RunError, match=f"did you mean {toy_run}"):
        kerasllm.load(f"{toy_run}s")
    with pytest.raises(KerasllmError, match="no config.json"):
        kerasllm.load(tmp_path)
    with pytest.raises(RunError, match="encoder") as caught:
        kerasllm.load("minilm_l6_en_uncased")
    assert 'kerasllm.finetune("bert_cls")' in caught.value.fix
