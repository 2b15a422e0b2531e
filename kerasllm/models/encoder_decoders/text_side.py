"""The tokenizer of an encoder-decoder's folder, its special tokens, and how it generates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerasllm.data.tokenizers import TokenizerJson, from_folder, has_tokenizer
from kerasllm.data.tokenizers.tokenizer_json import (
    CONFIG_FILE,
    GENERATION_FILE,
    TOKENIZER_FILE,
)
from kerasllm.errors import PresetError
from kerasllm.json_files import read_json_file
from kerasllm.models.encoder_decoders.frame import Frame, frame_of
from kerasllm.models.huggingface import CONFIG

# What a `generation_config.json`, or an older `config.json`, recommends for generating.
GENERATION = (
    "num_beams length_penalty early_stopping max_length min_length max_new_tokens min_new_tokens "
    "no_repeat_ngram_size repetition_penalty do_sample temperature top_k top_p forced_eos_token_id "
    "bad_words_ids"
).split()
_MBART_50 = "MBart50Tokenizer"
# The tokens of a family by name, where no file names them.
_TOKENS = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
_BART_TOKENS = {"bos_token": "<s>", **_TOKENS}


def read_text_side(folder: Path, config: Mapping) -> tuple[TokenizerJson, dict]:
    """Reads the tokenizer of a folder in Hugging Face's layout, and what belongs to its text.

    Args:
        folder: The folder.
        config: The content of its `config.json`.

    Returns:
        The tokenizer, which puts nothing around a text, and fields of `EncoderDecoder`.

    Raises:
        PresetError: There is no tokenizer that kerasllm reads, or a token is missing.
    """
    model_type = config["model_type"]
    settings = _json(folder / CONFIG_FILE)
    tokenizer_class = str(settings.get("tokenizer_class") or "").removesuffix("Fast")
    _check_class(tokenizer_class, folder)
    if not has_tokenizer(folder):
        raise PresetError(
            "there is no tokenizer that kerasllm can read: no tokenizer.json",
            where=str(folder),
            fix="add the tokenizer.json of the model to its folder",
        )
    defaults = _TOKENS if model_type == "t5" else _BART_TOKENS
    tokenizer = from_folder(folder, add_start=False, defaults=defaults)
    given = _json(folder / GENERATION_FILE)
    # A generation_config.json counts for what it says, as in transformers.
    said = {**config, **given}
    where = str(folder / CONFIG)
    end = _one_id("eos_token_id", said.get("eos_token_id", tokenizer.end_of_text_id), where)
    start = _one_id("decoder_start_token_id", _start(said, model_type), where)
    pad = _one_id("pad_token_id", said.get("pad_token_id", tokenizer.pad_token_id), where)
    forced = said.get("forced_bos_token_id")
    frame = frame_of(json.loads(tokenizer.content).get("post_processor"))
    if frame is None:
        start_of_text = tokenizer.token_to_id("<s>")
        frame = Frame((start_of_text,), (end,)) if model_type == "bart" else Frame((), (end,))
    target_frame = frame
    if model_type == "t5gemma":
        # Its tokenizer ends no text; its targets do end, and the decoder starts them.
        target_frame = Frame((), (end,))
    if tokenizer_class == _MBART_50:
        frame, target_frame = (
            Frame((_language(key, settings, tokenizer, folder),), (end,))
            for key in ("src_lang", "tgt_lang")
        )
        forced = target_frame.before[0]
    if not target_frame.after or target_frame.after[-1] != end:
        raise PresetError(
            f"the tokenizer ends texts with the tokens {list(target_frame.after)}, but the model "
            f"with eos_token_id, {end}",
            where=str(folder),
            fix="take the tokenizer and config.json from the same model",
        )
    facts = {
        "start_token_id": start,
        "end_token_id": end,
        "pad_token_id": pad,
        "source_frame": frame,
        "target_frame": target_frame,
        "forced_first_token_id": None
        if forced is None
        else _one_id("forced_bos_token_id", forced, where),
        "generation": {name: said[name] for name in GENERATION if said.get(name) is not None},
    }
    return tokenizer, facts


def _start(said: Mapping, model_type: str) -> Any:
    """Returns what the decoder reads first; transformers knows it of BART and Marian alone."""
    missing = {"bart": 2, "marian": 58100, "pegasus": 0}.get(model_type)
    return said.get("decoder_start_token_id", missing)


def _one_id(name: str, value: Any, where: str) -> int:
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise PresetError(
            f"{name} is {str(value)[:80]!r}, and it must be the id of a token",
            where=where,
            fix="use the file from the model's own repository",
        )
    return value


def _check_class(tokenizer_class: str, folder: Path) -> None:
    """Refuses tokenizers that do something at each text which no other file says."""
    why = None
    if tokenizer_class == "MBartTokenizer":
        why = "texts end with the code of a language, and the decoder starts with one"
    elif tokenizer_class == "MarianTokenizer" and not (folder / TOKENIZER_FILE).is_file():
        why = "it has a separate SentencePiece model for targets, and no tokenizer.json"
    if why:
        raise PresetError(
            f"tokenizer_class is {tokenizer_class}, which kerasllm does not read: {why}",
            where=str(folder / CONFIG_FILE),
            fix="use a BART, a T5, or a model with a complete tokenizer.json",
        )


def _language(key: str, settings: Mapping, tokenizer: TokenizerJson, folder: Path) -> int:
    """Returns the token of the language of sources or targets, which mBART-50 puts before them."""
    token = settings.get(key)
    found = tokenizer.token_to_id(token) if isinstance(token, str) else None
    if found is None:
        raise PresetError(
            f"{key} is {token!r}, and {_MBART_50} puts the code of a language before each text",
            where=str(folder / CONFIG_FILE),
            fix='write both languages there in a local copy, as "src_lang": "en_XX", '
            '"tgt_lang": "de_DE"',
        )
    return found


def _json(path: Path) -> dict:
    if not path.is_file():
        return {}
    try:
        found = read_json_file(path)
    except (ValueError, OSError) as error:
        raise PresetError(
            f"not valid JSON: {error}", where=str(path), fix="download the file again"
        ) from error
    if not isinstance(found, dict):
        raise PresetError("not a JSON object", where=str(path), fix="download the file again")
    return found
