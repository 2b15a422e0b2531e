"""Resuming a run that was stopped: which one, from where, and whether it is still the same."""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace

from kerasllm.errors import RecipeError, RunError
from kerasllm.plurals import counted
from kerasllm.recipe import WholeRecipe, load, older_settings
from kerasllm.recipe.lora import same_lora
from kerasllm.recipe.strategy_names import is_sharded
from kerasllm.run import Run
from kerasllm.tasks.task import task_of
from kerasllm.training.checkpoint_state import problem_of
from kerasllm.training.checkpoints import Checkpoint, CheckpointStore
from kerasllm.workflows.job import Job, schedule_of, steps_of

# What may differ without a word: it changes how a training runs and not what it computes.
_FREE = {
    "data.leaks",
    "model.trust",
    "training.strategy",
    "training.communication",
    "training.steps_per_execution",
    "training.max_shapes",
    "training.checkpoint_every",
    "training.checkpoint_minutes",
    "training.keep_checkpoints",
    "training.on_nan",
    "training.log_every",
    "training.gpu_memory",
    "training.track",
    # The values that they resolved to are compared.
    "training.xla",
    "training.precision",
}
# How a machine computes the numbers, in `Job.computed` and in the state of a checkpoint.
COMPUTED = ("fused", "xla", "slices")
# What the lengths that batches are padded to follow from, beside what the cache had.
_DECIDES_LENGTHS = ("data.", *(f"training.{name}" for name in ("batch_size", "accumulate", "seed")))
# What the number of slices follows from, beside the machine.
_DECIDES_SLICES = ("training.batch_size", "training.accumulate")
# What may be changed to train a finished run further.
_FURTHER = ("training.epochs", "training.max_steps", "training.early_stopping")


def find_run(output: str | Path | None, name: str, recipe: WholeRecipe | None = None) -> Run | None:
    """Returns the run to resume, or `None` if there is none yet.

    Args:
        output: The run directory. `None` takes the newest below `runs/NAME` that did not finish.
        name: Name of the recipe.
        recipe: What it is resumed by: where this has more steps than a finished run has done, that
            run is trained further. Defaults to `None`: a finished run is refused.

    Raises:
        RunError: If the directory holds a finished run that has no step left to do, or a search.
    """
    if output is None:
        paths = sorted((Path("runs") / name).glob("*/recipe.yaml"))
        runs = [Run(path.parent) for path in paths]
        unfinished = [run for run in runs if not run.metrics.is_file() and not run.is_search]
        return unfinished[-1] if unfinished else None
    run = Run(output)
    run.refuse_search()
    if run.metrics.is_file():
        _refuse_without_steps(run, recipe)
    return run if run.recipe.is_file() else None


def _newest_state(run: Run) -> dict | None:
    return CheckpointStore(run.checkpoints, problem=problem_of).newest_state()


