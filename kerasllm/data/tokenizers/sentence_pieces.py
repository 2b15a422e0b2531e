"""The SentencePiece tokenizers of ALBERT, XLM-RoBERTa and T5 as a `tokenizer.json`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import keras_hub
from sentencepiece import sentencepiece_model_pb2

from kerasllm.errors import PresetError


def unigram_json(tokenizer: keras_hub.tokenizers.SentencePieceTokenizer) -> dict[str, Any]:
    """Returns a `tokenizer.json` that gives the ids of a KerasHub tokenizer.

    With two exceptions: special tokens are recognised where they are written in a text (KerasHub
    reads most of them as plain letters), and a character made of several code points is normalized
    as a whole.

    Args:
        tokenizer: KerasHub's tokenizer of an ALBERT or an XLM-RoBERTa.

    Raises:
        PresetError: If its model has settings that Hugging Face's library cannot follow.
    """
    model = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.proto)
    _check(model, type(tokenizer).__name__)
    scores = {piece.piece: piece.score for piece in model.pieces}
    # KerasHub's order, which is not always that of the model.
    pieces = [[token, scores.get(token, 0.0)] for token in tokenizer.get_vocabulary()]
    special = [tokenizer.start_token, tokenizer.end_token, tokenizer.pad_token, "<unk>"]
    special.append(tokenizer.id_to_token(tokenizer.mask_token_id))
    return _json(model, pieces, special, "<unk>")


def unigram_json_of_model(proto: bytes, extra_tokens: Sequence[str] = ()) -> dict[str, Any]:
    """Returns a `tokenizer.json` that gives the ids of a SentencePiece model, as T5's is.

    Args:
        proto: The model.
        extra_tokens: Special tokens that come after its pieces. Defaults to `()`.

    Raises:
        PresetError: If it is not such a model, or one whose settings Hugging Face's library cannot
            follow.
    """
    try:
        model = sentencepiece_model_pb2.ModelProto.FromString(proto)
    except Exception as error:  # of protobuf, whose classes differ between its versions
        raise PresetError(
            f"The SentencePiece model cannot be read: {error}", fix="download the file again"
        ) from error
    _check(model, "tokenizer")
    pieces = [[piece.piece, piece.score] for piece in model.pieces]
    unknown = pieces[model.trainer_spec.unk_id][0]
    special = [piece.piece for piece in model.pieces if piece.type in (_UNKNOWN, _CONTROL)]
    pieces += [[token, 0.0] for token in extra_tokens]
    return _json(model, pieces, [*special, *extra_tokens], unknown)


def _json(
    model: sentencepiece_model_pb2.ModelProto,
    pieces: list[list],
    special: Sequence[str],
    unknown: str,
) -> dict[str, Any]:
    ids = {token: id for id, (token, _) in enumerate(pieces)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": ids[token],
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token in sorted(special, key=ids.get)
        ],
        "normalizer": {"type": "Sequence", "normalizers": _normalizers(model)},
        "pre_tokenizer": _METASPACE,
        "post_processor": None,
        "decoder": _METASPACE,
        "model": {
            "type": "Unigram",
            "unk_id": ids[unknown],
            "vocab": pieces,
            "byte_fallback": False,
        },
    }


_UNKNOWN, _CONTROL = 2, 3
_METASPACE = {
    "type": "Metaspace",
    "replacement": "▁",
    "prepend_scheme": "always",
    "split": True,
}


def _normalizers(model: sentencepiece_model_pb2.ModelProto) -> list[dict[str, Any]]:
    steps = []
    rules = model.normalizer_spec.precompiled_charsmap
    if rules:
        if model.normalizer_spec.name == "albert":
            # The one rule of `with_albert_rules` for two characters: the library below looks up
            # one character at a time.
            steps = [_replace({"String": quotes}, '"') for quotes in ("``", "''")]
        encoded = base64.b64encode(rules).decode("ascii")
        steps.append({"type": "Precompiled", "precompiled_charsmap": encoded})
    return [*steps, _replace({"Regex": "^ +| +$"}, ""), _replace({"Regex": " {2,}"}, " ")]


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _check(model: sentencepiece_model_pb2.ModelProto, name: str) -> None:
    spec = model.normalizer_spec
    kind = model.trainer_spec.ModelType.Name(model.trainer_spec.model_type)
    problem = None
    if kind != "UNIGRAM":
        problem = f"is a {kind} model"
    elif not (spec.add_dummy_prefix and spec.remove_extra_whitespaces and spec.escape_whitespaces):
        problem = "treats spaces in its own way"
    if problem:
        raise PresetError(
            f"The SentencePiece model of this {name} {problem}, which kerasllm does not write as "
            "Hugging Face's files",
            fix="use a model with the tokenizer of its family",
        )
