"""Draws files of data that were made to do harm, or by accident."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import random
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

FORMATS = ("csv", "csv", "tsv", "jsonl", "jsonl", "json", "parquet", "txt", "xlsx", "classes")
PACKERS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}
BLOCK = 100_000
# What is repeated, and how many blocks of it follow the rows of a packed file.
BOMBS = [
    (b"a film,1\nno,0\n", 2),
    (b'{"text": "a film", "label": 1}\n', 3),
    (b'{"text": "a", "label": 1},', 30),
    (b"\n", 40),
    (b",\n", 4),
    (b"[", 600),
    (b"[],", 200),
    (b'"ab",', 120),
    (b" ", 3_000),
    (b'"', 700),
    (b"\0", 700),
    (b"x", 700),
    (b"x ", 2_000),
]
SHAPES = (
    *["labels"] * 3,
    *("messages", "prompts", "preferences", "questions", "tags", "spans", "passages", "conll"),
)
# Of these, rows hold lists and objects.
_NESTED = ("messages", "questions", "tags", "spans", "passages")
WORDS = "a film to see again, twice; the plot is thin | but fair\tand who would mind it".split(" ")

# Among them texts that take a regular expression, a parser or a conversion for ever.
TEXTS = [
    "",
    " ",
    "\0",
    "a\0b",
    "\ud800",
    "\udfff\ud800",
    "\u202e\u200b\ufeff",
    "\ufeff",
    "\x1b[31m\x07",
    "a\r\nb",
    "\r",
    "\n\n\n",
    '"',
    '""',
    '"""',
    "'",
    "a,b;c|d\te",
    "\\",
    '\\"',
    "=cmd|' /C calc'!A0",
    "<script>alert(1)</script>",
    "{{ 7*7 }}{% for %}",
    "../../../../etc/passwd",
    "%s%n%x",
    "NaN",
    "inf",
    "-Infinity",
    "1e999",
    "1_000",
    "0x1F",
    "٣",
    "²",
    "9" * 5000,
    "9" * 100_000 + "x",
    "1" + ",1" * 20_000 + "x",
    "-" * 100_000,
    "x" * 1_000_000,
    "é" * 300_000,
    "\U0001f600" * 50_000,
    "a " * 200_000,
    "[" * 100_000,
    "[" * 50_000 + "]" * 50_000,
    '{"a":' * 50_000 + "1" + "}" * 50_000,
    "(" * 5_000 + ")" * 5_000,
    "[" + "11 " * 40 + "x]",
    "[" + "'a' " * 5_000 + "x]",
    "['" + "a', '" * 50_000 + "']",
    "[" + "a, " * 50_000 + "]",
    "['a'" + "+'a'" * 20_000 + "]",
    "[" + "-" * 20_000 + "1]",
    "a@" + "a." * 20_000,
    "+1 " * 20_000,
    "-" * 20 + "BEGIN PRIVATE KEY" + "-" * 20,
    "<" * 50_000,
    "&" * 50_000 + ";",
    " " * 100_000 + "x",
    "\n\nHuman:" * 20_000,
    "https://" + "a:b@" * 10_000,
]
NUMBERS = [0, -1, 1, 0.5, 1e308, -1e308, 1e-320, 10**30, 10**400, 2**63, float("nan"), float("inf")]
OTHERS = [None, True, False, [], {}, [[]], [[["a"]]], {"a": {"b": []}}, ["a", None], [None] * 99]
KEYS = ["text", "label", "", " ", "\ud800", "\0", "a" * 100_000, "Text", "0", "messages"]


def deep(depth: int) -> list:
    """Lists in lists."""
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def draw_value(draw: random.Random):
    """Draws a value that no text and no label should be."""
    kind = draw.choices(["text", "number", "other", "deep", "noise"], [6, 2, 2, 1, 1])[0]
    if kind == "text":
        return draw.choice(TEXTS)
    if kind == "noise":
        return "".join(chr(draw.randrange(1, 0xD7FF)) for _ in range(draw.choice([3, 3000])))
    return {
        "number": lambda: draw.choice(NUMBERS),
        "other": lambda: draw.choice(OTHERS),
        "deep": lambda: deep(draw.choice([5, 400, 900, 940, 970])),
    }[kind]()


def draw_rows(draw: random.Random, shape: str) -> list[dict]:
    """Draws valid rows of some shape."""

    def text() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(1, 12)))

    def said(role: str) -> dict:
        return {"role": role, "content": text()}

    labels = draw.choice([("good", "bad"), ("0", "1"), ("joy|fear", "joy", "fear"), ("0.5", "2")])
    row = {
        "labels": lambda: {"text": text(), "label": draw.choice(labels)},
        "messages": lambda: {"messages": [said("user"), said("assistant")]},
        "prompts": lambda: {"prompt": text(), "response": text()},
        "preferences": lambda: {"prompt": text(), "chosen": text(), "rejected": text()},
        "questions": lambda: {"question": text(), "choices": [text(), text()], "answer": 0},
        "tags": lambda: {"tokens": ["a", "film"], "ner_tags": ["O", draw.choice(["B-X", "O"])]},
        "spans": lambda: {"text": "a film", "spans": [{"start": 2, "end": 6, "label": "X"}]},
        "passages": lambda: {
            "question": text(),
            "context": "a film to see",
            "answers": {"text": ["film"], "answer_start": [2]},
        },
        "conll": lambda: {"text": "a O\nfilm B-X\n"},
    }[shape]
    return [row() for _ in range(draw.choice([1, 3, 40, 40]))]


