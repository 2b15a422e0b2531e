"""`kerasllm doctor`: checks that were made, and what to do about one that failed."""

import json

import pytest

from kerasllm.workflows import doctor


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The training steps have a test of their own; here they cost ten seconds."""
    monkeypatch.setattr(doctor, "_train", lambda xla: 0.01)


def test_it_shows_versions_and_devices(kerasllm):
    result = kerasllm("doctor")
    for words in ("python", "tensorflow", "keras-hub", "CPU", "training step", "cache"):
        assert words in result.out


def test_a_cache_that_cannot_be_written_fails_with_a_remedy(kerasllm, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path / "file"))
    result = kerasllm("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(result.out)}
    assert result.status == 1
    assert checks["cache"]["passed"] is False and "KERASLLM_CACHE" in checks["cache"]["fix"]


def test_a_step_that_does_not_learn_fails(kerasllm, monkeypatch):
    def fail(xla):
        raise RuntimeError("the loss went up")

    monkeypatch.setattr(doctor, "_train", fail)
    result = kerasllm("doctor")
    assert result.status == 1 and "FAIL  training step" in result.out
