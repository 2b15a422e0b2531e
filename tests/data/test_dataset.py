"""A Dataset knows its rows and its labels, whatever it was made of."""

import json

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.data.dataset import Dataset
from kerasllm.errors import DataError

TEXTS = [f"text {number}" for number in range(20)]
LABELS = ["rare"] * 4 + ["often"] * 16


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path / "cache"))


def labels_of(dataset: Dataset) -> list:
    return [row["label"] for row in dataset.head(len(dataset))]


@pytest.fixture
def dataset() -> Dataset:
    return Dataset.from_lists(TEXTS, LABELS)


def test_it_is_asked_which_column_is_which(tmp_path):
    path = tmp_path / "qa.csv"
    path.write_text("question,answer,solution\na,b,c\n,,\nd,e,f\n")
    with pytest.raises(DataError, match="could each be the response") as error:
        Dataset.from_files(path).count
    assert "text=COLUMN" in error.value.fix
    assert Dataset.from_files(path, text="solution").count == 2


def test_rows_and_labels(dataset):
    assert len(dataset) == 20 and dataset.counts == {"rare": 4, "often": 16}
    assert list(dataset.labels) == ["often", "rare"]
    assert dataset.head(2) == [{"text": each, "label": "rare"} for each in TEXTS[:2]]
    assert "20 rows" in repr(dataset)


def test_a_split_keeps_proportions_and_loses_nothing(dataset):
    train, held_out = dataset.split(0.25, seed=3)
    assert held_out.counts == {"often": 4, "rare": 1} and train.counts == {"often": 12, "rare": 3}
    assert sorted([*train.rows, *held_out.rows]) == list(range(20))
    again = dataset.split(0.25, seed=3)[1]
    assert (again.rows == held_out.rows).all()
    inner, _ = train.split(0.2)
    assert set(inner.rows) < set(train.rows)
    with pytest.raises(DataError, match="leaves one part empty"):
        dataset.take([0]).split(0.1)


def test_rows_are_taken_in_the_order_given(dataset):
    some = dataset.take([5, 1]).take([1, 0])
    assert [row["text"] for row in some.head()] == ["text 1", "text 5"]


def test_weights_go_with_their_rows():
    dataset = Dataset.from_lists(TEXTS, LABELS, sample_weight=np.arange(20))
    assert dataset.take([7, 3]).weights.tolist() == [7, 3]
    with pytest.raises(DataError, match="19 weights"):
        Dataset.from_lists(TEXTS, LABELS, sample_weight=np.arange(19))


@pytest.mark.parametrize("how", ["oversample", "undersample"])
def test_balance_counts_all_classes_the_same(dataset, how):
    found = dataset.balance(how, seed=1)
    assert set(found.counts.values()) == ({16} if how == "oversample" else {4})
    assert not set(found.rows) - set(range(20))
    if how == "oversample":
        assert set(found.rows) == set(range(20))
    with pytest.raises(ValueError, match="oversample"):
        dataset.balance("more")


def test_scores_and_unlabelled_rows_cannot_be_balanced():
    scores = Dataset.from_lists(TEXTS, [number / 7 for number in range(20)])
    assert scores.counts == {} and len(scores.split(0.2)[1]) == 4
    alone = Dataset.from_lists(TEXTS)
    assert len(alone) == 20 and alone.counts == {}
    for each in (scores, alone):
        with pytest.raises(DataError, match="one label each"):
            each.balance()


def test_several_labels_a_row():
    dataset = Dataset.from_lists(TEXTS[:4], [["joy"], ["joy", "fear"], [], ["fear"]])
    assert dataset.counts == {"fear": 2, "joy": 2}
    assert dataset.take([0, 1]).counts == {"fear": 1, "joy": 2}
    assert labels_of(dataset)[1] == ("joy", "fear")


def test_every_origin_gives_the_same_rows(tmp_path):
    pandas, arrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    columns = {"words": TEXTS, "kind": LABELS}
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"words": t, "kind": k}) + "\n" for t, k in zip(TEXTS, LABELS)),
        encoding="utf-8",
    )
    named = {"text": "words", "label": "kind"}
    origins = [
        Dataset.from_pandas(pandas.DataFrame(columns, index=range(50, 70)), **named),
        Dataset.from_arrow(arrow.table(columns), **named),
        Dataset.from_files(tmp_path / "rows.jsonl", **named),
        Dataset.from_tf_data(
            tf.data.Dataset.from_tensor_slices(columns).batch(7), text="words", label="kind"
        ),
        Dataset.from_tf_data(tf.data.Dataset.from_tensor_slices((TEXTS, LABELS))),
    ]
    expected = Dataset.from_lists(TEXTS, LABELS).head(20)
    for found in origins:
        assert found.head(20) == expected


def test_what_is_missing_or_endless_is_refused(tmp_path):
    with pytest.raises(DataError, match="no-such"):
        Dataset.from_files(tmp_path / "no-such.csv")
    with pytest.raises(DataError, match="infinite"):
        Dataset.from_tf_data(tf.data.Dataset.from_tensor_slices(TEXTS).repeat())
    with pytest.raises(DataError, match="label 19"):
        Dataset.from_lists(TEXTS, LABELS[1:])
    with pytest.raises(DataError, match="have different types"):
        Dataset.from_lists(TEXTS[:2], ["a", 1])


