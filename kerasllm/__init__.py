"""kerasllm: fine-tune language models with Keras and TensorFlow."""

import importlib
import os

# KerasHub runs on several backends; tf.distribute and tf.data, on which kerasllm stands, need
# this one. Keras reads the variable when it is first imported.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

__version__ = "0.1.0"

_SUBPACKAGES = ("data", "evaluation", "models", "recipe", "training", "workflows")


def __getattr__(name: str):
    """Imports a subpackage on first use, so that `import kerasllm` costs nothing."""
    if name in _SUBPACKAGES:
        return importlib.import_module(f"kerasllm.{name}")
    raise AttributeError(f"module 'kerasllm' has no attribute '{name}'")
