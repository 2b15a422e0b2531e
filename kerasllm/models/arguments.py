"""Checks of the arguments of `from_preset`, with messages in Python's terms."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any

import keras

from kerasllm import aliases
from kerasllm.errors import KerasllmError

_LORA = ("rank", "alpha", "dropout", "rank_stabilized", "dora", "targets", "train")
_BACKBONE = "backbone"


def check_lora(lora: Any, more: tuple[str, ...] = ()) -> None:
    """Refuses what is no dictionary of the settings of adapters.

    Args:
        lora: As given; `None` is none.
        more: Further settings. Defaults to none.

    Raises:
        ValueError: If it is none.
    """
    if lora is None:
        return
    if not isinstance(lora, Mapping):
        rank = lora if isinstance(lora, int) and not isinstance(lora, bool) and lora else 8
        raise ValueError(
            f'`lora` must be a dictionary, e.g. lora={{"rank": {rank}}}. Received: lora={lora!r}'
        )
    known = (*_LORA, *more)
    for name in lora:
        if name not in known:
            raise ValueError(f"`lora` has no {name!r}: {_instead(name, known)}")
    _check_whole("rank", lora.get("rank", 1))
    alpha = lora.get("alpha", 1)
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or alpha <= 0:
        raise ValueError(f"`alpha` of `lora` must be a number above 0. Received: alpha={alpha!r}")
    for name in ("targets", "train"):
        value = lora.get(name, [])
        if isinstance(value, str) or not isinstance(value, Iterable):
            one = value if isinstance(value, str) else "query"
            raise ValueError(
                f'`{name}` of `lora` must be a list of layer names, e.g. {name}=["{one}"]. '
                f"Received: {name}={value!r}"
            )


def _check_whole(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f"`{name}` of `lora` must be a positive whole number. Received: {name}={value!r}"
        )


def _instead(name: str, known: tuple[str, ...]) -> str:
    """Returns what to write for a setting of adapters that another tool has, or a typo."""
    key = aliases.KEYS.get(aliases.normalized(str(name)))
    ours = key.ours.rpartition(".")[2] if key is not None and key.ours else None
    near = difflib.get_close_matches(str(name), known, n=1)
    if ours in known or near:
        return f"write {ours if ours in known else near[0]!r}."
    return f"it takes {', '.join(known)}."


def check_freeze(freeze: Any, *, backbone: bool) -> None:
    """Refuses what is no number of layers.

    Args:
        freeze: As given.
        backbone: Whether it may be `"backbone"`, too.

    Raises:
        ValueError: If it is none.
    """
    whole = isinstance(freeze, int) and not isinstance(freeze, bool) and freeze >= 0
    if not whole and not (backbone and freeze == _BACKBONE):
        raise ValueError(
            "`freeze` must be a number of layers"
            + (', or "backbone", to train only the head' if backbone else "")
            + f". Received: freeze={freeze!r}"
        )


def check_precision(precision: Any) -> str | None:
    """Returns a Keras dtype policy by its name; `None` and `"auto"` as they are.

    Raises:
        ValueError: If Keras has none of this name.
    """
    if isinstance(precision, keras.DTypePolicy):
        return precision.name
    if precision is None or precision == "auto":
        return precision
    try:
        return keras.DTypePolicy(precision).name
    except (ValueError, TypeError):
        theirs = aliases.KEYS["dtype"].values
        name = {"half": "mixed_float16", **theirs}.get(str(precision).lower())
        raise ValueError(
            '`precision` must be a Keras dtype policy: "float32", "mixed_bfloat16" or '
            f'"mixed_float16"{f"; write {name!r}" if name else ""}. '
            f"Received: precision={precision!r}"
        ) from None


def check_labels(labels: Any) -> None:
    """Refuses labels that are no names of classes.

    Raises:
        ValueError: If they are none.
    """
    if isinstance(labels, int) and not isinstance(labels, bool):
        raise ValueError(
            "`labels` must be the names of the classes, as a list; a number of them is "
            f"num_classes={labels}. Received: labels={labels}"
        )
    if labels is not None and (isinstance(labels, str) or not isinstance(labels, Iterable)):
        raise ValueError(
            f"`labels` must be a list of the names of the classes. Received: labels={labels!r}"
        )


def check_names(given: Mapping, takes: Callable) -> None:
    """Refuses arguments that `from_preset` does not have.

    Args:
        given: Arguments by name.
        takes: What they are passed on to.

    Raises:
        TypeError: If it has no argument of a name.
    """
    known = list(signature(takes).parameters)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise TypeError(
                f"from_preset() has no argument {name!r}"
                + (f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}")
            )


@contextmanager
def as_arguments() -> Iterator[None]:
    """Lets errors of the block name arguments of `from_preset` where they name keys of recipes."""
    try:
        yield
    except KerasllmError as error:
        error.what = _as_argument(error.what)
        error.where = error.where and _as_argument(error.where)
        error.fix = error.fix and _as_argument(error.fix)
        raise


def _as_argument(text: str) -> str:
    text = re.sub(r"\bmodel\.lora\.(\w+)", r"\1", text)
    return re.sub(r"\b(?:model|data)\.(lora|freeze|pooling|dropout|max_length)\b", r"\1", text)
