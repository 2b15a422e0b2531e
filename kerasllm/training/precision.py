"""The values of `precision: auto` and `xla: auto` on this machine's devices."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

# Flags of /proc/cpuinfo that mean matrix products in bfloat16.
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}


def resolve_precision(precision: str) -> str:
    """Returns the Keras dtype policy for a recipe's `precision`.

    `auto` is what was measured fastest: `mixed_bfloat16` on TPUs, on GPUs that compute in it
    (compute capability 8.0 or higher) and on CPUs with AVX512-BF16 or AMX; `mixed_float16` on
    GPUs from 7.0; `float32` elsewhere.
    """
    if precision != "auto":
        return precision
    if keras.config.backend() == "jax":
        import jax

        accelerated = jax.default_backend() != "cpu"
        return "mixed_bfloat16" if accelerated or computes_bfloat16() else "float32"
    if tf.config.list_logical_devices("TPU"):
        return "mixed_bfloat16"
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capabilities = [
            tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
            for gpu in gpus
        ]
        if min(capabilities) >= (8, 0):
            return "mixed_bfloat16"
        return "mixed_float16" if min(capabilities) >= (7, 0) else "float32"
    return "mixed_bfloat16" if computes_bfloat16() else "float32"


def resolve_policy(precision: str | None) -> str:
    """Returns the Keras dtype policy of a model that is built in Python.

    Args:
        precision: A policy, or `"auto"`; see `resolve_precision`. `None`: Keras' global policy if
            it was set to another than `"float32"`, else as `"auto"`.
    """
    if precision is None:
        chosen = keras.config.dtype_policy().name
        precision = "auto" if chosen == "float32" else chosen
    return resolve_precision(precision)


def resolve_xla(xla: str | bool) -> bool:
    """Returns whether to compile: `auto` compiles on GPUs and TPUs, where XLA is faster.

    On CPUs TensorFlow's products of matrices, by oneDNN, were measured faster than XLA's; there XLA
    fuses only what stands between them (`kerasllm.models.accelerated.fused_encoder`).
    """
    if keras.config.backend() == "jax":
        # It computes nothing otherwise.
        return True
    if xla != "auto":
        return bool(xla)
    return not only_cpus()


def only_cpus() -> bool:
    """Returns whether TensorFlow computes, and sees neither a GPU nor a TPU.

    Not under JAX: what is made for CPUs here is made of TensorFlow's operations.
    """
    if keras.config.backend() != "tensorflow":
        return False
    return not (tf.config.list_physical_devices("GPU") or tf.config.list_logical_devices("TPU"))


def computes_bfloat16() -> bool:
    """Returns whether the processor multiplies matrices in bfloat16."""
    return bool(cpu_flags() & _BFLOAT16_FLAGS)


def cpu_flags() -> set[str]:
    """Returns the processor's feature flags, none where the system does not list them."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return set()
    for line in text.splitlines():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()
