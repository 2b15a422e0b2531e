"""fastText's files: `__label__pos a text` a line, with one label or several."""

import gzip

import pytest

from kerasllm.data.convert import convert
from kerasllm.data.documents import Documents
from kerasllm.data.readers.sources import Source
from kerasllm.data.report.rows import rows_of_files
from kerasllm.errors import DataError

ONE = '__label__pos A fine film, "very" good\n\n__label__neg  dull\n__label__pos yes\n'
SEVERAL = "__label__joy __label__fear a text\n__label__joy another\nlast words __label__fear\n"


def read(source):
    return [row for batch in source.batches() for row in zip(batch.texts, batch.targets)]


@pytest.mark.parametrize("name", ["data.txt", "data.txt.gz", "train.ft.txt"])
def test_one_label(tmp_path, name):
    path = tmp_path / name
    (gzip.open if name.endswith("gz") else open)(path, "wt").write(ONE)
    source = Source(path)
    assert source.problem.kind == "single_label"
    assert read(source) == [('A fine film, "very" good', "pos"), ("dull", "neg"), ("yes", "pos")]
    assert [int(line) for batch in source.batches() for line in batch.lines] == [1, 3, 4]


def test_several_labels(tmp_path):
    (tmp_path / "data.txt").write_text(SEVERAL)
    source = Source(tmp_path / "data.txt")
    assert source.problem.kind == "multi_label"
    assert read(source) == [
        ("a text", ("joy", "fear")),
        ("another", ("joy",)),
        ("last words ", ("fear",)),
    ]
    assert next(iter(rows_of_files(str(tmp_path / "data.txt")))).label == ("joy", "fear")


def test_a_line_without_a_label_or_a_text_is_bad(tmp_path):
    (tmp_path / "data.txt").write_text(ONE + "no label here\n__label__neg\n")
    source = Source(tmp_path / "data.txt", on_bad_row="skip")
    assert len(read(source)) == 3
    assert [why for _, _, why in source.bad_rows] == ["the label is empty", "the text is empty"]


def test_a_text_is_read_without_its_labels(tmp_path):
    (tmp_path / "data.txt").write_text(ONE)
    texts = [
        text
        for batch in Source(tmp_path / "data.txt", labelled=False).batches()
        for text in batch.texts
    ]
    assert texts == ['A fine film, "very" good', "dull", "yes"]
    assert [one.text for one in Documents(tmp_path / "data.txt")] == texts
    done = convert(str(tmp_path / "data.txt"), tmp_path / "data.jsonl")
    assert (done.rows, set(done.columns)) == (3, {"text", "label"})
    assert read(Source(tmp_path / "data.jsonl")) == read(Source(tmp_path / "data.txt"))


def test_another_suffix_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "cooking.train").write_text(ONE)
    with pytest.raises(DataError, match="is not known") as error:
        Source(tmp_path / "cooking.train")
    assert "ends in .txt" in error.value.fix
    (tmp_path / "cooking.train").rename(tmp_path / "cooking.train.txt")
    assert len(read(Source(tmp_path / "cooking.train.txt"))) == 3


def test_labels_within_a_plain_text_are_words(tmp_path):
    (tmp_path / "about.txt").write_text("fastText begins each label with __label__ or so\n")
    with pytest.raises(DataError, match="texts without labels"):
        Source(tmp_path / "about.txt")
