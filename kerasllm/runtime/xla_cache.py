"""Programs that XLA has compiled for this processor, kept for the next run.

A program takes XLA some tenths of a second, and a training has one for each of a dozen pieces of a
layer and each length of a batch: together tens of seconds, which only the first run has to wait.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import platform
import shutil
import sys
import threading
import time
from pathlib import Path

from kerasllm.environment import cache_dir, versions
from kerasllm.runtime import program_files
from kerasllm.runtime.switches import is_off

_VARIABLE = "TF_XLA_FLAGS"
# XLA's reductions by YNNPACK share data that only one call of a program at a time may read: two
# slices of a batch, computed on two cores, end the process. XLA's own are as fast. Of all that
# YNNPACK computes the products stay, which are nearly twice as fast by it for a few rows.
_XLA_VARIABLE = "XLA_FLAGS"
_YNN = "--xla_cpu_experimental_ynn_fusion_type="
_PRODUCTS_ALONE = f"{_YNN}individual_dot"
# XLA ends the process over a flag that it does not know.
_FIRST_WITH_YNN = (2, 21)
_FLAG = "--tf_xla_persistent_cache_directory"
# Of all programs; above it those not used for longest are forgotten.
_MOST_BYTES = 1 << 30
# TensorFlow fails where it cannot write one.
_LEAST_FREE_BYTES = 2 << 30
# A reduction as large as those that XLA leaves to YNNPACK.
_LARGE = (64, 128, 384)

# Seconds.
_RECORD_EVERY = 10.0

_check: threading.Thread | None = None
# Where programs are kept, and the names of those that are there.
_folder: Path | None = None
_noted: set[str] | None = None
# Why the folder is not used.
_refused: str | None = None
# Whether XLA may have read its flags before they were set here.
_late = False


def set_flags() -> Path | None:
    """Sets what XLA is told, before TensorFlow's first operation and before devices are listed.

    XLA, which reads its flags when it compiles for the first time, reduces without YNNPACK; and
    TensorFlow keeps what it compiles in the cache folder. `KERASLLM_XLA_FLAGS=0` and
    `KERASLLM_XLA_CACHE=0` leave that.

    Returns:
        The folder. `None` where nothing is kept: `TF_XLA_FLAGS` names a folder already, TensorFlow
        is in use, there is no folder with room, or the switch says so.
    """
    global _late
    own = os.environ.get(_XLA_VARIABLE, "")
    told = is_off("KERASLLM_XLA_FLAGS") or _YNN in own or _tensorflow() < _FIRST_WITH_YNN
    if not told:
        os.environ[_XLA_VARIABLE] = f"{own} {_PRODUCTS_ALONE}".strip()
    flags = os.environ.get(_VARIABLE, "")
    folder = None if is_off("KERASLLM_XLA_CACHE") or _FLAG in flags else _programs()
    if folder:
        os.environ[_VARIABLE] = f"{flags} {_FLAG}={folder}".strip()
    # Asked last: with the question TensorFlow reads its flags, once for all.
    if is_started():
        _late = _late or not told
        if folder:
            os.environ[_VARIABLE] = flags
        return None
    if folder:
        _look_after(folder)
    return folder


def wait() -> None:
    """Waits until the programs that are kept were checked; before the first one is used."""
    if _check is not None:
        _check.join()


def is_kept(program: str) -> bool:
    """Tells whether a program, by its name and shapes, was compiled and is kept."""
    global _noted
    if _folder is None:
        return False
    if _noted is None:
        wait()
        _noted = program_files.noted(_folder)
    return program in _noted


def note(program: str) -> None:
    """Notes that a program was compiled and is kept, if programs are."""
    if _folder is not None and not is_kept(program):
        _noted.add(program)
        program_files.note(_folder, program)


def refused() -> str | None:
    """Returns why a folder of programs is not used, in words; `None` where it is."""
    return _refused


def _look_after(folder: Path) -> None:
    """Checks the programs while TensorFlow is imported, and records new ones as they come."""
    global _check, _folder
    _folder = folder

    def check() -> None:
        program_files.forget_old(folder, _MOST_BYTES)
        program_files.check(folder)

    def record() -> None:
        _check.join()
        while True:
            time.sleep(_RECORD_EVERY)
            program_files.record(folder)

    _check = threading.Thread(target=check, daemon=True)
    _check.start()
    # A process that is killed has recorded most of them.
    threading.Thread(target=record, daemon=True).start()
    atexit.register(program_files.record, folder)


def _programs() -> Path | None:
    """Returns the folder of the programs, with room for more; `None` where there is none."""
    global _refused
    folder = cache_dir() / "xla" / _machine()
    # TensorFlow takes its flags apart at spaces.
    if any(character.isspace() for character in str(folder)):
        return None
    try:
        # They are run: nobody else may write there.
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _refused = program_files.why_not_trusted(folder)
        if _refused or shutil.disk_usage(folder).free < _LEAST_FREE_BYTES:
            return None
    except OSError:
        return None
    return folder


def calls_at_once() -> bool:
    """Returns whether XLA's programs may be called while another call of them is running.

    Programs without products of matrices, that is. Not where a user wants more of YNNPACK.
    """
    flags = os.environ.get(_XLA_VARIABLE, "").split()
    if _PRODUCTS_ALONE not in flags and _YNN not in flags:
        return False
    return not (_late and _reduces_by_ynn())


def is_started() -> bool:
    """Returns whether TensorFlow has executed an operation, after which its threads stay."""
    if sys.modules.get("tensorflow") is None:
        return False
    import tensorflow as tf

    threads = tf.config.threading
    before = threads.get_inter_op_parallelism_threads()
    try:
        threads.set_inter_op_parallelism_threads(before + 1)
    except RuntimeError:
        return True
    threads.set_inter_op_parallelism_threads(before)
    return False


@functools.cache
def _reduces_by_ynn() -> bool:
    """Compiles a reduction and looks: XLA does not tell which flags it has read."""
    import tensorflow as tf

    total = tf.function(lambda x: tf.reduce_sum(x, -1), jit_compile=True, autograph=False)
    spec = tf.TensorSpec(_LARGE, tf.float32)
    return "ynn" in total.experimental_get_compiler_ir(spec)(stage="optimized_hlo")


def _tensorflow() -> tuple[int, ...]:
    """Returns the major and the minor number of the version that is installed."""
    return tuple(int(part) for part in versions()["tensorflow"].split(".")[:2] if part.isdigit())


def _machine() -> str:
    """Returns a name for what programs depend on beside themselves: processor and TensorFlow."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = [platform.processor()]
    known = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    flags = os.environ.get(_XLA_VARIABLE, "")
    told = [platform.machine(), versions()["tensorflow"], flags, *sorted(set(known or lines[:1]))]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]
