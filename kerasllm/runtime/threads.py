"""A core for each part of a batch, in place of all cores for each operation.

Two cores that share one product of matrices, or one pass over some megabytes, wait for each other
at its end, hundreds of times a step. Where each core computes a part of the batch by itself they
wait once. What it costs is a sum of gradients, and that each core reads the weights.
"""

from __future__ import annotations

import os

import tensorflow as tf

from kerasllm.runtime.xla_cache import calls_at_once

# More parts were not measured: each has gradients of its own, which are read to be summed.
_MOST_CORES = 4
# Of a part: the products of fewer do not fill a core.
_LEAST_ROWS = 8
# Whoever sets these knows better.
_CHOSEN_BY_USER = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")

_parts = 1


def spread_batches(rows: int) -> bool:
    """Makes TensorFlow compute each operation on one core, where batches have a part for each.

    To be called before TensorFlow's first operation; later it changes nothing.

    Args:
        rows: Rows of a micro-batch.

    Returns:
        Whether it does: on 2 to 4 cores without accelerators, with 8 rows or more for each, where
        TensorFlow was imported by `kerasllm`.
    """
    global _parts
    cores = _cores()
    wanted = 2 <= cores <= _MOST_CORES and rows >= cores * _LEAST_ROWS and calls_at_once()
    if not wanted or any(name in os.environ for name in _CHOSEN_BY_USER):
        return False
    if tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("TPU"):
        return False
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(cores)
    except RuntimeError:
        return _parts > 1
    _parts = cores
    return True


def parts_of_batch() -> int:
    """Returns how many parts of a batch are computed at a time: see `spread_batches`."""
    return _parts


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
