"""A folder in Hugging Face's layout, which `transformers` loads: config, safetensors, tokenizer."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import keras_hub
import numpy as np
import tensorflow as tf

from kerasllm.data.chat.templates import TEMPLATE_FILE
from kerasllm.data.tokenizers import save_huggingface_tokenizer
from kerasllm.data.tokenizers.to_huggingface import check_tokenizer
from kerasllm.data.tokenizers.tokenizer_json import CONFIG_FILE, GENERATION_FILE
from kerasllm.errors import CommandError, JobError, PresetError
from kerasllm.export import run_transformers
from kerasllm.export.decoder_config import decoder_config, token_ids
from kerasllm.export.encoder_config import encoder_config, head_config
from kerasllm.export.encoder_decoder_files import (
    encoder_decoder_config,
    encoder_decoder_usage,
    save_for_transformers,
)
from kerasllm.export.formats import Engine, Format, Options
from kerasllm.export.hub_task import save_labels
from kerasllm.export.pooled_head import (
    is_pooled,
    last_dense,
    modules_usage,
    pooled_pass,
    read_modules,
    token_pass,
    write_modules,
)
from kerasllm.export.qwen2_tokenizer import check_qwen2_tokenizer
from kerasllm.export.safetensors_files import save_weights
from kerasllm.export.source import Source
from kerasllm.export.target_logits import target_logits
from kerasllm.export.token_files import read_tokens, write_encoder_tokenizer
from kerasllm.export.token_graph import encoder_pass, run_pass
from kerasllm.export.token_rows import LONGEST_FIRST
from kerasllm.models.causal_lm import CausalLM
from kerasllm.models.decoders import tensors
from kerasllm.models.decoders.layout import Tensor, tensors_of
from kerasllm.models.encoder import build_task
from kerasllm.models.encoder_decoder import open_encoder_decoder
from kerasllm.models.huggingface import CONFIG
from kerasllm.models.huggingface.encoder_layout import (
    encoder_arrays,
    encoder_family,
    head_tensors,
)
from kerasllm.models.huggingface.heads import (
    OF_SPANS,
    TOKEN_HEADS,
    assign_head,
    read_token_head,
)
from kerasllm.models.huggingface.masked_lm_heads import (
    OF_VOCABULARY,
    WITH_PAIRS,
    vocabulary_head_tensors,
)


class Transformers(Format):
    """Encoders with a head (BERT, DistilBERT, RoBERTa, XLM-RoBERTa, ALBERT), decoders (GPT-2,
    Llama, Mistral, Gemma, Qwen 2 and 3, Phi-3) and encoder-decoders (BART, T5, mBART, Marian,
    Pegasus), as transformers itself writes them."""

    def refuse(self, source: Source, options: Options) -> None:
        try:
            if source.is_encoder_decoder:
                encoder_decoder_config(source.model.parts)
            elif source.generates:
                model = source.model
                config = decoder_config(model.backbone, model.tokenizer, source.max_length)
                if config["model_type"] == "qwen2":
                    check_qwen2_tokenizer(model.tokenizer, source.rows)
            else:
                if source.head.architecture:
                    _head_tensors(source)
                elif not is_pooled(source.model):
                    raise PresetError(f"transformers has no class for a {source.head.kind}")
                encoder_family(source.model.task.backbone)
                check_tokenizer(source.model.task.preprocessor.tokenizer)
        except PresetError as error:
            others = [one for one in source.head.formats or ("keras_hub",) if one != "transformers"]
            fix = f"use --format {others[-1]}" if others else "use the run directory itself"
            raise CommandError(error.what, where="--format transformers", fix=fix) from error

    def write(self, source: Source, folder: Path, options: Options) -> None:
        if source.is_encoder_decoder:
            save_for_transformers(source.model.parts, folder, source.max_length)
        elif source.generates:
            save_decoder(source.model, folder, source.max_length)
        else:
            _save_encoder_with_head(source, folder)

    def predict(self, source: Source, folder: Path, options: Options) -> np.ndarray:
        """By transformers where it is installed, and else by kerasllm, which reads the folder."""
        if has_transformers():
            rows = source.prefixed if source.is_encoder_decoder else source.rows
            logits, lengths = _run_transformers(folder, rows)
            if source.is_encoder_decoder:
                return np.concatenate(source.compared_in(logits, lengths))
            if source.generates:
                return logits
            found = source.head.outputs(tf.constant(logits))[source.head.compared]
            return np.concatenate(source.compared_in(np.asarray(found), lengths))
        if source.is_encoder_decoder:
            return target_logits(open_encoder_decoder(folder), source.prefixed, source.max_length)
        if source.generates:
            return dataclasses.replace(source, model=source.task.open(folder)).expected
        return run_pass(source, read_tokens(source, folder), _read_back(source, folder))

    def engine(self) -> Engine:
        return Engine.of("transformers") if has_transformers() else Engine.own("transformers")

    def usage(self, source: Source, options: Options) -> str:
        if source.is_encoder_decoder:
            return encoder_decoder_usage(source.prefixed[0])
        if source.generates:
            return _decoder_usage(source.model)
        return _encoder_usage(source) if source.head.architecture else modules_usage(source)

    def library(self, source: Source) -> str:
        return "transformers" if source.head.architecture else "sentence-transformers"


FORMAT = Transformers()


def has_transformers() -> bool:
    """Returns whether transformers and torch are installed here."""
    return all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


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
        max_length: The maximum number of tokens of a text. Defaults to `None`: as many as the
            encoder reads.

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
        max_length: The maximum number of tokens of a text.

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


def _save_encoder_with_head(source: Source, folder: Path) -> None:
    """Writes an encoder as the class of transformers that `Head.architecture` names.

    Where transformers has none, the folder is one of sentence-transformers.

    Raises:
        PresetError: If transformers has no such encoder.
    """
    task = source.model.task
    if source.head.architecture is None:
        save_encoder(task.backbone, task.preprocessor.tokenizer, folder, source.max_length)
        write_modules(source, folder)
    else:
        prefix = encoder_family(task.backbone).prefix
        encoder = {
            prefix + name: one
            for name, one in encoder_arrays(task.backbone).items()
            # transformers' heads on every token alone have no pooler.
            if source.head.architecture == WITH_PAIRS
            or not (source.head.per_token and name.startswith("pooler"))
        }
        save_weights({**encoder, **_head_tensors(source)}, folder)
        _write_json(folder / CONFIG, head_config(task, source.head))
    write_encoder_tokenizer(source, folder)
    # How the training data write the labels, which transformers does not ask for.
    save_labels(source.model, folder)


def _head_tensors(source: Source) -> dict[str, Tensor]:
    """Returns the tensors of a head by transformers' names."""
    if source.head.architecture in (OF_VOCABULARY, WITH_PAIRS):
        model = source.model
        pretraining = model.sentence_head, model.pretraining.sentence_task
        return vocabulary_head_tensors(model.task, *pretraining)
    if source.head.per_token:
        dense = TOKEN_HEADS[source.head.architecture]
        return tensors_of({dense: (last_dense(source.model.task),)})
    return head_tensors(source.model.task)


