"""A KerasHub preset folder, as `model/` of a run is one."""

from __future__ import annotations

from pathlib import Path

import keras_hub
import numpy as np

from kerasllm.errors import CommandError
from kerasllm.export import hub_task, pooled_head
from kerasllm.export.formats import Engine, Format, Options
from kerasllm.export.source import Source


class KerasHubPreset(Format):
    """The folder, which `keras_hub` and kerasllm load.

    Where KerasHub has no class for a head on the mean of all tokens, it is the preset of the
    backbone with the head beside it.
    """

    def refuse(self, source: Source, options: Options) -> None:
        if not hub_task.has_class(source) and not pooled_head.is_pooled(source.model):
            raise CommandError(
                f"KerasHub has no class for the head of this {source.head.kind}",
                where="--format keras_hub",
                fix="use --format saved_model or onnx",
            )

    def write(self, source: Source, folder: Path, options: Options) -> None:
        source.model.save_to_preset(folder)

    def predict(self, source: Source, folder: Path, options: Options) -> np.ndarray:
        if not hub_task.has_class(source):
            return pooled_head.run_preset(source, folder)
        models = keras_hub.models
        task = models.CausalLM if source.generates else models.TextClassifier
        # A model without a preprocessor of KerasHub's is loaded without one.
        more = {} if (folder / "preprocessor.json").is_file() else {"preprocessor": None}
        return hub_task.predict(source, task.from_preset(str(folder), compile=False, **more))

    def engine(self) -> Engine:
        return Engine.of("keras-hub")

    def usage(self, source: Source, options: Options) -> str:
        if not hub_task.has_class(source):
            return pooled_head.preset_usage(source)
        load = 'keras_hub.models.CausalLM.from_preset("./")'
        if not source.generates:
            # Compiled, KerasHub would warn of a file without an optimizer.
            load = 'keras_hub.models.TextClassifier.from_preset("./", compile=False)'
        return hub_task.usage(source, load, what="The folder is a preset of KerasHub.")


FORMAT = KerasHubPreset()
