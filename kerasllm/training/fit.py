"""The one `fit`: a Keras model whose training step works the same for every batch size and cut.

What differs from Keras' own step:

- The loss is a sum over items divided by their total weight, so a batch that was cut into
  micro-batches, or that has a short end, has the gradient of one large batch.
- Forward and backward are one function, which XLA may compile; the optimizer is applied outside.
  This is the cut that tf.distribute needs: gradients can be reduced between the two.
- Gradients are taken with respect to each variable's `value`, which stands for the replica's own
  copy in a compiled function.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf


class FineTunedModel(keras.Model):
    """A KerasHub task that is trained with `compile` and `fit`.

    Args:
        task: A KerasHub task, such as a `TextClassifier`. Its outputs become float32, whatever
            the precision it computes in.
        **kwargs: See `keras.Model`.

    Example:

    ```python
    model = FineTunedModel(keras_hub.models.BertTextClassifier(backbone, num_classes=2))
    model.compile(keras.optimizers.AdamW(5e-5), accumulate=2)
    model.fit(dataset, epochs=1)
    ```
    """

    def __init__(self, task: keras.Model, **kwargs):
        super().__init__(name=task.name, dtype=task.dtype_policy, **kwargs)
        self.task = task
        self.accumulate = 1
        self.xla = False
        self.item_loss = None
        # The task is built; without this Keras would build the model from a first batch.
        self.built = True

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, of `token_ids`, `padding_mask` and `segment_ids`."""
        return tuple(self.task.input)

    def call(self, inputs, training=None):
        return keras.ops.cast(self.task(inputs, training=training), "float32")

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer,
        loss: keras.losses.Loss | None = None,
        metrics: Sequence | None = None,
        *,
        accumulate: int = 1,
        xla: bool = False,
        **kwargs,
    ):
        """Sets how the model is trained.

        Args:
            optimizer: A Keras optimizer.
            loss: A Keras loss on logits; its reduction does not matter: it is summed, and divided
                by the total weight of the batch. Defaults to `None`: the cross-entropy of integer
                labels.
            metrics: Keras metrics. Defaults to `None`: accuracy.
            accumulate: Micro-batches that a batch is cut into, to use less memory; must divide
                the batch size. Defaults to `1`.
            xla: Whether XLA compiles forward and backward. Defaults to `False`.
            **kwargs: See `keras.Model.compile`.
        """
        if loss is None:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, name="crossentropy")
        if not isinstance(loss, keras.losses.Loss):
            raise ValueError(f"`loss` must be a `keras.losses.Loss`. Received: loss={loss!r}")
        if metrics is None:
            metrics = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
        self.accumulate = accumulate
        self.xla = xla
        self.item_loss = copy.copy(loss)
        self.item_loss.reduction = "sum"
        # Keras' own switch would compile the optimizer's update as well.
        super().compile(
            optimizer=optimizer, loss=loss, weighted_metrics=metrics, jit_compile=False, **kwargs
        )
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)

    def train_step(self, data):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        if weight is None:
            weight = tf.ones(tf.shape(y)[:1])
        weight = tf.cast(weight, tf.float32)
        share = self._share(weight)
        compute = self._forward_backward()
        if self.accumulate == 1:
            loss, logits, gradients = compute(x, y, share)
        else:
            loss, logits, gradients = self._accumulate(compute, x, y, share)
        self.optimizer.apply(gradients, self.trainable_variables)
        logs = self._update_metrics(y, logits, weight, loss)
        logs["step_loss"] = loss
        return logs

    def test_step(self, data):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        if weight is None:
            weight = tf.ones(tf.shape(y)[:1])
        weight = tf.cast(weight, tf.float32)
        logits = self(x, training=False)
        loss = self.item_loss(y, logits, sample_weight=self._share(weight))
        return self._update_metrics(y, logits, weight, loss)

    def _share(self, weight):
        """Returns the part of the batch's loss that each row makes up; the parts sum to 1."""
        return tf.math.divide_no_nan(weight, tf.reduce_sum(weight))

    def _forward_backward(self) -> Callable:
        """Returns the function from a batch to its loss, logits and gradients."""
        variables = [variable.value for variable in self.trainable_variables]

        def forward_backward(x, y, share):
            with tf.GradientTape() as tape:
                logits = self(x, training=True)
                loss = self.item_loss(y, logits, sample_weight=share)
                # Regularisation belongs to the batch, whatever part of it this is.
                total = loss + sum(self.losses) * tf.reduce_sum(share)
                scaled = self.optimizer.scale_loss(total)
            gradients = tape.gradient(scaled, variables)
            # Dense, because embeddings' sparse gradients can be neither summed nor clipped alike.
            dense = [
                gradient if gradient is None else tf.convert_to_tensor(gradient)
                for gradient in gradients
            ]
            return loss, logits, dense

        # One graph, however often it is called; XLA makes one program of it.
        return tf.function(forward_backward, jit_compile=self.xla or None)

    def _accumulate(self, compute: Callable, x, y, share):
        """Sums loss and gradients over micro-batches, one in memory at a time."""
        rows = tf.shape(y)[0]
        whole = tf.debugging.assert_equal(
            rows % self.accumulate,
            0,
            message=f"A batch must be divisible into accumulate={self.accumulate} micro-batches.",
        )
        # Before the cut, which would fail with less to say.
        with tf.control_dependencies([whole]):
            rows = tf.identity(rows)

        def cut(tensor):
            shape = tf.concat([[self.accumulate, rows // self.accumulate], tf.shape(tensor)[1:]], 0)
            return tf.reshape(tensor, shape)

        parts = tf.nest.map_structure(cut, (x, y, share))

        def part(index):
            return tf.nest.map_structure(lambda tensor: tensor[index], parts)

        loss, logits, gradients = compute(*part(0))
        present = [index for index, gradient in enumerate(gradients) if gradient is not None]
        all_logits = tf.TensorArray(logits.dtype, self.accumulate, element_shape=logits.shape)

        def body(index, loss, sums, all_logits):
            next_loss, next_logits, next_gradients = compute(*part(index))
            sums = [total + next_gradients[i] for total, i in zip(sums, present, strict=True)]
            return index + 1, loss + next_loss, sums, all_logits.write(index, next_logits)

        _, loss, sums, all_logits = tf.while_loop(
            lambda index, *_: index < self.accumulate,
            body,
            (1, loss, [gradients[i] for i in present], all_logits.write(0, logits)),
            parallel_iterations=1,
        )
        for index, total in zip(present, sums, strict=True):
            gradients[index] = total
        return loss, all_logits.concat(), gradients

    def _update_metrics(self, y, logits, weight, loss) -> dict:
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=tf.reduce_sum(weight))
            else:
                metric.update_state(y, logits, sample_weight=weight)
        return self.get_metrics_result()
