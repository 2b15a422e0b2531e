"""The tensors of a TensorFlow checkpoint of BERT, written the way Hugging Face lays them out.

Only the numbers are read: no graph of operations, no code. Outside of the encoder lie heads,
optimizer slots and counters, which are left out. Within it each tensor is used once, or the
checkpoint is refused by that tensor's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasllm.errors import PresetError
from kerasllm.models.huggingface.stored import WEIGHTS
from kerasllm.models.huggingface.weights import expected_tensors
from kerasllm.models.tensorflow_checkpoints.encoders import (
    GRAPH,
    WORDS,
    Encoder,
    ObjectEncoder,
    ScopedEncoder,
)
from kerasllm.safetensors_file import save_tensors

Shape = tuple[int, ...]


def convert_weights(checkpoint: Path, config: Mapping, target: Path) -> None:
    """Writes the encoder of a checkpoint as `model.safetensors`, in Hugging Face's names.

    Args:
        checkpoint: The path of the checkpoint's index, without `.index`.
        config: The checked configuration of the BERT.
        target: The folder to write to.

    Raises:
        PresetError: The checkpoint cannot be read, or a tensor of the encoder is missing, unknown,
            or of another shape than the configuration says.
    """
    expected = expected_tensors(config)
    try:
        reader = tf.train.load_checkpoint(str(checkpoint))
        shapes = {key: tuple(s) for key, s in reader.get_variable_to_shape_map().items()}
        dtypes = reader.get_variable_to_dtype_map()
        encoder = _find_encoder(reader, shapes, config["num_hidden_layers"], checkpoint)
        keys = _match(encoder, shapes, expected, config["num_attention_heads"], checkpoint)
        _check_floating(keys.values(), dtypes, checkpoint)
        tensors = {
            name: _laid_out(reader.get_tensor(key), name, expected[name])
            for name, key in keys.items()
        }
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise PresetError(
            f"the checkpoint {checkpoint.name} cannot be read: {first_line}",
            where=str(checkpoint.parent),
            fix="copy all its files again: one is broken, or they do not belong together",
        ) from error
    save_tensors(tensors, target / WEIGHTS)


def _find_encoder(
    reader, shapes: Mapping[str, Shape], num_layers: int, checkpoint: Path
) -> Encoder:
    if GRAPH in shapes:
        found = list(ObjectEncoder.find(reader.get_tensor(GRAPH), num_layers))
    else:
        found = list(ScopedEncoder.find(shapes))
    if len(found) == 1:
        return found[0]
    if found:
        raise PresetError(
            f"the checkpoint {checkpoint.name} holds {len(found)} encoders: "
            f"{', '.join(str(encoder.key(WORDS)) for encoder in found)}",
            where=str(checkpoint.parent),
            fix="use a checkpoint of one encoder",
        )
    some = ", ".join(sorted(key for key in shapes if key != GRAPH)[:3]) or "none"
    raise PresetError(
        f"the checkpoint {checkpoint.name} holds no BERT of google-research or Model Garden; its "
        f"tensors are {some}...",
        where=str(checkpoint.parent),
        fix="use the model in Hugging Face's or KerasHub's layout",
    )


def _match(
    encoder: Encoder,
    shapes: Mapping[str, Shape],
    expected: Mapping[str, Shape],
    num_heads: int,
    checkpoint: Path,
) -> dict[str, str]:
    """Returns the key of every tensor of the encoder, after all were checked."""
    keys = {name: key for name in expected if (key := encoder.key(name))}
    unused = sorted(encoder.keys - set(keys.values()))
    if unused:
        raise PresetError(
            f"tensor {unused[0]} is not part of the BERT that the configuration describes"
            + (f", nor are {len(unused) - 1} others" if len(unused) > 1 else ""),
            where=str(checkpoint),
            fix="take the configuration and the checkpoint from the same model; a modified BERT "
            "would load but compute something else",
        )
    # As in transformers and for other folders: a missing pooler is newly initialized.
    no_pooler = not any(name.startswith("pooler.") for name in keys)
    for name in expected:
        if name not in keys and not (no_pooler and name.startswith("pooler.")):
            raise PresetError(
                f"tensor {encoder.names(name)[0]} is missing",
                where=str(checkpoint),
                fix="take the configuration and the checkpoint from the same model",
            )
    for name, key in keys.items():
        shape = _stored_shape(name, expected[name], num_heads if encoder.split_heads else None)
        if shapes[key] != shape:
            raise PresetError(
                f"tensor {key} has shape {shapes[key]}, where the configuration says {shape}",
                where=str(checkpoint),
                fix="take the configuration and the checkpoint from the same model",
            )
    return keys


def _check_floating(keys: Iterable[str], dtypes: Mapping[str, tf.DType], checkpoint: Path) -> None:
    for key in keys:
        if not dtypes[key].is_floating:
            raise PresetError(
                f"tensor {key} holds {dtypes[key].name}, not floating-point numbers",
                where=str(checkpoint),
                fix="use the checkpoint before quantization",
            )


def _is_kernel(name: str, shape: Shape) -> bool:
    return len(shape) == 2 and not name.endswith("_embeddings.weight")


def _stored_shape(name: str, shape: Shape, num_heads: int | None) -> Shape:
    """Returns the shape in the checkpoint of a tensor that has this shape in Hugging Face's."""
    if _is_kernel(name, shape):
        outputs, inputs = shape
        if num_heads and ".attention.self." in name:
            return (inputs, num_heads, outputs // num_heads)
        if num_heads and ".attention.output." in name:
            return (num_heads, inputs // num_heads, outputs)
        return (inputs, outputs)
    if num_heads and ".attention.self." in name:
        return (num_heads, shape[0] // num_heads)
    return shape


def _laid_out(tensor: np.ndarray, name: str, shape: Shape) -> np.ndarray:
    if _is_kernel(name, shape):
        return np.ascontiguousarray(tensor.reshape(shape[::-1]).T, "float32")
    return np.ascontiguousarray(tensor.reshape(shape), "float32")
