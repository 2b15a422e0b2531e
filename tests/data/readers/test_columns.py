"""Which columns a source takes, and what it says when they are not there."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerasllm.data.readers.sources import Source
from kerasllm.errors import DataError


def rows(source):
    return [pair for batch in source.batches() for pair in zip(batch.texts, batch.labels)]


def refusal(path, **arguments):
    """The message of the error that opening the file ends with."""
    with pytest.raises(DataError) as caught:
        Source(path, **arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("header", "text", "label"),
    [
        ("id,Text,LABEL", "Text", "LABEL"),
        ("y,title,review", "review", "y"),
        ("sentiment,tweet,label", "tweet", "label"),
        ("label,TEXT,text", "text", "label"),
        (" content , category ,id", "content", "category"),
        ("score,sentence,Stars", "sentence", "score"),
        ("Rating,quality,review", "review", "quality"),
    ],
)
def test_columns_are_found_by_common_names(tmp_path, header, text, label):
    path = tmp_path / "data.csv"
    path.write_text(f"{header}\na,b,c\n")
    source = Source(path)
    assert (source.text_column, source.label_column) == (text, label)


def test_columns_can_be_named(tmp_path):
    path = tmp_path / "data.tsv"
    path.write_text("text\tlabel\tjudge\tq\na\tb\tc\td\n")
    assert rows(Source(path, text="q", label="judge")) == [("d", "c")]
    assert rows(Source(path, text="label", label="q")) == [("b", "d")]
    path.write_text("review\ttext\na\tb\n")
    assert rows(Source(path, label="text")) == [("a", "b")], "a named label is no text"


def test_a_jsonl_key_may_be_missing_at_first(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b", "label": "x"}\n')
    source = Source(path, on_bad_row="skip")
    assert rows(source) == [("b", "x")]
    assert source.bad_rows == [(str(path), 1, "no key 'label' (available keys: 'text')")]


def test_without_labels_no_label_column_is_needed(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("review\ngood\n")
    source = Source(path, labelled=False)
    assert (source.text_column, source.label_column) == ("review", None)
    assert next(source.batches()).labels is None
    message = refusal(path)
    assert "No label column found" in message
    assert "available columns: 'review'" in message and "names looked for: label, labels" in message
    assert "--set data.label=NAME" in message


def test_a_column_that_is_not_there(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("Comments,label\na,1\n")
    message = refusal(path, text="comment")
    assert "There is no text column 'comment'" in message
    assert "did you mean --set data.text=Comments?" in message
    assert "available columns: 'Comments', 'label'" in message
    assert "cannot both be the column 'label'" in refusal(path, text="label", label="label")


def test_a_column_that_is_there_twice(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("text,label,text,,\na,1,b,,\n")
    assert "names the column 'text' 2 times" in refusal(path)
    path.write_text("text,label,,\na,1,,\n")
    assert rows(Source(path)) == [("a", "1")], "unnamed columns disturb nobody"


def test_another_separator_is_pointed_out(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("satz;urteil\na;1\n")
    message = refusal(path)
    assert "separated by semicolons" in message and "--set 'data.delimiter=;'" in message
    source = Source(path, delimiter=";", text="satz", label="urteil")
    assert rows(source) == [("a", "1")]


def test_all_files_must_have_the_columns(tmp_path):
    (tmp_path / "a.csv").write_text("review,stars,label\na,5,1\n")
    (tmp_path / "b.jsonl").write_text('{"review": "b", "label": 0}\n')
    both = Source([tmp_path / "a.csv", tmp_path / "b.jsonl"])
    assert rows(both) == [("a", "1"), ("b", "0")]
    assert [batch.file for batch in both.batches()] == [0, 1]
    (tmp_path / "c.csv").write_text("text,label\nc,1\n")
    message = refusal([tmp_path / "a.csv", tmp_path / "c.csv"])
    assert "There is no text column 'review'" in message and "c.csv" in message


@pytest.mark.parametrize(
    ("header", "texts"),
    [
        ("question,answer,label", ("question", "answer")),
        ("question,context,answer,label", ("question", "context")),
        ("Question,passage,answer,label", ("Question", "passage")),
        ("text,text2,label", ("text", "text2")),
        ("text1,text2,label", ("text1", "text2")),
        ("sentence_1,sentence_2,label", ("sentence_1", "sentence_2")),
        ("sent1,sent2,label", ("sent1", "sent2")),
        ("s1,s2,label", ("s1", "s2")),
        ("id,query,document,label", ("query", "document")),
        ("premise,hypothesis,label", ("premise", "hypothesis")),
    ],
)
def test_two_texts_are_found_by_common_names(tmp_path, header, texts):
    path = tmp_path / "data.csv"
    path.write_text(f"{header}\n{','.join('a' * len(header.split(',')))}\n")
    source = Source(path, text_pair="auto")
    assert (source.text_column, source.pair_column) == texts and source.label_column == "label"


def test_the_label_is_no_second_text(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("question,answer\na,yes\nb,no\n")
    source = Source(path, text_pair="auto", label="answer")
    assert (source.text_column, source.pair_column) == ("question", None)
    assert source.label_column == "answer" and not source.unread_texts


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_texts_that_are_not_read_are_named(tmp_path, suffix):
    path = tmp_path / f"data.{suffix}"
    rows = [
        {
            "id": f"row_{n}",
            "text": f"text {n}",
            "context": "a",
            "notes": f"the note of number {n}",
            "year": n,
            "label": "ab"[n % 2],
        }
        for n in range(9)
    ]
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [rows[0], *(row.values() for row in rows)]
        path.write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
    source = Source(path, text_pair="auto")
    assert source.unread_texts == ("context", "notes") and source.pair_column is None
    assert "only 'text' is read, not 'context', 'notes'" in source.columns_found
    assert "data.text_pair=context" in source.columns_found
    assert not Source(path, text="text").unread_texts
    assert not Source(path, text="text", text_pair="context").unread_texts


def test_other_columns_that_may_be_the_label_are_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,rating,sentiment,class\na b,5,pos,film\nc d,1,neg,book\ne f,4,pos,film\n")
    source = Source(path)
    assert source.other_labels == ("rating", "sentiment")
    assert "the label is 'class', not 'rating', 'sentiment'" in source.columns_found
    assert not Source(path, label="class").other_labels
    path.write_text("text,rating,label\na b,5,pos\nc d,1,neg\ne f,4,pos\n")
    assert not Source(path).other_labels


def test_columns_that_are_missing_are_told_at_once(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("remark,verdict\na,1\n")
    message = refusal(path)
    assert "No text column and no label column found" in message
    assert "--set data.text=NAME --set data.label=NAME" in message
    message = refusal(path, text="remarks", label="verdicts")
    assert "There is no text column 'remarks' and no label column 'verdicts'" in message
    assert "--set data.text=remark?" in message and "--set data.label=verdict?" in message
