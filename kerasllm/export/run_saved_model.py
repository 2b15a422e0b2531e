"""Runs an exported SavedModel. A script, for a process with TensorFlow and nothing else:

    python -P run_saved_model.py FOLDER SIGNATURE CALLS.json OUTPUTS.npz [LIBRARY]

`CALLS.json` is a list of the inputs of each call, by name. What a call gives, but for strings, is
`NUMBER/NAME` in `OUTPUTS.npz`. LIBRARY is imported first: TensorFlow Text, where its ops are used.

Neither kerasllm nor Keras can be imported in it, so that it fails if the files need them. (`-P`, or
Python would find the modules beside this file instead of libraries of the same name.)
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path


def main(folder: str, signature: str, calls: str, outputs: str, library: str = "") -> None:
    """Calls a signature with each of the inputs, and writes the numbers that come out."""
    if library:
        importlib.import_module(library)
    block()
    import numpy as np
    import tensorflow as tf

    function = tf.saved_model.load(folder).signatures[signature]
    found = {}
    for number, inputs in enumerate(json.loads(Path(calls).read_text(encoding="utf-8"))):
        answer = function(**{name: tf.constant(value) for name, value in inputs.items()})
        for name, value in answer.items():
            if value.dtype != tf.string:
                found[f"{number}/{name}"] = value.numpy()
    np.savez(outputs, **found)


def block() -> None:
    """Lets no later import in this process find what the files must do without."""
    for package in ("kerasllm", "keras", "keras_hub", "tf_keras", "tensorflow_text"):
        # What a library has imported by now cannot be taken from it.
        sys.modules.setdefault(package)


if __name__ == "__main__":
    main(*sys.argv[1:])
