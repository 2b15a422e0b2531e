"""A model with a tag for each word, which knows its tags and is saved with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasllm.data.dataset import Dataset
from kerasllm.data.labels import FILE_NAME, Labels
from kerasllm.data.rows import Rows
from kerasllm.data.tag_schemes import TagSet
from kerasllm.data.tokenizers import Tokenizer
from kerasllm.data.word_windows import stride_of
from kerasllm.data.words import Joins
from kerasllm.errors import DataError
from kerasllm.json_files import read_json_file
from kerasllm.models import presets
from kerasllm.models.encoder import load_token_task, save_task
from kerasllm.models.huggingface import CONFIG, is_huggingface, read_config
from kerasllm.models.huggingface.heads import OF_TOKENS, has_head, read_token_head, tag_names
from kerasllm.models.token_head import TokenHead, has_token_head, read_head
from kerasllm.models.token_model import TokenModel
from kerasllm.signing import trust
from kerasllm.training.losses import SoftenedKLDivergence

TAGGING = "tagging.json"
"""The file beside a model that says how it reads texts: what a word is, and how windows move."""


@dataclass(frozen=True, eq=False)
class Tagging:
    """How a model reads texts, and what its tags are.

    Attributes:
        scheme: `"plain"`, or `"iob2"`: what the tags mean. Defaults to `"iob2"`.
        joins: Which pieces of a text are one word. Defaults to none: each is.
        stride: How many tokens a window over a long text moves on. Defaults to `None`: half of a
            window.
    """

    scheme: str = "iob2"
    joins: Joins = field(default_factory=Joins)
    stride: int | None = None

    def save(self, folder: str | Path) -> None:
        """Writes `tagging.json`."""
        facts = {
            "scheme": self.scheme,
            "stride": self.stride,
            "joins": self.joins.keys.tolist(),
        }
        (Path(folder) / TAGGING).write_text(json.dumps(facts) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Tagging:
        """Reads `tagging.json`.

        Raises:
            DataError: If it cannot be read.
        """
        file = Path(folder) / TAGGING
        try:
            facts = read_json_file(file)
            stride = facts["stride"]
            return cls(
                str(facts["scheme"]),
                Joins(map(int, facts["joins"])),
                None if stride is None else int(stride),
            )
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"The word settings of this model cannot be read: {error}",
                where=str(file),
                fix="the file is written by `kerasllm finetune`; copy it from the original run",
            ) from error


@keras.saving.register_keras_serializable(package="kerasllm")
class TokenClassifier(TokenModel):
    """An encoder with a tag for each word, its tokenizer, and what its tags mean.

    It is trained as a run, by `kerasllm.finetune` or the command; `tag` finds spans in texts.

    Args:
        task: The encoder with a head on every token, and its preprocessor.
        labels: The tags, in the order of the outputs.
        tokenizer: The tokenizer of the preset. Defaults to `None`: it is made of the task's.
        tagging: What the tags mean, and how texts are read. Defaults to `None`: as `Tagging()`.

    Example:

    ```python
    model = TokenClassifier.from_preset("my_run/model")
    model.tag(["Ada Lovelace lived in London."])[0]["spans"]
    ```
    """

    def __init__(
        self,
        task: TokenHead,
        labels: Labels,
        tokenizer: Tokenizer | None = None,
        tagging: Tagging | None = None,
        **kwargs,
    ):
        super().__init__(task, tokenizer, **kwargs)
        self._labels = labels
        self.tagging = tagging or Tagging()

    @property
    def labels(self) -> Labels:
        """The tags, in the order of the outputs."""
        return self._labels

    @cached_property
    def tags(self) -> TagSet:
        """What the tags mean, and which may follow which."""
        return TagSet(self._labels.names, self.tagging.scheme)

    @property
    def stride(self) -> int:
        """How many tokens a window over a long text moves on."""
        return stride_of(self.tokenizer, self.max_length, self.tagging.stride)

    def tag(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Finds spans in texts.

        Args:
            texts: The texts.

        Returns:
            For each text `text`; `spans`, each with `start`, `end`, `text`, `label` and
            `probability`; and `tokens` and `tags`, its words and their tags.
        """
        from kerasllm.models.tag_texts import tag_texts

        if isinstance(texts, str):
            raise ValueError(f"`texts` must be a list: write [{texts[:20]!r}], with brackets.")
        return tag_texts(self, self.texts_of(texts))

    def encode(self, dataset: Dataset, *, train: bool = False) -> Rows:
        raise ValueError(
            "A token classifier is trained and evaluated as a run: use `kerasllm.finetune(...)` "
            "and "
            "`kerasllm.evaluate(...)`, which read tagged words."
        )

    def predict_texts(self, texts: Sequence[Any], callbacks: keras.callbacks.CallbackList):
        raise ValueError("The outputs of texts differ in length: `model.tag(texts)` finds spans.")

    def distillation_loss(self, temperature: float) -> keras.losses.Loss:
        """Returns the loss that makes the outputs of tokens those of a teacher.

        Args:
            temperature: Softens the probabilities of tags.
        """
        return SoftenedKLDivergence(temperature)

    def student(self, task: TokenHead) -> TokenClassifier:
        """Returns a model with the tags and the reading of this one, on another encoder."""
        return TokenClassifier(task, self.labels, tagging=self.tagging)

    def save_to_preset(self, folder: str | Path) -> None:
        """Writes a KerasHub preset folder of the encoder, the head, its tags, and how it reads.

        `keras_hub` alone loads the backbone and the tokenizer.
        """
        save_task(self.task, folder)
        self.save_outputs(folder)

    def save_outputs(self, folder: str | Path) -> None:
        """Writes `labels.json`, the tags, and `tagging.json`."""
        self.labels.save(Path(folder))
        self.tagging.save(folder)

    @classmethod
    def from_preset(cls, folder: str | Path, *, precision: str | None = None) -> TokenClassifier:
        """Loads a model that was saved with its head: the `model` of a run.

        Args:
            folder: The folder, the run, or a folder of transformers with a
                `...ForTokenClassification`.
            precision: A Keras dtype policy. Defaults to `None`: float32.

        Raises:
            PresetError: If the folder has no such head, or cannot be read.
            DataError: If what its tags are cannot be read.
        """
        folder = Path(folder)
        if (folder / "recipe.yaml").is_file():
            folder = folder / "model"
        if folder.exists():
            trust.check(folder)
        task, labels = load_token_task(folder, precision), saved_labels(folder)
        if len(labels) != task.num_outputs:
            raise DataError(
                f"{len(labels)} tags, where the model has {task.num_outputs} outputs",
                where=str(folder / FILE_NAME),
                fix="the file is written by `kerasllm finetune`; copy it from the original run",
            )
        return cls(task, labels, tagging=saved_tagging(folder, labels))


