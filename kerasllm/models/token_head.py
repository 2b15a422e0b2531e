"""A head on every token: dropout and one dense layer on the last hidden states.

KerasHub has no such task. A folder holds it as a preset of the backbone with its tokenizer, which
`keras_hub` loads, and the head beside them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import keras_hub
import safetensors
import safetensors.numpy

from kerasllm.errors import PresetError, RecipeError
from kerasllm.json_files import read_json_file
from kerasllm.models.heads import HEAD_FACTS, HEAD_WEIGHTS, unused_layers
from kerasllm.safetensors_file import save_tensors

TOKENS = "tokens"
"""What such a head reads, where others read the first token or the mean of all."""


@keras.saving.register_keras_serializable(package="kerasllm")
class TokenHead(keras_hub.models.Task):
    """An encoder with outputs for every token.

    A pooler of the backbone is not used, and does not train; it is saved with the other weights.

    Args:
        backbone: A KerasHub encoder.
        outputs: The number of outputs of a token.
        preprocessor: A KerasHub preprocessor for text classification. Defaults to `None`.
        dropout: Rate of the dropout before the dense layer. Defaults to `0.1`.
        **kwargs: See `keras_hub.models.Task`.

    Raises:
        RecipeError: If the result of the backbone depends on the padding.

    Example:

    ```python
    task = TokenHead(backbone, outputs=9, preprocessor=preprocessor)
    ```
    """

    pooling = TOKENS

    def __init__(
        self,
        backbone: keras_hub.models.Backbone,
        outputs: int,
        preprocessor: keras_hub.models.TextClassifierPreprocessor | None = None,
        dropout: float = 0.1,
        **kwargs,
    ):
        inputs = backbone.input
        if "padding_mask" not in inputs:
            raise RecipeError(
                f"{type(backbone).__name__} takes no padding mask, so its token states depend on "
                "the padding",
                where="model.preset",
                fix="use a BERT, RoBERTa, DeBERTa or the like",
            )
        self.backbone = backbone
        self.preprocessor = preprocessor
        policy = backbone.dtype_policy
        self.output_dropout = keras.layers.Dropout(dropout, dtype=policy, name="output_dropout")
        self.output_dense = keras.layers.Dense(
            outputs,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
            dtype=policy,
            name="logits",
        )
        found = backbone(inputs)
        states = found["sequence_output"] if isinstance(found, dict) else found
        super().__init__(
            inputs=inputs, outputs=self.output_dense(self.output_dropout(states)), **kwargs
        )
        self.dropout = dropout
        for layer in unused_layers(backbone):
            # Without a gradient, weight decay alone would change it.
            layer.trainable = False

    @property
    def num_outputs(self) -> int:
        """The number of outputs of a token."""
        return self.output_dense.units

    def get_config(self):
        config = super().get_config()
        return {**config, "outputs": self.num_outputs, "dropout": self.dropout}

    def save_to_preset(self, preset_dir, max_shard_size=10):
        """Writes backbone and preprocessor as a KerasHub preset, and the head beside them.

        Args:
            preset_dir: The folder; is made.
            max_shard_size: See `keras_hub.models.Task`. Defaults to `10`.
        """
        folder = Path(preset_dir)
        self.backbone.save_to_preset(str(folder), max_shard_size=max_shard_size)
        if self.preprocessor is not None:
            self.preprocessor.save_to_preset(str(folder))
        dense = self.output_dense
        tensors = {
            name: keras.ops.convert_to_numpy(variable).astype("float32")
            for name, variable in (("kernel", dense.kernel), ("bias", dense.bias))
        }
        save_tensors(tensors, folder / HEAD_WEIGHTS)
        facts = {"pooling": TOKENS, "outputs": self.num_outputs, "dropout": self.dropout}
        (folder / HEAD_FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def has_token_head(folder: Path) -> bool:
    """Tells whether a folder is one that `TokenHead.save_to_preset` wrote."""
    try:
        return read_json_file(folder / HEAD_FACTS).get("pooling") == TOKENS
    except (OSError, ValueError, AttributeError):
        return False


def read_head(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads the head of a folder that `TokenHead.save_to_preset` wrote.

    Returns:
        `outputs` and `dropout`; and `kernel`, `[width, outputs]`, and `bias`, `[outputs]`.

    Raises:
        PresetError: It cannot be read.
    """
    where = folder / HEAD_FACTS
    try:
        facts = read_json_file(where)
        facts = {"outputs": int(facts["outputs"]), "dropout": float(facts["dropout"])}
        where = folder / HEAD_WEIGHTS
        tensors = safetensors.numpy.load_file(where)
        shapes = tensors["kernel"].shape[1:], tensors["bias"].shape
        if shapes == ((facts["outputs"],),) * 2:
            return facts, tensors
        why = f"its tensors have the shapes {shapes}, but {facts['outputs']} outputs are recorded"
    except (OSError, ValueError, TypeError, KeyError, safetensors.SafetensorError) as error:
        why = str(error) or type(error).__name__
    raise PresetError(
        f"the head of the model cannot be read: {why}",
        where=str(where),
        fix="copy both files of the head from the original run",
    )


def assign_head(task: TokenHead, tensors: dict[str, Any]) -> None:
    """Gives a head the weights that `read_head` read.

    Raises:
        PresetError: They are of another width.
    """
    expected = tuple(task.output_dense.kernel.shape)
    if tensors["kernel"].shape != expected:
        raise PresetError(
            f"the head of the model is {tensors['kernel'].shape}, where the encoder needs "
            f"{expected}",
            fix="copy all files from the original run",
        )
    task.output_dense.kernel.assign(tensors["kernel"])
    task.output_dense.bias.assign(tensors["bias"])
