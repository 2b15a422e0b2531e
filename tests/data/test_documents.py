"""Documents: empty rows of a corpus, and encodings."""

import json

import pytest

from kerasllm.data.documents import Documents
from kerasllm.data.readers.files import find_files, read_as
from kerasllm.data.readers.records import records
from kerasllm.errors import DataError


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
    with pytest.raises(DataError, match="no row to use; empty texts left out: 2"):
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
