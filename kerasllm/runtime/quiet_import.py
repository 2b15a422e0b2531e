"""Imports TensorFlow and KerasHub without a page of notices, in any module."""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader

from kerasllm.runtime.switches import is_off

PACKAGES = ("keras_hub", "tensorflow", "tensorflow_text")
"""TensorFlow, and what kerasllm imports with it."""

# From this level on TensorFlow logs nothing; a user who sets a lower one wants to read.
_SILENT = 3


def install() -> None:
    """Makes the import of TensorFlow silent, and sets before it what TensorFlow reads only then.

    Where TensorFlow has been imported already, what it has not read yet is set at once.

    From `import kerasllm` on: Keras, KerasHub and a user's own program import TensorFlow as well as
    kerasllm does, and the first one decides. Nothing is hidden but what is written to stderr
    until the import has ended; what TensorFlow logs afterwards follows `TF_CPP_MIN_LOG_LEVEL`,
    which is set to `3` unless it is set already. `KERASLLM_QUIET_IMPORT=0` turns it off.
    """
    if sys.modules.get("tensorflow") is not None:
        from kerasllm.runtime import xla_cache

        _set_before_import()
        xla_cache.wait()
    elif not is_off("KERASLLM_QUIET_IMPORT"):
        sys.meta_path.insert(0, _FINDER)


def remove() -> None:
    """Lets TensorFlow write what it wants when it is imported."""
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)


class _Finder:
    """Finds the packages where Python does."""

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        if name not in PACKAGES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Imports a package silently."""

    def create_module(self, spec: ModuleSpec) -> None:
        # Before `sys.modules` has it: what sets the flags asks whether TensorFlow is in use.
        _set_before_import()

    def exec_module(self, module) -> None:
        from kerasllm.runtime import xla_cache
        from kerasllm.runtime.startup import silence

        level = os.environ.get("TF_CPP_MIN_LOG_LEVEL", str(_SILENT))
        if level.isdecimal() and int(level) < _SILENT:
            super().exec_module(module)
        else:
            with silence():
                super().exec_module(module)
        xla_cache.wait()


def _set_before_import() -> None:
    from kerasllm.runtime.startup import set_before_import

    set_before_import()


_FINDER = _Finder()
