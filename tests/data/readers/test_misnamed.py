"""Rows in a text file are not read as prose, and the advice works."""

import pytest

from kerasllm.data.convert import convert
from kerasllm.data.documents import Documents
from kerasllm.data.readers.sources import Source
from kerasllm.data.report.rows import rows_of_files
from kerasllm.errors import DataError

ROWS = [("a fine film", "pos"), ("dull", "neg"), ("so so", "neg")]
FILES = {
    ".jsonl": "".join(f'{{"text": "{text}", "label": "{label}"}}\n' for text, label in ROWS),
    ".csv": "text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS),
    ".tsv": "Review\tSentiment\n" + "".join(f"{text}\t{label}\n" for text, label in ROWS),
}


@pytest.mark.parametrize("suffix", FILES)
@pytest.mark.parametrize(
    "read",
    [
        Source,
        lambda path: Source(path, labelled=False),
        Documents,
        lambda path: rows_of_files(str(path)),
        lambda path: convert(str(path), path.with_name("out.jsonl")),
    ],
)
def test_rows_in_a_text_file_are_refused(tmp_path, suffix, read):
    path = tmp_path / "data.txt"
    path.write_text(FILES[suffix])
    with pytest.raises(DataError, match="its name says it is plain text") as error:
        read(path)
    assert f"a name that ends in {suffix};" in error.value.fix
    rows = [
        row
        for batch in Source(path.rename(path.with_suffix(suffix))).batches()
        for row in zip(batch.texts, batch.labels)
    ]
    assert rows == ROWS


def test_text_that_is_meant_is_read(tmp_path):
    (tmp_path / "data.md").write_text(FILES[".jsonl"])
    assert [one.text for one in Documents(tmp_path / "data.md")] == [FILES[".jsonl"]]
    (tmp_path / "data.txt").write_text('{ "a": 1 }\nis an object, and text, label are words\n')
    assert len(list(Documents(tmp_path / "data.txt"))) == 1
