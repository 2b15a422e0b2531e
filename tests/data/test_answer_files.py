"""Files of answers: what is written is read back, and grows from where it was committed."""

import csv
import gzip
import json

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from kerasllm.data.answer_files import Answer, AnswerFile, Names, kind_of
from kerasllm.data.readers.sources import Source
from kerasllm.data.readers.whole_rows import WholeRows

GOOD = {"label": "a", "probability_a": "0.5"}


def write(path, answers, *, kept=(), errors=False, commit_after=None, schema=None):
    """Writes a file; the process ends once after some answers, and one that is not committed."""
    folder = path.with_name("growing")
    folder.mkdir(exist_ok=True)
    options = {"errors": errors, "name": path.name, "schema": schema}
    file = kind_of(path)(folder, kept, **options)
    if commit_after is not None:
        file.write(answers[:commit_after])
        position = json.loads(json.dumps(file.commit()))
        file.committed()
        file.write(answers[commit_after : commit_after + 1])
        file.close()
        file = kind_of(path)(folder, kept, position=position, **options)
        answers = answers[commit_after:]
    file.write(answers)
    file.finish().rename(path)
    file.close()
    return path


@given(
    rows=st.lists(
        st.tuples(st.text('a "\t\n\r,é', min_size=1).filter(str.strip), st.text('a "\t\n|')),
        min_size=1,
    )
)
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@pytest.mark.parametrize("suffix", ["tsv", "csv"])
def test_any_texts_that_are_written_are_read_back(tmp_path, suffix, rows):
    answers = [Answer({}, {"text": text, "label": label, "p": "0.5"}) for text, label in rows]
    output = write(tmp_path / f"out.{suffix}", answers)
    if suffix == "csv":
        # `Source` refuses texts that look like rows of their own.
        assert [row["text"] for row in _rows(output)] == [text for text, _ in rows]
    else:
        batches = list(Source(output, text="text", labelled=False).batches())
        assert [text for batch in batches for text in batch.texts] == [text for text, _ in rows]


ANSWERS = [
    Answer({"id": "1"}, None, "a.csv:2: the text is empty"),
    Answer({"id": "2"}, GOOD),
    Answer({"id": "3"}, {**GOOD, "label": 'b\t"c"'}),
    Answer({"id": "4"}, GOOD),
]


@pytest.mark.parametrize("name", ["o.csv", "o.tsv", "o.jsonl", "o.parquet", "o.csv.gz", "o.tsv.gz"])
@pytest.mark.parametrize("commit_after", [2, 3, 4])
def test_a_file_grows_from_where_it_was_committed(tmp_path, name, commit_after):
    options = {"kept": ["id"], "errors": True}
    whole = write(tmp_path / f"whole-{name}", ANSWERS, **options)
    found = write(tmp_path / name, ANSWERS, **options, commit_after=commit_after)
    assert _rows(found) == _rows(whole)
    assert len(_rows(found)) == 4
    assert [row["id"] for row in _rows(found)] == ["1", "2", "3", "4"]
    assert _rows(found)[0]["error"] and not _rows(found)[0]["label"]


def _rows(path):
    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pylist()
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in file]
        return list(csv.DictReader(file, delimiter="\t" if ".tsv" in path.name else ","))


def test_a_name_that_is_taken_becomes_another(tmp_path):
    names = Names(["Label", "predicted_label", "text"])
    assert (names("label"), names("score")) == ("predicted_label_2", "score")
    assert names.renamed == {"label": "predicted_label_2"}


def test_parquet_keeps_types_and_gives_predictions_types(tmp_path):
    table = pa.table(
        {
            "text": ["one", None, "three"],
            "id": pa.array([1, 2, 3], pa.uint8()),
            "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
            "at": pa.array([1, None, 3], pa.timestamp("ns", "UTC")),
            "tags": [["a"], None, []],
        }
    )
    parquet.write_table(table, tmp_path / "in.parquet")
    source = Source(tmp_path / "in.parquet", labelled=False)
    rows = WholeRows(source.readings, lambda texts, *_: tuple(texts))
    predicted = {"labels": ["a", "b"], "probability_a": 0.25}
    answers = [Answer(row.kept, None if row.problem else predicted, row.problem) for row in rows]
    survey = rows.survey(typed=True)
    for after in (None, 2):
        output = write(
            tmp_path / "out.parquet",
            answers,
            kept=survey.columns,
            errors=True,
            commit_after=after,
            schema=survey.schema,
        )
        found = parquet.read_table(output)
        assert found.select(table.column_names).equals(table)
        assert found.column("labels").to_pylist() == [["a", "b"], None, ["a", "b"]]
        assert found.schema.field("probability_a").type == pa.float64()
        assert found.column("error").to_pylist() == [None, "the text is empty", None]


def test_values_of_json_are_written_in_any_format(tmp_path):
    row = {"n": 1, "yes": True, "none": None, "list": [1, {"a": "é"}], "half": "\ud83d"}
    answers = [Answer(row, {"label": "a"})]
    cells = _rows(write(tmp_path / "o.csv", answers, kept=list(row)))[0]
    assert list(cells.values()) == ["1", "true", "", '[1, {"a": "é"}]', "?", "a"]
    assert _rows(write(tmp_path / "o.jsonl", answers, kept=list(row)))[0] == {**row, "label": "a"}
    schema = pa.schema([("n", pa.float64()), ("list", pa.string())])
    typed = _rows(
        write(tmp_path / "o.parquet", answers, kept=["n", "list", "half"], schema=schema)
    )[0]
    assert typed == {"n": 1.0, "list": '[1, {"a": "é"}]', "half": "?", "label": "a"}


def test_a_kind_of_file_that_lacks_a_method_cannot_be_opened(tmp_path):
    class Half(AnswerFile):
        def write(self, answers):
            pass

    with pytest.raises(TypeError, match="abstract methods? .*commit.*finish"):
        Half(tmp_path, ["id"], errors=False, name="a.csv")
