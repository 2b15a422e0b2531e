"""A training that is ready for its first step: data, model, plan, all compiled."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from kerasllm.data.batch_plan import EpochPlans
from kerasllm.data.pipeline import needs_one_shape, replica_rows
from kerasllm.data.report.before_training import ShortCheck, check_rows
from kerasllm.distribution.strategies import kind_of
from kerasllm.distribution.tf_config import read_tf_config
from kerasllm.errors import CommandError, RecipeError
from kerasllm.models.initial_weights import drawn_by_tensorflow
from kerasllm.models.layers import layer_depths
from kerasllm.models.presets import resolve
from kerasllm.recipe import WholeRecipe
from kerasllm.runtime.startup import prepare_process
from kerasllm.runtime.threads import slices_for
from kerasllm.signing import trust
from kerasllm.storage import told
from kerasllm.tasks.task import Evaluation, Task, task_of
from kerasllm.training.fit import FineTunedModel
from kerasllm.training.optimizers import build_optimizer, layer_rates
from kerasllm.training.precision import resolve_precision, resolve_xla
from kerasllm.training.schedules import WarmupSchedule, warmup_steps
from kerasllm.training.shapes import settle
from kerasllm.workflows.report import Report


@dataclass(frozen=True, eq=False)
class Job:
    """All that a training needs, ready for its first step.

    Attributes:
        recipe: The recipe.
        strategy: The strategy that it runs under.
        data: What the task read: `train`, `validation` and `test`, and all about them.
        model: The compiled model.
        plan: Gives the batches of an epoch by its number.
        precision: The dtype policy that the recipe's `precision` resolved to.
        xla: Whether XLA compiles forward and backward.
        fused: Whether XLA fuses element-wise work on a CPU.
        slices: Slices that a micro-batch is computed in.
        checked: What was found in the data: leaks, duplicates, labels in conflict.
        timing: Seconds that it took to get ready, by what they were spent on: `data_seconds` and
            `load_seconds`.
    """

    recipe: WholeRecipe
    strategy: tf.distribute.Strategy
    data: Any
    model: FineTunedModel
    plan: EpochPlans
    precision: str
    xla: bool
    fused: bool = False
    slices: int = 1
    checked: ShortCheck = field(default_factory=ShortCheck)
    timing: Mapping[str, float] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return steps_of(self.recipe.training, self.plan.steps)

    @property
    def epochs(self) -> int:
        """Epochs that the steps take; the last one may end early, see `training.max_steps`."""
        return -(-self.steps // self.plan.steps)

    @property
    def warmup_steps(self) -> int:
        """Steps in which the learning rate rises."""
        return warmup_steps(self.recipe.training.warmup, self.steps)

    @property
    def replica_rows(self) -> int:
        """Rows of a replica's part of a batch, padding rows included."""
        return replica_rows(
            self.plan.batch_size,
            self.strategy.num_replicas_in_sync,
            self.recipe.training.accumulate,
        )

    @property
    def computed(self) -> dict:
        """How this machine computes the numbers, beside the recipe: a resumed run keeps it."""
        return {
            "xla": self.xla,
            "fused": self.model.fused,
            "slices": self.model.slices,
            "lengths": self.plan.boundaries.tolist(),
        }

    @property
    def needs_reference(self) -> bool:
        """Whether the task's loss compares with what the model gave before the training."""
        return type(self.task).prepare_reference is not Task.prepare_reference

    def prepare_reference(self) -> None:
        """Computes what the task's loss compares with; see `needs_reference`."""
        with self.strategy.scope():
            self.task.prepare_reference(self.recipe, self.model, self.data)

    def rows_of(self, step: int) -> str:
        """Says which rows of the files make up a step, by its number in the training."""
        epoch, step = divmod(step, self.plan.steps)
        rows = self.plan(epoch).rows(step)
        lines: dict[str, list[int]] = {}
        for file, line in (place for row in rows for place in self.data.train.places(int(row))):
            lines.setdefault(file, []).append(line)
        return "; ".join(
            f"{file}, lines {', '.join(map(str, sorted(found)))}" for file, found in lines.items()
        )

    @property
    def task(self) -> Task:
        """The recipe's task."""
        return task_of(self.recipe)

    def evaluate(self, rows: Any) -> Evaluation:
        """Measures the model on some rows."""
        return self.task.evaluate(self.model, rows, buckets=self.recipe.data.buckets)


