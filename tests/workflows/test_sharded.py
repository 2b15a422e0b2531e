"""What a training in shards does not do is refused before it starts, with what to use instead."""

import importlib.util

import pytest

from kerasllm import environment
from kerasllm.distribution import strategy
from kerasllm.errors import CommandError, KerasllmError, RecipeError
from kerasllm.recipe import load
from kerasllm.tasks.task import find
from kerasllm.workflows.sharded import refuse_unsupported

REFUSED = {
    "translate": (["evaluation.during_training=true"], "no texts are written", "by the loss"),
    "gpt_lm": (["training.sample_every=epoch"], "no samples", "kerasllm generate"),
}


@pytest.mark.parametrize("recipe", REFUSED)
def test_a_recipe_that_asks_for_more_is_refused(recipe):
    settings, what, fix = REFUSED[recipe]
    with pytest.raises(KerasllmError, match=what) as error:
        refuse_unsupported(load(recipe, [*settings, "training.strategy=sharded"]))
    assert fix in error.value.fix


@pytest.mark.parametrize(
    "recipe",
    [
        *("bert_cls", "pair_cls", "ner", "qa", "gpt_sft_lora", "gpt_sft_qlora", "gpt_dpo", "mlm"),
        "summarize",
    ],
)
def test_other_recipes_are_not(recipe):
    wanted = ["training.strategy=sharded:2x2", "training.precision=mixed_float16"]
    if recipe == "gpt_sft_lora":
        wanted.append("training.sample_every=null")
    refuse_unsupported(load(recipe, wanted))


def test_a_task_that_computes_with_tensorflow_alone_is_refused(monkeypatch):
    # As a task of another package may.
    monkeypatch.setattr(type(find("text_classification")), "sharded", False)
    with pytest.raises(RecipeError, match="classification does not train in shards") as error:
        refuse_unsupported(load("bert_cls", ["training.strategy=sharded"]))
    assert "mirrored" in error.value.fix


def test_a_profile_is_refused():
    with pytest.raises(CommandError, match="profile"):
        refuse_unsupported(load("bert_cls", ["training.strategy=sharded"]), profile=(1, 2))


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
