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
    if getattr(training, "sample_every", None) is not None:
        raise RecipeError(
            "no samples are written while a model trains in shards",
            where="training.sample_every",
            fix="set training.sample_every=null, and write some afterwards: kerasllm generate RUN",
        )
    evaluation, stopping = getattr(recipe, "evaluation", None), training.early_stopping
    written = getattr(evaluation, "during_training", False)
    if evaluation is not None and (written or (stopping and stopping.metric != "loss")):
        raise RecipeError(
            "no texts are written and measured while a model trains in shards",
            where="evaluation.during_training" if written else "training.early_stopping",
            fix="set evaluation.during_training=false, and stop early by the loss if at all",
        )
    if profile:
        raise CommandError(
            "the profile is TensorFlow's, and a training in shards computes with JAX",
            where="--profile",
            fix="leave it out",
        )
