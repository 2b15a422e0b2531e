"""Small files that unpack to large ones: read in little memory, or refused."""

import bz2
import gzip
import json
import lzma
import tracemalloc
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from kerasllm.data.readers import compression, json_files, parquet, text_lines
from kerasllm.data.readers.files import find_files
from kerasllm.data.readers.formats import Columns
from kerasllm.data.readers.parquet import parquet_batches
from kerasllm.data.readers.question_source import QuestionSource
from kerasllm.data.readers.sources import Source
from kerasllm.data.readers.tagged_source import TaggedSource
from kerasllm.errors import DataError
from tests.hostile.harness import refusal

ROWS = "text,label\n" + "a good film,1\na dull film,0\n" * 40_000
PACKERS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


def read(path, **options) -> int:
    return sum(map(len, Source(str(path), **options).batches()))


def write_zip(path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("reviews.csv", content)


@pytest.mark.parametrize("suffix", [*PACKERS, ".zip"])
def test_what_unpacks_to_too_much_is_refused(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"reviews.csv{suffix}"
    if suffix == ".zip":
        write_zip(path, ROWS.encode())
    else:
        path.write_bytes(PACKERS[suffix](ROWS.encode()))
    # As long as it is not large, it may repeat itself.
    assert read(path) == 80_000
    monkeypatch.setattr(compression, "_UNPACKED_BYTES", 1 << 16)
    monkeypatch.setattr(compression, "MOST_TIMES", 20)
    with pytest.raises(DataError, match="more than 20 times its size"):
        read(path)


def test_rows_that_a_dictionary_holds_once_do_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_BATCH_BYTES", 1 << 20)
    long = "x " * 50_000
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 500, pa.int32()), pa.array([long]))
    path = tmp_path / "bomb.parquet"
    pq.write_table(
        pa.table({"text": texts.cast(pa.string()), "label": ["a", "b"] * 250}),
        path,
        compression="zstd",
    )
    assert path.stat().st_size < 4000
    (file,) = find_files(str(path), "train")
    batches = [batch for _, batch, _ in parquet_batches(file, Columns(("text",), ("label",)))]
    assert sum(batch.num_rows for batch in batches) == 500
    assert max(batch.num_rows for batch in batches) * len(long) <= 1 << 20


def test_a_column_of_one_large_page_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_LARGEST_COLUMN", 1 << 20)
    path = tmp_path / "bomb.parquet"
    table = pa.table({"text": ["x " * 50_000] * 100, "label": ["a", "b"] * 50})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    with pytest.raises(DataError, match="'text' unpacks to more than 200 times"):
        read(path)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".txt"])
def test_empty_lines_without_an_end_are_refused(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(text_lines, "MOST_BLANK", 1000)
    path = tmp_path / f"lines{suffix}"
    start = {".csv": "text,label\n", ".tsv": "text\tlabel\n"}.get(suffix, "")
    path.write_text(start + "\n" * 2000)
    with pytest.raises(DataError, match="1,000 empty lines"):
        read(path, labelled=suffix != ".txt")


def test_a_list_is_held_row_by_row(tmp_path):
    path = tmp_path / "rows.json"
    rows = [{"text": "x " * 50_000, "label": n % 2} for n in range(200)]
    for indent in (None, 1):
        path.write_text(json.dumps(rows, indent=indent))
        tracemalloc.start()
        (file,) = find_files(str(path), "train")
        assert sum(1 for _ in json_files.json_records(file)) == 200
        # One line is held whole, and once more as text.
        assert tracemalloc.get_traced_memory()[1] < (80 if indent is None else 10) << 20
        tracemalloc.stop()


def test_a_row_of_a_list_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "LONGEST", 1000)
    monkeypatch.setattr(json_files, "BLOCK", 100)
    path = tmp_path / "rows.json"
    path.write_text('[{"text": "a", "label": [' + "[]," * 10_000 + "[]]}]")
    with pytest.raises(DataError, match="not JSON from here on"):
        read(path)


@pytest.mark.parametrize("kind", [TaggedSource, QuestionSource])
def test_columns_are_not_looked_for_among_millions_of_lists(tmp_path, kind):
    """A packed file of 100 kB holds as many: its first ones tell that it has no objects."""
    path = tmp_path / "data.json.gz"
    with gzip.open(path, "wb") as file:
        file.write(b"[" + b"[]," * 20_000_000 + b"[]]")
    assert "among its first 10,000" in refusal(kind, str(path))


def test_millions_of_lists_after_a_row_are_not_skipped_one_by_one(tmp_path):
    path = tmp_path / "data.json.gz"
    with gzip.open(path, "wb") as file:
        file.write(b'[{"tokens": ["a"], "tags": ["O"]},' + b"[]," * 2_000_000 + b"[]]")
    source = TaggedSource(str(path), on_bad_row="skip")
    assert "The last 1,048,576 records" in refusal(lambda: list(source.sentences()))
