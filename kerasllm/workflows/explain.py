"""Explain what a trained model predicts for texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kerasllm.errors import CommandError, JobError, KerasllmError
from kerasllm.tasks.task import explains
from kerasllm.workflows.trained import Trained, open_trained

if TYPE_CHECKING:
    from kerasllm.explain import Explanation
    from kerasllm.explain.explainer import Explainer
    from kerasllm.explain.global_words import MovingWords

SAMPLE = 200
"""Texts that a global view is made of, unless it is told."""


class GlobalView(NamedTuple):
    """The words that move each class most.

    Attributes:
        classes: For each class its words.
        texts: How many texts were explained.
        left_out: How many could not be.
    """

    classes: list[MovingWords]
    texts: int
    left_out: int


def explain(
    run: str | Path | Trained,
    inputs: Iterable[Any],
    *,
    explainer: Explainer | None = None,
    left_out: Callable[[Any, KerasllmError], None] | None = None,
    **options: Any,
) -> Iterator[Explanation]:
    """Explains what a trained model predicts for texts.

    The model is computed in float32, regardless of the precision in training.

    Args:
        run: The run directory or the preset, or what `open_trained` gave.
        inputs: Texts, or tuples of texts where a row has several.
        explainer: What `Trained.explainer` gave. Defaults to `None`: the model is opened.
        left_out: Called with each text that cannot be explained, and why; the others are. Defaults
            to `None`: the first such text is refused.
        **options: As `kerasllm.explain.explainer.Explainer.explain` takes them.

    Yields:
        The explanations, in the order of the inputs.

    Raises:
        KerasllmError: If the run is refused, or cannot be explained.

    Example:

    ```python
    for found in explain("my_run", ["A film to remember."]):
        print(found.predicted, found.strongest(3))
    ```
    """
    trained = run if isinstance(run, Trained) else open_trained(run)
    refuse_unless_explained(trained)
    explainer = explainer or trained.explainer()
    if left_out is None:
        yield from explainer.explain(inputs, **options)
        return
    any_explained, last = False, None
    for given in inputs:
        try:
            found = list(explainer.explain([given], **options))
        except KerasllmError as error:
            left_out(given, error)
            last = error
            continue
        any_explained = True
        yield from found
    if last and not any_explained:
        raise last


def explain_globally(
    run: str | Path | Trained,
    inputs: Iterable[Any],
    *,
    limit: int = SAMPLE,
    seed: int = 0,
    notify: Callable[[str], None] | None = None,
    **options: Any,
) -> GlobalView:
    """Finds the words that move each class most over many texts.

    Each text is explained by the class that the model predicts for it. Texts whose scores do not
    add up are left out and counted.

    Args:
        run: As for `explain`.
        inputs: The texts.
        limit: How many of them are explained, drawn at random. Defaults to `200`.
        seed: Of what is drawn. Defaults to `0`.
        notify: Called with how far it is. Defaults to `None`.
        **options: As for `explain`.

    Raises:
        KerasllmError: If the run is refused, cannot be explained, or no text could be.
    """
    from kerasllm.explain.global_words import words_that_move

    trained = run if isinstance(run, Trained) else open_trained(run)
    refuse_unless_explained(trained)
    kept = _drawn(inputs, limit, seed)
    if not kept:
        raise CommandError("There are no texts to explain", fix="give a file with texts: --input")
    explainer = trained.explainer()
    found: list[Explanation] = []
    left_out, last = 0, None
    for number, text in enumerate(kept):
        if notify and number % 10 == 0:
            notify(f"explaining text {number:,} of {len(kept):,}")
        try:
            found += explainer.explain([text], **{"checks": False, "max_error": 0.05, **options})
        except (CommandError, JobError) as error:
            left_out, last = left_out + 1, error
    if last and not found:
        raise last
    return GlobalView(words_that_move(found), len(kept) - left_out, left_out)


def _drawn(inputs: Iterable[Any], limit: int, seed: int) -> list[Any]:
    """Returns some inputs, drawn at random with equal chances, in memory for these alone."""
    random, kept = np.random.default_rng(seed), []
    for number, each in enumerate(inputs):
        if len(kept) < limit:
            kept.append(each)
        elif (place := int(random.integers(number + 1))) < limit:
            kept[place] = each
    return kept


def refuse_unless_explained(trained: Trained) -> None:
    """Raises a `CommandError` if what the model computes cannot be explained."""
    if not explains(trained.task):
        # The contract's own refusal.
        trained.task.explained_outputs(None, ())
