"""The tokenizer of a folder: a hub's, or the one that a run leaves beside its model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kerasllm.data.tokenizers.byte_level import byte_level_json
from kerasllm.data.tokenizers.sentence_pieces import unigram_json_of_model
from kerasllm.data.tokenizers.tokenizer_json import (
    CONFIG_FILE,
    GENERATION_FILE,
    TOKENIZER_FILE,
    TokenizerJson,
)
from kerasllm.errors import PresetError
from kerasllm.json_files import read_json_file

PRESET_SUBFOLDER = "huggingface"
"""Where a KerasHub preset folder keeps these files: it has a `tokenizer.json` of its own kind."""

_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token")
# T5's layout: a SentencePiece model, and tokens that mark what a text leaves out.
_PIECES, _EXTRA_IDS = "spiece.model", 100


def from_folder(
    folder: str | Path,
    *,
    add_start: bool = True,
    defaults: Mapping[str, str] = MappingProxyType({}),
) -> TokenizerJson:
    """Reads the tokenizer of a language model from its folder.

    The vocabulary and the rules are those of `tokenizer.json`, of `vocab.json` and `merges.txt`
    (GPT-2's layout), or of `spiece.model` (T5's). `tokenizer_config.json` and
    `special_tokens_map.json` name the special tokens, and `generation_config.json` or `config.json`
    those at which generation stops. A start token is put before a text where the reference does:
    where `add_bos_token` says so, or else where the
    post-processor of `tokenizer.json` does.

    Args:
        folder: A folder in Hugging Face's layout, or a KerasHub preset folder with such a folder
            named `huggingface` in it.
        add_start: Whether a start token may be put before a text. Defaults to `True`.
        defaults: What tokens are called that no file names: `{"eos_token": "</s>"}`. Defaults to
            none.

    Raises:
        PresetError: There is no tokenizer, or its files contradict each other.

    Example:

    ```python
    tokenizer = from_folder("runs/gpt_lm/first/model")
    ```
    """
    folder = Path(folder)
    if (folder / PRESET_SUBFOLDER).is_dir():
        folder = folder / PRESET_SUBFOLDER
    try:
        return _from_folder(folder, add_start, defaults)
    except (AttributeError, KeyError, IndexError, TypeError, OSError, ValueError) as error:
        # Of files that others wrote: a value of another kind than the format has there.
        raise PresetError(
            f"The tokenizer's files are not in the format of transformers: {error}",
            where=str(folder),
            fix="download them again",
        ) from error


def _from_folder(folder: Path, add_start: bool, defaults: Mapping[str, str]) -> TokenizerJson:
    settings = _json(folder / CONFIG_FILE)
    parts = _parts(folder, settings)
    named = _named_tokens(settings, _json(folder / "special_tokens_map.json"), defaults)
    _add_tokens(parts, settings, named, folder)
    _follow_prefix_space(parts, settings)
    start = _start_token(parts, settings, named) if add_start else None
    by_id = {token["id"]: token["content"] for token in parts["added_tokens"]}
    stops = []
    for name in (GENERATION_FILE, "config.json"):
        ids = _json(folder / name).get("eos_token_id")
        for id in ids if isinstance(ids, list) else [ids]:
            if id is not None and type(id) is not int:
                raise PresetError(
                    f"eos_token_id holds {str(id)[:80]!r}, which is not an id",
                    where=str(folder / name),
                    fix="download the file again",
                )
            stops.append(by_id.get(id) or _token_of(parts, id))
    return TokenizerJson(
        json.dumps(parts, ensure_ascii=False),
        start_token=start,
        end_token=named.get("eos_token") or next(filter(None, stops), None),
        pad_token=named.get("pad_token"),
        stop_tokens=[token for token in stops if token is not None],
        named_tokens={name: named[name] for name in _NAMES if name in named},
        where=str(folder / TOKENIZER_FILE),
    )


def has_tokenizer(folder: str | Path) -> bool:
    """Whether `from_folder` finds a tokenizer in a folder.

    Args:
        folder: The folder.
    """
    folder = Path(folder)
    return any(
        (place / TOKENIZER_FILE).is_file() and "model" in _json(place / TOKENIZER_FILE)
        for place in (folder / PRESET_SUBFOLDER, folder)
    ) or any(
        all((folder / name).is_file() for name in names)
        for names in (("vocab.json", "merges.txt"), (_PIECES,))
    )


def _parts(folder: Path, settings: Mapping) -> dict[str, Any]:
    """What tokenizer.json says, or would say if there was one."""
    parts = _json(folder / TOKENIZER_FILE)
    if "model" in parts:
        parts["added_tokens"] = parts.get("added_tokens") or []
        return parts
    vocabulary, merges = _json(folder / "vocab.json"), folder / "merges.txt"
    if (folder / _PIECES).is_file() and not merges.is_file():
        count = settings.get("extra_ids", _EXTRA_IDS)
        extra = [f"<extra_id_{number}>" for number in reversed(range(count))]
        return unigram_json_of_model((folder / _PIECES).read_bytes(), extra)
    if not vocabulary or not merges.is_file():
        raise PresetError(
            f"there is no {TOKENIZER_FILE}, nor vocab.json and merges.txt, nor {_PIECES}",
            where=str(folder),
            fix="add the tokenizer files of the model",
        )
    lines = merges.read_text(encoding="utf-8").split("\n")
    pairs = [line.rstrip("\r") for line in lines if line.strip()]
    pairs = [pair for pair in pairs if not pair.startswith("#version")]
    special = ["<|endoftext|>"] if "<|endoftext|>" in vocabulary else []
    return byte_level_json(vocabulary, pairs, special_tokens=special)


def _named_tokens(*sources: Mapping) -> dict[str, str]:
    """Name to token; the first source that names one counts."""
    named = {}
    for source in sources:
        for name in _NAMES:
            token = source.get(name)
            token = token.get("content") if isinstance(token, Mapping) else token
            if isinstance(token, str):
                named.setdefault(name, token)
    return named


def _add_tokens(parts: dict, settings: Mapping, named: dict[str, str], folder: Path) -> None:
    """Adds tokens that only tokenizer_config.json knows, at the ids that it gives them."""
    known = {token["content"]: token["id"] for token in parts["added_tokens"]}
    vocabulary = parts["model"].get("vocab") or {}
    in_model = vocabulary if isinstance(vocabulary, Mapping) else {}
    listed = settings.get("added_tokens_decoder") or {}
    for id, token in sorted(listed.items(), key=lambda item: int(item[0])):
        found = known.get(token["content"], in_model.get(token["content"], int(id)))
        if found != int(id):
            raise PresetError(
                f"the token {token['content']!r} has the id {found} in {TOKENIZER_FILE} and "
                f"{id} in {CONFIG_FILE}",
                where=str(folder / CONFIG_FILE),
                fix="take both files from the same model",
            )
        if token["content"] not in known:
            parts["added_tokens"].append({**_PLAIN_TOKEN, **_of_token(token), "id": int(id)})
            known[token["content"]] = int(id)
    # A name for a token that is not there (a padding token that was never trained) has no use
    # here: it would need a row in the embedding that the model does not have.
    for name in [name for name, token in named.items() if token not in known]:
        id = in_model.get(named[name])
        if id is None:
            del named[name]
        else:
            # transformers makes each named token one that a text is split at.
            added = {**_PLAIN_TOKEN, "content": named[name], "special": True, "id": id}
            parts["added_tokens"].append(added)
            known[named[name]] = id
    parts["added_tokens"].sort(key=lambda token: token["id"])


_PLAIN_TOKEN = {
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": False,
    "special": False,
}


def _of_token(token: Mapping) -> dict:
    return {key: token[key] for key in ("content", *_PLAIN_TOKEN) if key in token}


def _follow_prefix_space(parts: dict, settings: Mapping) -> None:
    """Lets `add_prefix_space` of tokenizer_config.json count, as transformers does."""
    wanted = settings.get("add_prefix_space")
    pre_tokenizer = parts.get("pre_tokenizer") or {}
    if isinstance(wanted, bool) and pre_tokenizer.get("type") == "ByteLevel":
        pre_tokenizer["add_prefix_space"] = wanted


def _start_token(parts: Mapping, settings: Mapping, named: Mapping[str, str]) -> str | None:
    if isinstance(settings.get("add_bos_token"), bool):
        return named.get("bos_token") if settings["add_bos_token"] else None
    processor = parts.get("post_processor") or {}
    for step in processor.get("processors", [processor]):
        if step.get("type") != "TemplateProcessing":
            continue
        first = step["single"][0].get("SpecialToken") if step["single"] else None
        if first:
            return step["special_tokens"][first["id"]]["tokens"][0]
    return None


def _token_of(parts: Mapping, id: int | None) -> str | None:
    vocabulary = parts["model"].get("vocab")
    if id is None or not isinstance(vocabulary, Mapping):
        return None
    return next((token for token, number in vocabulary.items() if number == id), None)


def _json(path: Path) -> dict[str, Any]:
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
