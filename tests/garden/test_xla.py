"""XLA compiles with the oldest TensorFlow that kerasllm takes: this environment has it."""

import pytest
import tensorflow as tf

from tests.runtime.test_xla_cache import (  # noqa: F401
    test_the_next_process_finds_the_program_and_compiles_a_damaged_one_again,
)

pytestmark = pytest.mark.garden


def test_this_is_an_older_tensorflow_than_the_other_tests_have():
    assert tf.__version__.startswith("2.20.")
