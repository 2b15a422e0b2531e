"""Open a causal language model: the one of a run, or a preset."""

from __future__ import annotations

from pathlib import Path

from kerasllm.errors import RunError
from kerasllm.models.adapters import load_adapter
from kerasllm.models.causal_lm import CausalLM
from kerasllm.models.decoder import load_causal_lm
from kerasllm.models.presets import Progress
from kerasllm.recipe import load
from kerasllm.run import Run
from kerasllm.training.precision import resolve_precision

_TASKS = ("causal_lm", "preference")


def is_run(name: str | Path) -> bool:
    """Returns whether a name is that of a run directory, rather than of a preset."""
    return Run(name).recipe.is_file()


def open_causal_lm(
    run_or_preset: str | Path,
    *,
    precision: str | None = None,
    adapter: str | Path | None = None,
    progress: Progress | None = None,
) -> CausalLM:
    """Loads the trained model of a run, or a pretrained one.

    Args:
        run_or_preset: A run directory, or what `gpt_causal_lm` takes.
        precision: A Keras dtype policy. Defaults to `None`: that of the run's recipe, else the
            fastest here.
        adapter: A folder with a PEFT adapter to put on it. Defaults to `None`.
        progress: Called with a line of text before something slow. Defaults to `None`.

    Raises:
        KerasllmError: If it cannot be found or read, or is no causal language model.

    Example:

    ```python
    model = open_causal_lm("my_run")
    ```
    """
    preset, wanted = run_or_preset, "auto"
    if is_run(run_or_preset):
        run = Run.open(run_or_preset)
        recipe = load(str(run.recipe))
        if recipe.task not in _TASKS:
            raise RunError(
                f"The run trained a model of the task {recipe.task}, which writes no text",
                where=str(run.path),
                fix="use `kerasllm predict` with it, or give the run of a language model",
            )
        preset, wanted = run.model, recipe.training.precision
    model = load_causal_lm(
        preset, precision=precision or resolve_precision(wanted), progress=progress
    )
    if adapter is not None:
        model.adapters = load_adapter(model.backbone, adapter)
    return model
