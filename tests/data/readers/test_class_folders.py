"""A folder of texts for each class is read as texts with labels."""

import gzip

import pytest

from kerasllm.data.convert import convert
from kerasllm.data.readers.files import find_files, read_as
from kerasllm.data.readers.sources import Source
from kerasllm.data.readers.whole_rows import WholeRows
from kerasllm.data.report.rows import rows_of_files
from kerasllm.errors import DataError


@pytest.fixture
def reviews(tmp_path):
    for label in ("pos", "neg"):
        (tmp_path / "reviews" / label).mkdir(parents=True)
        for number in range(3):
            path = tmp_path / "reviews" / label / f"{number}.txt"
            path.write_text(f"a {label} film, {number}\nof two lines\n", encoding="utf-8")
    return tmp_path / "reviews"


def rows(source):
    return [
        (text, label)
        for batch in source.batches()
        for text, label in zip(batch.texts, batch.labels, strict=True)
    ]


def test_a_file_is_a_text_and_its_folder_the_label(reviews):
    source = Source(reviews)
    assert source.files == (str(reviews / "neg"), str(reviews / "pos"))
    assert source.description() == "text 'text', label 'label' (single label)"
    assert rows(source) == [
        (f"a {label} film, {number}\nof two lines\n", label)
        for label in ("neg", "pos")
        for number in range(3)
    ]
    assert source.texts_of([4]) == ["a pos film, 1\nof two lines\n"]
    assert Source(reviews, labelled=False).texts_of([0]) == ["a neg film, 0\nof two lines\n"]


def test_hidden_files_are_no_texts(reviews):
    for name in (".git/a.txt", ".ipynb_checkpoints/b.txt", "pos/.c.txt", "__MACOSX/pos/._0.txt"):
        (reviews / name).parent.mkdir(exist_ok=True, parents=True)
        (reviews / name).write_text("hidden")
    (reviews / "neg" / ".DS_Store").write_bytes(b"\0\1")
    source = Source(reviews)
    assert len(rows(source)) == 6 and "hidden" in source.remarks[0]


def test_folders_below_others_and_compressed_texts(reviews):
    (reviews / "pos" / "more").mkdir()
    with gzip.open(reviews / "pos" / "more" / "9.txt.gz", "wt") as file:
        file.write("\ufeffpacked")
    assert ("packed", "pos") in rows(Source(reviews))
    whole = reviews.rename(reviews.parent / "train")
    assert len(rows(Source(whole.parent))) == 7, "train/ is no class"


def test_files_beside_the_classes_are_left_out_and_told(reviews):
    for number in range(3, 20):
        (reviews / "pos" / f"{number}.txt").write_text("good")
    (reviews / "urls.txt").write_text("http://example.com\n")
    source = Source(reviews)
    assert {label for _, label in rows(source)} == {"pos", "neg"}
    assert "1 other file was left out: urls.txt" in source.remarks


def test_what_is_no_folder_of_classes(reviews, tmp_path):
    assert len(find_files(reviews, "train", preferred="text")) == 6, "texts of a language model"
    with pytest.raises(DataError, match="holds texts without labels") as error:
        Source(reviews / "pos")
    assert "a folder of texts for each class" in error.value.fix
    for label in ("a", "b"):
        (tmp_path / "tables" / label).mkdir(parents=True)
        (tmp_path / "tables" / label / "x.csv").write_text("text,label\nt,1\nu,0\n")
    assert Source(tmp_path / "tables").files[0].endswith("x.csv")


def test_bad_texts_are_named_by_their_file(reviews):
    (reviews / "neg" / "1.txt").write_bytes(b"caf\xc3\xa9 \xff\xfe")
    (reviews / "pos" / "0.txt").write_text(" \n")
    (reviews / "pos" / "2.txt").write_bytes(b"a\0b")
    with pytest.raises(DataError, match="1 row is bad") as error:
        rows(Source(reviews))
    assert "1.txt: byte 0xff (byte 7 of the file) is not UTF-8" in error.value.where
    source = Source(reviews, on_bad_row="skip")
    assert len(rows(source)) == 3
    assert [why for _, _, why in source.bad_rows] == [
        "1.txt: byte 0xff (byte 7 of the file) is not UTF-8",
        "0.txt: the text is empty",
        "2.txt: a NUL byte at character 2",
    ]
    assert source.bad_row_labels == {"pos": 2, "neg": 1}
    assert len(rows(Source(reviews, on_bad_row="skip", ignore_labels=["pos"]))) == 2


