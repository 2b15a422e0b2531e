"""How much of a GPU's memory TensorFlow takes: what it needs, a limit, or all of it."""

from __future__ import annotations

import tensorflow as tf

from kerasllm.runtime.switches import is_off

_MEBIBYTE = 1 << 20


def set_gpu_memory(limit: str | int) -> str | None:
    """Sets how TensorFlow takes the memory of the GPUs; before its first operation.

    Args:
        limit: `"growth"`: what is needed, as it is needed; `"all"`: all of it at the beginning;
            or the maximum number of bytes of each GPU.

    Returns:
        Why it could not be set, in words; `None` where it was, or there is no GPU.
    """
    if is_off("KERASLLM_GPU_MEMORY"):
        return None
    try:
        for gpu in tf.config.list_physical_devices("GPU"):
            if isinstance(limit, int):
                device = tf.config.LogicalDeviceConfiguration(
                    memory_limit=max(limit // _MEBIBYTE, 1)
                )
                tf.config.set_logical_device_configuration(gpu, [device])
            else:
                tf.config.experimental.set_memory_growth(gpu, limit == "growth")
    except RuntimeError:
        return "training.gpu_memory came too late: TensorFlow has already initialized the GPUs"
    except ValueError:
        return (
            "training.gpu_memory is not applied: this process has split the GPUs into logical "
            "devices"
        )
    return None
