"""Functions of a model in shards that are called on their own, outside of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import keras

from kerasllm.training.sharded.step import mesh_in_use


def computed_in_shards(model: keras.Model, function: Callable, static: str | None = None):
    """Returns a function that JAX compiles, and computes with a model's variables as they are now.

    Args:
        model: Whose variables the function reads.
        function: Takes and returns arrays. Its result, or the first one of a tuple, is whole on
            each device afterwards.
        static: The name of an argument that is a constant of the compiled function. Defaults to
            `None`: none.
    """
    variables = list({id(variable): variable for variable in model.variables}.values())
    everywhere = jax.sharding.NamedSharding(mesh_in_use(), jax.sharding.PartitionSpec())

    def compute(values, *arguments, **options):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            found = function(*arguments, **options)
        if not isinstance(found, tuple):
            return jax.lax.with_sharding_constraint(found, everywhere)
        return (jax.lax.with_sharding_constraint(found[0], everywhere), *found[1:])

    compiled = jax.jit(compute, static_argnames=[static] if static else [])

    def call(*arguments: Any, **options: Any):
        return compiled([variable.value for variable in variables], *arguments, **options)

    return call
