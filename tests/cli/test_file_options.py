"""`--encoding` and `--delimiter`, wherever a command is given files; and what errors advise."""

import json

import pytest

ROWS = [("un très bon film", "positive"), ("déjà vu, hélas", "negative"), ("mauvais", "negative")]


@pytest.fixture
def western(tmp_path):
    """A csv file as older versions of Excel write it."""
    path = tmp_path / "western.csv"
    lines = ["text~label", *("~".join(row) for row in ROWS)]
    path.write_bytes("\n".join(lines).encode("cp1252"))
    return path


OPTIONS = ("--encoding", "cp1252", "--delimiter", "~")


def test_predict_gives_a_row_for_each_row(kerasllm, toy_run, western, tmp_path):
    refused = kerasllm("predict", toy_run, "--input", western)
    assert refused.status == 2 and "--encoding cp1252" in refused.err
    out = tmp_path / "out.jsonl"
    result = kerasllm("predict", toy_run, "--input", western, *OPTIONS, "--output", out)
    assert result.status == 0, result.err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["text"] for row in rows] == [text for text, _ in ROWS]


def test_evaluate_reads_another_encoding(kerasllm, toy_run, western):
    refused = kerasllm("evaluate", toy_run, "--data", western)
    assert refused.status == 2 and "--encoding cp1252" in refused.err
    result = kerasllm("evaluate", toy_run, "--data", western, *OPTIONS, "--json")
    assert result.status == 0, result.err
    classes = json.loads(result.out)["per_class"].values()
    assert sum(one["support"] for one in classes) == len(ROWS)


def test_finetune_takes_them_as_keys_of_the_recipe(kerasllm, western):
    result = kerasllm("finetune", "--recipe", "bert_cls", "--train", western, *OPTIONS, "--dry-run",
                      "--set", "model.preset=nowhere")  # fmt: skip
    assert "data.encoding   cp1252" in result.err and "data.delimiter  ~" in result.err


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--encoding", "latin-7000", "unknown encoding"),
        ("--encoding", "base64", "unknown encoding"),
        ("--delimiter", ";;", "is not one character"),
    ],
)
@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_what_python_does_not_know_is_refused(kerasllm, verb, option, value, words):
    data = "--input" if verb == "predict" else "--data"
    result = kerasllm(verb, "run", data, "a.csv", option, value)
    assert result.status == 2 and words in result.err and option in result.err


def test_blank_rows_of_a_corpus_are_measured_around(kerasllm, toy_language_model, tmp_path):
    path = tmp_path / "wiki.jsonl"
    path.write_text('{"text": ""}\n{"text": "The whale was white."}\n' * 3)
    result = kerasllm("evaluate", toy_language_model, "--data", path, "--json")
    assert result.status == 0 and json.loads(result.out)["loss"] > 0
    assert "empty texts left out: 3, the first at" in result.err


def test_a_table_that_was_joined_and_ends_in_commas(kerasllm, toy_run, tmp_path):
    path, out = tmp_path / "a.csv", tmp_path / "out.csv"
    path.write_text("text,id\na film,1,\n,\ntext,id\nanother,2,,\n")
    result = kerasllm("predict", toy_run, "--input", path, "--output", out)
    assert result.status == 0, result.err
    header, *rows = out.read_text().splitlines()
    assert header.startswith("text,id,") and len(rows) == 2
