"""Labels that look alike, that one part has alone, and tokens that give labels away."""

import numpy as np

from kerasllm.data.label_checks import look_alike
from kerasllm.data.report.giveaways import giveaways
from kerasllm.data.report.label_checks import histogram, only_in_one_part


def test_labels_that_look_alike():
    labels = {"spam": 50, "Spam": 2, "spa\u200bm": 1, "ham": 40, "1": 9, "01": 3, "1.0": 1}
    labels |= {"caf\u00e9": 5, "cafe\u0301": 4, "-1": 2, "10": 7}
    assert look_alike(labels) == [
        ["spam", "Spam", "spa\u200bm"],
        ["1", "01", "1.0"],
        ["caf\u00e9", "cafe\u0301"],
    ]


def test_labels_of_one_part_alone():
    parts = {"train": {"a": 5, "b": 5}, "validation": {"a": 1}, "test": {"a": 2, "c": 1}}
    assert only_in_one_part(parts) == {"train": ["b"], "test": ["c"]}
    assert only_in_one_part({"train": {"a": 1}}) == {}


def test_a_marker_is_found_and_words_by_chance_are_not():
    random = np.random.default_rng(0)
    words = [f"w{number}" for number in range(300)]
    rows = []
    for number in range(2000):
        label = "ab"[int(random.integers(2))]
        text = " ".join(random.choice(words, 12))
        rows.append((text + " §src1§" * (label == "a" and number % 2 == 0), label))
    found = giveaways(rows)
    assert {one.token for one in found} == {"§", "src1"}
    assert found[0].label == "a" and found[0].precision == 1 and found[0].is_telling


def test_histograms_of_whole_numbers_have_whole_ranges():
    found = histogram(np.array([1, 2, 2, 3]))
    assert sum(found["counts"]) == 4 and len(found["edges"]) == len(found["counts"]) + 1
    assert histogram(np.array([])) == {"counts": [], "edges": []}
