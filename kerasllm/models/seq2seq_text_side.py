"""How an encoder-decoder reads texts: tokenizer, special tokens, prefixes; without weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kerasllm.data.tokenizers import Tokenizer, TokenizerJson
from kerasllm.data.tokenizers.joint import END, PAD, START
from kerasllm.errors import DataError
from kerasllm.json_files import read_json_file
from kerasllm.models import presets
from kerasllm.models.encoder_decoder import EncoderDecoder, Frame, open_encoder_decoder

FACTS_FILE = "seq2seq.json"
"""The file beside a trained model that says how it reads sources."""

# What tells one way to put special tokens around texts from another.
_PROBE = "a"


@dataclass(frozen=True, eq=False)
class Seq2SeqTextSide:
    """How an encoder-decoder reads texts.

    Attributes:
        tokenizer: The tokenizer of sources and targets.
        start_token_id: What the decoder reads before the first token.
        end_token_id: What ends a target.
        pad_token_id: What pads.
        encode_source: Makes ids of sources.
        encode_target: Makes ids of targets.
        prefixes: What the model was told before a source, by the name of a task.
        generation: What the preset recommends for writing.
        max_source_length: The maximum number of tokens of a source, or `None`.
        max_target_length: The maximum number of tokens of a target, or `None`.
    """

    tokenizer: Tokenizer
    start_token_id: int
    end_token_id: int
    pad_token_id: int
    encode_source: Callable[[Sequence[str]], list[Sequence[int]]]
    encode_target: Callable[[Sequence[str]], list[Sequence[int]]]
    prefixes: Mapping[str, str] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(default_factory=dict)
    max_source_length: int | None = None
    max_target_length: int | None = None

    @classmethod
    def of(cls, parts: EncoderDecoder) -> Seq2SeqTextSide:
        """Returns that of a model."""
        return cls(**{name: getattr(parts, name) for name in cls.__dataclass_fields__})

    @property
    def fingerprint(self) -> str:
        """sha256, in hex, of the tokenizer and of the special tokens that it puts around texts."""
        framed = [
            [int(one) for one in encode([_PROBE])[0]]
            for encode in (self.encode_source, self.encode_target)
        ]
        special = [self.start_token_id, self.end_token_id, self.pad_token_id]
        content = json.dumps([self.tokenizer.fingerprint, special, framed])
        return hashlib.sha256(content.encode()).hexdigest()


def load_text_side(
    preset: str | Path, notify: Callable[[str], None] | None = None
) -> Seq2SeqTextSide:
    """Loads how a preset reads texts.

    Args:
        preset: What `open_encoder_decoder` takes.
        notify: Called with a line of text before something slow. Defaults to `None`.

    Raises:
        PresetError: If the preset cannot be found or read.
    """
    side = Seq2SeqTextSide.of(open_encoder_decoder(preset, notify=notify, weights=False))
    place = presets.resolve(preset)
    kept = read_facts(place) if isinstance(place, Path) else {}
    if not kept:
        return side
    # Of a trained model the prefix is known.
    return replace(side, prefixes={"trained": kept["prefix"]} if kept["prefix"] else {})


def read_facts(folder: Path) -> dict[str, Any]:
    """Returns what a model was saved with beside its parts; nothing of a preset of others.

    Raises:
        DataError: If it cannot be read.
    """
    file = folder / FACTS_FILE
    if not file.is_file():
        return {}
    try:
        facts = read_json_file(file)
        return {
            "prefix": str(facts["prefix"]),
            "max_length": int(facts["max_length"]),
            "max_target_length": int(facts["max_target_length"]),
        }
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"The source settings of this model cannot be read: {error}",
            where=str(file),
            fix="the file is written by `kerasllm finetune`; copy it from the original run",
        ) from error


def new_text_side(tokenizer: TokenizerJson, max_length: int) -> Seq2SeqTextSide:
    """Returns how a new model reads texts.

    Args:
        tokenizer: One that was trained for it.
        max_length: The maximum number of tokens of a source, and of a target.
    """
    start, end, pad = map(tokenizer.token_to_id, (START, END, PAD))
    frame = Frame(after=(end,))
    return Seq2SeqTextSide.of(
        EncoderDecoder(
            # What it reads does not depend on it.
            backbone=None,
            tokenizer=tokenizer,
            start_token_id=start,
            end_token_id=end,
            pad_token_id=pad,
            source_frame=frame,
            target_frame=frame,
            max_source_length=max_length,
            max_target_length=max_length,
        )
    )
