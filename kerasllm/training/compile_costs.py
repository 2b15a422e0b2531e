"""The costs and savings of XLA's compilations: all constants, in one place.

Those of CPUs were measured on 2 cores of an AMD EPYC with AVX512-BF16 and MiniLM-L6, see
docs/performance.md. Those of accelerators are guesses of their size until one is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

# Seconds of a core for the programs of a length: to compile them, and to read them from the cache.
_FUSED_COMPILED, _FUSED_READ = 0.5, 0.14
# More threads than this were not measured to compile faster.
MOST_THREADS = 8
# Operations of a training step, per second and core, element-wise work and the optimizer included.
_CPU_RATE = {"bfloat16": 120e9, "float32": 60e9}
# What a step without fusion takes more, as a share of one with it.
_FUSED_SAVES = 0.35

# Not measured: seconds to compile a whole step of a length, operations per second of an
# accelerator, and what XLA saves.
_STEP_COMPILED = 30.0
_ACCELERATOR_RATE = 30e12
_STEP_SAVES = 0.3


@dataclass(frozen=True)
class CompileCosts:
    """Seconds on one core; two cores that share the work take half.

    Attributes:
        compiled: To compile a length.
        read: To use a length that the cache has.
        token: To train on a token with XLA, padding included.
        saved: What the same token takes more without XLA.
    """

    compiled: float
    read: float
    token: float
    saved: float


def fused_on_cpu(parameters: int, dtype: str, cores: int) -> CompileCosts:
    """Returns the costs where XLA fuses element-wise work on a CPU.

    Args:
        parameters: Weights that a token is multiplied by: those of matrices.
        dtype: What they are multiplied in, `"bfloat16"` or `"float32"`.
        cores: Cores of this process.
    """
    threads = min(cores, MOST_THREADS)
    token = 6 * parameters / (_CPU_RATE.get(dtype, _CPU_RATE["float32"]) * cores)
    return CompileCosts(
        _FUSED_COMPILED / threads, _FUSED_READ / threads, token, token * _FUSED_SAVES
    )


def whole_step(parameters: int, devices: int) -> CompileCosts:
    """Returns the costs where XLA compiles the whole step, on accelerators. Not measured.

    Args:
        parameters: As for `fused_on_cpu`.
        devices: Accelerators that share a batch.
    """
    token = 6 * parameters / (_ACCELERATOR_RATE * devices)
    return CompileCosts(_STEP_COMPILED, _STEP_COMPILED, token, token * _STEP_SAVES)
