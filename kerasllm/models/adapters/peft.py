"""Adapters in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.

What is in the files, and nothing of models: `kerasllm.models.adapters` puts it into layers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors

from kerasllm.errors import PresetError
from kerasllm.json_files import parse_json, read_json_file
from kerasllm.models import digests
from kerasllm.models.adapters.low_rank import LowRank
from kerasllm.models.adapters.targets import ends_with, module_of
from kerasllm.models.huggingface.stored import StoredTensor
from kerasllm.safetensors_file import save_tensors
from kerasllm.signing import trust

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_AGAIN = "download the adapter again, or save it again with peft or kerasllm"
# Read, or of no consequence once the tensors are there.
_READ = frozenset(
    """
    r lora_alpha lora_dropout use_rslora use_dora fan_in_fan_out bias target_modules modules_to_save
    rank_pattern alpha_pattern init_lora_weights peft_type task_type ensure_weight_tying
    exclude_modules layers_to_transform layers_pattern
    auto_mapping base_model_name_or_path inference_mode loftq_config megatron_core peft_version
    qalora_group_size revision runtime_config lora_ga_config eva_config corda_config
    ephemeral_gpu_offload
    """.split()
)
# Ways to begin that leave the base as it was. (PiSSA, OLoRA, CorDA, LoftQ and others change it.)
_INITS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class Pair:
    """What is learned for one linear layer of transformers.

    Attributes:
        settings: What it is made like.
        a: float32 `[rank, inputs]`.
        b: float32 `[outputs, rank]`.
        magnitude: With DoRA float32 `[outputs]`.
        ranks: Where the layer is several of Keras': the rank of each one's own update, which the
            matrices hold as blocks; 0 where there is none. Empty: each has the whole of `a`.
    """

    settings: LowRank
    a: np.ndarray
    b: np.ndarray
    magnitude: np.ndarray | None = None
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True)
class PeftAdapter:
    """The content of an adapter's folder.

    Attributes:
        settings: What all layers share; rank and alpha are those of most of them.
        pairs: By the name of the module.
        whole: The tensors of layers that trained whole, by their names.
        base_name: The preset or path of the base, if it has one.
        hub_id: The base's `OWNER/NAME` on the Hugging Face hub, if it is known.
        revision: Its revision there, if one was named.
        fan_in_fan_out: Whether the base keeps its matrices as `[inputs, outputs]`.
        fingerprint: Of the base's weights, if kerasllm wrote the adapter.
        expects: Which modules must have a pair, as PEFT writes it: the ends of their names, one
            pattern, or `None` where nothing says.
        ties_embeddings: Whether the output layer follows the embeddings if they trained.
        conversational: Whether it was tuned on conversations, if kerasllm wrote it.
        task: What PEFT calls the kind of the base.
    """

    settings: LowRank
    pairs: Mapping[str, Pair]
    whole: Mapping[str, np.ndarray] = field(default_factory=dict)
    base_name: str | None = None
    hub_id: str | None = None
    revision: str | None = None
    fan_in_fan_out: bool = False
    fingerprint: str | None = None
    expects: tuple[str, ...] | str | None = None
    ties_embeddings: bool = False
    conversational: bool = False
    task: str = "CAUSAL_LM"

    def missing(self, modules: Iterable[str]) -> list[str]:
        """Returns those modules of a base that must have a pair, and have none."""
        if self.expects is None:
            return []
        if isinstance(self.expects, str):
            named = (name for name in modules if re.fullmatch(self.expects, name))
        else:
            named = (name for name in modules if any(ends_with(name, end) for end in self.expects))
        return [name for name in named if name not in self.pairs]


def write_adapter(adapter: PeftAdapter, folder: str | Path, modules: Iterable[str] = ()) -> None:
    """Writes an adapter so that `peft` opens it.

    Args:
        adapter: The adapter.
        folder: Made if need be.
        modules: The names of all modules of the base that hold tensors. Where they show that short
            names (`q_proj`) select the adapter's modules and no others, short names are written.
            Defaults to `()`: whole names are.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors, ranks, alphas, blocks = {}, {}, {}, {}
    for name, pair in adapter.pairs.items():
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = pair.a
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = pair.b
        if pair.magnitude is not None:
            tensors[f"{_PREFIX}{name}.lora_magnitude_vector"] = pair.magnitude
        if pair.settings.rank != adapter.settings.rank:
            ranks[name] = pair.settings.rank
        if pair.settings.alpha != adapter.settings.alpha:
            alphas[name] = pair.settings.alpha
        if pair.ranks:
            blocks[name] = pair.ranks
    tensors |= {_PREFIX + name: value for name, value in adapter.whole.items()}
    config = {
        "peft_type": "LORA",
        "task_type": adapter.task,
        "base_model_name_or_path": adapter.hub_id or adapter.base_name,
        "revision": adapter.revision,
        "r": adapter.settings.rank,
        "lora_alpha": adapter.settings.alpha,
        "lora_dropout": adapter.settings.dropout,
        "use_rslora": adapter.settings.rank_stabilized,
        "use_dora": adapter.settings.dora,
        "bias": "none",
        "fan_in_fan_out": adapter.fan_in_fan_out,
        "target_modules": _short(adapter.pairs, modules, ends_with),
        # Here PEFT looks at the last letters alone: `norm` selects `input_layernorm`, too.
        "modules_to_save": _short(map(module_of, adapter.whole), modules, str.endswith) or None,
        "rank_pattern": _patterns(ranks, modules),
        "alpha_pattern": _patterns(alphas, modules),
        "init_lora_weights": True,
        "inference_mode": True,
    }
    metadata = {"format": "pt", "kerasllm_blocks": json.dumps(blocks)}
    if adapter.fingerprint:
        metadata["kerasllm_base"] = adapter.fingerprint
    if adapter.base_name:
        metadata["kerasllm_preset"] = str(adapter.base_name)
    if adapter.conversational:
        metadata["kerasllm_conversational"] = "true"
    held = {name: np.ascontiguousarray(value, "float32") for name, value in tensors.items()}
    save_tensors(held, folder / WEIGHTS, metadata)
    text = json.dumps(config, indent=2, sort_keys=True)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def _short(
    chosen: Iterable[str], modules: Iterable[str], selects: Callable[[str, str], bool]
) -> list[str]:
    """Returns the fewest names that select some modules of a base, and no others.

    Args:
        chosen: The names of those modules.
        modules: The names of all modules; with none, the whole names are returned.
        selects: Whether a module is selected by a name, as PEFT has it.
    """
    chosen, modules = sorted({*chosen}), {*modules}
    if not modules:
        return chosen
    others, short = modules - {*chosen}, set()
    for name in chosen:
        steps = name.split(".")
        ends = (".".join(steps[start:]) for start in reversed(range(len(steps))))
        end = next((e for e in ends if not any(selects(other, e) for other in others)), name)
        # With a layer's number in it, a name is of one module and no shorter list.
        if any(step.isdigit() for step in end.split(".")):
            return chosen
        short.add(end)
    return sorted(short)


