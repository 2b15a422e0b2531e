"""Compress the model of a run: quantization, pruning or distillation."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import keras

from kerasllm import audit
from kerasllm.compression.distill import distilled
from kerasllm.compression.measure import Comparison, Measured, bytes_of, seconds_in_turn
from kerasllm.compression.prune import MagnitudePruning, kernels_of, sparsity_of
from kerasllm.compression.quantize import quantize
from kerasllm.compression.run_model import Subject, recipe_of, subject_of
from kerasllm.compression.student import student_from, student_of
from kerasllm.environment import describe_environment
from kerasllm.errors import CommandError, JobError, RunError
from kerasllm.models import digests
from kerasllm.models.layers import trainable_share
from kerasllm.plurals import counted
from kerasllm.recipe.compression import (
    CompressionRecipe,
    DistillationRecipe,
    PruningRecipe,
    QuantizationRecipe,
)
from kerasllm.recipe.schema import WholeRecipe
from kerasllm.run import Run, whole_folder, write_json, write_text
from kerasllm.signing import trust
from kerasllm.tasks.task import task_of
from kerasllm.training.precision import resolve_precision
from kerasllm.workflows import compress_summary as summary
from kerasllm.workflows.compress_training import train
from kerasllm.workflows.finetune_summary import show_recipe
from kerasllm.workflows.report import Report

RECIPE = "compression.yaml"
"""The file of a run directory that says how its model was made of another one."""


@dataclass(frozen=True)
class Made:
    """A smaller model.

    Attributes:
        model: The model.
        metrics: Of its training, by part; none where it was not trained.
        timing: Of its training.
        facts: What else there is to tell, for `metrics.json`.
    """

    model: keras.Model
    metrics: dict
    timing: dict
    facts: dict


def compress(
    run: str | Path,
    recipe: CompressionRecipe,
    *,
    output: str | Path | None = None,
    name: str = "compress",
    command: str = "",
    report: Report | None = None,
) -> Run:
    """Makes a smaller model of a run, and a run directory with it.

    The new run has the recipe and the data of the old one, so that every command that accepts a run
    accepts it; `compression.yaml` says how it was made, `metrics.json` holds size, speed and
    quality before and after. Where more quality was lost than the recipe's limit, all of it is
    kept, is marked with `within_limit: false`, and a `JobError` tells the numbers.

    Args:
        run: A run directory: of a classifier, or for quantization also of a language model.
        recipe: What to do; a recipe of the tasks `quantization`, `pruning` or `distillation`.
        output: The new run directory. Defaults to `None`: `runs/NAME/DATE-TIME`.
        name: Name of the recipe. Defaults to `"compress"`.
        command: The command that was typed, for the record. Defaults to `""`.
        report: Where progress is shown. Defaults to `None`: stderr.

    Returns:
        The new run.

    Raises:
        KerasllmError: If the run, the recipe or the output is refused.
        JobError: If the model lost more than the limit, or the training failed.

    Example:

    ```python
    recipe = kerasllm.recipe.load("compress_distill", ["student.layers=2"])
    compress("my_run", recipe, output="smaller").read_metrics()["compression"]["after"]
    ```
    """
    started = time.perf_counter()
    report = report or Report()
    source = Run.open(run)
    _refuse_pair(recipe_of(source), recipe, source)
    if output is not None:
        Run(output).refuse_existing()
    show_recipe(report, recipe, name)
    with report.busy("reading the data") as busy:
        subject = subject_of(source, busy.update)
    made_run = Run.create(output, name)
    # Until all is there: what fails, or is interrupted, leaves nothing.
    with suppress(OSError):
        made_run.path.rmdir()
    with whole_folder(made_run.path) as folder:
        inside = Run(folder)
        trust.trust_own(inside.path)
        trust.trust_own(made_run.path)
        seed = getattr(recipe, "training", subject.recipe.training).seed
        write_text(inside.recipe, _origin(made_run.path.name) + load_text(source))
        write_text(folder / RECIPE, recipe.to_yaml(explain=True))
        environment = describe_environment(command, seed, subject.data.fingerprints)
        write_json(inside.environment, environment)
        keras.utils.set_random_seed(seed)
        made = _MAKERS[type(recipe)](subject, recipe, inside, report)
        with report.busy("saving the model"):
            subject.task.save(subject.recipe, made.model, inside)
            digests.write_record(inside.model, inside.adapter)
        comparison, metrics = _compare(subject, recipe.limit, inside, report)
        timing = {**made.timing, "total_seconds": round(time.perf_counter() - started, 3)}
        compression = {"method": method_of(recipe), **comparison.as_json(), **made.facts}
        parts = {"train": {}, "validation": {}, "test": {}, **made.metrics, subject.part: metrics}
        write_json(inside.metrics, {**parts, "timing": timing, "compression": compression})
        audit.note(
            folder,
            "compress",
            command=command,
            recipe=digests.sha256_of(folder / RECIPE),
            data=dict(subject.data.fingerprints),
            preset={"name": str(source.model), "fingerprint": digests.fingerprint(source.model)},
            parent=audit.parent_of(source.path),
            outcome="done",
            within_limit=comparison.within_limit,
        )
    summary.show(report, subject, comparison, made.facts, made_run)
    if not comparison.within_limit:
        raise JobError(
            f"The compressed model lost {comparison.lost:.2%} of its {comparison.metric}, and the "
            f"limit is {comparison.limit:.2%}: {summary.change(comparison)}",
            where=str(made_run.path),
            fix=f"{_ADVICE[type(recipe)]}; or allow more with --limit. The model is kept, and "
            "metrics.json says within_limit: false",
        )
    return made_run


def method_of(recipe: CompressionRecipe) -> str:
    """Returns the name of a recipe's method, as `--method` takes it."""
    if isinstance(recipe, QuantizationRecipe):
        return recipe.quantization.method
    return "prune" if isinstance(recipe, PruningRecipe) else "distill"


