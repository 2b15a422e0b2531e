"""Texts of a corpus: blank ones left out, a sample of rows held out, special tokens once."""

import json
from pathlib import Path

import pytest

from kerasllm.data.documents import Documents, open_documents
from kerasllm.data.readers.files import find_files, read_as
from kerasllm.data.readers.records import records
from kerasllm.data.tokenizers import from_folder
from kerasllm.errors import DataError

TOY = from_folder(Path(__file__).parents[1] / "reference" / "chat")
START, END = TOY.special_tokens["<|endoftext|>"], TOY.special_tokens["<|im_end|>"]


def write_rows(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def tokens_of(path, **settings):
    documents = Documents(path)
    store = open_documents(
        documents.cut(0.0)[0], TOY, folder=Path(path).parent / "tokens", **settings
    )
    return [store.gather([i], n, 0)[0].tolist() for i, n in enumerate(store.lengths)], store


def texts_of(part):
    return [document.text for document in part]


def test_blank_rows_are_left_out_and_counted(tmp_path):
    rows, store = tokens_of(write_rows(tmp_path / "a.jsonl", ["", "one", " \n", "two"]))
    assert len(rows) == 2 and store.skipped == 0
    [note] = store.noted["notes"]
    assert note.startswith("empty texts left out: 2, the first at ") and note.endswith("a.jsonl:1")
    assert tokens_of(tmp_path / "a.jsonl")[1].remarks == store.remarks
    with pytest.raises(DataError, match="The files contain no rows"):
        tokens_of(write_rows(tmp_path / "b.jsonl", ["", " "]))


def test_empty_files_among_others_are_left_out_and_counted(tmp_path):
    for name, text in (("a.txt", "one"), ("b.txt", " \n"), ("c.txt", "two")):
        (tmp_path / name).write_text(text)
    documents = Documents(str(tmp_path))
    assert texts_of(documents) == ["one", "two"]
    assert documents.notes.lines()[0].startswith("empty files left out: 1, the first at ")
    with pytest.raises(DataError, match="The file is empty"):
        texts_of(Documents(str(tmp_path / "b.txt")))


def test_of_sorted_rows_a_sample_is_held_out(tmp_path):
    texts = [f"short {n}" for n in range(100)] + [f"long {n} " * 20 for n in range(100)]
    documents = Documents(write_rows(tmp_path / "a.jsonl", texts))
    kept, held_out = documents.cut(0.1, seed=1)
    assert len(texts_of(held_out)) == 20 and sorted(texts_of(kept) + texts_of(held_out)) == sorted(
        texts
    )
    assert 4 <= sum(text.startswith("short") for text in texts_of(held_out)) <= 16
    again = documents.cut(0.1, seed=1)[1]
    assert texts_of(again) == texts_of(held_out) and again.identity == held_out.identity
    other = documents.cut(0.1, seed=2)[1]
    assert texts_of(other) != texts_of(held_out) and other.identity != held_out.identity
    assert kept.identity != held_out.identity and texts_of(documents.cut(0.0)[0]) == texts


def test_of_one_book_the_end_is_held_out(tmp_path):
    (tmp_path / "book.txt").write_text("".join(f"line {n}\n" for n in range(100)))
    kept, held_out = Documents(tmp_path / "book.txt").cut(0.1)
    [begin], [end] = texts_of(kept), texts_of(held_out)
    assert begin + end == (tmp_path / "book.txt").read_text() and end.startswith("line 9")
    few = Documents(write_rows(tmp_path / "few.jsonl", ["a\nb", "c\nd\n" * 9])).cut(0.1)
    assert texts_of(few[1])[0].endswith("d\n") and len(texts_of(few[0])) == 2


def test_a_start_and_an_end_token_in_a_text_are_there_once(tmp_path):
    rows, store = tokens_of(
        write_rows(tmp_path / "a.jsonl", ["a", "<|endoftext|>a<|im_end|>", "a<|im_end|>\n"])
    )
    assert rows == [rows[0]] * 3 and rows[0][0] == START and rows[0][-1] == END
    assert store.noted["notes"] == [
        "2 texts begin or end with a special token that is also added; it is not doubled"
    ]
    assert store.fingerprint != store.path.stem
    kept, _ = tokens_of(tmp_path / "a.jsonl", special_tokens="keep")
    assert kept[1] == [START, START, *rows[0][1:-1], END, END]
    letters, store = tokens_of(tmp_path / "a.jsonl", special_tokens="text")
    assert letters[1].count(START) == letters[1].count(END) == 1
    assert TOY.decode(letters[1][1:-1]) == "<|endoftext|>a<|im_end|>"
    assert "3 special tokens are written in the texts, read as letters" in (store.noted["notes"])


def test_texts_that_a_token_separates_stay_apart(tmp_path):
    """As files of many texts are written; following the advice makes letters of them."""
    (tmp_path / "a.txt").write_text("one<|im_end|>two")
    [row], store = tokens_of(tmp_path / "a.txt")
    assert row.count(END) == 2 and store.fingerprint == store.path.stem
    [note] = store.noted["notes"]
    assert note.startswith("1 special token is written in the texts, read as tokens")
    key, _, value = note.rpartition(": ")[2].removeprefix("data.").partition("=")
    [row], _ = tokens_of(tmp_path / "a.txt", **{key: value})
    assert row.count(END) == 1


def test_marks_at_the_beginning_of_texts_are_removed_and_counted(tmp_path):
    rows, store = tokens_of(write_rows(tmp_path / "a.jsonl", ["\ufeffa", "a"]))
    assert rows[0] == rows[1] and store.noted["notes"] == ["1 byte-order mark removed"]
    assert store.fingerprint != store.path.stem


def test_good_texts_keep_their_fingerprint(tmp_path):
    _, store = tokens_of(write_rows(tmp_path / "a.jsonl", ["a < b", "", "</b>"]))
    assert store.fingerprint == store.path.stem


@pytest.mark.parametrize("blank", ["", "  ", None])
@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_empty_texts_of_a_corpus_are_left_out_and_counted(tmp_path, suffix, blank):
    rows = [{"text": text} for text in (blank, "A sentence.", blank, "Another.")]
    path = tmp_path / f"wiki.{suffix}"
    if suffix == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows) if suffix == "json" else "\n".join(map(json.dumps, rows)))
    documents = Documents(path)
    assert [document.text for document in documents] == ["A sentence.", "Another."]
    assert not documents.bad_row_count
    count, _, noted = documents.left_out
    assert not count and noted["notes"][0].startswith("empty texts left out: 2, the first at ")
    whole = documents.left_out
    beginning, end = documents.cut(0.5)
    assert beginning.left_out == whole and end.left_out == [0, [], {}], "told once"


def test_a_corpus_of_empty_texts_alone_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": ""}\n{"text": " "}\n')
    with pytest.raises(DataError, match="no rows; empty texts left out: 2"):
        list(Documents(tmp_path / "a.jsonl"))


def test_documents_and_conversations_have_encodings_too(tmp_path):
    book = tmp_path / "book.txt"
    book.write_bytes("Il était une fois\nà Paris\n".encode("cp1252"))
    with pytest.raises(DataError, match="it looks like CP1252"):
        list(Documents(book))
    files = read_as(book, "train", encoding="cp1252")
    assert [document.text for document in Documents(files)] == ["Il était une fois\nà Paris\n"]
    chat = tmp_path / "chat.json"
    chat.write_bytes('[{"prompt": "À qui ?", "completion": "À lui"}]'.encode("cp1252"))
    (file,) = find_files(read_as(chat, "train", encoding="cp1252"), "train")
    assert next(records(file))[1] == {"prompt": "À qui ?", "completion": "À lui"}
