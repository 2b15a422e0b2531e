"""Files of texts for a translator: test.en is read line by line, test.de has a line for each."""

import gzip
from types import SimpleNamespace

import pytest

from kerasllm.data.readers.whole_rows import WholeRow, WholeRows
from kerasllm.errors import CommandError, DataError
from kerasllm.languages import LANGUAGES
from kerasllm.recipe import load
from kerasllm.tasks.task import PredictOptions, find
from kerasllm.workflows.partial_output import Output
from kerasllm.workflows.predict_file import Predictor, predict_rows_to_file

TASK = find("seq2seq")
TRAINED = SimpleNamespace(recipe=load("translate"))


@pytest.mark.parametrize("name", ["test.en", "test.pt.gz", "test.txt"])
def test_a_file_named_by_its_language_has_a_text_a_line(tmp_path, name):
    content = b"The dog sleeps.\n\nIt sleeps.\n"
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    source = TASK.source(TRAINED, [str(tmp_path / name)], PredictOptions())
    rows = list(WholeRows(source.readings, lambda texts, *_: texts[0], ()))
    assert [row.input for row in rows if row.problem is None] == ["The dog sleeps.", "It sleeps."]
    assert [row.number for row in rows if row.problem is not None] == [1]


def test_of_an_unknown_suffix_the_known_ones_are_told(tmp_path):
    (tmp_path / "test.qq").write_text("A dog.\n")
    with pytest.raises(DataError, match="'.qq' is not known") as refused:
        TASK.source(TRAINED, [str(tmp_path / "test.qq")], PredictOptions())
    assert ".txt" in refused.value.fix and "languages such as .en" in refused.value.fix
    assert not {".ps", ".md", ".sh", ".py", ".js", ".ts"} & LANGUAGES


@pytest.mark.parametrize("name", ["test.de", "test.txt", "test.de.gz"])
def test_line_n_of_the_output_is_of_row_n(tmp_path, name):
    texts = ["A dog\nsleeps.", "", "A cat."]
    rows = [
        WholeRow(number, f"test.en:{number + 1}", text or None, {}, None if text else "empty")
        for number, text in enumerate(texts)
    ]

    def predict(inputs):
        for text in inputs:
            yield {"text": text, "output": text.upper(), "finish_reason": "stop"}

    forms = {"text": lambda prediction: {"text": TASK.text(prediction)}}
    output = Output(tmp_path / name, text_suffixes=TASK.text_suffixes)
    output.check([])
    count, bad = predict_rows_to_file(rows, output, Predictor(predict, 2, forms), errors=False)
    assert (count, bad.count) == (2, 1)
    opened = gzip.open if name.endswith(".gz") else open
    with opened(tmp_path / name, "rt", encoding="utf-8") as file:
        assert file.read() == "A DOG SLEEPS.\n\nA CAT.\n"


def test_a_suffix_that_is_none_of_them_is_refused_in_a_line(tmp_path):
    with pytest.raises(CommandError) as refused:
        Output(tmp_path / "test.doc", text_suffixes=TASK.text_suffixes).check([])
    assert refused.value.fix.startswith("end --output with .txt, a language such as .de, .csv")
