"""One `.keras` file, which Keras loads in its safe mode beside KerasHub, without kerasllm."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from kerasllm.errors import CommandError
from kerasllm.export import hub_task, pooled_head
from kerasllm.export.formats import Engine, Format, Options
from kerasllm.export.hub_task import save_labels
from kerasllm.export.source import Source
from kerasllm.models.save_preset import whole_task

FILE_NAME = "model.keras"


class KerasFile(Format):
    """`model.keras` with the tokenizer in it, and the label names beside it."""

    def refuse(self, source: Source, options: Options) -> None:
        if not hub_task.has_class(source):
            raise CommandError(
                f"KerasHub has no class for the head of this {source.head.kind}"
                + ", which reads the mean of all tokens" * pooled_head.is_pooled(source.model)
                + ", so Keras could not load the file without kerasllm",
                where="--format keras",
                fix="use --format keras_hub, saved_model or onnx",
            )

    def write(self, source: Source, folder: Path, options: Options) -> None:
        if source.generates:
            task = whole_task(source.model)
        else:
            task = source.model.task
            # KerasHub compiles what it loads, and would warn of a file without an optimizer.
            task.compile()
            save_labels(source.model, folder)
        task.save(folder / FILE_NAME)

    def predict(self, source: Source, folder: Path, options: Options) -> np.ndarray:
        return hub_task.predict(source, self._load(folder))

    def engine(self) -> Engine:
        return Engine.of("keras", "keras-hub")

    def usage(self, source: Source, options: Options) -> str:
        load = f'keras.saving.load_model("{FILE_NAME}", compile=False)'
        return hub_task.usage(source, load, what=f"`{FILE_NAME}` holds the tokenizer too.")

    def _load(self, folder: Path) -> keras.Model:
        # In safe mode, which is the default: nothing in the file is run as code.
        return keras.saving.load_model(folder / FILE_NAME, compile=False)


FORMAT = KerasFile()
