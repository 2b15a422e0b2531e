"""What a training in shards does not do: refused before it starts, with what to use instead."""

from __future__ import annotations

from kerasllm.distribution.tf_config import read_tf_config
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
    training = recipe.training
    if not task_of(recipe).sharded:
        raise RecipeError(
            f"the task {recipe.task} does not train in shards",
            where="training.strategy",
            fix="use mirrored, multi_worker or tpu, which copy the model to each device",
        )
    cluster = read_tf_config()
    if training.ema is not None and cluster and cluster.workers > 1:
        raise RecipeError(
            "the average of weights that are split over several processes is not validated",
            where="training.ema",
            fix="set training.ema=null, or train in one process",
        )
    if profile:
        raise CommandError(
            "the profile is TensorFlow's, and a training in shards computes with JAX",
            where="--profile",
            fix="leave it out",
        )
