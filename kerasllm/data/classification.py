"""Labelled texts from files: read, tokenized, split, and their classes learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasllm.data.examples import Examples
from kerasllm.data.labels import Labels
from kerasllm.data.loading import open_tokens, place_of
from kerasllm.data.readers.sources import Source
from kerasllm.data.split import split_stratified
from kerasllm.data.token_store import TokenStore
from kerasllm.data.tokenizers import Tokenizer
from kerasllm.environment import store_dir


@dataclass(eq=False)
class ClassificationData:
    """The data of a run: the labels and up to three parts.

    Attributes:
        labels: The classes.
        train: What the model trains on, weighted by class if the recipe says so.
        validation: What is measured while it trains, or `None`.
        test: What is measured at the end, or `None`.
        sources: The files that each part was read from, by the part's name.
        stores: The tokens of each file set, by the name of the part.
        tokenizer: What the tokens were made with.
    """

    labels: Labels
    train: Examples
    validation: Examples | None
    test: Examples | None
    sources: dict[str, Source]
    stores: dict[str, TokenStore]
    tokenizer: Tokenizer

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
    # All files are looked at before the first one is read through.
    sources = {
        part: Source(
            spec,
            split=part,
            text=recipe.text,
            label=recipe.label,
            on_bad_row=recipe.on_bad_row,
        )
        for part in ("train", "validation", "test")
        if (spec := getattr(recipe, part)) is not None
    }
    stores = {
        part: open_tokens(source, tokenizer, recipe.max_length, folder=folder, notify=notify)
        for part, source in sources.items()
    }
    names = recipe.label_names or sources["train"].label_names
    found = stores["train"].labels.unique().to_pylist()
    labels = Labels.learn(found, names, where=", ".join(sources["train"].files))
    parts = {
        part: Examples.of(store, encode_labels(store, labels)) for part, store in stores.items()
    }
    train, validation = parts["train"], parts.get("validation")
    if validation is None and recipe.validation_split:
        kept, held_out = split_stratified(train.labels, recipe.validation_split, seed)
        if len(held_out):
            train, validation = train.take(kept), train.take(held_out)
    weights = class_weights(recipe.class_weights, train.labels, labels)
    if weights is not None:
        train = train.weighted(weights)
    return ClassificationData(
        labels, train, validation, parts.get("test"), sources, stores, tokenizer
    )


def encode_labels(store: TokenStore, labels: Labels) -> np.ndarray:
    """Returns the class of each row of a store, `[rows]`, of the smallest unsigned type.

    Raises:
        DataError: If a label was not in the training data.
    """
    # By distinct label of a few thousand rows at a time: a string for each of a hundred million
    # rows would fill the memory.
    place = place_of(store)
    classes, start = np.empty(len(store), np.min_scalar_type(len(labels) - 1)), 0
    for chunk in store.labels.chunks:
        column = chunk.dictionary_encode()
        rows, first = column.indices.to_numpy(), start
        found = labels.encode(
            column.dictionary.to_pylist(),
            lambda label, rows=rows, first=first: place(first + int(np.argmax(rows == label))),
        )
        classes[start : start + len(rows)] = found[rows]
        start += len(rows)
    store.let_go()
    return classes


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
