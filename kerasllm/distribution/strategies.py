"""Strategies by name: from one device to several machines, each as TensorFlow makes it."""

from __future__ import annotations

import signal
import threading

import tensorflow as tf

from kerasllm.distribution import tpu
from kerasllm.distribution.tf_config import Cluster, place_in, read_tf_config
from kerasllm.environment import use_jax
from kerasllm.errors import CommandError, JobError
from kerasllm.recipe.strategy_names import check_communication, check_name

_LONGEST_LIST_OF_DEVICES = 8
_MIRRORED = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)


def strategy(name: str = "auto", *, communication: str = "auto") -> tf.distribute.Strategy:
    """Returns the strategy of a name, ready for `with strategy.scope():`.

    Call it before anything else is done with TensorFlow: `multi_worker` and `virtual:N` decide
    what devices there are, which TensorFlow lets no one change after its first operation.

    Args:
        name: One of
            `auto`: `multi_worker` if TF_CONFIG names more than one worker, else `tpu` if there
            is one, else `mirrored` if there are several GPUs, else `one_device`;
            `one_device`: TensorFlow's default strategy, which adds nothing to a step;
            `mirrored`: all GPUs of this machine (without a GPU, one replica on the CPU);
            `multi_worker`: the worker that TF_CONFIG says this process is;
            `tpu`: the TPU of this machine, or the one in the variable TPU_NAME;
            `tpu:NAME`: a TPU by name, or by its address `grpc://HOST:PORT`;
            `virtual:N`: N parts of this machine's CPU, to try a strategy without its devices;
            the process then sees no GPU;
            `sharded`, `sharded:fsdp`, `sharded:DATAxMODEL`: parts of the model on each device, on
            Keras' JAX backend, which only the commands start.
            Defaults to `"auto"`.
        communication: How gradients are added up: `auto` (TensorFlow's choice: NCCL on GPUs, a
            ring elsewhere), `ring`, or `nccl`, for GPUs only. TPUs have their own network and
            take only `auto`; `one_device` has nothing to add up. Defaults to `"auto"`.

    Raises:
        CommandError: If there is no such strategy, or this machine or process cannot have it.
        JobError: If a worker cannot join the others.

    Example:

    ```python
    strategy = kerasllm.distribution.strategy("virtual:2")
    with strategy.scope():
        model = kerasllm.models.bert_classifier("minilm_l6_en_uncased", num_classes=2)
    ```
    """
    kind, argument = check_name(name)
    check_communication(communication)
    if tf.distribute.has_strategy():
        raise CommandError(
            f"strategy({name!r}) was called inside the scope of another strategy",
            fix="call it outside of every `with strategy.scope():`",
        )
    if kind == "sharded":
        _check_network(communication)
        use_jax()
        # It imports JAX, which need not be installed.
        from kerasllm.distribution import sharded

        made = sharded.connect(argument)
        if made.cluster:
            _take_back_sigterm()
        return made
    if kind == "auto":
        kind = _automatic()
    _check_fits(kind, communication)
    if kind == "tpu":
        return tpu.connect(argument)
    if kind == "multi_worker":
        return _multi_worker(communication)
    if kind == "mirrored":
        return _mirrored(communication)
    if kind == "virtual":
        return _virtual(int(argument))
    return tf.distribute.get_strategy()


def describe(strategy: tf.distribute.Strategy) -> str:
    """Returns a strategy in words, such as `"mirrored: 2 replicas on CPU:0, CPU:1"`.

    Args:
        strategy: A strategy that `strategy()` returned.
    """
    kind, cluster = kind_of(strategy), _cluster_of(strategy)
    if kind == "sharded":
        of = f", process {cluster.index} of {cluster.workers}" if cluster else ""
        return f"sharded: {strategy}{of}"
    if cluster:
        kind += f": worker {cluster.index} of {cluster.workers}"
    elif kind == "one_device":
        return f"one_device: {'GPU:0' if tf.config.list_physical_devices('GPU') else 'CPU:0'}"
    devices = [device.split("device:")[-1] for device in strategy.extended.worker_devices]
    if len(devices) > _LONGEST_LIST_OF_DEVICES:
        where = f"{len(devices)} devices, {devices[0]} to {devices[-1]}"
    else:
        where = ", ".join(devices)
    replicas = strategy.num_replicas_in_sync
    on = " on" if replicas == len(devices) else ", here on"
    return f"{kind}: {replicas} replica{'s' * (replicas > 1)}{on} {where}"


def kind_of(strategy: tf.distribute.Strategy) -> str:
    """Returns `one_device`, `mirrored` (also for `virtual:N`), `multi_worker`, `tpu` or `sharded`.

    Args:
        strategy: A strategy that `strategy()` returned.
    """
    if not isinstance(strategy, tf.distribute.Strategy):
        return "sharded"
    if _cluster_of(strategy):
        return "multi_worker"
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return "tpu"
    return "mirrored" if isinstance(strategy, _MIRRORED) else "one_device"


