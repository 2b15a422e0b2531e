"""Models in shards: a mesh of devices for Keras' JAX backend, and each variable's place on it.

`tf.distribute` copies the whole model to every device. Here each device holds a part of every large
weight, of its gradient and of the optimizer's state; see `kerasllm.distribution.layouts`. The rest
of kerasllm meets it as one more strategy, with one replica: what is split is inside of a step.
"""

from __future__ import annotations

import atexit
import functools
import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

import jax
import jax.numpy as jnp
import keras
import tensorflow as tf
from jax.sharding import NamedSharding, PartitionSpec

from kerasllm.distribution.keras_variables import made_on_host
from kerasllm.distribution.layouts import DATA, MODEL, axes_of
from kerasllm.distribution.tf_config import Cluster, read_tf_config
from kerasllm.errors import CommandError, JobError
from kerasllm.recipe.strategy_names import mesh_of

_FORCED = "--xla_force_host_platform_device_count"
# What XLA's errors name when a process that it computes with is gone.
_OF_PEERS = re.compile(r"Gloo|NCCL|UNAVAILABLE|ABORTED|heartbeat|[Cc]onnection")


class ShardedStrategy:
    """What `kerasllm.distribution.strategy("sharded")` returns.

    Args:
        shape: Devices along each axis of the mesh, by its name.
        cluster: The processes that train together. Defaults to `None`: this one alone.

    Attributes:
        num_replicas_in_sync: `1`: a batch is made whole, and split when it is put on the devices.
        shape: As given.
        mesh: The devices, as JAX takes them.
    """

    num_replicas_in_sync = 1

    def __init__(self, shape: Mapping[str, int], cluster: Cluster | None = None):
        self.shape = dict(shape)
        self.cluster = cluster
        devices = keras.distribution.DeviceMesh(
            tuple(shape.values()), list(shape), keras.distribution.list_devices()
        )
        self.mesh = devices.backend_mesh
        if self.mesh.devices.flat[0].platform != "gpu":
            _attend_in_float32()
        keras.distribution.set_distribution(_ByShape(devices, self))

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Returns a context for `with`, in which models are made and read.

        The whole process trains under the strategy. What is made or read in the block passes
        through the host's memory: an accelerator never holds more of a variable than its part.
        """
        with made_on_host(), self._by_cpu():
            yield

    def _by_cpu(self) -> AbstractContextManager:
        if self.mesh.devices.flat[0].platform == "cpu":
            return nullcontext()
        try:
            return jax.default_device(jax.local_devices(backend="cpu")[0])
        except RuntimeError:
            # JAX_PLATFORMS may leave the CPU out.
            return nullcontext()

    def sharding(self, *axes: str | tuple[str, ...] | None) -> NamedSharding:
        """Returns the sharding of an array by the axes that split each of its dimensions."""
        return NamedSharding(self.mesh, PartitionSpec(*axes))

    def variable_sharding(self, shape: tuple[int, ...]) -> NamedSharding:
        """Returns the sharding of a variable by its shape."""
        return self.sharding(*(names or None for names in axes_of(shape, self.shape)))

    def __str__(self) -> str:
        devices = self.mesh.devices
        platform = devices.flat[0].platform.upper()
        sizes = " x ".join(f"{size} {axis}" for axis, size in self.shape.items())
        return f"{devices.size} {platform} device{'s' * (devices.size > 1)}, {sizes}"


class _ByShape(keras.distribution.ModelParallel):
    """Gives Keras each variable's layout when the variable is made: it is never whole anywhere."""

    def __init__(self, devices: keras.distribution.DeviceMesh, strategy: ShardedStrategy):
        super().__init__(
            layout_map=keras.distribution.LayoutMap(devices),
            batch_dim_name=DATA,
            # Every process makes the whole batch, and puts its own part on its devices.
            auto_shard_dataset=False,
        )
        self._strategy = strategy

    def get_variable_layout(self, variable: keras.Variable) -> NamedSharding:
        return self._strategy.variable_sharding(tuple(variable.shape))


def _attend_in_float32() -> None:
    """Lets attention in float16 compute in float32: JAX has its products for GPUs alone."""
    attention = jax.nn.dot_product_attention
    if hasattr(attention, "__wrapped__"):
        return

    @functools.wraps(attention)
    def wide(query, key, value, *arguments, **options):
        if query.dtype != jnp.float16:
            return attention(query, key, value, *arguments, **options)
        rows = (each.astype(jnp.float32) for each in (query, key, value))
        return attention(*rows, *arguments, **options).astype(jnp.float16)

    jax.nn.dot_product_attention = wide


