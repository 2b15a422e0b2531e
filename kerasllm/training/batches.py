"""The batches that a model trains on, the same for every task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kerasllm.data.batch_plan import EpochPlans
from kerasllm.data.pipeline import training_dataset
from kerasllm.data.rows import Rows

if TYPE_CHECKING:
    from kerasllm.training.fit import FineTunedModel


@dataclass(frozen=True, eq=False)
class PlannedBatches:
    """Batches whose plan is known, from any step on: `fit` resumes in the middle of it.

    Attributes:
        steps: Batches of an epoch.
        from_step: Returns the batches from a step on, counted over all epochs, as a dataset.
    """

    steps: int
    from_step: Callable[[int], Any]


def planned_batches(
    model: FineTunedModel, rows: Rows, plans: EpochPlans, epochs: int = 1, *, seed: int = 0
) -> PlannedBatches:
    """Returns the batches of `training_batches`, from any step on."""

    def from_step(step: int):
        return training_batches(model, rows, plans, epochs, first_step=step, seed=seed)

    return PlannedBatches(plans.steps, from_step)


def training_batches(
    model: FineTunedModel,
    rows: Rows,
    plans: EpochPlans,
    epochs: int = 1,
    *,
    first_step: int = 0,
    seed: int = 0,
):
    """Returns the batches that the model's `fit` and `evaluate` take.

    Args:
        model: A model with a tokenizer, compiled if it is to cut batches into micro-batches.
        rows: What it trains on.
        plans: The plan of each epoch over these rows.
        epochs: How many epochs to yield, one after the other. Defaults to `1`.
        first_step: The number of the first batch, counted over all epochs. Defaults to `0`.
        seed: The seed of what batches draw at random; see `Rows.batch`. Defaults to `0`.

    Returns:
        A dataset of `(x, y, sample_weight)`, cut into the parts of the replicas of the model's
        strategy; see `kerasllm.data.training_dataset`.

    Example:

    ```python
    plans = EpochPlans(data.train.lengths, batch_size=32, buckets=16, seed=0)
    batches = training_batches(model, data.train, plans, epochs=2)
    model.fit(batches, epochs=2, steps_per_epoch=plans.steps)
    ```
    """
    return training_dataset(
        rows,
        plans,
        epochs=epochs,
        inputs=model.input_names,
        pad_id=model.tokenizer.pad_token_id,
        first_step=first_step,
        seed=seed,
        accumulate=model.accumulate,
        strategy=model.distribute_strategy,
    )
