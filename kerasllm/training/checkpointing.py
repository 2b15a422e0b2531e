"""Saves checkpoints during training, and resumes from them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from kerasllm.errors import RunError
from kerasllm.training.checkpoints import Checkpoint, CheckpointStore
from kerasllm.training.host_values import value_of
from kerasllm.training.validation import Validation


class Checkpoints(keras.callbacks.Callback):
    """Saves checkpoints during training, and ends it on request.

    A checkpoint holds the weights that train, the state of the optimizer, the running metrics,
    the state of the other callbacks, and the position: a training that resumes from it ends with
    the numbers of one that was never stopped. Put it after the other callbacks.

    Args:
        store: Where checkpoints go; `None` on a worker that writes none.
        every: Steps between two checkpoints. Defaults to `None`: they are not counted.
        minutes: Minutes between two checkpoints. Defaults to `None`: time does not matter.
        states: Callbacks and the like whose `get_state()` is kept and given back to `set_state()`,
            by name. Defaults to none.
        facts: What else the state of a checkpoint says, such as the recipe. Defaults to none.
        validation: The best checkpoint is the one of its best result. Defaults to `None`.
        workers: Processes that train together. Defaults to `1`.
        parts: Where the parts of a worker that writes no checkpoints go, of a training in shards.
            Defaults to `None`.

    Attributes:
        saved: The step of the last checkpoint, `None` before there is one.
        stopped: Whether the training ended because `stop` was called.

    Example:

    ```python
    store = CheckpointStore("checkpoints")
    checkpoints = Checkpoints(store, every=500, states={"monitor": monitor})
    newest = store.newest()
    checkpoints.restore(model, newest)
    batches = training_batches(model, examples, plans, epochs=3, first_step=newest.step)
    model.fit(
        batches,
        epochs=3,
        steps_per_epoch=plans.steps,
        callbacks=[monitor, checkpoints],
        **position(newest, plans.steps),
    )
    ```
    """

    def __init__(
        self,
        store: CheckpointStore | None,
        *,
        every: int | None = None,
        minutes: float | None = None,
        states: Mapping[str, object] | None = None,
        facts: Mapping[str, object] | None = None,
        validation: Validation | None = None,
        workers: int = 1,
        parts: CheckpointStore | None = None,
    ):
        super().__init__()
        self._store = store
        self._every = every
        self._minutes = minutes
        self._states = dict(states or {})
        self._facts = dict(facts or {})
        self._validation = validation
        self._workers = workers
        self._parts = parts
        self._frozen = None
        self._stop = False
        self._stopping = False
        self.saved = None
        self.stopped = False

    def stop(self) -> None:
        """Ends the training, on all workers, after the step that is under way and a checkpoint."""
        self._stop = True

    def restore(self, model: keras.Model, checkpoint: Checkpoint) -> None:
        """Puts model, optimizer, metrics and callbacks into the state of a checkpoint.

        Raises:
            RunError: If the checkpoint is of another model or another optimizer.
        """
        arrays, state = dict(checkpoint.arrays), checkpoint.state
        if state.get("frozen") != _digest(_fixed(model)):
            raise RunError(
                "The frozen weights differ from those of the checkpoint",
                where=f"step {checkpoint.step}",
                fix="the preset has changed; use the one that the run was started with",
            )
        expected = _variables(model)
        here = {name: _kind(variable) for name, variable in {**expected, **_sums(model)}.items()}
        if self._validation and any(map(_is_best, arrays)):
            trained = enumerate(model.trainable_variables)
            here |= {_best_name(index): _kind(variable) for index, variable in trained}
        saved = {
            name: _kind(array)
            for name, array in arrays.items()
            if name in here or _is_variable(name)
        }
        if saved != here:
            name = min(name for name in {*saved, *here} if saved.get(name) != here.get(name))
            there, wanted = (_worded(kinds.get(name)) for kinds in (saved, here))
            raise RunError(
                "The checkpoint is from another model or optimizer: "
                f"{name} is {there} there and {wanted} here",
                where=f"step {checkpoint.step}",
                fix="resume with the recipe that the run was started with",
            )
        for name, variable in expected.items():
            variable.assign(arrays[name])
        _set_metrics(model, arrays)
        for name, holder in self._states.items():
            try:
                holder.set_state(state["states"][name])
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise RunError(
                    f"The checkpoint does not hold the state of {name!r}: {error!r}",
                    where=f"step {checkpoint.step}",
                    fix="remove the checkpoint, and resume from the previous one with --resume",
                ) from error
        if self._validation:
            count = len(model.trainable_variables)
            best = [arrays.get(_best_name(index)) for index in range(count)]
            self._validation.best_weights = None if best[0] is None else best
        self.saved = checkpoint.step

    def on_train_begin(self, logs=None):
        self._saved_at = time.monotonic()
        self._due = False
        self.model.requests[:] = 0.0, 0.0

    def on_train_batch_end(self, batch, logs=None):
        self._due |= self._is_due()
        self._stopping = self._agreed_to_stop()
        # The end of an epoch has its own part to play in the state. It is next as well where
        # another callback has ended the training.
        last = batch + 1 == self.params["steps"]
        if self.model.stop_training:
            return
        if self._stopping:
            self._end(epoch_ended=not last)
        if not last:
            self._save_if_due()

    def on_epoch_end(self, epoch, logs=None):
        # A signal may have come since the step, which several workers agree on in the next one.
        if self._stopping or (self._stop and self._workers == 1):
            self._end()
        # A finished training can be continued, with more epochs, where checkpoints are wanted.
        ended = self.model.stop_training or epoch + 1 == self.params["epochs"]
        self._due |= ended and bool(self._every or self._minutes)
        self._save_if_due()

    def on_train_end(self, logs=None):
        if self._store:
            self._store.wait()

    def save(self, epoch_ended: bool = True) -> None:
        """Saves a checkpoint now; on all workers at the same step.

        Args:
            epoch_ended: Whether what the end of an epoch asks for was done, where the step is its
                last one. Defaults to `True`.
        """
        # Metrics are added up over workers: all of them take part.
        metrics = _metrics(self.model)
        self.saved = self.model.steps_done
        self._saved_at, self._due = time.monotonic(), False
        self.model.requests[0] = 0.0
        in_parts = self._workers > 1 and keras.config.backend() == "jax"
        if self._store is None and not in_parts:
            return
        if self._frozen is None:
            self._frozen = _digest(_fixed(self.model))
        variables = _variables(self.model)
        best_weights = (self._validation and self._validation.best_weights) or []
        others = {_best_name(index): weight for index, weight in enumerate(best_weights)}
        if in_parts:
            arrays = self._own_parts({n: v.value for n, v in variables.items()} | others)
            if self._store is None:
                return
        else:
            arrays = {name: value_of(variable) for name, variable in variables.items()} | others
        arrays.update(metrics)
        best = self._validation is not None and self._validation.improved
        state = {
            **self._facts,
            "frozen": self._frozen,
            "epoch_ended": epoch_ended,
            "states": {name: holder.get_state() for name, holder in self._states.items()},
        }
        options = {"others": self._workers - 1} if in_parts else {}
        self._store.save(self.saved, arrays, state, best=best, **options)

    def _own_parts(self, values: Mapping) -> dict[str, np.ndarray]:
        """Returns the first process' parts of values, when the others have written theirs."""
        from kerasllm.training.sharded import host

        arrays = host.own_parts(values)
        if self._store is None:
            self._parts.write_part(self.saved, host.process(), arrays)
        host.meet(f"checkpoint {self.saved}")
        return arrays

    def _end(self, epoch_ended: bool = True) -> None:
        self.save(epoch_ended)
        if self._store:
            self._store.wait()
        self.stopped = True
        raise TrainingStopped

    def _is_due(self) -> bool:
        model, count = self.model, len(self.model.last_execution["step_loss"])
        done = model.steps_done
        if self._every and done // self._every != (done - count) // self._every:
            return True
        late = self._minutes and time.monotonic() - self._saved_at >= 60 * self._minutes
        if self._workers == 1:
            return bool(late)
        # The clocks of workers differ: what one asks for, all do at the next step.
        model.requests[0] = float(bool(late))
        return model.last_execution["requests"][-1][0] > 0

    def _agreed_to_stop(self) -> bool:
        if self._workers == 1:
            return self._stop
        self.model.requests[1] = float(self._stop)
        return self.model.last_execution["requests"][-1][1] > 0

    def _save_if_due(self) -> None:
        if self._due or (self._validation is not None and self._validation.improved):
            self.save()


