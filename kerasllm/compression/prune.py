"""Magnitude pruning: the smallest weights are set to 0 gradually, while the others keep training.

Dense kernels with zeros are no faster to multiply with, nor smaller until they are compressed.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from kerasllm.models.layers import walk
from kerasllm.recipe.compression import Pruning

_KERNELS = (keras.layers.Dense, keras.layers.EinsumDense)


class MagnitudePruning(keras.callbacks.Callback):
    """Sets the smallest weights to 0 while a model trains, and keeps them there.

    The part of weights that is 0 rises from 0 to `sparsity` over the steps from `begin` to `end`:
    with `p` from 0 to 1 over these, it is `sparsity * (1 - (1 - p) ** 3)` (cubic), `sparsity * p`
    (linear), or `sparsity` (once). What is 0 stays 0: it is the smallest at the next pruning, too.

    Args:
        kernels: The weights to prune, by name.
        settings: How much, of what, and when.
        steps: The steps of the whole training.

    Reference:
        [To prune, or not to prune](https://arxiv.org/abs/1710.01878)

    Example:

    ```python
    pruning = MagnitudePruning(kernels_of(model.task.backbone), Pruning(sparsity=0.7), steps)
    model.fit(batches, steps_per_epoch=steps, callbacks=[pruning])
    sparsity_of(pruning.kernels)
    ```
    """

    def __init__(self, kernels: Mapping[str, keras.Variable], settings: Pruning, steps: int):
        super().__init__()
        self.kernels = dict(kernels)
        self._settings = settings
        self._begin = int(settings.begin * steps)
        self._end = max(int(settings.end * steps), self._begin + 1)
        self._done = 0
        self._masks: dict[str, np.ndarray] = {}

    def sparsity_at(self, step: int) -> float:
        """Returns the part of the weights that is 0 after so many steps."""
        if step <= self._begin:
            return 0.0
        progress = min((step - self._begin) / (self._end - self._begin), 1.0)
        shapes = {"cubic": 1 - (1 - progress) ** 3, "linear": progress, "once": 1.0}
        return self._settings.sparsity * shapes[self._settings.schedule]

    def on_train_begin(self, logs=None):
        self._done = 0

    def on_train_batch_end(self, batch, logs=None):
        before, self._done = self._done, self.model.steps_done
        crossed = before // self._settings.every != self._done // self._settings.every
        if crossed or before < self._end <= self._done:
            self._prune(self.sparsity_at(self._done))
        self._hold()

    def on_train_end(self, logs=None):
        # A training that was cut short, or is shorter than `every`, ends as sparse as it should.
        self._prune(self._settings.sparsity)
        self._hold()

    def _prune(self, sparsity: float) -> None:
        if not sparsity:
            return
        sizes = {name: np.abs(kernel.numpy()) for name, kernel in self.kernels.items()}
        if self._settings.scope == "global":
            together = np.concatenate([size.reshape(-1) for size in sizes.values()])
            everywhere = _threshold(together, sparsity)
            thresholds = dict.fromkeys(sizes, everywhere)
        else:
            thresholds = {name: _threshold(s.reshape(-1), sparsity) for name, s in sizes.items()}
        self._masks = {
            name: (size > thresholds[name]).astype("float32") for name, size in sizes.items()
        }

    def _hold(self) -> None:
        for name, mask in self._masks.items():
            kernel = self.kernels[name]
            kernel.assign(kernel.value * keras.ops.cast(mask, kernel.dtype))


def kernels_of(backbone: keras.Model, *, embeddings: bool = False) -> dict[str, keras.Variable]:
    """Returns the kernels of a backbone by path, and its token embeddings if asked for."""
    kernels = {
        layer.kernel.path: layer.kernel for layer in walk([backbone]) if isinstance(layer, _KERNELS)
    }
    if embeddings:
        table = backbone.token_embedding.embeddings
        kernels[table.path] = table
    return kernels


def sparsity_of(kernels: Mapping[str, keras.Variable]) -> dict[str, float]:
    """Returns the part of each kernel's weights that is 0."""
    return {name: float((kernel.numpy() == 0).mean()) for name, kernel in kernels.items()}


def _threshold(sizes: np.ndarray, sparsity: float) -> float:
    """Returns the size up to which so large a part of the weights is."""
    count = round(sparsity * len(sizes))
    return float(np.partition(sizes, count - 1)[count - 1]) if count else -1.0