def load_text(run: Run) -> str:
    """Returns the recipe of a run as it was written."""
    return run.recipe.read_text(encoding="utf-8")


def _origin(name: str) -> str:
    return (
        f"# The model of this run was compressed from another one with {RECIPE}. What follows is "
        "the recipe\n"
        "# of that run: it names the data, and trains the larger model.\n"
    )


def _refuse_pair(trained: WholeRecipe, recipe: CompressionRecipe, run: Run) -> None:
    if not isinstance(recipe, CompressionRecipe):
        raise CommandError(
            f"The recipe is of the task {recipe.task}, which does not compress models",
            where="--recipe",
            fix="name compress_int8, compress_prune, compress_distill or the like; see "
            "`kerasllm recipes list`",
        )
    known = task_of(trained).compressions
    if method_of(recipe) not in known:
        raise RunError(
            f"Models of the task {trained.task} cannot be compressed with {method_of(recipe)}",
            where=str(run.path),
            fix=f"use --method {', '.join(known[:-1])} or {known[-1]}",
        )


def _quantized(subject: Subject, recipe: QuantizationRecipe, run: Run, report: Report) -> Made:
    settings = recipe.quantization
    with report.busy("loading the model") as busy:
        model = subject.open(subject.run.model, "float32")
        inputs = None
        if settings.method in ("gptq", "awq"):
            inputs = subject.inputs(settings.rows, tuple(model.task.backbone.input))
            rows, length = inputs["token_ids"].shape
            busy.update(f"quantizing on {counted(rows, 'row')} of {counted(length, 'token')}")
        else:
            busy.update("quantizing")
        quantize(model.task.backbone, settings, inputs, busy.update)
    return Made(model, {}, {}, {})


