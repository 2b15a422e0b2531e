"""The tiny models under `tests/reference/encoder_decoders`, and copies with something changed."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import safetensors.numpy

from kerasllm.models.encoder_decoder import EncoderDecoder
from kerasllm.models.encoder_decoders import load_backbone
from kerasllm.models.encoder_decoders.frame import Frame

FOLDER = Path(__file__).parents[2] / "reference" / "encoder_decoders"
NAMES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
WITH_TOKENIZER = ("bart", "t5")


def config_of(name: str, /, **changes) -> dict:
    """Returns a reference's config.json; a change to `...` takes the key out."""
    config = {**json.loads((FOLDER / name / "config.json").read_text()), **changes}
    return {key: value for key, value in config.items() if value is not ...}


def tensors_of(name: str) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(FOLDER / name / "model.safetensors")


def copy(name: str, folder: Path, tensors: dict | None = None, **changes) -> Path:
    """Copies a reference, with other tensors or with changes to its config.json."""
    shutil.copytree(FOLDER / name, folder, dirs_exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_of(name, **changes)))
    if tensors is not None:
        safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    return folder


@functools.cache
def model_of(name: str) -> EncoderDecoder:
    """Returns a reference without its tokenizer, loaded; not to be changed."""
    return without_tokenizer(FOLDER / name)


def without_tokenizer(folder: Path, **options) -> EncoderDecoder:
    loaded = load_backbone(folder, **options)
    none = Frame()
    return EncoderDecoder(loaded.backbone, None, 0, 0, 0, none, none, **loaded.facts)


def error_of(model: EncoderDecoder, name: str) -> float:
    """Returns the largest error of the logits of a reference."""
    expected = np.load(FOLDER / name / "expected.npz")
    outputs = model.backbone(
        {
            "encoder_token_ids": expected["source"],
            "encoder_padding_mask": expected["source_mask"],
            "decoder_token_ids": expected["target"],
            "decoder_padding_mask": expected["target_mask"],
        },
        training=False,
    )
    logits = keras.ops.convert_to_numpy(model.logits(outputs["decoder_sequence_output"]))
    seen = expected["target_mask"].astype(bool)
    return float(np.abs(logits.astype("float32") - expected["logits"])[seen].max())
