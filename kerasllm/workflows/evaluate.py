"""Measure a trained model on data: a classifier on labels, a language model on what is said."""

from __future__ import annotations

from pathlib import Path

from kerasllm.data.examples import Examples
from kerasllm.data.readers.sources import Source
from kerasllm.environment import store_dir
from kerasllm.errors import CommandError
from kerasllm.recipe import load
from kerasllm.run import Run
from kerasllm.tasks import text_classification as task
from kerasllm.workflows.evaluate_causal_lm import Options, evaluate_causal_lm
from kerasllm.workflows.open_causal_lm import is_run
from kerasllm.workflows.open_classifier import open_classifier
from kerasllm.workflows.report import Report


def evaluate(
    run: str | Path,
    data: str | list[str],
    *,
    text: str | None = None,
    label: str | None = None,
    stride: int | None = None,
    max_length: int | None = None,
    chat_template: str | None = None,
    template: str | None = None,
    adapter: str | Path | None = None,
    output: str | Path | None = None,
    report: Report | None = None,
) -> dict:
    """Measures a trained model.

    A classifier is measured on labelled data. A language model is measured on

    - texts (txt, md, folders of them, and rows of text): each token counts once, and is predicted
      from what a window holds before it; a window moves on by `stride`;
    - conversations: what counts is what the assistant says, behind the chat template;
    - questions with choices, `{"question": ..., "choices": [...], "answer": ...}`: a choice is as
      likely as its tokens behind the question.

    Args:
        run: A run directory, or for a language model also a preset.
        data: A file, a glob or `starter:NAME`, or a list of these.
        text: Column of the texts. Defaults to `None`: the recipe's, else found by common names.
        label: Column of a classifier's labels. Defaults to `None`, as for `text`.
        stride: How many tokens a window over a text moves on. Defaults to `None`: half a window.
        max_length: The most tokens of a window, a conversation or a question. Defaults to `None`:
            see `Options`.
        chat_template: A built-in chat template or a file. Defaults to `None`: the model's own.
        template: What a question becomes; holds `{question}`. Defaults to `None`:
            `"Question: {question}\\nAnswer:"`.
        adapter: A folder with a PEFT adapter to put on a language model. Defaults to `None`.
        output: A `.jsonl` file for what was measured of each row. Defaults to `None`.
        report: Where progress is shown. Defaults to `None`: stderr.

    Returns:
        The metrics: of a classifier those of
        `kerasllm.evaluation.classification.classification_report`; on texts and conversations
        those of `kerasllm.evaluation.language_model.language_model_report` and how the rows were
        made; on questions those of `kerasllm.models.multiple_choice.evaluate`.

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
    report = report or Report()
    options = Options(text, stride, max_length, chat_template, template)
    if is_run(run) and load(str(Run.open(run).recipe)).task == "text_classification":
        others = {**vars(options), "text": None, "adapter": adapter, "output": output}
        _refuse(others, "language models")
        return _evaluate_classifier(Run.open(run), data, text, label, report)
    _refuse({"label": label}, "classifiers")
    return evaluate_causal_lm(run, data, options, adapter=adapter, output=output, report=report)


def _refuse(options: dict, owners: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise CommandError(
                f"This is for {owners}", where=f"--{name.replace('_', '-')}", fix="leave it out"
            )


def _evaluate_classifier(
    run: Run, data: str | list[str], text: str | None, label: str | None, report: Report
) -> dict:
    recipe = load(str(run.recipe)).data
    source = Source(
        data,
        split="test",
        text=text or recipe.text,
        label=label or recipe.label,
        on_bad_row=recipe.on_bad_row,
    )
    with report.busy("loading the model") as busy:
        model = open_classifier(run)
        store = task.open_tokens(
            source,
            model.tokenizer,
            model.max_length,
            folder=store_dir(),
            notify=busy.update,
        )
        for remark in task.remarks(store):
            report.line(remark)
        labels = task.encode_labels(store, model.labels)
        busy.update(f"evaluating on {len(store):,} rows")
        metrics, _ = task.evaluate(model, Examples.of(store, labels), buckets=recipe.buckets)
    return metrics
