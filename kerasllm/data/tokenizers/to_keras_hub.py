"""From a `tokenizer.json` to the tokenizer of a KerasHub preset."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import keras_hub

from kerasllm.data.tokenizers.tokenizer_json import TokenizerJson
from kerasllm.errors import PresetError

_hub = keras_hub.tokenizers


def to_keras_hub(
    tokenizer: TokenizerJson, tokenizer_cls: type, *, folder: str | Path | None = None
) -> keras_hub.tokenizers.Tokenizer:
    """Makes the KerasHub tokenizer with the same vocabulary, for the preset that a run leaves.

    Its ids are the same for ordinary text. Where the two differ (KerasHub splits words by one rule
    whatever the model), kerasllm goes by the `tokenizer.json` that it keeps beside the preset.

    Args:
        tokenizer: The tokenizer of the model.
        tokenizer_cls: A class of KerasHub: `GPT2Tokenizer`, `Llama3Tokenizer`...
        folder: Where the model came from. SentencePiece classes (`MistralTokenizer`,
            `GemmaTokenizer`) need the `tokenizer.model` in it. Defaults to `None`.

    Raises:
        PresetError: The class cannot hold this tokenizer.
    """
    model = json.loads(tokenizer.content)["model"]
    if issubclass(tokenizer_cls, _hub.SentencePieceTokenizer):
        proto = Path(folder) / "tokenizer.model" if folder is not None else None
        if proto is None or not proto.is_file():
            raise PresetError(
                f"KerasHub's {tokenizer_cls.__name__} needs a tokenizer.model, and there is none",
                where=str(folder) if folder is not None else None,
                fix="add tokenizer.model to the model's folder",
            )
        return tokenizer_cls(proto=proto.read_bytes())
    if not issubclass(tokenizer_cls, _hub.BytePairTokenizer) or model.get("byte_fallback"):
        raise PresetError(
            f"KerasHub's {tokenizer_cls.__name__} cannot hold this tokenizer: "
            f"{tokenizer.description}",
            fix="use a model whose tokenizer is byte-level BPE",
        )
    vocabulary = dict(model["vocab"])
    special = {}
    for token in json.loads(tokenizer.content)["added_tokens"]:
        vocabulary[token["content"]] = token["id"]
        special[token["content"]] = token["id"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    arguments = {"unsplittable_tokens": list(special)}
    if "bos_token" in inspect.signature(tokenizer_cls.__init__).parameters:
        end = tokenizer.named_tokens.get("eos_token")
        arguments |= {
            "bos_token": tokenizer.named_tokens.get("bos_token", end),
            "eos_token": end,
            "misc_special_tokens": set(special),
        }
    try:
        return tokenizer_cls(vocabulary=vocabulary, merges=merges, **arguments)
    except ValueError as error:
        raise PresetError(
            f"KerasHub's {tokenizer_cls.__name__} cannot hold this tokenizer: {error}",
            fix="use the tokenizer that belongs to the architecture",
        ) from error
