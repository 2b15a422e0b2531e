"""kerasllm: fine-tune language models with Keras and TensorFlow."""

import os

from kerasllm._lazy import lazy_names

# KerasHub runs on several backends; tf.distribute and tf.data, on which kerasllm stands, need
# this one. Keras reads the variable when it is first imported.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

__version__ = "0.1.0"

__getattr__ = lazy_names(
    __name__,
    dict.fromkeys(
        ("data", "distribution", "evaluation", "models", "recipe", "training", "workflows"), ""
    ),
)
