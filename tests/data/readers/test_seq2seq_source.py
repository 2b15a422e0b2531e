"""Sources and targets: two columns of tables, or text files whose lines belong together."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from kerasllm.data.readers.seq2seq_source import open_source
from kerasllm.errors import DataError

PAIRS = [("A dog.", "Ein Hund."), ("Two cats, here.", 'Zwei "Katzen".'), ("Bye", "Tschüss")]


def read(source):
    return [
        pair for batch in source.batches() for pair in zip(batch.texts, batch.pairs, strict=True)
    ]


def text_file(path, lines, opener=open):
    with opener(path, "wt", encoding="utf-8") as stream:
        stream.write("".join(f"{line}\n" for line in lines))
    return str(path)


@pytest.fixture
def both(tmp_path):
    return [
        text_file(tmp_path / f"train.{name}", side)
        for name, side in zip(("en", "de"), zip(*PAIRS, strict=True), strict=True)
    ]


def refusal(*arguments, **options) -> DataError:
    with pytest.raises(DataError) as caught:
        read(open_source(*arguments, "train", **options))
    return caught.value


# Tables


def write_csv(path, names, rows, delimiter=","):
    import csv

    with open(path, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([names, *rows] if names else rows)
    return str(path)


def test_columns_of_every_format(tmp_path):
    names = ("source", "target")
    rows = [dict(zip(names, pair, strict=True)) for pair in PAIRS]
    files = [
        write_csv(tmp_path / "a.csv", names, PAIRS),
        write_csv(tmp_path / "b.tsv", names, PAIRS, "\t"),
        text_file(tmp_path / "c.jsonl", map(json.dumps, rows)),
    ]
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    for file in (*files, str(tmp_path / "d.parquet")):
        assert read(open_source(file, "train")) == PAIRS, file


@pytest.mark.parametrize(
    "names",
    [("src", "tgt"), ("Document", "Summary"), ("dialogue", "summary"), ("english", "german")],
)
def test_columns_are_found_by_common_names_or_are_the_only_two(tmp_path, names):
    assert read(open_source(write_csv(tmp_path / "a.csv", names, PAIRS), "train")) == PAIRS


def test_columns_are_found_among_others_or_named(tmp_path):
    rows = [(str(number), target, source) for number, (source, target) in enumerate(PAIRS)]
    file = write_csv(tmp_path / "a.csv", ("id", "summary", "article"), rows)
    assert read(open_source(file, "train")) == PAIRS
    file = write_csv(tmp_path / "b.csv", ("id", "x", "y"), rows)
    assert read(open_source(file, "train", source="y", target="x")) == PAIRS
    error = refusal(file)
    assert "Which column holds the source and which the target is not clear" in error.what
    assert "--set data.source=NAME --set data.target=NAME" in error.fix and "'x', 'y'" in error.fix


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_languages_in_an_object_are_named_by_their_path(tmp_path, suffix):
    rows = [
        {"id": str(number), "translation": {"de": target, "en": source}}
        for number, (source, target) in enumerate(PAIRS)
    ]
    file = tmp_path / f"wmt.{suffix}"
    if suffix == "parquet":
        pa.parquet.write_table(pa.Table.from_pylist(rows), file)
    elif suffix == "json":
        file.write_text(json.dumps(rows))
    else:
        text_file(file, map(json.dumps, rows))
    names = {"source": "translation.en", "target": "translation.de"}
    assert read(open_source(str(file), "train", **names)) == PAIRS
    [alone] = open_source(str(file), "test", source="translation.en", with_target=False).batches()
    assert alone.texts == [source for source, _ in PAIRS]
    error = refusal(str(file))
    assert "Which column holds the source and which the target is not clear" in error.what
    assert "data.source=translation.de --set data.target=translation.en or vice versa" in error.fix
    assert "'id', 'translation.de', 'translation.en'" in error.fix
    error = refusal(str(file), source="translation.en", target="translation.fr")
    assert "There is no target column 'translation.fr'" in error.what
    assert "translation.de" in error.fix or "translation.en" in error.fix


def test_a_field_that_a_row_lacks_makes_it_bad(tmp_path):
    rows = [{"translation": {"en": "A dog.", "de": "Ein Hund."}}, {"translation": {"en": "Two."}}]
    file = text_file(tmp_path / "wmt.jsonl", map(json.dumps, rows))
    names = {"source": "translation.en", "target": "translation.de"}
    assert "no key 'translation.de'" in refusal(file, **names).where
    source = open_source(file, "train", on_bad_row="skip", **names)
    assert read(source) == [("A dog.", "Ein Hund.")]


def test_a_column_whose_name_has_a_dot_wins_over_a_field(tmp_path):
    rows = [{"a.b": "own", "a": {"b": "field", "c": "other"}}]
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for file in (text_file(tmp_path / "a.jsonl", map(json.dumps, rows)), tmp_path / "a.parquet"):
        assert read(open_source(str(file), "train", source="a.b", target="a.c")) == [
            ("own", "other")
        ]


def test_a_column_that_is_not_there_is_refused_in_the_keys_of_these_data(tmp_path):
    file = write_csv(tmp_path / "a.csv", ("de", "en"), PAIRS)
    error = refusal(file, source="den", target="de")
    assert "There is no source column 'den'" in error.what
    assert "--set data.source=" in error.fix and "data.text" not in error.fix


def test_a_table_without_a_header_has_numbers(tmp_path):
    long = [(f"{one} It is a long day, is it not?", two) for one, two in PAIRS] * 4
    file = write_csv(tmp_path / "a.tsv", None, long, "\t")
    assert read(open_source(file, "train", source="0", target="1")) == long
    assert read(open_source(file, "train")) == long


def test_a_bad_row_is_told_by_its_line_and_its_side_or_skipped(tmp_path):
    file = write_csv(tmp_path / "a.csv", ("source", "target"), [*PAIRS, ("A word", " ")])
    error = refusal(file)
    assert f"{file}:5: the target is empty" in error.where
    source = open_source(file, "train", on_bad_row="skip")
    assert read(source) == PAIRS and source.bad_row_count == 1


# Text files


def test_two_text_files_are_read_in_step_plain_or_compressed(both, tmp_path):
    assert read(open_source(both, "train")) == PAIRS
    packed = [
        text_file(tmp_path / f"packed.{name}.gz", side, gzip.open)
        for name, side in zip(("en", "de"), zip(*PAIRS, strict=True), strict=True)
    ]
    source = open_source(packed, "train")
    assert read(source) == PAIRS
    assert [int(line) for batch in source.batches() for line in batch.lines] == [1, 2, 3]
    assert source.fingerprint != open_source(both, "train").fingerprint


def test_unequal_line_counts_are_refused_with_both(both, tmp_path):
    text_file(both[1], [target for _, target in PAIRS] + ["Noch eine", "Zeile"])
    error = refusal(both)
    assert f"{both[0]} has 3 lines, {both[1]} has 5 lines" in error.what
    # Whichever is longer, and whether or not rows may be bad.
    error = refusal([both[1], both[0]], on_bad_row="skip")
    assert f"{both[1]} has 5 lines, {both[0]} has 3 lines" in error.what


def test_a_bad_line_takes_its_counterpart_with_it(both):
    text_file(both[1], ["Ein Hund.", "  ", "Tschüss"])
    error = refusal(both)
    assert "1 line is bad" in error.what and f"{both[1]}:2: the target is empty" in error.where
    with open(both[0], "wb") as stream:
        stream.write("A dog.\ntwo\nB\xff\n".encode("latin-1"))
    source = open_source(both, "train", on_bad_row="skip")
    assert read(source) == [PAIRS[0]]
    assert [place[:2] for place in source.bad_rows] == [(both[1], 2), (both[0], 3)]
    assert source.noted["skipped_reasons"] == {"empty text": 1, "broken bytes": 1}


def test_blank_lines_at_the_end_of_one_file_are_named(both):
    with open(both[1], "a", encoding="utf-8") as stream:
        stream.write("\n\n")
    error = refusal(both)
    assert f"{both[0]} has 3 lines, {both[1]} has 5 lines" in error.what
    assert f"delete the last 2 lines of {both[1]}" in error.fix


def test_byte_order_marks_and_line_ends_of_windows_are_no_text(both):
    with open(both[1], "wb") as stream:
        lines = "".join(f"{target}\r\n" for _, target in PAIRS)
        stream.write(b"\xef\xbb\xbf" + lines.encode())
    assert read(open_source(both, "train")) == PAIRS
    # A line feed alone ends a line: the two files stay in step.
    separated = [(source, f"{target}\u2028\x0b{target}") for source, target in PAIRS]
    text_file(both[1], [target for _, target in separated])
    assert read(open_source(both, "train")) == separated


def test_one_text_file_is_refused_with_what_is_missing(both):
    error = refusal(both[:1])
    assert "the targets are missing" in error.what
    assert "--train train.en --train train.de" in error.fix


def test_several_pairs_are_told_apart_by_their_suffixes(both, tmp_path):
    more = [text_file(tmp_path / f"more.{name}", [name]) for name in ("en", "de")]
    expected = [*PAIRS, ("en", "de")]
    assert read(open_source([*both, *more], "train")) == expected
    assert read(open_source([both[0], more[0], both[1], more[1]], "train")) == expected
    unclear = [text_file(tmp_path / f"{number}.txt", ["a"]) for number in range(4)]
    assert "not clear which belong together" in refusal(unclear).what


def test_text_files_and_tables_are_not_mixed(both, tmp_path):
    file = write_csv(tmp_path / "a.csv", ("source", "target"), PAIRS)
    assert "cannot be mixed" in refusal([*both, file]).what


def test_sources_alone_are_read_to_predict(tmp_path):
    file = write_csv(tmp_path / "a.csv", ("id", "article", "summary"), [("1", "One.", "1.")])
    for source in (None, "article"):
        [batch] = open_source(file, "test", source=source, with_target=False).batches()
        assert batch.texts == ["One."] and batch.pairs is None
    alone = write_csv(tmp_path / "b.csv", ("words",), [("One.",)])
    assert next(open_source(alone, "test", with_target=False).batches()).texts == ["One."]
    unclear = write_csv(tmp_path / "c.csv", ("a", "b", "c"), [("1", "2", "3")])
    with pytest.raises(DataError, match="Which column holds the source is not clear") as caught:
        open_source(unclear, "test", with_target=False)
    assert "--text NAME" in caught.value.fix and "data.target" not in caught.value.fix
