"""Questions on contexts from files: read, tokenized and split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasllm.data.loading import reading_of
from kerasllm.data.question_windows import CONTEXT_KEY, QuestionWindows, open_windows
from kerasllm.data.readers.question_source import QuestionSource
from kerasllm.data.split import split_stratified
from kerasllm.data.token_store import TokenStore
from kerasllm.data.tokenizers import Tokenizer
from kerasllm.environment import store_dir
from kerasllm.errors import RecipeError

PARTS = ("train", "validation", "test")


@dataclass(eq=False)
class QuestionData:
    """The data of a run, up to three parts.

    Attributes:
        train: What the model trains on.
        validation: What is measured while it trains, or `None`.
        test: What is measured at the end, or `None`.
        sources: The files that each part was read from, by the part's name.
        stores: The windows of each file set, by the name of the part.
        tokenizer: What the tokens were made with.
        may_have_none: Whether some questions of the training data have no answer.
    """

    train: QuestionWindows
    validation: QuestionWindows | None
    test: QuestionWindows | None
    sources: dict[str, QuestionSource]
    stores: dict[str, TokenStore]
    tokenizer: Tokenizer
    may_have_none: bool

    @property
    def fingerprints(self) -> dict[str, str]:
        """What tells the data of each part from others."""
        return {part: source.fingerprint for part, source in self.sources.items()}

    @property
    def parts(self) -> dict[str, QuestionWindows]:
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
) -> QuestionData:
    """Reads, tokenizes and splits the data of a recipe.

    Args:
        recipe: The `data` part of a recipe.
        tokenizer: Turns texts into token ids; it must know where they stand.
        seed: Seed of the split, where no validation data is named. Defaults to `0`.
        folder: Where token stores are kept. Defaults to `None`: in the cache.
        notify: Called with what is being done. Defaults to `None`.

    Raises:
        DataError: If a file is missing or broken, or an answer is not in its context.
        RecipeError: If windows would leave tokens out.
    """
    check_stride(tokenizer, recipe.max_length, recipe.stride, recipe.max_question_length)
    # All files are checked before the first one is read through.
    sources = {
        part: source_of(recipe, spec, part)
        for part in PARTS
        if (spec := getattr(recipe, part)) is not None
    }
    stores = {}
    for part, source in sources.items():
        if notify:
            notify(f"reading {', '.join(Path(file).name for file in source.files[:3])}")
        stores[part] = open_windows(
            source,
            tokenizer,
            recipe.max_length,
            recipe.stride,
            recipe.max_question_length,
            folder or store_dir(),
            notify,
        )
    parts = {part: QuestionWindows.of(store, tokenizer) for part, store in stores.items()}
    train, validation = parts["train"], parts.get("validation")
    may_have_none = not all(train.references)
    if validation is None and recipe.validation_split:
        train, validation = split_contexts(train, recipe.validation_split, seed)
    return QuestionData(
        train, validation, parts.get("test"), sources, stores, tokenizer, may_have_none
    )


def source_of(recipe: Any, spec: Any, split: str, *, options: Any = None) -> QuestionSource:
    """Returns the files of a part of the data, read as a recipe says.

    Args:
        recipe: The `data` part of a recipe.
        spec: The files.
        split: The part that `starter:NAME` means.
        options: What a command was told besides, such as `text`. Defaults to `None`.

    Raises:
        DataError: If a file is missing or broken.
    """
    return QuestionSource(
        spec,
        split=split,
        question=getattr(options, "text", None) or recipe.question,
        context=getattr(options, "text_pair", None) or recipe.context,
        answer=getattr(options, "label", None) or recipe.answer,
        on_bad_row=getattr(options, "on_bad_row", None) or recipe.on_bad_row,
        **reading_of(recipe, options),
    )


def check_stride(
    tokenizer: Tokenizer, max_length: int, stride: int | None, max_question_length: int
) -> None:
    """Raises a `RecipeError` if windows would leave tokens out, or have no room for a context."""
    room = max_length - tokenizer.pair_special_tokens - max_question_length
    if room < 1:
        raise RecipeError(
            f"A window of {max_length} tokens, {tokenizer.pair_special_tokens} of them special, "
            f"has no room for a context after a question of {max_question_length}",
            where="data.max_length",
            fix="raise data.max_length, or lower data.max_question_length",
        )
    longest = max_length - tokenizer.pair_special_tokens - 1
    if stride is not None and stride > longest:
        raise RecipeError(
            f"Windows of {max_length} tokens with a stride of {stride} skip tokens",
            where="data.stride",
            fix=f"set data.stride to {room} or less",
        )


def split_contexts(
    rows: QuestionWindows, fraction: float, seed: int
) -> tuple[QuestionWindows, QuestionWindows | None]:
    """Holds contexts out with all of their questions, so that none is trained and measured on.

    Args:
        rows: The rows.
        fraction: The part of the contexts that is held out.
        seed: Which.

    Returns:
        What is left, and what is held out; `None` where that would be nothing.
    """
    keys = rows.store.numbers(CONTEXT_KEY, rows.rows)
    _, contexts = np.unique(keys, return_inverse=True)
    count = int(contexts.max()) + 1
    kept, held_out = split_stratified(np.zeros(count, int), fraction, seed)
    if not len(held_out) or not len(kept):
        return rows, None
    return tuple(rows.take(np.flatnonzero(np.isin(contexts, some))) for some in (kept, held_out))
