"""The interface of an experiment tracker."""

from __future__ import annotations

import abc
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from kerasllm.errors import CommandError


class Tracker(abc.ABC):
    """A run, as a tracker has it.

    It is begun by a name or, where an `id` is given, continued. Any failure may raise: the
    training does not end for it, and what was not sent is sent later.

    Args:
        folder: The run directory.
        facts: What is known of the run at its beginning: `name`, `project`, and `recipe`, every key
            by its dotted name.
        id: What `id` was when the run began. Defaults to `None`: it begins.

    Attributes:
        package: What is imported; its extra of kerasllm is called as the tracker is.
        id: What the tracker calls the run.
        where: Where it is shown, such as a URL.
    """

    package: ClassVar[str]

    id: str
    where: str

    @abc.abstractmethod
    def __init__(self, folder: Path, facts: Mapping[str, Any], id: str | None = None): ...

    @abc.abstractmethod
    def log(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Sends rows: the step and its numbers, by name."""

    @abc.abstractmethod
    def finish(self, summary: Mapping[str, Any], files: Sequence[Path]) -> None:
        """Sends what is known at the end: final metrics and fingerprints, and files."""

    @abc.abstractmethod
    def close(self, *, finished: bool) -> None:
        """Ends the connection; a run that is not finished may be continued."""


def find(name: str) -> type[Tracker]:
    """Returns the class of a tracker, one of `kerasllm.recipe.training.TRACKERS`.

    Its module is `kerasllm.tracking.NAME_tracker`.
    """
    module = importlib.import_module(f"kerasllm.tracking.{name}_tracker")
    return next(
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Tracker) and kind is not Tracker
    )


def refuse_missing(names: Sequence[str]) -> None:
    """Refuses trackers whose package is not installed, without importing any.

    Raises:
        CommandError: If one is missing, with how to install it.
    """
    for name in names:
        if importlib.util.find_spec(find(name).package) is None:
            raise CommandError(
                f"Tracking by {name} needs a package that is not installed",
                where="training.track",
                fix=f'pip install "kerasllm[{name}]"',
            )
