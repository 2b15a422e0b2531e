"""What crosses replicas: sums, and one decision for all.

The only file that knows how Keras reduces: its optimizers sum the gradients of all replicas
themselves, after clipping each replica's own. Here they are summed first, so that the norm that is
clipped, and looked at, is that of the global batch; and Keras' own reduction, which would count
every replica again, is left out while they are applied.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
import tensorflow as tf

from kerasllm.training.adamw import AdamW
from kerasllm.training.inner_optimizer import inner_optimizer

# What is not public, of all that is used of Keras: tests/training/test_replicas.py pins it.
_OF_KERAS = ("_all_reduce_sum_gradients", "_clip_gradients")

# How many replicas are applying gradients with an optimizer, which they share.
_applying: Counter[int] = Counter()
_lock = threading.Lock()


def sum_over_replicas(values):
    """Returns the sums of tensors over all replicas of all workers; call it on each replica.

    Args:
        values: A structure of tensors, whose shapes are the same on every replica.

    Returns:
        The same structure; on each replica the same numbers.
    """
    replica = tf.distribute.get_replica_context()
    if replica.num_replicas_in_sync == 1:
        return values
    # A tensor that all replicas share has no replica's device to be sent from.
    own = [tf.identity(value) for value in tf.nest.flatten(values)]
    sums = [None] * len(own)
    # TensorFlow packs tensors into one, and those of different dtypes do not go into one.
    for dtype in dict.fromkeys(value.dtype for value in own):
        places = [place for place, value in enumerate(own) if value.dtype == dtype]
        reduced = replica.all_reduce(tf.distribute.ReduceOp.SUM, [own[place] for place in places])
        for place, value in zip(places, reduced, strict=True):
            sums[place] = value
    return tf.nest.pack_sequence_as(values, sums)


def of_first_replica(strategy: tf.distribute.Strategy, value: tf.Tensor) -> tf.Tensor:
    """Returns, in every process that trains, the number that the first one has."""

    def own():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return sum_over_replicas(tf.where(replica == 0, value, tf.zeros_like(value)))

    @tf.function(autograph=False)
    def shared():
        return strategy.experimental_local_results(strategy.run(own))[0]

    return shared()


def on_all_replicas_if(condition: tf.Tensor, update: Callable, *arguments) -> None:
    """Calls `update(*arguments)` on each replica where a condition holds; call it on each replica.

    Args:
        condition: A bool scalar, the same on every replica.
        update: What to do on each replica, such as to apply gradients. Returns nothing.
        *arguments: Lists of tensors, one for each replica.
    """

    # A branch that waits for other replicas cannot stand in a replica's own code.
    def decide(strategy, condition, *arguments):
        first = strategy.experimental_local_results(condition)[0]

        def run():
            strategy.extended.call_for_each_replica(update, args=arguments)

        tf.cond(first, run, lambda: None)

    tf.distribute.get_replica_context().merge_call(decide, args=(condition, *arguments))


def check_optimizer(optimizer: keras.optimizers.Optimizer) -> None:
    """Checks that a Keras optimizer still has what `ready_gradients` replaces.

    Raises:
        RuntimeError: If Keras has changed and no longer sums and clips as it did.
    """
    if keras.config.backend() != "tensorflow":
        # Sums over devices are XLA's, see `kerasllm.training.sharded.step`.
        return
    inner = inner_optimizer(optimizer)
    missing = [name for name in _OF_KERAS if not hasattr(inner, name)]
    if missing:
        raise RuntimeError(
            f"The optimizers of Keras {keras.__version__} have no `{missing[0]}` any more. See "
            "keras/src/backend/tensorflow/optimizer.py and keras/src/optimizers/base_optimizer.py "
            "for how they sum and clip gradients, and change kerasllm/training/replicas.py."
        )


@contextmanager
def ready_gradients(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Lets a Keras optimizer apply gradients, in the block, that are summed and clipped already.

    Its methods are replaced while the block runs, which is while TensorFlow traces: afterwards the
    optimizer sums and clips as before, wherever else it is used.
    """
    inner = inner_optimizer(optimizer)
    names = _OF_KERAS if inner.global_clipnorm else _OF_KERAS[:1]
    with _lock:
        _applying[id(inner)] += 1
        if _applying[id(inner)] == 1:
            for name in names:
                setattr(inner, name, _unchanged)
    try:
        yield
    finally:
        # Replicas take turns, and each has to get past what is replaced before any of them ends.
        with _lock:
            _applying[id(inner)] -= 1
            if not _applying[id(inner)]:
                del _applying[id(inner)]
                for name in names:
                    delattr(inner, name)


def apply(
    optimizer: keras.optimizers.Optimizer, gradients: list, variables: list, norm: tf.Tensor
) -> None:
    """Updates variables, by gradients scaled down to the optimizer's `global_clipnorm`.

    Keras would read all gradients a second time for their norm, and sum squares in their own
    dtype, which bfloat16 is too coarse for.

    Args:
        optimizer: A Keras optimizer.
        gradients: Tensors, or `None` where a variable has none.
        variables: The variables.
        norm: float32 scalar, the gradients' global norm. Where it is not finite, no gradient will
            be.
    """
    inner = inner_optimizer(optimizer)
    limit = inner.global_clipnorm
    with ready_gradients(optimizer):
        if not limit:
            optimizer.apply(gradients, variables)
            return
        # Of an infinite norm 0, and 0 times infinity is no number either.
        factor = limit / tf.maximum(norm, limit)
        # Several replicas would set it in turn, on the one optimizer that they share.
        alone = tf.distribute.get_strategy().num_replicas_in_sync == 1
        if isinstance(inner, AdamW) and alone:
            with inner.scaling(factor):
                optimizer.apply(gradients, variables)
            return
        scaled = [
            each if each is None else each * tf.cast(factor, each.dtype) for each in gradients
        ]
        optimizer.apply(scaled, variables)


def _unchanged(values):
    return values
