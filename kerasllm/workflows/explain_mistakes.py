"""Explain the most confident mistakes of a run, for its report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasllm.errors import CommandError, KerasllmError, cut
from kerasllm.run import Run, write_text
from kerasllm.tasks.task import PredictOptions, explains
from kerasllm.workflows.explain import refuse_unless_explained
from kerasllm.workflows.trained import Trained, open_run, open_trained

if TYPE_CHECKING:
    from kerasllm.explain import Explanation
    from kerasllm.explain.explainer import Explainer

IN_A_REPORT = 5
"""Mistakes that are explained where a report is written, so that it does not take long."""
SECONDS_IN_A_REPORT = 20.0
"""The most seconds after which no further mistake is explained there."""

# Of a text in a report; and entities of it that are explained.
_MOST_CHARACTERS, _MOST_OUTPUTS = 2000, 4
# A larger model is not opened for a report: it takes long, and memory twice where it is open.
_MOST_BYTES = 600_000_000


def explain_mistakes(
    run: str | Path | Trained,
    *,
    most: int | None = None,
    seconds: float | None = None,
    explainer: Explainer | None = None,
    notify: Callable[[str], None] | None = None,
    **options: Any,
) -> list[Explanation]:
    """Explains the most confident mistakes of a run on its test data, and adds them to its report.

    Each is explained by what the model predicts, as the test data have it. One that cannot be is
    left out.

    Args:
        run: The run directory, or what `open_run` gave.
        most: The most mistakes. Defaults to `None`: all that a report shows.
        seconds: After so many no further mistake is begun. Defaults to `None`: as long as it takes.
        explainer: What `Trained.explainer` gave. Defaults to `None`: the model is opened.
        notify: Called with how far it is. Defaults to `None`.
        **options: As for `kerasllm.workflows.explain.explain`.

    Raises:
        KerasllmError: If the run is refused, has no mistakes, or none of them can be explained.
    """
    from kerasllm.evaluation.outcomes import TEXT_CHARACTERS
    from kerasllm.reports.run_facts import facts_for_report
    from kerasllm.workflows.report_run import report_run

    ends = time.monotonic() + (float("inf") if seconds is None else seconds)
    trained = run if isinstance(run, Trained) else open_trained(run)
    refuse_unless_explained(trained)
    mistakes = facts_for_report(trained.run.path)["mistakes"] if trained.run else None
    if not mistakes:
        raise CommandError(
            "The run has no recorded mistakes on test data",
            where=str(trained.source),
            fix="train with --test FILE, or explain texts: kerasllm explain RUN TEXT",
        )
    mistakes = mistakes[:most]
    inputs = _inputs_of(trained, mistakes, ends)
    explainer = explainer or trained.explainer()
    found, pieces, last = [], {}, None
    for number, one in enumerate(mistakes, start=1):
        if time.monotonic() > ends:
            last = last or CommandError("it takes too long")
            break
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
            # Of a tagger, of each entity.
            outputs = []
            for output in islice(explainer.explain([given], **options), _MOST_OUTPUTS):
                outputs.append(output)
                if time.monotonic() > ends:
                    break
        except KerasllmError as error:
            last = error
            continue
        found += outputs
        pieces[place] = [{"target": output.target, "words": _pieces(output)} for output in outputs]
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


def explain_for_report(
    run: Run, *, seconds: float = SECONDS_IN_A_REPORT, model: Any = None
) -> str | None:
    """Explains a few mistakes of a finished run, where it takes little, and never fails.

    Nothing is done where they were explained before, or where there is nothing to explain.

    Args:
        run: The run, whose report was written.
        seconds: After so many no further mistake is begun. Defaults to `20`.
        model: The model of the run, if it is open in float32. Defaults to `None`.

    Returns:
        Why they are not explained, if they could be.
    """
    try:
        size = sum(file.stat().st_size for file in run.model.rglob("*") if file.is_file())
        if run.explanations.is_file() or not run.predictions.is_file() or not size:
            return None
        trained = open_run(run.path)
        if not explains(trained.task):
            return None
        import keras

        if keras.backend.backend() != "tensorflow":
            return "this process trains on JAX, and TensorFlow explains"
        if model is None and size > _MOST_BYTES:
            return f"the model has {size / 1e9:.1f} GB, and takes long to open"
        explainer = None
        if model is not None:
            from kerasllm.explain.explainer import Explainer

            explainer = Explainer(model, trained.task)
        explain_mistakes(
            trained, most=IN_A_REPORT, seconds=seconds, explainer=explainer, checks=False
        )
    except KerasllmError as error:
        return error.what
    except Exception as error:  # noqa: BLE001 - the run and its report are whole without it
        return cut(f"{type(error).__name__}: {error}".partition("\n")[0], 300)
    return None


def _inputs_of(
    trained: Trained, mistakes: Iterable[Mapping[str, Any]], ends: float
) -> dict[str, Any]:
    """Returns what is predicted for rows of the test data, whole, by `file:line`.

    What a run keeps of them is cut, and is one text of those that have two. There are none where
    the files are gone, or hold rows in another way; and at a time, of `time.monotonic`, it ends.
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
            if len(found) == len(wanted) or time.monotonic() > ends:
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
