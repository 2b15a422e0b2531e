"""Weights in 8 or 4 bits, by Keras' own quantizers."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping

import keras
import keras_hub
import numpy as np

from kerasllm.compression.calibration import save_all_weights, structure_of
from kerasllm.models.layers import walk
from kerasllm.recipe.compression import Quantization

_EMBEDDINGS = (keras.layers.Embedding, keras.layers.ReversibleEmbedding)
_KERNELS = (keras.layers.Dense, keras.layers.EinsumDense)


def quantize(
    backbone: keras_hub.models.Backbone,
    settings: Quantization,
    inputs: Mapping[str, np.ndarray] | None = None,
    notify: Callable[[str], None] = lambda text: None,
) -> None:
    """Quantizes the kernels and the embeddings of a model, in place.

    Norms, biases and position embeddings stay as they are, and so does the head of a classifier:
    they are next to nothing. Under `gptq` and `awq` so do the few kernels outside the transformer
    layers, which take 8 bits.

    Args:
        backbone: A KerasHub backbone in float32. Its functions must be traced again.
        settings: The method and its settings.
        inputs: What the backbone reads of real texts, by name, each int32 `[rows, length]`
            without padding; for `gptq` and `awq`. Defaults to `None`: for the other methods.
        notify: Called with what is being done. Defaults to nothing.

    Raises:
        RecipeError: If the method does not suit the model.

    References:
        [GPTQ](https://arxiv.org/abs/2210.17323), [AWQ](https://arxiv.org/abs/2306.00978)
    """
    method = settings.method
    if settings.embeddings != "none":
        _quantize(backbone, _config(settings.embeddings, settings), _EMBEDDINGS)
    if method in ("int8", "int4"):
        _quantize(backbone, _config(method, settings), _KERNELS)
        return
    structure = structure_of(backbone, inputs, notify)
    token_ids = inputs["token_ids"]
    layers = {id(layer) for layer in walk(structure["sequential_blocks"])}
    sizes = {"num_samples": 1, "sequence_length": token_ids.size}
    config = {"gptq": keras.quantizers.GPTQConfig, "awq": keras.quantizers.AWQConfig}[method](
        dataset=[token_ids.reshape(-1)],
        tokenizer=_no_tokenizer,
        weight_bits=4,
        group_size=settings.group_size,
        quantization_layer_structure=structure,
        **sizes,
    )
    _quantize(backbone, config, _KERNELS, lambda layer: id(layer) in layers)
    save_all_weights(backbone)
    _quantize(backbone, _config("int8", settings), _KERNELS, lambda layer: id(layer) not in layers)


def _config(mode: str, settings: Quantization) -> keras.quantizers.QuantizationConfig:
    if mode == "int8":
        return keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)
    return keras.quantizers.Int4QuantizationConfig(block_size=settings.group_size)


def _quantize(
    backbone: keras_hub.models.Backbone,
    config: keras.quantizers.QuantizationConfig,
    kinds: tuple[type[keras.Layer], ...],
    chosen: Callable[[keras.Layer], bool] = lambda layer: True,
) -> None:
    interactive = keras.config.is_interactive_logging_enabled()
    # Keras draws a progress bar on stdout.
    keras.config.disable_interactive_logging()
    # Keras collects garbage for each layer, and would look at all objects of the process each time.
    gc.freeze()
    try:
        backbone.quantize(
            config.mode,
            config=config,
            filters=lambda layer: isinstance(layer, kinds) and chosen(layer),
        )
    finally:
        gc.unfreeze()
        if interactive:
            keras.config.enable_interactive_logging()


def _no_tokenizer(text):
    raise NotImplementedError("The calibration data are already tokens.")
