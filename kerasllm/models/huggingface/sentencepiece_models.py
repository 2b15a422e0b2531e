"""SentencePiece models in the shape that KerasHub's tokenizers want.

A KerasHub tokenizer is its SentencePiece model and nothing more: what transformers does to a text
before SentencePiece sees it has to be in the model's own normalizer, or it is lost.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping, Sequence

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import normalizers

_UNKNOWN, _CONTROL = 2, 3


def with_albert_rules(proto: bytes, *, lower_case: bool, keep_accents: bool) -> bytes:
    """Adds what transformers' ALBERT tokenizer does to a text to a model's normalizer.

    That is: straight quotes, compatibility forms taken apart, accents removed, lower case, and
    only then the model's own rules. Rules of the model for sequences of characters are left out:
    with the accents gone, those that are left compose Hangul and a few Indic vowels.

    Args:
        proto: The SentencePiece model of an ALBERT.
        lower_case: Whether letters become lower case.
        keep_accents: Whether accents stay.
    """
    model = sentencepiece_model_pb2.ModelProto.FromString(proto)
    spec = model.normalizer_spec
    own = sentencepiece.SentencePieceNormalizer(
        model_proto=proto,
        add_dummy_prefix=False,
        escape_whitespaces=False,
        remove_extra_whitespaces=False,
    )

    # By the library that is the reference: Python has the tables of another Unicode version.
    steps = [] if keep_accents else [normalizers.NFKD(), normalizers.StripAccents()]
    steps += [normalizers.Lowercase()] if lower_case else []
    before = normalizers.Sequence(steps)

    def normal(text: str) -> str:
        text = before.normalize_str(text)
        return own.Normalize(text) if text else ""

    surrogates = range(0xD800, 0xE000)
    # The last one: transformers splits at every white space of Unicode, SentencePiece does not.
    rules = [("``", '"'), ("''", '"'), ("\x85", " ")]
    for number in range(1, sys.maxunicode + 1):
        char = chr(number)
        if number in surrogates or char == "\x85":
            continue
        if (changed := normal(char)) != char:
            rules.append((char, changed))
    built = sentencepiece.SentencePieceNormalizer(norm_map=rules)
    made = sentencepiece_model_pb2.NormalizerSpec.FromString(built.serialized_normalizer_spec())
    spec.name = "albert"
    spec.precompiled_charsmap = made.precompiled_charsmap
    return model.SerializeToString()


def from_pieces(
    pieces: Sequence[tuple[str, float]],
    *,
    unknown: str,
    control: Sequence[str],
    normalizer: Mapping | None,
) -> bytes:
    """Builds a SentencePiece model from the unigram model of a `tokenizer.json`.

    Args:
        pieces: Pieces with their scores (log probabilities), in the order of their ids.
        unknown: The piece that stands for what no piece covers.
        control: Pieces that no text becomes.
        normalizer: The `normalizer` of `tokenizer.json`; its precompiled map is taken over.
    """
    model = sentencepiece_model_pb2.ModelProto()
    for number, (piece, score) in enumerate(pieces):
        entry = model.pieces.add(piece=piece, score=score)
        if piece == unknown:
            entry.type = _UNKNOWN
            model.trainer_spec.unk_id = number
        elif piece in control:
            entry.type = _CONTROL
    model.trainer_spec.unk_piece = unknown
    model.trainer_spec.bos_id = model.trainer_spec.eos_id = model.trainer_spec.pad_id = -1
    for step in (normalizer or {}).get("normalizers", [normalizer or {}]):
        if step.get("type") == "Precompiled" and step["precompiled_charsmap"]:
            model.normalizer_spec.precompiled_charsmap = base64.b64decode(
                step["precompiled_charsmap"]
            )
    return model.SerializeToString()
