"""Text classification: one text, one of several labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerasllm.data.examples import Examples
from kerasllm.data.labels import Labels
from kerasllm.data.readers.sources import Source
from kerasllm.data.split import split_stratified
from kerasllm.data.token_store import TokenStore, open_or_build
from kerasllm.data.tokenizers import Tokenizer
from kerasllm.environment import store_dir
from kerasllm.errors import DataError
from kerasllm.evaluation.classification import classification_report
from kerasllm.models.classify import PREDICTION_BUCKETS, predict_logits, probabilities
from kerasllm.models.encoder import load_tokenizer
from kerasllm.models.text_classifier import TextClassifier, bert_classifier
from kerasllm.recipe import Data, Recipe
from kerasllm.run import Run, whole_folder
from kerasllm.training.losses import SmoothedSparseCategoricalCrossentropy


@dataclass(frozen=True, eq=False)
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


def prepare_data(
    recipe: Recipe, notify: Callable[[str], None] | None = None
) -> ClassificationData:
    """Loads the tokenizer of a recipe's preset, and reads the data with it.

    Args:
        recipe: The recipe.
        notify: Called with what is being done. Defaults to `None`.

    Raises:
        KerasllmError: If the preset or the data is refused.
    """
    if notify:
        notify(f"loading the tokenizer of {recipe.model.preset}")
    tokenizer = load_tokenizer(recipe.model.preset, progress=notify)
    return load_data(recipe.data, tokenizer, seed=recipe.training.seed, notify=notify)


def load_data(
    recipe: Data,
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


def open_tokens(
    source: Source,
    tokenizer: Tokenizer,
    max_length: int,
    *,
    folder: Path,
    notify: Callable[[str], None] | None = None,
) -> TokenStore:
    """Returns the tokens of a source, from the store if it was read before.

    Raises:
        DataError: If a file is missing, broken or has no rows.
    """
    name = ", ".join(Path(file).name for file in source.files)
    progress = None
    if notify:
        notify(f"reading {name}")

        def progress(rows: int) -> None:
            notify(f"tokenizing {name}: {rows:,} rows")

    store = open_or_build(source, tokenizer, max_length, folder=folder, progress=progress)
    if not len(store):
        raise DataError(
            "There are no rows to use", where=", ".join(source.files), fix="give a file with rows"
        )
    return store


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


def remarks(store: TokenStore) -> list[str]:
    """Returns what a user should know of how a store was made: rows left out, damage mended."""
    found = []
    if store.skipped:
        file, line, why = store.skipped_rows[0]
        found.append(f"{store.skipped:,} bad rows were skipped, the first at {file}:{line}: {why}")
    if store.damage:
        found.append(f"the tokens were read anew; {store.damage}")
    return found


def place_of(store: TokenStore) -> Callable[[int], str]:
    """Returns a function from a row's number to its `file:line`."""

    def place(row: int) -> str:
        file, line = store.where(row)
        return f"{file}:{line}"

    return place


def save(recipe: Recipe, model: TextClassifier, run: Run) -> None:
    """Writes the trained model into a run."""
    with whole_folder(run.model) as folder:
        model.save_to_preset(folder)


def places_of(examples: Examples, numbers: np.ndarray) -> list[tuple[str, int]]:
    """Returns the file and the line of some examples."""
    return [examples.store.where(int(row)) for row in examples.rows[numbers]]


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


def build_model(recipe: Recipe, data: ClassificationData, precision: str) -> TextClassifier:
    """Builds the classifier of a recipe, for the labels of its data."""
    lora = recipe.model.lora
    return bert_classifier(
        recipe.model.preset,
        labels=data.labels,
        dropout=recipe.model.dropout,
        head_dropout=recipe.model.head_dropout,
        freeze=recipe.model.freeze,
        lora=lora.model_dump() if lora else None,
        precision=precision,
        max_length=recipe.data.max_length,
        tokenizer=data.tokenizer,
    )


def build_loss(recipe: Recipe) -> SmoothedSparseCategoricalCrossentropy:
    """Returns the loss of a recipe."""
    return SmoothedSparseCategoricalCrossentropy(recipe.training.label_smoothing)


def evaluate(
    model: TextClassifier, examples: Examples, *, buckets: int = PREDICTION_BUCKETS
) -> tuple[dict, np.ndarray]:
    """Measures a classifier on some examples.

    Args:
        model: A classifier.
        examples: The examples.
        buckets: The most lengths to pad to. Defaults to `16`.

    Returns:
        The metrics of `classification_report`, and the logits `[examples, classes]`.
    """
    logits = predict_logits(model, examples, buckets=buckets)
    return classification_report(examples.labels, logits, model.labels.names), logits


def wrong_examples(
    source: Source, examples: Examples, labels: Labels, logits: np.ndarray, count: int = 5
) -> list[dict]:
    """Returns the examples that the model got wrong with the most confidence.

    Args:
        source: The files that the examples were read from; their texts are read again.
        examples: The examples.
        labels: The classes.
        logits: float `[examples, classes]`, what the model said.
        count: How many to return. Defaults to `5`.

    Returns:
        For each example `text`, `label`, `predicted`, `probability` and `where` (`file:line`).
    """
    chances = probabilities(logits)
    predicted = chances.argmax(axis=-1)
    wrong = np.flatnonzero(predicted != examples.labels)
    wrong = wrong[np.argsort(-chances[wrong, predicted[wrong]], kind="stable")][:count]
    place = place_of(examples.store)
    texts = source.texts_of(examples.rows[wrong])
    return [
        {
            "text": text,
            "label": labels.names[examples.labels[index]],
            "predicted": labels.names[predicted[index]],
            "probability": float(chances[index, predicted[index]]),
            "where": place(int(examples.rows[index])),
        }
        for index, text in zip(wrong, texts, strict=True)
    ]
