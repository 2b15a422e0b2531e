"""An encoder-decoder as transformers' `...ForConditionalGeneration`: config, weights, tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np

from kerasllm.data.tokenizers import TokenizerJson
from kerasllm.data.tokenizers.tokenizer_json import (
    CONFIG_FILE,
    GENERATION_FILE,
    TOKENIZER_FILE,
)
from kerasllm.errors import PresetError
from kerasllm.export.safetensors_files import save_weights
from kerasllm.models.encoder_decoder import EncoderDecoder
from kerasllm.models.encoder_decoder_backbone import (
    LEARNED,
    SINUSOIDAL,
    EncoderDecoderBackbone,
    sinusoids,
)
from kerasllm.models.encoder_decoders import FAMILIES, tensors
from kerasllm.models.encoder_decoders.built import ACTIVATIONS
from kerasllm.models.encoder_decoders.frame import Frame
from kerasllm.models.encoder_decoders.text_side import GENERATION
from kerasllm.models.huggingface import CONFIG

_ARCHITECTURES = {
    "bart": "BartForConditionalGeneration",
    "marian": "MarianMTModel",
    "mbart": "MBartForConditionalGeneration",
    "pegasus": "PegasusForConditionalGeneration",
    "t5": "T5ForConditionalGeneration",
}
# The parts of an `EncoderDecoderBackbone`: pre-norm, norm of embeddings, positions.
_KINDS = {
    (True, True, LEARNED): "mbart",
    # The sinusoids are written as a table.
    (True, True, SINUSOIDAL): "mbart",
    (True, False, SINUSOIDAL): "pegasus",
    (False, True, LEARNED): "bart",
    (False, False, SINUSOIDAL): "marian",
}


def save_for_transformers(
    model: EncoderDecoder, folder: str | Path, max_length: int | None = None
) -> None:
    """Writes an encoder-decoder as the class of transformers that computes the same logits.

    Args:
        model: The model, without adapters.
        folder: The folder; must exist.
        max_length: The maximum number of tokens of a source. Defaults to `None`: as many as the
            model reads.

    Raises:
        PresetError: If transformers has no such model.

    Example:

    ```python
    save_for_transformers(model, "exported")
    transformers.AutoModelForSeq2SeqLM.from_pretrained("exported")
    ```
    """
    folder = Path(folder)
    config = encoder_decoder_config(model)
    save_weights(_arrays(model, config["model_type"]), folder)
    _write_json(folder / CONFIG, config)
    _save_tokenizer(model, folder, max_length or model.max_source_length)
    _write_json(folder / GENERATION_FILE, _generation(model))


def encoder_decoder_usage(text: str) -> str:
    """Returns Markdown that shows how to write a target with an exported folder.

    Args:
        text: A source, with the prefix that the model is used with.
    """
    return f"""\
```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("./")
model = AutoModelForSeq2SeqLM.from_pretrained("./")
inputs = tokenizer({text!r}, truncation=True, return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs)[0], skip_special_tokens=True))
```

