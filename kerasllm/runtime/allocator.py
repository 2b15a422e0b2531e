"""Memory that TensorFlow frees and asks for again at each operation, kept by the process."""

from __future__ import annotations

import ctypes
import os
import sys

from kerasllm.runtime.switches import is_off

# Of malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_CHOSEN_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_")


def keep_memory() -> bool:
    """Makes the C library keep what is freed, instead of giving it back to the system.

    TensorFlow allocates each operation's outputs again. What is above 32 MB, or at the end of the
    heap, comes from the system then, which clears it page by page: some 5% of a training's time.

    Returns:
        Whether it does: with the GNU C library, unless its environment variables say otherwise, or
        `KERASLLM_ALLOCATOR=0`.
    """
    if is_off("KERASLLM_ALLOCATOR"):
        return False
    chosen = any(name in os.environ for name in _CHOSEN_BY_USER)
    if sys.platform != "linux" or chosen or "malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    settings = {_MMAP_THRESHOLD: 1 << 30, _TRIM_THRESHOLD: (1 << 31) - 1, _TOP_PAD: 1 << 26}
    return all(library.mallopt(name, value) for name, value in settings.items())
