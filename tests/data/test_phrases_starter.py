"""The bundled phrases are what their script makes, and keep their rules."""

import csv
import gzip

import pytest

from kerasllm.data.starters import find_starter
from tests.data import make_phrases


@pytest.fixture(scope="module")
def parts():
    return make_phrases.parts()


@pytest.mark.parametrize("part", ["train", "test"])
def test_they_are_what_the_script_makes(parts, part):
    text = gzip.decompress(find_starter("starter:phrases", part)[1].read_bytes()).decode()
    header, *rows = csv.reader(text.splitlines())
    assert header == ["english", "german"]
    assert [tuple(row) for row in rows] == parts[part]


def test_no_sentence_of_the_test_part_is_in_the_training_part(parts):
    assert not {one for one, _ in parts["train"]} & {one for one, _ in parts["test"]}


def test_german_has_its_endings_and_its_order(parts):
    found = dict(parts["train"]) | dict(parts["test"])
    assert any(two.startswith("Heute ") and " gestern" not in two for two in found.values())
    for one, two in found.items():
        assert one.endswith("?") == two.endswith("?")
        assert ("because" in one) == (", weil " in two)
        # "Must not" is "darf nicht".
        if " must not " in one and "because" not in one:
            assert "darf" in two or "dürfen" in two, (one, two)
