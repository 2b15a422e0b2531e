"""Tables separated by tabs: with quotes where they were written so, else without."""

import csv
import gzip
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerasllm.data.readers import quoting
from kerasllm.data.readers.sources import Source
from kerasllm.errors import DataError

# Each quote of a raw table is a character, wherever it is.
RAW = [
    'id\ttext\tlabel\n1\t"I was there," he said.\t1\n2\tHe said "no".\t0\n',
    'text\tlabel\n"Yes" is "no"\t1\n"" what ""\t0\n',
    'text\tpair\tlabel\n"One starts\tand ends"\t1\n"Two\tthree\t0\n',
    'text\tlabel\n"An open quote\t1\nA closed one"\t0\n',
    'text\tlabel\n"An open quote\t1\nnone\t1\nand an end\t"0"\n',
    'text\tlabel\nSome ""doubled"" ones\t1\n"With ""outer"" quotes\t0\n',
    "text\tlabel\nno\t1\nquotes\t0\n",
]


def read(path, **options):
    batches = list(Source(path, text="text", **options).batches())
    return [text for batch in batches for text in batch.texts]


@pytest.mark.parametrize("content", RAW)
@pytest.mark.parametrize("suffix", ["tsv", "tsv.gz"])
def test_raw_tables_are_read_as_they_stand(tmp_path, content, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(gzip.compress(content.encode()) if "gz" in suffix else content.encode())
    header, *rows = [line.split("\t") for line in content.splitlines()]
    assert read(path) == [row[header.index("text")] for row in rows]


def written(rows, columns=("text", "label"), **options):
    file = io.StringIO()
    csv.writer(file, delimiter="\t", **options).writerows([columns, *rows])
    return file.getvalue().encode()


TEXTS = ['He said ""hi"" to the man', 'He said "hi"', "two\nlines", "a\ttab", "none", '"', '"all"']


@pytest.mark.parametrize("style", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_that_were_written_with_quotes_are_read_with_quotes(tmp_path, style, end):
    path = tmp_path / "a.tsv"
    path.write_bytes(
        written([(text, n % 2) for n, text in enumerate(TEXTS)], quoting=style, lineterminator=end)
    )
    assert read(path) == TEXTS and not Source(path).remarks


def test_one_field_with_quotes_is_enough(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(written([('He said "hi" to the man', 1), ("nothing", 0)]))
    assert b'"He said ""hi"" to the man"' in path.read_bytes()
    assert read(path) == ['He said "hi" to the man', "nothing"]


def test_the_two_ways_have_their_own_fingerprints(tmp_path, monkeypatch):
    path = tmp_path / "a.tsv"
    path.write_bytes(written([('a "b"', 1), ("c", 0)]))
    quoted = Source(path).fingerprint
    monkeypatch.setattr(
        "kerasllm.data.readers.dialects.detect_quoting", lambda *_: quoting.Quoting(False)
    )
    assert Source(path).fingerprint != quoted


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('text\tlabel\nfirst\t1\n"A whole text in quotes."\t1\nsecond\t0\n', 3),
        ('text\tlabel\n"a ""b"" c"\t1\n"d ""e"""\t1\nsecond "stray\t0\n', 2),
    ],
)
def test_what_cannot_be_told_is_remarked_on(tmp_path, content, line):
    path = tmp_path / "a.tsv"
    path.write_text(content)
    source = Source(path)
    assert len(read(path)) == 3 and read(path)[1][0] in '"A'
    (remark,) = source.remarks
    assert "without quoting" in remark and f"line {line}" in remark


def test_a_record_that_goes_over_the_end_of_the_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(quoting, "LINES", 4)
    path = tmp_path / "a.tsv"
    path.write_bytes(written([('a "b"', 1), ("c", 0), ("d\n\n\ne", 0)], lineterminator="\n"))
    assert read(path) == ['a "b"', "c", "d\n\n\ne"]


def test_a_stray_quote_after_the_sample_is_a_bad_row(tmp_path, monkeypatch):
    monkeypatch.setattr(quoting, "LINES", 3)
    path = tmp_path / "a.tsv"
    path.write_bytes(written([('a "b"', 1), ("c", 0)], lineterminator="\n") + b'"d" e\t0\nf\t1\n')
    with pytest.raises(DataError, match="1 row is bad") as caught:
        read(path)
    assert "a.tsv:4: text after a closing quote" in caught.value.where


@given(
    rows=st.lists(st.tuples(st.text('a "\t\n\r0', min_size=1).filter(str.strip)), min_size=1),
    style=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_table_whose_fields_are_all_in_quotes_comes_back(tmp_path, rows, style):
    path = tmp_path / "a.tsv"
    path.write_bytes(written([(text, 1) for (text,) in rows], quoting=style))
    assert read(path, labelled=False) == [text for (text,) in rows]
