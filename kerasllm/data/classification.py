"""Labelled texts from files: read, tokenized, split, and what their labels ask for."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kerasllm.data.examples import Examples
from kerasllm.data.labels import Labels
from kerasllm.data.loading import open_tokens, reading_of
from kerasllm.data.problems import Problem
from kerasllm.data.readers.layout import AUTO
from kerasllm.data.readers.sources import RowBatch, Source
from kerasllm.data.split import split_label_sets, split_stratified
from kerasllm.data.stored_labels import (
    TO_IGNORE,
    encode_label_sets,
    encode_labels,
    find_doubtful_labels,
    learn_labels,
    refuse_lost_classes,
    refuse_unknown,
)
from kerasllm.data.stored_tokens import LABEL, TokenStore
from kerasllm.data.tokenizers import Tokenizer
from kerasllm.environment import store_dir
from kerasllm.errors import DataError

# Where a part of scores is held out, it has its share of each of so many ranges of them.
_RANGES = 10
# By problem; raise it when the columns of a store would hold something else than before.
_COLUMNS = {"multi_label": 1, "regression": 2}


@dataclass(eq=False)
class ClassificationData:
    """The data of a run: what is predicted, and up to three parts.

    Attributes:
        problem: What is predicted: one label, several labels, or a score.
        labels: The classes; of a score one, its name.
        train: What the model trains on, weighted by class if the recipe says so.
        validation: What is measured while it trains, or `None`.
        test: What is measured at the end, or `None`.
        sources: The files that each part was read from, by the part's name.
        stores: The tokens of each file set, by the name of the part.
        tokenizer: What the tokens were made with.
        pair: Whether each row has two texts. Defaults to `False`.
        mean: Of a score in the training data. Defaults to `0.0`.
        std: The standard deviation of a score in the training data. Defaults to `1.0`.
        remarks: What a user should know of the labels, a list.
    """

    problem: Problem
    labels: Labels
    train: Examples
    validation: Examples | None
    test: Examples | None
    sources: dict[str, Source]
    stores: dict[str, TokenStore]
    tokenizer: Tokenizer
    pair: bool = False
    mean: float = 0.0
    std: float = 1.0
    remarks: list[str] = field(default_factory=list)

    @property
    def fingerprints(self) -> dict[str, str]:
        """What tells the data of each part from others."""
        return {part: source.fingerprint for part, source in self.sources.items()}

    @property
    def parts(self) -> dict[str, Examples]:
        """The parts that there are, by name."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}


def load_data(
    recipe: Any,
    tokenizer: Tokenizer,
    *,
    seed: int = 0,
    folder: Path | None = None,
    notify: Callable[[str], None] | None = None,
) -> ClassificationData:
    """Reads, tokenizes and splits the data of a recipe.

    Args:
        recipe: The `data` part of a recipe.
        tokenizer: Turns texts into token ids.
        seed: Seed of the stratified split, where no validation data is named. Defaults to `0`.
        folder: Where token stores are kept. Defaults to `None`: in the cache.
        notify: Called with what is being done. Defaults to `None`.

    Raises:
        DataError: If a file is missing or broken, or its labels do not fit.
    """
    folder = folder or store_dir()
    # All files are checked before the first one is read through.
    sources: dict[str, Source] = {}
    for part in ("train", "validation", "test"):
        if (spec := getattr(recipe, part)) is not None:
            known = sources["train"] if sources else None
            sources[part] = source_of(recipe, spec, part, known)
    train_source = sources["train"]
    problem, pair = train_source.problem, train_source.pair_column is not None
    stores = {
        part: open_store(source, tokenizer, recipe.max_length, recipe.truncation, folder, notify)
        for part, source in sources.items()
    }
    for part, store in stores.items():
        refuse_lost_classes(f"{part} data", sources[part], store, TO_IGNORE)
    labels = learn_labels(recipe, train_source, stores["train"])
    found = find_doubtful_labels(recipe, train_source, stores["train"], labels)
    parts = {}
    for part, store in stores.items():
        # Each file may name its own numbers, where the recipe does not.
        names = None if recipe.label_names or part == "train" else sources[part].label_names
        parts[part] = examples_of(
            store, labels.read_as(names), problem, tokenizer, to_ignore=TO_IGNORE
        )
    train, validation = parts["train"], parts.get("validation")
    if validation is None and recipe.validation_split:
        split = split_label_sets if problem.kind == "multi_label" else split_stratified
        kept, held_out = split(_strata(train), recipe.validation_split, seed)
        if len(held_out):
            train, validation = train.take(kept), train.take(held_out)
    mean, std = 0.0, 1.0
    if problem.kind == "regression":
        mean, std = _spread(train)
        train = replace(train, labels=((train.labels - mean) / std).astype(np.float32))
    weights = _weights(recipe.class_weights, problem, train, labels)
    if weights is not None:
        train = train.weighted(weights)
    return ClassificationData(
        problem,
        labels,
        train,
        validation,
        parts.get("test"),
        sources,
        stores,
        tokenizer,
        pair,
        mean,
        std,
        found,
    )


