"""Exports a run to a folder of transformers, and has transformers itself check it.

    python -m benchmarks.transformers_export RUN [--rows N] [--peers FOLDER]

transformers runs in the environment that `benchmarks/peers/setup.sh` makes, with every warning an
error. It must give the ids, the logits and the labels of the model that was exported; of a language
model also the text of a conversation, and the tokens that greedy generation writes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measure import machine, run_measured

HERE = Path(__file__).parent
CHAT = [
    {"role": "user", "content": "What is a whale? Say it in one sentence."},
    {"role": "assistant", "content": "A large animal of the sea."},
    {"role": "user", "content": "Is it a fish?"},
]
NEW_TOKENS = 48
PROMPTS = 8


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transformers_export")
    parser.add_argument("run", type=Path)
    parser.add_argument("--rows", type=int, help="rows of the test data (default: all; 64)")
    parser.add_argument("--peers", type=Path, default=HERE / "peers" / ".venv")
    parser.add_argument("--output", type=Path, help="the JSON file (default: in results/)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder, expected = Path(made) / "exported", Path(made) / "expected.npz"
        folder.mkdir()
        kind = export(options.run, folder, expected, options.rows)
        script = HERE / "peers" / "check_transformers_export.py"
        python = options.peers / "bin" / "python"
        done = run_measured([str(python), str(script), str(folder), str(expected)])
    found = json.loads(done.stdout.splitlines()[-1])
    result = {
        "benchmark": "transformers_export",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "model": kind,
        **found,
    }
    name = f"transformers_export-{kind}-{datetime.now(UTC):%Y-%m-%d-%H%M}.json"
    path = options.output or HERE / "results" / name
    path.write_text(json.dumps(result, indent=2) + "\n")
    table = Table("transformers", "found", title=kind)
    for key, value in found.items():
        table.add_row(key.replace("_", " "), f"{value:.2e}" if "difference" in key else str(value))
    Console().print(table)


def export(run: Path, folder: Path, expected: Path, rows: int | None) -> str:
    """Writes the folder, and what kerasllm computes with the model; returns its architecture."""
    from kerasllm.runtime.startup import import_tensorflow

    import_tensorflow(lean=True)
    import numpy as np

    from kerasllm.export.formats import Options, load_format
    from kerasllm.export.sample_texts import sample_rows
    from kerasllm.export.source import Source
    from kerasllm.workflows.trained import open_trained

    opened = open_trained(run)
    model, task = opened.open(precision="float32"), opened.task
    texts, _ = sample_rows(task, model, opened.recipe, rows or (64 if task.generates else None))
    longest = model.max_length or opened.recipe.data.max_length
    source = Source(task, model, "exported", longest, texts)
    format = load_format("transformers")
    format.refuse(source, Options())
    format.write(source, folder, Options())
    facts = {
        "texts": np.array(texts),
        "ids": np.concatenate(source.tokens.ids),
        "lengths": source.tokens.lengths,
        "logits": _logits(source),
    }
    if source.generates:
        facts.update(_generated(source))
    np.savez_compressed(expected, **facts)
    return json.loads((folder / "config.json").read_text())["architectures"][0]


def _logits(source):
    """Returns the logits of a classifier, or those after the last token of each text."""
    if source.generates:
        return source.expected
    from kerasllm.models.classify import predict_logits, tokenize

    return predict_logits(source.model, tokenize(source.model, source.rows))


def _generated(source) -> dict:
    """Returns the text of a conversation, and the greedy continuations of some texts."""
    import numpy as np

    from kerasllm.generation import GenerationSettings, Generator

    generator = Generator(source.model.task)
    settings = GenerationSettings(
        max_new_tokens=NEW_TOKENS, stop_token_ids=source.model.tokenizer.stop_token_ids
    )
    prompts = [row.tolist() for row in source.tokens.ids[:PROMPTS]]
    tokens = [made.tokens for made in generator.generate(prompts, settings)]
    facts = {"generated": np.array(json.dumps(tokens)), "new_tokens": np.array(NEW_TOKENS)}
    if source.model.chat_template is not None:
        text = source.model.chat_template.render(CHAT, add_generation_prompt=True)
        facts.update(chat=np.array(json.dumps(CHAT)), chat_text=np.array(text))
    return facts


if __name__ == "__main__":
    main()
