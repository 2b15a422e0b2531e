"""A trained model: a run directory or a preset, opened once, its recipe parsed once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasllm.errors import CommandError, RunError
from kerasllm.recipe import load
from kerasllm.run import Run
from kerasllm.tasks.task import Task, task_of, task_of_presets

if TYPE_CHECKING:
    import keras

    from kerasllm.explain.explainer import Explainer
    from kerasllm.generation.settings import GenerationSettings
    from kerasllm.generation.text import TextGenerator


@dataclass(frozen=True, eq=False)
class Trained:
    """A run directory or a preset whose recipe was read; its model is loaded by `open`.

    Nothing here imports TensorFlow before `open`.

    Attributes:
        source: What the user named.
        run: The run, or `None` of a preset.
        recipe: The recipe of the run, or `None` of a preset.
        task: The task of the model.
        strategy: `sharded...`, if the model is split over all devices. Defaults to `None`: it is on
            one.
    """

    source: str | Path
    run: Run | None
    recipe: Any | None
    task: Task
    strategy: str | None = None

    def under(self, strategy: str | None) -> Trained:
        """Returns the same, whose model will be opened under a strategy.

        Args:
            strategy: See `strategy` above.

        Raises:
            CommandError: If a model of the task cannot be split over devices.
        """
        if strategy and not self.task.sharded:
            raise CommandError(
                f"A model of the task {self.task.name} is not split over devices",
                where="--strategy",
                fix="leave it out",
            )
        return dataclasses.replace(self, strategy=strategy)

    @cached_property
    def folder(self) -> str | Path:
        """What the model is loaded from: `model/` of the run, or the preset."""
        return self.run.model if self.run else self.source

    @property
    def buckets(self) -> int:
        """The most lengths that batches are padded to."""
        return self.recipe.data.buckets if self.recipe else 16

    def test_data(self) -> str | list[str]:
        """Returns the files of the run's own test data, as its recipe names them.

        Raises:
            CommandError: If it has none, they are not there, or this is a preset.
        """
        if self.run is None or self.recipe is None:
            raise CommandError(
                "This is not a run directory, and a preset has no test data of its own",
                where=str(self.source),
                fix="name the data to evaluate on: --data FILE",
            )
        data = self.recipe.data
        if data.test is None:
            validated = data.validation or (data.validation_split and data.train)
            part = "" if data.validation else "a part of "
            known = f"; its validation data were {part}{_files(validated)}" if validated else ""
            raise CommandError(
                "The run has no test data of its own",
                where=f"data.test in {self.run.recipe}",
                fix=f"name the data to evaluate on: --data FILE{known}",
            )
        gone = [name for name in _listed(data.test) if _is_file_that_is_gone(name)]
        if gone:
            raise CommandError(
                "The run's own test data were not found",
                where=f"{gone[0]}: data.test in {self.run.recipe}",
                fix="change to the folder where training ran, or give --data FILE",
            )
        return data.test

    def open(
        self,
        *,
        precision: str | None = None,
        adapter: str | Path | None = None,
        progress: Callable[[str], None] | None = None,
        writes: bool = False,
    ) -> keras.Model:
        """Loads the model.

        Args:
            precision: A Keras dtype policy. Defaults to `None`: that of the recipe, else the
                fastest here.
            adapter: A folder with a PEFT adapter to put on it. Defaults to `None`.
            progress: Called with a line of text before something slow. Defaults to `None`.
            writes: Whether this process only writes text with it: TensorFlow's threads are set for
                that. Defaults to `False`.

        Raises:
            KerasllmError: If it cannot be found or read.
        """
        from kerasllm.generation.threads import cores_for_text
        from kerasllm.runtime.startup import prepare_process
        from kerasllm.training.precision import resolve_precision

        wanted = precision or (self.recipe.training.precision if self.recipe else "auto")
        # Of what TensorFlow was in use before nothing changes.
        prepare_process(
            slices=cores_for_text(self.folder, wanted) if writes else 1,
            gpu_memory=self.recipe.training.gpu_memory_limit if self.recipe else "growth",
        )
        with self._scope():
            return self.task.open(
                self.folder,
                precision=resolve_precision(wanted),
                adapter=adapter,
                progress=progress,
            )

    def _scope(self) -> AbstractContextManager:
        """Returns a context for `with`, in which the model is made."""
        if not self.strategy:
            return nullcontext()
        import keras

        # Several processes must begin random layers with the same seeds, also those that draw
        # nothing here.
        keras.utils.set_random_seed(0)
        return self._devices.scope()

    @property
    def shows_results(self) -> bool:
        """Whether this process is to show and write results: of several in shards the first."""
        from kerasllm.distribution.strategies import is_chief

        return self.strategy is None or is_chief(self._devices)

    def refuse_several_processes(self) -> None:
        """Raises a `CommandError` if the model is in parts that several processes hold."""
        from kerasllm.distribution.strategies import worker_count

        if self.strategy and (count := worker_count(self._devices)) > 1:
            raise CommandError(
                f"Only training and evaluation run in several processes, and there are {count}",
                where="--strategy",
                fix="give it on one machine, whose devices hold the whole model",
            )

    @cached_property
    def _devices(self) -> Any:
        """The strategy; other processes are met when it is first asked for."""
        from kerasllm.distribution import strategy

        return strategy(self.strategy or "one_device")

    def generator(
        self,
        settings: GenerationSettings,
        *,
        batch_size: int = 8,
        adapter: str | Path | None = None,
    ) -> TextGenerator:
        """Loads the model to generate with it.

        Args:
            settings: How.
            batch_size: The most prompts that are computed together. Defaults to `8`.
            adapter: As for `open`. Defaults to `None`.
        """
        from kerasllm.generation.text import TextGenerator

        model = self.open(adapter=adapter, writes=True)
        return TextGenerator(model, settings, batch_size=batch_size)

    def explainer(self) -> Explainer:
        """Loads the model to explain what it predicts: always in float32."""
        from kerasllm.explain.explainer import Explainer

        return Explainer(self.open(precision="float32"), self.task)


class KeptOpen(Trained):
    """Keeps its model, which is loaded once, and what was made to generate and explain with it."""

    @cached_property
    def model(self) -> keras.Model:
        return super().open()

    def open(
        self,
        *,
        precision: str | None = None,
        adapter: str | Path | None = None,
        progress: Callable[[str], None] | None = None,
        writes: bool = False,
    ) -> keras.Model:
        # A user's process does other things as well: its threads stay as they are.
        if precision or adapter:
            return super().open(precision=precision, adapter=adapter, progress=progress)
        return self.model

    def generator(
        self,
        settings: GenerationSettings,
        *,
        batch_size: int = 8,
        adapter: str | Path | None = None,
    ) -> TextGenerator:
        if adapter:
            return super().generator(settings, batch_size=batch_size, adapter=adapter)
        weights = _some_of(self.model)
        generator, read = self._generators.get(batch_size, (None, weights))
        if generator is None:
            generator = super().generator(settings, batch_size=batch_size)
        elif read != weights:
            # The user trained it, or set its weights.
            generator.generator.refresh()
        generator.settings = settings
        self._generators[batch_size] = (generator, weights)
        return generator

    def explainer(self) -> Explainer:
        from kerasllm.explain.explainer import Explainer

        weights = _some_of(self._in_float32)
        if weights not in self._explainers:
            # The user trained it, or set its weights.
            self._explainers.clear()
            self._explainers[weights] = Explainer(self._in_float32, self.task)
        return self._explainers[weights]

    @cached_property
    def _in_float32(self) -> keras.Model:
        from kerasllm.training.precision import resolve_precision

        wanted = self.recipe.training.precision if self.recipe else "auto"
        in_float32 = resolve_precision(wanted) == "float32"
        return self.model if in_float32 else super().open(precision="float32")

    @cached_property
    def _explainers(self) -> dict[bytes, Explainer]:
        return {}

    @cached_property
    def _generators(self) -> dict[int, tuple[TextGenerator, bytes]]:
        return {}


def _some_of(model: keras.Model) -> bytes:
    """Returns the first numbers of each weight; training changes most of them."""
    import keras

    firsts = (keras.ops.reshape(weight, [-1])[:4] for weight in model.weights)
    return b"".join(keras.ops.convert_to_numpy(first).tobytes() for first in firsts)


def _listed(spec: str | list[str]) -> list[str]:
    return [spec] if isinstance(spec, str) else spec


def _files(spec: str | list[str]) -> str:
    return ", ".join(_listed(spec))


def _is_file_that_is_gone(name: str) -> bool:
    """Returns whether a name is that of a file, and not of a glob or a data set, which is gone."""
    is_file = ":" not in name and not any(sign in name for sign in "*?[")
    return is_file and not Path(name).expanduser().exists()


def is_run(source: str | Path) -> bool:
    """Returns whether a name is that of a run directory, rather than of a preset."""
    return Run(source).recipe.is_file()


def open_run(source: str | Path) -> Trained:
    """Opens a finished run.

    Args:
        source: The run directory.

    Raises:
        RunError: If there is no such run, or it did not finish.
        RecipeError: If its recipe is refused.
    """
    run = Run.open(source)
    recipe = load(str(run.recipe))
    return Trained(source, run, recipe, task_of(recipe))


def open_trained(source: str | Path) -> Trained:
    """Opens a finished run, or takes anything else for a preset; see `open_run`."""
    if is_run(source):
        return open_run(source)
    return Trained(source, None, None, task_of_presets())


def open_generator_source(source: str | Path | Trained) -> Trained:
    """Opens a run whose model writes text, or a preset; takes what is open already as well.

    Raises:
        RunError: If it is a run of another kind.
    """
    trained = source if isinstance(source, Trained) else open_trained(source)
    if not trained.task.generates:
        raise RunError(
            f"The run trained a model of the task {trained.task.name}, which does not generate "
            "text",
            where=str(trained.source),
            fix="use `kerasllm predict` with it, or give the run of a language model",
        )
    return trained
