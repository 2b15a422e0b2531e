"""Exporting: what is refused, what is kept, what is compared with what."""

import json
import shutil

import numpy as np
import pytest
from rich.console import Console

from kerasllm.errors import CommandError, JobError, RunError
from kerasllm.models.decoder import load_causal_lm
from kerasllm.recipe import load
from kerasllm.run import Run
from kerasllm.tasks.task import task_of
from kerasllm.workflows.export import check, export
from kerasllm.workflows.report import Report
from tests.export.echo import install_echo
from tests.toy import toy_rows, write_csv
from tests.toy_language_model import write_chats


@pytest.fixture
def echo(monkeypatch):
    """The format `echo`, which costs nothing."""
    return install_echo(monkeypatch)


def run_export(run, format="echo", report=None, **options):
    return export(run, format, report=report or Report.silent(), **options)


class Lines(Report):
    """A report that keeps its lines."""

    def __init__(self):
        super().__init__(Console(quiet=True))
        self.lines = []

    def line(self, text=""):
        self.lines.append(text)


def test_a_folder_holds_files_parity_and_a_card(echo, toy_run, tmp_path):
    exported = run_export(toy_run, output=tmp_path / "out")
    assert set(exported.files) == {"README.md", "parity.json", "weights.bin"}
    assert exported.files["weights.bin"] == 7
    report = json.loads((tmp_path / "out" / "parity.json").read_text())
    assert report["rows_from"] == "all 60 rows of test.csv (test)"
    assert report["results"][0]["rows"] == 60 and report["results"][0]["holds"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Look at `weights.bin`." in card


def test_the_card_tells_all_but_the_machine(echo, toy_run, tmp_path):
    run_export(toy_run, output=tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    recipe = load(str(Run(toy_run).recipe))
    for told in ("| 0 | negative |", "`train.csv`", "held out of train", "`toy`", "task: text_"):
        assert told in card
    assert f"learning_rate: {recipe.training.learning_rate}" in card
    fingerprint = json.loads(Run(toy_run).environment.read_text())["data"]["test"]
    assert f"| test | `test.csv` | 60 rows | `{fingerprint[:12]}` |" in card
    for kept in (str(toy_run.parent), "/tmp", "pytest"):
        assert kept not in card


def test_the_default_folder_is_in_the_run(echo, toy_run, tmp_path):
    run = shutil.copytree(toy_run, tmp_path / "run")
    assert run_export(run).folder == run / "export" / "echo"


def test_rows_are_as_many_as_asked_for(echo, toy_run, tmp_path):
    few = run_export(toy_run, output=tmp_path / "few", rows=7)
    assert few.parity[0].rows == 7
    assert echo.sources[-1].rows_from == "the first 7 rows of test.csv (test)"
    for wrong in (0, -1, "some"):
        with pytest.raises(CommandError, match="--rows"):
            check(toy_run, "echo", rows=wrong)


def test_above_the_tolerance_nothing_is_kept(echo, toy_run, tmp_path):
    echo.error = 0.01
    with pytest.raises(JobError) as caught:
        run_export(toy_run, output=tmp_path / "out")
    assert caught.value.exit_status == 1 and "1.00e-02" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_older_export_outlives_one_that_failed(echo, toy_run, tmp_path):
    run_export(toy_run, output=tmp_path / "out")
    before = (tmp_path / "out" / "parity.json").read_text()
    echo.error = 0.01
    with pytest.raises(JobError):
        run_export(toy_run, output=tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "parity.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_export_is_replaced_only_with_overwrite(echo, toy_run, tmp_path):
    output = tmp_path / "out"
    run_export(toy_run, output=output)
    (output / "old.bin").touch()
    with pytest.raises(RunError, match="already holds an export") as caught:
        check(toy_run, "echo", output=output)
    assert "--overwrite" in caught.value.fix
    run_export(toy_run, output=output, overwrite=True)
    assert not (output / "old.bin").exists()


def test_a_folder_of_something_else_is_never_touched(toy_run, tmp_path):
    (tmp_path / "thesis.tex").touch()
    for overwrite in (False, True):
        with pytest.raises(RunError, match="not an export"):
            check(toy_run, "onnx", output=tmp_path, overwrite=overwrite)
        with pytest.raises(RunError, match="not an export"):
            check(toy_run, "onnx", output=toy_run, overwrite=overwrite)
    with pytest.raises(RunError, match="file of this name"):
        check(toy_run, "onnx", output=tmp_path / "thesis.tex", overwrite=True)
    with pytest.raises(RunError, match="is a file"):
        check(toy_run, "onnx", output=tmp_path / "thesis.tex" / "out")


@pytest.mark.parametrize("output", ["loop", "loop/below"])
def test_an_output_that_links_to_itself_is_refused(toy_run, tmp_path, output):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(RunError, match="does not lead to a folder|is a file or a broken link"):
        check(toy_run, output=tmp_path / output)


def test_a_run_that_did_not_finish_is_refused(toy_run, tmp_path):
    run = shutil.copytree(toy_run, tmp_path / "run")
    (run / "metrics.json").unlink()
    with pytest.raises(RunError, match="did not finish"):
        check(run, "onnx")
    with pytest.raises(CommandError, match="not a run directory|neither a run directory"):
        check(tmp_path / "nothing", "onnx")
    with pytest.raises(CommandError, match="no labels") as caught:
        check("minilm_l6_en_uncased", "onnx", output=tmp_path / "out")
    assert "finetune --recipe bert_cls" in caught.value.fix


def test_a_language_model_is_compared_on_prompts(echo, toy_language_model, tmp_path):
    run_export(toy_language_model, output=tmp_path / "out", rows=5)
    source = echo.sources[0]
    assert source.task.name == "causal_lm" and len(source.rows) == 5
    assert all(len(row) <= 16 for row in source.tokens.ids)  # half of what it reads
    assert source.expected.shape == (5, source.model.backbone.vocabulary_size)
    model, ids = source.model, source.tokens.ids[3]
    whole = np.asarray(model({"token_ids": ids[None]}))
    np.testing.assert_allclose(source.expected[3], whole[0, -1], atol=1e-4)
    assert "trained from scratch" in (tmp_path / "out" / "README.md").read_text()


def test_a_preset_stands_for_itself(echo, toy_language_model, tmp_path):
    exported = run_export(toy_language_model / "model", output=tmp_path / "out", rows=3)
    assert "starter:moby_dick" in echo.sources[0].rows_from
    assert "starting from the pretrained `model`" in (exported.folder / "README.md").read_text()
    with pytest.raises(CommandError) as caught:
        check(toy_language_model / "model", "echo")
    assert "--output" in caught.value.fix


def test_conversations_are_written_in_the_chat_template(toy_language_model, tmp_path):
    from kerasllm.data.chat.templates import built_in
    from kerasllm.export.sample_texts import sample_rows

    model = load_causal_lm(toy_language_model / "model")
    model.chat_template = built_in("plain", model.tokenizer)
    chats = write_chats(tmp_path / "chats.jsonl", 6)
    recipe = load("gpt_sft_lora", [f"data.train={chats}"])
    said = []
    rows, rows_from = sample_rows(task_of(recipe), model, recipe, 2, warn=said.append)
    assert rows[0] == "User: sea?\nAssistant:"
    assert rows_from == "the first 2 conversations of chats.jsonl (train)"
    assert len(said) == 1 and "may have changed since training" in said[0]

    pairs = tmp_path / "pairs.jsonl"
    pair = {"prompt": "sea?", "chosen": "cold", "rejected": "warm"}
    pairs.write_text(json.dumps(pair) + "\n")
    recipe = load("gpt_dpo", [f"data.train={pairs}", f"data.test={pairs}"])
    rows, rows_from = sample_rows(task_of(recipe), model, recipe, None)
    assert rows == ["User: sea?\nAssistant:"]
    assert rows_from == "the only pair of pairs.jsonl (test)"


def test_data_that_are_gone_give_way_to_bundled_data(echo, toy_run, tmp_path):
    run = shutil.copytree(toy_run, tmp_path / "run")
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace(".csv", ".gone.csv"))
    report = Lines()
    run_export(run, rows=4, report=report)
    assert "starter:movie_reviews/test" in echo.sources[0].rows_from
    assert "not found" in echo.sources[0].rows_from
    said = report.lines[-1]
    assert "test.gone.csv cannot be used (the file does not exist" in said
    assert "starter:movie_reviews/test" in said and said.endswith("instead")


def test_another_file_of_the_same_name_is_not_used(echo, toy_run, tmp_path):
    run = shutil.copytree(toy_run, tmp_path / "run")
    other = write_csv(tmp_path / "test.csv", toy_rows(30, seed=7))
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace(str(toy_run.parent / "test.csv"), str(other)))
    report = Lines()
    run_export(run, rows=4, report=report)
    assert echo.sources[0].rows_from == "the first 4 rows of train.csv (train)"
    assert "test.csv cannot be used" in report.lines[-1]
    assert "fingerprint differs" in report.lines[-1]


def test_a_folder_that_cannot_be_put_in_place_is_refused(echo, toy_run, tmp_path, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    for output in (".", "", empty, "..", "/"):
        with pytest.raises(RunError, match="it is the current directory|mounted"):
            check(toy_run, "echo", output=output)
    with pytest.raises(RunError, match="cannot be written"):
        check(toy_run, "echo", output="/proc/export/out")
    assert not list(empty.iterdir())


def test_a_link_stays_one(echo, toy_run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    run_export(toy_run, output=tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "empty" / "parity.json").is_file()


@pytest.mark.parametrize("file", ["metrics.json", "environment.json"])
@pytest.mark.parametrize("content", ['{"test": ', "[1]"])
def test_a_damaged_run_is_refused(echo, toy_run, tmp_path, file, content):
    run = shutil.copytree(toy_run, tmp_path / "run")
    (run / file).write_text(content)
    with pytest.raises(RunError, match="not what kerasllm wrote") as caught:
        check(run, "echo")
    assert caught.value.where == str(run / file)


def test_what_has_to_do_with_a_run_is_told_from_a_preset(
    echo, toy_run, toy_language_model, tmp_path
):
    with pytest.raises(RunError, match="of a classifier") as caught:
        check(toy_run / "model", "echo", output=tmp_path / "out")
    assert caught.value.fix == f"did you mean {toy_run}?"
    with pytest.raises(RunError) as caught:
        check(toy_run.parent, "echo", output=tmp_path / "out")
    assert caught.value.fix == f"did you mean {toy_run}?"
    for whole, word in ((toy_run, "whole run directory"), (toy_language_model, "model alone")):
        run = shutil.copytree(whole, tmp_path / whole.parent.name)
        (run / "recipe.yaml").unlink()
        with pytest.raises(RunError, match="no recipe.yaml") as caught:
            check(run, "echo", output=tmp_path / "out")
        assert word in caught.value.fix
