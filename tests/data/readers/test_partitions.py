"""Folders that name columns, as Spark, Hive and Arrow write them: `label=pos/part-0.parquet`."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerasllm.data.convert import convert
from kerasllm.data.readers.sources import Source
from kerasllm.data.readers.whole_rows import WholeRows
from kerasllm.data.report.clean import clean
from kerasllm.data.report.report import make_report
from kerasllm.data.report.rows import rows_of_files
from kerasllm.errors import DataError

TEXTS = {"pos": ["a fine film", "quite good"], "neg": ["dull, to the end", "two lost hours"]}
ROWS = [(text, label) for label in ("neg", "pos") for text in TEXTS[label]]


def write(path, rows):
    """Writes rows in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = list(rows[0])
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        lines = [names, *([f'"{row[name]}"' for name in names] for row in rows)]
        path.write_text("".join(",".join(line) + "\n" for line in lines))
    else:
        path.write_text("".join(row["text"] + "\n" for row in rows))


def read(spec, **options):
    source = Source(spec, **options)
    batches = list(source.batches())
    return [row for b in batches for row in zip(b.texts, b.labels or [None] * len(b.texts))]


@pytest.fixture(params=["parquet", "csv", "jsonl", "txt"])
def parts(request, tmp_path):
    for label, texts in TEXTS.items():
        path = tmp_path / "out" / f"label={label}" / f"part-0.{request.param}"
        write(path, [{"text": text} for text in texts])
    (tmp_path / "out" / "_SUCCESS").write_text("")
    return tmp_path / "out"


def test_the_folder_is_a_column(parts):
    source = Source(parts)
    assert source.label_column == "label"
    assert read(parts) == ROWS
    assert [text for text, _ in read(parts, labelled=False)] == [text for text, _ in ROWS]


def test_a_glob_and_the_folders_themselves(parts):
    assert read(f"{parts}/label=*/part-*") == ROWS
    assert read([f"{parts}/label=neg/", f"{parts}/label=pos"]) == ROWS
    with pytest.raises(DataError):
        read(parts / "label=pos" / next((parts / "label=pos").iterdir()).name)


def test_the_column_reaches_predictions_and_conversions(parts, tmp_path):
    readings = Source(parts, labelled=False).readings
    rows = list(WholeRows(readings, lambda texts, columns, where: texts[0]))
    assert [(row.input, row.kept["label"]) for row in rows] == ROWS
    for name in ("all.jsonl", "all.parquet"):
        done = convert(str(parts), tmp_path / name)
        assert set(done.columns) == {"text", "label"}
        assert read(tmp_path / name) == ROWS


def test_the_fingerprint_follows_the_folders(parts):
    before = Source(parts).fingerprint
    (parts / "label=pos").rename(parts / "label=good")
    assert Source(parts).fingerprint != before


def test_values_are_decoded_and_none_is_empty(tmp_path):
    for folder in ("label=very%20good%2Fbad", "label=__HIVE_DEFAULT_PARTITION__", "label=b"):
        write(tmp_path / "out" / folder / "part-0.parquet", [{"text": f"in {folder}"}])
    source = Source(tmp_path / "out", on_bad_row="skip")
    labels = [label for batch in source.batches() for label in batch.labels]
    assert labels == ["b", "very good/bad"]
    assert source.bad_row_count == 1 and "label is empty" in source.bad_rows[0][2]


def test_several_columns_and_one_by_name(tmp_path):
    for year in (2025, 2026):
        for topic in ("a", "b"):
            folder = tmp_path / "out" / f"year={year}" / f"kind={topic}"
            write(folder / "part-0.csv", [{"text": f"{topic} of {year}"}])
    assert read(tmp_path / "out", label="kind")[:2] == [("a of 2025", "a"), ("b of 2025", "b")]
    with pytest.raises(DataError, match="No label column found") as error:
        read(tmp_path / "out")
    assert "'year', 'kind'" in error.value.fix
    with pytest.raises(DataError, match="comes from the names of the folders"):
        read(tmp_path / "out", text="kind", label="year")


def test_csv_without_a_header(tmp_path):
    for label, texts in TEXTS.items():
        path = tmp_path / "out" / f"label={label}" / "part-0.csv"
        path.parent.mkdir(parents=True)
        path.write_text(
            "".join(f'{n},"{text} and a few more words"\n' for n, text in enumerate(texts))
        )
    expected = [(f"{text} and a few more words", label) for text, label in ROWS]
    assert read(tmp_path / "out") == expected
    assert read(tmp_path / "out", text="1", label="label") == expected


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_a_column_of_the_file_must_agree(tmp_path, suffix):
    for label, texts in TEXTS.items():
        rows = [{"text": text, "label": label} for text in texts]
        write(tmp_path / "out" / f"label={label}" / f"part-0.{suffix}", rows)
    assert read(tmp_path / "out") == ROWS
    rows[1]["label"] = "other"
    write(tmp_path / "out" / f"label={label}" / f"part-0.{suffix}", rows)
    with pytest.raises(DataError, match="holds 'other', but its folder says 'neg'") as error:
        read(tmp_path / "out")
    assert f"part-0.{suffix}:" in error.value.where
    with pytest.raises(DataError, match="its folder says"):
        convert(str(tmp_path / "out"), tmp_path / "all.jsonl")
    (tmp_path / "out" / "label=neg").rename(tmp_path / "out" / "negative")
    (tmp_path / "out" / "label=pos").rename(tmp_path / "out" / "positive")
    assert ("two lost hours", "other") in read(tmp_path / "out"), "the advice works"


def test_a_cleaned_copy_keeps_the_folders(tmp_path):
    for label, texts in TEXTS.items():
        rows = [{"text": text} for text in [*texts, texts[0]]]
        write(tmp_path / "out" / f"label={label}" / "part-0.parquet", rows)
    found = make_report({"train": rows_of_files(str(tmp_path / "out"))})
    clean(found, tmp_path / "clean")
    assert read(tmp_path / "clean") == ROWS


def test_broken_bytes_below_a_folder_that_names_the_label(tmp_path):
    folder = tmp_path / "out" / "label=pos"
    folder.mkdir(parents=True)
    texts = pa.array([b"caf\xe9", b"fine"], pa.binary())
    table = pa.table({"text": texts.cast(pa.string(), safe=False)})
    pq.write_table(table, folder / "part-0.parquet")
    source = Source(tmp_path / "out", on_bad_row="skip")
    assert [row for batch in source.batches() for row in zip(batch.texts, batch.labels)] == [
        ("fine", "pos")
    ]
    assert source.bad_row_reasons == {"broken bytes": 1}
