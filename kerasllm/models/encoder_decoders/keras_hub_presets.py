"""The tokenizer and the special tokens of KerasHub's own presets of encoder-decoders."""

from __future__ import annotations

import json
from pathlib import Path

import keras_hub

from kerasllm.data.tokenizers import TokenizerJson, from_keras_hub
from kerasllm.data.tokenizers.byte_level import BYTE_LEVEL_DECODER
from kerasllm.data.tokenizers.sentence_pieces import unigram_json_of_model
from kerasllm.models.encoder_decoders.frame import Frame


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
