"""What a task brings to its tests: toy data, as `tests/tasks/toys/NAME.py` of its name."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_TOYS = Path(__file__).parent / "toys"
_MISSING = """\
The task {name} has no toy data. Write {file} with

    VARIANTS = {{"one label": one_label}}

    def one_label(folder: Path, preset: Path | None) -> Toy: ...

where `folder` is an empty folder for the data, `preset` a toy preset of the task's preset_kind, and
`Toy` that of tests.tasks.toy_task."""


@dataclass(frozen=True)
class Toy:
    """A training of seconds that learns.

    Attributes:
        recipe: A shipped recipe, or the path of one.
        settings: What it sets: the data, the preset, and what makes it a training of seconds.
        inputs: What `Task.predict` takes, some of them. Defaults to none, for a task without it.
        falls: The share of the first step's loss that the last step has at most. Defaults to `0.6`.
        data: What `evaluate` is given. Defaults to `None`: the test data of the run.
        measures_test: Whether the saved model can be measured on the test part of the training;
            not where that needs what only the training has. Defaults to `True`.
        refuses: The formats of `kerasllm export` that do not hold its models. Defaults to none.
    """

    recipe: str
    settings: Mapping[str, Any]
    inputs: Sequence[Any] = ()
    falls: float = 0.6
    data: str | None = None
    measures_test: bool = True
    refuses: frozenset[str] = field(default_factory=frozenset)

    @property
    def overrides(self) -> list[str]:
        """The settings as `--set` takes them."""
        return [f"{key}={json.dumps(value)}" for key, value in self.settings.items()]


def variants(task: str) -> dict[str, Callable[[Path, Path | None], Toy]]:
    """Returns what makes each toy of a task, by its name.

    Raises:
        LookupError: The task has none; it says what to write.
    """
    file = _TOYS / f"{task}.py"
    if not file.is_file():
        raise LookupError(_MISSING.format(name=task, file=f"tests/tasks/toys/{task}.py"))
    return importlib.import_module(f"tests.tasks.toys.{task}").VARIANTS
