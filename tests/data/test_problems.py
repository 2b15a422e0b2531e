"""One label, several labels or a score: told from the labels, or refused with a reason."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.data.detection import detect_problem
from kerasllm.data.label_cells import label_text, parse_one_hot
from kerasllm.data.label_column import SEPARATORS
from kerasllm.data.problems import KINDS, Problem
from kerasllm.errors import DataError


def refusal(values, **arguments):
    with pytest.raises(DataError) as error:
        detect_problem(values, where="data.csv", **arguments)
    assert error.value.where == "data.csv"
    return f"{error.value.what}; {error.value.fix}"


def cycled(values, rows):
    return list(itertools.islice(itertools.cycle(values), rows))


# Detection

SCORES = [f"{number / 100:.2f}" for number in range(0, 500, 7)]


@pytest.mark.parametrize(
    ("values", "kind", "why"),
    [
        (["spam", "ham", "spam"], "single_label", "2 different labels in 3 rows"),
        ([0, 1, 1, None, ""], "single_label", "2 different numbers in 3 rows, all whole"),
        (["0.0", "1.0"] * 9, "single_label", "2 different numbers"),
        ([1.0, 0.0, math.nan], "single_label", "2 different numbers"),
        ([1, 2, 3, 4, 5] * 9, "single_label", "5 different numbers in 45 rows"),
        (cycled(map(str, range(77)), 1000), "single_label", "77 different numbers"),
        (cycled(map(str, range(5000, 9000, 130)), 4000), "single_label", "different numbers"),
        (["True", "FALSE", "true"], "single_label", "true and false"),
        ([True, "False"], "single_label", "true and false"),
        (["5.0", "3.8", "3.8", "2.6"], "regression", "3 different numbers in 4 rows"),
        (cycled(SCORES, 2000), "regression", "72 different numbers in 2,000 rows, with fractions"),
        ([float(np.float32(0.1)), 0.7, 1.0], "regression", "3 different"),
        ([["joy"], [], ["fear", "joy"]], "multi_label", "lists"),
        ([["joy"], "fear"], "multi_label", "lists"),
        (["['joy', 'fear']", "[]", '["joy"]'], "multi_label", "written lists"),
        (["joy", "fear", "joy|fear"], "multi_label", "1 of 3 cells list labels with '|'"),
        (["joy|fear", "fear|rage", "joy|rage"], "multi_label", "3 of 3 cells"),
        (["27", "7", "11", "24", "11,24", "7"], "multi_label", "1 of 6 cells"),
        (["a; b", "a", "b"], "multi_label", "';'"),
        ([], "single_label", "no labels to judge by"),
        ([None, math.nan, ""], "single_label", "no labels to judge by"),
    ],
)
def test_clear_columns(values, kind, why):
    problem = detect_problem(values)
    assert problem.kind == kind and why in problem.why


@pytest.mark.parametrize(
    ("values", "looks", "advice"),
    [
        (cycled([0.0, 0.5, 1.0], 500), "numbers with fractions, but few", "regression"),
        (cycled(["0.5", "1.5"], 500), "numbers with fractions, but few", "single_label"),
        (cycled([f"intent {n}" for n in range(400)], 500), "mostly unique", "single_label"),
        ([f"u{n}" for n in range(11)], "mostly unique values", "single_label"),
        (range(1000, 2000), "mostly unique numbers, such as ids", "regression"),
        (cycled(range(0, 100_000, 317), 2000), "numbers with gaps", "regression"),
        ([f"The film, number {n}, is long" for n in range(60)], "holds texts", "single_label"),
        (["n/a", *map(str, np.linspace(0.1, 3, 50))], "mostly numbers", "regression"),
        (["1", "2", "1,5", "2,5", "5", "5,5"], "decimal comma", "point"),
    ],
)
def test_columns_that_are_not_clear_are_refused(values, looks, advice):
    values = list(values)
    message = refusal(values, column="topic")
    assert looks in message and advice in message and "the label column 'topic'" in message
    different = len(set(map(label_text, values)))
    assert f"{different:,} different values in {len(values):,} rows" in message
    assert "--set data.problem=" in message and "--set data.label=NAME" in message
    for kind in KINDS:
        assert detect_problem(values, kind).kind == kind


@pytest.mark.parametrize(
    "values",
    [
        ["Yes, really", "Yes", "No"],
        ["Korea, South", "Korea, North", "Japan"] * 5,
        ["It was fine, but long", "It was bad", "It was fine"] * 3,
        ["either/or", "a, b and c", "a"],
    ],
)
def test_a_comma_within_a_label_is_no_separator(values):
    problem = detect_problem(values)
    assert (problem.kind, problem.separator) == ("single_label", None)
    assert "is taken as one label" in problem.hint


def test_hints():
    assert "1 to 5 are a score" in detect_problem([1, 2, 3, 4, 5] * 9).hint
    assert not detect_problem([0, 1] * 9).hint
    assert detect_problem(["joy", "fear", "joy|x", "x/y|z"]).hint.startswith(
        "warning: 'joy|x' is taken as one label, as is 1 like it (2 rows)"
    )


@pytest.mark.parametrize(
    ("values", "separator", "why"),
    [
        ([["joy", "fear"], "joy", "rage", "rage"], None, "1 of 4 labels are lists; a string is"),
        (["['joy' 'fear']", "['joy']"], None, "written lists"),
        (["('joy',)", "('joy', 'fear')"], None, "written lists"),
        (["{'joy', 'fear'}", "{'joy'}"], None, "written lists"),
        (["[joy, fear]", "[joy]"], None, "written lists"),
        (["joy", "fear", "rage", "['joy', 'fear']"], None, "1 of 4 cells are written lists"),
        (["joy", "fear", "joy|fear|"], "|", "1 of 3 cells list labels"),
        (["joy,", "fear,", "joy,fear,"], ",", "3 of 3 cells list labels"),
        (['"joy","fear"', '"joy"', '"fear"'], ",", "1 of 3 cells list labels"),
    ],
)
def test_several_labels_are_found(values, separator, why):
    problem = detect_problem(values)
    assert (problem.kind, problem.separator) == ("multi_label", separator) and why in problem.why
    assert {label for value in values for label in problem.parse(value)} <= {"joy", "fear", "rage"}


def test_brackets_may_be_part_of_a_label():
    for values in (["[A]", "[B]"] * 4, ["(a)", "(b)"] * 4, ["a", "b", "[c, d]", "a"]):
        problem = detect_problem(values)
        assert [problem.parse(value) for value in values] == values
    assert "'[c, d]' is taken as one label" in problem.hint
    assert detect_problem([0.5, 0.75, 3.5, ["joy", "fear"]]).kind == "regression"
    problem = detect_problem(["joy", "fear", ["joy"]])
    assert problem.kind == "single_label" and "set data.problem=multi_label" in problem.hint


@pytest.mark.parametrize(
    "values",
    [
        [[0, 1, 0], [1, 0, 0]], [[True, False], [False, True]], [["0", "1"], ["1", "1"]],
        ["[0, 1, 0]", "[1, 1, 0]"], ["[0 1 0]", "[1 1 0]"], [[0, 0, 0]],
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["auto", "multi_label"])
def test_lists_of_0_and_1_have_no_names(values, kind):
    message = refusal(values, kind=kind)
    assert "the labels have no names there" in message and "data.label=[joy, fear, ...]" in message


def test_lists_of_numbers_are_labels():
    for values in ([[0], [1], [0, 1]], [[3, 17, 5], [1, 0, 2]], [[0, 1]] * 3):
        assert detect_problem(values).kind == "multi_label"


def test_a_separator_that_no_label_holds():
    problem = detect_problem(**placed(["joy", "joy|fear"]), separator=";")
    assert "no label holds data.label_separator=';'" in problem.hint
    assert "'joy|fear' (data.csv:3) holds '|'" in problem.hint
    assert not detect_problem(["joy", "joy;fear|"], separator=";").hint


def placed(values):
    return {"values": values, "places": [f"data.csv:{n}" for n in range(2, len(values) + 2)]}


@pytest.mark.parametrize("odd", ["nan", "N/A", "inf", "four"])
@pytest.mark.parametrize(
    "numbers", [[str(n / 5) for n in range(26)], list(map(str, range(101))), ["0.5", "1.5"]]
)
def test_a_few_other_values_among_scores_are_named(numbers, odd):
    message = refusal(**placed([*cycled(numbers, 300), odd]))
    if odd in ("nan", "N/A") and len(numbers) == 101:
        assert "many whole numbers" in message
        return
    assert "mostly numbers, with other values" in message
    assert f"('{odd}' (data.csv:302): 1 row)" in message
    assert "skip 1 row: --set data.problem=regression --set data.on_bad_row=skip" in message


def test_the_first_other_values_are_named():
    scores = [str(n / 5) for n in range(26)] * 10
    message = refusal([*scores, "a", "b", "c", "d", "e", "f", "f"])
    assert "('a', 'b', 'c', 'd', 'e' and 1 more value: 7 rows)" in message


def test_a_missing_value_among_whole_numbers_is_no_class():
    for missing in ("N/A", "nan", "NULL", "none", "?"):
        problem = detect_problem(**placed([*cycled("12345", 300), missing]))
        assert (problem.kind, problem.parse("3")) == ("single_label", "3")
        assert f"1 row has no label: '{missing}' (data.csv:302)" in problem.hint
        with pytest.raises(ValueError, match="the label is missing"):
            problem.parse(missing)
    assert "2 rows have no label" in detect_problem(["0.0", "1.0", "nan"] * 2).hint
    set_by_user = detect_problem(["0", "1", "nan"], "single_label")
    with pytest.raises(ValueError, match="the label is missing"):
        set_by_user.parse("nan")
    with pytest.raises(ValueError, match="the label is missing"):
        detect_problem(["0", "1"] * 5).parse("nan")


def test_none_among_words_is_a_class():
    problem = detect_problem(["joy", "none", "fear"] * 9)
    assert problem.parse("none") == "none" and not problem.hint
    assert detect_problem(["none"] * 3, "single_label").parse("none") == "none"
    assert detect_problem(["joy", "nan", "fear"] * 9).parse("nan") == "nan"


def test_a_word_among_whole_numbers_is_named():
    problem = detect_problem(**placed([*cycled("12345", 300), "four"]))
    assert problem.parse("four") == "four"
    assert "all labels but 1 are numbers; taken as labels: 'four' (data.csv:302)" in problem.hint


def test_numbers_with_a_sign():
    message = refusal([f"{n}%" for n in range(101)] * 3)
    assert "numbers with a sign" in message and "write plain numbers: 0 for 0%" in message
    problem = detect_problem(["$5", "$1,000", "$10"] * 20)
    assert (problem.kind, problem.parse("$5")) == ("single_label", "$5")
    assert "5 for $5" in problem.hint


def test_many_whole_numbers_are_classes_only_if_they_recur():
    message = refusal(cycled(range(101), 600))
    assert "many whole numbers that occur a few times each" in message
    assert "data.problem=regression" in message
    assert detect_problem(cycled(range(101), 1100)).kind == "single_label"


def test_one_value_is_one_value():
    assert detect_problem(["a"]).why == "1 label in 1 row"
    assert detect_problem([3, 3]).why == "1 number in 2 rows, all whole"
    assert "1 value in 5 rows ('1.5')" in refusal(["1.5"] * 5)


def test_what_the_user_sets_is_not_detected():
    assert detect_problem(["a/b"], separator="/") == Problem("multi_label", "/")
    assert detect_problem(["a,b", "c"], "multi_label") == Problem("multi_label", ",")
    assert detect_problem(["a", "c"], "multi_label") == Problem("multi_label")
    assert detect_problem(["True"], "single_label").booleans
    with pytest.raises(ValueError, match="kind must be"):
        detect_problem([], "ranking")
    with pytest.raises(ValueError, match="kind must be"):
        Problem("ranking")
    with pytest.raises(ValueError, match="must have a character"):
        Problem("multi_label", "")


def test_only_the_first_labels_are_read():
    endless = itertools.cycle(["a", "b"])
    assert detect_problem(endless).why == "2 different labels in 10,000 rows"


def test_a_problem_is_kept_as_json_keeps_it():
    problem = detect_problem(["joy", "fear", "joy|fear"])
    assert Problem(**dataclasses.asdict(problem)) == problem


names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20)


@given(st.lists(names, min_size=2, max_size=8, unique=True), st.sampled_from(SEPARATORS), st.data())
def test_labels_that_are_joined_are_found_again(labels, separator, data):
    labels = [f"x{label_text(label)}" for label in labels]
    sets = [(label,) for label in labels]
    sets += data.draw(
        st.lists(
            st.lists(st.sampled_from(labels), min_size=2, max_size=3, unique=True).map(tuple),
            min_size=1,
        )
    )
    sets.append(tuple(labels[:2]))
    if len(set(labels)) < len(labels):
        return
    cells = [separator.join(one) for one in sets] * 2
    problem = detect_problem(cells)
    if {label for one in sets if len(one) > 1 for label in one} and problem.kind == "multi_label":
        assert problem.separator == separator
        assert [problem.parse(cell) for cell in cells] == sets * 2
    else:
        raise AssertionError(problem)


# Parsing


@given(st.floats(-1e38, 1e38))
def test_scores_are_read_exactly(score):
    problem = Problem("regression")
    assert problem.parse(score) == problem.parse(repr(score)) == problem.parse(f" {score!r} ")


@pytest.mark.parametrize(
    "value",
    ["", None, math.nan, "nan", "inf", math.inf, True, "3,5", "1_0", "x", [1], "1e39", "1e999",
     10**400],
)  # fmt: skip
def test_what_is_no_score(value):
    with pytest.raises(ValueError, match="the label is"):
        Problem("regression").parse(value)


@given(st.lists(names.map(label_text), unique=True))
def test_lists_are_sets_of_labels(labels):
    problem = Problem("multi_label", "|")
    assert problem.parse(labels) == tuple(labels)
    assert problem.parse(repr(labels)) == tuple(labels), "as Python writes a list into a cell"
    assert not labels or problem.parse(" | ".join(labels)) == tuple(labels)


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        ("joy|fear|", ("joy", "fear")), ("joy", ("joy",)), ("3|3|17", ("3", "17")), (3, ("3",)),
        ("|joy|fear|", ("joy", "fear")), ('"joy"|"fear"', ("joy", "fear")),
        ("'joy' | 'fear'", ("joy", "fear")), ('"a|b"|c', ("a|b", "c")), ('"joy"', ("joy",)),
        ("['joy' 'fear']", ("joy", "fear")), ("['joy'\n \"it's\"]", ("joy", "it's")),
        ("[3 17]", ("3", "17")), ("[3. 17.]", ("3", "17")), ("('joy', 'fear')", ("joy", "fear")),
        ("('joy',)", ("joy",)), ("{'joy', 'fear'}", ("joy", "fear")), ("set()", ()), ("()", ()),
        ("[joy, very sad]", ("joy", "very sad")), ("[joy]", ("joy",)),
        ("{joy,fear}", ("joy", "fear")),
        ("[joy|fear]", ("joy", "fear")), ("(a)", ("(a)",)), ("(or, not)", ("(or, not)",)),
        ([1.0, True], ("1", "true")), ("[]", ()), ([], ()), ("[1]|[2]", ("[1]", "[2]")),
    ],
)  # fmt: skip
def test_sets_of_labels(value, labels):
    assert Problem("multi_label", "|").parse(value) == labels


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "the label is empty"),
        (None, "write \\[\\]"),
        ("a||b", "one of the labels is empty"),
        ([None], "one of the labels is empty"),
        ([["a"]], "a list in a list"),
        ({"a": 1}, "the label is an object"),
        ("[a b]", "not a valid list"),
        ("['joy', 'fear' 'rage']", "not a valid list"),
        ("['joy' 'fear' ...]", "not a valid list"),
        ('{"joy": 1, "fear": 0}', "not a valid list"),
    ],
)
def test_what_is_no_set_of_labels(value, why):
    with pytest.raises(ValueError, match=why):
        Problem("multi_label", "|").parse(value)


def test_booleans_are_one_label_however_they_are_written():
    problem = detect_problem([True, False])
    assert [problem.parse(value) for value in (True, "True", "TRUE", " true")] == ["true"] * 4
    assert Problem("single_label").parse("True") == "True"
    problem = detect_problem([True, "False", 1, "0", "1.0"])
    assert problem.booleans
    assert [problem.parse(value) for value in (1, "0", "TRUE", 0.0)] == [
        "true",
        "false",
        "true",
        "false",
    ]
    assert not detect_problem(["0", "1"]).booleans


def test_a_column_for_each_label():
    columns = ["toxic", "insult", "threat"]
    assert parse_one_hot([1, "0", "True"], columns) == ("toxic", "threat")
    assert parse_one_hot(["1.0", 1.0, False], columns) == ("toxic", "insult")
    assert parse_one_hot([0, 0, 0], columns) == ()
    for value in ("", None, "2", "yes", [1]):
        with pytest.raises(ValueError, match="label column 'insult' is"):
            parse_one_hot([1, value, 0], columns)


# What tools of annotation, and models, write as a label

CHOICES = [{"choices": ["joy", "fear"]}, '{"choices": ["joy"]}', "fear"]


def test_choices_of_label_studio_are_several_labels():
    problem = detect_problem(CHOICES * 3)
    assert problem.kind == "multi_label"
    assert list(map(problem.parse, CHOICES)) == [("joy", "fear"), ("joy",), ("fear",)]


@pytest.mark.parametrize("cell", ["{'label': 'pos'}", '{"label": "pos", "score": 0.9}'])
def test_an_object_that_is_written_as_text_is_no_label(cell):
    with pytest.raises(ValueError, match="the label is an object"):
        Problem("single_label").parse(cell)
    with pytest.raises(ValueError, match="not a valid list"):
        Problem("multi_label").parse(cell)
    assert Problem("single_label").parse("{a: b}") == "{a: b}"


@pytest.mark.parametrize("values", [[[0.1, 0.9], [1.0, 0.0]], ["[0.1, 0.9]", "[0.5, 0.5]"]])
def test_shares_of_labels_are_no_labels(values):
    assert "numbers with fractions" in refusal(cycled(values, 8))
    assert detect_problem([["1", "3"], ["2"]]).kind == "multi_label"


def test_written_lists_of_0_and_1_are_refused_however_often_they_recur():
    assert "one position per label" in refusal(cycled(["[1, 0]", "[0, 1]"], 1000))


def test_words_in_place_of_scores_are_refused_with_what_trains_on_them():
    places = [f"food.csv:{line}" for line in range(2, 32)]
    with pytest.raises(DataError, match="are not numbers: .bad. .food.csv:2., .good") as caught:
        detect_problem(["bad", "good", "bad"] * 10, "regression", places=places)
    assert "--set data.problem=single_label" in caught.value.fix
    assert "on_bad_row" not in str(caught.value)
    # A single word among numbers is a bad row.
    assert detect_problem(["1.5", "2.5", "good", "nan"], "regression").kind == "regression"
