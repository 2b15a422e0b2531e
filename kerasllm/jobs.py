"""The Python API of jobs: train a model from a recipe, and open trained models."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kerasllm.data.tables import as_files
from kerasllm.errors import DataError, KerasllmError, RecipeError, RunError, worded_for_python
from kerasllm.models.remote import local
from kerasllm.run import Run
from kerasllm.signing import trust
from kerasllm.tasks.task import PARTS, task_of
from kerasllm.trained_model import TrainedModel
from kerasllm.workflows import remote_run
from kerasllm.workflows.trained import is_run, open_run, open_trained

if TYPE_CHECKING:
    from kerasllm.recipe import WholeRecipe


def finetune(
    recipe: str | Path | Mapping[str, Any] | WholeRecipe | None = None,
    *,
    train: Any = None,
    validation: Any = None,
    test: Any = None,
    text: str | None = None,
    label: str | None = None,
    output: str | Path | None = None,
    strategy: str | None = None,
    seed: int | None = None,
    resume: bool = False,
    accept_changes: bool = False,
    verbose: bool = True,
    model: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    **settings: Any,
) -> TrainedModel:
    """Trains a model from a recipe, like `kerasllm finetune`, and writes a run directory.

    The command gives the same weights for the same recipe, data and settings.

    Args:
        recipe: A recipe's name, a YAML file, or its content as a dict. Defaults to `None`: the
            recipe of the run that is resumed.
        train: Training data; replaces all data of the recipe: a file, a glob or a list of them;
            a pandas DataFrame, a pyarrow Table, a `datasets.Dataset` or a list of dicts. Defaults
            to `None`: the recipe's.
        validation: Validation data. Defaults to `None`: the recipe's, else a part of `train`.
        test: Test data, evaluated at the end. Defaults to `None`: the recipe's, else none.
        text: Column of the texts. Defaults to `None`: the recipe's.
        label: Column of the labels. Defaults to `None`: the recipe's.
        output: The run directory. Defaults to `None`: `runs/RECIPE/DATE-TIME`.
        strategy: `"auto"`, `"one_device"`, `"mirrored"`, `"multi_worker"`, `"tpu"`, `"tpu:NAME"` or
            `"virtual:N"`; `"sharded"` is for the commands. Defaults to `None`: the recipe's.
        seed: The random seed. Defaults to `None`: the recipe's.
        resume: Whether to resume from the latest checkpoint of `output`, or to start if there is
            none. Defaults to `False`.
        accept_changes: Whether to resume even if the recipe or the data have changed. Defaults to
            `False`.
        verbose: Whether progress is shown. Defaults to `True`.
        model: Keys of the section `model` that override the recipe's. Defaults to `None`.
        data: Keys of its section `data`. Defaults to `None`.
        training: Keys of its section `training`. Defaults to `None`.
        **settings: Keys by their dotted path, `**{"training.epochs": 3}`.

    Returns:
        The trained model, as `kerasllm.load` returns it for the run directory; `None` on workers
        other than the chief.

    Raises:
        RecipeError: If the recipe or a setting is refused, with the nearest known key.
        KerasllmError: If the data, the preset or the run directory is refused, the training fails,
            or a signal ended it.

    Example:

    ```python
    run = kerasllm.finetune(
        "bert_cls", train=df, text="review", label="stars", output="my_run",
        training={"epochs": 2, "learning_rate": 1e-4}, model={"lora": {"rank": 8}},
    )
    run.metrics["validation"]["accuracy"]
    ```
    """
    started = time.perf_counter()
    with worded_for_python():
        sections = {"model": model, "data": data, "training": training}
        given = {
            **{f"data.{name}": value for name, value in zip(PARTS, (train, validation, test))},
            "data.text": text,
            "data.label": label,
            "training.strategy": strategy,
            "training.seed": seed,
        }
        # A null inside a section is a value of its key; an argument's says that it is not given.
        named = {key: value for key, value in {**sections, **given}.items() if value is not None}
        overrides = {**settings, **named}
        name = Path(recipe).stem if isinstance(recipe, (str, os.PathLike)) else "finetune"
        loaded = _load(recipe, overrides, output, resume)

        from kerasllm.runtime.startup import import_tensorflow

        import_tensorflow()
        from kerasllm.workflows.finetune import finetune as run_finetune
        from kerasllm.workflows.report import Report

        run = run_finetune(
            loaded,
            name=name,
            output=output,
            resume=resume,
            accept_changes=accept_changes,
            command="kerasllm.finetune",
            started=started,
            report=Report() if verbose else Report.silent(),
        )
        # Only where several workers train is there none: every other caller may count on one.
        return cast(TrainedModel, run and TrainedModel(open_run(run.path)))


def load(source: str | Path) -> TrainedModel:
    """Opens a trained model; its weights are loaded on first use.

    Args:
        source: A run directory, or its address on an object store; or a preset of a language
            model: a name, `hf://OWNER/NAME`, a folder or a GGUF file.

    Raises:
        KerasllmError: If there is no such run or preset, or the run did not finish.

    Example:

    ```python
    kerasllm.load("my_run").predict(["A film to remember."])
    ```
    """
    with worded_for_python():
        source = local(source)
        folder = Path(source).expanduser()
        if folder.name == "model" and is_run(folder.parent):
            folder = folder.parent
        if is_run(folder):
            return TrainedModel(open_run(folder))
        if any(folder.glob("*/recipe.yaml")) or (isinstance(source, Path) and not folder.exists()):
            Run.open(folder)  # which says what is there instead
        _check_preset(folder if folder.exists() else str(source))
        return TrainedModel(open_trained(source))


def _load(
    recipe: Any, overrides: dict[str, Any], output: str | Path | None, resume: bool
) -> WholeRecipe:
    """Loads a recipe, or that of the run to resume, with settings over it."""
    from kerasllm import recipe as recipes
    from kerasllm.recipe.python_values import flat_settings

    settings = flat_settings(overrides)
    for part in PARTS:
        key = f"data.{part}"
        if settings.get(key) is not None:
            try:
                settings[key] = as_files(settings[key])
            except DataError as error:
                error.where = error.where or part
                raise
    if recipe is None:
        recipe = _of_run(output, resume)
        recipe = recipes.load(recipe, recipes.older_settings(recipe))
    loaded = recipes.load(recipe, settings)
    if not hasattr(loaded, "data"):
        raise RecipeError(
            f"The recipe is of the task {loaded.task}, which starts from a trained model",
            where=str(recipe),
            fix="`kerasllm compress RUN --recipe NAME` makes a smaller model of a run",
        )
    if settings.get("data.train") is None:
        recipes.refuse_missing_data(recipe, loaded)
    return loaded


def _of_run(output: str | Path | None, resume: bool) -> Path:
    if not (resume and output):
        raise RecipeError(
            "A recipe is missing",
            fix='name one, as in kerasllm.finetune("bert_cls"); or resume a run with resume=True '
            "and its directory as output",
        )
    if remote_run.is_remote(output):
        return remote_run.read_recipe(str(output))
    run = Run(output)
    if not run.recipe.is_file():
        raise RunError(
            "There is no run to resume", where=str(output), fix="start one by naming a recipe"
        )
    return run.recipe


def _check_preset(name: str | Path) -> None:
    """Refuses what is neither a run nor a language model, as far as its name or folder tells."""
    from kerasllm.models.presets import PRESETS, check_folder, resolve
    from kerasllm.recipe import load as load_recipe

    if isinstance(name, Path):
        trust.check(name)
        check_folder(name)
    elif name in PRESETS:
        recipe = PRESETS[name].recipe
        if not task_of(load_recipe(recipe)).generates:
            raise RunError(
                f"{name} is an encoder, which cannot predict before it is trained",
                fix=f'train it, kerasllm.finetune("{recipe}"), and load the run',
            )
    elif "://" not in name:
        try:
            resolve(name)
        except KerasllmError as error:
            folder = Path(name).expanduser()
            runs = [run.parent.name for run in folder.parent.glob("*/recipe.yaml")]
            near = difflib.get_close_matches(folder.name, runs, n=1)
            raise RunError(
                f"There is no run directory {name!r}, and {error.what}",
                fix=f"did you mean {folder.parent / near[0]}?" if near else error.fix,
            ) from None
