"""From a `tokenizer.json` to the tokenizer of a KerasHub preset."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras_hub

from kerasllm.data.tokenizers.tokenizer_json import TokenizerJson
from kerasllm.errors import PresetError

_hub = keras_hub.tokenizers

# Llama3Tokenizer forgets its special tokens when it is saved, and then wants Llama 3's. These
# have other ones, and a preset's preprocessor takes a tokenizer of any class.
_OTHER_CLASSES = (_hub.Qwen3Tokenizer, _hub.QwenTokenizer, _hub.GPT2Tokenizer)


def to_keras_hub(
    tokenizer: TokenizerJson, tokenizer_cls: type, *, folder: str | Path | None = None
) -> keras_hub.tokenizers.Tokenizer:
    """Makes the KerasHub tokenizer with the same vocabulary, for the preset that a run leaves.

    Its ids are the same for ordinary text. Where the two differ (KerasHub splits words by one rule
    for every model), kerasllm goes by the `tokenizer.json` that it keeps with the preset.

    Args:
        tokenizer: The tokenizer of the model.
        tokenizer_cls: The class that belongs to the architecture: `GPT2Tokenizer`,
            `Llama3Tokenizer`... Another class is taken where that one cannot be saved with this
            model's special tokens, and the other one can.
        folder: Where the model came from. SentencePiece classes (`MistralTokenizer`,
            `GemmaTokenizer`) need the `tokenizer.model` in it. Defaults to `None`.

    Returns:
        A tokenizer that can be saved to a preset and loaded again, with the same end token.

    Raises:
        PresetError: No class of KerasHub can hold this tokenizer.

    Example:

    ```python
    to_keras_hub(from_folder("SmolLM2-135M-Instruct"), keras_hub.tokenizers.Llama3Tokenizer)
    ```
    """
    content = json.loads(tokenizer.content)
    if issubclass(tokenizer_cls, _hub.SentencePieceTokenizer):
        return tokenizer_cls(proto=_sentencepiece_model(tokenizer_cls, folder))
    problem = tokenizer.description
    if issubclass(tokenizer_cls, _hub.BytePairTokenizer) and _is_byte_level(content):
        for kind in dict.fromkeys((tokenizer_cls, *_OTHER_CLASSES)):
            try:
                return _byte_pairs(tokenizer, kind, content)
            except ValueError as error:
                problem = str(error) if kind is tokenizer_cls else problem
    raise PresetError(
        f"KerasHub's {tokenizer_cls.__name__} cannot hold this tokenizer: {problem}",
        fix="use a tokenizer that belongs to the architecture",
    )


def _sentencepiece_model(tokenizer_cls: type, folder: str | Path | None) -> bytes:
    path = Path(folder or "") / "tokenizer.model"
    if folder is None or not path.is_file():
        raise PresetError(
            f"KerasHub's {tokenizer_cls.__name__} needs a tokenizer.model, and there is none",
            where=None if folder is None else str(folder),
            fix="add tokenizer.model to the model's folder",
        )
    return path.read_bytes()


def _is_byte_level(content: Mapping[str, Any]) -> bool:
    steps = [content.get("pre_tokenizer") or {}]
    steps += steps[0].get("pretokenizers", [])
    return content["model"]["type"] == "BPE" and "ByteLevel" in [s.get("type") for s in steps]


def _byte_pairs(tokenizer: TokenizerJson, kind: type, content: Mapping[str, Any]) -> Any:
    """Makes a tokenizer of a class.

    Raises:
        ValueError: The class would not come back from a preset as it was.
    """
    vocabulary = dict(content["model"]["vocab"])
    special = [token["content"] for token in content["added_tokens"]]
    vocabulary.update({token["content"]: token["id"] for token in content["added_tokens"]})
    pairs = content["model"]["merges"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in pairs]
    settings: dict[str, Any] = {"unsplittable_tokens": special}
    if "split_pattern" in inspect.signature(kind.__init__).parameters:
        settings = {"split_pattern": _split_pattern(content["pre_tokenizer"])}
    # As a preset does it, so that what cannot be loaded is never saved: first the settings, and
    # the vocabulary after them.
    made = kind(**settings)
    made.set_vocabulary_and_merges(vocabulary, merges)
    if made.end_token_id != tokenizer.end_of_text_id:
        raise ValueError(f"its end token is {made.end_token}, not {tokenizer.end_token}")
    return made


def _split_pattern(pre_tokenizer: Mapping[str, Any]) -> str:
    for step in pre_tokenizer.get("pretokenizers", [pre_tokenizer]):
        if step["type"] == "Split" and "Regex" in step["pattern"]:
            return step["pattern"]["Regex"]
    raise ValueError("it splits words by a pattern, and this tokenizer has none")
