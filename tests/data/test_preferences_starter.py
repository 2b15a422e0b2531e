"""The bundled preferences are what their script makes of the bundled conversations."""

import json
from collections import Counter

import pytest

from kerasllm.data.starters import find_starter
from tests.data.make_preferences import text_of


@pytest.mark.parametrize("part", ["train", "test"])
def test_each_answer_is_chosen_once_and_rejected_once(part):
    text = find_starter("starter:preferences", part)[1].read_text(encoding="utf-8")
    assert text == text_of(part)
    rows = [json.loads(line) for line in text.splitlines()]
    assert Counter(row["chosen"] for row in rows) == Counter(row["rejected"] for row in rows)
    assert all(row["chosen"] != row["rejected"] for row in rows)
