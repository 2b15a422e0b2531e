"""The low-rank updates of an encoder-decoder, written for PEFT."""

from __future__ import annotations

from pathlib import Path

import keras_hub

from kerasllm.models import encoder_decoders, presets
from kerasllm.models.adapters.fused_layers import join
from kerasllm.models.adapters.low_rank import is_frozen
from kerasllm.models.adapters.peft import PeftAdapter, write_adapter
from kerasllm.models.adapters.targets import module_of

# What `add_lora` calls its updates.
_NAME = "adapter"
_TASK = "SEQ_2_SEQ_LM"


def save_adapter(
    backbone: keras_hub.models.Backbone, folder: str | Path, base_name: str | None = None
) -> None:
    """Writes what `add_lora` gave an encoder-decoder so that `peft` opens it on the same base.

    Args:
        backbone: One that `encoder_decoders.is_encoder_decoder`, before its updates are merged.
        folder: Made if need be.
        base_name: The preset that is the base. Where its name on the Hugging Face hub is known,
            `peft` is told that, so that it finds the base by itself. Defaults to `None`.

    Example:

    ```python
    add_lora(model.task, rank=16, targets=["all-linear"])
    model.fit(sources, targets)
    save_adapter(model.backbone, "adapter", base_name="hf://google-t5/t5-small")
    ```
    """
    tensors, modules = encoder_decoders.tensors(backbone), encoder_decoders.modules(backbone)
    pairs = {
        name: join(module.layers, _NAME)
        for name, module in modules.items()
        if any(is_frozen(layer) and _NAME in layer.updates for layer in module.layers)
    }
    whole = {
        name: tensor
        for name, tensor in tensors.items()
        if any(part.variable.trainable for part in tensor.parts)
    }
    hub_id, revision = (None, None) if base_name is None else presets.hub_id(base_name)
    adapter = PeftAdapter(
        next(iter(pairs.values())).settings,
        pairs,
        {name: tensor.to_huggingface() for name, tensor in whole.items()},
        base_name=base_name,
        hub_id=hub_id,
        revision=revision,
        task=_TASK,
    )
    write_adapter(adapter, folder, modules=[module_of(name) for name in tensors])


def can_be_saved(backbone: keras_hub.models.Backbone) -> bool:
    """Returns whether an adapter holds all that trains.

    Not where embeddings train whole: encoder, decoder and output layer share them, and PEFT would
    have a copy for one of them.
    """
    embeddings = ("embeddings", "reverse_embeddings", "position_embeddings")
    return not any(
        part.attribute in embeddings and part.variable.trainable
        for tensor in encoder_decoders.tensors(backbone).values()
        for part in tensor.parts
    )
