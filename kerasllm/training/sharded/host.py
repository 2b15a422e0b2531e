"""What one process can read and write of variables that lie on the devices of several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import jax
import keras
import numpy as np
from jax.experimental import multihost_utils

from kerasllm.distribution.keras_variables import distribute, put
from kerasllm.training.checkpoint_parts import part_name


def value_of(variable: keras.Variable) -> np.ndarray:
    """Returns a variable's whole value; of one split over processes, all of them must ask."""
    value = variable.value
    if not value.is_fully_addressable:
        return np.asarray(multihost_utils.process_allgather(value, tiled=True))
    return np.array(value)


def kept(variable: keras.Variable):
    """Returns a copy of a variable's value, in the memory of the host if all of it is here."""
    value = variable.value
    return np.array(value) if value.is_fully_addressable else value.copy()


def spans_processes(model: keras.Model) -> bool:
    """Tells whether variables of a model lie on the devices of several processes."""
    return not all(each.value.is_fully_addressable for each in model.variables)


@contextmanager
def whole_weights(model: keras.Model) -> Iterator[None]:
    """Lets one process read weights, inside a `with`, that are split over several.

    All processes enter it together. Inside, the variables have their values in the memory of the
    host; the devices keep their parts. Models that are made inside lie in the host's memory as
    well, however many processes there are.

    Args:
        model: The model.
    """
    if not spans_processes(model):
        with _on_host():
            yield
        return
    variables = {id(each): each for each in model.variables}.values()
    whole = [value_of(each) for each in variables]
    parts = [each.value for each in variables]
    # Not a StatelessScope, in which no other model could be made, such as the one that an adapter
    # is merged into.
    try:
        with _on_host() as host:
            for each, value in zip(variables, whole, strict=True):
                put(each, jax.device_put(value, host))
            yield
    finally:
        for each, value in zip(variables, parts, strict=True):
            put(each, value)


def built_on_host(build: Callable[[], keras.Model]) -> keras.Model:
    """Builds a model in the memory of the host, and then gives each device its parts.

    Args:
        build: Returns the model.
    """
    with _on_host():
        model = build()
    for variable in {id(each): each for each in model.variables}.values():
        distribute(variable)
    return model


@contextmanager
def _on_host() -> Iterator[jax.Device]:
    """Lets variables that are made inside a `with` lie, whole, in the memory of the host."""
    distribution, host = keras.distribution.distribution(), _host_device()
    keras.distribution.set_distribution(None)
    try:
        with jax.default_device(host):
            yield host
    finally:
        keras.distribution.set_distribution(distribution)


def _host_device() -> jax.Device:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        # JAX_PLATFORMS may leave the CPU out.
        return jax.local_devices()[0]


def own_parts(values: Mapping[str, jax.Array | np.ndarray]) -> dict[str, np.ndarray]:
    """Returns what this process writes of values that all processes have parts of.

    Each part is written by one process, under the value's name and its place, such as
    `model/00003/kernel@0:128,0:64`.

    Args:
        values: Arrays by name. A NumPy array is whole in every process: the first one writes it.
    """
    found = {}
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            if jax.process_index() == 0:
                found[name] = value
            continue
        for shard in value.addressable_shards:
            if shard.replica_id == 0:
                found[part_name(name, shard.index, value.shape)] = np.array(shard.data)
    return found


def meet(name: str) -> None:
    """Waits until all processes are at the same point."""
    multihost_utils.sync_global_devices(name)


def process() -> int:
    """Returns the number of this process among those that train together, from 0."""
    return jax.process_index()
