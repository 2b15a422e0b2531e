"""Adapters on a decoder: LoRA, DoRA and QLoRA, which train, are saved for PEFT, and are merged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import keras
import keras_hub
import numpy as np

from kerasllm.distribution.memory import bytes_of
from kerasllm.errors import PresetError, RecipeError
from kerasllm.models import decoders, presets
from kerasllm.models.adapters.base import base_of, frozen_layers, prepare
from kerasllm.models.adapters.fused_layers import join, layout_of, split
from kerasllm.models.adapters.low_rank import LowRank, add_update, thaw
from kerasllm.models.adapters.peft import PeftAdapter, read_adapter, write_adapter
from kerasllm.models.adapters.targets import find_targets, find_whole, module_of

DEFAULT = "default"


class Adapter:
    """A set of low-rank updates on a decoder, under one name; see `add_adapter`.

    Attributes:
        backbone: The decoder that it is attached to.
        name: What it is called there.
        settings: What its updates are made like.
        conversational: Whether it was tuned on conversations; may be set.
        base: The `fingerprint`, `bytes` and `parameters` of the backbone without adapters.
        bytes: The size of the backbone's weights with this one.
    """

    def __init__(
        self,
        backbone: keras_hub.models.Backbone,
        name: str,
        settings: LowRank,
        layers: Mapping[str, tuple[keras.Layer, ...]],
        whole: Sequence[str],
    ):
        self.backbone = backbone
        self.name = name
        self.settings = settings
        self.conversational = False
        self.base = base_of(backbone)
        self.bytes = bytes_of(backbone.variables)
        self._layers = dict(layers)
        self._whole = list(whole)

    @property
    def trainable_share(self) -> tuple[int, int]:
        """The number of parameters that train, and of all, each quantized weight counted as one."""
        layers = [layer for found in self._layers.values() for layer in found]
        updates = [layer.updates[self.name] for layer in layers]
        added = [variable for update in updates for variable in update.variables]
        return _count(self.backbone.trainable_variables), self.base.parameters + _count(added)

    def save(self, folder: str | Path, base_name: str | None = None) -> None:
        """Writes the adapter so that `peft` opens it on the same base.

        Args:
            folder: Made if need be.
            base_name: The preset that is the base. Where its name on the Hugging Face hub is known,
                `peft` is told that, so that it finds the base by itself. Defaults to `None`.
        """
        hub_id, revision = (None, None) if base_name is None else presets.hub_id(base_name)
        tensors, modules = decoders.tensors(self.backbone), decoders.modules(self.backbone)
        whole = {name: tensors[name].to_huggingface() for name in self._whole}
        embeddings = _embeddings_of(self.backbone)
        if embeddings in whole and "lm_head.weight" not in tensors:
            # PEFT unties what trains whole, so that the output layer needs its own.
            whole["lm_head.weight"] = whole[embeddings]
        adapter = PeftAdapter(
            self.settings,
            {name: join(modules[name].layers, self.name) for name in self._layers},
            whole,
            base_name=base_name,
            hub_id=hub_id,
            revision=revision,
            fan_in_fan_out=any(modules[name].transposed for name in self._layers),
            fingerprint=self.base.fingerprint,
            conversational=self.conversational,
        )
        write_adapter(adapter, folder, modules=[module_of(name) for name in tensors])

    def merge(self) -> None:
        """Puts all active adapters of the backbone into its kernels, in float32, and ends them.

        The layers are plain ones afterwards. What was quantized is not any more.
        """
        for layer in frozen_layers(self.backbone):
            thaw(layer)
        del self.backbone.base_of_adapters

    @contextmanager
    def enabled(self, on: bool) -> Iterator[None]:
        """Computes without any adapter, or with the active ones, inside a `with`.

        Layers that train whole stay as they are. A `tf.function` keeps what held when it was
        traced.

        Args:
            on: `False`: the base alone, such as the reference of preference tuning.
        """
        layers = [] if on else frozen_layers(self.backbone)
        kept = [layer.active for layer in layers]
        for layer in layers:
            layer.active = ()
        try:
            yield
        finally:
            for layer, names in zip(layers, kept, strict=True):
                layer.active = names

    def disabled(self) -> AbstractContextManager[None]:
        """Computes without any adapter inside a `with`; see `enabled`."""
        return self.enabled(False)

    def set_active(self, names: Sequence[str]) -> None:
        """Chooses which adapters of the backbone count; their updates add up.

        Only these train. Trace a `tf.function` again afterwards.

        Args:
            names: Names of adapters.

        Raises:
            RecipeError: No adapter has the name.
        """
        layers = frozen_layers(self.backbone)
        known = {name for layer in layers for name in layer.updates}
        for name in names:
            if name not in known:
                raise RecipeError(
                    f"there is no adapter '{name}' on this model",
                    fix=f"use {', '.join(sorted(known))}",
                )
        for layer in layers:
            layer.active = tuple(name for name in names if name in layer.updates)
            for name, update in layer.updates.items():
                for variable in update.variables:
                    variable.trainable = name in names


def add_adapter(
    backbone: keras_hub.models.Backbone,
    *,
    rank: int = 8,
    alpha: float = 16,
    dropout: float = 0.0,
    targets: Sequence[str] = ("query", "value"),
    rank_stabilized: bool = False,
    dora: bool = False,
    train: Sequence[str] = (),
    quantize: str | None = None,
    cast: bool = False,
    name: str = DEFAULT,
    seed: int = 0,
) -> Adapter:
    """Gives a decoder a new adapter, which changes nothing yet, and freezes all other weights.

    Args:
        backbone: A KerasHub backbone of a family in `decoders.FAMILIES`; changed in place.
        rank: The width of the two matrices of a layer. Defaults to `8`.
        alpha: An update is scaled by `alpha / rank`. Defaults to `16`.
        dropout: The rate at which inputs of an update are dropped. Defaults to `0.0`.
        targets: The layers that get one, see `find_targets`. Defaults to `("query", "value")`, of
            the attention, regardless of their names in the family.
        rank_stabilized: Whether to scale by `alpha / sqrt(rank)`. Defaults to `False`.
        dora: Whether magnitude and direction of each output train apart. Defaults to `False`.
        train: Further layers that train whole, such as `norm`, `embeddings`. Defaults to `()`.
        quantize: `"int8"` or `"int4"`: what the kernels of the transformer layers are held in.
            Defaults to `None`: as they are.
        cast: Whether matrices that do not train are held in the dtype that is computed in. They
            would be cast to it in each step: less time and memory, the same numbers. Defaults to
            `False`.
        name: What to call it. Defaults to `"default"`.
        seed: Of the first matrices and of dropout. Defaults to `0`.

    Raises:
        RecipeError: A target or a layer to train that is not there, or is named as both.

    Example:

    ```python
    adapter = add_adapter(model.backbone, rank=16, targets=["all-linear"], quantize="int4")
    model.fit(batches)
    adapter.save("adapter", base_name="HuggingFaceTB/SmolLM2-135M-Instruct")
    ```

    References:
        [LoRA](https://arxiv.org/abs/2106.09685), [QLoRA](https://arxiv.org/abs/2305.14314),
        [DoRA](https://arxiv.org/abs/2402.09353).
    """
    settings = LowRank(rank, alpha, dropout, rank_stabilized, dora)
    layers = find_targets(backbone, targets)
    whole = find_whole(backbone, train)
    for tensor in whole:
        if module_of(tensor) in layers:
            raise RecipeError(
                f"{module_of(tensor)} is both a target of the adapter and to be trained in full",
                where="model.lora.train",
                fix="name it in only one of the two",
            )
    dense = [layer for found in layers.values() for layer in found]
    prepare(backbone, dense, whole, quantize=quantize, cast=cast)
    for number, layer in enumerate(dense):
        add_update(layer, name, settings, seed=seed + number)
    return Adapter(backbone, name, settings, layers, whole)


def load_adapter(
    backbone: keras_hub.models.Backbone,
    folder: str | Path,
    *,
    quantize: str | None = None,
    cast: bool = False,
    name: str = DEFAULT,
) -> Adapter:
    """Puts an adapter that `peft` or `Adapter.save` wrote on a decoder; it stays trainable.

    Args:
        backbone: The base that it was trained on; changed in place.
        folder: What holds `adapter_config.json`.
        quantize: See `add_adapter`. Defaults to `None`.
        cast: See `add_adapter`. Defaults to `False`.
        name: What to call it. Defaults to `"default"`.

    Raises:
        PresetError: The folder holds no adapter that can be read, or one of another base.
    """
    where = str(folder)
    stored = read_adapter(folder)
    modules, tensors = decoders.modules(backbone), decoders.tensors(backbone)
    layers = _check_pairs(stored, modules, where)
    whole = _check_whole(stored, backbone, tensors, where)
    if stored.fingerprint not in (None, base_of(backbone).fingerprint):
        raise PresetError(
            "the adapter was trained on another base: names and shapes fit, the weights differ",
            where=where,
            fix=f"load it on {stored.base_name or 'the model that it was trained on'}",
        )
    dense = [layer for found in layers.values() for layer in found]
    prepare(backbone, dense, list(whole), quantize=quantize, cast=cast)
    for module, pair in stored.pairs.items():
        for layer, part in zip(modules[module].layers, split(pair, modules[module].layers)):
            if part is not None:
                update = add_update(layer, name, part.settings, seed=dense.index(layer))
                update.a.assign(part.a)
                update.b.assign(part.b)
                if update.magnitude is not None:
                    update.magnitude.assign(part.magnitude)
    for tensor, value in whole.items():
        tensors[tensor].assign(value)
    adapter = Adapter(backbone, name, stored.settings, layers, list(whole))
    adapter.conversational = stored.conversational
    return adapter


def _check_pairs(stored: PeftAdapter, modules: Mapping, where: str) -> dict:
    for name, pair in stored.pairs.items():
        if name not in modules:
            raise PresetError(
                f"the adapter is for another base: this model has no {name}",
                where=where,
                fix=f"load it on {stored.base_name or 'the model that it was trained on'}",
            )
        outputs = [layout_of(layer).outputs for layer in modules[name].layers]
        wanted = (layout_of(modules[name].layers[0]).inputs, sum(outputs))
        found = (pair.a.shape[1], pair.b.shape[0])
        if found != wanted or (pair.magnitude is not None and len(pair.magnitude) != wanted[1]):
            raise PresetError(
                f"the adapter is for another base: {name} has {wanted[0]} inputs and {wanted[1]} "
                f"outputs here, and {found[0]} and {found[1]} there",
                where=where,
                fix=f"load it on {stored.base_name or 'the model that it was trained on'}",
            )
    missing = stored.missing(modules)
    if missing:
        raise PresetError(
            f"{len(missing)} of the adapter's target_modules have no matrices, e.g. {missing[0]}",
            where=where,
            fix="the file is incomplete; download it again",
        )
    return {
        name: tuple(
            layer
            for number, layer in enumerate(modules[name].layers)
            if not pair.ranks or pair.ranks[number]
        )
        for name, pair in stored.pairs.items()
    }


def _embeddings_of(backbone: keras_hub.models.Backbone) -> str:
    names = decoders.tensors(backbone)
    return next(name for name in names if name.endswith(("embed_tokens.weight", "wte.weight")))


def _check_whole(stored: PeftAdapter, backbone, tensors: Mapping, where: str) -> dict:
    """Returns the tensors that trained whole, as this backbone has them."""
    whole, embeddings = dict(stored.whole), _embeddings_of(backbone)
    if embeddings in whole and "lm_head.weight" not in tensors:
        head = whole.pop("lm_head.weight", whole[embeddings] if stored.ties_embeddings else None)
        if head is None or not np.array_equal(head, whole[embeddings]):
            raise PresetError(
                f"{embeddings} trained without the output layer, which this model ties to it",
                where=f"{where}: modules_to_save",
                fix="train it with ensure_weight_tying=True, or merge it into its base with peft",
            )
    for name, value in whole.items():
        if name not in tensors or tensors[name].shape != value.shape:
            here = tensors[name].shape if name in tensors else "no such tensor"
            raise PresetError(
                f"the adapter is for another base: {name} is {value.shape} there, and here {here}",
                where=where,
                fix=f"load it on {stored.base_name or 'the model that it was trained on'}",
            )
    return whole


def _count(variables: Sequence[keras.Variable]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)
