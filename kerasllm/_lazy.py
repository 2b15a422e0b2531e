"""Public names that are imported on first use, so that a light command stays light."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping

# What imports Keras, on any of its backends.
_NEEDS_KERAS = ("kerasllm.models.", "kerasllm.training.")


def lazy_names(
    package: str, names: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Returns what makes names of other modules public in a package, each imported on first use.

    Type checkers do not see these names: a package also imports them under `TYPE_CHECKING`.

    Args:
        package: The package's `__name__`.
        names: The module, below the package, of each public name; `""` where the name is itself
            a module.

    Returns:
        The package's `__getattr__`, `__dir__` and `__all__`.
    """

    def __getattr__(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        if f"{package}.{names[name]}.".startswith(_NEEDS_KERAS):
            from kerasllm.environment import refuse_other_keras

            refuse_other_keras()
        if not names[name]:
            return importlib.import_module(f"{package}.{name}")
        return getattr(importlib.import_module(f"{package}.{names[name]}"), name)

    def __dir__() -> list[str]:
        # Without what the package imports for itself.
        own = {name for name in vars(sys.modules[package]) if name.startswith("__")}
        return sorted(own.union(names))

    return __getattr__, __dir__, sorted(names)