def change_rows(draw: random.Random, rows: list[dict]) -> None:
    """Puts other values and other keys into rows."""
    for _ in range(draw.choice([0, 0, 1, 1, 2, 4])):
        row = draw.choice(rows)
        kind = draw.choice(["value", "value", "value", "inner", "key", "missing", "column", "many"])
        if not row:
            continue
        key = draw.choice(list(row))
        if kind == "column":
            value = draw_value(draw)
            for each in rows:
                each[key] = value
        elif kind == "inner" and isinstance(row[key], list) and row[key]:
            place = draw.randrange(len(row[key]))
            inner = row[key][place]
            if isinstance(inner, dict) and inner:
                inner[draw.choice([*inner, "from", "weight", "name"])] = draw_value(draw)
            else:
                row[key][place] = draw_value(draw)
        elif kind == "key":
            row[draw.choice(KEYS)] = row.pop(key)
        elif kind == "missing":
            del row[key]
        elif kind == "many":
            row.update({f"k{number}": number for number in range(draw.choice([10, 20_000]))})
        else:
            row[key] = draw_value(draw)


def packed_rows(draw: random.Random, kind: str, rows: list[dict]) -> bytes:
    """Writes rows in a format."""
    if kind in ("csv", "tsv"):
        keys = list(dict.fromkeys(key for row in rows for key in row))
        stream = io.StringIO()
        mark = {"csv": draw.choice(",,;|"), "tsv": "\t"}[kind]
        writer = csv.writer(stream, delimiter=mark, quoting=draw.choice([0, 0, 1]))
        cells = [[row.get(key, "") for key in keys] for row in rows]
        for row in draw.choice([[keys], [keys], []]) + cells:
            try:
                writer.writerow(row)
            except csv.Error:
                stream.write(mark.join(map(str, row)) + "\n")
        return stream.getvalue().encode(errors="surrogatepass")
    if kind == "jsonl":
        lines = (json.dumps(row, ensure_ascii=draw.random() < 0.5) for row in rows)
        return "\n".join(lines).encode(errors="surrogatepass")
    if kind == "json":
        indent = draw.choice([None, 1])
        return json.dumps(rows, indent=indent).encode(errors="surrogatepass")
    if kind == "txt":
        texts = (str(next(iter(row.values()), "")) for row in rows)
        return draw.choice(["\n", "\n\n"]).join(texts).encode(errors="surrogatepass")
    if kind == "parquet":
        return _parquet(draw, rows)
    return _spreadsheet(draw)


