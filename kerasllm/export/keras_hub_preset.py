"""A KerasHub preset folder, as `model/` of a run is one."""

from __future__ import annotations

from pathlib import Path

import keras_hub
import numpy as np

from kerasllm.export import hub_task
from kerasllm.export.formats import Format, Options
from kerasllm.export.source import Source


class KerasHubPreset(Format):
    """The folder, which `keras_hub` and kerasllm load."""

    def write(self, source: Source, folder: Path, options: Options) -> None:
        source.model.save_to_preset(folder)

    def predict(self, source: Source, folder: Path, options: Options) -> np.ndarray:
        models = keras_hub.models
        task = models.TextClassifier if source.is_classifier else models.CausalLM
        # A model without a preprocessor of KerasHub's is loaded without one.
        more = {} if (folder / "preprocessor.json").is_file() else {"preprocessor": None}
        return hub_task.predict(source, task.from_preset(str(folder), compile=False, **more))

    def usage(self, source: Source, options: Options) -> str:
        load = 'keras_hub.models.CausalLM.from_preset("./")'
        if source.is_classifier:
            # Compiled, KerasHub would warn of a file without an optimizer.
            load = 'keras_hub.models.TextClassifier.from_preset("./", compile=False)'
        return hub_task.usage(source, load, what="The folder is a preset of KerasHub.")


FORMAT = KerasHubPreset()
