"""One section on LoRA, whatever names the recipes of earlier versions gave the layers."""

import pytest

from kerasllm import recipe
from kerasllm.recipe.lora import Lora, same_lora


def section(**settings) -> dict:
    return Lora(**settings).model_dump()


def test_the_names_of_transformers_mean_the_roles():
    assert same_lora(section(targets=["q_proj", "v_proj"]), section())
    assert not same_lora(section(targets=["q_proj"]), section())
    assert not same_lora(section(rank=4), section())
    assert same_lora(None, None) and not same_lora(None, section())


@pytest.mark.parametrize("written", ["  dropout: 0.1\n", "  dropout: 0.1\n  pooling: mean\n"])
def test_a_key_that_a_run_lacks_is_what_it_was_then(tmp_path, written):
    file = tmp_path / "recipe.yaml"
    file.write_text(f"task: text_classification\nmodel:\n  preset: a\n{written}data:\n  train: b\n")
    expected = [] if "pooling" in written else ["model.pooling=cls"]
    assert recipe.older_settings(file) == expected
    assert recipe.load(file, expected).model.pooling == ("mean" if not expected else "cls")
