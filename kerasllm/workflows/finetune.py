"""Fine-tune a pretrained model from a recipe: the project's main job."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from pathlib import Path

import tensorflow as tf

from kerasllm.addresses import redact
from kerasllm.distribution.strategies import describe, is_chief, strategy, worker_count
from kerasllm.distribution.tf_config import read_tf_config
from kerasllm.environment import describe_environment
from kerasllm.errors import CommandError, Interrupted, JobError, RunError
from kerasllm.evaluation.plots import training_curve
from kerasllm.models import digests
from kerasllm.plurals import counted
from kerasllm.recipe import WholeRecipe
from kerasllm.recipe.strategy_names import is_sharded
from kerasllm.run import Run, read_json, write_json, write_text
from kerasllm.runtime.switches import off_that_change_numbers
from kerasllm.signing import trust
from kerasllm.tracking.listener import Tracking
from kerasllm.tracking.tracker import refuse_missing
from kerasllm.training.batches import training_batches
from kerasllm.training.checkpoint_state import problem_of
from kerasllm.training.checkpointing import Checkpoints, TrainingStopped, position
from kerasllm.training.checkpoints import Checkpoint, CheckpointStore
from kerasllm.training.host_values import whole_weights
from kerasllm.training.listeners import Listener
from kerasllm.training.metrics_log import MetricsLog
from kerasllm.training.profiler import Profile
from kerasllm.training.samples_log import SamplesLog
from kerasllm.workflows import finetune_summary as summary
from kerasllm.workflows import remote_run, saved_predictions
from kerasllm.workflows import resume as resuming
from kerasllm.workflows.audited import audited
from kerasllm.workflows.job import Job, prepare, prepare_process_for
from kerasllm.workflows.observed import observe
from kerasllm.workflows.report import Report
from kerasllm.workflows.sharded import refuse_unsupported
from kerasllm.workflows.signals import asked_to_stop

# What the loss of another worker looks like to those that are left.
_LOST_WORKER = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)


def finetune(
    recipe: WholeRecipe,
    *,
    name: str = "finetune",
    title: str | None = None,
    output: str | Path | None = None,
    resume: bool = False,
    accept_changes: bool = False,
    profile: tuple[int, int] | None = None,
    command: str = "",
    started: float | None = None,
    verbose: bool = False,
    report: Report | None = None,
) -> Run | None:
    """Trains a model by a recipe and leaves a run directory.

    Args:
        recipe: What to do; see `kerasllm.recipe.load`.
        name: Name of the recipe, for the run directory. Defaults to `"finetune"`.
        title: The file of the recipe, for its heading. Defaults to `None`: its name.
        output: The run directory, or its address on an object store, where it is mirrored to.
            Defaults to `None`: `runs/NAME/DATE-TIME`.
        resume: Continue from the latest checkpoint of the run directory; without an `output`,
            of the newest run of this name that did not finish. If there is no such run yet,
            start one. A finished run is trained further, where the recipe has more steps than it
            has done. Defaults to `False`.
        accept_changes: Continue even if the recipe or the data were changed. Defaults to `False`.
        profile: The first and the last step of a TensorBoard profile. Defaults to `None`: none.
        command: The command that was typed, for the record. Defaults to `""`.
        started: What `time.perf_counter()` said when the command began; until now it imported.
            Defaults to `None`: it begins now.
        verbose: Whether all keys of the recipe are shown, and not only what was changed. Defaults
            to `False`.
        report: Where progress is shown. Defaults to `None`: stderr.

    Returns:
        The run; `None` on a worker that is not the chief.

    Raises:
        KerasllmError: If the data, the preset or the run directory is refused, the training
            fails, or a signal ended it.

    Example:

    ```python
    recipe = kerasllm.recipe.load("bert_cls", ["training.epochs=2"])
    run = finetune(recipe, output="my_run")
    run.read_metrics()["test"]["accuracy"]
    ```
    """
    imported = time.perf_counter()
    started = imported if started is None else started
    report = report or Report()
    mirror = None
    if remote_run.is_remote(output):
        with report.busy(f"reading {redact(str(output))}"):
            mirror = remote_run.RemoteRun(str(output), resume=resume, warn=report.line)
        output = mirror.local
    run = resuming.find_run(output, name, recipe) if resume else None
    computed = resuming.computed_by(run, recipe) if run else None
    # Before the chief writes into the run.
    further = resuming.further(run, recipe) if run else frozenset()
    # Before anything else: threads, and some strategies, must come before TensorFlow's first
    # operation.
    too_late = prepare_process_for(recipe, computed)
    refuse_missing(recipe.training.trackers)
    if is_sharded(recipe.training.strategy):
        refuse_unsupported(recipe)
    where = _strategy(recipe, report)
    chief = is_chief(where)
    if not chief:
        report = Report.silent()
    if resume and output is None and worker_count(where) > 1:
        raise CommandError(
            "Several workers cannot tell which run to resume",
            where="--resume",
            fix="name the run directory, which all of them can read, with --output",
        )
    if is_sharded(recipe.training.strategy) and worker_count(where) > 1:
        _refuse_own_folders(output, mirror)
    if run is None and output is not None:
        Run(output).refuse_existing()
    summary.show_recipe(report, recipe, name, title, run=run, verbose=verbose)
    for line in too_late:
        report.line(line)
    job = prepare(recipe, report, where, computed=computed)
    summary.show_data(report, job)
    if run is None and (leak := summary.refused_leak(job)):
        raise leak
    summary.show_plan(report, job)

    if profile and profile[0] > job.steps:
        raise CommandError(
            f"The profile starts at step {profile[0]}, and the training has {job.steps}",
            where="--profile",
            fix=f"choose steps from 1 to {job.steps}",
        )
    begun = run is not None
    if chief and not begun:
        run = Run.create(output, name)
    with ExitStack() as held:
        if chief:
            held.enter_context(run.locked())
            trust.trust_own(run.path)
        checkpoint = None
        if begun:
            checkpoint = _checkpoint_to_resume_from(run, job, accept_changes, further, report)
        if chief:
            # Until it is written again, the run says that it did not finish.
            run.metrics.unlink(missing_ok=True)
            _record(run, job, command, checkpoint)
            if mirror:
                held.push(lambda kind, *_: kind and mirror.sync())
            ended = held.enter_context(audited(run, job, command, checkpoint))
            if mirror:
                mirror.finish()
        listeners: list[Listener] = []
        if chief:
            tracking = Tracking(run, recipe.training.trackers, report.line)
            listeners.append(held.enter_context(tracking))
        held.enter_context(_with_other_workers(job))
        place = mirror.address if mirror else run and run.path
        report.heading(f"Training into {place}" if run else "Training")
        if job.needs_reference:
            # Of the model at the beginning: before a checkpoint is restored into it.
            with report.busy("computing the reference log-probabilities"):
                job.prepare_reference()
        ready = time.perf_counter()
        in_parts = is_sharded(recipe.training.strategy) and not chief
        parts = CheckpointStore(Run(output).checkpoints) if in_parts else None
        metrics, timing = _train(
            job, run, checkpoint, profile, report, mirror, chief, listeners, parts
        )
        timing = {"import_seconds": round(imported - started, 3), **job.timing, **timing}
        timing["ready_seconds"] = round(ready - started, 3)
        with report.busy("finishing the model") as busy:
            finished = job.task.finish(job.recipe, job.model, job.data, busy.update)
        for line in finished.pop("remarks", ()):
            report.line(line)
        if finished:
            metrics = {
                **metrics,
                "validation": job.evaluate(job.data.validation).metrics,
                **finished,
            }
        trained = time.perf_counter()
        with whole_weights(job.model):
            if chief:
                with report.busy("saving the model"):
                    job.task.save(job.recipe, job.model, run)
                    digests.write_record(run.model, run.adapter)
        saved = time.perf_counter()
        timing["save_seconds"] = round(saved - trained, 3)
        found = None
        if job.data.test is not None:
            with report.busy("evaluating on the test data"):
                found = job.evaluate(job.data.test)
            metrics["test"] = found.metrics
            if chief:
                for name, figure in job.task.figures(found).items():
                    figure.savefig(run.path / f"{name}.png", format="png")
                saved_predictions.keep(job, run, found, report)
            timing["test_seconds"] = round(time.perf_counter() - saved, 3)
        if not chief:
            return None
        timing["total_seconds"] = round(time.perf_counter() - started, 3)
        # Last, because this file is what makes the run a whole one.
        write_json(run.metrics, {**metrics, "timing": timing})
        ended.done()
        saved_predictions.write_report(job, run, report, timing["total_seconds"])
        if trackers := recipe.training.trackers:
            with report.busy(f"sending to {' and '.join(trackers)}"):
                tracking.finish()
        if mirror:
            with report.busy(f"writing to {mirror.address}"):
                mirror.finish()
    summary.show_results(report, job, run, metrics, timing, found, checkpoint)
    if mirror:
        report.line(f"the run is at {mirror.address}; the paths above are the local copy")
    return run


def _refuse_own_folders(output: str | Path | None, mirror: remote_run.RemoteRun | None) -> None:
    """Refuses a training in shards whose processes do not write into one folder."""
    if output is None:
        raise CommandError(
            "Several processes do not know which run they write their parts of checkpoints to",
            where="--output",
            fix="name the run directory, which all of them can write, with --output",
        )
    if mirror:
        raise CommandError(
            "Several processes cannot write their parts of checkpoints to an object store",
            where="--output",
            fix="name a folder that all of them can write, such as one of a network file system",
        )


def _strategy(recipe: WholeRecipe, report: Report) -> tf.distribute.Strategy:
    """Returns the strategy of a recipe; tells whom it waits for, which can take long."""
    name = recipe.training.strategy
    waits = name in ("auto", "multi_worker") or is_sharded(name)
    cluster = read_tf_config() if waits else None
    if cluster and cluster.workers > 1:
        report.line(f"worker {cluster.index} waits until all {cluster.workers} workers are there")
    return strategy(name, communication=recipe.training.communication)


def _record(run: Run, job: Job, command: str, checkpoint: Checkpoint | None) -> None:
    """Notes in the run what it is made with."""
    # First, because this file is what makes the directory a run.
    write_text(run.recipe, job.recipe.to_yaml())
    environment = {
        **describe_environment(command, job.recipe.training.seed, job.data.fingerprints),
        "strategy": describe(job.strategy),
        "precision": job.precision,
        **job.computed,
        "rows": {part: len(rows) for part, rows in job.data.parts.items()},
        "contents": job.task.contents(job.data),
        **saved_predictions.facts_of_data(job),
    }
    if switched_off := off_that_change_numbers():
        environment["switched_off"] = switched_off
    if checkpoint is not None and run.environment.is_file():
        first = read_json(run.environment)
        again = {**environment, "from_step": checkpoint.step}
        environment = {**first, "resumed": [*first.get("resumed", []), again]}
    write_json(run.environment, environment)


def _checkpoint_to_resume_from(
    run: Run, job: Job, accept_changes: bool, further: frozenset[str], report: Report
) -> Checkpoint | None:
    """Returns the latest checkpoint that verifies, if the job is what it was saved by."""
    with report.busy("reading the checkpoint"):
        store = CheckpointStore(run.checkpoints, warn=report.line, problem=problem_of)
        checkpoint = store.newest()
    if checkpoint is None and run.metrics.is_file():
        raise RunError(
            "No checkpoint of the finished run can be read",
            where=str(run.checkpoints),
            fix="start a new training from its weights, with "
            f"--set {shlex.quote(f'model.preset={run.path}')} and another --output",
        )
    if checkpoint is None:
        report.line(f"{run.path} has no checkpoint yet: training starts from scratch")
        return None
    found = resuming.changes(checkpoint, job, further)
    if not accept_changes:
        resuming.refuse_changes(found, run)
    for change in found:
        report.line(f"accepted: {change}")
    checkpoint = resuming.in_plan(checkpoint, job)
    resuming.refuse_past_the_end(checkpoint, job, changed=bool(found or further))
    report.line(f"resuming after step {checkpoint.step} of {job.steps}")
    if further:
        report.line(resuming.describe_further(checkpoint, job))
    return checkpoint


def _train(
    job: Job,
    run: Run | None,
    checkpoint: Checkpoint | None,
    profile: tuple[int, int] | None,
    report: Report,
    mirror: remote_run.RemoteRun | None,
    chief: bool,
    listeners: Sequence[Listener],
    parts: CheckpointStore | None,
) -> tuple[dict, dict]:
    """Trains the job's model, and writes the log, the checkpoints and the training curve.

    Returns:
        The metrics of `train` and `validation`, and the timing.
    """
    training, workers = job.recipe.training, worker_count(job.strategy)
    done = checkpoint.step if checkpoint else 0
    log = MetricsLog()
    if chief:
        kept = checkpoint.state["states"]["log"]["rows"] if checkpoint else 0
        log = MetricsLog(run.metrics_log, run.tensorboard, kept)
    with log, report.training(job.steps, done) as progress:
        first = _FirstStep()
        samples = SamplesLog(run.samples if chief else None, done)
        observed = observe(job, report, [first, log, samples, progress, *listeners])
        callbacks = observed.callbacks
        if chief or parts:
            # The other workers wait at the next step until the chief has written; in shards each
            # computes its part of what is written.
            callbacks += job.task.callbacks(job.recipe, job.data, observed.listeners.samples)
        store = None
        if chief:
            store = CheckpointStore(
                run.checkpoints,
                keep=training.keep_checkpoints,
                warn=report.line,
                saved=mirror.sync if mirror else None,
            )
        guard, monitor, validation = observed.guard, observed.monitor, observed.validation
        states = {"guard": guard, "monitor": monitor, "log": log}
        checkpoints = Checkpoints(
            store,
            every=training.checkpoint_every,
            minutes=training.checkpoint_minutes,
            states=states | ({"validation": validation} if validation else {}),
            facts=resuming.facts_of(job),
            validation=validation,
            workers=workers,
            parts=parts,
        )
        if profile and chief and profile[1] <= done:
            report.line(f"no profile is written: step {profile[1]} was already done")
        elif profile and chief:
            callbacks.append(Profile(*profile, run.tensorboard))
        callbacks.append(checkpoints)
        if checkpoint:
            checkpoints.restore(job.model, checkpoint)

        def on_signal(signal) -> None:
            checkpoints.stop()
            # The signal may have come in the midst of another line.
            with suppress(RuntimeError):
                progress.note(
                    f"{signal.name}: finishing the step and saving a checkpoint; repeat to stop "
                    "immediately"
                )

        batches = training_batches(
            job.model,
            job.data.train,
            job.plan,
            job.epochs,
            first_step=done,
            seed=training.seed,
        )
        first.began = time.perf_counter()
        try:
            with (
                asked_to_stop(on_signal) as caught,
                store or nullcontext(),
                closing(observed.ahead),
            ):
                job.model.fit(
                    batches,
                    epochs=job.epochs,
                    steps_per_epoch=job.plan.steps,
                    callbacks=callbacks,
                    verbose=0,
                    **(position(checkpoint, job.plan.steps) if checkpoint else {}),
                )
        except TrainingStopped:
            raise _interrupted(caught.signal, job, run) from None
        except KeyboardInterrupt:
            saved = f"from step {checkpoints.saved}" if checkpoints.saved else "from the beginning"
            report.line(f"{run.path if run else 'The run'}: --resume continues {saved}")
            raise
    shapes = counted(len(monitor.shapes), "input shape")
    report.line(f"{shapes} {'compiled' if job.xla else 'traced'}")
    if validation and training.early_stopping:
        report.line(summary.kept_by_early_stopping(job, validation))
    if chief:
        training_curve(log.rows, run.curve, summary.learning_rates(job, log.rows, done))
    metrics = {
        "train": monitor.epoch_metrics,
        "validation": validation.result if validation else {},
        "test": {},
    }
    observed.listeners.ended(metrics)
    timing = {**first.timing, "trace_seconds": round(job.model.trace_seconds, 3)}
    if (first_uses := monitor.first_use_seconds()) is not None:
        # Where XLA compiles nothing, it is what TensorFlow does when it first sees a length.
        what = "compile" if job.xla or job.model.fused else "first_use"
        timing[f"{what}_seconds"] = round(max(first_uses - job.model.trace_seconds, 0), 3)
    return metrics, {**timing, **monitor.timing()}


class _FirstStep(Listener):
    """Measures how long it takes until the first step is done."""

    began = 0.0

    def __init__(self):
        self.timing: dict[str, float] = {}

    def step(self, step):
        if not self.timing:
            self.timing["first_step_seconds"] = round(time.perf_counter() - self.began, 3)


@contextmanager
def _with_other_workers(job: Job) -> Iterator[None]:
    """Says, in place of the engine's own error, that another worker has stopped."""
    try:
        yield
    except _LOST_WORKER as error:
        if worker_count(job.strategy) == 1:
            raise
        raise _lost_worker(error.message, job) from error
    except RuntimeError as error:
        # JAX's errors are of this kind.
        if not (is_sharded(job.recipe.training.strategy) and worker_count(job.strategy) > 1):
            raise
        # It imports JAX, which need not be installed.
        from kerasllm.distribution import sharded

        if not sharded.is_lost_peer(error):
            raise
        sharded.end_without_peers()
        raise _lost_worker(str(error), job) from error


def _lost_worker(reason: str, job: Job) -> JobError:
    return JobError(
        "Another worker has stopped, and training cannot continue without it: "
        f"{reason.partition(chr(10))[0][:200]}",
        where=f"after step {job.model.steps_done}",
        fix="see the log of the worker that stopped first; restart all with --resume",
    )


def _interrupted(signal, job: Job, run: Run | None) -> Interrupted:
    # Without a signal here, another worker had one.
    name = signal.name if signal else "another worker's signal"
    return Interrupted(
        f"{name} after step {job.model.steps_done} of {job.steps}; a checkpoint is saved",
        where=str(run.checkpoints) if run else None,
        fix="continue with the same command and --resume",
        signal=signal,
    )
