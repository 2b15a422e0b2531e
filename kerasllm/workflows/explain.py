"""Explain what a trained model predicts for texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kerasllm.errors import CommandError, JobError, KerasllmError
from kerasllm.run import write_text
from kerasllm.tasks.task import PredictOptions, explains
from kerasllm.workflows.trained import Trained, open_trained

if TYPE_CHECKING:
    import keras

    from kerasllm.explain import Explanation
    from kerasllm.explain.global_words import MovingWords

SAMPLE = 200
"""Texts that a global view is made of, unless it is told."""

# Of a text in a report.
_MOST_CHARACTERS = 2000


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
    model: keras.Model | None = None,
    left_out: Callable[[Any, KerasllmError], None] | None = None,
    **options: Any,
) -> Iterator[Explanation]:
    """Explains what a trained model predicts for texts.

    The model is computed in float32, regardless of the precision in training.

    Args:
        run: The run directory or the preset, or what `open_trained` gave.
        inputs: Texts, or tuples of texts where a row has several.
        model: The model of the run in float32. Defaults to `None`: it is opened.
        left_out: Called with each text that cannot be explained, and why; the others are. Defaults
            to `None`: the first such text is refused.
        **options: As `kerasllm.explain.explain_texts.explain_texts` takes them.

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
    from kerasllm.explain.explain_texts import explain_texts

    model = model or trained.open(precision="float32")
    if left_out is None:
        yield from explain_texts(model, inputs, task=trained.task, **options)
        return
    any_explained, last = False, None
    for given in inputs:
        try:
            found = list(explain_texts(model, [given], task=trained.task, **options))
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
    from kerasllm.explain.explain_texts import explain_texts

    model = trained.open(precision="float32")
    found: list[Explanation] = []
    left_out, last = 0, None
    for number, text in enumerate(kept):
        if notify and number % 10 == 0:
            notify(f"explaining text {number:,} of {len(kept):,}")
        try:
            found += explain_texts(
                model, [text], task=trained.task, **{"checks": False, "max_error": 0.05, **options}
            )
        except (CommandError, JobError) as error:
            left_out, last = left_out + 1, error
    if last and not found:
        raise last
    return GlobalView(words_that_move(found), len(kept) - left_out, left_out)


def explain_mistakes(
    run: str | Path | Trained,
    *,
    notify: Callable[[str], None] | None = None,
    **options: Any,
) -> list[Explanation]:
    """Explains the most confident mistakes of a run on its test data, and adds them to its report.

    Each is explained by what the model predicts, as the test data have it. One that cannot be is
    left out.

    Args:
        run: The run directory, or what `open_run` gave.
        notify: Called with how far it is. Defaults to `None`.
        **options: As for `explain`.

    Raises:
        KerasllmError: If the run is refused, has no mistakes, or none of them can be explained.
    """
    from kerasllm.evaluation.outcomes import TEXT_CHARACTERS
    from kerasllm.reports.run_facts import facts_for_report
    from kerasllm.workflows.report_run import report_run

    trained = run if isinstance(run, Trained) else open_trained(run)
    refuse_unless_explained(trained)
    mistakes = facts_for_report(trained.run.path)["mistakes"] if trained.run else None
    if not mistakes:
        raise CommandError(
            "The run has no recorded mistakes on test data",
            where=str(trained.source),
            fix="train with --test FILE, or explain texts: kerasllm explain RUN TEXT",
        )
    from kerasllm.explain.explain_texts import explain_texts

    inputs = _inputs_of(trained, mistakes)
    model = trained.open(precision="float32")
    found, pieces, last = [], {}, None
    for number, one in enumerate(mistakes, start=1):
        if notify:
            notify(f"explaining mistake {number} of {len(mistakes)}")
        place = f"{one['file']}:{one['line']}"
        try:
            if place in inputs:
                given = inputs[place]
            elif len(one["text"]) >= TEXT_CHARACTERS:
                continue  # It was cut: the model may predict something else for it.
            else:
                given = trained.task.input_of(trained, [one["text"]])
            first = next(explain_texts(model, [given], task=trained.task, **options))
        except KerasllmError as error:
            last = error
            continue
        found.append(first)
        pieces[place] = _pieces(first)
    if not found:
        raise CommandError(
            f"None of the {len(mistakes)} mistakes could be explained"
            + (f": {last.what}" if last else ", because their texts are not available here"),
            where=str(trained.run.path),
            fix="make sure the run's test data are where its recipe.yaml says",
        )
    write_text(trained.run.explanations, json.dumps(pieces, ensure_ascii=False) + "\n")
    report_run(trained.run.path)
    return found


def _inputs_of(trained: Trained, mistakes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what is predicted for rows of the test data, whole, by `file:line`.

    What a run keeps of them is cut, and is one text of those that have two. There are none where
    the files are gone, or hold rows in another way.
    """
    wanted = {f"{one['file']}:{one['line']}" for one in mistakes}
    found: dict[str, Any] = {}
    try:
        source = trained.task.source(trained, trained.test_data(), PredictOptions())
        for batch in source.batches():
            for number, text in enumerate(batch.texts):
                place = f"{source.files[batch.file]}:{batch.lines[number]}"
                if place in wanted:
                    texts = (text,) if batch.pairs is None else (text, batch.pairs[number])
                    found[place] = trained.task.input_of(trained, texts)
            if len(found) == len(wanted):
                break
    except (KerasllmError, OSError):
        pass
    return found


def _pieces(found: Explanation) -> list[tuple[str, float]]:
    """Returns the texts of an explanation in pieces with their weights, cut where they are long."""
    pieces: list[tuple[str, float]] = []
    for number in range(len(found.texts)):
        pieces += [(" | ", 0.0)] if number else []
        pieces += found.pieces(number)
    length = 0
    for number, (text, _) in enumerate(pieces):
        length += len(text)
        if length > _MOST_CHARACTERS:
            return [*pieces[:number], ("…", 0.0)]
    return pieces


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
