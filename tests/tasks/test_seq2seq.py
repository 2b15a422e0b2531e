"""What the recipes of translations and summaries take, and what stands for missing data."""

import pytest

from kerasllm import recipe as recipes
from kerasllm.errors import DataError, OfflineError, RecipeError
from kerasllm.tasks import task as tasks
from kerasllm.tasks.seq2seq import _prefix

TASK = tasks.find("seq2seq")


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train.en", "train.de"):
        (tmp_path / name).write_text("a\n")


def test_source_and_target_may_be_files_of_the_training_data(files):
    settings = ["data.source=train.en", "data.target=train.de"]
    data = recipes.load("translate", settings).data
    assert data.train == ["train.en", "train.de"] and data.source is data.target is None
    # The bundled test data is of other languages.
    assert data.test is None
    assert recipes.load("translate", [*settings, "data.test=mine.csv"]).data.test == "mine.csv"
    # As the recipe of a run has it.
    assert recipes.load(recipes.load("translate", settings)).data == data
    with pytest.raises(RecipeError, match="files are named both by data.train and by data.source"):
        recipes.load("translate", [*settings, "data.train=other.csv"])


def test_source_and_target_are_columns_beside_files(files):
    columns = {"train": "a.csv", "source": "en", "target": "de"}
    data = recipes.load("translate", {"data": columns}).data
    assert (data.train, data.source, data.target) == ("a.csv", "en", "de")
    with pytest.raises(RecipeError, match="different columns"):
        recipes.load("translate", {"data": {"train": "a.csv", "source": "en", "target": "en"}})


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (["model.heads=3"], "3 heads do not divide a width of 256"),
        (["model.lora={rank: 2}"], "a new model has no pretrained weights"),
        (["model.freeze=encoder"], "a new model has no pretrained weights"),
        (["model.preset=x", "model.freeze=encoder", "model.lora={rank: 2}"], "lora trains layers"),
        (["generation.temperature=0.5"], "beam search takes the most likely"),
    ],
)
def test_what_does_not_go_together_is_refused(settings, why):
    with pytest.raises(RecipeError, match=why):
        recipes.load("translate", settings)


def test_a_prefix_is_the_presets_or_is_asked_for():
    translate, summarize = recipes.load("translate"), recipes.load("summarize")
    t5 = {"summarization": "summarize: ", "translation_en_to_de": "translate English to German: "}
    assert _prefix(summarize, t5) == "summarize: " and _prefix(translate, {}) == ""
    with pytest.raises(DataError, match="several prefixes") as caught:
        _prefix(translate, t5)
    assert "--set data.prefix=" in caught.value.fix
    assert _prefix(recipes.load("translate", ["data.prefix=''"]), t5) == ""
    assert _prefix(translate, {"one": "only: "}) == "only: "


def test_the_metric_to_go_by_is_the_recipes():
    assert TASK.headline_of({"loss": 1.0}).metric == "loss"
    assert TASK.headline_of({"bleu": 1.0, "headline": "rouge_l"}).metric == "rouge_l"
    assert TASK.headline_of({"bleu": 1.0}).higher_is_better


def test_bundled_sources_stand_for_data_that_is_gone():
    recipe = recipes.load("translate", {"data": {"train": "a.csv", "source": "x", "target": "y"}})
    samples = TASK.samples(recipe, None, "test", TASK.stand_in(None), 3)
    assert next(iter(samples.inputs)).endswith((".", "?")) and samples.fingerprint is None


def test_a_preset_that_cannot_be_downloaded_names_the_key_and_a_new_model(
    files, tmp_path, monkeypatch
):
    def offline(preset, notify):
        raise OfflineError(f"{preset} has to be downloaded", fix=OfflineError.FIX)

    monkeypatch.setattr("kerasllm.models.seq2seq_text_side.load_text_side", offline)
    (tmp_path / "pairs.csv").write_text("source,target\na,b\nc,d\n")
    recipe = recipes.load("summarize", ["data.train=pairs.csv"])
    with pytest.raises(OfflineError) as caught:
        tasks.find("seq2seq").load(recipe)
    assert "--set model.preset=FOLDER" in caught.value.fix
    assert "--set model.preset=new" in caught.value.fix
