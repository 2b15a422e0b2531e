"""A core for each slice of a batch, instead of all cores for each operation.

Two cores that share one product of matrices, or one pass over some megabytes, wait for each other
at its end, hundreds of times a step. Where each core computes a slice of the batch by itself they
wait once. What it costs is a sum of gradients, and that each core reads the weights.

The number of slices enters the numbers of a training: dropout is drawn for each, and gradients are
summed over them. So it follows from the job and the machine, and not from whether the threads could
be set, which change how fast the slices are computed and nothing else.
"""

from __future__ import annotations

import os

import tensorflow as tf

from kerasllm.runtime.switches import is_off
from kerasllm.runtime.xla_cache import calls_at_once

# On more, cores share operations. More slices were not measured: each has gradients of its own,
# which are read to be summed.
MOST_CORES = 4
# Of a slice: the products of fewer do not use a core well.
_LEAST_ROWS = 8
# A user who sets these knows better.
_CHOSEN_BY_USER = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")

_operations_at_once = 1


def slices_for(rows: int) -> int:
    """Returns how many slices a micro-batch is computed in on this machine.

    Args:
        rows: Rows of a micro-batch.

    Returns:
        One for each of 2 to 4 cores, with 8 rows or more for each; `1` elsewhere, with
        accelerators, and where `KERASLLM_SLICES=0`.
    """
    if is_off("KERASLLM_SLICES"):
        return 1
    slices = slices_on(available_cores(), rows)
    if slices == 1:
        return 1
    if tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("TPU"):
        return 1
    return slices


def slices_on(cores: int, rows: int) -> int:
    """Returns how many slices a micro-batch is computed in on so many cores.

    Args:
        cores: Cores of this process.
        rows: Rows of a micro-batch.

    Example:

    >>> [slices_on(cores, rows=32) for cores in (1, 2, 4, 8, 64)]
    [1, 2, 4, 1, 1]
    """
    return cores if 2 <= cores <= MOST_CORES and rows >= cores * _LEAST_ROWS else 1


def set_threads(slices: int) -> str | None:
    """Makes TensorFlow compute each operation on one core, where there is a slice for each core.

    Args:
        slices: Slices of a batch that are computed at the same time.

    Returns:
        Why a batch in slices takes longer than it would, in words; `None` where it does not, or
        where a user has chosen the threads.
    """
    global _operations_at_once
    cores = available_cores()
    if slices == 1:
        return None
    if not calls_at_once():
        return (
            f"the {slices} slices of a batch are computed one after another: XLA was in use, or "
            "was given other flags, before kerasllm could set its own"
        )
    chosen = any(name in os.environ for name in _CHOSEN_BY_USER)
    # With fewer slices than cores, cores share operations, as they do without slices.
    if slices < cores or chosen or is_off("KERASLLM_THREADS"):
        return None
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(cores)
    except RuntimeError:
        return (
            "TensorFlow was already initialized when its threads were to be set: same results, "
            "slower steps"
        )
    _operations_at_once = cores
    return None


def operations_at_once() -> int:
    """Returns how many operations are computed at a time, each on one core; see `set_threads`."""
    return _operations_at_once


def available_cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
