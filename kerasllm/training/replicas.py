"""What crosses replicas: sums, and one decision for all. The only file that knows how Keras reduces.

Keras' optimizers sum the gradients of all replicas themselves, after clipping each replica's own.
Here they are summed first, so that the norm that is clipped, and looked at, is that of the global
batch; and Keras' own reduction, which would count every replica again, is taken out.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf


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
    own = tf.nest.map_structure(tf.identity, values)
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, own)


def on_all_replicas_if(condition: tf.Tensor, update: Callable, *arguments) -> None:
    """Calls `update(*arguments)` on each replica where a condition holds; call it on each replica.

    Args:
        condition: A bool scalar, the same on every replica.
        update: What to do on each replica, such as to apply gradients. Returns nothing.
        *arguments: Lists of tensors, of which each replica is given its own.
    """

    # A branch that waits for other replicas cannot stand in a replica's own code.
    def decide(strategy, condition, *arguments):
        first = strategy.experimental_local_results(condition)[0]

        def run():
            strategy.extended.call_for_each_replica(update, args=arguments)

        tf.cond(first, run, lambda: None)

    tf.distribute.get_replica_context().merge_call(decide, args=(condition, *arguments))


def take_summed_gradients(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes a Keras optimizer take gradients that are summed over replicas already."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    inner._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables


def strategy_of(optimizer: keras.optimizers.Optimizer) -> tf.distribute.Strategy:
    """Returns the strategy under whose scope a Keras optimizer was made."""
    return getattr(optimizer, "inner_optimizer", optimizer)._distribution_strategy
