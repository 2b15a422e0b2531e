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
        f"texts = {texts_of(source)!r}",
        *tokenizing,
        *_padding(source, as_json=engine == "import tokenizers"),
        "",
        opening,
        running,
        *source.head.reading,
    ]
    return "\n".join(["```python", *lines, "```"])


def texts_of(source: Source) -> list[str] | list[tuple[str, ...]]:
    """Returns the texts of the code in a model card: strings, or tuples where a row has several."""
    rows = list(source.head.example)
    return [row[0] for row in rows] if len(source.head.texts) == 1 else rows


def _tokenizing(source: Source) -> tuple[str, list[str]]:
    """Returns the line that imports the tokenizer's library, and those that make `ids`."""
    with tempfile.TemporaryDirectory() as folder:
        as_json = write_tokenizer_json(source, Path(folder))
    tokenizer = source.model.tokenizer
    if as_json:
        # That of an encoder cuts by itself.
        cut = f"[:{source.max_length}]" if source.generates else ""
        return "import tokenizers", [
            f'tokenizer = tokenizers.Tokenizer.from_file("{TOKENIZER_FILE}")',
            "encodings = tokenizer.encode_batch(texts)",
            f"ids = [encoding.ids{cut} for encoding in encodings]",
        ]
    reading = f'tokenizer = keras_hub.tokenizers.Tokenizer.from_preset("./{KERAS_HUB_FOLDER}")'
    start, end = (
        [] if id is None else [id] for id in (tokenizer.start_token_id, tokenizer.end_token_id)
    )
    if len(source.head.texts) == 2:
        between = list(getattr(tokenizer, "pair_separator_ids", end))
        return "import keras_hub", [
            reading,
            "firsts, seconds = ([list(row) for row in tokenizer(list(column))]",
            "                   for column in zip(*texts))",
            f"# Cut the texts of a pair that is longer than {source.max_length} tokens.",
            f"firsts = [{start} + row + {between} for row in firsts]",
            f"seconds = [row + {end} for row in seconds]",
            "ids = [first + second for first, second in zip(firsts, seconds)]",
        ]
    room = source.max_length - len(start) - len(end)
    return "import keras_hub", [
        reading,
        "rows = [list(row) for row in tokenizer(texts)]",
        f"ids = [{start} + row[:{room}] + {end} for row in rows]",
    ]


def _padding(source: Source, *, as_json: bool) -> list[str]:
    """Returns the lines that make `inputs` of `ids`."""
    segments = "[[0] * width for row in ids]"
    if len(source.head.texts) == 2:
        second = getattr(source.model.tokenizer, "second_segment", 1)
        segments = (
            "[one.type_ids + [0] * (width - len(one.ids)) for one in encodings]"
            if as_json
            else f"[[0] * len(one) + [{second}] * len(two) + [0] * (width - len(one) - len(two)) "
            "for one, two in zip(firsts, seconds)]"
        )
    makes = {
        "token_ids": f"[row + [{source.model.tokenizer.pad_token_id}] * (width - len(row)) "
        "for row in ids]",
        "padding_mask": "[[1] * len(row) + [0] * (width - len(row)) for row in ids]",
        "segment_ids": segments,
    }
    return [
        f"width = {source.model.pad_to or 'max(map(len, ids))'}",
        "inputs = {",
        *(f'    "{name}": np.array({makes[name]}, np.int32),' for name in source.input_names),
        "}",
    ]
