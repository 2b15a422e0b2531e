"""KerasHub's own presets of encoder-decoders: their text side, and how a model becomes one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import keras_hub

from kerasllm.data.tokenizers import TokenizerJson, from_keras_hub, to_keras_hub
from kerasllm.data.tokenizers.byte_level import BYTE_LEVEL_DECODER
from kerasllm.data.tokenizers.sentence_pieces import unigram_json_of_model
from kerasllm.errors import PresetError
from kerasllm.models.encoder_decoders.frame import Frame
from kerasllm.models.huggingface.sentencepiece_models import from_pieces

if TYPE_CHECKING:
    from kerasllm.models.encoder_decoder import EncoderDecoder

_TASKS = {
    keras_hub.models.BartBackbone: keras_hub.models.BartSeq2SeqLM,
    keras_hub.models.T5Backbone: keras_hub.models.T5Seq2SeqLM,
    keras_hub.models.T5GemmaBackbone: keras_hub.models.T5GemmaSeq2SeqLM,
}
# Without a length of its own a preprocessor of KerasHub makes every row as long as this.
_LONGEST_ROW = 512


def read_preset_text_side(
    place: Path | str, backbone: keras_hub.models.Backbone
) -> tuple[TokenizerJson, dict]:
    """Reads the tokenizer of a KerasHub preset, and what belongs to its text.

    Args:
        place: The folder, or the handle that KerasHub takes.
        backbone: The backbone of the preset: BART or T5.

    Returns:
        The tokenizer, which puts nothing around a text, and fields of `EncoderDecoder`.
    """
    tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(str(place))
    end, pad = tokenizer.end_token_id, tokenizer.pad_token_id
    if isinstance(backbone, keras_hub.models.T5Backbone):
        content = unigram_json_of_model(tokenizer.proto)
        names = {}
        scaled = backbone.token_embedding.tie_weights
        frame = Frame(after=(end,))
        facts = {
            "start_token_id": pad,
            "hidden_scale": backbone.hidden_dim**-0.5 if scaled else 1.0,
            "name": "t5",
        }
    else:
        content = json.loads(from_keras_hub(tokenizer).reference.to_str())
        content["decoder"] = BYTE_LEVEL_DECODER
        names = {"bos_token": tokenizer.start_token}
        frame = Frame((tokenizer.start_token_id,), (end,))
        longest = backbone.max_sequence_length
        facts = {
            "start_token_id": end,
            "forced_first_token_id": tokenizer.start_token_id,
            "max_source_length": longest,
            "max_target_length": longest,
            "name": "bart",
        }
    read = TokenizerJson(
        json.dumps(content, ensure_ascii=False),
        end_token=tokenizer.end_token,
        pad_token=tokenizer.pad_token,
        named_tokens={**names, "unk_token": "<unk>"},
        where=str(place),
    )
    shared = {"end_token_id": end, "pad_token_id": pad}
    return read, {**shared, "source_frame": frame, "target_frame": frame, **facts}


def save_preset(model: EncoderDecoder, folder: Path) -> None:
    """Writes the part of a model that KerasHub holds: its task where it has one, or its backbone.

    The preset asks for float32: KerasHub 0.32 cannot load a mixed policy by itself. Where KerasHub
    has no class that holds the tokenizer, the preset goes without a preprocessor of KerasHub's.

    Args:
        model: The model, without adapters.
        folder: The folder; must exist.
    """
    task_cls = _TASKS.get(type(model.backbone))
    if task_cls is None:
        model.backbone.save_to_preset(str(folder))
    else:
        task = task_cls(backbone=model.backbone, preprocessor=_preprocessor(model, task_cls))
        task.save_to_preset(str(folder))
    for file in (folder / "config.json", folder / "task.json"):
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            plain = re.sub(r'("name": )"(mixed_)?(bfloat16|float16)"', r'\1"float32"', text)
            file.write_text(plain, encoding="utf-8")


def _preprocessor(
    model: EncoderDecoder, task_cls: type[keras_hub.models.Seq2SeqLM]
) -> keras_hub.models.Seq2SeqLMPreprocessor | None:
    """Returns a preprocessor of KerasHub's with a model's tokenizer, `None` where none holds it."""
    if not isinstance(model.tokenizer, TokenizerJson):
        return None
    kind = task_cls.preprocessor_cls
    content = json.loads(model.tokenizer.content)
    try:
        if issubclass(kind.tokenizer_cls, keras_hub.models.T5Tokenizer):
            if content["model"]["type"] != "Unigram":
                return None
            proto = from_pieces(
                [tuple(piece) for piece in content["model"]["vocab"]],
                unknown=content["model"]["vocab"][content["model"]["unk_id"]][0],
                control=("<pad>", "</s>"),
                normalizer=content.get("normalizer"),
            )
            tokenizer = kind.tokenizer_cls(proto=proto)
        else:
            tokenizer = to_keras_hub(model.tokenizer, kind.tokenizer_cls)
    except (PresetError, ValueError):
        return None
    lengths = {
        f"{side}_sequence_length": min(longest or _LONGEST_ROW, _LONGEST_ROW)
        for side, longest in (
            ("encoder", model.max_source_length),
            ("decoder", model.max_target_length),
        )
    }
    return kind(tokenizer, **lengths)
