"""The kind of outputs of a classifier, and the file that stores it."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasllm.errors import DataError
from kerasllm.json_files import read_json_file

OUTPUTS = "outputs.json"
"""The file beside a model that says what its outputs mean."""

PROBLEMS = ("single_label", "multi_label", "regression")


@dataclass(frozen=True)
class Outputs:
    """What the outputs of a classifier mean.

    Attributes:
        problem: `"single_label"`: logits of classes, one of them right; `"multi_label"`: logits of
            labels, any number of them right; `"regression"`: one score. Defaults to
            `"single_label"`.
        pair: Whether it reads two texts. Defaults to `False`.
        truncation: How pairs that are too long are cut: `"longest_first"` or `"only_second"`.
            Defaults to `"longest_first"`.
        thresholds: The probability from which on each label is given, of several labels. Defaults
            to `None`: 0.5.
        mean: The mean of the scores that it was trained on. Defaults to `0.0`.
        std: Their standard deviation. Defaults to `1.0`.
        temperature: What the logits were divided by after the training. Defaults to `1.0`.
    """

    problem: str = "single_label"
    pair: bool = False
    truncation: str = "longest_first"
    thresholds: tuple[float, ...] | None = None
    mean: float = 0.0
    std: float = 1.0
    temperature: float = 1.0

    def save(self, folder: str | Path) -> None:
        """Writes `outputs.json`, unless it is one label of one text."""
        if self != Outputs():
            text = json.dumps(dataclasses.asdict(self), indent=2)
            (Path(folder) / OUTPUTS).write_text(text + "\n", encoding="utf-8")


def outputs_of(
    outputs: Any, problem: str | None, pair: bool | None, default: Outputs | None = None
) -> Outputs:
    """Returns what a model's outputs mean, of the arguments of `from_preset`.

    Args:
        outputs: An `Outputs`, or `None`.
        problem: A problem of `Outputs`, or `None`: that of `default`.
        pair: Whether two texts are read, or `None`: as in `default`.
        default: What is not given. Defaults to `None`: `Outputs()`.

    Raises:
        ValueError: If they contradict, or there is no such problem.
    """
    default = default or Outputs()
    if isinstance(outputs, str):
        raise ValueError(
            f"`outputs` must be an `Outputs`: write problem={_problem_like(outputs)!r}. "
            f"Received: outputs={outputs!r}"
        )
    if outputs is not None and not isinstance(outputs, Outputs):
        raise ValueError(f"`outputs` must be an `Outputs`. Received: outputs={outputs!r}")
    if outputs is not None and (problem, pair) != (None, None):
        raise ValueError("Give either `outputs`, or `problem` and `pair`.")
    if problem is not None and problem not in PROBLEMS:
        raise ValueError(
            f"`problem` must be one of {', '.join(PROBLEMS)}; did you mean "
            f"{_problem_like(problem)!r}? Received: problem={problem!r}"
        )
    if outputs is not None:
        return outputs
    return dataclasses.replace(
        default,
        problem=problem or default.problem,
        pair=default.pair if pair is None else bool(pair),
    )


def _problem_like(word: Any) -> str:
    near = difflib.get_close_matches(str(word).replace("-", "_").lower(), PROBLEMS, n=1, cutoff=0.0)
    return near[0]


def read_outputs(folder: Path, labels: int, problem: str) -> Outputs:
    """Reads `outputs.json`; models of one label of a text, and older ones, have none.

    Args:
        folder: The folder of a classifier.
        labels: How many labels it has.
        problem: What is predicted where there is no file.

    Raises:
        DataError: If it cannot be read, or does not fit the labels.
    """
    file = folder / OUTPUTS
    if not file.is_file():
        return Outputs(problem)
    try:
        facts = read_json_file(file)
        if facts.get("thresholds") is not None:
            facts["thresholds"] = tuple(float(each) for each in facts["thresholds"])
        outputs = Outputs(**facts)
        fits = outputs.thresholds is None or len(outputs.thresholds) == labels
        if fits and outputs.problem in PROBLEMS:
            return outputs
        why = "it does not fit the labels"
    except (ValueError, TypeError, AttributeError, OSError) as error:
        why = str(error)
    raise DataError(
        f"The output settings of this model cannot be read: {why}",
        where=str(file),
        fix="the file is written by `kerasllm finetune`; copy it from the original run",
    )


def reads_pairs(folder: str | Path) -> bool:
    """Returns whether a saved classifier reads two texts."""
    path = os.path.join(folder, OUTPUTS)
    try:
        return _pair_in(path, os.stat(path).st_mtime_ns)
    except (OSError, ValueError, KeyError, TypeError):
        return False


@functools.lru_cache(maxsize=8)
def _pair_in(path: str, changed: int) -> bool:
    """Reads it once, because it is needed for each line of a file."""
    return bool(read_json_file(path)["pair"])
