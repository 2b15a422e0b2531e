"""A head on the mean of all tokens, for which neither transformers nor KerasHub has a class.

For Hugging Face it is written as a folder of sentence-transformers: the encoder, the mean, and a
dense layer. For KerasHub it is the preset of the backbone with `head.safetensors` beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np
import safetensors.numpy
import tensorflow as tf

from kerasllm.export.hub_task import INSTALL, OPENING, columns_of
from kerasllm.export.safetensors_files import save_weights
from kerasllm.export.source import Source
from kerasllm.export.token_example import texts_of
from kerasllm.export.token_graph import run_pass
from kerasllm.models.layers import parts_of

MODULES = "modules.json"
POOLING, DENSE = "1_Pooling", "2_Dense"
_LAYERS = (("", "Transformer"), (POOLING, "Pooling"), (DENSE, "Dense"))
_POOLINGS = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
# The head beside a preset, as a run's `model/` has it.
_HEAD_FILE = "head.safetensors"


def is_pooled(model: Any) -> bool:
    """Returns whether a model reads the mean of all tokens, and not the first one."""
    return getattr(model, "pooling", "cls") == "mean"


def last_dense(task: keras_hub.models.Task) -> keras.layers.Dense:
    """Returns the last dense layer of an encoder's head."""
    return [layer for layer in parts_of(task).head if isinstance(layer, keras.layers.Dense)][-1]


def write_modules(source: Source, folder: Path) -> None:
    """Writes what makes a folder with an encoder one of sentence-transformers.

    Args:
        source: What is exported.
        folder: The folder, with an encoder and its tokenizer.
    """
    modules = [
        {
            "idx": number,
            "name": str(number),
            "path": path,
            "type": f"sentence_transformers.models.{kind}",
        }
        for number, (path, kind) in enumerate(_LAYERS)
    ]
    dense = last_dense(source.model.task)
    width, outputs = map(int, dense.kernel.shape)
    modes = {f"pooling_mode_{name}": name == "mean_tokens" for name in _POOLINGS}
    pooling = {"word_embedding_dimension": width, **modes, "include_prompt": True}
    layer = {
        "in_features": width,
        "out_features": outputs,
        "bias": True,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    _write_json(folder / MODULES, modules)
    limits = {"max_seq_length": source.max_length, "do_lower_case": False}
    _write_json(folder / "sentence_bert_config.json", limits)
    for name, config in ((POOLING, pooling), (DENSE, layer)):
        (folder / name).mkdir()
        _write_json(folder / name / "config.json", config)
    kernel, bias = (keras.ops.convert_to_numpy(one) for one in (dense.kernel, dense.bias))
    save_weights({"linear.weight": kernel.T, "linear.bias": bias}, folder / DENSE)


def read_modules(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads the dense layer that `write_modules` wrote: `[width, outputs]` and `[outputs]`."""
    tensors = safetensors.numpy.load_file(folder / DENSE / "model.safetensors")
    return tensors["linear.weight"].T, tensors["linear.bias"]


def run_preset(source: Source, folder: Path) -> np.ndarray:
    """Runs a preset of KerasHub with a head beside it; see `Format.predict`."""
    backbone = keras_hub.models.Backbone.from_preset(str(folder))
    head = safetensors.numpy.load_file(folder / _HEAD_FILE)
    forward = pooled_pass(backbone, head["kernel"], head["bias"])
    return run_pass(source, source.tokens, forward)


def pooled_pass(
    backbone: keras_hub.models.Backbone, kernel: np.ndarray, bias: np.ndarray
) -> Callable[[Mapping[str, np.ndarray]], tf.Tensor]:
    """Returns the function from inputs to logits: the mean over all tokens, and a dense layer."""
    names = list(backbone.input)

    def forward(inputs):
        states = _states(backbone({name: inputs[name] for name in names}, training=False))
        mask = tf.cast(inputs["padding_mask"], tf.float32)[:, :, None]
        total = tf.reduce_sum(states * mask, axis=1)
        return tf.matmul(total / tf.reduce_sum(mask, axis=1), kernel) + bias

    return forward


def token_pass(
    backbone: keras_hub.models.Backbone, kernel: np.ndarray, bias: np.ndarray
) -> Callable[[Mapping[str, np.ndarray]], tf.Tensor]:
    """Returns the function from inputs to the logits of every token: one dense layer."""
    names = list(backbone.input)

    def forward(inputs):
        states = _states(backbone({name: inputs[name] for name in names}, training=False))
        return tf.tensordot(states, kernel, 1) + bias

    return forward


def preset_usage(source: Source) -> str:
    """Returns the Markdown that shows how to run a preset with a head beside it."""
    states = "backbone(inputs)"
    if isinstance(source.model.task.backbone.output, dict):
        states += '["sequence_output"]'
    code = [
        f"{OPENING}\nimport safetensors.numpy",
        "",
        'preprocessor = keras_hub.models.TextClassifierPreprocessor.from_preset("./")',
        'backbone = keras_hub.models.Backbone.from_preset("./")',
        f'head = safetensors.numpy.load_file("{_HEAD_FILE}")',
        f"texts = {texts_of(source)!r}",
        f"inputs = preprocessor({columns_of(source)})",
        f"states = np.asarray({states})",
        'mask = np.asarray(inputs["padding_mask"], "float32")[:, :, None]',
        'logits = (states * mask).sum(1) / mask.sum(1) @ head["kernel"] + head["bias"]',
        *source.head.from_logits,
        *source.head.reading,
    ]
    return "\n".join(
        [
            (
                "The folder is a preset of KerasHub: the backbone, the tokenizer and the "
                "preprocessor. KerasHub has no class for the head, which reads the mean of all "
                f"tokens: its weights are in `{_HEAD_FILE}`. {INSTALL}\n"
            ),
            *["```python", *code, "```"],
        ]
    )


def modules_usage(source: Source) -> str:
    """Returns the Markdown that shows how to run a folder of sentence-transformers."""
    texts = f"texts = {texts_of(source)!r}"
    columns = "texts" if len(source.head.texts) == 1 else "*map(list, zip(*texts))"
    cut = '"only_second"' if source.truncation == "only_second" else "True"
    return f"""\
transformers has no class for the head, which reads the mean of all tokens. The folder is laid out
for sentence-transformers (`pip install sentence-transformers`):

```python
import numpy as np
from sentence_transformers import SentenceTransformer

{texts}
logits = SentenceTransformer("./").encode(texts)
{_lines(source.head.from_logits)}
{_lines(source.head.reading)}
```

The same logits by transformers and torch alone:

```python
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

{texts}
tokenizer, encoder = AutoTokenizer.from_pretrained("./"), AutoModel.from_pretrained("./")
head = load_file("{DENSE}/model.safetensors")
inputs = tokenizer({columns}, truncation={cut}, padding=True, return_tensors="pt")
with torch.inference_mode():
    states = encoder.eval()(**inputs).last_hidden_state
mask = inputs["attention_mask"][:, :, None]
pooled = (states * mask).sum(1) / mask.sum(1)
logits = (pooled @ head["linear.weight"].T + head["linear.bias"]).numpy()
```
"""


def _states(found) -> tf.Tensor:
    return tf.cast(found["sequence_output"] if isinstance(found, dict) else found, tf.float32)


def _lines(lines) -> str:
    return "\n".join(lines)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
