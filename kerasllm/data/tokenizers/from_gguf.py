"""The tokenizer inside a GGUF file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from kerasllm.data.tokenizers.byte_level import byte_level_json
from kerasllm.data.tokenizers.tokenizer_json import TokenizerJson
from kerasllm.errors import PresetError

# What `tokenizer.ggml.token_type` says of a token.
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4

_SPACE = "\u2581"

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _split_at(pattern: str) -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


# `tokenizer.ggml.pre` to what differs from GPT-2's rules.
_LLAMA3 = {"splits": [_split_at(_WORDS % r"\p{N}{1,3}")], "whole_words_first": True}
_BYTE_LEVEL_RULES: dict[str | None, dict[str, Any]] = {
    None: {},
    "default": {},
    "gpt-2": {},
    "smollm": {"splits": [{"type": "Digits", "individual_digits": True}]},
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "qwen2": {"splits": [_split_at(_WORDS % r"\p{N}")], "normalizer": {"type": "NFC"}},
}


def from_gguf(parts: Any, *, where: str | None = None) -> TokenizerJson:
    """Makes the tokenizer of a GGUF file.

    Args:
        parts: What the file's metadata says of its tokenizer, with the attributes `model`, `pre`,
            `tokens`, `token_types`, `merges`, `scores`, `bos_id`, `eos_id`, `unk_id`, `pad_id`,
            `add_bos`, `add_space_prefix`: a `models.decoders.gguf_tokenizer.GGUFTokenizer`.
        where: The file, for errors. Defaults to `None`.

    Raises:
        PresetError: The kind of the tokenizer, or its rule for words, is not known.
    """
    if parts.model not in ("gpt2", "llama"):
        raise PresetError(
            f"The tokenizer of this GGUF file is of the kind {parts.model!r}; kerasllm reads "
            "'gpt2' (byte-level BPE) and 'llama' (BPE with scores)",
            where=where,
            fix="use the model's folder from the hub, with its tokenizer.json",
        )
    tokens = list(parts.tokens)
    vocabulary = {token: id for id, token in enumerate(tokens)}
    types = parts.token_types
    kinds = (_CONTROL, _UNKNOWN) if parts.model == "gpt2" else (_CONTROL,)
    special = [token for token, kind in zip(tokens, types) if kind in kinds]
    other = [token for token, kind in zip(tokens, types) if kind == _USER_DEFINED]
    build = _byte_level if parts.model == "gpt2" else _with_scores
    content = build(parts, vocabulary, special, other, where)

    def token(id: int | None) -> str | None:
        return None if id is None else tokens[id]

    named = {"bos_token": token(parts.bos_id), "unk_token": token(parts.unk_id)}
    return TokenizerJson(
        json.dumps(content, ensure_ascii=False),
        start_token=token(parts.bos_id) if parts.add_bos else None,
        end_token=token(parts.eos_id),
        pad_token=token(parts.pad_id),
        named_tokens={name: value for name, value in named.items() if value is not None},
        where=where,
    )


def _byte_level(
    parts: Any,
    vocabulary: dict[str, int],
    special: Sequence[str],
    other: Sequence[str],
    where: str | None,
) -> dict[str, Any]:
    if parts.pre not in _BYTE_LEVEL_RULES:
        known = ", ".join(repr(name) for name in _BYTE_LEVEL_RULES if name)
        raise PresetError(
            f"The tokenizer of this GGUF file splits words by the rule {parts.pre!r}; kerasllm "
            f"knows {known}",
            where=where,
            fix="use the model's folder from the hub, with its tokenizer.json",
        )
    if parts.merges is None:
        raise PresetError(
            "The tokenizer of this GGUF file has no merges", where=where, fix="download it again"
        )
    return byte_level_json(
        vocabulary,
        list(parts.merges),
        special_tokens=special,
        other_tokens=other,
        **_BYTE_LEVEL_RULES[parts.pre],
    )


def _with_scores(
    parts: Any,
    vocabulary: dict[str, int],
    special: Sequence[str],
    other: Sequence[str],
    where: str | None,
) -> dict[str, Any]:
    """SentencePiece's BPE: of all pairs that are tokens together, the best score is merged."""
    if parts.scores is None:
        raise PresetError(
            "The tokenizer of this GGUF file has no scores", where=where, fix="download it again"
        )
    content = byte_level_json(vocabulary, (), special_tokens=special, other_tokens=other)
    add_space = bool(parts.add_space_prefix)
    mark_spaces = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    read_spaces = {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}
    prepend = [{"type": "Prepend", "prepend": _SPACE}] * add_space
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] * add_space
    unknown = parts.tokens[parts.unk_id] if parts.unk_id is not None else None
    content["normalizer"] = {"type": "Sequence", "normalizers": [*prepend, mark_spaces]}
    content["pre_tokenizer"] = None
    content["decoder"] = {
        "type": "Sequence",
        "decoders": [read_spaces, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip],
    }
    merges = _merges_of_scores(vocabulary, list(parts.scores), set(special) | set(other))
    content["model"].update(unk_token=unknown, fuse_unk=True, byte_fallback=True, merges=merges)
    return content


def _merges_of_scores(
    vocabulary: dict[str, int], scores: list[float], apart: set[str]
) -> list[list[str]]:
    merges = []
    for token, id in vocabulary.items():
        if token in apart:
            continue
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in vocabulary and right in vocabulary:
                merges.append((-scores[id], id, vocabulary[left], vocabulary[right], left, right))
    merges.sort()
    return [[left, right] for *_, left, right in merges]