def test_the_fingerprint_follows_texts_and_classes(reviews):
    before = Source(reviews).fingerprint
    assert Source(reviews).fingerprint == before
    (reviews / "pos").rename(reviews / "good")
    renamed = Source(reviews).fingerprint
    (reviews / "neg" / "0.txt").write_text("other")
    assert len({before, renamed, Source(reviews).fingerprint}) == 3


def test_a_prediction_keeps_the_file_and_the_label_of_a_text(reviews):
    (reviews / "pos" / "1.txt").write_text(" ")
    readings = Source(reviews, labelled=False).readings
    rows = list(WholeRows(readings, lambda texts, columns, where: texts[0]))
    assert [row.kept["label"] for row in rows] == ["neg"] * 3 + ["pos"] * 3
    assert rows[0].input == "a neg film, 0\nof two lines\n"
    assert rows[0].kept["file"] == str(reviews / "neg" / "0.txt")
    assert rows[4].input is None and rows[4].problem == "1.txt: the text is empty"


def test_texts_of_classes_are_converted_with_their_labels(reviews, tmp_path):
    done = convert(str(reviews), tmp_path / "all.jsonl")
    assert (done.rows, done.columns) == (6, ("text", "label"))
    assert rows(Source(tmp_path / "all.jsonl")) == rows(Source(reviews))
    assert convert(str(reviews), tmp_path / "lines.jsonl", lines=True).columns == ("text",)


@pytest.mark.parametrize("name", ["{}", "{}.", "0{}.ea7e79d3153e7469e7a9c3e0af6a357e", "{}.gz"])
def test_texts_without_a_suffix(tmp_path, name):
    """As 20 newsgroups, the Enron mails and SpamAssassin's have them."""
    for label in ("alt.atheism", "sci.med"):
        (tmp_path / "news" / label).mkdir(parents=True)
        for number in range(3):
            path = tmp_path / "news" / label / name.format(number)
            opened = gzip.open if name.endswith(".gz") else open
            opened(path, "wt").write(f"a post on {label}, {number}")
    (tmp_path / "news" / "README").write_text("of the posts")
    for number in range(3, 20):
        (tmp_path / "news" / "sci.med" / f"{number}").write_text(f"a post, {number}")
    source = Source(tmp_path / "news")
    assert rows(source)[:3] == [(f"a post on alt.atheism, {n}", "alt.atheism") for n in range(3)]
    assert {label for _, label in rows(source)} == {"alt.atheism", "sci.med"}
    assert "1 other file was left out: README" in source.remarks
    assert convert(str(tmp_path / "news"), tmp_path / "all.jsonl").rows == 23
    assert next(iter(rows_of_files(str(tmp_path / "news")))).label == "alt.atheism"


def test_the_encoding_of_the_texts_is_named(tmp_path):
    for label in ("a", "b"):
        (tmp_path / "news" / label).mkdir(parents=True)
        for number in range(2):
            text = f"un café déjà vu, numéro {number}"
            (tmp_path / "news" / label / str(number)).write_bytes(text.encode("cp1252"))
    with pytest.raises(DataError) as error:
        rows(Source(tmp_path / "news"))
    assert "it looks like cp1252: --set data.encoding=cp1252" in error.value.where
    assert rows(Source(tmp_path / "news", encoding="cp1252"))[1][0] == "un café déjà vu, numéro 1"
    options = {"encoding": "cp1252", "preferred": "text", "classes": True}
    files = read_as(str(tmp_path / "news"), "train", **options)
    assert convert(files, tmp_path / "all.jsonl").columns == ("text", "label")


def test_other_files_without_a_suffix_are_no_classes(tmp_path):
    for name in ("LICENSE", "bin/run", "bin/stop"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match="holds no data file"):
        Source(tmp_path)