def position(checkpoint: Checkpoint, steps_per_epoch: int) -> dict:
    """Returns the arguments of `fit` that make it continue after a checkpoint."""
    epoch = max(checkpoint.step - 1, 0) // steps_per_epoch
    return {
        "initial_epoch": epoch,
        "initial_step": checkpoint.step - epoch * steps_per_epoch,
        "epoch_ended": checkpoint.state["epoch_ended"],
    }


class TrainingStopped(Exception):
    """The training has ended, with a checkpoint, on request."""


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Returns the variables that training changes, by names that are the same in every process."""
    groups = {"model": model.trainable_variables, "optimizer": model.optimizer.variables}
    return {
        f"{group}/{index:05}/{variable.path}": variable
        for group, variables in groups.items()
        for index, variable in enumerate(variables)
    }


def _is_variable(name: str) -> bool:
    return name.startswith(("model/", "optimizer/"))


def _best_name(index: int) -> str:
    return f"best/{index:05}"


def _is_best(name: str) -> bool:
    return name.startswith("best/")


def _kind(value: np.ndarray | keras.Variable) -> tuple[tuple[int, ...], str]:
    """Returns the shape and the kind of numbers; how many bits each has follows the precision."""
    dtype = value.dtype
    dtype = dtype.name if isinstance(dtype, np.dtype) else keras.backend.standardize_dtype(dtype)
    return tuple(value.shape), dtype.replace("bfloat", "float").rstrip("0123456789")


def _worded(kind: tuple[tuple[int, ...], str] | None) -> str:
    return "not" if kind is None else f"{kind[0]} of {kind[1]}"


def _fixed(model: keras.Model) -> list[keras.Variable]:
    """Returns the weights that training does not change."""
    measured = {id(v) for metric in model.metrics for v in metric.variables}
    return [
        variable
        for variable in model.non_trainable_variables
        # The seeds of random layers come from the recipe.
        if id(variable) not in measured and variable.name != "seed_generator_state"
    ]


def _digest(variables: list[keras.Variable]) -> str:
    digest = hashlib.sha256()
    for variable in variables:
        digest.update(np.ascontiguousarray(value_of(variable)).view(np.uint8))
    return digest.hexdigest()


def _sums(model: keras.Model) -> dict[str, keras.Variable]:
    """Returns what the metrics add up, by names that are the same in every process."""
    variables = [variable for metric in model.metrics for variable in metric.variables]
    return {f"metrics/{index:05}": variable for index, variable in enumerate(variables)}


def _metrics(model: keras.Model) -> dict[str, np.ndarray]:
    return {name: np.asarray(variable.numpy()) for name, variable in _sums(model).items()}


def _set_metrics(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    variables = _sums(model)
    if keras.config.backend() != "tensorflow":
        for name, variable in variables.items():
            variable.assign(arrays[name])
        return

    @tf.function(autograph=False)
    def assign():
        # What replicas add up is held by one of them.
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        first = tf.cast(tf.equal(replica, 0), tf.float32)
        for name, variable in variables.items():
            value = tf.constant(arrays[name])
            variable.value.assign(value * tf.cast(first, value.dtype))

    model.distribute_strategy.run(assign)
