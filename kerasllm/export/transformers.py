"""A folder in Hugging Face's layout, which `transformers` loads: config, safetensors, tokenizer."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import keras_hub
import numpy as np

from kerasllm.data.chat.templates import TEMPLATE_FILE
from kerasllm.data.tokenizers import save_huggingface_tokenizer
from kerasllm.data.tokenizers.to_huggingface import check_tokenizer
from kerasllm.data.tokenizers.tokenizer_json import CONFIG_FILE, GENERATION_FILE
from kerasllm.errors import CommandError, JobError, PresetError
from kerasllm.export import run_transformers
from kerasllm.export.decoder_config import decoder_config, token_ids
from kerasllm.export.encoder_config import classifier_config, encoder_config
from kerasllm.export.formats import Format, Options
from kerasllm.export.qwen2_tokenizer import check_qwen2_tokenizer
from kerasllm.export.safetensors_files import save_weights
from kerasllm.export.source import Source
from kerasllm.models.causal_lm import CausalLM
from kerasllm.models.classify import probabilities
from kerasllm.models.decoder import load_causal_lm
from kerasllm.models.decoders import tensors
from kerasllm.models.huggingface import CONFIG
from kerasllm.models.huggingface.encoder_layout import encoder_arrays, encoder_family, head_tensors
from kerasllm.models.text_classifier import TextClassifier


class Transformers(Format):
    """Classifiers (BERT, DistilBERT, RoBERTa, XLM-RoBERTa, ALBERT) and decoders (GPT-2, Llama,
    Mistral, Gemma, Qwen 2 and 3, Phi-3), as transformers itself writes them."""

    tolerance = 1e-3

    def refuse(self, source: Source, options: Options) -> None:
        try:
            if source.is_classifier:
                head_tensors(source.model.task)
                check_tokenizer(source.model.task.preprocessor.tokenizer)
            else:
                model = source.model
                config = decoder_config(model.backbone, model.tokenizer, source.max_length)
                if config["model_type"] == "qwen2":
                    check_qwen2_tokenizer(model.tokenizer, source.rows)
        except PresetError as error:
            raise CommandError(
                error.what, where="--format transformers", fix="use --format keras_hub"
            ) from error

    def write(self, source: Source, folder: Path, options: Options) -> None:
        if source.is_classifier:
            save_classifier(source.model, folder, source.max_length)
        else:
            save_decoder(source.model, folder, source.max_length)

    def predict(self, source: Source, folder: Path, options: Options) -> np.ndarray:
        """By transformers where it is installed, and else by kerasllm, which reads the folder."""
        if has_transformers():
            logits = _run_transformers(folder, source.rows)
            return probabilities(logits) if source.is_classifier else logits
        load = TextClassifier.from_preset if source.is_classifier else load_causal_lm
        return dataclasses.replace(source, model=load(folder)).expected

    def usage(self, source: Source, options: Options) -> str:
        usage = _CLASSIFIER_USAGE if source.is_classifier else _decoder_usage(source.model)
        return usage + (_BY_TRANSFORMERS if has_transformers() else _BY_KERASLLM)


FORMAT = Transformers()


def has_transformers() -> bool:
    """Returns whether transformers and torch are installed here."""
    return all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


def save_classifier(model: TextClassifier, folder: Path, max_length: int) -> None:
    """Writes a classifier as transformers' `...ForSequenceClassification`.

    Args:
        model: The classifier, without adapters.
        folder: The folder; must exist.
        max_length: The most tokens of a text.

    Raises:
        PresetError: If transformers has no such model.
    """
    task = model.task
    encoder = _with_prefix(task.backbone)
    save_weights({**encoder, **head_tensors(task)}, folder)
    _write_json(folder / CONFIG, classifier_config(task, model.labels.names))
    save_huggingface_tokenizer(task.preprocessor.tokenizer, folder, max_length)
    # How the classes are written in the training data, which transformers does not ask for.
    model.labels.save(folder)


def save_encoder(
    backbone: keras_hub.models.Backbone,
    tokenizer: keras_hub.tokenizers.Tokenizer,
    folder: str | Path,
    max_length: int | None = None,
) -> None:
    """Writes an encoder without a head as transformers' `...Model`.

    KerasHub's RoBERTa has no pooler: load it with `add_pooling_layer=False`.

    Args:
        backbone: A BERT, DistilBERT, RoBERTa, XLM-RoBERTa or ALBERT of KerasHub.
        tokenizer: Its tokenizer.
        folder: The folder; must exist.
        max_length: The most tokens of a text. Defaults to `None`: as many as the encoder reads.

    Raises:
        PresetError: If transformers has no such model.

    Example:

    ```python
    task = build_task("minilm_l6_en_uncased", num_classes=2)
    save_encoder(task.backbone, task.preprocessor.tokenizer, "encoder")
    transformers.AutoModel.from_pretrained("encoder")
    ```
    """
    folder = Path(folder)
    save_weights(encoder_arrays(backbone), folder)
    _write_json(folder / CONFIG, encoder_config(backbone, tokenizer))
    longest = max_length or backbone.max_sequence_length
    save_huggingface_tokenizer(tokenizer, folder, longest)


def save_decoder(model: CausalLM, folder: Path, max_length: int) -> None:
    """Writes a causal language model as transformers' `...ForCausalLM`.

    Args:
        model: The model, without adapters.
        folder: The folder; must exist.
        max_length: The most tokens of a text.

    Raises:
        PresetError: If transformers has no such model.
    """
    tokenizer = model.tokenizer
    longest = model.max_length or max_length
    save_weights(tensors(model.backbone), folder)
    _write_json(folder / CONFIG, decoder_config(model.backbone, tokenizer, longest))
    tokenizer.save(folder)
    settings = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    _write_json(folder / CONFIG_FILE, {**settings, "model_max_length": longest})
    _write_json(folder / "special_tokens_map.json", tokenizer.named_tokens)
    _write_json(folder / GENERATION_FILE, token_ids(tokenizer))
    if model.chat_template is not None:
        (folder / TEMPLATE_FILE).write_text(_self_contained(model), encoding="utf-8")


def _with_prefix(backbone: keras_hub.models.Backbone) -> dict:
    prefix = encoder_family(backbone).prefix
    return {prefix + name: value for name, value in encoder_arrays(backbone).items()}


def _self_contained(model: CausalLM) -> str:
    """Returns the chat template; what kerasllm alone would tell it is written into it."""
    source = model.chat_template.source
    if "start_token" not in source:
        return source
    start = json.dumps(model.tokenizer.start_token or "", ensure_ascii=False)
    return "{%- set start_token = " + start + " -%}\n" + source


def _run_transformers(folder: Path, rows: list[str]) -> np.ndarray:
    with tempfile.TemporaryDirectory() as made:
        texts, output = Path(made) / "texts.json", Path(made) / "logits.npy"
        texts.write_text(json.dumps(rows), encoding="utf-8")
        script = [sys.executable, "-P", run_transformers.__file__]
        command = [*script, str(folder), str(texts), str(output)]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
            raise JobError(
                f"transformers cannot run the exported folder: {last}",
                fix="update transformers, or export where it is not installed",
            )
        return np.load(output)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


_CLASSIFIER_USAGE = """\
```python
from transformers import pipeline

classify = pipeline("text-classification", "./")
classify("A film to remember.", truncation=True)
```

`truncation=True` cuts texts to the length that the model was trained with. `kerasllm` reads the
folder too: `TextClassifier.from_preset("./")`, or `model.preset` of a recipe.
"""

_BY_TRANSFORMERS = """
It was checked by running it with transformers.
"""
_BY_KERASLLM = """
It was checked by reading it back with kerasllm: transformers was not installed where it was made.
"""


def _decoder_usage(model: CausalLM) -> str:
    prompt = '"Once upon a time"'
    if model.chat_template is not None:
        prompt = '[{"role": "user", "content": "What is a whale?"}]'
    return f"""\
```python
from transformers import pipeline

generate = pipeline("text-generation", "./")
generate({prompt}, max_new_tokens=64)
```

`kerasllm` reads the folder too: `kerasllm generate ./`, or `model.preset` of a recipe.
"""
