"""The names of strategies: read and checked without TensorFlow, for recipes and commands."""

from __future__ import annotations

import difflib
import re

from kerasllm.errors import CommandError

_NUMBER = re.compile(r"[0-9]{1,9}")
# Each has a copy of the model in the memory of one machine.
_MOST_VIRTUAL = 64
_MESH = re.compile(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})")

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu", "virtual", "sharded")
COMMUNICATIONS = ("auto", "ring", "nccl")
EXPECTED = (
    "auto, one_device, mirrored, multi_worker, tpu, tpu:NAME, virtual:N, sharded or "
    "sharded:DATAxMODEL"
)

# By their bare names.
_REFUSED = {
    "parameterserver": "Keras 3 refuses it, and its asynchronous updates cannot give the numbers "
    "of one device",
    "centralstorage": "TensorFlow calls it experimental, and nothing here was tested under it",
}


def check_name(name: str) -> tuple[str, str]:
    """Takes the name of a strategy apart.

    Args:
        name: `auto`, `one_device`, `mirrored`, `multi_worker`, `tpu`, `tpu:NAME`, `virtual:N`,
            `sharded`, `sharded:fsdp` or `sharded:DATAxMODEL`.

    Returns:
        The kind, one of `STRATEGIES`, and what follows its colon, `""` if nothing does.

    Raises:
        CommandError: If there is no such strategy, or its argument is missing or wrong.

    Example:

    >>> check_name("virtual:4")
    ('virtual', '4')
    """
    kind, colon, argument = name.partition(":")
    if why := _REFUSED.get(_bare(kind)):
        raise CommandError(
            f"strategy {name!r} is not supported: {why}",
            fix="use multi_worker for several machines, mirrored for several GPUs of one",
        )
    if kind not in STRATEGIES:
        near = difflib.get_close_matches(_bare(kind), [_bare(known) for known in STRATEGIES], 1)
        meant = next((known for known in STRATEGIES if _bare(known) in near), None)
        raise CommandError(
            f"unknown strategy {name!r}. Expected: {EXPECTED}",
            fix=f"did you mean {'virtual:N' if meant == 'virtual' else meant}?" if meant else None,
        )
    if kind == "virtual":
        # isdecimal() alone takes digits of other scripts, too.
        if not (_NUMBER.fullmatch(argument) and 1 <= int(argument) <= _MOST_VIRTUAL):
            raise CommandError(
                f"strategy {name[:80]!r} does not say how many devices",
                fix=f"give a whole number from 1 to {_MOST_VIRTUAL}, as in virtual:2",
            )
    elif kind == "sharded" and argument:
        mesh_of(argument)
    elif colon and (kind != "tpu" or not argument):
        raise CommandError(f"unknown strategy {name!r}. Expected: {EXPECTED}")
    return kind, argument


def is_sharded(name: str) -> bool:
    """Tells whether a strategy's name is that of a sharded one, which computes with JAX."""
    return name.partition(":")[0] == "sharded"


def mesh_of(argument: str) -> tuple[int, int] | None:
    """Returns the devices along the axes `data` and `model` of `sharded:ARGUMENT`.

    Args:
        argument: `fsdp` or `DATAxMODEL`; `""` is `fsdp`.

    Returns:
        Both numbers; `None` of `fsdp`: all devices are along `data`.

    Raises:
        CommandError: If it is none of these.

    Example:

    >>> mesh_of("2x4")
    (2, 4)
    """
    if argument in ("", "fsdp"):
        return None
    found = _MESH.fullmatch(argument)
    if found is None:
        raise CommandError(
            f"strategy {'sharded:' + argument[:80]!r} does not say how the devices are arranged",
            fix="give sharded:fsdp, or two whole numbers as in sharded:2x4: parts of a batch by "
            "parts of a layer",
        )
    return int(found[1]), int(found[2])


def check_communication(communication: str) -> None:
    """Checks the name of a way to add up gradients.

    Args:
        communication: `auto`, `ring` or `nccl`.

    Raises:
        CommandError: If it is none of these.
    """
    if communication not in COMMUNICATIONS:
        raise CommandError(f"unknown communication {communication!r}. Expected: auto, ring or nccl")


def _bare(name: str) -> str:
    """Returns a name without what tells `MultiWorkerMirroredStrategy` from `multi_worker`."""
    return name.lower().replace("_", "").replace("-", "").removesuffix("strategy")
