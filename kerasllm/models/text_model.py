"""Models with a tokenizer, whose `fit`, `evaluate` and `predict` take raw texts."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasllm.data.batch_plan import EpochPlans
from kerasllm.data.dataset import ARGUMENTS, Dataset
from kerasllm.data.label_cells import shown
from kerasllm.data.pipeline import needs_one_shape
from kerasllm.data.rows import Rows
from kerasllm.data.texts import (
    checked_texts,
    flat,
    is_conversation,
    is_pair,
    listed,
    read_tf_data,
)
from kerasllm.errors import DataError, worded_for_python
from kerasllm.runtime.threads import slices_for
from kerasllm.training.batches import PlannedBatches, planned_batches
from kerasllm.training.compile_ahead import CompileAhead
from kerasllm.training.fit import FineTunedModel
from kerasllm.training.inputs import is_pipeline, makes_batches
from kerasllm.training.precision import only_cpus
from kerasllm.training.shapes import settle

_BUCKETS = 18


class TextModel(FineTunedModel):
    """A `FineTunedModel` that knows its tokenizer.

    In addition to Keras' own inputs (the dictionaries of a preprocessor, batches of them), `fit`
    and `evaluate` take texts, which are tokenized once and batched by length:

    - a `kerasllm.Dataset`,
    - lists, NumPy arrays or pandas Series of texts, with labels as `y`,
    - a `tf.data.Dataset` of texts, or of `(text, label)`; its batch size is kept, and its texts
      are shuffled again where `shuffle` is set.

    Attributes:
        sliced: Whether a CPU may compute a batch in slices, one per core.
        prediction_batch: Texts per batch in `predict`.
    """

    sliced = True
    prediction_batch = 32

    @abc.abstractmethod
    def encode(self, dataset: Dataset, *, train: bool = False) -> Rows:
        """Tokenizes a dataset.

        Args:
            dataset: What to tokenize.
            train: Whether the rows are trained on, and may be packed. Defaults to `False`.

        Raises:
            DataError: If its rows do not fit the model.
        """

    @abc.abstractmethod
    def predict_texts(
        self, texts: Sequence[Any], callbacks: keras.callbacks.CallbackList
    ) -> np.ndarray:
        """Returns the outputs for some texts, in their order; tells the callbacks of each batch."""

    def fit(
        self,
        x=None,
        y=None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks=None,
        validation_split: float = 0.0,
        validation_data=None,
        shuffle: bool = True,
        class_weight: Mapping | None = None,
        sample_weight=None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
        *,
        seed: int | None = None,
        buckets: int = _BUCKETS,
        **options,
    ) -> keras.callbacks.History:
        """Trains the model on texts, or on other inputs as `FineTunedModel.fit`.

        Args:
            x: Texts; see the class.
            y: Their labels, where `x` is texts. Defaults to `None`.
            validation_split: For texts, the share of the rows, stratified by class, to evaluate
                after each epoch. Defaults to `0.0`.
            validation_data: As `x`, or `(x, y)`, or `(x, y, sample_weight)`. Defaults to `None`.
            shuffle: Whether texts are shuffled in each epoch; otherwise they are sorted by length.
                Defaults to `True`.
            class_weight: A factor on the weight of rows, by the number or the name of their class;
                or a list of factors; or `"balanced"`. Defaults to `None`.
            seed: Seed of the order of the texts. Defaults to `None`: random, as set by
                `keras.utils.set_random_seed`.
            buckets: Maximum number of sequence lengths that batches are padded to. Defaults to
                `18`.
            **options: The other arguments, see `FineTunedModel.fit`.

        Returns:
            The history: the metrics of each epoch by name.
        """
        self._refuse_unless_compiled("fit")
        options |= {
            "epochs": epochs,
            "verbose": verbose,
            "callbacks": callbacks,
            "initial_epoch": initial_epoch,
            "steps_per_epoch": steps_per_epoch,
            "validation_steps": validation_steps,
            "validation_batch_size": validation_batch_size,
            "validation_freq": validation_freq,
        }
        if not 0 <= (validation_split or 0) < 1:
            raise ValueError(
                "`validation_split` must be from 0 to 1, the share of the rows to hold out. "
                f"Received: validation_split={validation_split}"
            )
        held_out = _unpacked(validation_data)
        texts = self.reads(x)
        if not texts and not (held_out and self.reads(held_out[0])):
            self._refuse_numbers(x)
            return super().fit(
                x,
                y,
                batch_size,
                validation_split=validation_split,
                validation_data=validation_data,
                shuffle=shuffle,
                class_weight=class_weight,
                sample_weight=sample_weight,
                **options,
            )
        if not texts:
            raise ValueError(
                "`validation_data` holds texts, but `x` does not: give both as texts, or "
                "preprocess both."
            )
        if held_out and not self.reads(held_out[0]):
            raise ValueError(
                "`x` holds texts, but `validation_data` does not: give both as texts, or "
                "preprocess both."
            )
        given = self._given(x, y, sample_weight, batch_size, steps_per_epoch, epochs)
        dataset, batch_size = given.dataset, given.batch_size
        if held_out:
            validation = self._given(*held_out).dataset
        elif validation_split:
            dataset, validation = dataset.split(validation_split, seed=seed or 0)
        else:
            validation = None
        if seed is None:
            seed = int(np.random.randint(2**31))
        rows = self._weighted(self._encoded(dataset, train=True), class_weight)
        validation = validation and self._encoded(validation)
        rows, validation = self.prepare_rows(rows, validation)
        plans = self._plans(rows, batch_size, buckets, seed if shuffle else None)
        per_epoch = steps_per_epoch or plans.steps
        self._choose_how(plans, per_epoch * epochs, buckets)
        whole = -(-per_epoch * epochs // plans.steps)
        batches = planned_batches(self, rows, plans, whole, seed=seed)
        measured = validation and self._to_evaluate(
            validation, validation_batch_size or batch_size, buckets
        )
        ahead = CompileAhead(plans)
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            given = callbacks or []
            given = [given] if isinstance(given, keras.callbacks.Callback) else list(given)
            options["callbacks"] = [ahead, *given]
        try:
            with closing(ahead):
                return super().fit(batches, validation_data=measured, **options)
        finally:
            self.fitted()

    def evaluate(
        self,
        x=None,
        y=None,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        sample_weight=None,
        steps: int | None = None,
        callbacks=None,
        return_dict: bool = False,
    ) -> dict[str, float] | list[float] | float:
        """Returns the loss and the metrics on texts, or as `FineTunedModel.evaluate`.

        Args:
            x: Texts; see the class.
            y: Their labels, where `x` is texts. Defaults to `None`.
        """
        options = {"verbose": verbose, "callbacks": callbacks, "return_dict": return_dict}
        if not self.reads(x):
            self._refuse_numbers(x)
            return super().evaluate(
                x, y, batch_size, sample_weight=sample_weight, steps=steps, **options
            )
        self._refuse_unless_compiled("evaluate")
        given = self._given(x, y, sample_weight, batch_size, steps)
        batches = self._to_evaluate(self._encoded(given.dataset), given.batch_size, _BUCKETS)
        if steps is not None:
            steps = min(steps, batches.steps)
        return super().evaluate(batches, steps=steps, **options)

    def predict(
        self,
        x,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks=None,
    ):
        """Returns the outputs for texts, in their order, or as `FineTunedModel.predict`.

        Args:
            x: Texts: a list, an array, a Series, a `tf.data.Dataset` of them, or a
                `kerasllm.Dataset`; see the class. Of a model that reads two, pairs of texts, or
                a tuple of two lists. Batches of texts are in the order of their lengths.
        """
        if hasattr(x, "__next__") and not is_pipeline(x):
            x = _without_texts(x)
        if not self.reads(x):
            self._refuse_numbers(x)
            return super().predict(x, batch_size, verbose, steps, callbacks)
        texts = self.texts_of(x, steps)
        if steps is not None and not is_pipeline(x):
            texts = texts[: steps * (batch_size or 32)]
        batches = -(-len(texts) // self.prediction_batch)
        callbacks = self._callbacks(callbacks, verbose, epochs=1, steps=batches)
        return self.predict_texts(texts, callbacks)

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        x, y, sample_weight = self._one(x, y, sample_weight, class_weight)
        class_weight = None if isinstance(x, PlannedBatches) else class_weight
        return super().train_on_batch(x, y, sample_weight, class_weight, return_dict)

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        return super().test_on_batch(*self._one(x, y, sample_weight), return_dict)

    def predict_on_batch(self, x):
        return self.predict(x) if self.reads(x) else super().predict_on_batch(x)

    @property
    def has_adapters(self) -> bool:
        """Whether low-rank adapters are attached."""
        return False

    def save(self, filepath, overwrite=True, zipped=None, **kwargs):
        """Writes a `.keras` file, as `keras.Model.save`; `keras.models.load_model` reads it.

        Raises:
            ValueError: If adapters are attached, which the file cannot store.
        """
        if self.has_adapters:
            raise ValueError(
                "A `.keras` file cannot store adapters: use `save_to_preset(folder)`, which "
                "merges them, or `save_weights`."
            )
        super().save(filepath, overwrite=overwrite, zipped=zipped, **kwargs)

    def quantize(self, *args, **kwargs):
        """Refuses: Keras' `quantize` would take some layers, and fail at the others."""
        raise ValueError(
            "A trainable model cannot be quantized in place; it was not changed. Train it as a "
            "run, by "
            "`kerasllm finetune` or `kerasllm.finetune(...)`, and quantize that: "
            "`kerasllm compress RUN --method int8`."
        )

    def _callbacks(self, callbacks, verbose, **settings) -> keras.callbacks.CallbackList:
        found = super()._callbacks(callbacks, verbose, **settings)
        for each in found.callbacks if self.has_adapters else ():
            if isinstance(each, keras.callbacks.ModelCheckpoint) and not each.save_weights_only:
                raise ValueError(
                    "`ModelCheckpoint` writes `.keras` files, which cannot store adapters: use "
                    "save_weights_only=True."
                )
        return found

    def reads(self, x: Any) -> bool:
        """Tells whether these are texts that the model tokenizes itself."""
        if isinstance(x, Dataset):
            return True
        if is_pipeline(x):
            spec = x.element_spec
            first = tf.nest.flatten(spec[0] if isinstance(spec, tuple) else spec)
            return isinstance(first[0], tf.TensorSpec) and first[0].dtype == tf.string
        return is_text(x)

    def _refuse_numbers(self, x: Any) -> None:
        batches = isinstance(x, (Mapping, PlannedBatches)) or makes_batches(x)
        if x is not None and not batches:
            raise ValueError(
                "`x` must be texts, as a list, an array or a `tf.data.Dataset` of strings, or the "
                "dictionary of token ids from `model.preprocessor`. "
                f"Received: {shown(x)}"
            )

    def texts_of(self, x: Any, steps: int | None = None) -> list:
        """Returns the texts of what `predict` is given, as a list.

        Args:
            x: See `predict`.
            steps: Elements of a `tf.data.Dataset` to read. Defaults to `None`: all.
        """
        if isinstance(x, Dataset):
            return self._texts_of_files(x)
        if is_pipeline(x):
            return self._texts_of_pipeline(x, steps)
        return self._checked(as_texts(x))

    @property
    def reads_pairs(self) -> bool:
        """Whether the model reads two texts at a time."""
        outputs = getattr(self, "outputs", None)
        return bool(getattr(outputs, "pair", False))

    def _checked(self, texts: list) -> list:
        """Returns texts, or pairs where the model reads two; refuses anything else."""
        if is_conversation(texts) or any(map(_is_conversation, texts)):
            raise ValueError(
                "Conversations were given where texts are expected: use them with `fit` and "
                "`evaluate` of a `CausalLM`, or with `generate`, which writes the answer."
            )
        if self.reads_pairs and texts and not any(map(is_pair, texts)):
            raise ValueError(
                "The model reads two texts: give pairs of them, or a tuple of two lists. "
                f"Received as item 0: {shown(texts[0])}"
            )
        return checked_texts(texts, 2 if self.reads_pairs else 1)

    def _texts_of_pipeline(self, dataset: tf.data.Dataset, steps: int | None) -> list:
        if _holds_columns(dataset):
            return self._texts_of_files(Dataset.from_tf_data(dataset, steps=steps))
        return self._checked(as_texts(read_tf_data(dataset, steps)[0]))

    def refuse_targets(self, y: Any = None, sample_weight: Any = None) -> None:
        """Refuses labels and weights beside texts, where the model has no use for them."""

    def prepare_rows(self, rows: Rows, validation: Rows | None) -> tuple[Rows, Rows | None]:
        """Gets the model and the rows ready for `fit`; see `fitted`."""
        return rows, validation

    def fitted(self) -> None:
        """Undoes what `prepare_rows` did to the model, after `fit`."""

    def dataset_of(self, x: Any, y: Any = None, sample_weight: Any = None) -> Dataset:
        """Returns texts with their labels as a `Dataset`."""
        return Dataset.from_lists(as_texts(x), y, sample_weight=sample_weight)

    def _encoded(self, dataset: Dataset, *, train: bool = False) -> Rows:
        """Tokenizes a dataset; its errors name arguments of Python."""
        self._check_pairs(dataset)
        with worded_for_python(ARGUMENTS):
            return self.encode(dataset, train=train)

    def _check_pairs(self, dataset: Dataset) -> None:
        if dataset.columns["text_pair"] and not self.reads_pairs:
            raise ValueError(
                "The model reads one text at a time, and the dataset has two: leave `text_pair` "
                "out."
            )

    def _texts_of_files(self, dataset: Dataset) -> list:
        self._check_pairs(dataset)
        source = dataset.unlabelled(pair=self.reads_pairs)
        if self.reads_pairs and source.pair_column is None:
            raise ValueError(
                "The model reads two texts, and only one column of texts was found: "
                f"{source.text_column}. Name both columns, text=... and text_pair=..."
            )
        texts: list = []
        with worded_for_python(ARGUMENTS):
            for batch in source.batches():
                texts += zip(batch.texts, batch.pairs) if self.reads_pairs else batch.texts
        return texts if dataset.rows is None else [texts[row] for row in dataset.rows]

    def _given(
        self, x, y=None, sample_weight=None, batch_size=None, steps=None, epochs: int = 1
    ) -> _Given:
        """Returns what `fit` or `evaluate` is given as a dataset and a batch size."""
        if isinstance(x, Dataset):
            _refuse_beside(x, y=y, sample_weight=sample_weight)
            return _Given(x, batch_size or 32)
        if is_pipeline(x):
            _refuse_beside(x, y=y, sample_weight=sample_weight)
            own = _batch_size_of(x)
            if own is None and steps is not None:
                steps *= batch_size or 32
            count = None if steps is None else steps * epochs
            return _Given(self._dataset_of_pipeline(x, count), own or batch_size or 32)
        return _Given(self.dataset_of(x, y, sample_weight), batch_size or 32)

    def _dataset_of_pipeline(self, dataset: tf.data.Dataset, steps: int | None) -> Dataset:
        if _holds_columns(dataset):
            parts = dataset.element_spec
            self.refuse_targets(*parts[1:] if isinstance(parts, tuple) else ())
            return Dataset.from_tf_data(dataset, steps=steps)
        return self.dataset_of(*read_tf_data(dataset, steps))

    def _weighted(self, rows: Rows, class_weight: Mapping | None) -> Rows:
        if class_weight is None:
            return rows
        raise ValueError(
            f"`class_weight` is for classifiers. Received: class_weight={class_weight}"
        )

    def _plans(self, rows: Rows, batch_size: int, buckets: int, seed: int | None) -> EpochPlans:
        # A batch holds no more rows than there are, in whole micro-batches.
        most = -(-len(rows) // self.accumulate) * self.accumulate
        buckets = 1 if needs_one_shape(self.distribute_strategy) else buckets
        # To train: what is only evaluated is not compiled.
        longest = None if seed is None else getattr(self, "max_length", None)
        return EpochPlans(
            rows.lengths,
            min(batch_size, most),
            buckets,
            seed=seed,
            pad_to=self.pad_to,
            longest=longest,
        )

    def _to_evaluate(self, rows: Rows, batch_size: int, buckets: int) -> PlannedBatches:
        return planned_batches(self, rows, self._plans(rows, batch_size, buckets, None))

    def _choose_how(self, plans: EpochPlans, steps: int, buckets: int) -> None:
        """Chooses how a batch is computed, where `compile` left it open."""
        alone = self.distribute_strategy.num_replicas_in_sync == 1
        slices, fused = self.slices, self._fused
        if self._chosen["slices"] is None and self.sliced and alone and not self.xla:
            slices = slices_for(plans.batch_size // self.accumulate)
        _, fuses = settle(
            self,
            plans,
            steps,
            rows=plans.batch_size // self.accumulate // slices,
            buckets=buckets,
            xla=self.xla,
            fused=self._chosen["fused"],
            auto=False,
        )
        fused = (fused or self.fuse()) if fuses and only_cpus() else None
        if (slices, fused) != (self.slices, self._fused):
            self.slices, self._fused = slices, fused
            self._computations = {}
            self.train_function = None

    def _one(self, x, y, sample_weight, class_weight=None):
        """Returns one batch of texts, planned, instead of `x`."""
        if not self.reads(x):
            return x, y, sample_weight
        rows = self._weighted(self._encoded(self.dataset_of(x, y, sample_weight)), class_weight)
        return self._to_evaluate(rows, len(rows), 1), None, None

    def _one_batch(self, x, y, sample_weight, class_weight=None):
        if isinstance(x, PlannedBatches):
            return iter(x.from_step(0))
        return super()._one_batch(x, y, sample_weight, class_weight)


@dataclass(frozen=True, eq=False)
class _Given:
    dataset: Dataset
    batch_size: int


def is_text(x: Any) -> bool:
    """Tells whether these are texts in memory: strings, pairs of them, or conversations."""
    if makes_batches(x):
        return False
    if isinstance(x, str):
        raise ValueError(f"Texts must be in a list: write [{x[:20]!r}], with brackets.")
    if isinstance(x, (set, frozenset)):
        raise ValueError("A set of texts has no order: give a list.")
    kind = getattr(x, "dtype", None)
    if tf.is_tensor(x) or isinstance(kind, np.dtype):
        strings = kind == tf.string if tf.is_tensor(x) else kind.kind in "US"
        if strings and x.shape == ():
            raise ValueError("Texts must be in a list: write [text], with brackets.")
        if tf.is_tensor(x) or strings:
            return strings
    if isinstance(x, Mapping) or (isinstance(kind, np.dtype) and kind.kind != "O"):
        return False
    if hasattr(x, "columns") or hasattr(x, "column_names"):
        raise ValueError(
            "Name the columns: `kerasllm.Dataset.from_pandas(frame, text=..., "
            "label=...)`, or give a column of it as `x`."
        )
    try:
        first = next((each for each in x if not _is_missing(each)), None)
    except TypeError:
        return False
    if isinstance(first, (list, tuple)) and first:
        first = first[0]
    if isinstance(first, np.ndarray):
        return first.dtype.kind in "US" or (first.size > 0 and isinstance(first.flat[0], str))
    return isinstance(first, (str, bytes, Mapping)) or _is_series_of_texts(first)


def _is_missing(value: Any) -> bool:
    """Tells whether a list of texts may hold this by mistake: `None`, NaN, a number."""
    return value is None or isinstance(value, (int, float, np.number))


def check_inputs(x: Any, names: Sequence[str]) -> None:
    """Refuses what is not the dictionary of token ids that a preprocessor makes.

    Args:
        x: The inputs of a step, or of a call.
        names: Those that there must be.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(x, Mapping):
        raise ValueError(
            "A call and batches of a generator take the output of `model.preprocessor`, a "
            f"dictionary with {', '.join(names)}. Raw texts are for `fit`, `evaluate` and "
            "`predict`, as lists, arrays or a `tf.data.Dataset`."
        )
    if missing := [name for name in names if name not in x]:
        raise ValueError(
            f"The inputs lack {', '.join(missing)}: `model.preprocessor` provides all of them. "
            f"Received: {', '.join(x)}"
        )


def as_texts(x: Any) -> list:
    """Returns texts, pairs of texts or conversations in memory as a list.

    A tuple of two lists is two columns of texts, and an item of one text, as of an array `[n, 1]`,
    is this text.
    """
    if isinstance(x, tuple) and len(x) == 2 and not isinstance(x[0], (str, bytes)):
        first, second = map(listed, x)
        if all(isinstance(each, str) for each in first):
            if len(first) != len(second):
                raise DataError(
                    f"The lists of a pair have different lengths: {len(first)} and {len(second)}",
                    fix="give a second text for each first one",
                )
            return list(zip(first, second, strict=True))
    return [flat(each) for each in listed(x)]


def _is_conversation(item: Any) -> bool:
    return isinstance(item, (list, tuple)) and is_conversation(item)


def _without_texts(batches: Any) -> Any:
    """Returns an iterator of batches as it was, and refuses one of texts."""
    first = next(batches, None)
    inputs = first[0] if isinstance(first, tuple) and first else first
    if isinstance(inputs, str) or (inputs is not None and is_text(inputs)):
        raise ValueError("An iterator of texts was given: give a list, as in list(texts).")
    return batches if first is None else itertools.chain([first], batches)


def _is_series_of_texts(value: Any) -> bool:
    return hasattr(value, "to_list") and len(value) > 0 and isinstance(value.iloc[0], str)


def _unpacked(validation_data: Any) -> tuple | None:
    if validation_data is None or isinstance(validation_data, tuple):
        return validation_data
    if isinstance(validation_data, list):
        # `[texts, labels]`; but `[conversation, conversation]` is texts alone.
        several = len(validation_data) in (2, 3) and not isinstance(validation_data[0], str)
        if not is_text(validation_data) or (several and _holds_texts(validation_data[0])):
            return tuple(validation_data)
    return (validation_data,)


def _holds_texts(x: Any) -> bool:
    return is_text(x) and not isinstance(next(iter(x)), Mapping)


def _holds_columns(dataset: tf.data.Dataset) -> bool:
    """Tells whether texts are in dictionaries, beside other columns."""
    spec = dataset.element_spec
    return isinstance(spec[0] if isinstance(spec, tuple) else spec, Mapping)


def _batch_size_of(dataset: tf.data.Dataset) -> int | None:
    """Returns the rows of a batch; `None` where the elements are rows."""
    first = tf.nest.flatten(dataset.element_spec)[0]
    if first.shape.rank == 0:
        return None
    if first.shape[0] is not None:
        return int(first.shape[0])
    for element in dataset.take(1):
        return int(tf.shape(tf.nest.flatten(element)[0])[0])
    return None


def _refuse_beside(x: Any, **given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"`{name}` must be part of the {type(x).__name__}, which has texts and labels."
            )
