"""One linear layer of transformers as the Keras layers that compute it, and back, for adapters.

GPT-2's `c_attn` and Phi-3's `qkv_proj` are several layers in KerasHub. Each has updates of its own;
as one, they are blocks: `a` one below the other, and a `b` in which an output takes nothing from
the rows of another layer's `a`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import keras
import numpy as np

from kerasllm.models.adapters.low_rank import LowRank, Update, base_matrix, is_frozen
from kerasllm.models.adapters.peft import Pair
from kerasllm.models.kernel_layout import KernelLayout


def layout_of(layer: keras.Layer) -> KernelLayout:
    """Returns the layout of a dense layer, frozen or not."""
    return layer.layout if is_frozen(layer) else KernelLayout.of(layer)


def join(layers: Sequence[keras.Layer], name: str) -> Pair:
    """Returns the updates of the Keras layers of one module as one.

    Args:
        layers: The layers, in the order of their outputs; some may have no update.
        name: The name of the updates.
    """
    updates = [layer.updates.get(name) if is_frozen(layer) else None for layer in layers]
    there = [update for update in updates if update is not None]
    settings = there[0].settings
    every_a = [update.a.numpy() for update in there]
    bs = [_b(*pair) for pair in zip(layers, updates, strict=True)]
    magnitude = None
    if settings.dora:
        each = [_magnitude(*pair) for pair in zip(layers, updates, strict=True)]
        magnitude = np.concatenate(each)
    if len(there) == len(layers) and all(np.array_equal(a, every_a[0]) for a in every_a):
        return Pair(settings, every_a[0], np.concatenate(bs), magnitude)
    ranks = tuple(b.shape[1] for b in bs)
    blocks = np.zeros((sum(map(len, bs)), sum(ranks)), "float32")
    row = column = 0
    for b in bs:
        blocks[row : row + len(b), column : column + b.shape[1]] = b
        row, column = row + len(b), column + b.shape[1]
    joined = _with_rank(settings, sum(ranks))
    return Pair(joined, np.concatenate(every_a), blocks, magnitude, ranks)


def split(pair: Pair, layers: Sequence[keras.Layer]) -> list[Pair | None]:
    """Returns what each Keras layer of a module gets of a pair, `None` for no update."""
    ends = np.cumsum([layout_of(layer).outputs for layer in layers])[:-1]
    bs = np.split(pair.b, ends)
    magnitudes = [None] * len(bs) if pair.magnitude is None else np.split(pair.magnitude, ends)
    if not pair.ranks:
        return [Pair(pair.settings, pair.a, b, m) for b, m in zip(bs, magnitudes, strict=True)]
    parts, column = [], 0
    for b, magnitude, rank in zip(bs, magnitudes, pair.ranks, strict=True):
        own = slice(column, column + rank)
        column += rank
        settings = _with_rank(pair.settings, rank) if rank else None
        parts.append(Pair(settings, pair.a[own], b[:, own], magnitude) if rank else None)
    return parts


def _with_rank(settings: LowRank, rank: int) -> LowRank:
    """Returns settings of another rank and the same scale."""
    root = math.sqrt(rank) if settings.rank_stabilized else rank
    return replace(settings, rank=rank, alpha=settings.scale * root)


def _b(layer: keras.Layer, update: Update | None) -> np.ndarray:
    if update is None:
        return np.zeros((layout_of(layer).outputs, 0), "float32")
    return update.b.numpy()


def _magnitude(layer: keras.Layer, update: Update | None) -> np.ndarray:
    if update is not None:
        return update.magnitude.numpy()
    if is_frozen(layer):
        return np.linalg.norm(base_matrix(layer), axis=0)
    kernel = keras.ops.cast(keras.ops.convert_to_tensor(layer.kernel), "float32")
    return np.linalg.norm(layout_of(layer).matrix(kernel), axis=0)
