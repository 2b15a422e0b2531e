"""The trials of a search in Optuna's storage: shared by workers, and resumed after a kill."""

from __future__ import annotations

import fcntl
import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

from kerasllm.errors import CommandError, RunError
from kerasllm.tuning.folder import CHANGE_NOTHING
from kerasllm.tuning.space import Params, Space

try:
    import optuna
    from optuna.storages import journal as journal_files
    from optuna.trial import FrozenTrial, TrialState
except ImportError as error:
    raise CommandError(
        "A search needs optuna, which is not installed", fix='pip install "kerasllm[tune]"'
    ) from error

PRUNERS = ("median", "asha", "none")
"""What `--pruner` takes."""

JOURNAL = "study.journal"
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
"""The states of trials that are done."""

_NAME, _SEARCHED = "kerasllm", "searched"
# Trials of the same length before the median of theirs counts.
_FEW = 3
_DRAWS = 40


class Study:
    """A search's trials, by optuna's ask-and-tell interface.

    Everything is written at once, so that a search that was killed continues with the same command,
    and several processes, on several machines that see the folder, share it.

    Args:
        folder: The folder of the search.
        space: What varies.
        higher_is_better: Whether more of the metric is better.
        pruner: One of `PRUNERS`. Defaults to `"median"`.
        storage: The address of a database, as optuna takes it. Defaults to `None`: a journal in
            the folder.
        seed: What the settings are drawn with. Defaults to `0`.
    """

    def __init__(
        self,
        folder: Path,
        space: Space,
        *,
        higher_is_better: bool,
        pruner: str = "median",
        storage: str | None = None,
        seed: int = 0,
    ):
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._folder, self._space, self._seed = folder, space, seed
        self._distributions = {each.key: each.distribution() for each in space.dimensions}
        direction: Literal["maximize", "minimize"] = "maximize" if higher_is_better else "minimize"
        self._direction = direction
        # Settings that do not go together, by what would be tried.
        self._refused: list[Params] = []
        with self.locked():
            self._study = optuna.create_study(
                # Of a database that several searches share, the folder tells which.
                study_name=_NAME if storage is None else f"{_NAME}:{folder.name}",
                storage=_storage(folder, storage),
                direction=direction,
                pruner=_pruner(pruner),
                load_if_exists=True,
            )
            if storage is not None:
                self._refuse_another_search()

    def _refuse_another_search(self) -> None:
        """Refuses a database in which a folder of the same name has searched something else."""
        recipe = self._space.recipe.changes_from().items()
        searched = sorted(
            [*(f"{each.key} {each}" for each in self._space.dimensions)]
            + [f"{key}={value[0]}" for key, value in recipe if key not in CHANGE_NOTHING]
        )
        ours = hashlib.sha256("\n".join(searched).encode()).hexdigest()
        theirs = self._study.user_attrs.get(_SEARCHED)
        if theirs is None:
            self._study.set_user_attr(_SEARCHED, ours)
        elif theirs != ours:
            raise RunError(
                f"The database holds another search of a folder {self._folder.name!r}",
                where="--storage",
                fix="give the folder another name with --output, or another --storage",
            )

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, in the order in which they began; failed ones included."""
        return self._study.get_trials(deepcopy=False)

    @property
    def counted(self) -> list[FrozenTrial]:
        """The trials that are done: finished or pruned."""
        return [trial for trial in self.trials if trial.state in COUNTED]

    @property
    def best(self) -> FrozenTrial | None:
        """The best of the finished trials; of equal ones the first."""
        found = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        sign = 1 if self._direction == "maximize" else -1
        return max(found, key=lambda trial: sign * trial.value, default=None)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes of the search from choosing trials until the block ends."""
        with open(self._folder / ".lock", "w", encoding="utf-8") as file:
            with suppress(OSError):  # A file system without locks.
                # The system lets go of it when the process ends, however it ends.
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def take(self, most: int, lock_of: Callable[[int], IO | None]) -> tuple[FrozenTrial, IO] | None:
        """Returns a trial to work at: one whose process is gone, else a new one.

        Args:
            most: How many trials the search has, those under way included.
            lock_of: Returns a trial's lock by its number, or `None` where a process holds it.

        Returns:
            The trial and its lock; `None` where there is nothing to do now, see `is_over`.
        """
        with self.locked():
            trials = self.trials
            for trial in trials:
                if trial.state == TrialState.RUNNING and (lock := lock_of(trial.number)):
                    # Its process may have been killed before all values were written.
                    return self._with_values(trial), lock
            begun = [trial for trial in trials if trial.state != TrialState.FAIL]
            if not any(trial.state == TrialState.WAITING for trial in trials):
                if len(begun) >= most or (params := self._next(trials)) is None:
                    return None
                self._study.enqueue_trial(params)
            number = self._study.ask().number
            lock = lock_of(number)
            if lock is None:
                raise RunError(
                    f"Another process holds trial {number}, which was just created",
                    where=str(self._folder),
                    fix="use another --storage: this one belongs to another search",
                )
            return self._with_values(self.trial(number)), lock

    def is_over(self, most: int) -> bool:
        """Whether no trial is under way, here or elsewhere, and none is left to begin."""
        trials = self.trials
        if any(trial.state == TrialState.RUNNING for trial in trials):
            return False
        return len(self.counted) >= most or self._next(trials) is None

    def trial(self, number: int) -> FrozenTrial:
        """Returns a trial by its number."""
        return self.trials[number]

    def report(self, number: int, step: int, value: float) -> bool:
        """Notes what a trial measured after a step; returns whether it should be pruned."""
        trial = optuna.trial.Trial(self._study, self.trial(number)._trial_id)
        if step not in self.trial(number).intermediate_values:
            trial.report(value, step)
        return trial.should_prune()

    def note(self, number: int, **facts: Any) -> None:
        """Notes facts of a trial, as `user_attrs`."""
        trial = optuna.trial.Trial(self._study, self.trial(number)._trial_id)
        for name, value in facts.items():
            trial.set_user_attr(name, value)

    def finish(self, number: int, state: TrialState, value: float | None = None) -> None:
        """Notes the end of a trial: a value if it is complete."""
        self._study.tell(number, value, state)

    def importances(self) -> dict[str, float]:
        """Returns how much of the differences each key explains, the most first; {} if unknown.

        By PED-ANOVA (Watanabe et al., 2023, https://arxiv.org/abs/2304.10255).
        """
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        complete = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        if len(complete) < 4 or len({trial.value for trial in complete}) < 2:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return get_param_importances(self._study, evaluator=PedAnovaImportanceEvaluator())

    def _with_values(self, trial: FrozenTrial) -> FrozenTrial:
        if len(trial.params) < len(self._space.dimensions):
            asked = optuna.trial.Trial(self._study, trial._trial_id)
            for dimension in self._space.dimensions:
                dimension.suggest(asked)
        return self.trial(trial.number)

    def _next(self, trials: list[FrozenTrial]) -> Params | None:
        """Returns settings that no trial has; `None` where all were tried.

        They depend on the seed, the trials so far and their number: not on how often the search
        was interrupted.
        """
        tried = [trial.params for trial in trials] + self._refused
        if not trials and (default := self._space.default()):
            return default
        for draw in range(_DRAWS):
            params = self._drawn(trials, seed=self._seed + 1000 * len(trials) + draw)
            if params not in tried and self._goes_together(params):
                return params
        while params := self._space.left(tried + self._refused, self._seed + len(trials)):
            if self._goes_together(params):
                return params
        return None

    def _drawn(self, trials: list[FrozenTrial], seed: int) -> Params:
        """Returns settings that optuna proposes, by the trials so far."""
        with warnings.catch_warnings():
            # That `multivariate` is experimental in some versions.
            warnings.simplefilter("ignore")
            sampler = optuna.samplers.TPESampler(
                seed=seed % 2**32, multivariate=True, constant_liar=True
            )
        # A copy in memory: a sampler begins again after a kill, and would draw the same again.
        copy = optuna.create_study(sampler=sampler, direction=self._direction)
        copy.add_trials([trial for trial in trials if trial.params])
        asked = copy.ask(self._distributions)
        return {each.key: each.rounded(asked.params[each.key]) for each in self._space.dimensions}

    def _goes_together(self, params: Params) -> bool:
        """Whether the recipe takes the settings, as `accumulate` only if it divides the batch."""
        from kerasllm.errors import RecipeError

        try:
            self._space.recipe_of(params)
        except RecipeError:
            self._refused.append(params)
            return False
        return True


