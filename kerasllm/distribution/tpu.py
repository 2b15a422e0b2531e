"""Finds and connects to a TPU, without waiting for one that does not exist."""

from __future__ import annotations

import glob
import importlib.util
import os
import socket

import tensorflow as tf

from kerasllm.errors import CommandError

# How long, in seconds, a machine may take to accept a connection.
_PATIENCE = 5.0
_METADATA_SERVER = "metadata.google.internal"


def is_tpu_here() -> bool:
    """Whether this process has a TPU, or was told of one. Asks no network.

    TensorFlow knows for sure only after it has started the TPU, and its resolver asks a server of
    Google Cloud, for which a machine elsewhere waits long. So the signs are those that a TPU
    machine shows by itself: the variable TPU_NAME, the device files of the chips (`/dev/accel0`;
    for newer ones `/dev/vfio/0`, which counts only where `libtpu` is installed as well, because
    other devices have such files), or a TPU among TensorFlow's physical devices.
    """
    return bool(os.environ.get("TPU_NAME")) or _has_chips()


def connect(name: str = "") -> tf.distribute.Strategy:
    """Connects to a TPU, starts it, and returns a strategy over all its cores.

    Args:
        name: The name of a TPU, `grpc://HOST:PORT`, or `local` for the chips of this machine.
            Defaults to `""`: the variable TPU_NAME, else `local`.

    Raises:
        CommandError: If no such TPU can be reached.
    """
    name = name or os.environ.get("TPU_NAME") or "local"
    if name == "local":
        if not _has_chips():
            raise CommandError(
                "no TPU was found on this machine",
                fix="run on a TPU VM, give the name of a TPU as tpu:NAME, or use --strategy auto",
            )
    else:
        _check_reachable(name)
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(name)
        return tf.distribute.TPUStrategy(resolver)
    except (tf.errors.OpError, ValueError, RuntimeError, OSError) as error:
        reason = str(error).strip().partition("\n")[0][:300]
        raise CommandError(
            f"the TPU {name!r} cannot be used: {reason}",
            fix="check that it is running and that this TensorFlow is built for TPUs "
            "(pip install tensorflow-tpu); a TPU by name also needs cloud-tpu-client",
        ) from error


def _has_chips() -> bool:
    newer = glob.glob("/dev/vfio/[0-9]*") and importlib.util.find_spec("libtpu")
    return bool(glob.glob("/dev/accel[0-9]*") or newer or tf.config.list_physical_devices("TPU"))


def _check_reachable(name: str) -> None:
    """Refuses a TPU whose machine, or the server that knows the address of its name, is silent."""
    if name.startswith("grpc://"):
        host, _, port = name.removeprefix("grpc://").partition(",")[0].partition(":")
        what = f"no TPU responds at {name}"
    else:
        # Where the client library that TensorFlow uses looks up the project and the zone.
        host, _, port = os.environ.get("GCE_METADATA_HOST", _METADATA_SERVER).partition(":")
        port = port or "80"
        what = f"the TPU {name!r} cannot be looked up: this is not a Google Cloud machine"
    try:
        socket.create_connection((host, int(port or 8470)), timeout=_PATIENCE).close()
    except (OSError, ValueError) as error:
        raise CommandError(
            f"{what} ({error})",
            fix="run on a TPU VM or a VM of its project, or unset TPU_NAME if there is no TPU",
        ) from error
