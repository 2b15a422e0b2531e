"""AdamW on Keras' JAX backend, with the numbers and the variables of `kerasllm.training.adamw`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import keras


class AdamW(keras.optimizers.Optimizer):
    """Adam with decoupled weight decay, moments in float32 and stochastic rounding to bfloat16.

    See `kerasllm.training.adamw.AdamW`, whose checkpoints it continues from, and the other way
    around.

    Args:
        learning_rate: A float or a schedule. Defaults to `0.001`.
        weight_decay: Share of a weight that a step at learning rate 1 takes away, or `None`.
            Defaults to `None`.
        beta_1: Decay of the first moment. Defaults to `0.9`.
        beta_2: Decay of the second moment. Defaults to `0.999`.
        epsilon: Added to the root of the second moment. Defaults to `1e-8`.
        **kwargs: See `keras.optimizers.Optimizer`.
    """

    def __init__(
        self,
        learning_rate=0.001,
        weight_decay: float | None = None,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        name: str = "adamw",
        **kwargs,
    ):
        super().__init__(
            learning_rate=learning_rate, weight_decay=weight_decay, name=name, **kwargs
        )
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        # In the order in which the other AdamW makes them: checkpoints name them by it.
        self._moments = [
            tuple(self._float32_like(variable, name) for name in ("momentum", "velocity"))
            for variable in variables
        ]

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        momentum, velocity = self._moments[index]
        gradient = gradient.astype(jnp.float32)
        step = (self.iterations.value + 1).astype(jnp.float32)
        rate = jnp.asarray(learning_rate, jnp.float32)
        corrected = rate * jnp.sqrt(1.0 - self.beta_2**step) / (1.0 - self.beta_1**step)
        decays = self.weight_decay and self._use_weight_decay(variable)
        kept = 1.0 - rate * self.weight_decay if decays else 1.0
        self.assign(momentum, self.beta_1 * momentum.value + (1.0 - self.beta_1) * gradient)
        self.assign(
            velocity, self.beta_2 * velocity.value + (1.0 - self.beta_2) * jnp.square(gradient)
        )
        update = corrected * momentum.value / (jnp.sqrt(velocity.value) + self.epsilon)
        updated = kept * variable.value.astype(jnp.float32) - update
        if variable.dtype == "bfloat16":
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), index), step)
            updated = _rounded_by_chance(updated, key)
        self.assign(variable, updated.astype(variable.dtype))

    def _apply_weight_decay(self, variables):
        """Does nothing: `update_step` applies weight decay."""

    def get_config(self):
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }

    def _float32_like(self, variable: keras.Variable, name: str) -> keras.Variable:
        if variable.dtype == "float32":
            return self.add_variable_from_reference(variable, name=name)
        return self.add_variable(variable.shape, initializer="zeros", dtype="float32", name=name)


def _rounded_by_chance(values, key):
    """Rounds float32 values to ones that bfloat16 holds, each up or down in proportion."""
    noise = jax.random.bits(key, values.shape, jnp.uint32) & 0xFFFF
    bits = jax.lax.bitcast_convert_type(values, jnp.uint32) + noise
    return jax.lax.bitcast_convert_type(bits & jnp.uint32(0xFFFF0000), jnp.float32)