class _MedianOfSameLength(optuna.pruners.BasePruner):
    """Prunes what is below the median of the trials that train equally long.

    A schedule lowers the learning rate to 0 at the end: midway through a long training the metric
    is worse than at the end of a short one, even if it ends better.
    """

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        alike = optuna.create_study(
            storage=optuna.storages.InMemoryStorage(), direction=study.direction
        )
        alike.add_trials(
            [
                other
                for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
                if _length(other.params) == _length(trial.params)
            ]
        )
        return optuna.pruners.MedianPruner(n_startup_trials=_FEW).prune(alike, trial)


def _length(params: Mapping[str, Any]) -> tuple:
    keys = ("epochs", "max_steps", "batch_size", "schedule")
    return tuple(params.get(f"training.{key}") for key in keys)


def _pruner(name: str) -> optuna.pruners.BasePruner:
    if name == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(reduction_factor=3)
    return _MedianOfSameLength() if name == "median" else optuna.pruners.NopPruner()


def _storage(folder: Path, address: str | None) -> Any:
    if address is None:
        journal = folder / JOURNAL
        _drop_broken_line(journal)
        backend = journal_files.JournalFileBackend(str(journal))
        return optuna.storages.JournalStorage(backend)
    try:
        return optuna.storages.get_storage(address)
    except Exception as error:  # of SQLAlchemy, a driver, or a missing one
        raise CommandError(
            f"The storage cannot be opened: {str(error).partition(chr(10))[0]}",
            where="--storage",
            fix="give an address of SQLAlchemy, as sqlite:///search.db; without --storage the "
            "trials are in the folder of the search",
        ) from error


def _drop_broken_line(journal: Path) -> None:
    """Removes a line that a process was killed in the midst of, which optuna could not read."""
    if not journal.is_file():
        return
    lock = journal_files.JournalFileSymlinkLock(str(journal))
    lock.acquire()
    try:
        with open(journal, "rb+") as file:
            content = file.read()
            if content and not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()
