"""Loss and gradients of one replica's part of a batch: what XLA compiles as one function."""

from __future__ import annotations

import keras
import tensorflow as tf

from kerasllm.runtime.stable_names import stable_names
from kerasllm.training.slices import cut


class ForwardBackward:
    """Computes loss, outputs and gradients, at once or in micro-batches.

    Gradients are taken with respect to each variable's `value`, which stands for the replica's own
    copy in a compiled function. Random layers draw from seeds that are computed from the number of
    the step, the replica and the slice: no replica writes to a generator that others share,
    and a training that is resumed drops the units that it would have dropped.

    Args:
        model: A `FineTunedModel` that is compiled.
        xla: Whether XLA compiles it.
        accumulate: Micro-batches that a replica's rows are cut into.
        slices: Slices that a micro-batch is cut into. Defaults to `1`.
        at_once: Whether the slices are computed at the same time, each on a core of its own; else
            one after another, which gives the same numbers. Defaults to `True`.
    """

    def __init__(
        self,
        model: keras.Model,
        xla: bool,
        accumulate: int,
        slices: int = 1,
        *,
        at_once: bool = True,
    ):
        self._model = model
        self._accumulate = accumulate
        self._slices = slices
        self._at_once = at_once
        self._variables = [variable.value for variable in model.trainable_variables]
        self._generators = [v for v in model.variables if v.name == "seed_generator_state"]
        # One graph, however often it is called; XLA makes one program of it.
        self._compute = tf.function(self._one_slice, jit_compile=xla or None, autograph=False)

    def __call__(self, x, y, share: tf.Tensor, step: tf.Tensor):
        """Computes one replica's part of a step.

        Args:
            x: Inputs, a structure of tensors `[rows, ...]`.
            y: Targets, `[rows, ...]`.
            share: float32, `[rows]` or `[rows, ...]`, the part of the global batch's loss that each
                row, or each item of a row, makes up.
            step: int64 scalar, the number of the step.

        Returns:
            The loss, what the metrics measure, and the gradients, `None` where a variable has none:
            sums over the items, each counted by its share.
        """
        with tf.GradientTape() as tape:
            shared = self._model.shared_by_slices()
        compute = self._micro_batch if self._accumulate == 1 else self._micro_batches
        loss, outputs, gradients = compute((x, y, share), shared, step)
        count = len(self._variables)
        gradients, of_shared = gradients[:count], gradients[count:]
        # A model need not use what it shares.
        used = [pair for pair in zip(shared, of_shared, strict=True) if pair[1] is not None]
        if used:
            shared, of_shared = zip(*used, strict=True)
            # Of what is shared they are sums in float32, regardless of its dtype.
            rest = tape.gradient(list(shared), self._variables, output_gradients=list(of_shared))
            gradients = [_sum(both) for both in zip(gradients, rest, strict=True)]
        return loss, outputs, gradients

    def _micro_batch(self, batch, shared, step, index=0):
        found = []
        for number, each in enumerate(cut(batch, self._slices)):
            seeds = self._seeds(step, index * self._slices + number)
            before = [] if self._at_once or not found else _tensors(found[-1])
            with tf.control_dependencies(before):
                found.append(self._compute(*each, shared, seeds))
        losses, outputs, gradients = zip(*found, strict=True)
        count = len(self._variables)
        summed = [
            (_sum if place < count else _sum_in_float32)(of_slices)
            for place, of_slices in enumerate(zip(*gradients, strict=True))
        ]
        outputs = tf.nest.map_structure(lambda *each: tf.concat(each, 0), *outputs)
        return tf.add_n(losses), outputs, summed

    def _one_slice(self, x, y, share, shared, seeds):
        model = self._model
        states = []
        if seeds is not None:
            states = list(zip(self._generators, tf.unstack(seeds), strict=True))
        with tf.GradientTape() as tape:
            tape.watch(shared)
            with (
                keras.StatelessScope(state_mapping=states, collect_losses=True) as scope,
                model.sharing(shared),
            ):
                loss, outputs = model.loss_and_outputs(x, y, share)
            self._refuse_states(scope)
            # Regularisation belongs to the whole batch, not to a part of it.
            regularisation = tf.cast(sum(model.losses) + sum(scope.losses), loss.dtype)
            total = loss + regularisation * tf.reduce_sum(tf.nest.flatten(share)[0])
            scaled = model.optimizer.scale_loss(total)
        gradients = tape.gradient(scaled, [*self._variables, *shared])
        if self._slices == 1:
            # Inside of what XLA compiles.
            gradients = [_sum([gradient]) for gradient in gradients]
        return loss, outputs, gradients

    def _refuse_states(self, scope: keras.StatelessScope) -> None:
        """Refuses layers such as BatchNormalization, whose statistics are of one replica's rows."""
        seeds = {id(state) for state in self._generators}
        for variable in self._model.non_trainable_variables:
            if id(variable) not in seeds and scope.get_current_value(variable) is not None:
                raise ValueError(
                    "A layer must not change its own state during training: it would only see the "
                    "rows of one replica or micro-batch. Use LayerNormalization instead of "
                    f"BatchNormalization. Received: the state {variable.path}"
                )

    def _micro_batches(self, batch, shared, step):
        """Sums loss and gradients over micro-batches, one in memory at a time."""
        count = self._accumulate
        rows = tf.shape(tf.nest.flatten(batch)[0])[0]
        whole = tf.debugging.assert_equal(
            rows % count,
            0,
            message=f"A batch must be divisible into accumulate={count} micro-batches.",
        )
        # Before the cut, which would fail with less to say.
        with tf.control_dependencies([whole]):
            rows = tf.identity(rows)

        def stacked(tensor):
            shape = tf.concat([[count, rows // count], tf.shape(tensor)[1:]], 0)
            return tf.reshape(tensor, shape)

        micro_batches = tf.nest.map_structure(stacked, batch)

        def compute(index):
            micro_batch = tf.nest.map_structure(lambda tensor: tensor[index], micro_batches)
            return self._micro_batch(micro_batch, shared, step, index)

        loss, outputs, gradients = compute(0)
        present = [index for index, gradient in enumerate(gradients) if gradient is not None]
        structure, outputs = outputs, tf.nest.flatten(outputs)
        all_outputs = [
            tf.TensorArray(each.dtype, count, element_shape=each.shape).write(0, each)
            for each in outputs
        ]

        def body(index, loss, sums, all_outputs):
            # Nothing else keeps the first turn from running beside the part before the loop.
            with tf.control_dependencies(sums):
                next_loss, next_outputs, next_gradients = compute(tf.identity(index))
            sums = [total + next_gradients[i] for total, i in zip(sums, present, strict=True)]
            written = [
                array.write(index, each)
                for array, each in zip(all_outputs, tf.nest.flatten(next_outputs), strict=True)
            ]
            return index + 1, loss + next_loss, sums, written

        _, loss, sums, all_outputs = tf.while_loop(
            lambda index, *_: index < count,
            body,
            (1, loss, [gradients[i] for i in present], all_outputs),
            parallel_iterations=1,
        )
        for index, total in zip(present, sums, strict=True):
            gradients[index] = total
        outputs = [array.concat() for array in all_outputs]
        return loss, tf.nest.pack_sequence_as(structure, outputs), gradients

    def _seeds(self, step, number) -> tf.Tensor | None:
        """Returns a state for each random layer, uint32 `[layers, 2]`: no two draws alike."""
        if not self._generators:
            return None
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        draws = self._accumulate * self._slices
        drawn = tf.cast(replica, tf.int64) * draws + tf.cast(number, tf.int64)
        noise = tf.random.stateless_uniform(
            [len(self._generators), 2],
            seed=tf.stack([tf.cast(step, tf.int64), drawn]),
            minval=None,
            maxval=None,
            dtype=tf.uint32,
        )
        # A generator's own state, which never changes, holds the seed of the run.
        return noise + tf.stack([tf.cast(state.value, tf.uint32) for state in self._generators])


def _tensors(values) -> list[tf.Tensor]:
    """Returns all tensors of a structure, those of sparse gradients among them."""
    flat = tf.nest.flatten(values, expand_composites=True)
    return [each for each in flat if each is not None]


def _sum(gradients) -> tf.Tensor | None:
    """Returns the sum of gradients of one variable, `None` where it has none.

    Dense, because embeddings' sparse gradients can be neither summed nor clipped alike.
    """
    gradients = [gradient for gradient in gradients if gradient is not None]
    if not gradients:
        return None
    if isinstance(gradients[0], tf.IndexedSlices):
        # Side by side, for one pass over the whole table.
        return tf.convert_to_tensor(
            tf.IndexedSlices(
                tf.concat([each.values for each in gradients], 0),
                tf.concat([each.indices for each in gradients], 0),
                gradients[0].dense_shape,
            )
        )
    return gradients[0] if len(gradients) == 1 else tf.add_n(gradients)


def _sum_in_float32(gradients) -> tf.Tensor | None:
    if gradients[0] is None:
        return None
    if gradients[0].dtype == tf.float32 or len(gradients) == 1:
        return tf.cast(_sum(gradients), tf.float32)
    with stable_names("sum"):
        return _add_in_float32(gradients)


# In one pass.
@tf.function(jit_compile=True, autograph=False)
def _add_in_float32(gradients):
    return sum(tf.cast(gradient, tf.float32) for gradient in gradients)
