"""A masked language model fills in words from the command line, and in files."""

import csv
import json

import pytest
from pyarrow import parquet

from tests.conftest import cached_in
from tests.tasks.toys.masked_lm import continued


@pytest.fixture(scope="module")
def run(tmp_path_factory, toy_preset, session_cache):
    """A run of a few steps."""
    from kerasllm.recipe import load
    from kerasllm.workflows.finetune import finetune

    folder = tmp_path_factory.mktemp("masked")
    settings = [*continued(folder, toy_preset).overrides, "training.max_steps=4"]
    with cached_in(session_cache):
        return finetune(load("mlm", settings), name="mlm", output=folder / "run").path


def test_words_are_filled_in(kerasllm, run):
    text = "The film is [MASK], the <mask> too"
    line = kerasllm("predict", run, text).out
    filled, words = line.rstrip("\n").split("\t")
    told = json.loads(kerasllm("predict", run, text, "--json", "--n-best", "2").out)
    assert told["filled"] == filled and told["text"] == text
    spans = [text[mask["start"] : mask["end"]] for mask in told["masks"]]
    assert spans == ["[MASK]", "<mask>"]
    assert [len(mask["words"]) for mask in told["masks"]] == [2, 2]
    first = [mask["words"][0] for mask in told["masks"]]
    assert filled == f"The film is {first[0]['word']}, the {first[1]['word']} too"
    assert words.startswith(f"{first[0]['word']} {first[0]['probability']:.2f}, ")


def test_a_text_without_a_hidden_word_is_refused(kerasllm, run):
    result = kerasllm("predict", run, "a film")
    assert result.status == 2 and "The text has no [MASK]" in result.err


def test_files_keep_their_columns(kerasllm, run, tmp_path):
    rows = tmp_path / "in.csv"
    rows.write_text("id,text\n1,a [MASK] film\n2,nothing hidden\n3,[MASK]\n", encoding="utf-8")
    written = ("--input", rows, "--output", tmp_path / "out.csv")
    refused = kerasllm("predict", run, *written, "--on-bad-row", "error")
    assert refused.status == 2 and "in.csv:3" in refused.err
    skip = ("--on-bad-row", "skip")
    kerasllm("predict", run, *written, *skip)
    with open(tmp_path / "out.csv", encoding="utf-8", newline="") as opened:
        found = list(csv.DictReader(opened))
    assert [row["id"] for row in found] == ["1", "3"]
    assert found[0]["filled"].startswith("a ") and ", " in found[0]["words"]
    kerasllm("predict", run, "--input", rows, "--output", tmp_path / "out.parquet", *skip)
    typed = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert typed[0]["masks"][0]["start"] == 2 and len(typed[0]["masks"][0]["words"]) == 5
