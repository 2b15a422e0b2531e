"""Names of TensorFlow's functions that are the same in the next process.

XLA's programs on the disk are found by their text, and that has the function's name, which
TensorFlow ends with a number: how many things it has made so far. Another recipe, or one more
operation before, and no program would be found again.
"""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from tensorflow.python.eager.polymorphic_function import concrete_function

# What is not public, of all that is used of TensorFlow here: tests/runtime/test_stable_names.py
# pins it.
_OF_TENSORFLOW = "_inference_name"

_lock = threading.RLock()
_numbers = defaultdict(itertools.count)


@contextmanager
def stable_names(name: str) -> Iterator[None]:
    """Names what is traced in the block by `name`, and by how many had that name before.

    Args:
        name: Letters, digits and underscores.
    """
    if not hasattr(concrete_function, _OF_TENSORFLOW):
        yield
        return
    with _lock:
        own = getattr(concrete_function, _OF_TENSORFLOW)
        setattr(
            concrete_function,
            _OF_TENSORFLOW,
            lambda _: f"__inference_kerasllm_{name}_{next(_numbers[name])}",
        )
        try:
            yield
        finally:
            setattr(concrete_function, _OF_TENSORFLOW, own)