def _patterns(values: Mapping[str, float], modules: Iterable[str]) -> dict[str, float]:
    """Returns the values of modules by the fewest names that select those of each value."""
    found = {}
    for value in dict.fromkeys(values.values()):
        named = [name for name, own in values.items() if own == value]
        found |= dict.fromkeys(_short(named, modules, ends_with), value)
    return found


def read_adapter(folder: str | Path) -> PeftAdapter:
    """Reads an adapter that `peft` or `write_adapter` wrote.

    Raises:
        PresetError: A file is missing or broken, the configuration asks for what kerasllm does
            not compute, or the tensors do not fit it.
        SignatureError: Keys are trusted, and none of them has signed it.
    """
    folder = Path(folder)
    if folder.exists():
        trust.check(folder)
    digests.verify_recorded(folder)
    config = _read_config(folder)
    settings = LowRank(
        rank=config["r"],
        alpha=config.get("lora_alpha", 8),
        dropout=config.get("lora_dropout", 0.0),
        rank_stabilized=bool(config.get("use_rslora")),
        dora=bool(config.get("use_dora")),
    )
    tensors, metadata = _read_tensors(folder)
    blocks = _read_blocks(folder, metadata)
    parts, whole = {}, {}
    for name, value in tensors.items():
        module, part = _split(name)
        if part is None:
            whole[name] = value
        else:
            parts.setdefault(module, {})[part] = value
    where = str(folder / WEIGHTS)
    pairs = {
        name: _pair(name, each, settings, config, tuple(blocks.get(name, ())), where)
        for name, each in parts.items()
    }
    if not pairs:
        raise PresetError("the file holds no low-rank matrices", where=where, fix=_AGAIN)
    return PeftAdapter(
        settings,
        pairs,
        whole,
        base_name=metadata.get("kerasllm_preset") or config.get("base_model_name_or_path"),
        fan_in_fan_out=bool(config.get("fan_in_fan_out")),
        fingerprint=metadata.get("kerasllm_base"),
        expects=_expected(config),
        ties_embeddings=bool(config.get("ensure_weight_tying")),
        conversational=metadata.get("kerasllm_conversational") == "true",
    )


def _read_blocks(folder: Path, metadata: Mapping[str, str]) -> dict[str, list[int]]:
    try:
        blocks = parse_json(metadata.get("kerasllm_blocks", "{}"))
        if all(type(rank) is int and rank >= 0 for ranks in blocks.values() for rank in ranks):
            return blocks
        error = "ranks are whole numbers"
    except (ValueError, AttributeError, TypeError) as found:
        error = found
    raise PresetError(
        f"what {WEIGHTS} tells of its blocks cannot be read: {error}",
        where=str(folder / WEIGHTS),
        fix=_AGAIN,
    )


