"""What KerasHub 0.32's T5 says at each call, and has no reason to.

`tests/models/encoder_decoders/test_keras_hub_fixes.py` fails when it no longer does; then this file
can go.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import keras_hub

from kerasllm.models.layers import walk

_MASK = r"Layer '(self|cross)_attention' \(of type T5MultiHeadAttention\) was passed an input"


@contextmanager
def quiet_masks() -> Iterator[None]:
    """Drops what a T5 that is built in the block warns of: masks that its layers do use."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _MASK, UserWarning)
        yield


def fix_backbone(backbone: keras_hub.models.Backbone) -> keras_hub.models.Backbone:
    """Keeps a built T5 from warning at each call, too.

    Its attention takes an argument that is called `mask`, which Keras takes for one of its own.

    Args:
        backbone: Any backbone; changed in place.

    Returns:
        The same backbone.
    """
    if isinstance(backbone, keras_hub.models.T5Backbone):
        for layer in walk(backbone.layers):
            if layer.name in ("self_attention", "cross_attention"):
                layer.supports_masking = True
    return backbone
