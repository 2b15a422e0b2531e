"""Find a learning rate by one short training in which it rises (Smith, 2017)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasllm import recipe as recipes
from kerasllm.distribution.strategies import strategy
from kerasllm.errors import JobError
from kerasllm.plurals import counted
from kerasllm.recipe import WholeRecipe
from kerasllm.recipe.strategy_names import is_sharded
from kerasllm.run import write_json
from kerasllm.training.batches import training_batches
from kerasllm.training.schedules import RangeTest
from kerasllm.tuning import plots
from kerasllm.tuning.learning_rate import has_diverged, running_mean, suggested
from kerasllm.workflows.job import Job, compile_model, prepare, prepare_process_for
from kerasllm.workflows.report import Report
from kerasllm.workflows.sharded import refuse_unsupported

STEPS = 100
# Around the recipe's rate, by which the sweep begins and ends.
_FACTOR = 1000.0


def lr_find(
    recipe: WholeRecipe,
    *,
    name: str = "recipe",
    output: str | Path | None = None,
    steps: int = STEPS,
    report: Report | None = None,
) -> dict[str, Any]:
    """Trains for some steps with a rising learning rate, and suggests where the loss falls fastest.

    The rate rises from a thousandth of the recipe's to a thousand times as much, or until the loss
    diverges. No model is kept, and no test or validation data are used. It trains on one device, or
    in shards under a sharded strategy.

    Args:
        recipe: The recipe.
        name: Its name, for the folder. Defaults to `"recipe"`.
        output: The folder of the plot. Defaults to `None`: `runs/NAME-lr-find`.
        steps: Steps of the sweep. Defaults to `100`.
        report: Where progress is shown. Defaults to `None`: stderr.

    Returns:
        `learning_rate`, `None` where the loss never falls; `rates` and `losses` by step; `plot`.

    Raises:
        KerasllmError: If the preset or the data is refused, or the first steps fail.
    """
    report = report or Report()
    folder = Path(output or Path("runs") / f"{name}-lr-find")
    sweep = recipes.load(
        recipe,
        {
            "training.max_steps": steps,
            "training.epochs": steps,
            "training.steps_per_execution": 1,
            "training.evaluate_every": "epoch",
            "training.checkpoint_every": None,
            "training.early_stopping": None,
            "data.test": None,
        },
    )
    for line in prepare_process_for(sweep):
        report.line(line)
    job = prepare(sweep, report, _strategy(sweep))
    if job.needs_reference:
        with report.busy("computing the reference log-probabilities"):
            job.prepare_reference()
    rate = recipe.training.learning_rate
    schedule = RangeTest(rate / _FACTOR, rate * _FACTOR, job.steps)
    compile_model(job, schedule)
    losses = _losses(job, report)
    rates = [float(schedule(step)) for step in range(len(losses))]
    found = suggested(rates, losses) if len(losses) > 4 else None
    if len(losses) < 2:
        raise JobError(
            "The loss was not finite from the first step, at any learning rate",
            where=f"learning rate {rates[0]:.2e}" if rates else None,
            fix="try training.precision=float32; `kerasllm data report` looks for bad rows",
        )
    folder.mkdir(parents=True, exist_ok=True)
    smooth = running_mean(losses).tolist()
    plot = plots.learning_rates(rates, losses, smooth, found, folder / "lr_find.svg")
    result = {"learning_rate": found, "rates": rates, "losses": losses, "plot": str(plot)}
    write_json(folder / "lr_find.json", result)
    _show(report, result, rate)
    return result


def _strategy(recipe: WholeRecipe) -> Any:
    """Returns a sharded strategy, and else `None`: the batch is that of all devices together."""
    if not is_sharded(recipe.training.strategy):
        return None
    refuse_unsupported(recipe)
    return strategy(recipe.training.strategy)


class _Losses(keras.callbacks.Callback):
    """Keeps the loss of each step, and ends the training when it diverges."""

    def __init__(self, steps: int, on_step: Callable[[int], None]):
        super().__init__()
        self.losses: list[float] = []
        self._steps, self._on_step = steps, on_step

    def on_train_batch_end(self, batch, logs=None):
        loss = float(self.model.last_execution["step_loss"][-1])
        self._on_step(self.model.steps_done)
        if np.isfinite(loss):
            self.losses.append(loss)
        done = self.model.steps_done >= self._steps
        if done or not np.isfinite(loss) or has_diverged(self.losses):
            self.model.stop_training = True


def _losses(job: Job, report: Report) -> list[float]:
    with report.training(job.steps) as progress:
        watched = _Losses(job.steps, progress.step)
        seed = job.recipe.training.seed
        job.model.fit(
            training_batches(job.model, job.data.train, job.plan, job.epochs, seed=seed),
            epochs=job.epochs,
            steps_per_epoch=job.plan.steps,
            callbacks=[watched],
            verbose=0,
        )
    return watched.losses


def _show(report: Report, result: dict[str, Any], before: float) -> None:
    report.heading("Learning rate")
    found, rates = result["learning_rate"], result["rates"]
    report.line(
        f"{counted(len(rates), 'step')} from {rates[0]:.2e} to {rates[-1]:.2e}; the lowest loss, "
        f"{min(running_mean(result['losses'])):.4f}, is at "
        f"{rates[int(np.argmin(running_mean(result['losses'])))]:.2e}"
    )
    if found is None:
        report.line(
            "The loss does not fall by more than its noise, so no rate is suggested. More data or "
            "a larger training.batch_size make it less noisy."
        )
    else:
        report.line(f"The loss falls fastest at {found:.2g}; the recipe has {before:.2g}.")
    report.facts([("plot", result["plot"])])
    if found is not None:
        report.heading("Next")
        report.line(f"--set training.learning_rate={found:.2g}")
