"""`compress` of pairs, several labels and scores: the smaller run predicts the same kind."""

import csv
import json
from dataclasses import dataclass

import pytest

from kerasllm.models.text_classifier import TextClassifier
from kerasllm.recipe import load
from kerasllm.run import Run
from kerasllm.workflows.compress import compress
from kerasllm.workflows.finetune import finetune
from kerasllm.workflows.predict import predict
from kerasllm.workflows.report import Report
from tests.conftest import cached_in
from tests.tasks.toys.text_classification import VARIANTS
from tests.toy import write_csv

HEADLINES = {"pair": "accuracy", "several labels": "micro_f1", "score": "pearson"}
TRAINING = {
    "training.epochs": 6,
    "training.batch_size": 16,
    "training.learning_rate": 0.003,
    "training.precision": "float32",
}
RECIPES = {
    "prune": {"pruning.every": 3, "limit": 0.1, **TRAINING},
    "distill": {"student.layers": 1, "student.dropout": 0.0, "limit": 0.1, **TRAINING},
    **{
        method: {"quantization.group_size": 16, "quantization.rows": 8, "limit": 0.1}
        for method in ("int8", "int4", "gptq", "awq")
    },
}


@dataclass(frozen=True)
class Trained:
    """A run, what it predicts, and some of its inputs."""

    kind: str
    run: Run
    inputs: list


@pytest.fixture(autouse=True, scope="module")
def cache(session_cache):
    with cached_in(session_cache):
        yield


@pytest.fixture(scope="module")
def train(tmp_path_factory, deep_toy_preset):
    """Returns a function that trains a toy of a kind; each is trained once."""
    made = {}

    def train(kind: str, pooling: str = "cls") -> Trained:
        if (kind, pooling) not in made:
            folder = tmp_path_factory.mktemp("toy")
            toy = VARIANTS[kind](folder, deep_toy_preset)
            if kind == "score":
                for part in ("train", "test"):
                    _change_unit(folder / f"{part}.csv")
            settings = [*toy.overrides, f"model.pooling={pooling}", "training.precision=float32"]
            recipe = load(toy.recipe, [*settings, "training.epochs=8"])
            run = finetune(recipe, output=folder / "run", report=Report.silent())
            made[kind, pooling] = Trained(kind, run, list(toy.inputs))
        return made[kind, pooling]

    return train


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("pair", "distill"),
        ("several labels", "prune"),
        ("score", "distill"),
        pytest.param("pair", "prune", marks=pytest.mark.slow),
        pytest.param("several labels", "distill", marks=pytest.mark.slow),
        pytest.param("score", "prune", marks=pytest.mark.slow),
    ],
)
def test_a_retrained_model_keeps_what_its_outputs_mean(train, kind, method, tmp_path):
    trained = train(kind)
    metrics = compressed(trained, method, tmp_path / "small")
    check(trained, metrics, tmp_path / "small")
    if kind == "several labels":
        model = TextClassifier.from_preset(tmp_path / "small" / "model", precision="float32")
        assert metrics["thresholds"] == pytest.approx(
            dict(zip(model.labels.names, model.outputs.thresholds))
        )


@pytest.mark.slow
@pytest.mark.parametrize("method", RECIPES)
@pytest.mark.parametrize("kind", HEADLINES)
def test_a_model_on_the_mean_of_its_tokens_keeps_all_of_that(train, kind, method, tmp_path):
    trained = train(kind, "mean")
    check(trained, compressed(trained, method, tmp_path / "small"), tmp_path / "small")
    assert TextClassifier.from_preset(tmp_path / "small" / "model").pooling == "mean"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["int8", "int4", "gptq", "awq"])
@pytest.mark.parametrize("kind", HEADLINES)
def test_a_quantized_model_keeps_what_its_outputs_mean(train, kind, method, tmp_path):
    trained = train(kind)
    check(trained, compressed(trained, method, tmp_path / "small"), tmp_path / "small")
    assert outputs_of(tmp_path / "small") == outputs_of(trained.run.path)


def compressed(trained: Trained, method: str, output) -> dict:
    settings = [f"{key}={json.dumps(value)}" for key, value in RECIPES[method].items()]
    recipe = load(f"compress_{method}", settings)
    return compress(trained.run.path, recipe, output=output, report=Report.silent()).read_metrics()


def check(trained: Trained, metrics: dict, folder) -> None:
    """Checks that a smaller run predicts the same kind of thing, as well as the larger one."""
    facts, kind = metrics["compression"], trained.kind
    before, after = (facts[which]["quality"] for which in ("before", "after"))
    headline = HEADLINES[kind]
    assert facts["metric"] == headline and facts["within_limit"]
    assert before[headline] > 0.9 and after[headline] > 0.9 * before[headline]
    wanted, found = outputs_of(trained.run.path), outputs_of(folder)
    for key in ("problem", "pair", "truncation", "mean", "std"):
        assert found[key] == wanted[key]
    rows = list(predict(folder, trained.inputs))
    expected = list(predict(trained.run.path, trained.inputs))
    assert [set(row) for row in rows] == [set(row) for row in expected]
    if kind == "score":
        # Scores are 1000 and more, 100 apart: r2 tells whether they are in their own unit.
        assert before["r2"] > 0.9 and after["r2"] > 0.8
        assert all(950 < row["score"] < 1500 for row in rows)


def outputs_of(folder) -> dict:
    return json.loads((Run(folder).model / "outputs.json").read_text(encoding="utf-8"))


def _change_unit(file) -> None:
    with open(file, encoding="utf-8", newline="") as lines:
        header, *rows = csv.reader(lines)
    write_csv(file, [(text, 1000.5 + 400 * float(score)) for text, score in rows], header)
