"""GGUF files: metadata as a Hugging Face configuration, tensors by Hugging Face's names.

What a file says goes through the same checks as a `config.json`; tensors are read from a memory map
and dequantised one at a time. The `gguf` library knows the container and the quantisations.

Reference:
    [The GGUF format](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerasllm.errors import PresetError
from kerasllm.models.decoders.gguf_container import BROKEN, PackedTensor, open_gguf
from kerasllm.models.decoders.source import Source

TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K")

# About the file and who made it; other keys of these groups are refused or read by name.
_HARMLESS = re.compile(r"(general|tokenizer|quantize)\..*")
_BLOCKS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "rope.freq_base": "rope_theta",
    "rope.scaling.original_context_length": "original_max_position_embeddings",
    "vocab_size": "vocab_size",
}
# Read by `_add_rope` and `_add_widths`.
_ELSEWHERE = frozenset(
    {
        "attention.value_length",
        "rope.dimension_count",
        "rope.scaling.type",
        "rope.scaling.factor",
        "rope.scaling.attn_factor",
        # How the model was made, not what it computes.
        "rope.scaling.finetuned",
    }
)
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_ROPE_TENSORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


@dataclass(frozen=True)
class Architecture:
    """How GGUF lays out one architecture.

    Attributes:
        model_type: Hugging Face's name for it.
        keys: Metadata keys, without the architecture's name, and the configuration's.
        outside: Names of tensors that belong to no layer, without `.weight`.
        block: Where a layer is in Hugging Face's names.
        layer: Names of a layer's tensors.
        may_tie: Whether there are files with a tied and with an untied output layer.
    """

    model_type: str
    keys: Mapping[str, str]
    outside: Mapping[str, str]
    block: str
    layer: Mapping[str, str]
    may_tie: bool = False


def _blocks(model_type: str, may_tie: bool, **layer: str) -> Architecture:
    return Architecture(
        model_type, _BLOCKS, _OUTSIDE, "model.layers.{}.", {**_LAYER, **layer}, may_tie
    )


ARCHITECTURES = {
    "llama": _blocks("llama", True),
    "qwen2": _blocks("qwen2", True),
    "qwen3": _blocks("qwen3", True),
    "gemma": _blocks("gemma", False),
    "phi3": _blocks("phi3", False, ffn_up="mlp.gate_up_proj"),
    "gpt2": Architecture(
        "gpt2",
        {
            "block_count": "n_layer",
            "context_length": "n_positions",
            "embedding_length": "n_embd",
            "feed_forward_length": "n_inner",
            "attention.head_count": "n_head",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
            "vocab_size": "vocab_size",
        },
        {
            "token_embd": "transformer.wte",
            "position_embd": "transformer.wpe",
            "output_norm": "transformer.ln_f",
            "output": "lm_head",
        },
        "transformer.h.{}.",
        {
            "attn_norm": "ln_1",
            "attn_qkv": "attn.c_attn",
            "attn_output": "attn.c_proj",
            "ffn_norm": "ln_2",
            "ffn_up": "mlp.c_fc",
            "ffn_down": "mlp.c_proj",
        },
    ),
}


class GGUFFile:
    """A GGUF file that was opened and checked; its tensors are not read yet.

    Args:
        path: The file.

    Raises:
        PresetError: Not a GGUF file, a truncated one, one of several parts, or of an architecture
            or a quantisation that kerasllm does not read.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        opened = open_gguf(self.path)
        self.metadata = dict(opened.metadata)
        self._tensors = opened.tensors
        self.architecture = self._architecture()
        self._check_parts()

    def config(self) -> dict:
        """Returns the metadata as the content of a Hugging Face `config.json`.

        Raises:
            PresetError: A key that kerasllm does not know.
        """
        name = self.metadata["general.architecture"]
        config: dict = {"model_type": self.architecture.model_type}
        inner = {}
        for key, value in self.metadata.items():
            short = key.removeprefix(f"{name}.")
            if short in _ELSEWHERE and short != key:
                inner[short] = value
            elif short in self.architecture.keys and short != key:
                config[self.architecture.keys[short]] = value
            elif not _HARMLESS.fullmatch(key):
                self._refuse(key, "it may change the outputs, and kerasllm does not know it")
        config.setdefault("vocab_size", self._rows("token_embd.weight"))
        if self.architecture.may_tie:
            config["tie_word_embeddings"] = "output.weight" not in self._tensors
        if "rms_norm_eps" in self.architecture.keys.values():
            if "rms_norm_eps" not in config:
                self._miss(f"{name}.attention.layer_norm_rms_epsilon")
            self._add_widths(config, inner)
            self._add_rope(config, inner)
        for key, hub in (("bos", "bos"), ("eos", "eos"), ("padding", "pad"), ("unknown", "unk")):
            value = self.metadata.get(f"tokenizer.ggml.{key}_token_id")
            if value is not None:
                config[f"{hub}_token_id"] = value
        return config

    def sources(self, config: Mapping) -> Iterator[Source]:
        """Yields the tensors by Hugging Face's names.

        Args:
            config: What `config` returned.

        Raises:
            PresetError: A tensor that the architecture does not have.
        """
        for tensor in self._tensors.values():
            if tensor.name in _ROPE_TENSORS:
                continue
            name = self._hub_name(tensor.name)
            change = self._change(tensor.name, config)
            shape = tensor.shape[::-1] if change is _transpose else tensor.shape
            yield Source(name, tensor.name, self.path, shape, _reader_of(tensor, change))

    def _architecture(self) -> Architecture:
        name = self.metadata.get("general.architecture")
        if not isinstance(name, str) or name not in ARCHITECTURES:
            raise PresetError(
                f"the architecture is {name!r}, which kerasllm does not read from GGUF",
                where=f"{self.path}: general.architecture",
                fix=f"use a file of one of these: {', '.join(sorted(ARCHITECTURES))}; or the "
                "model's folder in Hugging Face's layout",
            )
        if self.metadata.get("general.type", "model") != "model":
            self._refuse("general.type", "only whole models can be read")
        return ARCHITECTURES[name]

    def _check_parts(self) -> None:
        if self.metadata.get("split.count", 1) not in (0, 1):
            self._refuse("split.count", "the file is one of several parts; merge them into one")
        for key in [key for key in self.metadata if key.startswith("split.")]:
            del self.metadata[key]
        for tensor in self._tensors.values():
            if tensor.kind.name not in TYPES:
                raise PresetError(
                    f"tensor {tensor.name} is of type {tensor.kind.name}, which kerasllm "
                    "does not read",
                    where=str(self.path),
                    fix=f"use a file with these types: {', '.join(TYPES)}",
                )

    def _rows(self, name: str) -> int | None:
        return self._tensors[name].shape[0] if name in self._tensors else None

    def _add_widths(self, config: dict, inner: Mapping) -> None:
        width, heads = config.get("hidden_size"), config.get("num_attention_heads")
        if not isinstance(width, int) or not isinstance(heads, int) or heads < 1:
            return
        head = config.setdefault("head_dim", width // heads)
        name = self.metadata["general.architecture"]
        for key in ("rope.dimension_count", "attention.value_length"):
            if inner.get(key, head) != head:
                self._refuse(f"{name}.{key}", f"heads are {head} wide")

    def _add_rope(self, config: dict, inner: Mapping) -> None:
        name = self.metadata["general.architecture"]
        for key in ("rope_theta", "max_position_embeddings", "original_max_position_embeddings"):
            value = config.get(key, 10_000)
            if not isinstance(value, (int, float)) or not value > 1:
                raise PresetError(
                    f"{key} must be a number above 1, got {value!r}",
                    where=f"{self.path}: {name}",
                    fix=BROKEN,
                )
        scaling = inner.get("rope.scaling.type", "none")
        factor = inner.get("rope.scaling.factor")
        if "rope_freqs.weight" in self._tensors:
            config["rope_scaling"] = self._llama3(config)
        elif "rope_factors_long.weight" in self._tensors:
            config["rope_scaling"] = self._longrope(config, inner)
        elif scaling == "linear" or (scaling == "none" and factor not in (None, 1, 0)):
            config["rope_scaling"] = {"rope_type": "linear", "factor": factor}
        elif scaling != "none":
            self._refuse(f"{name}.rope.scaling.type", "kerasllm reads 'none' and 'linear'")
        longrope = config.get("rope_scaling", {}).get("rope_type") == "longrope"
        if not longrope:
            config.pop("original_max_position_embeddings", None)
            if inner.get("rope.scaling.attn_factor", 1.0) != 1.0:
                self._refuse(f"{name}.rope.scaling.attn_factor", "positions are not scaled")

    def _llama3(self, config: Mapping) -> dict:
        """Recovers Llama 3's position scaling, since a file holds only its result."""
        stored = self._tensors["rope_freqs.weight"].read().reshape(-1)
        found = {
            "rope_type": "llama3",
            "factor": float(stored.max()),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
        exponents = np.arange(len(stored)) / len(stored)
        turns = 8192 * config.get("rope_theta", 10_000.0) ** -exponents / (2 * math.pi)
        smooth = np.clip((turns - 1) / 3, 0, 1)
        expected = 1 / ((1 - smooth) / found["factor"] + smooth)
        if not np.allclose(stored, expected, rtol=1e-4):
            raise PresetError(
                "tensor rope_freqs.weight holds other numbers than Llama 3's positions have",
                where=str(self.path),
                fix="use the model's folder in Hugging Face's layout",
            )
        return found

    def _longrope(self, config: Mapping, inner: Mapping) -> dict:
        longest = config.get("max_position_embeddings", 0)
        trained = config.get("original_max_position_embeddings", 4096)
        scale = max(longest / trained, 1)
        expected = math.sqrt(1 + math.log(scale) / math.log(trained))
        given = inner.get("rope.scaling.attn_factor", 1.0)
        if not isinstance(given, float) or not math.isclose(given, expected, rel_tol=1e-4):
            key = f"{self.metadata['general.architecture']}.rope.scaling.attn_factor"
            self._refuse(key, f"KerasHub computes {expected:.6g} from the lengths")
        factors = {"rope_type": "longrope"}
        for kind in ("long", "short"):
            tensor = self._tensors.get(f"rope_factors_{kind}.weight")
            if tensor is None:
                self._miss(f"rope_factors_{kind}.weight")
            factors[f"{kind}_factor"] = tensor.read().reshape(-1).tolist()
        return factors

    def _hub_name(self, name: str) -> str:
        stem, _, suffix = name.rpartition(".")
        match = re.fullmatch(r"blk\.(\d+)\.(\w+)", stem)
        layout = self.architecture
        if match and match[2] in layout.layer:
            return f"{layout.block.format(match[1])}{layout.layer[match[2]]}.{suffix}"
        if stem in layout.outside:
            return f"{layout.outside[stem]}.{suffix}"
        raise PresetError(
            f"tensor {name} is not part of the architecture {layout.model_type}",
            where=str(self.path),
            fix="use another file: this one would load but compute something else",
        )

    def _change(self, name: str, config: Mapping) -> Callable[[np.ndarray], np.ndarray] | None:
        """Returns what undoes the change that the conversion to GGUF makes to a tensor."""
        model_type = self.architecture.model_type
        role = name.split(".")[-2]
        if model_type == "llama" and role in ("attn_q", "attn_k"):
            key = "num_attention_heads" if role == "attn_q" else "num_key_value_heads"
            heads = config.get(key, config.get("num_attention_heads"))
            return lambda value: _unpermute(value, heads)
        if model_type == "gemma" and role.endswith("norm"):
            return lambda value: value - 1
        linear = ("attn_qkv", "attn_output", "ffn_up", "ffn_down")
        if model_type == "gpt2" and role in linear and name.endswith(".weight"):
            return _transpose
        return None

    def _miss(self, name: str) -> None:
        raise PresetError(f"{name} is missing", where=str(self.path), fix=BROKEN)

    def _refuse(self, key: str, because: str) -> None:
        raise PresetError(
            f"{key} is {self.metadata[key]!r}; {because}",
            where=f"{self.path}: {key}",
            fix="use another file",
        )


def _reader_of(
    tensor: PackedTensor, change: Callable[[np.ndarray], np.ndarray] | None
) -> Callable[[], np.ndarray]:
    return tensor.read if change is None else lambda: change(tensor.read())


def _transpose(value: np.ndarray) -> np.ndarray:
    return value.T


def _unpermute(value: np.ndarray, heads: int) -> np.ndarray:
    """Puts rows that lie side by side as pairs to be turned back into two halves of a head."""
    half = value.shape[0] // heads // 2
    return value.reshape(heads, half, 2, -1).swapaxes(1, 2).reshape(value.shape)
