"""AdamW with one fused update per weight, and moments in float32 for weights of any dtype."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import keras
import tensorflow as tf

from kerasllm.runtime.stable_names import stable_names
from kerasllm.training.precision import only_cpus

# Below this many elements calling a program takes longer than the update.
_MANY = 1 << 16


class AdamW(keras.optimizers.Optimizer):
    """Adam with decoupled weight decay.

    The numbers are those of `keras.optimizers.AdamW`. What differs is how they are computed:

    - One program or kernel reads the gradient and updates weight and moments. Keras makes some
      fifteen passes; on a CPU, where the update is bound by memory, that is most of its time. A
      large weight's is compiled by XLA where one CPU trains, decay included.
    - Moments and arithmetic are float32. Keras computes in the weight's dtype, and in bfloat16
      0.999 is 1, so that under the policy `bfloat16` its Adam does not move the weights at all.
    - A bfloat16 weight is rounded up or down by chance, in proportion, so that updates too small
      for its 8 bits of precision, and the decay, count on average and are not lost.

    Reference:
        - [Kingma & Ba, 2015](https://arxiv.org/abs/1412.6980)
        - [Loshchilov & Hutter, 2019](https://arxiv.org/abs/1711.05101)
        - Stochastic rounding: [Gupta et al., 2015](https://arxiv.org/abs/1502.02551)

    Args:
        learning_rate: A float or a schedule. Defaults to `0.001`.
        weight_decay: Share of a weight that a step at learning rate 1 takes away, or `None`.
            Defaults to `None`.
        beta_1: Decay of the first moment. Defaults to `0.9`.
        beta_2: Decay of the second moment. Defaults to `0.999`.
        epsilon: Added to the root of the second moment. Defaults to `1e-8`.
        **kwargs: See `keras.optimizers.Optimizer`.

    Example:

    ```python
    model.compile(AdamW(1e-4, weight_decay=0.01, global_clipnorm=1.0))
    ```
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
        self._factor = None
        self._scalars = {}

    @contextmanager
    def scaling(self, factor: tf.Tensor) -> Iterator[None]:
        """Multiplies the gradients that are applied in the block, as part of the update.

        Args:
            factor: float32 scalar, such as one that clips them to a norm.
        """
        self._factor = factor
        try:
            yield
        finally:
            self._factor = None

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._alone = tf.distribute.get_strategy().num_replicas_in_sync == 1
        # XLA updates no variable of several replicas.
        self._compiles = only_cpus() and self._alone
        # Beside its weight, on the same device; a reference in float32 gives it that dtype.
        self._moments = [
            tuple(self._float32_like(variable, name) for name in ("momentum", "velocity"))
            for variable in variables
        ]

    def apply(self, grads, trainable_variables=None):
        self._scalars = {}
        try:
            return super().apply(grads, trainable_variables)
        finally:
            # They are of this graph and of this step.
            self._scalars = {}

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        momentum, velocity = self._moments[index]
        gradient = tf.cast(gradient, tf.float32)
        decays = bool(self.weight_decay and self._use_weight_decay(variable))
        scalars = self._scalars_of(learning_rate, decays)
        if (
            variable.dtype == tf.float32
            and self._compiles
            and variable.shape.num_elements() > _MANY
        ):
            with stable_names("adamw"):
                _update(variable, momentum.value, velocity.value, gradient, scalars.together)
            return
        if self._factor is not None:
            gradient *= self._factor
        if variable.dtype == tf.float32:
            if decays:
                variable.assign(variable * scalars.kept)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=momentum.value.handle,
                v=velocity.value.handle,
                beta1_power=scalars.power_1,
                beta2_power=scalars.power_2,
                lr=scalars.learning_rate,
                beta1=scalars.beta_1,
                beta2=scalars.beta_2,
                epsilon=scalars.epsilon,
                grad=gradient,
            )
            return
        beta_1, beta_2 = scalars.beta_1, scalars.beta_2
        self.assign(momentum, beta_1 * momentum.value + (1.0 - beta_1) * gradient)
        self.assign(velocity, beta_2 * velocity.value + (1.0 - beta_2) * tf.square(gradient))
        update = scalars.rate * momentum.value / (tf.sqrt(velocity.value) + self.epsilon)
        updated = scalars.kept * tf.cast(variable, tf.float32) - update
        if variable.dtype == tf.bfloat16:
            updated = _rounded_by_chance(updated, seed=[self.iterations.value, index])
        self.assign(variable, updated)

    def _scalars_of(self, learning_rate, decays: bool) -> _Scalars:
        """Returns what an update reads beside its weight, made once a step for all that share it.

        Several replicas make their own, each on its device.
        """
        key = (id(learning_rate), decays) if self._alone else None
        known = self._scalars.get(key)
        # Held with it, so that no other rate gets the same id.
        if known is not None and known[0] is learning_rate:
            return known[1]
        step = tf.cast(self.iterations.value + 1, tf.float32)
        rate = tf.cast(learning_rate, tf.float32)
        beta_1, beta_2, epsilon = map(tf.constant, (self.beta_1, self.beta_2, self.epsilon))
        power_1, power_2 = tf.pow(beta_1, step), tf.pow(beta_2, step)
        kept = 1.0 - rate * self.weight_decay if decays else tf.constant(1.0)
        corrected = rate * tf.sqrt(1.0 - power_2) / (1.0 - power_1)
        factor = 1.0 if self._factor is None else self._factor
        together = tf.stack([beta_1, beta_2, epsilon, kept, corrected, factor])
        scalars = _Scalars(
            beta_1, beta_2, epsilon, power_1, power_2, rate, corrected, kept, together
        )
        if key:
            self._scalars[key] = (learning_rate, scalars)
        return scalars

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


class _Scalars(NamedTuple):
    """What an update reads beside gradient, weight and moments, each float32."""

    beta_1: tf.Tensor
    beta_2: tf.Tensor
    epsilon: tf.Tensor
    power_1: tf.Tensor
    power_2: tf.Tensor
    learning_rate: tf.Tensor
    rate: tf.Tensor
    kept: tf.Tensor
    together: tf.Tensor


@tf.function(jit_compile=True, autograph=False)
def _update(variable, momentum, velocity, gradient, scalars):
    beta_1, beta_2, epsilon, kept, rate, factor = tf.unstack(scalars)
    gradient *= factor
    momentum.assign(beta_1 * momentum + (1.0 - beta_1) * gradient)
    velocity.assign(beta_2 * velocity + (1.0 - beta_2) * tf.square(gradient))
    variable.assign(kept * variable - rate * momentum / (tf.sqrt(velocity) + epsilon))


def _rounded_by_chance(values: tf.Tensor, seed: list) -> tf.Tensor:
    """Rounds float32 values to ones that bfloat16 holds, each up or down in proportion.

    bfloat16 is the upper half of float32: what noise on the lower half carries over is the chance
    of rounding away from zero.

    Args:
        values: float32 of any shape.
        seed: Two whole numbers; the same ones round the same way, so that a run can be repeated.
    """
    seed = tf.stack([tf.cast(number, tf.int32) for number in seed])
    noise = tf.random.stateless_uniform(tf.shape(values), seed, 0, 1 << 16, tf.int32)
    bits = tf.bitwise.bitwise_and(tf.bitcast(values, tf.int32) + noise, -(1 << 16))
    return tf.bitcast(bits, tf.float32)
