"""Parity: what counts as the same model, and what is said when it is not."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from kerasllm.errors import JobError
from kerasllm.export.formats import Engine
from kerasllm.export.parity import FILE_NAME, compare, refuse_if_broken, write_report
from kerasllm.tasks.task import Head

EXPECTED = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])


HEAD = Head(
    kind="classifier",
    texts=("text",),
    outputs=lambda logits: {"probabilities": logits},
    compared="probabilities",
    compared_words="the probabilities",
    agrees=lambda one, other: one.argmax(-1) == other.argmax(-1),
    agreeing="labels",
    tolerances={(None, None): (1e-3, 1.0)},
    architecture=None,
    pipeline=None,
    facts={"labels": ["no", "yes"]},
)


def compared(found, tolerance=1e-3, least_agreement=1.0):
    head = replace(HEAD, tolerances={(None, "float32"): (tolerance, least_agreement)})
    return compare(head, "onnx", "float32", EXPECTED, found)


def test_the_same_numbers_hold():
    parity = compared(EXPECTED.astype(np.float32))
    assert parity.holds and parity.rows == 4
    assert parity.largest_difference < 1e-7 and parity.agreement == 1


def test_one_number_that_is_off_is_found():
    found = EXPECTED.copy()
    found[2, 1] += 0.01
    parity = compared(found)
    assert not parity.holds
    assert parity.largest_difference == pytest.approx(0.01)
    assert parity.mean_difference == pytest.approx(0.01 / 8)
    assert compared(found, tolerance=0.02).holds


def test_labels_that_differ_are_counted():
    found = EXPECTED.copy()
    found[2] = [0.4, 0.6]
    parity = compared(found, tolerance=1, least_agreement=0.8)
    assert parity.agreement == 0.75 and not parity.holds


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_never_hold(value):
    found = EXPECTED.copy()
    found[0, 1] = value
    parity = compared(found, tolerance=1e9, least_agreement=0)
    assert not parity.holds and "not finite" in str(parity)


def test_other_shapes_are_refused():
    with pytest.raises(JobError, match="3"):
        compared(EXPECTED[:3])
    with pytest.raises(JobError):
        compared(EXPECTED[:, :1])


def test_the_limits_are_those_of_the_format_in_its_precision():
    tolerances = {(None, None): (1, 1), (None, "int8"): (2, 0.5), ("litert", "int8"): (3, 0.1)}
    head = replace(HEAD, tolerances=tolerances)
    assert head.limits_of("litert", "int8") == (3, 0.1)
    assert head.limits_of("onnx", "int8") == (2, 0.5)
    assert head.limits_of("litert", "float32") == (1, 1)


def test_numbers_without_a_decision_agree_within_the_tolerance():
    head = replace(HEAD, agrees=lambda one, other: np.abs(one - other) <= 0.01, agreeing="values")
    expected = np.array([1.0, 2.0, 3.0, 4.0])
    parity = compare(head, "onnx", "float32", expected, expected + [0, 0.005, 0.02, 0])
    assert parity.agreement == 0.75 and parity.largest_difference == pytest.approx(0.02)


@given(st_numpy.arrays(np.float32, (5, 3), elements=st.floats(-1e6, 1e6, width=32)))
def test_what_is_compared_with_itself_holds(values):
    head = replace(HEAD, tolerances={(None, None): (0, 1)})
    parity = compare(head, "onnx", "int8", values, values.copy())
    assert parity.holds and parity.largest_difference == parity.mean_difference == 0


def test_a_library_is_named_with_its_version():
    engine = Engine.of("numpy", "keras-hub")
    assert engine.foreign and f"numpy {np.__version__} and keras-hub " in engine.name


def test_the_error_names_the_numbers_and_what_would_do():
    good, bad = compared(EXPECTED), compared(EXPECTED[::-1])
    refuse_if_broken("litert", [good])
    with pytest.raises(JobError) as caught:
        refuse_if_broken("litert", [good, bad])
    assert caught.value.exit_status == 1
    assert "largest difference 6.00e-01 (at most 0.001)" in str(caught.value)
    assert "--precision float32" in caught.value.fix


def test_the_report_is_json_without_nan(tmp_path):
    broken = np.full_like(EXPECTED, np.nan)
    engine = Engine.own("transformers")
    broken = [compared(broken)]
    write_report(tmp_path, "onnx", "text_classification", HEAD, "4 rows", engine, broken)
    report = json.loads((tmp_path / FILE_NAME).read_text())
    assert report["run_by"].startswith("kerasllm, which read back its own files: transformers is")
    assert report["run_by_foreign_library"] is False
    assert report["format"] == "onnx" and report["rows_from"] == "4 rows"
    assert report["compared"] == "the probabilities" and report["head"]["labels"] == ["no", "yes"]
    assert report["results"][0]["largest_difference"] is None
    assert report["results"][0]["holds"] is False
