"""A tensor of a file of weights, wherever it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Source:
    """A tensor that was not read yet.

    Attributes:
        name: Its name in Hugging Face's layout.
        stored_name: Its name in the file, for messages.
        file: The file.
        shape: Its shape in Hugging Face's layout.
        read: Reads it, in Hugging Face's layout.
    """

    name: str
    stored_name: str
    file: Path
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
