"""The same program under a strategy: the same numbers as on one device."""

import json
import os

import numpy as np
import pytest

from tests import forked


def run(name: str, folder) -> dict:
    folder.mkdir()
    environment = {"KERASLLM_CACHE": str(folder / "cache"), "KERASLLM_SLICES": "0"}
    done = forked.run(
        *("-m", "tests.api.keras_under_mirrored", name, folder),
        cwd=forked.ROOT,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_program_of_keras_gives_the_same_numbers_on_two_devices(tmp_path):
    one, two = (run(name, tmp_path / name.replace(":", "")) for name in ("one_device", "virtual:2"))
    assert one["history"]["accuracy"][-1] > 0.7
    for part in ("history", "own"):
        assert one[part].keys() == two[part].keys()
        for name, values in one[part].items():
            np.testing.assert_allclose(two[part][name], values, rtol=2e-3, atol=2e-4, err_msg=name)
    np.testing.assert_allclose(two["logits"], one["logits"], atol=5e-3)
    for name, values in one["both"].items():
        np.testing.assert_allclose(two["both"][name], values, atol=1e-4)
    assert two["one"][0] == pytest.approx(one["one"][0], rel=1e-2)