def source_of(recipe: Any, spec: Any, split: str, train: Source | None = None, **columns) -> Source:
    """Returns the files of a part of the data, read as a recipe says.

    Args:
        recipe: The `data` part of a recipe.
        spec: The files.
        split: The part that `starter:NAME` means.
        train: The training data, whose columns and problem the others have. Defaults to `None`.
        **columns: `text`, `text_pair` and `label` instead of the recipe's.

    Raises:
        DataError: If a file is missing or broken, or its columns are not clear.
    """
    own = {name: columns.get(name) or getattr(recipe, name) for name in ("text", "label")}
    pair = columns.get("text_pair") or recipe.text_pair
    if train is not None and not any(columns.values()):
        pair = recipe.text_pair if train.pair_column is None else (recipe.text_pair or AUTO)
    elif pair is None and own["text"] is None:
        pair = AUTO
    source = Source(
        spec,
        split=split,
        text=own["text"],
        text_pair=pair,
        label=own["label"],
        problem=train.problem if train is not None else recipe.problem,
        label_separator=recipe.label_separator,
        # Recipes of tasks of other packages may not have it.
        ignore_labels=getattr(recipe, "ignore_labels", None) or (),
        on_bad_row=recipe.on_bad_row,
        **reading_of(recipe),
    )
    if train is None and recipe.text_pair == AUTO and source.pair_column is None:
        raise _single_texts(source, named=own["text"] is not None)
    if train is not None and (source.pair_column is None) != (train.pair_column is None):
        raise DataError(
            f"The {split} data have {'two texts' if source.pair_column else 'one text'} a row, "
            f"and the training data {'two' if train.pair_column else 'one'}",
            where=", ".join(source.files),
            fix="name the columns with data.text and data.text_pair",
        )
    return source


def _single_texts(source: Source, *, named: bool) -> DataError:
    """The error for files of one text a row, where the recipe is for pairs.

    Args:
        source: The files.
        named: Whether the column of the texts was named, so that the second is what is missing.
    """
    text, others = source.text_column, source.unread_texts
    if others:
        columns = f"--text {shlex.quote(text)} --text-pair {shlex.quote(others[0])}"
        fix = f"if they are the pairs: {columns}"
    elif named:
        fix = "name the column of the second texts: --text-pair COLUMN"
    else:
        fix = "name the columns of both: --text COLUMN --text-pair COLUMN"
    found = f"only one column of texts was found: '{text}'" if text else "there is one text a row"
    return DataError(
        f"The recipe is for pairs of texts, and {found}"
        + (f"; others may be {', '.join(map(repr, others))}" if others else ""),
        where=", ".join(source.files[:3]) + (", ..." if source.files[3:] else ""),
        fix=f"{fix} (data.text, data.text_pair); for single texts: --recipe bert_cls",
    )


