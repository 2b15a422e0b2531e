"""The notebook on language models runs from first cell to last, and what it shows is true."""

import json
import math

import pytest

from tests.notebooks.executed import (
    Executed,
    assert_is_clean,
    assert_pictures,
    assert_was_executed,
    outputs_of,
)
from tests.toy_language_model import write_book, write_chats

NOTEBOOK = "gpt_finetuning.ipynb"
# The loss curve of the model from scratch.
PICTURES = ("plt.show",)

# Run as one more cell, to see from outside what the reader has at hand at the end.
PROBE = """
import json

print(json.dumps({
    "metrics": run.metrics["validation"],
    "log": rows,
    "share": [trained, int(model.count_params())],
    "history": history.history,
    "before": before,
    "after": after,
    "likelihoods": model.log_likelihood(sentences).tolist(),
    "again": again.log_likelihood(sentences).tolist(),
    "alone": type(alone).__name__,
}))
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory, session_cache):
    """The notebook on the beginning of the book and toy conversations.

    What is tuned on these is the model that the first part made.
    """
    folder = tmp_path_factory.mktemp("notebook")
    parameters = {
        "text": str(write_book(folder / "book.txt")),
        "prompts": ["The"],
        "vocabulary_size": 400,
        "text_length": 64,
        "new_model": {"layers": 2, "heads": 2, "width": 32},
        "text_epochs": 4,
        "text_learning_rate": 0.01,
        "preset": str(folder / "runs" / "gpt_notebook" / "moby_dick"),
        "chats": str(write_chats(folder / "chats.jsonl")),
        "test_chats": str(write_chats(folder / "test.jsonl", 12)),
        "questions": ["whale?"],
        "answer_tokens": 8,
        "chat_length": 64,
        "chat_epochs": 8,
        "chat_learning_rate": 0.02,
        "chat_template": "plain",
        "lora": {"rank": 8, "targets": ["attention"], "train": ["embeddings"]},
    }
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KERASLLM_CACHE", str(session_cache))
        return Executed(NOTEBOOK, folder, PROBE, parameters)


def test_it_runs_without_a_warning(toy):
    assert_is_clean(toy.cells)


def test_a_model_from_scratch_learns_and_writes(toy):
    assert toy.values["metrics"]["loss"] < math.log(400) - 0.7
    assert toy.losses()[-1] < toy.losses()[0]
    shown = "".join(output.get("text", "") for cell in toy.cells for output in cell.outputs)
    assert "The" in shown and "perplexity on the end of the book" in shown


def test_the_adapter_learns_to_answer(toy):
    trained, total = toy.values["share"]
    assert 0 < trained < total
    assert len(toy.values["history"]["loss"]) == 8
    assert toy.values["after"]["loss"] < toy.values["before"]["loss"] - 0.2


def test_the_adapter_is_saved_and_merged_exactly(toy):
    folder = toy.folder / "runs" / "gpt_notebook"
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA" and config["r"] == 8
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    # In bfloat16, where this machine is faster in it.
    assert toy.values["again"] == pytest.approx(toy.values["likelihoods"], rel=0.02)
    assert toy.values["alone"] == "GPT2CausalLM"


def test_it_shows_a_picture_and_the_run(toy):
    assert_pictures(toy.cells, PICTURES)
    assert any("perplexity" in html for _, html in outputs_of(toy.cells, "text/html"))


def test_the_committed_notebook_was_executed_and_tells_nothing_of_a_machine():
    assert_was_executed(NOTEBOOK, PICTURES)


@pytest.mark.slow
def test_the_whole_notebook_on_the_default_preset_and_data(tmp_path):
    whole = Executed(NOTEBOOK, tmp_path, PROBE)
    assert_is_clean(whole.cells)
    assert_pictures(whole.cells, PICTURES)
    assert whole.values["metrics"]["bits_per_byte"] < 2.6
    assert whole.values["after"]["loss"] < 0.85 * whole.values["before"]["loss"]
    assert whole.values["likelihoods"][0] > whole.values["likelihoods"][1]
