"""The files of a folder that holds a TensorFlow checkpoint of an encoder. Needs no TensorFlow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kerasllm.errors import PresetError

CONFIGS = ("bert_config.json", "params.yaml")
VOCABULARY = "vocab.txt"
_ALBERT = "albert_config.json"
_INDEX = ".index"
_SHARD = re.compile(r"\.data-(\d{5})-of-(\d{5})$")


@dataclass(frozen=True)
class Files:
    """What a checkpoint is read from.

    Attributes:
        configs: `bert_config.json` (both), `params.yaml` (Model Garden), or both files.
        checkpoint: What TensorFlow calls the checkpoint: the path of its index without `.index`.
    """

    configs: tuple[Path, ...]
    checkpoint: Path


def found_in(folder: str | Path) -> bool:
    """Returns whether a folder looks like a TensorFlow checkpoint and like nothing newer."""
    folder = Path(folder)
    if not folder.is_dir() or (folder / "config.json").is_file():
        return False
    return any((folder / name).is_file() for name in CONFIGS) or any(_indexes(folder))


def find_files(folder: Path) -> Files:
    """Finds the configuration and the checkpoint of a folder.

    Args:
        folder: A folder for which `found_in` is true.

    Raises:
        PresetError: A file is missing, or there is more than one checkpoint.
    """
    configs = [folder / name for name in CONFIGS if (folder / name).is_file()]
    if not configs and (folder / _ALBERT).is_file():
        raise PresetError(
            f"{folder} holds a TensorFlow checkpoint of ALBERT, but kerasllm reads only BERT's",
            where=str(folder / _ALBERT),
            fix="use the model in Hugging Face's or KerasHub's layout",
        )
    if not configs:
        raise PresetError(
            f"{folder} holds a TensorFlow checkpoint but no configuration: looked for "
            f"{' and '.join(CONFIGS)}",
            fix="add the bert_config.json that came with the checkpoint; other models are read "
            "from Hugging Face's or KerasHub's layout",
        )
    indexes = _indexes(folder)
    if not indexes:
        raise PresetError(
            f"{folder} has {configs[0].name} and no weights: there is no bert_model.ckpt.indexor "
            "similar file",
            fix="add the files of the checkpoint: .index and .data-00000-of-00001",
        )
    if len(indexes) > 1:
        names = ", ".join(path.name.removesuffix(_INDEX) for path in indexes)
        raise PresetError(
            f"{folder} holds {len(indexes)} checkpoints: {names}",
            fix="give a folder with one of them, the configuration and the vocabulary",
        )
    checkpoint = indexes[0].with_name(indexes[0].name.removesuffix(_INDEX))
    _check_shards(checkpoint)
    if not (folder / VOCABULARY).is_file():
        raise PresetError(
            f"{folder} holds a TensorFlow checkpoint but no {VOCABULARY}",
            fix=f"add the {VOCABULARY} that came with the checkpoint",
        )
    return Files(tuple(configs), checkpoint)


def _indexes(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"*{_INDEX}") if path.is_file())


def _check_shards(checkpoint: Path) -> None:
    # Not by a glob: the name of a checkpoint may hold a character that is special there.
    ends = [
        path.name.removeprefix(checkpoint.name)
        for path in checkpoint.parent.iterdir()
        if path.name.startswith(checkpoint.name)
    ]
    found = {(int(match[1]), int(match[2])) for match in map(_SHARD.fullmatch, ends) if match}
    count = max((total for _, total in found), default=1)
    for number in range(count):
        if (number, count) not in found:
            raise PresetError(
                f"{checkpoint.name}.data-{number:05d}-of-{count:05d} is missing: only the index of "
                "the checkpoint was found",
                where=str(checkpoint.parent),
                fix="copy all files of the checkpoint",
            )
