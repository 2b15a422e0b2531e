"""A causal language model becomes a KerasHub preset folder, with what KerasHub does not keep."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import keras_hub

from kerasllm.data.tokenizers import to_keras_hub
from kerasllm.data.tokenizers.from_folder import PRESET_SUBFOLDER
from kerasllm.errors import PresetError

if TYPE_CHECKING:
    from kerasllm.models.causal_lm import CausalLM

FACTS = "kerasllm.json"
"""What neither KerasHub's files nor the tokenizer's say of a model."""

# Without a length of its own a preprocessor of KerasHub makes every row as long as this.
_LONGEST_ROW = 1024


def save_causal_lm(model: CausalLM, folder: Path) -> None:
    """Writes a model so that `keras_hub` loads it alone, and kerasllm all of it.

    The preset asks for float32: KerasHub 0.32 cannot load a mixed policy by itself. Where KerasHub
    has no class that holds the tokenizer, the preset goes without a preprocessor of KerasHub's.

    Args:
        model: The model, without adapters.
        folder: The folder; is made.
    """
    whole_task(model).save_to_preset(str(folder))
    for file in (folder / "config.json", folder / "task.json"):
        text = file.read_text(encoding="utf-8")
        plain = re.sub(r'("name": )"(mixed_)?(bfloat16|float16)"', r'\1"float32"', text)
        file.write_text(plain, encoding="utf-8")
    # Not beside KerasHub's own files, which has a tokenizer.json of another kind.
    text_side = folder / PRESET_SUBFOLDER
    text_side.mkdir()
    model.tokenizer.save(text_side)
    if model.chat_template is not None:
        model.chat_template.save(text_side)
    facts = {"max_length": model.max_length, "conversational": model.conversational}
    (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def whole_task(model: CausalLM) -> keras_hub.models.CausalLM:
    """Returns a model's task with a preprocessor of KerasHub's, where there is one for it."""
    return type(model.task)(backbone=model.backbone, preprocessor=preprocessor_of(model))


def preprocessor_of(model: CausalLM) -> keras_hub.models.CausalLMPreprocessor | None:
    """Returns a preprocessor of KerasHub's with a model's tokenizer, `None` where none holds it."""
    preprocessor_cls = type(model.task).preprocessor_cls
    try:
        tokenizer = to_keras_hub(model.tokenizer, preprocessor_cls.tokenizer_cls)
    except PresetError:
        return None
    longest = min(model.max_length or _LONGEST_ROW, _LONGEST_ROW)
    return preprocessor_cls(tokenizer, sequence_length=longest)