def _parquet(draw: random.Random, rows: list[dict]) -> bytes:
    stream = io.BytesIO()
    try:
        table = pa.Table.from_pylist(rows)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        # Values of several types: as JSON.
        keys = list(dict.fromkeys(key for row in rows for key in row))
        keys = [key.encode(errors="replace").decode() for key in keys][:100]
        table = pa.table({key: [json.dumps(row.get(key)) for row in rows] for key in keys})
    with_limits = {
        "compression": draw.choice(["zstd", "snappy", "none", "gzip"]),
        "use_dictionary": draw.random() < 0.5,
        "row_group_size": draw.choice([1, 1000]),
    }
    if draw.random() < 0.1:
        # A bomb: one value in a dictionary, or one long page.
        long = "x " * draw.choice([1_000, 100_000])
        count = draw.choice([100, 2_000])
        table = pa.table({"text": [long] * count, "label": ["a", "b"] * (count // 2)})
        with_limits["row_group_size"] = count
    if draw.random() < 0.1:
        columns = dict(zip(table.column_names, table.columns))
        table = pa.table(
            {
                name: column.cast(pa.binary()) if pa.types.is_string(column.type) else column
                for name, column in columns.items()
            }
        )
    try:
        pq.write_table(table, stream, **with_limits)
    except (pa.ArrowException, OSError):
        pq.write_table(pa.table({"text": ["a"], "label": ["b"]}), stream)
    return stream.getvalue()


def _spreadsheet(draw: random.Random) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<?xml version='1.0'?><Types/>")
        archive.writestr("xl/worksheets/sheet1.xml", "<a>" * draw.choice([1, 100_000]))
    return stream.getvalue()


def damage(draw: random.Random, content: bytes) -> bytes:
    """Changes bytes."""
    if not content:
        return content
    place, end = sorted((draw.randrange(len(content)), draw.randrange(len(content))))
    some = draw.choice(
        [
            b"\0",
            b"\xff\xfe",
            b"\xef\xbb\xbf",
            b"\r",
            b"\n",
            b'"',
            b"\t",
            b",",
            b"\x80",
            b"\xc0\xaf",
            b"\xed\xa0\x80",
            b"\xe9",
            b"\x1a",
            b"[",
        ]
    )
    kind = draw.choice("flip flips cut front twice insert many noise header".split())
    if kind in ("flip", "flips"):
        changed = bytearray(content)
        for _ in range(1 if kind == "flip" else 50):
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        return bytes(changed)
    return {
        "cut": lambda: content[:place],
        "front": lambda: content[place:],
        "twice": lambda: content[:end] + content[place:end] * draw.choice([1, 5]) + content[end:],
        "insert": lambda: content[:place] + some + content[place:],
        "many": lambda: content[:place] + some * draw.choice([100, 100_000]) + content[place:],
        "noise": lambda: content[:place] + draw.randbytes(64) + content[place:],
        "header": lambda: draw.randbytes(16) + content[16:],
    }[kind]()


def _encoded(draw: random.Random, content: bytes) -> bytes:
    """Writes text in another encoding, or half of it."""
    text = content.decode(errors="surrogateescape")
    encoding = draw.choice(["utf-16", "utf-16-le", "utf-32", "cp1252", "utf-7", "utf-8-sig"])
    half = len(text) // 2 if draw.random() < 0.5 else 0
    first = text[:half].encode(errors="replace")
    return first + text[half:].encode(encoding, errors="replace")


def write_case(folder: Path, seed: int, large: bool) -> tuple[str, Path]:
    """Writes the case of a seed into an empty folder.

    Args:
        folder: The folder.
        seed: The seed.
        large: Whether packed files may unpack to hundreds of megabytes.

    Returns:
        The shape of its rows, and what a user would name.
    """
    draw = random.Random(seed)
    kind, shape = draw.choice(FORMATS), draw.choice(SHAPES)
    if shape in _NESTED and kind in ("csv", "tsv", "txt", "classes"):
        kind = "jsonl"
    if shape == "conll":
        kind = "txt"
    rows = draw_rows(draw, shape)
    change_rows(draw, rows)
    name = draw.choice(["data", "data", "train", "a b", "x" * 200, "\u202edata", "--x", "données"])
    if kind == "classes":
        return "labels", _class_folder(draw, folder / name, rows)
    packing = draw.choice(["", "", "", "", *PACKERS, ".zip"])
    content = packed_rows(draw, kind, rows)
    if kind not in ("parquet", "xlsx") and draw.random() < 0.06:
        content = _encoded(draw, content)
    if draw.random() < 0.3:
        content = damage(draw, content)
    suffix = draw.choices([kind, draw.choice(FORMATS)], [15, 1])[0]
    path = folder / f"{name}.{suffix}{packing}"
    if packing == ".zip":
        _archive(draw, path, suffix, content)
    else:
        packed = PACKERS[packing](content) if packing else content
        if packing and kind != "parquet" and draw.random() < 0.3 and large:
            # Members of packed files may follow each other.
            block, times = draw.choice(BOMBS)
            packed += PACKERS[packing](block * BLOCK) * times
        path.write_bytes(packed)
    if draw.random() < 0.06:
        path.write_bytes(damage(draw, path.read_bytes()))
    if draw.random() < 0.03:
        path.unlink()
        draw.choice([os.mkfifo, os.mkdir, lambda at: os.symlink(at, at)])(path)
    if draw.random() < 0.05:
        # The folder, with something beside it.
        other = folder / draw.choice(["b.csv", "b.jsonl", ".hidden", "README.md"])
        other.write_bytes(content[:100])
        return shape, folder
    return shape, path


def _archive(draw: random.Random, path: Path, kind: str, content: bytes) -> None:
    names = draw.choice(
        [
            ["data"],
            ["data", "data"],
            ["../data"],
            ["/etc/data"],
            ["a/" * 100 + "b"],
            [f"part{number}" for number in range(300)],
            ["\1"],
            [],
        ]
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(f"{name}.{kind}", content[: 1 << 20] if len(names) > 1 else content)


def _class_folder(draw: random.Random, folder: Path, rows: list[dict]) -> Path:
    for number, row in enumerate(rows):
        inner = folder / draw.choice(["good", "bad", "a b", ".hidden", "\u202e"])
        inner.mkdir(parents=True, exist_ok=True)
        content = str(next(iter(row.values()), "")).encode(errors="surrogatepass")
        if draw.random() < 0.1:
            content = damage(draw, content)
        (inner / f"{number}.txt").write_bytes(content)
    if draw.random() < 0.2:
        os.symlink(folder, folder / "good" / "again") if (folder / "good").is_dir() else None
    return folder
