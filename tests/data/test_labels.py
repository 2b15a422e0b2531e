"""Labels keep their names, and one that was never seen is refused with its place."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.data.label_names import read_label_names
from kerasllm.data.labels import Labels
from kerasllm.errors import DataError


def test_whole_numbers_sort_by_value_and_before_words():
    assert Labels.learn(["10", "9", "b", "-1", "a"]).raw == ("-1", "9", "10", "a", "b")


@given(st.lists(st.text(min_size=1), min_size=2, unique=True), st.randoms())
def test_the_order_of_the_rows_does_not_matter(labels, random):
    shuffled = labels * 2
    random.shuffle(shuffled)
    assert Labels.learn(shuffled).raw == Labels.learn(labels).raw


@given(st.lists(st.text(min_size=1), min_size=2, unique=True))
def test_a_label_is_the_number_of_its_name(labels):
    learned = Labels.learn(labels)
    assert [learned.names[number] for number in learned.encode(labels)] == labels


def test_data_may_write_labels_either_way():
    labels = Labels.learn(["0", "1"], {"0": "negative", "1": "positive"})
    assert labels.encode(["1", "negative", "positive", "0"]).tolist() == [1, 0, 1, 0]


def test_what_the_data_writes_wins_over_a_name_that_is_the_same():
    labels = Labels.learn(["a", "b"], {"a": "b", "b": "a"})
    assert labels.encode(["a", "b"]).tolist() == [0, 1]


def test_one_class_only_is_refused():
    with pytest.raises(DataError, match="All rows have the label 'spam'") as error:
        Labels.learn(["spam"] * 3, where="mail.csv")
    assert error.value.where == "mail.csv" and "data.label" in error.value.fix


def test_a_label_without_a_name_is_refused():
    with pytest.raises(DataError, match="no name for the label '2'"):
        Labels.learn(["0", "1", "2"], {"0": "no", "1": "yes"})


def test_a_label_that_training_lacks_is_refused_with_its_place():
    labels = Labels.learn(["ham", "spam"])
    with pytest.raises(DataError, match=r"'spma' .*1 more") as error:
        labels.encode(["ham", "spma", "spam?"], lambda row: f"mail.csv:{row + 2}")
    assert error.value.where == "mail.csv:3"
    assert "did you mean 'spam'?" in error.value.fix


def test_they_are_kept_beside_the_model(tmp_path):
    labels = Labels.learn(["0", "1"], {"0": "schlecht", "1": "gut ✓"})
    labels.save(tmp_path)
    loaded = Labels.load(tmp_path)
    assert (loaded.names, loaded.raw) == (labels.names, labels.raw)


@pytest.mark.parametrize("content", [None, "{", '{"names": ["a"]}', "[]"])
def test_a_broken_file_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "labels.json").write_text(content)
    with pytest.raises(DataError, match="cannot be read"):
        Labels.load(tmp_path)


# Names in the order of their numbers


def test_names_in_order_are_all_classes():
    labels = Labels.learn(["2", "0"], ["admiration", "joy", "neutral"])
    assert (labels.raw, labels.names) == (("0", "1", "2"), ("admiration", "joy", "neutral"))
    assert labels.encode(["2", "joy"]).tolist() == [2, 1]
    assert Labels.learn(["joy", "neutral"], ["admiration", "joy", "neutral"]).encode(["joy"]) == [1]
    with pytest.raises(DataError, match="for the labels 0 to 1; the data has the label '7'"):
        Labels.learn(["0", "7"], ["no", "yes"])


def test_names_are_read_from_a_file(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("\ufeffadmiration\r\njoy \r\nfreude ✓\n\n", encoding="utf-8")
    assert read_label_names(path) == ["admiration", "joy", "freude ✓"]


@pytest.mark.parametrize(
    ("content", "what", "where"),
    [
        (None, "No such file", ""),
        (b"\xff\n", "not UTF-8", ""),
        (b"\n \n", "no name", ""),
        (b"a\n\nb\n", "is empty", ":2"),
        (b"a\nb\na\n", "'a', lines 1 and 3", ":3"),
    ],
)
def test_a_file_of_names_that_is_broken(tmp_path, content, what, where):
    path = tmp_path / "labels.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=what) as error:
        read_label_names(path)
    assert error.value.where == f"{path}{where}" and error.value.fix


# Several labels


@given(st.lists(st.lists(st.sampled_from("abcde"))))
def test_sets_of_labels_come_back(sets):
    labels = Labels.learn("abcde")
    flat, offsets = labels.encode_sets(sets)
    assert (flat.dtype, offsets.dtype, len(offsets)) == ("int32", "int64", len(sets) + 1)
    decoded = [
        [labels.names[number] for number in flat[start:end]]
        for start, end in itertools.pairwise(offsets)
    ]
    assert decoded == [sorted(set(found)) for found in sets]


def test_a_label_and_its_name_are_one_in_a_set():
    labels = Labels.learn(["0", "1"], {"0": "joy", "1": "fear"})
    assert labels.encode_sets([("1", "fear", "joy")])[0].tolist() == [0, 1]


def test_an_unknown_label_of_a_set_is_refused_with_its_place():
    labels = Labels.learn(["joy", "fear"], several=True)
    with pytest.raises(DataError, match=r"'jot' .*1 more") as error:
        labels.encode_sets([("joy",), ("fear", "jot"), ("x",)], lambda row: f"mail.csv:{row + 2}")
    assert error.value.where == "mail.csv:3" and "did you mean 'joy'?" in error.value.fix


def test_one_label_is_enough_where_texts_may_have_none():
    assert Labels.learn(["toxic"], several=True).names == ("toxic",)
    with pytest.raises(DataError, match="No row has a label"):
        Labels.learn([], several=True)


@pytest.mark.parametrize(
    ("listed", "raw"),
    [
        ([1, 2], ("1", "2")),
        (np.arange(2), ("0", "1")),
        ([False, True], ("false", "true")),
        (np.array([True, False]), ("true", "false")),
        ([1.0, 2.5], ("1", "2.5")),
        (["a ", "b"], ("a", "b")),
        (range(2), ("0", "1")),
    ],
)
def test_labels_that_a_user_lists_are_as_data_files_write_them(listed, raw):
    labels = Labels.of(listed)
    assert labels.raw == labels.names == raw
    assert labels.encode(list(raw)).tolist() == [0, 1]


def test_labels_with_their_names():
    labels = Labels.of({0: "neg", 1: "pos"})
    assert labels.raw == ("0", "1") and labels.names == ("neg", "pos")
    assert Labels.of(labels) is labels
    assert Labels([1, np.int64(2)], [True, "b"]) == Labels(["1", "2"], ["true", "b"])


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["a", "b", "a"], r"'a' 2 times[\s\S]*sorted\(set"),
        ([1, "1"], "'1' 2 times"),
        ({0: "a", 1: "a"}, "'a' 2 times"),
        ("negative", "brackets"),
        ({"a", "b"}, r"sorted\(set"),
        (["a", None], "None"),
        (["a", ["b"]], "not a label"),
        ([], "empty"),
        (3, "num_classes"),
    ],
)
def test_labels_that_cannot_be_are_refused_with_advice(labels, told):
    with pytest.raises(DataError, match=told):
        Labels.of(labels)


# One label in several forms


@pytest.mark.parametrize(
    ("found", "raw"),
    [
        (["True", "true", "unknown"], ("true", "unknown")),
        (["True", "False", "true", "false"], ("false", "true")),
        (["True", "false", "1", "0"], ("false", "true")),
        (["0.1", "0.10000000149011612", "0.5"], ("0.1", "0.5")),
        (["True", "False"], ("False", "True")),
        (["01", "1"], ("01", "1")),
    ],
)
def test_one_value_of_several_formats_is_one_class(found, raw):
    labels = Labels.learn(found)
    assert sorted(labels.raw) == sorted(raw)
    assert len(labels.encode(found)) == len(found)


@pytest.mark.parametrize(
    ("trained", "given", "classes"),
    [
        (["0", "1"], ["True", "false", "1.00", "1e0"], [1, 0, 1, 1]),
        (["false", "true"], ["1", "0", "True", "FALSE"], [1, 0, 1, 0]),
        (["caf\u00e9", "tea"], ["cafe\u0301", "tea\u200b"], [0, 1]),
        (["0.1", "0.2"], ["0.10", "0.10000000149011612", "2e-1"], [0, 0, 1]),
        (["not spam", "spam"], ["not\xa0spam"], [0]),
    ],
)
def test_other_data_may_write_a_label_in_another_form(trained, given, classes):
    labels = Labels.learn(trained)
    assert labels.encode(given).tolist() == classes
    assert labels.encode_sets([given])[0].tolist() == sorted(set(classes))


@pytest.mark.parametrize(
    ("trained", "given"),
    [(["0", "1", "2"], "true"), (["07", "8"], "7"), (["spam", "ham"], "Spam"), (["1", "01"], "2")],
)
def test_what_may_be_another_label_is_refused(trained, given):
    with pytest.raises(DataError, match="is not one that the model was trained on"):
        Labels.learn(trained).encode([given])


def test_a_float32_of_numpy_is_what_its_file_says():
    assert Labels.of(np.float32([0.1, 0.7])).raw == ("0.1", "0.7")
    assert Labels(np.float32([0.1, 0.7])).raw == ("0.1", "0.7")


def test_labels_of_one_name_are_one_class(tmp_path):
    labels = Labels.learn(["spam", "Spam", "ham"], {"Spam": "spam", "spam": "spam"})
    assert labels.names == ("ham", "spam") and labels.raw == ("ham", "spam")
    labels.save(tmp_path)
    loaded = Labels.load(tmp_path)
    assert loaded == labels and loaded.encode(["Spam", "spam", "ham"]).tolist() == [1, 1, 0]
    with pytest.raises(DataError, match="gives all labels the name"):
        Labels.learn(["spam", "Spam"], {"Spam": "spam", "spam": "spam"})


def test_data_may_hold_numbers_and_their_names():
    labels = Labels.learn(["0", "1", "pos", "neg"], {"0": "neg", "1": "pos"})
    assert (labels.raw, labels.names) == (("0", "1"), ("neg", "pos"))
    assert labels.encode(["0", "neg", "pos"]).tolist() == [0, 0, 1]


def test_a_name_of_a_boolean_may_be_written_as_in_python():
    assert Labels.learn(["true", "false"], {"True": "yes", "False": "no"}).names == ("no", "yes")


def test_files_that_number_the_classes_otherwise():
    labels = Labels.learn(["0", "1"], {"0": "neg", "1": "pos"})
    assert labels.read_as({"0": "pos", "1": "neg"}).encode(["0", "1", "pos"]).tolist() == [1, 0, 1]
    assert labels.read_as({"0": "neg", "1": "pos"}) is labels
    stars = Labels.learn(["1", "2", "3"])
    own = stars.read_as({"0": "1", "1": "2", "2": "3"})
    assert own.encode(["0", "1", "2"]).tolist() == [0, 1, 2]


def test_unknown_labels_are_named_with_their_counts():
    error = Labels.learn(["a", "b"]).unknown(["x", "y"], "t.csv:3", {"x": 1200, "y": 1})
    assert "'x' is not one that the model was trained on (1,200 rows); nor is 'y' (1 row)" in str(
        error
    )
