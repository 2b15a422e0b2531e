"""Labelled data of a run: splits of label sets, labels after the sample, and exact scores."""

import itertools
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerasllm import recipe as kerasllm_recipe
from kerasllm.data.classification import load_data, source_of
from kerasllm.data.readers.class_labels import with_class_names
from kerasllm.data.stored_labels import remarks
from kerasllm.errors import DataError
from kerasllm.models import load_tokenizer
from kerasllm.tasks.text_classification import ClassificationData as Recipe
from tests.toy import write_csv


@pytest.fixture
def load(tmp_path, toy_preset):
    """Writes labels with a text each and loads them."""

    def load(labels, **options):
        write_csv(tmp_path / "train.csv", [("a good film", label) for label in labels])
        recipe = Recipe(train=str(tmp_path / "train.csv"), **options)
        return load_data(recipe, load_tokenizer(toy_preset), folder=tmp_path / "tokens")

    return load


def test_label_sets_that_hardly_recur_are_held_out_in_proportion(load):
    names = [f"l{number}" for number in range(14)]
    sets = ["|".join(one) for one in itertools.combinations(names, 4)][:1000]
    data = load(sets)
    assert data.problem.kind == "multi_label" and len(data.validation) == 100
    expected = np.concatenate([data.train.targets(), data.validation.targets()]).mean(axis=0)
    np.testing.assert_allclose(data.validation.targets().mean(axis=0), expected, atol=0.02)


def test_large_scores_keep_their_differences(load):
    scores = [1.7e9 + 1.5 * number for number in range(200)]
    data = load(scores, problem="regression", validation_split=0.0)
    assert data.mean == np.mean(scores) and data.std == np.std(scores)
    assert data.train.labels.dtype == np.float32
    np.testing.assert_allclose(data.train.labels * data.std + data.mean, scores, atol=1e-4)


def test_scores_to_evaluate_on_are_as_they_were_read(load):
    scores = [1.7e9 + 1.5 * number for number in range(200)]
    validation = load(scores, problem="regression").validation.labels
    assert validation.dtype == np.float64 and set(validation) <= set(scores)


def test_a_score_that_float32_cannot_hold_is_a_bad_row(load):
    with pytest.raises(DataError, match="1 row is bad") as caught:
        load([0.5, 1.25, "1e39", 2.0], problem="regression")
    assert "train.csv:4" in caught.value.where and "1e+38" in caught.value.where


def _rest(start, labels):
    return [*itertools.islice(itertools.cycle(start), 10_000), *labels]


@pytest.mark.parametrize(
    ("labels", "message", "fix", "line"),
    [
        (_rest(["0.0", "1.0"], [number / 1000 + 0.0005 for number in range(3000)]),
         "3,002 different values in 13,000 rows", "regression", 10_002),
        (_rest(["0", "1"], ["1", "0.25", "0.75"]), "few distinct ones", "regression", 10_003),
        (_rest(["a", "b"], ["a", "a|b", "b|a"]), "list labels with '|'", "multi_label", 10_003),
        (_rest(["a", "b"], ["a", *(f"id{n}" for n in range(12_000))]),
         "mostly unique", "single_label", 10_003),
        (_rest(["3,4", "3", "4"], ["3", *(f"{n},{n}" for n in range(5, 30_000))]),
         "mostly unique", "single_label", None),
    ],
    ids=["scores", "halves", "lists", "ids", "texts"],
)  # fmt: skip
def test_labels_after_the_sample_that_are_something_else(load, labels, message, fix, line):
    with pytest.raises(DataError, match="What to predict is not clear") as caught:
        load(labels)
    assert message in caught.value.what and f"data.problem={fix}" in caught.value.fix
    assert f"train.csv:{line or 10_003}, the first row unlike" in caught.value.where


@pytest.mark.parametrize("options", [{"problem": "single_label"}, {}])
def test_labels_after_the_sample_that_are_as_set_or_as_before(load, options):
    rest = ["0.25", "7"] if options else ["7", "8"]
    data = load(_rest(["0", "1"], rest), **options)
    assert set(data.labels.raw) == {"0", "1", *rest}