def test_rows_are_taken_by_number_mask_and_count(dataset):
    def texts(rows):
        return [row["text"] for row in dataset.take(rows).head(30)]

    assert texts(2) == texts([0, 1]) == texts(range(2)) == ["text 0", "text 1"]
    assert len(dataset.take(99)) == 20 and len(dataset.take([])) == 0
    assert texts([-1]) == ["text 19"]
    assert texts(np.arange(20) % 7 == 3) == ["text 3", "text 10", "text 17"]
    inner = dataset.take([4, 6, 8])
    assert inner.take(np.array([False, True, True])).rows.tolist() == [6, 8]
    assert inner.take([-1]).rows.tolist() == [8]


@pytest.mark.parametrize("rows", [[20], [-21], -1, [True] * 19, [0.5], [[1]], "ab", None, True])
def test_rows_that_are_not_there_are_refused(dataset, rows):
    with pytest.raises(ValueError, match="`rows`"):
        dataset.take(rows)


def test_pairs_of_texts():
    expected = [{"text": "a", "text_pair": "b", "label": "x"}]
    pairs = [("a", "b"), ("c", "d")]
    assert Dataset.from_lists(pairs, ["x", "y"]).head(1) == expected
    assert Dataset.from_lists(np.array(pairs), ["x", "y"]).head(1) == expected
    for texts in ((["a", "c"], ["b", "d"]), {"text": ["a", "c"], "text_pair": ["b", "d"]}):
        found = tf.data.Dataset.from_tensor_slices((texts, ["x", "y"], [1.0, 2.0]))
        for each in (found, found.batch(2)):
            found_rows = Dataset.from_tf_data(each)
            assert found_rows.head(1) == expected
            assert found_rows.weights.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "texts", ["abc", {"a", "b"}, {"text": ["a"]}, 3, np.array("a"), ["a", None], ["a", 3]]
)
def test_what_is_no_list_of_texts_is_refused(texts):
    with pytest.raises(DataError, match="list|Item 1"):
        Dataset.from_lists(texts)


def test_a_table_in_place_of_a_list_is_refused():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(DataError, match="from_pandas"):
        Dataset.from_lists(pandas.DataFrame({"text": TEXTS}))


def test_one_conversation_without_brackets_is_refused():
    with pytest.raises(DataError, match="brackets"):
        Dataset.from_lists([{"role": "user", "content": "Hello"}])


def test_a_column_that_is_not_there_is_named():
    pandas = pytest.importorskip("pandas")
    dataset = Dataset.from_pandas(pandas.DataFrame({"text": TEXTS, "label": LABELS}), text="wrong")
    for call in (lambda: dataset.labels, dataset.head, lambda: len(dataset), dataset.split):
        with pytest.raises(DataError, match="no text column 'wrong'"):
            call()


def test_rows_without_labels_have_a_head():
    dataset = Dataset.from_lists(TEXTS)
    assert dataset.head(1) == [{"text": "text 0"}]
    with pytest.raises(DataError, match="No label column found") as caught:
        dataset.labels
    assert "name it with label=NAME; available columns" in str(caught.value)


def test_labels_that_look_alike_are_told():
    texts = ["a", "b", "c", "d"]
    with pytest.warns(UserWarning, match="look alike .*'spam' .2 rows. and 'Spam' .1 row.") as told:
        labels = Dataset.from_lists(texts, ["spam", "Spam", "ham", "spam"]).labels
    assert len(labels) == 3 and "--set" not in str(told[0].message)
    with pytest.raises(DataError, match="differ only invisibly"):
        Dataset.from_lists(texts, ["spam", "spam\u200b", "ham", "spam"]).labels


def test_files_of_another_encoding(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("text~label\ncafé~good\nthé~bad\n".encode("cp1252"))
    with pytest.raises(DataError, match="looks like CP1252") as caught:
        Dataset.from_files(path).source
    assert "name its encoding with encoding=cp1252, or" in caught.value.fix
    dataset = Dataset.from_files(path, encoding="cp1252", delimiter="~")
    assert [text for batch in dataset.source.batches() for text in batch.texts] == ["café", "thé"]


def test_a_split_does_not_need_to_know_whether_numbers_are_scores(tmp_path):
    rows = "".join(f"text {row},{(0.5, 1, 1.5, 3)[row % 4]}\n" for row in range(40))
    (tmp_path / "score.csv").write_text(f"text,score\n{rows}")
    dataset = Dataset.from_files(tmp_path / "score.csv", text="text", label="score")
    train, held_out = dataset.split(0.2, seed=0)
    assert (len(train), len(held_out)) == (32, 8)
    # Each of the four scores has its share of the part.
    assert sorted(row["label"] for row in held_out.head(8)) == sorted(["0.5", "1", "1.5", "3"] * 2)
    assert dataset.counts == {}
    for call in (lambda: dataset.labels, lambda: dataset.source, dataset.balance):
        with pytest.raises(DataError, match="What to predict is not clear") as caught:
            call()
        assert 'from_preset(..., problem="regression")' in caught.value.fix
        assert "data.problem" not in str(caught.value)
