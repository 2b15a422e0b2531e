"""Labels keep their names, and one that was never seen is refused with its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
