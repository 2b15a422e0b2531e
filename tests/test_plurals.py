"""Numbers with their nouns, and no `1 texts` anywhere."""

import re
from pathlib import Path

import pytest

import kerasllm
from kerasllm.plurals import counted

# What is told of one thing as often as of several.
_FOLDERS = ("cli", "export", "tasks")
_THINGS = "rows|texts|conversations|pairs|predictions|labels|messages|prompts|answers|files"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, "row"), "0 rows"),
        ((1, "row"), "1 row"),
        ((1200, "row"), "1,200 rows"),
        ((2, "match", "matches"), "2 matches"),
    ],
)
def test_one_is_singular(arguments, words):
    assert counted(*arguments) == words


def test_no_count_has_a_plural_that_does_not_change():
    fixed = re.compile(rf"\{{(len\([^{{}}]*\)|count)(:,)?\}} ({_THINGS})\b")
    root = Path(kerasllm.__file__).parent
    found = [
        f"{path.relative_to(root)}: {match[0]}"
        for folder in _FOLDERS
        for path in (root / folder).rglob("*.py")
        for match in fixed.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not found