def _read_config(folder: Path) -> dict:
    path = folder / CONFIG
    try:
        config = read_json_file(path)
    except FileNotFoundError:
        raise PresetError(
            f"{folder} is not an adapter: it has no {CONFIG}",
            fix="give a folder that an adapter was saved to by peft or kerasllm",
        ) from None
    except (OSError, ValueError) as error:
        raise PresetError(
            f"{CONFIG} cannot be read: {error}", where=str(path), fix=_AGAIN
        ) from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else config
        raise PresetError(
            f"the adapter is of the type {kind!r}, but kerasllm supports only LORA",
            where=f"{path}: peft_type",
            fix="use an adapter trained with LoRA, rank-stabilised LoRA or DoRA",
        )
    refused = {key: value for key, value in config.items() if key not in _READ and value}
    if config.get("bias", "none") != "none":
        refused["bias"] = config["bias"]
    if config.get("init_lora_weights", True) not in _INITS:
        refused["init_lora_weights"] = config["init_lora_weights"]
    for key, value in refused.items():
        raise PresetError(
            f"{key} is {value!r}, which kerasllm does not support",
            where=f"{path}: {key}",
            fix="merge the adapter into its base with peft, and load the result",
        )
    for key, kinds, least in (
        ("r", int, 1),
        ("lora_alpha", (int, float), 0),
        ("lora_dropout", (int, float), 0),
    ):
        value = config.get(key, least)
        if isinstance(value, bool) or not isinstance(value, kinds) or value < least:
            raise PresetError(
                f"{key} is {value!r}, where a number of at least {least} was expected",
                where=f"{path}: {key}",
                fix=_AGAIN,
            )
    return {"r": 8, **config}


def _read_tensors(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    path = folder / WEIGHTS
    if not path.is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        raise PresetError(
            f"there is no {WEIGHTS}"
            + (
                ": kerasllm does not read adapter_model.bin, which may hold code" if pickled else ""
            ),
            where=str(folder),
            fix="save the adapter with safe_serialization=True" if pickled else _AGAIN,
        )
    try:
        with safetensors.safe_open(path, framework="numpy") as opened:
            metadata, names = opened.metadata() or {}, list(opened.keys())
        tensors = {name: StoredTensor(path, name, (), "").read() for name in names}
    except (safetensors.SafetensorError, OSError, ValueError, TypeError) as error:
        raise PresetError(
            f"{WEIGHTS} cannot be read: {error}", where=str(path), fix=_AGAIN
        ) from error
    return {
        name.removeprefix(_PREFIX): value.astype("float32") for name, value in tensors.items()
    }, metadata


_PARTS = {
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_magnitude_vector": "magnitude",
    # As PEFT wrote it until 0.11.
    ".lora_magnitude_vector.weight": "magnitude",
}


def _split(name: str) -> tuple[str, str | None]:
    for end, part in _PARTS.items():
        if name.endswith(end):
            return name.removesuffix(end), part
    return name, None


def _pair(
    name: str, parts: dict, settings: LowRank, config: dict, ranks: tuple[int, ...], where: str
) -> Pair:
    wanted = {"a": "lora_A.weight", "b": "lora_B.weight"}
    if settings.dora:
        wanted["magnitude"] = "lora_magnitude_vector"
    for part, tensor in wanted.items():
        if part not in parts:
            raise PresetError(f"{name} has no {tensor}", where=where, fix=_AGAIN)
    if not settings.dora and "magnitude" in parts:
        raise PresetError(
            f"{name} has a lora_magnitude_vector, but use_dora is false", where=where, fix=_AGAIN
        )
    rank = _by_pattern(config.get("rank_pattern"), name, settings.rank)
    alpha = _by_pattern(config.get("alpha_pattern"), name, settings.alpha)
    found = (parts["a"].shape[0], parts["b"].shape[-1])
    if found != (rank, rank):
        raise PresetError(
            f"{name} has matrices of rank {found[0]} and {found[1]}, where {CONFIG} says {rank}",
            where=where,
            fix=_AGAIN,
        )
    own = LowRank(rank, alpha, settings.dropout, settings.rank_stabilized, settings.dora)
    return Pair(own, parts["a"], parts["b"], parts.get("magnitude"), ranks)


def _by_pattern(patterns: Mapping | None, name: str, default):
    """Returns what the first pattern that fits the end of a name says, as PEFT does."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return default


def _expected(config: dict) -> tuple[str, ...] | str | None:
    targets = config.get("target_modules")
    # These say which layers are left out; the tensors do, too.
    narrowed = config.get("exclude_modules") or config.get("layers_to_transform") is not None
    if narrowed or targets is None or targets == "all-linear":
        return None
    return targets if isinstance(targets, str) else tuple(targets)
