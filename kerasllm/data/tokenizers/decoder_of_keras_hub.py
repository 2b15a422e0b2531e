"""The tokenizer of a KerasHub language model, for presets that have no other."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import keras_hub
from sentencepiece import sentencepiece_model_pb2

from kerasllm.data.tokenizers.from_gguf import from_gguf
from kerasllm.data.tokenizers.tokenizer_json import TokenizerJson
from kerasllm.errors import PresetError

_hub = keras_hub.tokenizers

# The rule for words that a vocabulary was trained with, as GGUF files call it. By name and not by
# inheritance: others have rules of their own.
_BYTE_LEVEL = {
    _hub.BytePairTokenizer: "gpt-2",
    _hub.GPT2Tokenizer: "gpt-2",
    _hub.OPTTokenizer: "gpt-2",
    _hub.GPTNeoXTokenizer: "gpt-2",
    _hub.Llama3Tokenizer: "llama-bpe",
    _hub.QwenTokenizer: "qwen2",
    _hub.QwenMoeTokenizer: "qwen2",
    _hub.Qwen3Tokenizer: "qwen2",
    _hub.Qwen3MoeTokenizer: "qwen2",
}

# Tokens that stand for the parts of a chat; KerasHub names only a few of them.
_CONTROL_TOKEN = re.compile(r"<\|[^|]+\|>")

_NORMAL, _CONTROL = 1, 3


def decoder_of_keras_hub(
    tokenizer: keras_hub.tokenizers.Tokenizer, *, add_start: bool, where: str | None = None
) -> TokenizerJson:
    """Makes the tokenizer of a KerasHub language model.

    Byte-level BPE and SentencePiece's BPE can be read. Ids are those of KerasHub, with two
    exceptions, in which they are those of the reference that the model was trained with: words
    are split by the rule of the model's family (KerasHub splits by GPT-2's in a graph, and by none
    outside), and special tokens are recognised where they are written in a text.

    Args:
        tokenizer: A tokenizer with its vocabulary.
        add_start: Whether its start token, if it has one, is put before a text.
        where: The preset, for errors. Defaults to `None`.

    Raises:
        PresetError: If the kind of the tokenizer is not known.

    Example:

    ```python
    hub_tokenizer = keras_hub.tokenizers.Tokenizer.from_preset("gpt2_base_en")
    decoder_of_keras_hub(hub_tokenizer, add_start=False).encode_whole("Call me Ishmael.")
    ```
    """
    if type(tokenizer) in _BYTE_LEVEL:
        parts = _byte_pairs(tokenizer)
    elif isinstance(tokenizer, _hub.SentencePieceTokenizer):
        parts = _sentence_pieces(tokenizer, where)
    else:
        raise _unknown(type(tokenizer).__name__, where)
    # A GGUF file holds the same parts.
    content = from_gguf(parts, where=where).content
    start, end, second_end, pad = (
        getattr(tokenizer, name, None)
        for name in ("start_token", "end_token", "end_token2", "pad_token")
    )
    return TokenizerJson(
        content,
        start_token=start if add_start else None,
        end_token=end,
        pad_token=pad,
        stop_tokens=[second_end] if second_end else (),
        named_tokens={"bos_token": start} if start else None,
        where=where,
    )


def _byte_pairs(tokenizer: keras_hub.tokenizers.BytePairTokenizer) -> SimpleNamespace:
    by_id = {id: token for token, id in tokenizer.vocabulary.items()}
    # Ids that no token has get one that no text becomes.
    tokens = [by_id.get(id, f"<|unused {id}|>") for id in range(max(by_id) + 1)]
    special = {*(tokenizer.unsplittable_tokens or ())}
    types = [
        _CONTROL if token in special or _CONTROL_TOKEN.fullmatch(token) else _NORMAL
        for token in tokens
    ]
    merges = [merge for merge in tokenizer.merges if "#version:" not in merge]
    return _parts("gpt2", tokens, types, pre=_BYTE_LEVEL[type(tokenizer)], merges=merges)


def _sentence_pieces(
    tokenizer: keras_hub.tokenizers.SentencePieceTokenizer, where: str | None
) -> SimpleNamespace:
    model = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.proto)
    trained, normalized = model.trainer_spec, model.normalizer_spec
    kind = trained.ModelType.Name(trained.model_type)
    if kind != "BPE":
        raise _unknown(f"{type(tokenizer).__name__} with a {kind.lower()} model", where)
    if normalized.precompiled_charsmap or normalized.remove_extra_whitespaces:
        raise _unknown(
            f"{type(tokenizer).__name__} that changes a text first ({normalized.name})", where
        )
    return _parts(
        "llama",
        [piece.piece for piece in model.pieces],
        [piece.type for piece in model.pieces],
        scores=[piece.score for piece in model.pieces],
        unk_id=trained.unk_id,
        add_space_prefix=normalized.add_dummy_prefix,
    )


def _parts(model: str, tokens: list[str], token_types: list[int], **more: Any) -> SimpleNamespace:
    none = dict.fromkeys(("pre", "merges", "scores", "bos_id", "eos_id", "unk_id", "pad_id"))
    flags = {"add_bos": False, "add_space_prefix": False}
    given = {"model": model, "tokens": tokens, "token_types": token_types}
    return SimpleNamespace(**{**none, **flags, **given, **more})


def _unknown(kind: str, where: str | None) -> PresetError:
    return PresetError(
        f"The tokenizer of this KerasHub preset is a {kind}, which kerasllm does not read",
        where=where,
        fix="use the model in Hugging Face's layout: hf://owner/name or a folder",
    )
