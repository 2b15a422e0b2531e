"""What a training in shards does not do: refused before it starts, with what to use instead."""

from __future__ import annotations

from kerasllm.errors import CommandError, RecipeError
from kerasllm.recipe import WholeRecipe
from kerasllm.tasks.task import task_of


def refuse_unsupported(recipe: WholeRecipe, profile: object = None) -> None:
    """Refuses a recipe that asks for what the engine on JAX cannot do.

    Args:
        recipe: The recipe, of a sharded strategy.
        profile: What `--profile` gave. Defaults to `None`: nothing.

    Raises:
        KerasllmError: If it does.
    """
    training, model = recipe.training, recipe.model
    if not task_of(recipe).sharded:
        raise RecipeError(
            f"the task {recipe.task} does not train in shards",
            where="training.strategy",
            fix="use mirrored, multi_worker or tpu, which copy the model to each device",
        )
    if training.precision == "mixed_float16":
        raise RecipeError(
            "a training in shards scales no loss, which mixed_float16 needs",
            where="training.precision",
            fix="set training.precision=mixed_bfloat16",
        )
    if getattr(model, "quantize", None):
        raise RecipeError(
            "a quantized base is not split over devices",
            where="model.quantize",
            fix="set model.quantize=null: in shards each device holds a part of the base as it is",
        )
    if getattr(training, "sample_every", None) is not None:
        raise RecipeError(
            "no samples are written while a model trains in shards",
            where="training.sample_every",
            fix="set training.sample_every=null, and write some afterwards: kerasllm generate RUN",
        )
    if profile:
        raise CommandError(
            "the profile is TensorFlow's, and a training in shards computes with JAX",
            where="--profile",
            fix="leave it out",
        )
