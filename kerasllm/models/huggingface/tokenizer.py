"""The tokenizer of a Hugging Face folder, with every setting of it honoured or refused by name.

KerasHub's importers read the vocabulary and `do_lower_case` only, and only from the files that
transformers wrote before version 5. Here the vocabulary is read from those files or from
`tokenizer.json`, and the settings from wherever they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import keras_hub

from kerasllm.errors import PresetError
from kerasllm.json_files import read_json_file
from kerasllm.models.huggingface.sentencepiece_models import (
    from_pieces,
    with_albert_rules,
)


@dataclass(frozen=True)
class _Folder:
    """What the tokenizer files of a folder say."""

    path: Path
    settings: Mapping
    tokenizer: Mapping

    @classmethod
    def read(cls, path: Path, defaults: Mapping) -> _Folder:
        settings, tokenizer = (_json(path / name) for name in ("tokenizer_config.json", _FAST))
        return cls(path, {**defaults, **settings}, tokenizer)

    @property
    def model(self) -> Mapping:
        return self.tokenizer.get("model") or {}

    def refuse(self, file: str, key: str, value: object, instead: str) -> PresetError:
        return PresetError(
            f"{key} is {value!r}; {instead}",
            where=f"{self.path / file}: {key}",
            fix="use another model: this one would get other token ids than in training",
        )


_FAST = "tokenizer.json"
_BERT_TOKENS = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
_ROBERTA_TOKENS = {
    "bos": "<s>",
    "eos": "</s>",
    "sep": "</s>",
    "cls": "<s>",
    "unk": "<unk>",
    "pad": "<pad>",
    "mask": "<mask>",
}
_ALBERT_TOKENS = {
    "bos": "[CLS]",
    "eos": "[SEP]",
    "sep": "[SEP]",
    "cls": "[CLS]",
    "unk": "<unk>",
    "pad": "<pad>",
    "mask": "[MASK]",
}
# A plain wrapper around tokenizer.json, whose content is checked in any case.
_ANY_CLASS = {"PreTrainedTokenizer", "TokenizersBackend"}


def build_tokenizer(
    folder: Path, config: Mapping, defaults: Mapping = MappingProxyType({})
) -> keras_hub.tokenizers.Tokenizer:
    """Builds the KerasHub tokenizer that gives the ids of a folder's own tokenizer.

    Args:
        folder: A Hugging Face folder, or another that holds its tokenizer files.
        config: What `check_config` returned.
        defaults: Settings that `tokenizer_config.json` may leave out. Defaults to none.

    Raises:
        PresetError: There is no vocabulary, or a setting that KerasHub cannot follow.
    """
    files = _Folder.read(folder, defaults)
    named = files.settings.get("tokenizer_class") or config.get("tokenizer_class")
    name = str(named or "").removesuffix("Fast")
    builders: dict[str, tuple[Callable, set[str], Mapping[str, str]]] = {
        "bert": (_word_piece, {"BertTokenizer", "ElectraTokenizer"}, _BERT_TOKENS),
        "distilbert": (_word_piece, {"BertTokenizer", "DistilBertTokenizer"}, _BERT_TOKENS),
        "roberta": (_byte_pairs, {"RobertaTokenizer"}, _ROBERTA_TOKENS),
        "xlm-roberta": (_xlm_roberta, {"XLMRobertaTokenizer"}, _ROBERTA_TOKENS),
        "albert": (_albert, {"AlbertTokenizer"}, _ALBERT_TOKENS),
    }
    kind = config["model_type"]
    if kind == "bert" and name == "XLMRobertaTokenizer":
        # multilingual-e5 and its like: a BERT that was trained on XLM-RoBERTa's ids.
        kind = "xlm-roberta"
    build, classes, tokens = builders[kind]
    if name and name not in classes | _ANY_CLASS:
        raise files.refuse(
            "tokenizer_config.json",
            "tokenizer_class",
            name,
            f"kerasllm reads {' or '.join(sorted(classes))} for a {config['model_type']}",
        )
    _check_special_tokens(files, tokens)
    tokenizer = build(files, config)
    if tokenizer.vocabulary_size() > config["vocab_size"]:
        raise PresetError(
            f"the vocabulary has {tokenizer.vocabulary_size()} tokens, and the model "
            f"{config['vocab_size']} embeddings (vocab_size)",
            where=str(folder),
            fix="take config.json and the tokenizer from the same model",
        )
    return tokenizer


def _check_special_tokens(files: _Folder, tokens: Mapping[str, str]) -> None:
    for role, expected in tokens.items():
        value = files.settings.get(f"{role}_token")
        value = value.get("content") if isinstance(value, Mapping) else value
        if value not in (None, expected):
            raise files.refuse(
                "tokenizer_config.json",
                f"{role}_token",
                value,
                f"KerasHub's tokenizer knows only {expected!r}",
            )
    added = {entry["content"]: _FAST for entry in files.tokenizer.get("added_tokens") or []}
    decoder = files.settings.get("added_tokens_decoder") or {}
    added.update({entry["content"]: "tokenizer_config.json" for entry in decoder.values()})
    added.update(dict.fromkeys(_json(files.path / "added_tokens.json"), "added_tokens.json"))
    for token, file in added.items():
        if token not in tokens.values():
            raise files.refuse(file, "added token", token, "KerasHub would split it")


def _word_piece(files: _Folder, config: Mapping) -> keras_hub.tokenizers.Tokenizer:
    normalizer = files.tokenizer.get("normalizer") or {}
    _check_type(files, "normalizer", "BertNormalizer")
    _check_type(files, "pre_tokenizer", "BertPreTokenizer")
    _check_type(files, "model", "WordPiece")
    _check_value(files, _FAST, normalizer, "clean_text", True)
    _check_value(files, _FAST, normalizer, "handle_chinese_chars", True)
    _check_value(files, _FAST, files.model, "max_input_chars_per_word", 100)
    _check_value(files, _FAST, files.model, "unk_token", "[UNK]")
    # KerasHub has an option for these, but does not write it into what it saves.
    _check_value(files, "tokenizer_config.json", files.settings, "tokenize_chinese_chars", True)
    _check_value(files, "tokenizer_config.json", files.settings, "do_basic_tokenize", True)
    if files.settings.get("never_split"):
        raise files.refuse(
            "tokenizer_config.json",
            "never_split",
            files.settings["never_split"],
            "KerasHub splits every word",
        )
    lower = files.settings.get("do_lower_case", normalizer.get("lowercase", True))
    strip = files.settings.get("strip_accents", normalizer.get("strip_accents"))
    classes = {
        "bert": keras_hub.models.BertTokenizer,
        "distilbert": keras_hub.models.DistilBertTokenizer,
    }
    return classes[config["model_type"]](
        vocabulary=_word_piece_vocabulary(files),
        lowercase=bool(lower),
        # As in transformers: accents go with the case unless it is said otherwise.
        strip_accents=bool(lower if strip is None else strip),
        suffix_indicator=files.model.get("continuing_subword_prefix", "##"),
    )


def _word_piece_vocabulary(files: _Folder) -> list[str]:
    listed = files.path / "vocab.txt"
    fast = files.model.get("vocab")
    if listed.is_file():
        text = listed.read_text(encoding="utf-8").removesuffix("\n")
        vocabulary = [line.removesuffix("\r") for line in text.split("\n")]
        if fast and {token: i for i, token in enumerate(vocabulary)} != fast:
            raise PresetError(
                f"vocab.txt and {_FAST} hold different vocabularies",
                where=str(files.path),
                fix="take both from the same model, or keep the one that belongs to it",
            )
        return vocabulary
    if not fast:
        raise _no_vocabulary(files, "vocab.txt")
    return _in_order(files, fast)


def _byte_pairs(files: _Folder, config: Mapping) -> keras_hub.tokenizers.Tokenizer:
    _check_type(files, "model", "BPE")
    _check_type(files, "pre_tokenizer", "ByteLevel")
    if files.tokenizer.get("normalizer"):
        raise files.refuse(
            _FAST, "normalizer", files.tokenizer["normalizer"], "KerasHub's RoBERTa has none"
        )
    pre_tokenizer = files.tokenizer.get("pre_tokenizer") or {}
    _check_value(files, _FAST, pre_tokenizer, "use_regex", True)
    _check_value(files, _FAST, files.model, "byte_fallback", False)
    _check_value(files, _FAST, files.model, "ignore_merges", False)
    vocabulary = _json(files.path / "vocab.json") or files.model.get("vocab")
    merges = files.model.get("merges")
    if (files.path / "merges.txt").is_file():
        lines = (files.path / "merges.txt").read_text(encoding="utf-8").split("\n")
        merges = [line for line in lines if line.strip() and not line.startswith("#version")]
    if not vocabulary or merges is None:
        raise _no_vocabulary(files, "vocab.json and merges.txt")
    _in_order(files, vocabulary)
    return keras_hub.models.RobertaTokenizer(
        vocabulary=dict(vocabulary),
        merges=[merge if isinstance(merge, str) else " ".join(merge) for merge in merges],
        add_prefix_space=bool(
            files.settings.get("add_prefix_space", pre_tokenizer.get("add_prefix_space", False))
        ),
    )


def _xlm_roberta(files: _Folder, config: Mapping) -> keras_hub.tokenizers.Tokenizer:
    _check_type(files, "model", "Unigram")
    proto = _bytes(files.path / "sentencepiece.bpe.model")
    if not proto:
        # transformers puts four special tokens first and one last; the model itself has three.
        pieces = files.model.get("vocab") or []
        if [piece for piece, _ in pieces[:4]] != ["<s>", "<pad>", "</s>", "<unk>"]:
            raise _no_vocabulary(files, "sentencepiece.bpe.model")
        first = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
        proto = from_pieces(
            first + [tuple(piece) for piece in pieces[4:] if piece[0] != "<mask>"],
            unknown="<unk>",
            control=("<s>", "</s>"),
            normalizer=files.tokenizer.get("normalizer"),
        )
    return keras_hub.models.XLMRobertaTokenizer(proto=proto)


def _albert(files: _Folder, config: Mapping) -> keras_hub.tokenizers.Tokenizer:
    _check_type(files, "model", "Unigram")
    _check_value(files, "tokenizer_config.json", files.settings, "remove_space", True)
    proto = _bytes(files.path / "spiece.model")
    if not proto:
        if not files.model.get("vocab"):
            raise _no_vocabulary(files, "spiece.model")
        proto = from_pieces(
            [tuple(piece) for piece in files.model["vocab"]],
            unknown="<unk>",
            control=("<pad>", "[CLS]", "[SEP]", "[MASK]"),
            normalizer=files.tokenizer.get("normalizer"),
        )
    proto = with_albert_rules(
        proto,
        lower_case=files.settings.get("do_lower_case", True),
        keep_accents=files.settings.get("keep_accents", False),
    )
    return keras_hub.models.AlbertTokenizer(proto=proto)


def _check_type(files: _Folder, part: str, expected: str) -> None:
    found = (files.tokenizer.get(part) or {}).get("type", expected)
    if found != expected:
        raise files.refuse(_FAST, f"{part}.type", found, f"KerasHub's tokenizer is a {expected}")


def _check_value(files: _Folder, file: str, settings: Mapping, key: str, expected: object) -> None:
    found = settings.get(key)
    if found is not None and found != expected:
        raise files.refuse(file, key, found, f"KerasHub's tokenizer has {expected!r}")


def _in_order(files: _Folder, vocabulary: Mapping[str, int]) -> list[str]:
    tokens = sorted(vocabulary, key=vocabulary.get)
    if [vocabulary[token] for token in tokens] != list(range(len(tokens))):
        raise PresetError(
            f"the ids of the vocabulary are not 0 to {len(tokens) - 1}, each once",
            where=str(files.path),
            fix="download the tokenizer files again",
        )
    return tokens


def _no_vocabulary(files: _Folder, names: str) -> PresetError:
    return PresetError(
        f"no vocabulary: there is no {names}, and no {_FAST} with one",
        where=str(files.path),
        fix="add the tokenizer files of the model",
    )


def _json(path: Path) -> dict:
    if not path.is_file():
        return {}
    try:
        found = read_json_file(path)
    except ValueError as error:
        raise PresetError(
            f"not valid JSON: {error}", where=str(path), fix="download the file again"
        ) from error
    if not isinstance(found, dict):
        raise PresetError("not a JSON object", where=str(path), fix="download the file again")
    return found


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""
