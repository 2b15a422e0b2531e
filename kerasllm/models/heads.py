"""Heads of sequence classifiers that KerasHub lacks: the mean of all tokens, and scaled outputs.

KerasHub's own classifiers read the first token (`"cls"`). Sentence encoders are mostly trained with
the mean over the tokens, and their first token was never trained to stand for the text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import keras
import keras_hub
import numpy as np
import safetensors.numpy

from kerasllm.errors import PresetError, RecipeError
from kerasllm.json_files import read_json_file
from kerasllm.models.adapters.low_rank import is_frozen
from kerasllm.models.layers import parts_of
from kerasllm.safetensors_file import save_tensors

POOLINGS = ("cls", "mean")
HEAD_FACTS = "head.json"
HEAD_WEIGHTS = "head.safetensors"


@keras.saving.register_keras_serializable(package="kerasllm")
class MeanPooling(keras.layers.Layer):
    """Averages the hidden states of the real tokens, special tokens included.

    It sums in float32, regardless of the dtype of the states. A row without tokens gives zeros.
    """

    def call(self, states, padding_mask):
        """Returns `[batch, width]`.

        Args:
            states: `[batch, length, width]`.
            padding_mask: `[batch, length]`, 0 or `False` where there is no token.
        """
        mask = keras.ops.expand_dims(keras.ops.cast(padding_mask, "float32"), -1)
        total = keras.ops.sum(keras.ops.cast(states, "float32") * mask, axis=1)
        count = keras.ops.maximum(keras.ops.sum(mask, axis=1), 1.0)
        return keras.ops.cast(total / count, self.compute_dtype)


@keras.saving.register_keras_serializable(package="kerasllm")
class PooledTextClassifier(keras_hub.models.TextClassifier):
    """A classifier on the mean of the last hidden states: mean, dropout and one dense layer.

    A pooler of the backbone (BERT, ALBERT, ELECTRA) is not used, and does not train; it is saved
    with the other weights. KerasHub does not choose this class for any preset.

    Args:
        backbone: A KerasHub encoder that takes a padding mask.
        num_classes: Number of outputs.
        preprocessor: A KerasHub preprocessor for text classification. Defaults to `None`.
        dropout: Rate of the dropout before the dense layer. Defaults to `0.1`.
        **kwargs: See `keras_hub.models.Task`.

    Raises:
        RecipeError: If the backbone takes no padding mask.

    Reference:
        [Sentence-BERT](https://arxiv.org/abs/1908.10084).

    Example:

    ```python
    task = PooledTextClassifier(backbone, num_classes=3, preprocessor=preprocessor)
    ```
    """

    pooling = "mean"

    def __init__(
        self,
        backbone: keras_hub.models.Backbone,
        num_classes: int,
        preprocessor: keras_hub.models.TextClassifierPreprocessor | None = None,
        dropout: float = 0.1,
        **kwargs,
    ):
        inputs = backbone.input
        if "padding_mask" not in inputs:
            raise RecipeError(
                f"{type(backbone).__name__} takes no padding mask, so the mean would include "
                "padding",
                where="model.pooling",
                fix="set model.pooling=cls",
            )
        self.backbone = backbone
        self.preprocessor = preprocessor
        policy = backbone.dtype_policy
        self.output_pooling = MeanPooling(dtype=policy, name="mean_pooling")
        self.output_dropout = keras.layers.Dropout(dropout, dtype=policy, name="output_dropout")
        self.output_dense = keras.layers.Dense(
            num_classes,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            dtype=policy,
            name="logits",
        )
        pooled = self.output_pooling(_token_states(backbone(inputs)), inputs["padding_mask"])
        outputs = self.output_dense(self.output_dropout(pooled))
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.num_classes = num_classes
        self.dropout = dropout
        for layer in unused_layers(backbone):
            # Without a gradient, weight decay alone would change it.
            layer.trainable = False

    def get_config(self):
        config = super().get_config()
        return {**config, "num_classes": self.num_classes, "dropout": self.dropout}

    def save_to_preset(self, preset_dir, max_shard_size=10):
        """Writes backbone and preprocessor as a KerasHub preset, and the head beside them.

        There is no `task.json`: KerasHub alone could not build its class.

        Args:
            preset_dir: The folder; is made.
            max_shard_size: See `keras_hub.models.Task`. Defaults to `10`.
        """
        folder = Path(preset_dir)
        self.backbone.save_to_preset(str(folder), max_shard_size=max_shard_size)
        if self.preprocessor is not None:
            self.preprocessor.save_to_preset(str(folder))
        dense = self.output_dense
        tensors = {"kernel": _float32(dense.kernel), "bias": _float32(dense.bias)}
        save_tensors(tensors, folder / HEAD_WEIGHTS)
        facts = {"pooling": "mean", "num_classes": self.num_classes, "dropout": self.dropout}
        (folder / HEAD_FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def load_pooled(
    folder: Path,
    backbone: keras_hub.models.Backbone,
    preprocessor: keras_hub.models.TextClassifierPreprocessor | None,
) -> PooledTextClassifier:
    """Puts the head of a folder that `PooledTextClassifier` was saved in onto a backbone.

    Args:
        folder: The folder.
        backbone: Its backbone.
        preprocessor: Its preprocessor.

    Raises:
        PresetError: The files of the head are missing, or do not fit each other or the backbone.
    """
    facts = read_facts(folder)
    file = folder / HEAD_WEIGHTS
    try:
        tensors = safetensors.numpy.load_file(file)
    except (safetensors.SafetensorError, OSError) as error:
        raise PresetError(
            f"the head of the classifier cannot be read: {error}",
            where=str(file),
            fix="copy both files of the head from the original run",
        ) from error
    task = PooledTextClassifier(
        backbone,
        facts["num_classes"],
        preprocessor,
        dropout=facts["dropout"],
        compile=False,
    )
    for name, variable in (("kernel", task.output_dense.kernel), ("bias", task.output_dense.bias)):
        found = tensors[name].shape if name in tensors else None
        if found != tuple(variable.shape):
            raise PresetError(
                f"{name} has shape {found}, where the model has {tuple(variable.shape)}",
                where=str(file),
                fix="copy all files from the original run",
            )
        variable.assign(tensors[name])
    return task


def read_facts(folder: Path) -> dict:
    """Reads `head.json`, which says how the head of a classifier pools and how wide it is.

    Raises:
        PresetError: It cannot be read, or describes a head that kerasllm does not know.
    """
    file = folder / HEAD_FACTS
    try:
        facts = read_json_file(file)
    except (ValueError, OSError) as error:
        raise PresetError(
            f"{HEAD_FACTS} cannot be read: {error}",
            where=str(file),
            fix="copy the file from the original run",
        ) from error
    known = (
        isinstance(facts, dict)
        and facts.get("pooling") == "mean"
        and isinstance(facts.get("num_classes"), int)
        and facts["num_classes"] > 0
        and isinstance(facts.get("dropout"), (int, float))
    )
    if not known:
        raise PresetError(
            f'{HEAD_FACTS} must hold "pooling": "mean", "num_classes" and "dropout", got {facts!r}',
            where=str(file),
            fix="copy the file from the original run",
        )
    return facts


def scale_outputs(
    task: keras_hub.models.TextClassifier,
    factor: float | np.ndarray,
    shift: float | np.ndarray = 0.0,
) -> None:
    """Makes a classifier's outputs `factor * outputs + shift`, by changing its last layer.

    The temperature of a calibration and the unit of a regression's targets become part of the
    weights in this way, and so of everything that is exported.

    Args:
        task: A classifier whose last layer is dense and has no activation; changed in place.
        factor: A number, or one for each output, `[classes]`.
        shift: A number, or one for each output, `[classes]`. Defaults to `0.0`.

    Raises:
        ValueError: If the last layer has an activation, adapters or quantized weights, or the
            shapes do not fit.

    Example:

    ```python
    scale_outputs(task, factor=1 / temperature)
    ```
    """
    dense = _last_dense(task)
    factor, shift = (np.asarray(each, "float64") for each in (factor, shift))
    for name, value in (("factor", factor), ("shift", shift)):
        if value.shape not in ((), (dense.units,)) or not np.isfinite(value).all():
            raise ValueError(
                f"`{name}` must be a finite number, or {dense.units} of them. Received: "
                f"{name}={value}"
            )
    dense.kernel.assign(_float64(dense.kernel) * factor)
    dense.bias.assign(_float64(dense.bias) * factor + shift)


def reorder_outputs(task: keras_hub.models.TextClassifier, order: Sequence[int]) -> None:
    """Puts a classifier's outputs in another order, by changing its last layer.

    Args:
        task: As for `scale_outputs`; changed in place.
        order: The number of the output that each one becomes, `[classes]`.
    """
    dense = _last_dense(task)
    dense.kernel.assign(_float64(dense.kernel)[:, list(order)])
    dense.bias.assign(_float64(dense.bias)[list(order)])


def compute_outputs_in_float32(task: keras_hub.models.TextClassifier) -> None:
    """Makes a classifier's last layer compute in float32, regardless of the other layers.

    A score in bfloat16 has 8 bits: near 1000 the next one is 1004. The layer is too small to take
    time. One with quantized weights is left as it is.

    Args:
        task: A classifier; changed in place, before anything is traced.
    """
    dense = [each for each in parts_of(task).head if isinstance(each, keras.layers.Dense)]
    if dense and not dense[-1].quantization_mode:
        dense[-1].dtype_policy = keras.DTypePolicy("float32")


def _last_dense(task: keras_hub.models.TextClassifier) -> keras.layers.Dense:
    dense = [each for each in parts_of(task).head if isinstance(each, keras.layers.Dense)]
    last = dense[-1] if dense else None
    if last is None or last.activation is not keras.activations.linear or last.bias is None:
        raise ValueError(
            "The last layer of the classifier must be dense with a bias and without an "
            f"activation. Received: task={task.name}, last dense layer: {last}"
        )
    if last.quantization_mode or is_frozen(last):
        raise ValueError(
            "The last layer must have plain weights, without adapters or quantization. Received: "
            f"{last.path}"
        )
    return last


def _token_states(outputs):
    """Returns the hidden states of all tokens, of what a backbone gives."""
    return outputs["sequence_output"] if isinstance(outputs, dict) else outputs


def unused_layers(backbone: keras_hub.models.Backbone) -> list[keras.Layer]:
    """Returns the layers of a backbone that its token states do not depend on: its pooler."""
    used = keras.Model(backbone.input, _token_states(backbone.output)).layers
    return [layer for layer in backbone.layers if not any(layer is other for other in used)]


def _float32(variable: keras.Variable) -> np.ndarray:
    return np.ascontiguousarray(keras.ops.convert_to_numpy(variable).astype("float32"))


def _float64(variable: keras.Variable) -> np.ndarray:
    return keras.ops.convert_to_numpy(variable).astype("float64")
