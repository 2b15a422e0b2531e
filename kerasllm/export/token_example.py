"""The Python of a model card that runs a graph on token ids."""

from __future__ import annotations

import tempfile
from pathlib import Path

from kerasllm.data.tokenizers.tokenizer_json import TOKENIZER_FILE
from kerasllm.export.source import Source
from kerasllm.export.token_files import KERAS_HUB_FOLDER, write_tokenizer_json


def example(source: Source, *, imports: str, opening: str, running: str) -> str:
    """Returns a block of Python that tokenizes texts, runs an engine and reads what comes out.

    Args:
        source: What was exported.
        imports: The line that imports the engine.
        opening: The line that opens the file.
        running: The line that makes `outputs`, by name, of `inputs`, by name.
    """
    engine, tokenizing = _tokenizing(source)
    lines = [
        "import numpy as np",
        engine,
        imports,
        "",
        f"texts = {_texts(source)!r}",
        *tokenizing,
        *_filling(source),
        "",
        opening,
        running,
        *_reading(source, engine),
    ]
    return "\n".join(["```python", *lines, "```"])


def _texts(source: Source) -> list[str]:
    return ["one text", "and another"] if source.is_classifier else ["One day", "It is"]


def _tokenizing(source: Source) -> tuple[str, list[str]]:
    """Returns the line that imports the tokenizer's library, and those that make `ids`."""
    with tempfile.TemporaryDirectory() as folder:
        as_json = write_tokenizer_json(source, Path(folder))
    tokenizer = source.model.tokenizer
    if as_json:
        # That of a classifier cuts by itself.
        cut = "" if source.is_classifier else f"[:{source.max_length}]"
        return "import tokenizers", [
            f'tokenizer = tokenizers.Tokenizer.from_file("{TOKENIZER_FILE}")',
            f"ids = [encoding.ids{cut} for encoding in tokenizer.encode_batch(texts)]",
        ]
    start, end = tokenizer.start_token_id, tokenizer.end_token_id
    room = source.max_length - (start is not None) - (end is not None)
    before = f"[{start}] + " if start is not None else ""
    after = f" + [{end}]" if end is not None else ""
    return "import keras_hub", [
        f'tokenizer = keras_hub.tokenizers.Tokenizer.from_preset("./{KERAS_HUB_FOLDER}")',
        "rows = [list(row) for row in tokenizer(texts)]",
        f"ids = [{before}row[:{room}]{after} for row in rows]",
    ]


def _filling(source: Source) -> list[str]:
    """Returns the lines that make `inputs` of `ids`."""
    names = list(source.model.task.input) if source.is_classifier else ["token_ids"]
    makes = {
        "token_ids": f"[row + [{source.model.tokenizer.pad_token_id}] * (width - len(row)) "
        "for row in ids]",
        "padding_mask": "[[1] * len(row) + [0] * (width - len(row)) for row in ids]",
        "segment_ids": "[[0] * width for row in ids]",
    }
    return [
        f"width = {source.model.pad_to or 'max(map(len, ids))'}",
        "inputs = {",
        *(f'    "{name}": np.array({makes[name]}, np.int32),' for name in names),
        "}",
    ]


def _reading(source: Source, engine: str) -> list[str]:
    """Returns the lines that print what came out."""
    if source.is_classifier:
        return [
            f"labels = {list(source.model.labels.names)!r}",
            'for text, row in zip(texts, outputs["probabilities"]):',
            "    print(labels[row.argmax()], row.max(), text)",
        ]
    return [
        'for text, row, one in zip(texts, outputs["logits"], ids):',
        "    next_id = int(row[len(one) - 1].argmax())  # of what is likeliest behind the text",
        "    print(text + tokenizer.decode([next_id]))",
    ]
