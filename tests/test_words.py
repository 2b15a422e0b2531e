"""What users read is written in the words of the field, which a reader searches for.

Messages, docstrings, comments of code and of recipes, and the documentation are read for words that
have a better one. No TensorFlow is imported.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A word, as a pattern, and what to write instead.
WORDS = {
    r"behind (?!a (?:reverse )?proxy|the proxy|http)": "after",
    r"anew": "again, or from scratch",
    r"once more": "again",
    r"(?:goes|go|going|went) on(?! (?:disk|the disk))": "continue, or resume",
    r"(?:fill|fills|filled|filling) up": "pad, or pack",
    r"what fills": "padding",
    r"likelie(?:r|st)": "more likely, or most likely",
    r"sure(?:r|st)": "more confident, or most confident",
    r"dear(?:er|est)?": "costly, or expensive",
    r"mends?|mended": "fix",
    r"stills (?:all|the|its)": "freeze",
    r"(?:stands?|stood) on": "built on, or needs",
    r"roads?": "path",
    r"known to refuse": "not supported by",
    r"(?:learns?|trained) to say": "counts in the loss",
    r"(?:asks?|asked|asking) (?:it|the model)": "run the model, or predict",
    r"(?:is|are) asked for": "is requested, or is set",
    r"who(?:so)?ever|whatever": "rewrite the sentence",
    r"(?<!none )(?<!each )(?<!some )(?<!one )(?<!all )(?<!both )(?<!most )of which": (
        "whose, where, or a sentence of its own"
    ),
    r"in passing": "rewrite the sentence",
    r"a (?:text|row|word|name|sentence|question|source|tag|model|label) a (?:line|row|text|file)": (
        "one per line"
    ),
    r"(?:it|this|which|that|file|name|place) is no (?!longer\b|more\b|good\b|\w+(?:er|est)\b)\w+": (
        "is not a"
    ),
    r"fetch(?:es|ed|ing)? (?:it|them|the \w+) again": "download again",
    r"(?:columns|keys|names) there(?=: )": "available columns, keys or names",
    r"shapes? (?:was|were) used": "input shapes",
}
_PATTERN = re.compile(rf"\b(?:{'|'.join(f'({word})' for word in WORDS)})\b")
_BETTER = list(WORDS.values())


def code_texts(source: str) -> Iterator[tuple[int, str]]:
    """Yields the lines of the texts of Python code: messages, help texts, docstrings, comments."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            for after, line in enumerate(node.value.split("\n")):
                yield node.lineno + after, line


def recipe_texts(source: str) -> Iterator[tuple[int, str]]:
    """Yields the comments of a YAML file."""
    for number, line in enumerate(source.split("\n"), 1):
        yield number, line.partition("#")[2]


def page_texts(source: str) -> Iterator[tuple[int, str]]:
    """Yields the lines of a Markdown page, without its code and addresses."""
    for number, line in enumerate(source.split("\n"), 1):
        yield number, re.sub(r"`[^`]*`|\]\([^)]*\)", "", line)


def found_in(file: Path, texts: Iterator[tuple[int, str]]) -> list[str]:
    """Returns a line for each word that has a better one."""
    return [
        f"{file.relative_to(ROOT)}:{number}: {match[0]!r}: write {_BETTER[match.lastindex - 1]}"
        for number, text in texts
        for match in _PATTERN.finditer(text.lower())
    ]


def test_messages_docstrings_and_comments():
    files = {file: file.read_text("utf-8") for file in (ROOT / "kerasllm").rglob("*.py")}
    # Only files that hold one of the words are parsed: most hold none.
    found = [
        line
        for file, source in files.items()
        if _PATTERN.search(source.lower())
        for line in found_in(file, code_texts(source))
    ]
    assert not found, "\n".join(sorted(found))


@pytest.mark.parametrize("folder", ["recipes", "docs/cluster"])
def test_comments_of_recipes(folder):
    files = (ROOT / folder).glob("*.yaml")
    found = [
        line for file in files for line in found_in(file, recipe_texts(file.read_text("utf-8")))
    ]
    assert not found, "\n".join(sorted(found))


def test_documentation():
    files = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    found = [line for file in files for line in found_in(file, page_texts(file.read_text("utf-8")))]
    assert not found, "\n".join(sorted(found))


def test_what_is_found():
    def words(text: str) -> list[str]:
        return [match[0] for match in _PATTERN.finditer(text.lower())]

    assert words("Trained Anew, whatever the road") == ["anew", "whatever", "road"]
    assert words("files of which one is read; it is no list") == ["of which", "it is no list"]
    assert words("some of which are behind a proxy; it is no longer there; a broadcast") == []


def test_no_half_of_a_message_stands_by_itself():
    """A string in a line of its own is no part of the one above, unless brackets hold both."""
    for file in (ROOT / "kerasllm").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            # The description of an attribute stands by itself too, in three quotes.
            if isinstance(node, ast.Expr) and _is_text(node.value):
                assert '"""' in lines[node.lineno - 1], f"{file}:{node.lineno}"


def _is_text(node):
    text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return text or isinstance(node, ast.JoinedStr)