def open_store(
    source: Source,
    tokenizer: Tokenizer,
    max_length: int,
    truncation: str,
    folder: Path,
    notify: Callable[[str], None] | None = None,
) -> TokenStore:
    """Returns the tokens of labelled texts, with their labels in the column `label`."""
    options: dict = {"truncation": truncation} if source.pair_column is not None else {}
    if source.problem is not None and source.problem.kind != "single_label":
        options |= {"columns": target_column, "identity": _COLUMNS[source.problem.kind]}
    return open_tokens(source, tokenizer, max_length, folder=folder, notify=notify, **options)


def target_column(batch: RowBatch) -> dict[str, pa.Array]:
    """Returns the labels of a batch as a typed column: lists of strings, or float64 scores."""
    several = isinstance(next(iter(batch.targets), None), tuple)
    kind = pa.list_(pa.string()) if several else pa.float64()
    values = [list(each) for each in batch.targets] if several else batch.targets
    return {LABEL: pa.array(values, kind)}


def examples_of(
    store: TokenStore,
    labels: Labels,
    problem: Problem,
    tokenizer: Tokenizer,
    *,
    to_ignore: str | None = None,
) -> Examples:
    """Returns the rows of a store with their encoded labels.

    Args:
        store: The rows.
        labels: The classes.
        problem: What is predicted.
        tokenizer: What the tokens were made with.
        to_ignore: The setting that leaves rows out by their label, for messages. Defaults to
            `None`: there is none.

    Raises:
        DataError: If a label was not in the training data.
    """
    second = {"second_segment": tokenizer.second_segment}
    if problem.kind == "regression":
        return Examples.of(store, store.numbers(LABEL), **second)
    refuse_unknown(store, labels, to_ignore)
    if problem.kind == "multi_label":
        return Examples.of(
            store, encode_label_sets(store, labels), label_count=len(labels), **second
        )
    return Examples.of(store, encode_labels(store, labels), **second)


def class_weights(
    weights: str | dict[str, float] | None, classes: np.ndarray, labels: Labels
) -> np.ndarray | None:
    """Returns the weight of each class in the loss, float32 `[classes]`, or `None`.

    `balanced` gives a class of `n` rows among `N` rows and `C` classes the weight `N / (C * n)`,
    so that all classes weigh the same. Classes that a dictionary leaves out weigh 1.

    Raises:
        DataError: If the dictionary names a class that is not there.
    """
    if weights is None:
        return None
    if weights == "balanced":
        counts = np.bincount(classes, minlength=len(labels))
        return (len(classes) / (len(labels) * np.maximum(counts, 1))).astype(np.float32)
    named = np.ones(len(labels), dtype=np.float32)
    named[labels.encode(list(weights), lambda row: "data.class_weights")] = list(weights.values())
    return named


def _weights(weights, problem: Problem, train: Examples, labels: Labels) -> np.ndarray | None:
    if weights is not None and problem.kind != "single_label":
        raise DataError(
            f"data.class_weights need rows with a single label, but data.problem is {problem.kind}",
            where="data.class_weights",
            fix="leave it out",
        )
    return class_weights(weights, train.labels, labels)


def _strata(train: Examples) -> np.ndarray:
    """Returns what a split is stratified by: classes, ranges of scores, or sets of labels."""
    labels = train.labels
    if np.issubdtype(labels.dtype, np.floating):
        edges = np.quantile(labels, np.linspace(0, 1, _RANGES + 1)[1:-1])
        return np.searchsorted(edges, labels, side="right")
    return labels


def _spread(train: Examples) -> tuple[float, float]:
    """Returns mean and standard deviation of the scores of the training data."""
    scores = train.labels.astype(np.float64)
    mean, std = float(scores.mean()), float(scores.std())
    if not std:
        raise DataError(
            f"All rows have the score {mean:g}; there is nothing to learn",
            fix="check that data.label names the right column",
        )
    return mean, std
