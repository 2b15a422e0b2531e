"""Real texts of a run, on which exported files are compared with the model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from kerasllm.data.starters import PREFIX
from kerasllm.errors import DataError
from kerasllm.export.card_facts import without_folder
from kerasllm.plurals import counted
from kerasllm.recipe import WholeRecipe
from kerasllm.tasks.task import Samples, Task

# The first that can be used is taken.
_PARTS = ("test", "validation", "train")

Rows = list[str | tuple[str, ...]]


def sample_rows(
    task: Task,
    model: Any,
    recipe: WholeRecipe | None,
    count: int | None,
    fingerprints: Mapping[str, str] | None = None,
    warn: Callable[[str], None] = lambda line: None,
) -> tuple[Rows, str]:
    """Reads inputs of a model's run: of its test data, else validation, else training.

    Bundled data stand in for a preset, and where none of these files can be read any more, or is
    what it was in the training.

    Args:
        task: The task of the model.
        model: The model.
        recipe: The run's recipe, or `None` of a preset.
        count: How many; `None`: all.
        fingerprints: What the run noted of the data of each part; a part without a fingerprint is
            not checked. Defaults to `None`: none is.
        warn: Called with a line where other data stand in, or may. Defaults to nothing.

    Returns:
        The inputs, and what they are in words.

    Raises:
        DataError: If the bundled data hold no input.
    """
    known = fingerprints or {}
    refused, found = [], None
    for part in _PARTS:
        spec = getattr(recipe.data, part, None) if recipe else None
        if spec is None:
            continue
        names = [spec] if isinstance(spec, str) else list(spec)
        try:
            samples = Samples(*task.samples(recipe, model, part, spec, count))
            if samples.fingerprint is not None and known.get(part) not in (
                None,
                samples.fingerprint,
            ):
                raise DataError("they have changed since training: the fingerprint differs")
            found = _taken(samples, count, part)
        except DataError as error:
            why = error.what[:1].lower() + error.what[1:]
            refused.append(f"the {part} data {', '.join(names)} cannot be used ({why})")
            continue
        if samples.fingerprint is None and not all(name.startswith(PREFIX) for name in names):
            warn(f"compared on {', '.join(names)} as it is now; it may have changed since training")
        break
    rows, rows_from = found or _bundled(task, model, count, of_run=recipe is not None)
    if refused:
        warn(f"{'; '.join(refused)}: compared on {rows_from} instead")
    return rows, rows_from


def _bundled(task: Task, model: Any, count: int | None, *, of_run: bool) -> tuple[Rows, str]:
    spec = task.stand_in(model)
    samples = Samples(*task.samples(None, model, spec.rpartition("/")[2], spec, count))
    why = "the run's own data were not found" if of_run else "a preset has no data"
    return _taken(samples, count, why)


def _taken(samples: Samples, count: int | None, which: str) -> tuple[Rows, str]:
    rows = list(itertools.islice(samples.inputs, count))
    names = ", ".join(map(without_folder, samples.files))
    if not rows:
        raise DataError("There are no texts in it", where=names)
    more = count == len(rows)
    if len(rows) == 1:
        taken = f"the {'first' if more else 'only'} {samples.noun}"
    else:
        taken = f"{'the first' if more else 'all'} {counted(len(rows), samples.noun)}"
    return rows, f"{taken} of {names} ({which})"
