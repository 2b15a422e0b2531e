"""What the outputs of a classifier mean, and the file that says so beside its weights."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from kerasllm.errors import DataError

OUTPUTS = "outputs.json"
"""The file beside a model that says what its outputs mean."""


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
        facts = json.loads(file.read_text(encoding="utf-8"))
        if facts.get("thresholds") is not None:
            facts["thresholds"] = tuple(float(each) for each in facts["thresholds"])
        outputs = Outputs(**facts)
        fits = outputs.thresholds is None or len(outputs.thresholds) == labels
        if fits and outputs.problem in ("single_label", "multi_label", "regression"):
            return outputs
        why = "it does not fit the labels"
    except (ValueError, TypeError, AttributeError, OSError) as error:
        why = str(error)
    raise DataError(
        f"What the outputs of this model mean cannot be read: {why}",
        where=str(file),
        fix="the file is written by `kerasllm finetune`; take it from the original run",
    )


def reads_pairs(folder: str | Path) -> bool:
    """Returns whether a saved classifier reads two texts."""
    try:
        facts = json.loads((Path(folder) / OUTPUTS).read_text(encoding="utf-8"))
        return bool(facts["pair"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