# One label in several files


@pytest.fixture
def load_files(tmp_path, toy_preset):
    """Loads files that are written for its arguments, `{name: labels or bytes}`."""

    def load(options=None, **files):
        named = {}
        for part, (suffix, rows) in files.items():
            path = tmp_path / f"{part}.{suffix}"
            named[part] = str(path)
            if isinstance(rows, bytes):
                path.write_bytes(rows)
            elif suffix == "csv":
                write_csv(path, [("a good film", label) for label in rows])
            else:
                labels, names = rows
                table = pa.table({"text": ["a good film"] * len(labels), "label": labels})
                if names:
                    table = table.replace_schema_metadata(with_class_names({}, {"label": names}))
                pq.write_table(table, path)
        recipe = Recipe(validation_split=0.0, **named, **(options or {}))
        return load_data(recipe, load_tokenizer(toy_preset), folder=tmp_path / "tokens")

    return load


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (("csv", ["True", "FALSE"] * 5), ("parquet", (pa.array([True, False]), None))),
        (("parquet", (pa.array([True, False] * 5), None)), ("csv", ["1", "0"])),
        (("csv", [1, 0] * 5), ("parquet", (pa.array([True, False]), None))),
        (("csv", ["1.0", "0.0"] * 5), ("parquet", (pa.array([1, 0], pa.int8()), None))),
        (("parquet", (pa.array([0.7, 0.1] * 5, pa.float32()), None)), ("csv", ["0.70", "0.1"])),
        (("csv", ["0.7", "0.1"] * 5), ("parquet", (pa.array([0.7, 0.1], pa.float32()), None))),
        (("parquet", (pa.array([1, 0] * 5), ["no", "yes"])), ("csv", ["yes", "no"])),
        (("csv", ["yes", "no"] * 5), ("parquet", (pa.array([0, 1]), ["yes", "no"]))),
        (
            ("parquet", (pa.array([1, 0] * 5), ["no", "yes"])),
            ("parquet", (pa.array([0, 1, -1]), ["yes", "no"])),
        ),
    ],
)
def test_train_and_test_agree_whatever_their_format(load_files, train, test):
    data = load_files({"problem": "single_label"}, train=train, test=test)
    assert len(data.labels) == 2
    assert data.test.labels.tolist() == [1, 0] == data.train.labels[:2].tolist()


def test_class_names_of_a_file_are_shown_and_rows_without_a_label_counted(load_files):
    data = load_files(train=("parquet", (pa.array([1, 0, -1] * 5), ["no", "yes"])))
    assert data.labels.names == ("no", "yes") and len(data.train) == 10
    assert remarks(data.stores["train"]) == ["5 rows have no label (-1) and are skipped"]


def test_labels_that_the_training_data_lack_are_counted(load_files):
    with pytest.raises(DataError, match=r"'rage' .*\(3 rows\); nor is 'joy' \(1 row\)") as error:
        load_files(train=("csv", ["a", "b"] * 5), test=("csv", ["a", "joy", *["rage"] * 3]))
    assert error.value.where.endswith("test.csv:4")
    assert "--set 'data.ignore_labels=[rage, joy]'" in error.value.fix
    data = load_files(
        {"ignore_labels": ["rage", "joy"]},
        train=("csv", ["a", "b"] * 5),
        test=("csv", ["a", "joy", *["rage"] * 3]),
    )
    assert len(data.test) == 1


def test_labels_that_look_alike_are_told_or_refused(load_files):
    data = load_files(train=("csv", ["spam", "Spam", "ham"] * 5))
    assert "'Spam' (5 rows) and 'spam' (5 rows)" in data.remarks[0]
    with pytest.raises(DataError, match="differ only invisibly") as error:
        load_files(train=("csv", ["spam", "spam\u200b", "ham"] * 5))
    assert error.value.where.endswith("train.csv:3")
    names = {"spam": "spam", "spam\u200b": "spam"}
    data = load_files({"label_names": names}, train=("csv", ["spam", "spam\u200b", "ham"] * 5))
    assert data.labels.names == ("ham", "spam") and not data.remarks
    assert np.bincount(data.train.labels).tolist() == [5, 10]


