"""What users give to `fit` as arrays becomes batches, or is refused by what is wrong with it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.training.inputs import arrays, as_dataset, held_out, makes_batches


def rows_of(dataset) -> list:
    return [tf.nest.map_structure(lambda each: each.numpy().tolist(), batch) for batch in dataset]


def test_lists_are_arrays_and_floats_are_those_of_keras():
    assert arrays([[1, 2], [3, 4]]).dtype.kind == "i"
    assert arrays([0.5, 1]).dtype == np.float32
    first, second = arrays([np.zeros((2, 3)), np.zeros((2, 1))])
    assert (first.shape, second.shape) == ((2, 3), (2, 1))
    assert arrays(np.array([1, 2.5], object)).dtype == np.float32
    assert arrays(["a", "b"]).dtype.kind == "U"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1], [2, 3]], "pad_sequences"),
        (3, "must have rows"),
        (np.array([object()]), "numbers or texts"),
    ],
)
def test_what_is_no_array_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        arrays(values)


def test_batches_keep_the_order_and_the_structure():
    dataset = as_dataset({"a": [1, 2, 3]}, [4, 5, 6], [0.5, 1, 1], batch_size=2)
    assert rows_of(dataset) == [
        ({"a": [1, 2]}, [4, 5], [0.5, 1.0]),
        ({"a": [3]}, [6], [1.0]),
    ]


def test_a_seed_shuffles_each_epoch_and_loses_nothing():
    dataset = as_dataset(np.arange(50), seed=1, batch_size=50)
    first, second = rows_of(dataset)[0], rows_of(dataset)[0]
    assert sorted(first) == list(range(50)) and first != sorted(first) and first != second


def test_different_numbers_of_rows_are_refused_with_all_of_them():
    with pytest.raises(ValueError, match="x: 3, y: 2"):
        as_dataset([1, 2, 3], [1, 2])


def test_frames_are_arrays_of_their_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    assert arrays(frame).shape == (2, 2) and arrays(frame["a"]).shape == (2,)


@pytest.mark.parametrize("labels", [[0, 1, 5], [[1, 0], [0, 1], [1, 0]], [[0], [1], [0]]])
def test_class_weights_are_factors_on_the_rows(labels):
    dataset = as_dataset([1, 2, 3], labels, [1.0, 2.0, 3.0], class_weight={1: 10.0})
    [(_, _, weights)] = rows_of(dataset)
    assert weights == [1.0, 20.0, 3.0]


def test_class_weights_by_something_else_are_refused():
    with pytest.raises(ValueError, match="number of a class"):
        as_dataset([1], [0], class_weight={"a": 1.0})


def test_the_end_is_held_out():
    first, last = held_out({"a": np.arange(10)}, 0.25)
    assert first["a"].tolist() == list(range(7)) and last["a"].tolist() == [7, 8, 9]
    assert held_out(None, 0.5) == (None, None)
    with pytest.raises(ValueError, match="both parts"):
        held_out(np.arange(1), 0.5)


def test_what_makes_batches():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, number):
            return np.full((1 + number, 2 + number), number), np.zeros(1 + number)

    assert makes_batches(Batches()) and makes_batches(iter([])) and not makes_batches([1])
    dataset = as_dataset(Batches())
    assert int(dataset.cardinality()) == 2
    # Batches differ in rows and in length.
    assert [x.shape for x, _ in dataset] == [(1, 2), (2, 3)]
    for given in ({"y": [1]}, {"sample_weight": [1]}):
        with pytest.raises(ValueError, match="part of the batches"):
            as_dataset(dataset, **given)
