"""Programs that XLA compiles before they are needed: each declares the shapes that it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from kerasllm.runtime import xla_cache
from kerasllm.runtime.stable_names import stable_names

Signature = Sequence[tuple[tf.DType, tuple[int | str, ...]]]
"""The dtype and the shape of each argument; a size that differs between calls is a name."""


class Program:
    """A function that XLA compiles, once for each set of sizes; it has no gradient.

    It is traced once for all callers, so that what `compile` made is found in any graph.

    Args:
        function: Takes and returns tensors. It reads no variable.
        name: What is the same in every process, of letters, digits and underscores: programs on the
            disk are found by it.
        signature: What it takes.

    Example:

    ```python
    twice = Program(lambda x: x * 2, "twice", [(tf.float32, ("tokens", 384))])
    twice.compile(tokens=512)
    twice(tf.ones([512, 384]))
    ```
    """

    def __init__(self, function: Callable, name: str, signature: Signature):
        self.function = function
        self._name = "".join(each if each.isalnum() else "_" for each in name)
        self._signature = signature
        specs = [tf.TensorSpec(_known(shape), dtype) for dtype, shape in signature]
        self._traced = tf.function(
            function, input_signature=specs, jit_compile=True, autograph=False
        )
        # A graph finds what was compiled in another graph, and not what was compiled outside.
        self._in_a_graph = tf.function(self, input_signature=specs, autograph=False)
        self._one = None

    def __call__(self, *arguments: tf.Tensor):
        return self._concrete()(*arguments)

    def compile(self, **sizes: int) -> None:
        """Compiles it, or downloads it from the disk, for the sizes that its signature names.

        Several threads may compile at the same time.
        """
        self._in_a_graph(*(tf.zeros(shape, dtype) for dtype, shape in self._shapes(sizes)))
        xla_cache.note(self._with_shapes(sizes))

    def is_kept(self, **sizes: int) -> bool:
        """Tells whether it is on the disk for some sizes."""
        return xla_cache.is_kept(self._with_shapes(sizes))

    def _shapes(self, sizes: dict[str, int]) -> list[tuple[tf.DType, list[int]]]:
        return [
            (dtype, [sizes.get(size, size) for size in shape]) for dtype, shape in self._signature
        ]

    def _with_shapes(self, sizes: dict[str, int]) -> str:
        shapes = ("x".join(map(str, shape)) for _, shape in self._shapes(sizes))
        return f"{self._name} {' '.join(shapes)}"

    def _concrete(self) -> Callable:
        # Threads wait for the one that traces, and for none that compiles.
        with stable_names(self._name):
            if self._one is None:
                self._one = self._traced.get_concrete_function()
        return self._one


def _known(shape: tuple[int | str, ...]) -> list[int | None]:
    return [None if isinstance(size, str) else size for size in shape]