def _read_back(source: Source, folder: Path) -> Callable:
    """Returns the forward pass of an exported folder, as kerasllm reads it."""
    if source.head.architecture in (OF_VOCABULARY, WITH_PAIRS):
        return encoder_pass(source.task.open(folder).task)
    outputs = int(source.model.task.output_shape[-1])
    # A class of KerasHub's on the folder's encoder, whose head is not used.
    read = build_task(folder, num_classes=2, dropout=0.0)
    if source.head.architecture is None:
        return pooled_pass(read.backbone, *read_modules(folder))
    if source.head.per_token:
        return token_pass(read.backbone, **read_token_head(folder))
    task = type(read)(backbone=read.backbone, num_classes=outputs, preprocessor=read.preprocessor)
    assign_head(task, folder)
    return encoder_pass(task)


def _self_contained(model: CausalLM) -> str:
    """Returns the chat template; what kerasllm alone would tell it is written into it."""
    source = model.chat_template.source
    if "start_token" not in source:
        return source
    start = json.dumps(model.tokenizer.start_token or "", ensure_ascii=False)
    return "{%- set start_token = " + start + " -%}\n" + source


def _run_transformers(folder: Path, rows: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """Returns the logits of rows, and how many tokens each has; see `run_transformers`."""
    with tempfile.TemporaryDirectory() as made:
        texts, output = Path(made) / "rows.json", Path(made) / "output.npz"
        texts.write_text(json.dumps(list(rows)), encoding="utf-8")
        script = [sys.executable, "-P", run_transformers.__file__]
        command = [*script, str(folder), str(texts), str(output)]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            last = (done.stderr.strip() or "no error message").splitlines()[-1]
            raise JobError(
                f"transformers cannot run the exported folder: {last}",
                fix="update transformers, or export where it is not installed",
            )
        with np.load(output) as found:
            return found["logits"], found["lengths"]


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# transformers 5 has no pipeline for it.
_SPANS_USAGE = """\
```python
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("./")
model = AutoModelForQuestionAnswering.from_pretrained("./")
question, context = {question!r}, {context!r}
inputs = tokenizer(question, context, return_offsets_mapping=True, return_tensors="pt")
offsets = inputs.pop("offset_mapping")[0]
with torch.inference_mode():
    outputs = model(**inputs)
# The tokens of the context, and spans that do not end before they start.
tokens = torch.tensor([one == 1 for one in inputs.sequence_ids()])
scores = outputs.start_logits[0][:, None] + outputs.end_logits[0][None]
scores = scores.masked_fill(~(tokens[:, None] & tokens[None]).triu(), -1e9)
start, end = divmod(int(scores.argmax()), len(tokens))
print(context[offsets[start][0] : offsets[end][1]])
```

A context that is longer than the model reads is cut here; `kerasllm` reads it in windows.
`kerasllm` reads the folder too: as `model.preset` of a recipe.
"""
# What a pipeline must be told, by the kind of problem.
_PIPELINE_OPTIONS = {
    "multi_label_classification": {"top_k": None},
    "regression": {"function_to_apply": "none"},
}


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


def _encoder_usage(source: Source) -> str:
    head = source.head
    if head.architecture == OF_SPANS:
        return _SPANS_USAGE.format(question=head.example[0][0], context=head.example[0][1])
    example = dict(zip(("text", "text_pair"), head.example[0]))
    given = repr(example if len(head.texts) > 1 else example["text"])
    options = {} if head.per_token else {"truncation": True}
    if source.truncation != LONGEST_FIRST and not head.per_token:
        options["truncation"] = source.truncation
    options |= _PIPELINE_OPTIONS.get(head.config.get("problem_type"), {})
    settings = "".join(f", {name}={value!r}" for name, value in options.items())
    cut = (
        "`truncation` cuts texts to the length that the model was trained with. "
        if "truncation" in options
        else ""
    )
    return f"""\
```python
from transformers import pipeline

predict = pipeline("{head.pipeline}", "./")
predict({given}{settings})
```

{cut}`kerasllm` reads the folder too: as `model.preset` of a recipe.
"""
