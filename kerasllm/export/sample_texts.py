"""Real texts of a run, on which exported files are compared with the model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping

from kerasllm.data.prompts import prompts_of
from kerasllm.data.readers.sources import Source
from kerasllm.data.starters import PREFIX
from kerasllm.errors import DataError
from kerasllm.export.card_facts import without_folder
from kerasllm.models.causal_lm import CausalLM
from kerasllm.recipe import WholeRecipe

_PARTS = ("test", "validation", "train")
_NOT_THERE = "the run's own data are not there"


def classified_rows(
    recipe: WholeRecipe,
    count: int | None,
    fingerprints: Mapping[str, str] | None = None,
    warn: Callable[[str], None] = lambda line: None,
) -> tuple[list[str], str]:
    """Reads texts of a classifier's run: of its test data, else validation, else training.

    Where none of these files is there any more as it was, the bundled movie reviews stand in.

    Args:
        recipe: The run's recipe.
        count: How many; `None`: all.
        fingerprints: What tells the data of each part from others; a part without one is not
            checked. Defaults to `None`: none is.
        warn: Called with a line where other data stand in. Defaults to nothing.

    Returns:
        The texts, and what they are in words.
    """
    data, known = recipe.data, fingerprints or {}

    def read(part: str, spec) -> tuple[list[str], str]:
        source = Source(spec, split=part, text=data.text, label=data.label, on_bad_row="skip")
        if part in known and source.fingerprint != known[part]:
            raise DataError("they are not what they were in the training: the fingerprint differs")
        return taken(source, part)

    def taken(source: Source, part: str) -> tuple[list[str], str]:
        texts = (text for batch in source.batches() for text in batch.texts)
        return _taken(texts, count, part, source.files)

    def bundled() -> tuple[list[str], str]:
        return taken(Source("starter:movie_reviews", split="test"), _NOT_THERE)

    return _first_usable(recipe, read, bundled, warn)


def prompt_rows(
    recipe: WholeRecipe | None,
    model: CausalLM,
    count: int | None,
    warn: Callable[[str], None] = lambda line: None,
) -> tuple[list[str], str]:
    """Reads short texts for a language model, such as prompts are.

    They come from the run's test data, else validation, else training: of conversations what is
    said before the last answer, behind the chat template; of plain text its paragraphs. For a
    preset, and where the files are not there any more, bundled data stand in.

    Args:
        recipe: The run's recipe, or `None` for a preset.
        model: The model.
        count: How many; `None`: all.
        warn: Called with a line where other data stand in, or may. Defaults to nothing.

    Returns:
        The texts, of 64 tokens at most, and what they are in words.
    """

    def read(part: str, spec) -> tuple[list[str], str]:
        found = _prompts(spec, part, part, recipe.data, model, count)
        names = _names(spec)
        if not all(name.startswith(PREFIX) for name in names):
            # The fingerprint that the run noted is of its tokens.
            warn(f"compared on {', '.join(names)} as it is now: whether it changed since the "
                 "training is not known of a language model's data")  # fmt: skip
        return found

    def bundled() -> tuple[list[str], str]:
        why = _NOT_THERE if recipe else "a preset has no data"
        if model.chat_template is not None:
            return _prompts("starter:chat", "test", why, None, model, count)
        return _prompts("starter:moby_dick", "train", why, None, model, count)

    return _first_usable(recipe, read, bundled, warn) if recipe else bundled()


def _first_usable(
    recipe: WholeRecipe,
    read: Callable[[str, str | list[str]], tuple[list[str], str]],
    bundled: Callable[[], tuple[list[str], str]],
    warn: Callable[[str], None],
) -> tuple[list[str], str]:
    """Reads the first part of a run's data that can be read, and says why it is not another."""
    refused, found = [], None
    for part in _PARTS:
        spec = getattr(recipe.data, part, None)
        if spec is None:
            continue
        try:
            found = read(part, spec)
            break
        except DataError as error:
            why = error.what[:1].lower() + error.what[1:]
            refused.append(f"the {part} data {', '.join(_names(spec))} cannot be used ({why})")
    rows, rows_from = found or bundled()
    if refused:
        warn(f"{'; '.join(refused)}: compared on {rows_from} instead")
    return rows, rows_from


def _names(spec: str | list[str]) -> list[str]:
    return [spec] if isinstance(spec, str) else list(spec)


def _taken(
    texts: Iterator[str], count: int | None, part: str, files: tuple[str, ...]
) -> tuple[list[str], str]:
    rows = list(itertools.islice(texts, count))
    names = ", ".join(map(without_folder, files))
    if not rows:
        raise DataError("There are no texts in it", where=names)
    which = f"the first {len(rows):,} rows" if count == len(rows) else f"all {len(rows):,} rows"
    return rows, f"{which} of {names} ({part})"


def _prompts(
    spec, split: str, part: str, data, model: CausalLM, count: int | None
) -> tuple[list[str], str]:
    texts, files = prompts_of(spec, split, data, model)
    return _taken(texts, count, part, files)
