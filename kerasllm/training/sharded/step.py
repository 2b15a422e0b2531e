"""One training step as a function of arrays, which JAX compiles once for all devices.

The values of all variables go in and come out: nothing is changed in place. Where each array lies
follows from the layouts of the variables (`kerasllm.distribution.layouts`); XLA adds what devices
have to tell each other, so that the numbers are those of one device.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import keras
from jax.ad_checkpoint import checkpoint_name

from kerasllm.distribution.layouts import Axes, axes_of, computed_axes
from kerasllm.training.inner_optimizer import inner_optimizer

SEED = "seed_generator_state"
_GATHERED = "gathered"


def mesh_in_use() -> jax.sharding.Mesh:
    """Returns the devices that variables are made on."""
    return keras.distribution.distribution().device_mesh.backend_mesh


def sharding_by(axes: Axes) -> jax.sharding.NamedSharding:
    """Returns a sharding by the axes of the mesh that split each dimension."""
    spec = jax.sharding.PartitionSpec(*(names or None for names in axes))
    return jax.sharding.NamedSharding(mesh_in_use(), spec)


class State:
    """The variables of a model, in the groups that a step treats differently.

    Attributes:
        trainable: What is trained.
        optimizer: The optimizer's variables.
        sums: What the metrics add up.
        fixed: All others: weights that do not train, and the seeds of random layers.
    """

    def __init__(self, model: keras.Model):
        self.trainable = list(model.trainable_variables)
        self.optimizer = list(model.optimizer.variables) if model.compiled else []
        self.sums = [variable for metric in model.metrics for variable in metric.variables]
        taken = {id(variable) for group in (self.trainable, self.sums) for variable in group}
        self.fixed = [variable for variable in model.variables if id(variable) not in taken]

    def gathered(self, variables: Sequence[keras.Variable], values: Sequence) -> list:
        """Returns the values of weights as a layer needs them: without what `data` splits."""
        return [
            _gathered(variable, value) for variable, value in zip(variables, values, strict=True)
        ]

    def mapping(self, trainable: Sequence, fixed: Sequence) -> list[tuple]:
        """Returns the weights with their values, for a scope in which a model computes."""
        groups = ((self.trainable, trainable), (self.fixed, fixed))
        return [
            pair
            for variables, values in groups
            for pair in zip(variables, self.gathered(variables, values), strict=True)
        ]

    def shardings(self) -> list[list[jax.sharding.NamedSharding]]:
        """Returns where the arrays of `values` lie."""
        mesh = mesh_in_use().shape
        groups = self.trainable, self.optimizer, self.sums, self.fixed
        return [[sharding_by(axes_of(tuple(v.shape), mesh)) for v in group] for group in groups]

    def values(self) -> tuple[list, list, list, list]:
        """Returns the arrays of all variables."""
        groups = self.trainable, self.optimizer, self.sums, self.fixed
        return tuple([variable.value for variable in group] for group in groups)


class TrainStep:
    """Computes a step: loss, gradients, the update, and what the metrics add up.

    Args:
        model: A compiled `FineTunedModel`.
        state: Its variables.
    """

    def __init__(self, model: keras.Model, state: State):
        self._model = model
        self._state = state
        self._seeds = [variable for variable in state.fixed if variable.name == SEED]

    def __call__(self, values, batch, requests, step):
        """Computes a step.

        Args:
            values: See `State.values`.
            batch: `(x, y, weight, total, share)` of the global batch, cut into micro-batches
                `[micro-batches, rows, ...]`; `total` is a scalar, or one for each output.
            requests: float32 `[devices, 2]`: what each process asks all of them for.
            step: int32 scalar, the number of the step.

        Returns:
            The new values of what is trained, of the optimizer and of the metrics; and the values
            of this step by name.
        """
        trainable, slots, sums, fixed = values
        x, y, weight, total, share = batch
        scale = self._scale_of_loss(slots)
        loss, outputs, gradients = self._gradients(trainable, fixed, (x, y, share), step, scale)
        # The norm is that of the global batch, before it is clipped.
        present = [each for each in gradients if each is not None]
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(each.astype(jnp.float32))) for each in present))
        norm /= scale
        sound = jnp.isfinite(loss)
        applied = sound & jnp.isfinite(norm)
        gradients = self._clipped(gradients, norm)
        # A loss-scaling optimizer leaves out steps whose gradients overflow, and learns by it.
        scales = isinstance(self._model.optimizer, keras.optimizers.LossScaleOptimizer)
        trainable, slots = jax.lax.cond(
            sound if scales else applied,
            lambda: self._updated(trainable, slots, gradients),
            lambda: (trainable, slots),
        )
        # A step that is left out leaves no trace in the running metrics either.
        weight = jax.tree.map(lambda each: jnp.where(sound, each, 0.0), weight)
        measured = jax.tree.map(_together, (y, outputs, weight))
        sums, logs = add_up(
            self._model, self._state, sums, measured, jnp.where(sound, loss, 0.0), total, sound
        )
        each = {
            "step_loss": loss,
            "gradient_norm": norm,
            "applied": applied,
            "requests": jnp.sum(requests, axis=0),
        }
        return trainable, slots, sums, logs, each

    def _scale_of_loss(self, slots):
        """Returns what the optimizer multiplies the loss by, and divides the gradients by."""
        mapping = list(zip(self._state.optimizer, slots, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return self._model.optimizer.scale_loss(jnp.float32(1))

    def _gradients(self, trainable, fixed, batch, step, scale):
        """Returns the sums over all micro-batches, one in memory at a time.

        The gradients are those of the scaled loss.
        """
        count = jax.tree.leaves(batch)[0].shape[0]

        def compute(number, micro_batch):
            # Between its forward and its backward pass a layer's weights are not kept whole.
            @functools.partial(jax.checkpoint, policy=_all_but_gathered)
            def loss_of(trainable):
                total, found = self._loss(trainable, fixed, micro_batch, step, number)
                return total * scale, found

            (_, found), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable)
            return found, gradients

        if count == 1:
            (loss, outputs), gradients = compute(0, jax.tree.map(lambda each: each[0], batch))
            outputs = jax.tree.map(lambda each: each[None], outputs)
            return loss, outputs, self._used(gradients)

        def add(carry, numbered):
            (loss, outputs), gradients = compute(*numbered)
            return jax.tree.map(jnp.add, carry, (loss, gradients)), outputs

        nothing = (jnp.float32(0), jax.tree.map(jnp.zeros_like, trainable))
        numbered = (jnp.arange(count), batch)
        (loss, gradients), outputs = jax.lax.scan(add, nothing, numbered)
        return loss, outputs, self._used(gradients)

    def _loss(self, trainable, fixed, micro_batch, step, number):
        model, state = self._model, self._state
        x, y, share = micro_batch
        mapping = state.mapping(trainable, fixed)
        mapping += zip(self._seeds, self._drawn(mapping, step, number), strict=True)
        with _Reads(state_mapping=mapping, collect_losses=True) as scope:
            loss, outputs = model.loss_and_outputs(x, y, share)
            self._refuse_states(scope)
            self._read = scope.read
            # Regularisation belongs to the batch, and each micro-batch counts its share of it.
            regularisation = sum(model.losses)
        total = loss + regularisation * jnp.sum(jax.tree.leaves(share)[0])
        return total, (loss, outputs)

    def _drawn(self, mapping, step, number) -> list:
        """Returns a state for each random layer that no other step or micro-batch has."""
        if not self._seeds:
            return []
        own = {id(variable): value for variable, value in mapping}
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), step), number)
        noise = jax.random.bits(key, (len(self._seeds), 2), jnp.uint32)
        # A generator's own state, which never changes, holds the seed of the run.
        states = [own[id(variable)] for variable in self._seeds]
        return [draw + state for draw, state in zip(noise, states, strict=True)]

    def _refuse_states(self, scope: keras.StatelessScope) -> None:
        """Refuses layers such as BatchNormalization, whose statistics are of one micro-batch."""
        for variable in self._state.fixed:
            if variable.name != SEED and id(variable) in scope.written:
                raise ValueError(
                    "A layer must not change its own state in training; use a LayerNormalization "
                    f"in place of a BatchNormalization. Received: the state {variable.path}"
                )

    def _used(self, gradients: Sequence) -> list:
        """Returns `None` for weights that the loss never reads: the optimizer leaves them alone."""
        return [
            gradient if id(variable) in self._read else None
            for variable, gradient in zip(self._state.trainable, gradients, strict=True)
        ]

    def _clipped(self, gradients: Sequence, norm) -> list:
        limit = inner_optimizer(self._model.optimizer).global_clipnorm
        if not limit:
            return list(gradients)
        factor = limit / jnp.maximum(norm, limit)
        return [each if each is None else each * factor.astype(each.dtype) for each in gradients]

    def _updated(self, trainable, slots, gradients):
        optimizer = self._model.optimizer
        with _clips_nothing(inner_optimizer(optimizer)):
            return optimizer.stateless_apply(slots, gradients, trainable)


def add_up(model, state: State, sums, measured, loss, total, counted=True):
    """Adds one batch to the metrics.

    Args:
        model: A compiled `FineTunedModel`.
        state: Its variables.
        sums: The arrays of `state.sums`.
        measured: Targets, outputs and weights, `[rows, ...]`; of several outputs lists.
        loss: The loss of the batch.
        total: The sum of its weights; of several outputs a list.
        counted: Whether the loss counts. Defaults to `True`.

    Returns:
        The new sums, and the value of each metric by name.
    """
    y, outputs, weight = measured
    if len(model.compiled_outputs) == 1:
        y, weight, total = [y], [weight], [total]
    with keras.StatelessScope(state_mapping=list(zip(state.sums, sums, strict=True))) as scope:
        model.loss_tracker.update_state(loss, sample_weight=jnp.where(counted, total[0], 0.0))
        for each, *part in zip(
            model.compiled_outputs, y, jax.tree.leaves(outputs), weight, strict=True
        ):
            each.update_metrics(model.metric_inputs, *part)
        logs = {metric.name: metric.result() for metric in model.metrics}
        return [_value(scope, variable) for variable in state.sums], logs


def forward(model, state: State, values, compute: Callable[[], Any]) -> Any:
    """Returns what a function gives where the model's variables have some values."""
    with keras.StatelessScope(state_mapping=state.mapping(*values)):
        return compute()


