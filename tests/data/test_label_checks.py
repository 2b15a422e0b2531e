"""Labels that look alike, and labels that mean none, are told before a training."""

import shlex

import pytest

from kerasllm.data.label_checks import check_labels, setting
from kerasllm.data.labels import Labels
from kerasllm.errors import DataError
from kerasllm.recipe import load


def checked(counts, names=None):
    return check_labels(counts, Labels.learn(counts, names), named=names)


def names_of(advice):
    """The label names of a recipe that the advice of a message sets."""
    option = shlex.split(advice[advice.index("--set ") :])[1]
    return load("bert_cls", [option]).data.label_names


@pytest.mark.parametrize(
    "labels",
    [
        ("spam", "Spam"),
        ("spam", "spam."),
        ("not spam", "not_spam"),
        ("1", "01"),
        ("0.1", "0.10"),
        ("m2", "m\u00b2"),
        ("\u201cyes\u201d", "yes"),
    ],
)
def test_labels_that_look_alike_are_shown_with_their_counts(labels):
    first, second = labels
    (warning,) = checked({first: 1200, second: 1, "other": 5})
    assert warning.startswith("warning: labels that look alike are different classes")
    assert f"{first!r} (1,200 rows) and {second!r} (1 row)" in warning
    names = names_of(warning)
    merged = Labels.learn([first, second, "other"], names)
    assert sorted(merged.names) == sorted([first, "other"])
    assert len(set(merged.encode([first, second]).tolist())) == 1
    assert not checked({first: 1200, second: 1, "other": 5}, names), "the advice settles it"


def test_letters_of_another_alphabet_are_escaped_beside_latin_ones():
    (warning,) = checked({"ham": 5, "h\u0430m": 2, "spam": 3})
    assert r"'ham' (5 rows) and 'h\u0430m' (2 rows)" in warning
    (warning,) = checked({"\u0441\u043f\u0430\u043c": 5, "\u0421\u043f\u0430\u043c": 2})
    assert "'\u0441\u043f\u0430\u043c' (5 rows)" in warning


def test_a_pair_is_shown_once():
    (warning,) = checked({"1": 5, "1.": 2, "01": 3, "7": 3})
    assert warning.count("'1.' (2 rows)") == 1


@pytest.mark.parametrize("other", ["spam\u200b", "\ufeffspam", "sp\u00adam", "spam\u200e"])
def test_labels_that_nobody_can_tell_apart_are_refused(other):
    with pytest.raises(DataError, match="differ only invisibly") as error:
        checked({other: 3, "spam": 2, "ham": 1})
    assert "'spam' (2 rows)" in error.value.what and f"{other!a} (3 rows)" in error.value.what
    names = names_of(error.value.fix)
    assert names == {other: "spam", "spam": "spam"} and error.value.fix.isascii()
    assert Labels.learn([other, "spam", "ham"], names).names == ("ham", "spam")


def test_spaces_and_accents_of_another_form_are_refused():
    for one, other in (("not spam", "not\xa0spam"), ("caf\u00e9", "cafe\u0301"), ("a b", "a  b")):
        with pytest.raises(DataError, match="differ only invisibly"):
            checked({one: 3, other: 2})


def test_names_that_are_set_are_kept_by_the_advice():
    counts = {"spam": 3, "spam\u200b": 1, "Spam": 1, "ham": 2}
    with pytest.raises(DataError) as error:
        checked(counts)
    names = names_of(error.value.fix)
    (warning,) = checked(counts, names)
    assert Labels.learn(counts, names_of(warning)).names == ("ham", "spam")


@pytest.mark.parametrize("label", ["nan", "N/A", "NULL", "NA", "#REF!", "?", "\\N", "unsup"])
def test_labels_that_may_mean_none_are_shown_with_their_counts(label):
    labels = Labels.learn([label, "joy", "fear"])
    (warning,) = check_labels(
        {label: 4, "joy": 9, "fear": 9}, labels, locate=lambda label: "data.csv:3"
    )
    assert f"{label!r} (4 rows), the first at data.csv:3" in warning
    option = shlex.split(warning[warning.index("--set ") :])[1]
    assert load("bert_cls", [option]).data.ignore_labels == [label]


def test_minus_one_may_mean_none():
    assert "'-1' (1 row)" in checked({"0": 5, "1": 5, "-1": 1})[0]
    assert "data.ignore_labels=[-1]" in checked({"0": 5, "1": 5, "2": 3, "-1": 1})[0]
    assert not checked({"-1": 5, "1": 5}) and not checked({"-2": 1, "-1": 5, "0": 3})
    assert not checked({"-1": 1, "0": 2, "1": 3}, {"-1": "bad", "0": "mixed", "1": "good"})


@pytest.mark.parametrize(
    "labels", [("C", "C++", "C#"), ("none", "joy"), ("+", "a"), ("A", "B"), ("1", "2", "10")]
)
def test_labels_that_are_plainly_different_are_not_shown(labels):
    assert not checked(dict.fromkeys(labels, 3))


def test_many_pairs_are_counted():
    counts = {f"{name}{number}": 1 for number in range(10) for name in ("label", "Label")}
    assert "; and 5 more;" in checked(counts)[0]


def test_a_setting_is_quoted_for_the_shell():
    assert setting("a", ["N/A", "it's", "b"]) == """--set 'a=["N/A", "it'"'"'s", b]'"""
