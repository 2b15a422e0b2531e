"""What a training in shards does not do is refused before it starts, with what to use instead."""

import dataclasses
import importlib.util

import pytest

from kerasllm import distribution, environment
from kerasllm.distribution import strategies, strategy
from kerasllm.errors import CommandError, RecipeError
from kerasllm.generation import GenerationSettings
from kerasllm.recipe import load
from kerasllm.recipe.files import names
from kerasllm.tasks.task import find
from kerasllm.workflows.generate import open_generator
from kerasllm.workflows.predict import predict
from kerasllm.workflows.sharded import refuse_unsupported
from kerasllm.workflows.trained import Trained


@pytest.mark.parametrize("recipe", [each for each in names() if "compress" not in each])
def test_every_recipe_trains_in_shards(recipe):
    wanted = ["training.strategy=sharded:2x2", "training.precision=mixed_float16"]
    if recipe == "translate":
        wanted.append("evaluation.during_training=true")
    refuse_unsupported(load(recipe, wanted))


def test_a_task_that_computes_with_tensorflow_alone_is_refused(monkeypatch):
    # As a task of another package may.
    monkeypatch.setattr(type(find("text_classification")), "sharded", False)
    with pytest.raises(RecipeError, match="classification does not train in shards") as error:
        refuse_unsupported(load("bert_cls", ["training.strategy=sharded"]))
    assert "mirrored" in error.value.fix


def test_without_jax_one_sentence_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CommandError, match="needs JAX, which is not installed") as error:
        environment.use_jax()
    assert "pip install 'kerasllm[jax]'" in error.value.fix


def test_a_process_that_computes_with_tensorflow_is_told_to_use_the_command():
    # Keras is imported here.
    with pytest.raises(CommandError, match="came too late") as error:
        strategy("sharded")
    assert "kerasllm finetune --strategy sharded" in error.value.fix


def test_one_process_predicts_and_generates_alone(monkeypatch):
    trained = Trained("run", None, None, find("causal_lm"), strategy="sharded")
    monkeypatch.setattr(strategies, "worker_count", lambda devices: 2)
    monkeypatch.setattr(distribution, "strategy", lambda name: name)
    for use in (
        lambda: next(iter(predict(dataclasses.replace(trained, task=find("masked_lm")), ["a"]))),
        lambda: open_generator(trained, GenerationSettings(), batch_size=1),
    ):
        with pytest.raises(CommandError, match="run in several processes, and there are 2"):
            use()


def test_a_model_that_computes_with_tensorflow_alone_is_not_opened_in_shards(monkeypatch):
    trained = Trained("run", None, None, find("text_classification"))
    assert trained.under("sharded").strategy == "sharded" and trained.under(None).strategy is None
    monkeypatch.setattr(type(trained.task), "sharded", False)
    with pytest.raises(CommandError, match="text_classification is not split over devices"):
        trained.under("sharded")
