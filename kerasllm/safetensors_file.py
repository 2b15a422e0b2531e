"""A safetensors file with the mode that any new file gets here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy


def save_tensors(
    tensors: Mapping[str, np.ndarray], file: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes tensors.

    safetensors alone makes a file that only its owner may read, regardless of the umask: no group
    and no server under another name could load it.

    Args:
        tensors: The tensors by name, each in one piece of memory.
        file: The file.
        metadata: Texts to keep with them. Defaults to `None`: nothing.

    Raises:
        OSError, safetensors.SafetensorError: If it cannot be written.
    """
    file.touch()
    mode = file.stat().st_mode
    safetensors.numpy.save_file(
        dict(tensors), file, metadata=None if metadata is None else dict(metadata)
    )
    file.chmod(mode)