def connect(argument: str, *, planned: bool = False) -> ShardedStrategy:
    """Returns the strategy of `sharded:ARGUMENT` on all devices that JAX sees.

    Args:
        argument: See `kerasllm.recipe.strategy_names.mesh_of`.
        planned: Whether it is only for a plan: where there is no accelerator, this machine's CPU is
            then cut into as many devices as the mesh has. Defaults to `False`.

    Raises:
        CommandError: If Keras does not compute with JAX, or there are not as many devices.
        JobError: If a process cannot join the others.
    """
    if keras.config.backend() != "jax":
        raise CommandError(
            "strategy 'sharded' computes with JAX, and Keras was imported with "
            f"{keras.config.backend()} in this process",
            fix="use the command: kerasllm finetune --strategy sharded ...",
        )
    wanted = mesh_of(argument)
    if planned and wanted and _FORCED not in os.environ.get("XLA_FLAGS", ""):
        # It says how many devices a CPU is, and nothing of others. Where JAX is in use there are as
        # many as there are, which are counted below.
        with suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", math.prod(wanted))
    cluster = _join()
    # The data pipeline is TensorFlow's, and must leave the accelerators to JAX.
    if tf.config.list_physical_devices("GPU"):
        tf.config.set_visible_devices([], "GPU")
    count = jax.device_count()
    data, model = wanted or (count, 1)
    if data * model != count:
        raise CommandError(
            f"strategy 'sharded:{argument}' is for {data * model} devices, and there "
            f"{'is' if count == 1 else 'are'} {count} ({jax.devices()[0].platform.upper()})",
            fix=f"give a mesh of {count}, such as sharded:{count}x1; to try another one on CPUs, "
            f"set JAX_PLATFORMS=cpu XLA_FLAGS={_FORCED}={data * model}",
        )
    return ShardedStrategy({DATA: data, MODEL: model}, cluster)


def _join() -> Cluster | None:
    """Meets the other processes that TF_CONFIG or a TPU pod names, if there are any."""
    cluster = read_tf_config()
    if cluster is None:
        return _join_pod() if is_in_pod() else None
    if cluster.workers == 1:
        return None
    jobs: dict[str, list[str]] = json.loads(os.environ["TF_CONFIG"])["cluster"]
    addresses = jobs.get("chief", []) + jobs.get("worker", [])
    try:
        jax.distributed.initialize(
            addresses[0],
            cluster.workers,
            cluster.index,
            # Under Slurm and Open MPI, JAX would otherwise give each process one of its devices.
            cluster_detection_method="deactivate",
        )
    except RuntimeError as error:
        raise _not_joined(error, "the environment variable TF_CONFIG") from error
    # Not the place that TF_CONFIG says: JAX numbers the hosts of a TPU by where they are in it, and
    # the process that writes the run must be the one that JAX calls the first.
    return Cluster(jax.process_count(), jax.process_index())


def is_in_pod() -> bool:
    """Tells whether this process is on one of several hosts of a TPU.

    Kubernetes on Google Cloud tells each host of them all. On a machine with one host the variable
    may be set as well, and there is nobody to wait for.
    """
    hosts = os.environ.get("TPU_PROCESS_ADDRESSES") or os.environ.get("TPU_WORKER_HOSTNAMES", "")
    return len([each for each in hosts.split(",") if each.strip()]) > 1


def _join_pod() -> Cluster:
    """Meets the processes on the other hosts of a TPU, which JAX finds by itself."""
    try:
        jax.distributed.initialize()
    except (RuntimeError, ValueError) as error:
        raise _not_joined(error, "the environment variable TPU_WORKER_HOSTNAMES") from error
    return Cluster(jax.process_count(), jax.process_index())


def _not_joined(error: Exception, where: str) -> JobError:
    return JobError(
        f"this process could not join the others: {str(error).splitlines()[0][:300]}",
        where=where,
        fix="see that all processes run, and that each can reach the first one's HOST:PORT",
    )


def is_lost_peer(error: RuntimeError) -> bool:
    """Tells whether an error of JAX says that another process is gone.

    Args:
        error: What a computation of several processes raised.
    """
    return isinstance(error, jax.errors.JaxRuntimeError) and bool(_OF_PEERS.search(str(error)))


def end_without_peers() -> None:
    """Lets this process end at once: JAX would wait for the lost ones at its exit, and abort."""
    atexit.register(_end_now)


def _end_now() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(JobError.exit_status)
