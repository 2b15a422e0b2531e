"""The output to explain for a text classifier: the logit of a label, or the score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import keras

from kerasllm.data.token_offsets import TokenOffsets, place_pair, place_text
from kerasllm.errors import CommandError
from kerasllm.models.classify import decode
from kerasllm.models.explained.output import ExplainedOutput, outputs_of, unknown_target
from kerasllm.models.text_classifier import TextClassifier

SCORE = "score"


def explained_classes(
    model: TextClassifier, inputs: Iterable[str | tuple[str, str]], target: str | None = None
) -> Iterator[ExplainedOutput]:
    """Yields what is explained of texts, or of pairs of texts.

    Args:
        model: A classifier.
        inputs: The texts.
        target: A label; `"score"` of a regression. Defaults to `None`: the label that the model
            predicts; of several labels the most probable one.

    Raises:
        CommandError: If there is no such label.
    """
    chosen = _number_of(model, target)
    for given in inputs:
        tokens = _placed(model, given)
        logits = keras.ops.convert_to_numpy(outputs_of(model.task, tokens))
        number, predicted = _predicted(decode(model, logits)[0], model.labels.names)
        if chosen is not None:
            number = chosen
        name = SCORE if model.outputs.problem == "regression" else model.labels.names[number]
        yield ExplainedOutput(
            tokens,
            model.task,
            lambda outputs, number=number: outputs[:, number],
            target=name,
            described="the score" if name is SCORE else f"the logit of {name}",
            predicted=predicted,
            names=("text", "text_pair") if model.outputs.pair else ("text",),
            group=name,
        )


def _number_of(model: TextClassifier, target: str | None) -> int | None:
    if target is None:
        return None
    if model.outputs.problem == "regression":
        if target != SCORE:
            raise CommandError(
                f"The model gives a score, and has no label {target!r}",
                where="--target",
                fix="leave it out",
            )
        return 0
    names = list(model.labels.names)
    if target not in names:
        raise unknown_target(target, names)
    return names.index(target)


def _placed(model: TextClassifier, given: str | tuple[str, str]) -> TokenOffsets:
    if model.outputs.pair:
        tokens = place_pair(model.tokenizer, given, model.max_length, model.outputs.truncation)
    else:
        tokens = place_text(model.tokenizer, given, model.max_length)
    if model.pad_to is not None:
        return tokens.padded(model.pad_to, model.tokenizer.pad_token_id)
    return tokens


def _predicted(found: dict, names: tuple[str, ...]) -> tuple[int, str]:
    """Returns the number of the output to explain, and what is predicted in words."""
    if "score" in found:
        return 0, f"score {found['score']:.4g}"
    chances = found["probabilities"]
    best = max(chances, key=chances.get)
    if "label" in found:
        return list(names).index(best), f"{best} ({chances[best]:.2f})"
    given = ", ".join(f"{name} ({chances[name]:.2f})" for name in found["labels"])
    return list(names).index(best), given or "no label"
