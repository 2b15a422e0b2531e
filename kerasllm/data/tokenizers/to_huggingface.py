"""The tokenizer of a KerasHub text classifier as the files of Hugging Face."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_hub

from kerasllm.data.tokenizers.from_keras_hub import from_keras_hub
from kerasllm.data.tokenizers.sentence_pieces import unigram_json
from kerasllm.data.tokenizers.tokenizer_json import CONFIG_FILE, TOKENIZER_FILE
from kerasllm.errors import PresetError

_hub = keras_hub.tokenizers

_ANY_CLASS = "PreTrainedTokenizerFast"


def save_huggingface_tokenizer(
    tokenizer: keras_hub.tokenizers.Tokenizer, folder: str | Path, max_length: int
) -> None:
    """Writes a classifier's tokenizer so that `transformers` and `tokenizers` give the same ids.

    `tokenizer.json` alone is enough for the library `tokenizers`: it holds the vocabulary, the
    rules, the special tokens around a text, and the length that texts are cut to. The other files
    are for transformers, old and new: `tokenizer_config.json`, `special_tokens_map.json` and the
    vocabulary as the family's own files (`vocab.txt`; `vocab.json` and `merges.txt`;
    SentencePiece's model).

    The ids are those of `from_keras_hub`; for those of SentencePiece see `unigram_json`.

    Args:
        tokenizer: The tokenizer of a KerasHub preprocessor: BERT, DistilBERT, RoBERTa,
            XLM-RoBERTa or ALBERT.
        folder: The folder to write into; must exist.
        max_length: The maximum number of tokens of a text, special tokens included.

    Raises:
        PresetError: If Hugging Face's layout is not known for this tokenizer.

    Example:

    ```python
    save_huggingface_tokenizer(model.task.preprocessor.tokenizer, "exported", max_length=128)
    tokenizers.Tokenizer.from_file("exported/tokenizer.json").encode("a good film").ids
    ```
    """
    folder = Path(folder)
    check_tokenizer(tokenizer)
    content, settings = _WRITERS[type(tokenizer)](tokenizer, folder)
    content["truncation"] = {
        "direction": "Right",
        "max_length": max_length,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    names = {name: token for name, token in settings.items() if name.endswith("_token")}
    _write_json(folder / TOKENIZER_FILE, content)
    _write_json(folder / CONFIG_FILE, {**settings, "model_max_length": max_length})
    _write_json(folder / "special_tokens_map.json", names)


def check_tokenizer(tokenizer: keras_hub.tokenizers.Tokenizer) -> None:
    """Raises a `PresetError` if Hugging Face's layout is not known for a tokenizer."""
    if type(tokenizer) not in _WRITERS:
        known = ", ".join(sorted(kind.__name__ for kind in _WRITERS))
        raise PresetError(
            f"kerasllm does not write {type(tokenizer).__name__} as Hugging Face's files",
            fix=f"use a model with one of these: {known}",
        )


def _word_piece(
    tokenizer: keras_hub.tokenizers.WordPieceTokenizer, folder: Path
) -> tuple[dict, dict]:
    content = json.loads(from_keras_hub(tokenizer).reference.to_str())
    start, end = tokenizer.cls_token, tokenizer.sep_token
    content["post_processor"] = _template(tokenizer, start, end)
    prefix = tokenizer.suffix_indicator
    content["decoder"] = {"type": "WordPiece", "prefix": prefix, "cleanup": True}
    lines = "".join(f"{token}\n" for token in tokenizer.get_vocabulary())
    (folder / "vocab.txt").write_text(lines, encoding="utf-8", newline="\n")
    own_class, inputs = _CLASSES[type(tokenizer)]
    names = {
        "unk_token": tokenizer.oov_token,
        "sep_token": end,
        "pad_token": tokenizer.pad_token,
        "cls_token": start,
        "mask_token": tokenizer.mask_token,
    }
    # The families' own classes rebuild their tokenizer from the vocabulary and these settings.
    ordinary = prefix == "##" and len(content["added_tokens"]) == len(names)
    return content, {
        "tokenizer_class": own_class if ordinary else _ANY_CLASS,
        "model_input_names": inputs,
        "do_lower_case": tokenizer.lowercase,
        "strip_accents": tokenizer.strip_accents,
        "tokenize_chinese_chars": tokenizer.split_on_cjk,
        "clean_up_tokenization_spaces": True,
        **names,
    }