`generation_config.json` holds how it writes; what depends on the length of the source is not in it.
`kerasllm` reads the folder too: as `model.preset` of a recipe.
"""


def encoder_decoder_config(model: EncoderDecoder) -> dict:
    """Returns what `config.json` says of an encoder-decoder.

    Args:
        model: The model.

    Raises:
        PresetError: If transformers has no such model.
    """
    backbone = model.backbone
    if not isinstance(model.tokenizer, TokenizerJson):
        raise PresetError(
            f"The tokenizer ({model.tokenizer.description}) has no tokenizer.json, which "
            "transformers reads"
        )
    if model.source_frame != model.target_frame:
        raise PresetError(
            "Sources and targets have different special tokens around them, which transformers' "
            "tokenizers do not support"
        )
    if isinstance(backbone, keras_hub.models.T5Backbone):
        model_type, found = "t5", _t5(model)
    elif isinstance(backbone, keras_hub.models.BartBackbone):
        model_type, found = "bart", _bart(backbone)
    elif isinstance(backbone, EncoderDecoderBackbone):
        model_type, found = _own(backbone)
    else:
        kind = type(backbone).__name__
        raise PresetError(f"kerasllm does not write {kind} as Hugging Face's files")
    if (model_type != "t5" and model.hidden_scale != 1.0) or model.logits_soft_cap is not None:
        raise PresetError(f"transformers' {model_type} does not scale logits as this model does")
    if model_type == "t5" and model.final_logits_bias is not None:
        raise PresetError("transformers' t5 adds nothing to its logits, but this model does")
    bos = model.tokenizer.named_tokens.get("bos_token")
    return {
        "architectures": [_ARCHITECTURES[model_type]],
        "model_type": model_type,
        "is_encoder_decoder": True,
        "dtype": "float32",
        "vocab_size": backbone.vocabulary_size,
        "bos_token_id": None if bos is None else model.tokenizer.token_to_id(bos),
        "eos_token_id": model.end_token_id,
        "pad_token_id": model.pad_token_id,
        "decoder_start_token_id": model.start_token_id,
        # Of transformers' defaults: the end is forced where a text is cut off.
        "forced_eos_token_id": None,
        "use_cache": True,
        **found,
    }


def _bart(backbone: keras_hub.models.BartBackbone) -> dict:
    sizes = {}
    for stack in ("encoder", "decoder"):
        sizes[f"{stack}_layers"] = backbone.num_layers
        sizes[f"{stack}_attention_heads"] = backbone.num_heads
        sizes[f"{stack}_ffn_dim"] = backbone.intermediate_dim
    return {
        **sizes,
        "d_model": backbone.hidden_dim,
        "max_position_embeddings": backbone.max_sequence_length,
        "activation_function": "gelu",
        "scale_embedding": False,
        "dropout": backbone.dropout,
        "attention_dropout": backbone.dropout,
        "tie_word_embeddings": True,
    }


def _own(backbone: EncoderDecoderBackbone) -> tuple[str, dict]:
    kind = (backbone.normalize_first, backbone.embedding_norm, backbone.positions)
    if kind not in _KINDS:
        raise PresetError(
            f"transformers has no encoder-decoder with normalize_first={kind[0]}, "
            f"embedding_norm={kind[1]} and {kind[2]} positions"
        )
    return _KINDS[kind], {
        "encoder_layers": backbone.num_encoder_layers,
        "decoder_layers": backbone.num_decoder_layers,
        "encoder_attention_heads": backbone.num_heads,
        "decoder_attention_heads": backbone.num_decoder_heads,
        "encoder_ffn_dim": backbone.intermediate_dim,
        "decoder_ffn_dim": backbone.decoder_intermediate_dim,
        "d_model": backbone.hidden_dim,
        "max_position_embeddings": backbone.max_sequence_length,
        "activation_function": _function(keras.activations.serialize(backbone.activation)),
        "scale_embedding": backbone.scale_embeddings,
        "dropout": backbone.dropout,
        "attention_dropout": backbone.dropout,
        "tie_word_embeddings": True,
    }


def _t5(model: EncoderDecoder) -> dict:
    backbone = model.backbone
    width = backbone.hidden_dim
    scaled = model.hidden_scale != 1.0
    if scaled and not np.isclose(model.hidden_scale, width**-0.5):
        raise PresetError(
            f"transformers' t5 scales hidden states by {width**-0.5:.4g}, and this model by "
            f"{model.hidden_scale:.4g}"
        )
    if scaled and not backbone.token_embedding.tie_weights:
        raise PresetError("transformers' t5 scales hidden states where embeddings are tied alone")
    function = _function(keras.activations.serialize(backbone.activation))
    gated = backbone.use_gated_activation
    if gated and function == "gelu":
        raise PresetError("transformers' t5 computes gated-gelu by the tanh form only")
    name = "gelu" if gated and function == "gelu_new" else function
    tasks = {task: {"prefix": prefix} for task, prefix in model.prefixes.items()}
    return {
        "d_model": width,
        "d_kv": backbone.key_value_dim or width // backbone.num_heads,
        "d_ff": backbone.intermediate_dim,
        "num_layers": backbone.num_layers,
        "num_decoder_layers": backbone.num_layers,
        "num_heads": backbone.num_heads,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "feed_forward_proj": f"gated-{name}" if gated else name,
        "layer_norm_epsilon": backbone.layer_norm_epsilon,
        "dropout_rate": backbone.dropout,
        # By the first, older transformers knows whether hidden states are scaled; newer by both.
        "tie_word_embeddings": scaled,
        "scale_decoder_outputs": scaled,
        **({"task_specific_params": tasks} if tasks else {}),
    }


def _function(activation: Any) -> str:
    """Returns what transformers calls an activation."""
    # Keras' own is a name; a registered function has it within.
    name = activation if isinstance(activation, str) else activation["config"]
    for theirs, ours in ACTIVATIONS.items():
        if name == ours:
            return theirs
    raise PresetError(f"kerasllm does not know what transformers calls the activation {name}")


def _arrays(model: EncoderDecoder, model_type: str) -> dict:
    backbone = model.backbone
    offset = FAMILIES[model_type].positions_offset
    found = dict(tensors(backbone, offset))
    if model_type == "t5":
        if model.hidden_scale == 1.0 and "lm_head.weight" not in found:
            # Read for itself where hidden states are not scaled.
            found["lm_head.weight"] = found["shared.weight"]
        return found
    if getattr(backbone, "positions", LEARNED) == SINUSOIDAL:
        table = sinusoids(backbone.max_sequence_length, backbone.hidden_dim)
        before = np.zeros((offset, table.shape[1]), table.dtype)
        for stack in ("encoder", "decoder"):
            name = f"model.{stack}.embed_positions.weight"
            found[name] = np.concatenate([before, table])
    bias = model.final_logits_bias
    zeros = np.zeros(backbone.vocabulary_size, "float32")
    found["final_logits_bias"] = (zeros if bias is None else bias)[None]
    return found


def _save_tokenizer(model: EncoderDecoder, folder: Path, longest: int | None) -> None:
    tokenizer = model.tokenizer
    tokenizer.save(folder)
    content = json.loads((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))
    content["post_processor"] = _template(model.source_frame, tokenizer)
    _write_json(folder / TOKENIZER_FILE, content, indent=None)
    settings = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    # Others return segments, which these models do not take.
    settings["model_input_names"] = ["input_ids", "attention_mask"]
    if longest is not None:
        settings["model_max_length"] = longest
    _write_json(folder / CONFIG_FILE, settings)
    _write_json(folder / "special_tokens_map.json", tokenizer.named_tokens)


def _template(frame: Frame, tokenizer: TokenizerJson) -> dict:
    tokens = {id: tokenizer.id_to_token(id) for id in (*frame.before, *frame.after)}

    def special(id: int) -> dict:
        return {"SpecialToken": {"id": tokens[id], "type_id": 0}}

    def around(name: str) -> list[dict]:
        text = {"Sequence": {"id": name, "type_id": 0}}
        return [*map(special, frame.before), text, *map(special, frame.after)]

    return {
        "type": "TemplateProcessing",
        "single": around("A"),
        "pair": [*around("A"), *around("B")],
        "special_tokens": {
            token: {"id": token, "ids": [id], "tokens": [token]} for id, token in tokens.items()
        },
    }


def _generation(model: EncoderDecoder) -> dict:
    forced = model.forced_first_token_id
    known = {name: value for name, value in model.generation.items() if name in GENERATION}
    return {
        **known,
        "decoder_start_token_id": model.start_token_id,
        "eos_token_id": model.end_token_id,
        "pad_token_id": model.pad_token_id,
        **({} if forced is None else {"forced_bos_token_id": forced}),
    }


def _write_json(path: Path, value: object, indent: int | None = 2) -> None:
    path.write_text(json.dumps(value, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
