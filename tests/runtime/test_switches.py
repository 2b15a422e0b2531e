"""One environment variable turns each setting of the process off."""

from pathlib import Path

import pytest

from kerasllm.runtime.switches import SWITCHES, is_off, off_that_change_numbers

DOCS = Path(__file__).parents[2] / "docs" / "performance.md"


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_is_off_by_0_alone_and_documented(switch, monkeypatch):
    monkeypatch.delenv(switch, raising=False)
    assert not is_off(switch)
    for value, off in (("", False), ("1", False), ("0", True), ("off", True), ("False", True)):
        monkeypatch.setenv(switch, value)
        assert is_off(switch) is off
        assert (switch in off_that_change_numbers()) is (off and SWITCHES[switch])
    assert f"`{switch}=0`" in DOCS.read_text(encoding="utf-8")


def test_a_switch_that_is_none_is_refused():
    with pytest.raises(ValueError, match="KERASLLM_TREADS"):
        is_off("KERASLLM_TREADS")