def worker_count(strategy: tf.distribute.Strategy) -> int:
    """Returns how many processes train together; all the hosts of a TPU are driven by one.

    Args:
        strategy: A strategy that `strategy()` returned.
    """
    cluster = _cluster_of(strategy)
    return cluster.workers if cluster else 1


def worker_index(strategy: tf.distribute.Strategy) -> int:
    """Returns which of the processes that train together this one is, from 0.

    Args:
        strategy: A strategy that `strategy()` returned.
    """
    cluster = _cluster_of(strategy)
    return cluster.index if cluster else 0


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes the run directory.

    Args:
        strategy: A strategy that `strategy()` returned.
    """
    return worker_index(strategy) == 0


def _automatic() -> str:
    cluster = read_tf_config()
    if cluster and cluster.workers > 1:
        return "multi_worker"
    if tpu.is_tpu_here():
        return "tpu"
    return "mirrored" if len(tf.config.list_physical_devices("GPU")) > 1 else "one_device"


def _check_fits(kind: str, communication: str) -> None:
    """Refuses a communication that the devices of a strategy do not have."""
    if kind == "tpu" and communication != "auto":
        raise CommandError(
            f"communication {communication!r} does not work with a TPU, which has its own network",
            fix="use communication auto",
        )
    if communication == "nccl":
        if kind == "virtual" or not tf.config.list_physical_devices("GPU"):
            raise CommandError(
                "communication 'nccl' is for GPUs, and "
                + ("virtual devices are CPUs" if kind == "virtual" else "TensorFlow sees none"),
                fix="use communication auto or ring",
            )


def _check_network(communication: str) -> None:
    """Refuses a choice that XLA leaves to no one."""
    if communication != "auto":
        raise CommandError(
            f"communication {communication!r} does not go with strategy 'sharded': XLA chooses",
            fix="use communication auto",
        )


def _multi_worker(communication: str) -> tf.distribute.Strategy:
    if read_tf_config() is None:
        raise CommandError(
            "strategy 'multi_worker' needs TF_CONFIG, which is not set",
            where="the environment variable TF_CONFIG",
            fix="start the workers with `kerasllm launch --workers N -- finetune ...` or by a "
            "cluster (docs/distributed.md); for several GPUs of one machine use mirrored",
        )
    try:
        made = tf.distribute.MultiWorkerMirroredStrategy(
            communication_options=_options(communication)
        )
    except RuntimeError as error:
        if "program startup" not in str(error):
            raise
        raise CommandError(
            "strategy 'multi_worker' came too late: TensorFlow is already initialized",
            fix="call strategy('multi_worker') first, in a new process",
        ) from error
    except tf.errors.OpError as error:
        raise JobError(
            f"this worker could not join the others: {error.message.partition(chr(10))[0][:300]}",
            where="the environment variable TF_CONFIG",
            fix="check that all workers are running, that each can reach the others, and that its "
            "own HOST:PORT is free",
        ) from error
    _take_back_sigterm()
    return made


def _take_back_sigterm() -> None:
    """Gives SIGTERM back to Python's handler, or to the default, which ends the process.

    TensorFlow's workers, and JAX's, catch it for a service of their own: from then on it did
    nothing at all.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _mirrored(communication: str) -> tf.distribute.Strategy:
    # Named one by one: left to itself, TensorFlow reads TF_CONFIG here as well.
    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    if communication == "ring" and len(gpus) > 1:
        # MirroredStrategy has no ring for GPUs that can do without it, and the copies of its
        # HierarchicalCopyAllReduce leave one out where their number is odd. The strategy for
        # several workers, without any other, is the same strategy with the choice.
        alone = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({}), num_accelerators={"GPU": len(gpus)}
        )
        return tf.distribute.MultiWorkerMirroredStrategy(
            cluster_resolver=alone, communication_options=_options(communication)
        )
    return tf.distribute.MirroredStrategy(gpus or ["CPU:0"])


def _virtual(count: int) -> tf.distribute.Strategy:
    try:
        part = tf.config.LogicalDeviceConfiguration()
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [part] * count
        )
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError:
        # TensorFlow has its devices already. They will do if there are enough of them.
        there = len(tf.config.list_logical_devices("CPU"))
        if there < count:
            raise CommandError(
                f"strategy 'virtual:{count}' came too late: TensorFlow is already initialized, "
                "with "
                f"{there} CPU device{'s' * (there > 1)}",
                fix=f"call strategy('virtual:{count}') first, in a new process",
            ) from None
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(count)])


def _options(communication: str) -> tf.distribute.experimental.CommunicationOptions:
    implementation = tf.distribute.experimental.CommunicationImplementation[communication.upper()]
    return tf.distribute.experimental.CommunicationOptions(implementation=implementation)


def _cluster_of(strategy: tf.distribute.Strategy) -> Cluster | None:
    """Returns the place of this process among its workers, if it was made for several."""
    if not isinstance(strategy, tf.distribute.Strategy):
        return strategy.cluster
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return None
    resolver = strategy.cluster_resolver
    jobs = resolver.cluster_spec().as_dict()
    return place_in(jobs, resolver.task_type, resolver.task_id) if jobs else None
