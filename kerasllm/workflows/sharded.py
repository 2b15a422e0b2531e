"""What a training in shards does not do: refused before it starts, with what to use instead."""

from __future__ import annotations

from kerasllm.errors import RecipeError
from kerasllm.recipe import WholeRecipe
from kerasllm.tasks.task import task_of


def refuse_unsupported(recipe: WholeRecipe) -> None:
    """Refuses a recipe that asks for what the engine on JAX cannot do.

    Args:
        recipe: The recipe, of a sharded strategy.

    Raises:
        RecipeError: If it does.
    """
    if not task_of(recipe).sharded:
        raise RecipeError(
            f"the task {recipe.task} does not train in shards",
            where="training.strategy",
            fix="use mirrored, multi_worker or tpu, which copy the model to each device",
        )
