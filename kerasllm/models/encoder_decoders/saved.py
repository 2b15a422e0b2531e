"""What kerasllm notes of an encoder-decoder beside the files of KerasHub and of the tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors.numpy

from kerasllm.errors import PresetError
from kerasllm.json_files import read_json_file
from kerasllm.models.encoder_decoders.frame import Frame
from kerasllm.models.save_preset import FACTS
from kerasllm.safetensors_file import save_tensors

if TYPE_CHECKING:
    from kerasllm.models.encoder_decoder import EncoderDecoder

_KIND = "encoder_decoder"
_FIELDS = (
    "start_token_id end_token_id pad_token_id source_frame target_frame forced_first_token_id "
    "prefixes generation max_source_length max_target_length hidden_scale logits_soft_cap name"
).split()
_BIAS = "final_logits_bias"
_BIAS_FILE = f"{_BIAS}.safetensors"


def write_facts(model: EncoderDecoder, folder: Path) -> None:
    """Writes what the weights and the tokenizer of a model do not hold.

    Args:
        model: The model.
        folder: The folder; must exist.
    """
    facts = {name: getattr(model, name) for name in _FIELDS}
    text = json.dumps({_KIND: facts}, indent=2, ensure_ascii=False)
    (folder / FACTS).write_text(text + "\n", encoding="utf-8")
    if model.final_logits_bias is not None:
        save_tensors({_BIAS: model.final_logits_bias}, folder / _BIAS_FILE)


def read_facts(place: Path | str) -> dict | None:
    """Returns what `write_facts` wrote, as fields of `EncoderDecoder`, `None` of other folders.

    Args:
        place: A folder, or a handle that only KerasHub understands.

    Raises:
        PresetError: If the file is not as it was written.
    """
    file = Path(place) / FACTS
    if not file.is_file():
        return None
    try:
        content = read_json_file(file)
        if _KIND not in content:
            return None
        facts = {name: content[_KIND][name] for name in _FIELDS}
        for name in ("source_frame", "target_frame"):
            facts[name] = Frame(*(tuple(int(id) for id in ids) for ids in facts[name]))
        if (file.parent / _BIAS_FILE).is_file():
            facts[_BIAS] = safetensors.numpy.load_file(file.parent / _BIAS_FILE)[_BIAS]
        return facts
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PresetError(
            f"{FACTS} is not what kerasllm wrote: {error}",
            where=str(file),
            fix="take the file from the original run",
        ) from error
