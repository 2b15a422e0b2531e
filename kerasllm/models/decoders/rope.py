"""Rotary positions as a Hugging Face config.json describes them, in both of its spellings.

transformers 5 writes one object, `rope_parameters`; before, it was `rope_theta` with an optional
`rope_scaling`. Each key of these is honoured or refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from kerasllm.errors import PresetError

_FROM_REPOSITORY = "use the file from the model's own repository"
# What each type must say besides its name; `longrope` was spelled `su` at first.
_NUMBERS = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "longrope": (),
}
_LISTS = {"longrope": ("short_factor", "long_factor")}
KEYS = ("rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor")


@dataclass(frozen=True)
class Rope:
    """Rotary positions.

    Attributes:
        theta: The base of the wavelengths.
        kind: `"default"`, `"linear"`, `"llama3"` or `"longrope"`.
        values: What the kind says besides: numbers, and lists of numbers.
    """

    theta: float
    kind: str
    values: Mapping[str, float | list[float]]


def read_rope(config: Mapping, model_type: str, kinds: tuple[str, ...], where: str) -> Rope:
    """Reads the rotary positions of a config.json.

    Args:
        config: The content of config.json.
        model_type: The family, for messages.
        kinds: What KerasHub computes for this family.
        where: The file, for messages.

    Raises:
        PresetError: A kind or a key that KerasHub would not honour.
    """
    key, found = _parameters(config, where)
    place = f"{where}: {key}"
    kind = found.pop("rope_type", None) or found.pop("type", None) or "default"
    found.pop("type", None)
    kind = "longrope" if kind == "su" else kind
    if kind not in kinds:
        raise PresetError(
            f"rope_type is {kind!r}; KerasHub's {model_type} computes only "
            f"{' or '.join(map(repr, kinds))}",
            where=place,
            fix="use another model: this one would load but compute something else",
        )
    theta = _number(found.pop("rope_theta", 10_000.0), "rope_theta", place)
    rotated = found.pop("partial_rotary_factor", None)
    if rotated not in (None, 1, 1.0):
        raise PresetError(
            f"partial_rotary_factor is {rotated!r}; KerasHub's {model_type} rotates whole heads",
            where=place,
            fix="use another model: this one would load but compute something else",
        )
    values: dict = {name: _number(found.pop(name, None), name, place) for name in _NUMBERS[kind]}
    for name in _LISTS.get(kind, ()):
        listed = found.pop(name, None)
        values[name] = [_number(value, name, place) for value in _listed(listed, name, place)]
    if kind == "longrope" and found.get("original_max_position_embeddings") is not None:
        name = "original_max_position_embeddings"
        values[name] = _number(found.pop(name), name, place)
    if kind == "longrope":
        _check_ratio(found.pop("factor", None), values, config, place)
    for name, value in found.items():
        if value is not None:
            raise PresetError(
                f"{name} is {value!r}; kerasllm does not know it in positions of type {kind!r}",
                where=place,
                fix="use another model",
            )
    return Rope(theta, kind, values)


def _check_ratio(factor: object, values: Mapping, config: Mapping, where: str) -> None:
    """Refuses a `factor` of long positions that is not the one that KerasHub computes itself."""
    key = "original_max_position_embeddings"
    trained = values.get(key) or config.get(key)
    longest = config.get("max_position_embeddings")
    if factor is not None and (not trained or not longest or factor != longest / trained):
        raise PresetError(
            f"factor is {factor!r}; KerasHub computes only max_position_embeddings by {key}",
            where=where,
            fix="use another model: this one would load but compute something else",
        )


def _parameters(config: Mapping, where: str) -> tuple[str, dict]:
    """Brings the two spellings together."""
    given = {key: config[key] for key in ("rope_parameters", "rope_scaling") if config.get(key)}
    for key, value in given.items():
        if not isinstance(value, dict):
            raise PresetError(
                f"{key} must be an object, got {value!r}", where=where, fix=_FROM_REPOSITORY
            )
    if len(given) == 2 and given["rope_parameters"] != given["rope_scaling"]:
        raise PresetError(
            "rope_parameters and rope_scaling are both present and differ",
            where=where,
            fix="keep the correct one in a local copy",
        )
    key = next(iter(given), "rope_theta")
    found = dict(given.get(key, {}))
    for name in ("rope_theta", "partial_rotary_factor"):
        outer = config.get(name)
        if outer is not None and found.setdefault(name, outer) != outer:
            raise PresetError(
                f"{name} is {outer!r}, and {found[name]!r} in {key}",
                where=f"{where}: {name}",
                fix="keep the correct one in a local copy",
            )
    return key, found


def _listed(value: object, name: str, where: str) -> list:
    if not isinstance(value, list):
        raise PresetError(
            f"{name} must be a list of numbers, got {value!r}", where=where, fix=_FROM_REPOSITORY
        )
    return value


def _number(value: object, name: str, where: str) -> float:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not fits or not math.isfinite(value) or value <= 0:
        raise PresetError(
            f"{name} must be a number above 0, got {value!r}", where=where, fix=_FROM_REPOSITORY
        )
    return float(value)
