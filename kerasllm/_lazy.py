"""Public names that are imported on first use, so that a light command stays light."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping


def lazy_names(package: str, names: Mapping[str, str]) -> Callable[[str], object]:
    """Returns a module's `__getattr__` that imports each name from its home when it is asked for.

    Args:
        package: The package's `__name__`.
        names: The module, below the package, of each public name; `""` where the name is itself
            a module.
    """

    def __getattr__(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        if not names[name]:
            return importlib.import_module(f"{package}.{name}")
        return getattr(importlib.import_module(f"{package}.{names[name]}"), name)

    return __getattr__
