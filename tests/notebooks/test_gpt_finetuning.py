"""The notebook on language models runs from its first cell to its last, and what it shows is true."""

import json
import math
import re

import pytest

from tests.notebooks.executed import (
    Executed,
    assert_is_clean,
    assert_pictures,
    assert_was_executed,
    outputs_of,
)
from tests.toy_language_model import ANSWERS, write_book, write_chats

NOTEBOOK = "gpt_finetuning.ipynb"
# The loss curves of the model from scratch and of the adapter.
PICTURES = ("training_curve_figure(", "training_curve_figure(")

# Run as one more cell, to see from outside what the reader has at hand at the end.
PROBE = """
import json

print(json.dumps({
    "text_report": text_report,
    "gzip_bits": gzip_bits,
    "learned": shown.plain,
    "share": [trained, total],
    "log": log,
    "before": before,
    "after": after,
    "answers_after": answers_after,
    "merging": float(difference),
    "keras_hub": float(same),
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
        "layers": 2,
        "heads": 2,
        "width": 32,
        "text_epochs": 4,
        "text_learning_rate": 0.01,
        "preset": str(folder / "runs" / "gpt_notebook" / "gpt"),
        "chats": str(write_chats(folder / "chats.jsonl")),
        "test_chats": str(write_chats(folder / "test.jsonl", 12)),
        "questions": ["What of the whale?"],
        "answer_tokens": 8,
        "chat_length": 64,
        "chat_epochs": 8,
        "chat_learning_rate": 0.005,
    }
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KERASLLM_CACHE", str(session_cache))
        return Executed(NOTEBOOK, folder, PROBE, parameters)


def test_it_runs_without_a_warning(toy):
    assert_is_clean(toy.cells)


def test_a_model_from_scratch_learns_and_writes(toy):
    report = toy.values["text_report"]
    assert report["loss"] < math.log(400) - 0.7
    assert report["bits_per_byte"] < toy.values["gzip_bits"] < 8
    shown = [output.get("text", "") for cell in toy.cells for output in cell.outputs]
    written = next(text for text in shown if "Epoch 1/4" in text)
    assert len(re.findall(r"step \d+:  The", written)) >= 8


def test_what_is_learned_stands_in_brackets(toy):
    answers = re.findall(r"((?:\[[^]]*\])+)", toy.values["learned"])
    said = ["".join(re.findall(r"\[([^]]*)\]", answer)) for answer in answers]
    assert said and set(said) <= {f" {answer}<|endoftext|>" for answer in ANSWERS.values()}


def test_the_adapter_learns_to_answer(toy):
    trained, total = toy.values["share"]
    assert 0 < trained < total
    losses = toy.losses()
    assert losses[-1] < losses[0] - 0.2
    assert toy.values["after"]["loss"] < toy.values["before"]["loss"] - 0.2
    assert toy.values["answers_after"][0]


def test_the_adapter_is_saved_and_merged_exactly(toy):
    folder = toy.folder / "runs" / "gpt_notebook"
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA" and config["r"] == 16
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    assert toy.values["merging"] < 1e-4
    assert toy.values["keras_hub"] < 1e-4


def test_it_shows_pictures_and_tables(toy):
    assert_pictures(toy.cells, PICTURES)
    tables = [html for source, html in outputs_of(toy.cells, "text/html") if "_table(" in source]
    text, compared, merged = tables
    assert f"{toy.values['text_report']['bits_per_byte']:.4f}" in text
    assert f"{toy.values['after']['loss']:.4f}" in compared and "before" in compared
    assert "merged" in merged


def test_the_committed_notebook_was_executed_and_tells_nothing_of_a_machine():
    assert_was_executed(NOTEBOOK, PICTURES)


@pytest.mark.slow
def test_the_whole_notebook_on_the_default_preset_and_data(tmp_path):
    whole = Executed(NOTEBOOK, tmp_path, PROBE)
    assert_is_clean(whole.cells)
    assert_pictures(whole.cells, PICTURES)
    assert whole.values["text_report"]["bits_per_byte"] < 2.6
    assert whole.values["after"]["loss"] < 0.85 * whole.values["before"]["loss"]
    # Of logits around 20, in float32.
    assert whole.values["merging"] < 1e-3
    assert whole.values["keras_hub"] < 1e-3