def _gathered(variable: keras.Variable, value):
    """Returns a weight without what the axis `data` splits."""
    axes = axes_of(tuple(variable.shape), mesh_in_use().shape)
    wanted = computed_axes(variable.name, axes)
    if wanted == axes:
        return value
    return checkpoint_name(jax.lax.with_sharding_constraint(value, sharding_by(wanted)), _GATHERED)


def _all_but_gathered(primitive, *_, **parameters) -> bool:
    """Tells whether the forward pass may keep what an operation gives for the backward pass.

    Not whole weights: neither what the constraint gives, nor the same under its name.
    """
    named = primitive.name == "name" and parameters["name"] == _GATHERED
    return not named and primitive.name != "sharding_constraint"


class _Reads(keras.StatelessScope):
    """A scope that notes which variables are read and written in it."""

    def __init__(self, **options):
        super().__init__(**options)
        self.read: set[int] = set()
        self.written: set[int] = set()

    def get_current_value(self, variable):
        self.read.add(id(variable))
        return super().get_current_value(variable)

    def add_update(self, update):
        self.written.add(id(update[0]))
        super().add_update(update)


def _value(scope: keras.StatelessScope, variable: keras.Variable):
    value = scope.get_current_value(variable)
    return variable.value if value is None else value


def _together(values):
    """Returns the rows of all micro-batches as those of one batch."""
    return values.reshape(-1, *values.shape[2:])


@contextmanager
def _clips_nothing(optimizer: keras.optimizers.Optimizer):
    """Lets an optimizer apply gradients that are clipped already."""
    limit, optimizer.global_clipnorm = optimizer.global_clipnorm, None
    try:
        yield
    finally:
        optimizer.global_clipnorm = limit
