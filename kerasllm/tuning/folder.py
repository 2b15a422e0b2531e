"""The folder of a search: what it searches, its trials, and what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from kerasllm import recipe as recipes
from kerasllm.errors import RunError
from kerasllm.recipe import WholeRecipe
from kerasllm.run import SEARCH, read_json, write_json, write_text
from kerasllm.tuning.space import Space, space_of
from kerasllm.tuning.trial_run import TrialRun, hold

CHANGE_NOTHING = (
    "data.leaks",
    "model.trust",
    *(
        f"training.{key}"
        for key in ("checkpoint_every", "checkpoint_minutes", "keep_checkpoints", "log_every")
    ),
    "training.gpu_memory",
    "training.track",
)
"""Keys that change no number of a training, and may differ when others of the kind follow."""


class SearchFolder:
    """The files of a search.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.recipe = self.path / "recipe.yaml"
        self.space = self.path / "space.yaml"
        self.settings = self.path / SEARCH
        self.trials = self.path / "trials"
        self.best = self.path / "best.yaml"
        self.table = self.path / "trials.csv"
        self.history = self.path / "history.svg"
        self.importance = self.path / "importance.svg"
        self.result = self.path / "result.json"

    @property
    def exists(self) -> bool:
        """Whether the folder holds a search."""
        return self.settings.is_file()

    def begin(self, space: Space, settings: Mapping[str, Any]) -> bool:
        """Makes the folder, or continues the search that is in it.

        Args:
            space: What is searched.
            settings: What else decides which search it is.

        Returns:
            Whether there was such a search.

        Raises:
            RunError: If the folder holds something else, or another search.
        """
        if self.exists:
            self._refuse_another(space, settings)
            # With what may differ.
            write_text(self.recipe, space.recipe.to_yaml())
            return True
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise RunError(
                "The folder does not hold a search",
                where=str(self.path),
                fix="choose another folder with --output",
            )
        self.trials.mkdir(parents=True, exist_ok=True)
        write_text(self.recipe, space.recipe.to_yaml())
        write_text(self.space, space.as_yaml())
        # Last: it is what makes the folder a search.
        write_json(self.settings, dict(settings))
        return False

    def read(self) -> tuple[Space, dict[str, Any]]:
        """Returns what the search in the folder is of.

        Raises:
            RunError: If there is none.
        """
        if not self.exists:
            raise RunError(
                "There is no search to resume",
                where=str(self.path),
                fix="start one with --recipe, or give its folder with --output",
            )
        noted = read_json(self.settings)
        if missing := {"name", "metric", "storage"} - noted.keys():
            raise RunError(
                f"The file is not what kerasllm wrote: it lacks {', '.join(sorted(missing))}",
                where=str(self.settings),
                fix="restore it, or start another search with another --output",
            )
        recipe = recipes.load(self.recipe)
        return space_of(recipe, [str(self.space)]), noted

    def trials_asked(self, trials: int | None, default: int) -> int:
        """Notes how many trials the search has; returns what was noted, where none are given."""
        noted = read_json(self.settings)
        asked = trials or noted.get("trials") or default
        if asked != noted.get("trials"):
            write_json(self.settings, {**noted, "trials": asked})
        return asked

    def trial(self, number: int) -> Path:
        """Returns the run directory of a trial."""
        return self.trials / f"{number:04}"

    def lock_of(self, number: int) -> IO | None:
        """Returns the lock of a trial, or `None` where a process works at it."""
        return _lock(self.trial(number))

    def retrained(self, name: str, seed: int) -> Path:
        """Returns the run directory of a trial's recipe, or of `default`, trained with a seed."""
        return self.path / "retrained" / name / f"seed-{seed}"

    def take(self, path: Path) -> TrialRun | None:
        """Returns a run to work at, or `None` where a process works at it."""
        lock = _lock(path)
        return TrialRun(path, lock) if lock else None

    def _refuse_another(self, space: Space, settings: Mapping[str, Any]) -> None:
        other, noted = self.read()
        differences = [
            key for key in space.recipe.changes_from(other.recipe) if key not in CHANGE_NOTHING
        ]
        ours, theirs = ({each.key: str(each) for each in one.dimensions} for one in (space, other))
        differences += [
            f"--space {key}" for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)
        ]
        differences += [
            f"--{key}" for key, value in settings.items() if noted.get(key, value) != value
        ]
        if differences:
            raise RunError(
                f"The folder holds another search: it differs in {', '.join(differences)}",
                where=str(self.path),
                fix="use the settings it was started with, or only --resume and --output; or "
                "choose another folder with --output",
            )


def _lock(path: Path) -> IO | None:
    return hold(path.with_name(f"{path.name}.lock"))


def as_recipe(recipe: WholeRecipe, comments: Sequence[str]) -> str:
    """Returns a recipe as a file whose head says where it is from."""
    head = "\n".join(f"# {line}".rstrip() for line in comments)
    return f"{head}\n\n{recipe.to_yaml(explain=True)}"
