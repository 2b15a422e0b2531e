"""safetensors files get the mode that any other file gets, everywhere."""

import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import kerasllm
from kerasllm.safetensors_file import save_tensors


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_the_mode_is_what_the_umask_leaves(umask, mode, tmp_path):
    file = tmp_path / "one.safetensors"
    kept = os.umask(umask)
    try:
        for _ in range(2):  # New, and over an old one.
            save_tensors({"a": np.ones(3)}, file, {"format": "pt"})
    finally:
        os.umask(kept)
    assert file.stat().st_mode & 0o777 == mode
    np.testing.assert_array_equal(safetensors.numpy.load_file(file)["a"], np.ones(3))


def test_no_file_is_written_past_it():
    sources = Path(kerasllm.__file__).parent.rglob("*.py")
    found = [path.name for path in sources if "save_file(" in path.read_text(encoding="utf-8")]
    assert found == ["safetensors_file.py"]
