"""Errors say in Python what would be an option of the command line."""

import pytest

from kerasllm.errors import DataError, worded_for_python


@pytest.mark.parametrize(
    ("fix", "worded"),
    [
        ("--set data.on_bad_row=skip", "data.on_bad_row=skip"),
        (
            "did you mean --set data.text=body? (evaluate, predict, data: --text body)",
            "did you mean text=body?",
        ),
        ("did you mean --set 'data.text=my text'? columns", "did you mean text=my text? columns"),
        (
            "--set 'data.delimiter=;' (evaluate, predict, data: --delimiter ';'); or",
            "data.delimiter=;; or",
        ),
        ("--set 'data.text=a' --set 'data.label={b: c, d: e}'", "text=a data.label={b: c, d: e}"),
    ],
)
def test_options_are_worded_for_python(fix, worded):
    with pytest.raises(DataError) as error, worded_for_python(["data.text"]):
        raise DataError("wrong", fix=fix)
    assert error.value.fix == worded
