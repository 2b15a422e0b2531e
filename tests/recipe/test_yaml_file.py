"""Reading YAML: whatever a file holds, it is read safely or refused with its line."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerasllm import recipe
from kerasllm.errors import RecipeError
from kerasllm.recipe import yaml_file as recipe_yaml


def read(tmp_path, content: bytes):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    return recipe_yaml.read(path)


def test_scalars_stay_as_written_and_only_null_is_null(tmp_path):
    written = read(tmp_path, b"a: no\nb: 5e-5\nc: 010\nd: 1:30\ne:\nf: ~\ng: 'null'\nh: !!str 1")
    assert written.values == {
        "a": "no",
        "b": "5e-5",
        "c": "010",
        "d": "1:30",
        "e": None,
        "f": None,
        "g": "null",
        "h": "1",
    }


def test_every_value_knows_its_line(tmp_path):
    written = read(tmp_path, b"# first\na:\n  b:\n    - x\n    - y\n  c: {d: 1,\n      e: 2}\n")
    file = f"{tmp_path / 'mine.yaml'}"
    lines = {("a",): 2, ("a", "b"): 3, ("a", "b", 1): 5, ("a", "c", "d"): 6, ("a", "c", "e"): 7}
    for key, line in lines.items():
        assert written.place_of(key) == f"{file}:{line}"
    assert written.place_of(("a", "not", "there")) == f"{file}:2"


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["unix", "windows"])
def test_files_of_any_editor_are_read(tmp_path, start, newline):
    assert read(tmp_path, start + newline.join([b"a: 1", b"b: \xc3\xa9", b""])).values == {
        "a": "1",
        "b": "é",
    }


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"", None, "the recipe is empty"),
        (b"# nothing\n---\n", None, "the recipe is empty"),
        (b"# nothing\n", None, "the recipe is empty"),
        (b"- a\n- b\n", 1, "Received: a list"),
        (b"hello\n", 1, "Received: a single value"),
        (b"a: 1\nb: \xff\n", 2, "not UTF-8: byte 0xff"),
        ("a: 1\n".encode("utf-16"), 1, "not UTF-8"),
        (b"a: 1\nb: \x00\n", 2, r"U\+0000 is not allowed"),
        (b"a:\n\tb: 1\n", 2, "cannot start any token"),
        (b'a: 1\nb: "open\n', 3, "unexpected end"),
        (b"a: b: c\n", 1, "mapping values are not allowed"),
        (b"a: *.csv\n", 1, "alias"),
        (b"a: &x [1]\nb: *x\n", 2, "no aliases"),
        (b"a: &x [*x]\n", 1, "no aliases"),
        (b"a: 1\n---\nb: 2\n", 2, "single document"),
        (b'a:\n  "\\UFFFFFFFF"\n', 2, "names no character"),
        (b'a: "\\U00110000"\n', 1, "names no character"),
        (b"a: " + b"[" * 5000, 1, "nested too deeply"),
        (b"%YAML 9.0\n---\na: 1\n", 1, "YAML"),
        (b"a: 1\n" * 200_001, None, "larger than 1,000,000 bytes"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_with_its_line(tmp_path, content, line, message):
    with pytest.raises(RecipeError, match=message) as caught:
        read(tmp_path, content)
    file = f"{tmp_path / 'mine.yaml'}"
    assert caught.value.where == (f"{file}:{line}" if line else file)


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"a: 1\nb: 2\na: 3\n", 3, "a is written twice"),
        (b"a:\n  b: 1\n  'b': 2\n", 3, "a.b is written twice"),
        (b"a: {0: x, '0': y}\n", 1, "a.0 is written twice"),
        (b"a: 1\n? [b, c]\n: d\n", 2, "a key must be a single word"),
        (b"a: !!python/object/apply:os.system [id]\n", 1, "no tags. Received: !!python/object"),
        (b"a: !!binary aGk=\n", 1, "no tags. Received: !!binary"),
        (b"a: !mine b\n", 1, "no tags. Received: !mine"),
    ],
)
def test_what_yaml_allows_and_a_recipe_does_not_is_a_problem(tmp_path, content, line, message):
    (problem,) = read(tmp_path, content).problems
    assert message in problem.what
    assert problem.where == f"{tmp_path / 'mine.yaml'}:{line}"


def test_many_aliases_are_refused_before_they_expand(tmp_path):
    bomb = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))]
    with pytest.raises(RecipeError, match="no aliases"):
        read(tmp_path, "\n".join(bomb).encode())


def test_a_folder_and_a_file_without_permission_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read") as caught:
        recipe_yaml.read(tmp_path)
    assert caught.value.where == str(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=40)
    | st.text(max_size=40).map(str.encode)
    | st.text(alphabet="a: \n-[]{}&*!#\"'\\U0?|>%\t", max_size=40).map(str.encode)
)
def test_no_file_ends_in_anything_but_a_refusal(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    problems = recipe.validate(path)
    assert problems
    assert all(problem.where.startswith(str(path)) for problem in problems)