def _refuse_without_steps(run: Run, recipe: WholeRecipe | None) -> None:
    """Refuses a finished run, unless the recipe was changed so that it has more steps."""
    state = _newest_state(run)
    if state is None:
        fix = "it has no checkpoint to resume from: start a new run from its weights, with "
        fix += f"--set {shlex.quote(f'model.preset={run.path}')} and another --output"
    else:
        done = state["states"]["monitor"]["steps"]
        if recipe is not None and further(run, recipe):
            _refuse_stopped_early(run, recipe, state)
            if steps_of(recipe.training, state["steps_per_epoch"]) > done:
                return
        epochs = -(-done // state["steps_per_epoch"]) + 1
        more = f"--set training.epochs={max(epochs, state['recipe']['training']['epochs'] + 1)}"
        if recipe is not None and _waited(state) >= _patience(recipe):
            more += " --set training.early_stopping=null"
        fix = (
            f"train it further, with more epochs than it had: {more}; or choose another directory "
            "with --output"
        )
    raise RunError("The run has finished; there is nothing to resume", where=str(run.path), fix=fix)


def _refuse_stopped_early(run: Run, recipe: WholeRecipe, state: dict) -> None:
    """Refuses what early stopping would end again before its first step."""
    waited = _waited(state)
    if waited >= _patience(recipe):
        raise RunError(
            f"Early stopping ended the run at step {state['states']['monitor']['steps']}: "
            f"{counted(waited, 'evaluation')} without a better "
            f"{recipe.training.early_stopping.metric}",
            where=str(run.path),
            fix="train it further with --set training.early_stopping=null, or with --set "
            f"training.early_stopping.patience={waited + 2}",
        )


def _waited(state: dict) -> int:
    """Returns for how many evaluations early stopping has waited at a checkpoint."""
    if state["recipe"]["training"].get("early_stopping") is None:
        return 0
    return state["states"].get("validation", {}).get("_waited", 0)


def _patience(recipe: WholeRecipe) -> float:
    stopping = recipe.training.early_stopping
    return math.inf if stopping is None else stopping.patience


def further(run: Run, recipe: WholeRecipe) -> frozenset[str]:
    """Returns the keys by which a run is trained further than its newest checkpoint was meant to.

    Of a finished run those are the keys that were changed; of one that was interrupted while it was
    trained further, those that its recipe has since then. They need not be accepted.
    """
    state = _newest_state(run)
    if state is None:
        return frozenset()
    before, now = _flat(_complete(state["recipe"], recipe)), _flat(recipe.model_dump())
    changed = frozenset(key for key in _FURTHER if before.get(key) != now[key])
    if not changed or run.metrics.is_file():
        return changed
    written = _flat(load(run.recipe, older_settings(run.recipe)).model_dump())
    return frozenset(key for key in changed if written.get(key) == now[key])


def describe_further(checkpoint: Checkpoint, job: Job) -> str:
    """Says how much longer a run is trained, and what that does to the learning rate."""
    then, step = checkpoint.state, checkpoint.step
    training = _complete(then["recipe"], job.recipe)["training"]
    before = SimpleNamespace(**{**job.recipe.training.model_dump(), **training})
    steps = steps_of(before, then["steps_per_epoch"])
    try:
        old = float(schedule_of(before, steps)(step))
    except (TypeError, ValueError, AttributeError):
        old = math.nan  # The recipe of the checkpoint is none of this version's.
    new = float(schedule_of(job.recipe.training, job.steps)(step))
    rate = f"stays at {new:.2e}" if old == new else f"jumps from {old:.2e} to {new:.2e}"
    schedule = job.recipe.training.schedule
    return (
        f"trained further: {job.steps:,} steps instead of {steps:,}; at step {step + 1:,} the "
        f"learning rate {rate} ({schedule}, now over all {job.steps:,})"
    )


def facts_of(job: Job) -> dict:
    """Returns what a checkpoint says about the training it is of."""
    return {
        "recipe": job.recipe.model_dump(),
        "data": job.data.fingerprints,
        "precision": job.precision,
        **job.computed,
        "steps_per_epoch": job.plan.steps,
    }


def computed_by(run: Run, recipe: WholeRecipe) -> dict:
    """Returns how the numbers of a run were computed, for `prepare` to keep it.

    Args:
        run: The run to resume.
        recipe: The recipe to resume it by. What was set in it otherwise follows from it again.

    Returns:
        Of `slices`, `fused` and `xla` those that the latest checkpoint has: an old one has none.
        And `lengths`: `None` of an old one, whose lengths were not shared.
    """
    state = _newest_state(run)
    if state is None:
        return {}
    before, now = _flat(_complete(state["recipe"], recipe)), _flat(recipe.model_dump())
    kept = list(COMPUTED)
    other_engine = _in_shards(before) != _in_shards(now)
    if other_engine or before.get("training.xla") != now["training.xla"]:
        kept = []
    elif any(before.get(key) != now[key] for key in _DECIDES_SLICES):
        kept.remove("slices")
    found = {key: state[key] for key in kept if key in state}
    changed = [key for key in {*before, *now} if before.get(key) != now.get(key)]
    if not (other_engine or any(key.startswith(_DECIDES_LENGTHS) for key in changed)):
        found["lengths"] = state.get("lengths")
    return found


def changes(checkpoint: Checkpoint, job: Job, free: Collection[str] = ()) -> list[str]:
    """Returns what differs between a checkpoint's training and a job, in words.

    Args:
        checkpoint: The checkpoint.
        job: The job that resumes from it.
        free: Keys that may differ, besides those that change no number. Defaults to none.
    """
    then, now = checkpoint.state, facts_of(job)
    before, after = _flat(_complete(then["recipe"], job.recipe)), _flat(now["recipe"])
    found = [
        f"{key} was {before.get(key)}, and is {after.get(key)}"
        for key in sorted({*before, *after} - _FREE - {*free})
        if _differ(key, before.get(key), after.get(key))
    ]
    found += [
        f"the {part} data are not the ones the run started with"
        for part in sorted({*then["data"], *now["data"]})
        if then["data"].get(part) != now["data"].get(part)
    ]
    if then["precision"] != now["precision"]:
        found.append(f"precision was {then['precision']}, and is {now['precision']}")
    return found + _computed_otherwise(then, now, before, after, job)


def _differ(key: str, before: object, after: object) -> bool:
    if key == "model.lora":
        return not same_lora(before, after)
    return before != after


def _complete(before: dict, recipe: WholeRecipe) -> dict:
    """Returns a checkpoint's recipe with the keys that are younger than it."""
    before = {name: dict(each) if isinstance(each, dict) else each for name, each in before.items()}
    for key, value in task_of(recipe).older.items():
        section, _, name = key.partition(".")
        if isinstance(before.get(section), dict):
            before[section].setdefault(name, value)
    try:
        return type(recipe).model_validate(before).model_dump()
    except RecipeError:
        # A key that is gone, or has other values today, is a change that is told.
        return before


def _computed_otherwise(then, now, before, after, job: Job) -> list[str]:
    """Returns what this machine computes otherwise than the one of the checkpoint."""
    found = []
    if _in_shards(before) or _in_shards(after):
        # JAX compiles all that it computes, and cuts no batch into slices of a core.
        return found
    # Checkpoints of older versions do not say it.
    if {"xla", "fused"} <= then.keys() and _by_xla(then) != _by_xla(now):
        found.append(
            f"XLA compiled {_by_xla(then)} and now compiles {_by_xla(now)}: training.xla was "
            f"{before.get('training.xla')}, and is {after.get('training.xla')}"
        )
    # Of several replicas each has a part of the batch, whose dropout is drawn by itself as well.
    alone = job.strategy.num_replicas_in_sync == 1
    same_batch = all(before.get(key) == after.get(key) for key in _DECIDES_SLICES)
    if alone and same_batch and then.get("slices", now["slices"]) != now["slices"]:
        found.append(f"a batch was computed in {then['slices']} slices, and is in {now['slices']}")
    return found


def _in_shards(flat: dict) -> bool:
    """Tells whether a flat recipe is that of a training in shards."""
    return is_sharded(str(flat.get("training.strategy")))


def _by_xla(state: dict) -> str:
    if state["xla"]:
        return "whole steps"
    return "element-wise work" if state["fused"] else "nothing"


def refuse_changes(found: list[str], run: Run) -> None:
    """Raises a `RunError` if there are changes."""
    if found:
        raise RunError(
            "The run was started differently: " + "; ".join(found),
            where=str(run.path),
            fix="continue with the original settings and data, or accept the changes with "
            "--accept-changes",
        )


def refuse_past_the_end(checkpoint: Checkpoint, job: Job, changed: bool) -> None:
    """Refuses a checkpoint that is at or after the end of a job that was changed."""
    at_end_of_epoch = not checkpoint.step % job.plan.steps
    if checkpoint.step < job.steps or not changed:
        return
    if checkpoint.step > job.steps or not at_end_of_epoch:
        raise RunError(
            f"The run has done {checkpoint.step} steps, and would end after {job.steps}",
            where=f"step {checkpoint.step}",
            fix="raise training.epochs or training.max_steps",
        )


def in_plan(checkpoint: Checkpoint, job: Job) -> Checkpoint:
    """Returns a checkpoint whose position is one in the job's plan.

    Where the data or the batch size were changed, an epoch has another number of steps: it
    continues at the same share of the training data.
    """
    before, now = checkpoint.state["steps_per_epoch"], job.plan.steps
    if before == now:
        return checkpoint
    step = checkpoint.step * now // before
    # The schedule of the learning rate counts steps as well.
    arrays = {
        name: array * now // before if name.endswith("/iteration") else array
        for name, array in checkpoint.arrays.items()
    }
    states = {name: dict(state) for name, state in checkpoint.state["states"].items()}
    states["monitor"]["steps"] = step
    if "validation" in states:
        states["validation"]["_steps"] = step
    return dataclasses.replace(
        checkpoint, step=step, arrays=arrays, state={**checkpoint.state, "states": states}
    )


def _flat(section: dict, prefix: str = "") -> dict:
    flat = {}
    for name, value in section.items():
        if isinstance(value, dict) and not prefix:
            flat |= _flat(value, f"{name}.")
        else:
            flat[prefix + name] = value
    return flat
