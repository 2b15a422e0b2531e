"""Explains the predictions for texts: scores of words, and how reliable they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from kerasllm.errors import CommandError
from kerasllm.evaluation.regression import spearman
from kerasllm.explain.embedded_model import EmbeddedModel
from kerasllm.explain.explanation import METHODS, Explanation, Word
from kerasllm.explain.faithfulness import faithfulness_of, occlusion
from kerasllm.explain.integrated_gradients import MAX_ERROR, integrated_gradients
from kerasllm.explain.path import Path
from kerasllm.explain.words import NO_WORD, words_of, words_of_tokens
from kerasllm.models.explained.output import ExplainedOutput
from kerasllm.tasks.task import Task

BASELINES = ("auto", "mask", "pad")
_LITTLE = 0.1


class Explainer:
    """Explains what a model computes of texts.

    It keeps what it prepares of the model, so that later texts are explained faster than the first.

    Args:
        model: The model, whose weights are float32: in bfloat16 gradients have too few digits. They
            are read when it explains first.
        task: The task of the model.

    Example:

    ```python
    for found in Explainer(model, task).explain(["A film to remember."]):
        print(found.target, found.strongest(3))
    ```
    """

    def __init__(self, model: keras.Model, task: Task):
        self._model, self._task = model, task
        self._embedded: dict[int, EmbeddedModel] = {}

    def explain(
        self,
        inputs: Iterable[Any],
        *,
        target: str | None = None,
        method: str = "integrated_gradients",
        baseline: str = "auto",
        steps: int | None = None,
        max_error: float = MAX_ERROR,
        checks: bool = True,
    ) -> Iterator[Explanation]:
        """Explains what the model computes of texts.

        Args:
            inputs: Texts, or tuples of texts where a row has several, as the task predicts for
                them.
            target: What is explained, such as a label; see `Task.explained_outputs`. Defaults to
                `None`: what the model predicts.
            method: `"integrated_gradients"`, `"occlusion"` or `"attention"`. Defaults to
                `"integrated_gradients"`.
            baseline: What replaces words: `"mask"`, `"pad"`, or `"auto"`, the one of the two with
                which the output is further from that of the text. Defaults to `"auto"`.
            steps: Steps of the integral. Defaults to `None`: as many as it takes.
            max_error: The largest completeness error, as a share of the sum of absolute scores.
                Defaults to `0.01`.
            checks: Whether occlusion and faithfulness are computed beside the scores. Defaults to
                `True`.

        Yields:
            An explanation for each output that is explained of each text: one of a classifier, one
            for each entity of a tagger.

        Raises:
            KerasllmError: If the model cannot be explained, there is no such target, or the scores
                do not add up.
        """
        if method not in METHODS:
            raise CommandError(
                f"There is no method {method!r}",
                where="--method",
                fix=f"one of: {', '.join(METHODS)}",
            )
        baselines = _baselines(self._model, baseline)
        for output in self._task.explained_outputs(self._model, inputs, target):
            if method == "attention":
                from kerasllm.explain.attention import attention_of

                yield attention_of(output)
            else:
                yield self._explained(output, baselines, method, steps, max_error, checks)

    def _explained(
        self,
        output: ExplainedOutput,
        baselines: dict[str, int],
        method: str,
        steps: int | None,
        max_error: float,
        checks: bool,
    ) -> Explanation:
        """Explains one output by scores that add up, or by occlusion."""
        embedded = self._embedded_model(output.graph)
        words = [words_of(text) for text in output.tokens.texts]
        of_tokens = words_of_tokens(output.tokens, words)
        # Those that the model reads, which are counted without the others from here on.
        read = np.unique(of_tokens[of_tokens != NO_WORD])
        of_read = np.where(of_tokens == NO_WORD, NO_WORD, np.searchsorted(read, of_tokens))
        if not len(read):
            raise CommandError(
                "The model reads none of the text", fix="give a text with letters or symbols"
            )
        paths = {name: Path(embedded, output, token, of_read) for name, token in baselines.items()}
        name = max(paths, key=lambda name: abs(paths[name].moved))
        path = paths[name]
        scores, occluded, facts = _scores(path, of_read, method, steps, max_error, checks)
        remarks = (*output.remarks, *_unread(output, words), *_hardly_moved(scores, facts, name))
        return Explanation(
            texts=output.tokens.texts,
            names=output.names,
            method=method,
            target=output.target,
            output=output.described,
            predicted=output.predicted,
            words=tuple(_words(output, words, read, scores, occluded)),
            baseline=name,
            group=output.group,
            remarks=remarks,
            **facts,
        )

    def _embedded_model(self, graph: keras.Model) -> EmbeddedModel:
        if id(graph) not in self._embedded:
            _refuse_few_digits(graph)
            self._embedded[id(graph)] = EmbeddedModel(graph)
        return self._embedded[id(graph)]


def _scores(
    path: Path, words: np.ndarray, method: str, steps: int | None, max_error: float, checks: bool
) -> tuple[np.ndarray, np.ndarray | None, dict[str, Any]]:
    """Returns the scores of the words, those of occlusion, and the facts of an explanation."""
    facts: dict[str, Any] = {"value": path.value, "baseline_value": path.baseline_value}
    occluded = occlusion(path) if checks or method == "occlusion" else None
    if method == "integrated_gradients":
        found = integrated_gradients(path, steps=steps, max_error=max_error)
        of_word = words != NO_WORD
        scores = np.bincount(words[of_word], found.tokens[of_word], minlength=path.count)
        facts |= {
            "other": float(found.tokens[~of_word].sum()),
            "steps": found.steps,
            "completeness_error": found.error,
            "relative_error": found.relative_error,
        }
    else:
        scores = occluded
    if checks:
        facts["faithfulness"] = faithfulness_of(path, scores)
        if method != "occlusion" and path.count > 2:
            facts["occlusion_agreement"] = spearman(scores, occluded)
    return scores, occluded, facts


def _words(
    output: ExplainedOutput,
    words: list[list[tuple[int, int]]],
    read: np.ndarray,
    scores: np.ndarray,
    occluded: np.ndarray | None,
) -> Iterator[Word]:
    """Yields all words; `read` are the numbers of those that there are scores of."""
    score_of = dict(zip(read.tolist(), scores.tolist(), strict=True))
    occlusion_of = {} if occluded is None else dict(zip(read.tolist(), occluded.tolist()))
    number = 0
    for text, places in enumerate(words):
        for start, end in places:
            word = output.tokens.texts[text][start:end]
            found = score_of.get(number), occlusion_of.get(number)
            yield Word(text, start, end, word, *found)
            number += 1


def _unread(output: ExplainedOutput, words: list[list[tuple[int, int]]]) -> Iterator[str]:
    """Yields a sentence for each text that the model does not read completely."""
    for text, places in enumerate(words):
        first, last = output.tokens.characters_read(text)
        unread = sum(end <= first or start >= last for start, end in places)
        if unread:
            yield (
                f"{output.names[text]}: {unread} of {len(places)} words are not read and have no "
                f"score, because the model reads {len(output.tokens)} tokens at a time"
            )


def _refuse_few_digits(graph: keras.Model) -> None:
    """Refuses a model that computes in bfloat16 or float16."""
    computes_in = getattr(graph, "backbone", graph).compute_dtype
    if computes_in != "float32":
        raise CommandError(
            f"The model computes in {computes_in}, where gradients are too imprecise",
            fix='open it with precision="float32"',
        )


def _hardly_moved(scores: np.ndarray, facts: dict[str, Any], baseline: str) -> Iterator[str]:
    """Yields a sentence where the baseline has nearly the output that the text has."""
    value, without = facts["value"], facts["baseline_value"]
    if abs(value - without) < _LITTLE * max(np.abs(scores).max(), _LITTLE * abs(value)):
        yield (
            f"with {baseline} in place of each word the output is nearly the same, so the scores "
            "mean little: try another --baseline, or another --target"
        )


def _baselines(model: keras.Model, baseline: str) -> dict[str, int]:
    """Returns the tokens that may replace others: the id of each by its name."""
    hub = getattr(getattr(model, "preprocessor", None), "tokenizer", None)
    mask = getattr(hub, "mask_token_id", None)
    if baseline == "mask" and mask is None:
        raise CommandError(
            "The tokenizer of this model has no mask token",
            where="--baseline mask",
            fix="use the padding token: --baseline pad",
        )
    wanted = [mask] if baseline != "pad" and mask is not None else []
    if baseline != "mask":
        wanted.append(model.tokenizer.pad_token_id)
    return {
        hub.id_to_token(int(token)) if hub is not None else f"token {token}": int(token)
        for token in wanted
    }