def saved_labels(folder: Path) -> Labels:
    """Returns the tags of a folder with a head on every token.

    Raises:
        PresetError: A folder in Hugging Face's layout does not tell them.
        DataError: They cannot be read.
    """
    if is_huggingface(folder):
        return Labels(tag_names(read_config(folder / CONFIG), str(folder / CONFIG)))
    return Labels.load(folder)


def saved_tagging(folder: Path, labels: Labels) -> Tagging:
    """Returns how a model reads texts; one of another library says nothing of it.

    Raises:
        DataError: If it cannot be read.
    """
    if is_huggingface(folder) and not (folder / TAGGING).is_file():
        return Tagging("plain" if TagSet(labels.names).plain else "iob2")
    return Tagging.load(folder)


def trained_head(preset: str | Path, labels: Labels) -> dict[str, np.ndarray] | None:
    """Returns the head of a preset that was trained for some tags, in their order.

    Args:
        preset: What `kerasllm.models.presets.resolve` takes.
        labels: The tags.

    Returns:
        `kernel` and `bias`; `None` where the preset has no head on every token, or one of others.
    """
    folder = presets.resolve(preset)
    if not isinstance(folder, Path):
        return None
    foreign = is_huggingface(folder)
    if not (has_head(folder, OF_TOKENS) if foreign else has_token_head(folder)):
        return None
    known = list(saved_labels(folder).names)
    if sorted(known) != sorted(labels.names):
        return None
    tensors = read_token_head(folder) if foreign else read_head(folder)[1]
    order = [known.index(name) for name in labels.names]
    return {"kernel": tensors["kernel"][:, order], "bias": tensors["bias"][order]}


def word_logits(logits: np.ndarray, places: np.ndarray, tags: TagSet) -> np.ndarray:
    """Returns the logits of words: those of their first tokens.

    Args:
        logits: float `[tokens, tags]`.
        places: int `[words]`, the token of each word, below 0 of one that has none: it is the
            first tag, which is O where there is such a tag.
        tags: The tags.

    Returns:
        float `[words, tags]`.
    """
    without = np.full(len(tags), -20.0, np.float32)
    without[0] = 0.0
    if not len(logits):
        return np.tile(without, (len(places), 1))
    found = logits[np.maximum(places, 0)]
    found[places < 0] = without
    return found
