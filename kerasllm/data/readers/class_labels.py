"""The names that a Parquet file has for the numbers of classes, as `datasets` writes them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from kerasllm.json_files import parse_json

_KEY = b"huggingface"
_MOST_CLASSES = 1 << 16
UNLABELLED = "-1"
"""What a column of classes holds where there is no label."""


@dataclasses.dataclass(frozen=True)
class ClassLabels:
    """The names of the numbers in a column.

    Args:
        names: The names of 0, 1, 2...
        unlabelled: Whether a row may hold -1, which means that it has no label. Defaults to
            `True`.
    """

    names: tuple[str, ...]
    unlabelled: bool = True

    @property
    def by_label(self) -> dict[str, str]:
        """Name by number, both as text."""
        return {str(number): name for number, name in enumerate(self.names)}


def class_names(metadata: Mapping[bytes, bytes] | None, column: str) -> tuple[str, ...] | None:
    """Returns the names of the classes of a column.

    Args:
        metadata: The metadata of a schema.
        column: The column.

    Returns:
        The names of 0, 1, 2...; `None` if the column is not known to hold classes.

    Example:

    >>> class_names(with_class_names({}, {"label": ["ham", "spam"]}), "label")
    ('ham', 'spam')
    """
    try:
        feature = parse_json((metadata or {})[_KEY])["info"]["features"][column]
    except (KeyError, TypeError, ValueError):
        return None
    # Lists of classes have the feature of their items inside.
    while not isinstance(feature, Mapping) or feature.get("_type") != "ClassLabel":
        if isinstance(feature, list) and feature:
            feature = feature[0]
        elif isinstance(feature, Mapping) and "feature" in feature:
            feature = feature["feature"]
        else:
            return None
    names = feature.get("names")
    if names is None and isinstance(feature.get("num_classes"), int):
        names = range(min(feature["num_classes"], _MOST_CLASSES))
    return tuple(map(str, names)) if isinstance(names, (list, range)) else None


def with_class_names(
    metadata: Mapping[bytes, bytes], columns: Mapping[str, Any]
) -> dict[bytes, bytes]:
    """Returns the metadata of a schema with the class names of some columns.

    Args:
        metadata: The metadata that there is.
        columns: The names of the classes by column.
    """
    features = {
        column: {"names": list(names), "_type": "ClassLabel"} for column, names in columns.items()
    }
    return {**metadata, _KEY: json.dumps({"info": {"features": features}}).encode()}
