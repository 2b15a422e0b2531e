"""What several cases need: the rows, a trained classifier, a language model, and its sizes."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from benchmarks.measure import run_measured
from benchmarks.suite import SuiteOptions
from kerasllm.data.starters import find_starter

STARTER = "starter:movie_reviews"
LANGUAGE_MODEL = "smollm2_135m_instruct"
KERASLLM = (sys.executable, "-m", "kerasllm")


def movie_reviews(part: str, options: SuiteOptions, rows: int | None = None) -> Path:
    """Returns the csv of movie reviews (columns `text` and `label`), or one of some of its rows.

    Args:
        part: `"train"` or `"test"`.
        options: Where a file of fewer rows is written.
        rows: How many. Defaults to `None`: all.
    """
    whole = find_starter(STARTER, part)[1]
    if rows is None:
        return whole
    path = options.inputs / f"movie_reviews_{part}_{rows}.csv"
    if not path.exists():
        with open(whole, encoding="utf-8", newline="") as file:
            header, *all_rows = csv.reader(file)
        # From everywhere, for the first ones may have one label.
        chosen = all_rows[:: len(all_rows) // rows][:rows]
        with open(path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *chosen])
    return path


def classifier(options: SuiteOptions) -> Path:
    """Returns the run directory of a trained classifier, which `make_classifier` makes."""
    return options.run or options.inputs / "classifier"


def make_classifier(options: SuiteOptions) -> None:
    """Trains the recipe bert_cls, unless that is done or a run is given."""
    folder = classifier(options)
    if folder.exists():
        return
    command = [*KERASLLM, "finetune", "--recipe", "bert_cls", "--output", str(folder)]
    if options.quick:
        for part in ("train", "test"):
            command += [f"--{part}", str(movie_reviews(part, options, rows=64))]
    run_measured(command)


def language_model(options: SuiteOptions) -> Path:
    """Returns the folder of a decoder in Hugging Face's layout, see `make_language_model`."""
    return options.language_model or options.inputs / "language_model"


def make_language_model(options: SuiteOptions) -> None:
    """Writes SmolLM2-135M-Instruct as transformers loads it, unless there is a folder."""
    folder = language_model(options)
    if not folder.exists():
        export = ("export", LANGUAGE_MODEL, "--format", "transformers", "--rows", "2")
        run_measured([*KERASLLM, *export, "--output", str(folder)])


def read_config(model: Path) -> dict:
    """Returns the sizes of a model in Hugging Face's layout."""
    return json.loads((model / "config.json").read_text(encoding="utf-8"))


def encoder_weights(config: dict) -> int:
    """Returns the weights of an encoder's layers that are in a matrix product for each token."""
    width = config["hidden_size"]
    layer = 4 * width**2 + 2 * width * config["intermediate_size"]
    return config["num_hidden_layers"] * layer


def decoder_weights(config: dict) -> int:
    """Returns the same of a Llama: its layers, and the head, which gives the logits."""
    width, heads = config["hidden_size"], config["num_attention_heads"]
    head = config.get("head_dim") or width // heads
    key_value = config["num_key_value_heads"] * head
    layer = 2 * width * heads * head + 2 * width * key_value
    layer += 3 * width * config["intermediate_size"]
    return config["num_hidden_layers"] * layer + config["vocab_size"] * width


def attention_operations(config: dict, squared_lengths: float) -> float:
    """Returns operations of attention forward: all tokens of a row with all, twice.

    Args:
        config: Sizes of the model.
        squared_lengths: The squares of the rows' lengths, added up.
    """
    return 4 * config["num_hidden_layers"] * config["hidden_size"] * squared_lengths
