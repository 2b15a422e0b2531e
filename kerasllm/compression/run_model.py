"""The trained model of a run to compress, and the data that it is evaluated on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasllm.errors import RunError
from kerasllm.recipe import WholeRecipe, load
from kerasllm.run import Run
from kerasllm.tasks.task import Evaluation, Task, task_of

# Windows of text that is calibrated on are no longer than these.
_LONGEST_WINDOW = 256


@dataclass(frozen=True, eq=False)
class Subject:
    """The trained model of a run with its data.

    Attributes:
        run: The run.
        recipe: Its recipe, with the model of the run as the preset.
        data: What the recipe's task read.
        part: Which part of the data is measured on: `test`, or `validation` where there is none.
    """

    run: Run
    recipe: WholeRecipe
    data: Any
    part: str

    @property
    def task(self) -> Task:
        """The run's task."""
        return task_of(self.recipe)

    @property
    def rows(self) -> Any:
        """What the model is measured on."""
        return self.data.parts[self.part]

    def open(self, folder: Path, precision: str) -> keras.Model:
        """Loads a model of this kind."""
        return self.task.open(folder, precision=precision)

    def prepare_retraining(self, model: keras.Model) -> None:
        """Makes a model of this kind ready to train on the run's data."""
        self.task.prepare_retraining(self.recipe, model, self.data)

    def finish(self, model: keras.Model, metrics: dict, notify: Callable[[str], None]) -> dict:
        """Fits what comes after the training of a model, such as thresholds, as `finetune` does.

        Args:
            model: The model that is saved.
            metrics: Of its training, by part.
            notify: Called with what is being done.

        Returns:
            The metrics, those of the validation data with what was fitted.
        """
        finished = self.task.finish(self.recipe, model, self.data, notify)
        if not finished:
            return metrics
        rows, buckets = self.data.validation, self.recipe.data.buckets
        held_out = self.task.evaluate(model, rows, buckets=buckets)
        return {**metrics, "validation": held_out.metrics, **finished}

    def evaluate(self, model: keras.Model) -> Evaluation:
        """Measures a model of this kind."""
        return self.task.evaluate(model, self.rows, buckets=self.recipe.data.buckets)

    def inputs(self, rows: int, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Returns what a model reads of some rows of the training data, without padding.

        Args:
            rows: How many rows at most.
            names: Names of the inputs of a backbone: `token_ids`, `padding_mask`, `segment_ids`.

        Returns:
            By name, int32 `[rows, length]`. Rows are cut to the length that half of them have.
        """
        train = self.data.train
        lengths = np.asarray(train.lengths)
        length = int(min(np.median(lengths), _LONGEST_WINDOW))
        long_enough = np.flatnonzero(lengths >= length)
        places = np.linspace(0, len(long_enough) - 1, min(rows, len(long_enough)))
        chosen = long_enough[places.astype(int)]
        inputs, *_ = train.batch(chosen, int(lengths[chosen].max()), names, 0)
        cut = {name: np.asarray(inputs[name])[:, :length] for name in names if name in inputs}
        return cut | {"padding_mask": np.ones_like(cut["token_ids"])}


def subject_of(run: Run, notify: Callable[[str], None] | None = None) -> Subject:
    """Opens a run and reads its data.

    Args:
        run: A finished run.
        notify: Called with what is being done. Defaults to `None`.

    Raises:
        KerasllmError: If the run or its data is refused.
    """
    recipe = recipe_of(run)
    model = recipe.model.model_copy(update={"preset": str(run.model)})
    data = task_of(recipe).load(recipe.model_copy(update={"model": model}), notify)
    part = next((name for name in ("test", "validation") if name in data.parts), None)
    if part is None:
        raise RunError(
            "The run has neither test nor validation data to measure the loss of quality on",
            where=str(run.recipe),
            fix="name data.test in the recipe of the run",
        )
    return Subject(run, recipe, data, part)


def recipe_of(run: Run) -> WholeRecipe:
    """Returns the recipe of a run whose model can be compressed.

    Raises:
        RunError: If the run is of a task whose models cannot be.
    """
    recipe = load(str(run.recipe))
    if not task_of(recipe).compressions:
        raise RunError(
            f"The run is of the task {recipe.task}, whose models cannot be compressed",
            where=str(run.path),
            fix="give a run of another task",
        )
    return recipe