def _pruned(subject: Subject, recipe: PruningRecipe, run: Run, report: Report) -> Made:
    settings = recipe.pruning
    with report.busy("loading the model"):
        model = subject.open(subject.run.model, resolve_precision(recipe.training.precision))
        subject.prepare_retraining(model)
    kernels = kernels_of(model.task.backbone, embeddings=settings.embeddings)
    metrics, timing = train(
        subject,
        model,
        recipe.training,
        run,
        report,
        lambda steps: [MagnitudePruning(kernels, settings, steps)],
    )
    with report.busy("finishing the model") as busy:
        metrics = subject.finish(model, metrics, busy.update)
    layers = sparsity_of(kernels)
    zeros = sum(layers[name] * kernels[name].value.shape.num_elements() for name in layers)
    total = sum(kernel.value.shape.num_elements() for kernel in kernels.values())
    whole = trainable_share(model.task)[1]
    facts = {"sparsity": zeros / total, "sparsity_of_all": zeros / whole, "layers": layers}
    return Made(model, metrics, timing, facts)


def _distilled(subject: Subject, recipe: DistillationRecipe, run: Run, report: Report) -> Made:
    settings = recipe.student
    precision = resolve_precision(recipe.training.precision)
    options = {"dropout": settings.dropout, "precision": precision}
    with report.busy("loading the teacher") as busy:
        teacher = subject.open(subject.run.model, precision)
        subject.prepare_retraining(teacher)
        busy.update("building the student")
        if settings.preset:
            student = student_from(settings.preset, teacher, **options)
        else:
            student = student_of(teacher, settings.layers, start=settings.start, **options)
    model = distilled(student, teacher, **recipe.distillation.model_dump())
    metrics, timing = train(subject, model, recipe.training, run, report)
    with report.busy("finishing the model") as busy:
        metrics = subject.finish(student, metrics, busy.update)
    return Made(student, metrics, timing, {})


_MAKERS = {
    QuantizationRecipe: _quantized,
    PruningRecipe: _pruned,
    DistillationRecipe: _distilled,
}
_ADVICE = {
    QuantizationRecipe: "use a method with more bits, or a smaller quantization.group_size",
    PruningRecipe: "lower pruning.sparsity, or train longer with training.epochs",
    DistillationRecipe: "raise student.layers, or train longer with training.epochs",
}


def _compare(subject: Subject, limit: float, run: Run, report: Report) -> tuple[Comparison, dict]:
    """Measures the model that there was and the one that was saved, in turn.

    Returns:
        The comparison, and all metrics of the new model.
    """
    precision = resolve_precision(subject.recipe.training.precision)
    folders = (subject.run.model, run.model)
    with report.busy("measuring") as busy:
        # As saved: what is measured is what others will load.
        models = [subject.open(folder, precision) for folder in folders]
        results = []
        for model, which in zip(models, ("before", "after"), strict=True):
            rows = counted(len(subject.rows), "row")
            busy.update(f"measuring the quality {which}, on {rows}")
            results.append(subject.evaluate(model))
        busy.update("measuring the speed of both, alternating")
        seconds = seconds_in_turn([lambda model=model: subject.evaluate(model) for model in models])
        busy.update("measuring the sizes")
        before, after = (
            Measured(
                *bytes_of(folder),
                parameters=trainable_share(model.task)[1],
                rows_per_second=round(len(subject.rows) / elapsed, 1),
                quality={name: x for name, x in found.metrics.items() if isinstance(x, float)},
            )
            for folder, model, elapsed, found in zip(folders, models, seconds, results, strict=True)
        )
    one, other = (found.decisions for found in results)
    agreement = None
    if one is not None:
        same = (one == other).reshape(len(one), -1).all(axis=1)
        agreement = float(same.mean())
    headline = subject.task.headline_of(results[0].metrics)
    comparison = Comparison(
        headline.metric, headline.higher_is_better, limit, before, after, agreement
    )
    return comparison, results[1].metrics