def _byte_pairs(
    tokenizer: keras_hub.tokenizers.BytePairTokenizer, folder: Path
) -> tuple[dict, dict]:
    content = json.loads(from_keras_hub(tokenizer).reference.to_str())
    start, end = tokenizer.start_token, tokenizer.end_token
    prefix_space = tokenizer.add_prefix_space
    content["post_processor"] = {
        "type": "RobertaProcessing",
        "sep": [end, tokenizer.end_token_id],
        "cls": [start, tokenizer.start_token_id],
        "trim_offsets": True,
        "add_prefix_space": prefix_space,
    }
    content["decoder"] = {
        "type": "ByteLevel",
        "add_prefix_space": True,
        "trim_offsets": True,
        "use_regex": True,
    }
    merges = "".join(f"{left} {right}\n" for left, right in content["model"]["merges"])
    _write_json(folder / "vocab.json", dict(tokenizer.vocabulary), indent=None)
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges, encoding="utf-8", newline="\n")
    names = {
        "bos_token": start,
        "eos_token": end,
        "sep_token": end,
        "cls_token": start,
        "pad_token": tokenizer.pad_token,
        "mask_token": tokenizer.mask_token,
    }
    if "<unk>" in tokenizer.vocabulary:
        names["unk_token"] = "<unk>"
    own_class, inputs = _CLASSES[type(tokenizer)]
    ordinary = {token["content"] for token in content["added_tokens"]} == {*names.values()}
    return content, {
        "tokenizer_class": own_class if ordinary and "unk_token" in names else _ANY_CLASS,
        "model_input_names": inputs,
        "add_prefix_space": prefix_space,
        "trim_offsets": True,
        "clean_up_tokenization_spaces": False,
        # That it takes the spaces before it along is said nowhere else for the family's own class.
        "added_tokens_decoder": {
            str(one["id"]): {key: value for key, value in one.items() if key != "id"}
            for one in content["added_tokens"]
        },
        **names,
    }


def _sentence_pieces(
    tokenizer: keras_hub.tokenizers.SentencePieceTokenizer, folder: Path
) -> tuple[dict, dict]:
    content = unigram_json(tokenizer)
    start, end = tokenizer.start_token, tokenizer.end_token
    file, inputs = _MODELS[type(tokenizer)]
    (folder / file).write_bytes(tokenizer.proto)
    albert = isinstance(tokenizer, _hub.AlbertTokenizer)
    content["post_processor"] = _template(tokenizer, start, end, roberta=not albert)
    return content, {
        # The families' own classes add rules for texts that KerasHub's tokenizers do not have.
        "tokenizer_class": _ANY_CLASS,
        "model_input_names": inputs,
        **({"do_lower_case": False, "keep_accents": True} if albert else {}),
        "clean_up_tokenization_spaces": False,
        "bos_token": start,
        "eos_token": end,
        "sep_token": end,
        "cls_token": start,
        "unk_token": "<unk>",
        "pad_token": tokenizer.pad_token,
        "mask_token": tokenizer.id_to_token(tokenizer.mask_token_id),
    }


def _template(tokenizer: Any, start: str, end: str, roberta: bool = False) -> dict[str, Any]:
    """Returns the post-processor of `[CLS] text [SEP]`, with BERT's or RoBERTa's way of pairs."""
    special, part = (
        lambda name, type_id=0, key=key: {key: {"id": name, "type_id": type_id}}
        for key in ("SpecialToken", "Sequence")
    )
    single = [special(start), part("A"), special(end)]
    second = [special(end), part("B"), special(end)] if roberta else [part("B", 1), special(end, 1)]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, *second],
        "special_tokens": {
            token: {"id": token, "ids": [tokenizer.token_to_id(token)], "tokens": [token]}
            for token in (start, end)
        },
    }


def _write_json(path: Path, value: object, indent: int | None = 2) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")


_WITH_TYPES = ["input_ids", "token_type_ids", "attention_mask"]
_PLAIN = ["input_ids", "attention_mask"]
# The class in transformers, and the inputs of the model that it makes.
_CLASSES = {
    _hub.BertTokenizer: ("BertTokenizer", _WITH_TYPES),
    _hub.DistilBertTokenizer: ("DistilBertTokenizer", _PLAIN),
    _hub.RobertaTokenizer: ("RobertaTokenizer", _PLAIN),
}
# SentencePiece's own file, by the name that the family gives it.
_MODELS = {
    _hub.AlbertTokenizer: ("spiece.model", _WITH_TYPES),
    _hub.XLMRobertaTokenizer: ("sentencepiece.bpe.model", _PLAIN),
}
_WRITERS: dict[type, Callable[[Any, Path], tuple[dict, dict]]] = {
    _hub.BertTokenizer: _word_piece,
    _hub.DistilBertTokenizer: _word_piece,
    _hub.RobertaTokenizer: _byte_pairs,
    _hub.AlbertTokenizer: _sentence_pieces,
    _hub.XLMRobertaTokenizer: _sentence_pieces,
}
