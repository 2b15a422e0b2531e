"""Evaluate a trained model on data."""

from __future__ import annotations

import json
from pathlib import Path

from kerasllm.errors import CommandError
from kerasllm.output_files import make_folder_of
from kerasllm.plurals import counted
from kerasllm.run import write_json, write_text
from kerasllm.storage import told
from kerasllm.tasks.task import EvaluateOptions
from kerasllm.workflows.report import Report
from kerasllm.workflows.trained import Trained, open_trained


def evaluate(
    source: str | Path | Trained,
    data: str | list[str] | None = None,
    *,
    adapter: str | Path | None = None,
    output: str | Path | None = None,
    report: Report | None = None,
    **options,
) -> dict:
    """Measures a trained model.

    A classifier is measured on labelled data. A language model is measured on

    - texts (txt, md, folders of them, and rows of text): each token counts once, and is predicted
      from what a window holds before it; a window moves on by `stride`;
    - conversations: what counts is the assistant messages, after the chat template;
    - questions with choices, `{"question": ..., "choices": [...], "answer": ...}`: a choice is as
      likely as its tokens after the question.

    Args:
        source: A run directory, for a language model also a preset; or what `open_trained` gave.
        data: A file, a glob or `starter:NAME`, or a list of these. Defaults to `None`: the run's
            own test data.
        adapter: A folder with a PEFT adapter to put on a language model. Defaults to `None`.
        output: A `.jsonl` file for what was measured of each row; of some tasks also a `.json`
            file, such as the answers to questions. Defaults to `None`.
        report: Where progress is shown. Defaults to `None`: stderr.
        **options: See `kerasllm.tasks.task.EvaluateOptions`: `text`, `text_pair`, `label`,
            `on_bad_row`, `stride`, `max_length`, `chat_template`, `template`. Those that are not
            given are the recipe's.

    Returns:
        The metrics by name: of a classifier those of
        `kerasllm.evaluation.classification.classification_report`; on texts and conversations
        those of `kerasllm.evaluation.language_model.language_model_report` and how the rows were
        made; on questions those of `kerasllm.models.multiple_choice.evaluate`. `skipped_rows` is
        the number of bad rows that were left out.

    Raises:
        KerasllmError: If the run, the data or an option is refused.

    References:
        [Perplexity of fixed-length models](https://huggingface.co/docs/transformers/perplexity);
        for questions [Language Models are Few-Shot Learners](https://arxiv.org/abs/2005.14165).

    Example:

    ```python
    evaluate("my_run", "starter:movie_reviews")["accuracy"]
    evaluate("smollm2_135m_instruct", "starter:moby_dick/train", stride=256)["bits_per_byte"]
    ```
    """
    trained = source if isinstance(source, Trained) else open_trained(source)
    task = trained.task
    _refuse_others({**options, "adapter": adapter, "output": output}, task)
    _check_output(output, task)
    # After what every process refuses: a process that is left alone waits for the others.
    if not trained.shows_results:
        report, output = Report.silent(), None
    report = report or Report()
    if data is None:
        data = trained.test_data()
        named = data if isinstance(data, str) else ", ".join(data)
        report.line(f"on the run's own test data: {named}")
    with report.busy("loading the model") as busy, told(busy.update):
        model = trained.open(adapter=adapter, progress=busy.update)
        rows, remarks = task.rows(
            model, data, trained.recipe, EvaluateOptions(**options), busy.update
        )
        for remark in remarks:
            report.line(remark)
        busy.update(f"evaluating on {counted(len(rows), 'row')}")
        found = task.evaluate(model, rows, buckets=trained.buckets, notify=busy.update)
    for doubt in task.doubts(found.metrics):
        report.line(f"warning: the model {doubt}")
    if output and Path(output).suffix == ".json":
        write_json(Path(output), found.document())
    elif output:
        write_text(Path(output), "".join(json.dumps(row) + "\n" for row in found.rows))
    skipped = getattr(rows, "skipped", 0)
    counts = {"skipped_rows": skipped} if skipped or options.get("on_bad_row") == "skip" else {}
    return {**found.metrics, **counts}


def _refuse_others(options: dict, task) -> None:
    """Refuses options that are for models of other tasks."""
    for name, value in options.items():
        if value is not None and name not in task.evaluate_options:
            raise CommandError(
                f"A model of the task {task.name} does not take it",
                where=f"--{name.replace('_', '-')}",
                fix="leave it out",
            )


def _check_output(output: str | Path | None, task) -> None:
    if output is None:
        return
    path = Path(output)
    suffixes = (".jsonl", ".json") if task.writes_document else (".jsonl",)
    if path.suffix not in suffixes or path.is_dir():
        raise CommandError(
            f"The results of the examples are written to a {' or '.join(suffixes)} file",
            where=str(output),
            fix=f"end --output with {' or '.join(suffixes)}",
        )
    make_folder_of(path)