def lines(*rows):
    return b"text,label\n" + b"\n".join(rows) + b"\n"


def test_losing_most_of_a_class_stops_the_run(load_files):
    spam = [b"win \0,spam"] * 30 + [b"win,spam"] * 10
    skip = {"on_bad_row": "skip"}
    with pytest.raises(DataError, match="most rows of the label 'spam': 30 of 40") as error:
        load_files(skip, train=("csv", lines(*spam, *[b"hi,ham"] * 39, b",ham")))
    assert "1 of 40 rows of other labels" in error.value.what
    assert "a NUL byte" in error.value.where and "data.ignore_labels=[spam]" in error.value.fix
    with pytest.raises(DataError, match="test data leaves out all rows of the label 'b': 2 of 2"):
        load_files(
            skip,
            train=("csv", ["a", "b"] * 5),
            test=("csv", lines(b"x,a", b",b", b"\0,b")),
        )


def test_skipped_rows_are_counted_by_label(load_files):
    rows = [b"win,spam"] * 30 + [b"win \0,spam"] * 10 + [b"hi,ham"] * 3 + [b",ham"]
    data = load_files({"on_bad_row": "skip"}, train=("csv", lines(*rows)))
    found = remarks(data.stores["train"])
    assert "11 bad rows were skipped" in found[0]
    assert found[1] == "skipped rows by label: 10 of 40 rows of 'spam', 1 of 4 rows of 'ham'"


def test_a_number_that_the_file_has_no_name_for(load_files):
    with pytest.raises(DataError, match="2 classes, no, yes, and 2 rows have .* '7'") as error:
        load_files(train=("parquet", (pa.array([0, 1, 1, 7, 7]), ["no", "yes"])))
    assert error.value.where.endswith("train.parquet:4")
    names = {"0": "no", "1": "yes", "7": "maybe"}
    data = load_files(
        {"label_names": names}, train=("parquet", (pa.array([0, 1, 1, 7, 7]), ["no", "yes"]))
    )
    assert data.labels.names == ("no", "yes", "maybe")


@pytest.mark.parametrize(
    ("header", "named", "said"),
    [
        ("text,label", {}, "found: 'text'.*--text COLUMN --text-pair COLUMN .*--recipe bert_cls"),
        ("review,reply,label", {}, "may be 'reply'.*--text review --text-pair reply "),
        ("review,reply,label", {"text": "review"}, "--text-pair COLUMN"),
    ],
)
def test_a_recipe_for_pairs_refuses_single_texts(tmp_path, header, named, said):
    texts = ["The soup was good in visit {}", "Visit {} made us happy too"][: header.count(",")]
    rows = [",".join([*(text.format(row) for text in texts), "yn"[row % 2]]) for row in range(20)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join([header, *rows]))
    recipe = kerasllm_recipe.load("pair_cls", {"data.train": str(path)}).data
    with pytest.raises(DataError, match="for pairs of texts") as caught:
        source_of(recipe.model_copy(update=named), recipe.train, "train")
    assert re.search(said, str(caught.value), re.DOTALL)
    both = recipe.model_copy(update={"text": header.split(",")[0], "text_pair": None})
    assert source_of(both, recipe.train, "train").pair_column is None


def test_a_recipe_for_pairs_finds_them_by_their_names(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("premise,hypothesis,label\na,b,y\nc,d,n\n")
    recipe = kerasllm_recipe.load("pair_cls", {"data.train": str(path)}).data
    source = source_of(recipe, recipe.train, "train")
    assert (source.text_column, source.pair_column) == ("premise", "hypothesis")
    assert source_of(recipe, recipe.train, "test", source).pair_column == "hypothesis"
