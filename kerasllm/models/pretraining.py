"""How the encoder of a folder was pretrained by kerasllm."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from kerasllm.errors import PresetError
from kerasllm.json_files import read_json_file

FACTS = "pretraining.json"
"""The file beside a model that says so."""


@dataclass(frozen=True)
class Pretraining:
    """How a masked language model was pretrained.

    Attributes:
        sentence_task: `"next"`, `"order"` or `None`: what it learned of pairs of texts. Defaults
            to `None`.
        trained_pooler: Whether its pooler has learned anything. Defaults to `True`.
    """

    sentence_task: str | None = None
    trained_pooler: bool = True

    def save(self, folder: Path) -> None:
        """Writes `pretraining.json`."""
        (folder / FACTS).write_text(json.dumps(vars(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Pretraining:
        """Reads `pretraining.json`; of a folder without it, as of transformers, all as by default.

        Raises:
            PresetError: If it cannot be read.
        """
        file = Path(folder) / FACTS
        if not file.is_file():
            return cls()
        try:
            facts = read_json_file(file)
            return cls(facts["sentence_task"], bool(facts["trained_pooler"]))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise PresetError(
                f"the pretraining settings of the model cannot be read: {error}",
                where=str(file),
                fix="copy the file from the original run",
            ) from error
