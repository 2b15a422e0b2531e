"""The memory that training needs on each device, and that a device has."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from kerasllm.distribution.graph_memory import operation_count, peak_of

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")

# A process that has imported the engine and started TensorFlow on a CPU, and what each operation
# of the step's graph adds: its Python object, its definitions, its kernel, and what was freed
# around them but not given back. Seen with TensorFlow 2.21 on Linux, in `benchmarks/memory.py`.
PROCESS_BYTES = 800 << 20
OPERATION_BYTES = 32 << 10


@dataclass(frozen=True)
class MemoryEstimate:
    """What a training needs on each device at its peak, in bytes.

    Attributes:
        weights: All weights, trained or not.
        gradients: One of each trained weight.
        optimizer: The optimizer's state.
        activations: What a step needs beyond these: what the backward pass keeps of the forward
            pass, copies of weights in another dtype, room to work in.
        base: What the process needs for itself, in the host's memory.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    base: int

    @property
    def device(self) -> int:
        """The bytes of the tensors of one device."""
        return self.weights + self.gradients + self.optimizer + self.activations

    def process(self, devices: int = 1) -> int:
        """The bytes of a process whose devices are parts of the host's CPU.

        Args:
            devices: How many they are. Defaults to `1`.
        """
        return self.base + devices * self.device


def estimate_memory(
    model: keras.Model, step: tf.types.experimental.ConcreteFunction
) -> MemoryEstimate:
    """Estimates what a training needs, before its first step.

    Of a process on a CPU it was 86 to 98% of what `benchmarks/memory.py` measured. What is not
    seen: the gaps between tensors, some 5 to 10% of their size; memory that kernels take for
    themselves; how XLA fuses and orders operations, and what its compiler needs, on a CPU some
    300 MiB.

    Args:
        model: A model whose weights and optimizer are built.
        step: A training step on all devices of this process, traced with the largest batch.

    Example:

    ```python
    step = tf.function(lambda data: strategy.run(model.train_step, args=(data,)))
    needs = estimate_memory(model, step.get_concrete_function(specs))
    needs.device > device_memory("GPU")
    ```
    """
    # A strategy's step holds the tensors of all its devices, which do the same.
    copies = model.distribute_strategy.experimental_local_results(model.variables[0].value)
    gradients = bytes_of(model.trainable_variables)
    return MemoryEstimate(
        weights=bytes_of(model.variables),
        gradients=gradients,
        optimizer=bytes_of(model.optimizer.variables),
        activations=max(0, peak_of(step) // len(copies) - gradients),
        base=PROCESS_BYTES + OPERATION_BYTES * operation_count(step),
    )


def checkpoint_bytes(model: keras.Model) -> int:
    """Returns the bytes on disk of a checkpoint of a compiled model."""
    # What does not train is in the preset.
    return bytes_of([*model.trainable_variables, *model.optimizer.variables])


def bytes_of(variables: Iterable[keras.Variable]) -> int:
    """Returns the bytes of variables, each counted once."""
    each = {id(variable): variable for variable in variables}.values()
    return sum(
        tf.TensorShape(variable.shape).num_elements() * tf.as_dtype(variable.dtype).size
        for variable in each
    )


def device_memory(kind: str) -> int | None:
    """Returns how much memory a device of this machine has for a training.

    Args:
        kind: `CPU`: what the machine has free, or the container may have, whichever is less.
            `GPU`: what the smallest one has, from `nvidia-smi`, as TensorFlow does not tell.

    Returns:
        Bytes, `None` where the system does not tell, and for any other kind.
    """
    if kind == "GPU":
        return _gpu_memory()
    if kind != "CPU":
        return None
    free = _free_memory()
    limits = [limit for limit in (free, *_container_limits()) if limit is not None]
    return min(limits, default=None)


def _gpu_memory() -> int | None:
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        shown = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
        return min(int(line) << 20 for line in shown.stdout.splitlines())
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _free_memory() -> int | None:
    try:
        for line in (_PROC / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _container_limits() -> list[int]:
    """Returns the limits of the control groups that this process is in, of version 2 or 1."""
    files = [_CGROUPS / "memory" / "memory.limit_in_bytes"]
    try:
        for line in (_PROC / "self" / "cgroup").read_text().splitlines():
            number, _, path = line.split(":", 2)
            if number == "0":
                group = Path(path.lstrip("/"))
                files += [_CGROUPS / each / "memory.max" for each in (group, *group.parents)]
    except OSError:
        pass
    limits = []
    for file in files:
        try:
            limits.append(int(file.read_text()))
        except (OSError, ValueError):
            # Not of this version, or "max": without a limit.
            continue
    return limits