def prepare(
    recipe: WholeRecipe,
    report: Report,
    strategy: tf.distribute.Strategy | None = None,
    *,
    one_shape: bool = False,
    computed: Mapping[str, Any] | None = None,
) -> Job:
    """Reads the data, loads the model and compiles it.

    Args:
        recipe: The recipe.
        report: Where progress is shown.
        strategy: The strategy to train under. Defaults to `None`: TensorFlow's default one.
        one_shape: Whether all batches have one length, as a TPU wants it. Defaults to `False`: if
            the strategy is a TPU's.
        computed: Values of `Job.computed` to keep, as those of the run that is resumed. Defaults to
            `None`: they follow from the recipe and the machine.

    Raises:
        KerasllmError: If the data, the preset or the plan is refused.
    """
    strategy = strategy or tf.distribute.get_strategy()
    training = recipe.training
    keras.utils.set_random_seed(training.seed)
    computed = dict(computed or {})
    # `None`: those of an older version, whose lengths were not shared.
    lengths = computed.get("lengths", ())
    precision = resolve_precision(training.precision)
    xla = computed.get("xla", resolve_xla(training.xla))
    task = task_of(recipe)
    started = time.perf_counter()
    with report.busy("reading the data") as busy:
        with told(busy.update):
            _check_trust(recipe, busy.update)
            data = task.load(recipe, busy.update)
        if training.early_stopping and data.validation is None:
            raise CommandError(
                "Early stopping needs validation data, and there is none",
                where="training.early_stopping",
                fix="give --validation FILE, or set data.validation_split above 0",
            )
        checked = _checked(recipe, data)
        read = time.perf_counter()
        busy.update(f"loading the weights of {recipe.model.preset or 'a new model'}")
        sharded = kind_of(strategy) == "sharded"
        with strategy.scope(), drawn_by_tensorflow() if sharded else nullcontext():
            model = task.build(recipe, data, precision)
    # A batch holds no more rows than there are, in whole micro-batches: the rest would be padding.
    most_rows = -(-len(data.train) // training.accumulate) * training.accumulate
    buckets = 1 if one_shape or needs_one_shape(strategy) else recipe.data.buckets
    plan = EpochPlans(
        data.train.lengths,
        min(training.batch_size, most_rows),
        buckets,
        seed=training.seed,
        pad_to=model.pad_to,
        longest=None if lengths is None else getattr(recipe.data, "max_length", None),
    )
    slices = min(
        computed.get("slices", slices_of(recipe)),
        # None is empty.
        max(plan.batch_size // training.accumulate, 1),
    )
    xla, fused = settle(
        model,
        plan,
        steps_of(training, plan.steps),
        rows=plan.batch_size // training.accumulate // slices,
        buckets=buckets,
        xla=xla,
        fused=computed.get("fused", None if training.xla == "auto" else False),
        auto=training.xla == "auto" and "xla" not in computed and buckets > 1 and not sharded,
        lengths=lengths,
    )
    if xla and len(plan.boundaries) > training.max_shapes:
        raise RecipeError(
            f"XLA would compile for {len(plan.boundaries)} sequence lengths, but "
            f"training.max_shapes is {training.max_shapes}",
            where="data.buckets",
            fix="lower data.buckets, raise training.max_shapes, or set training.xla=false",
        )
    _refuse_end_within_execution(training, plan.steps)
    timing = {"data_seconds": round(read - started, 3)}
    job = Job(recipe, strategy, data, model, plan, precision, xla, fused, slices, checked, timing)
    with strategy.scope():
        compile_model(job)
    timing["load_seconds"] = round(time.perf_counter() - read, 3)
    return job


def _check_trust(recipe: WholeRecipe, notify: Callable[[str], None]) -> None:
    """Refuses what a recipe begins with, unless the keys that it names have signed it."""
    if trusted := getattr(recipe.model, "trust", None):
        if recipe.model.preset is not None:
            resolve(recipe.model.preset, notify, trusted)
        if (adapter := getattr(recipe.model, "adapter", None)) is not None:
            trust.check(adapter, trusted)


def _checked(recipe: WholeRecipe, data: Any) -> ShortCheck:
    """Compares the rows of the parts, unless the recipe wants to know of no leak."""
    if getattr(recipe.data, "leaks", "warn") == "ignore":
        return ShortCheck()
    return check_rows(data.parts, recipe.data.max_length)


def steps_of(training: Any, epoch: int) -> int:
    """Returns the optimizer steps of a whole training.

    Args:
        training: The section `training` of a recipe.
        epoch: Steps of an epoch.
    """
    steps = epoch * training.epochs
    return steps if training.max_steps is None else min(steps, training.max_steps)


def schedule_of(training: Any, steps: int) -> WarmupSchedule:
    """Returns the learning rate of each step.

    Args:
        training: The section `training` of a recipe.
        steps: All steps of the training.
    """
    warmup = warmup_steps(training.warmup, steps)
    return WarmupSchedule(training.learning_rate, steps, warmup, training.schedule, training.power)


def _refuse_end_within_execution(training: Any, epoch: int) -> None:
    """Refuses a last step that Python would not see; executions begin again with each epoch."""
    size, most = training.steps_per_execution, training.max_steps
    if most is None or most >= epoch * training.epochs:
        return
    whole, rest = divmod(most, epoch)
    if rest % size:
        near = whole * epoch + rest // size * size or min(size, epoch)
        raise RecipeError(
            f"max_steps {most} ends within an execution of {size} steps",
            where="training.max_steps",
            fix=f"set training.max_steps={near}, or training.steps_per_execution=1",
        )


def prepare_process_for(
    recipe: WholeRecipe, computed: Mapping[str, Any] | None = None
) -> list[str]:
    """Sets up the process for a training, before TensorFlow's first operation.

    Args:
        recipe: The recipe.
        computed: As in `prepare`. Defaults to `None`.

    Returns:
        A line for each setting that came too late, as where Python code used TensorFlow before.
    """
    slices = (computed or {}).get("slices", slices_of(recipe))
    return prepare_process(
        # Of several replicas each computes its part of a batch whole.
        slices=slices if _is_alone(recipe) else 1,
        gpu_memory=recipe.training.gpu_memory_limit,
    )


def slices_of(recipe: WholeRecipe) -> int:
    """Returns how many slices a micro-batch is computed in on this machine, where that is faster.

    Those of tasks that may be sliced are, on one device.
    """
    training = recipe.training
    sliced = task_of(recipe).sliced and training.xla in ("auto", False)
    if sliced and _is_alone(recipe):
        return slices_for(training.batch_size // training.accumulate)
    return 1


def _is_alone(recipe: WholeRecipe) -> bool:
    """Returns whether a recipe trains on one device, as far as can be told before TensorFlow."""
    return recipe.training.strategy in ("auto", "one_device") and read_tf_config() is None


def compile_model(
    job: Job, schedule: keras.optimizers.schedules.LearningRateSchedule | None = None
) -> None:
    """Compiles the job's model with the optimizer, the schedule and the loss of its recipe.

    Args:
        job: The job.
        schedule: The learning rate of each step. Defaults to `None`: the recipe's.
    """
    training = job.recipe.training
    variables = job.model.trainable_variables
    if training.l2:
        for variable in variables:
            if variable.name == "kernel":
                variable.regularizer = keras.regularizers.L2(training.l2)
    rates = None
    if training.layer_decay < 1:
        rates = layer_rates(layer_depths(job.model.task), training.layer_decay)
    if schedule is None:
        schedule = schedule_of(training, job.steps)
    optimizer = build_optimizer(
        training.optimizer,
        schedule,
        variables,
        weight_decay=training.weight_decay,
        clip_norm=training.clip_norm,
        ema=training.ema,
        multipliers=rates,
    )
    job.model.compile(
        optimizer,
        job.task.loss(job.recipe, job.data),
        accumulate=training.accumulate,
        # A TPU compiles everything by itself.
        xla=job.xla and not needs_one_shape(job.strategy),
        fused=job.fused,
        slices=job.slices,
        steps_per_execution=training.steps_per_execution,
    )
