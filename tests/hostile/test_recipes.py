"""Recipes that do harm, on purpose or not: refused in words, soon, and in little memory."""

import os
import random
import resource
import time
from pathlib import Path

import pytest

from kerasllm.errors import KerasllmError
from kerasllm.recipe import files, load

SECONDS, BYTES, CHARACTERS = 20, 1 << 30, 25_000

BASE = "task: text_classification\nmodel: {preset: minilm_l6_en_uncased}\ndata: {train: a.csv}\n"
REFUSED = {
    "many devices": BASE + "training: {strategy: 'virtual:999999999999'}\n",
    "a number of 5000 digits": BASE + f"training: {{strategy: 'virtual:{'9' * 5000}'}}\n",
    "nothing to stop by": BASE + "training: {early_stopping: {}}\n",
    "an underscore": BASE + "training: {epochs: 1_000}\n",
    "an octal": BASE + "training: {epochs: 010}\n",
    "an underscore in a float": BASE + "training: {learning_rate: 1_0.5e-4}\n",
    "sixty thousand keys": BASE + "".join(f"k{n}: 1\n" for n in range(60_000)),
    "sixty thousand inner keys": BASE
    + "training:\n"
    + "".join(f"  k{n}: 1\n" for n in range(60_000)),
    "a megabyte": BASE + "x" * 1_000_000 + ": 1\n",
    "nearly a megabyte": BASE + "x" * 900_000 + ": 1\n",
    "a long value": BASE + "training: {precision: " + "x" * 900_000 + "}\n",
    "a long task": "task: " + "y" * 900_000 + "\n",
    "deep lists": BASE + "training: " + "[" * 100_000 + "]" * 100_000 + "\n",
    "deep mappings": BASE + "training: " + "{a: " * 50_000 + "}" * 50_000 + "\n",
    "many layers": "task: causal_lm\nmodel: {layers: 1000000000000}\ndata: {train: a.txt}\n",
    "no layers": "task: causal_lm\nmodel: {layers: 0}\ndata: {train: a.txt}\n",
    "half a pair": BASE + 'data2: "\\ud800"\n',
    "half a pair as a key": BASE + '"\\ud800": 1\n',
    "half a pair as an inner key": BASE + 'training: {"\\ud800": 1}\n',
    "python": BASE + "x: !!python/object/apply:os.system ['echo hi > owned']\n",
    "infinity": BASE + "training: {learning_rate: .inf}\n",
    "two documents": BASE + "---\n" + BASE,
}


@pytest.fixture(autouse=True)
def in_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not Path("owned").exists()


def read(content: str | bytes) -> KerasllmError | None:
    """Loads a recipe; returns how it is refused, within the limits of this file."""
    Path("recipe.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = None
    try:
        load("recipe.yaml")
    except KerasllmError as refusal:
        error = refusal
        assert 0 < len(str(refusal)) < CHARACTERS
        # A terminal can be told.
        str(refusal).encode()
    assert time.monotonic() - began < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < BYTES
    return error


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(name):
    assert read(REFUSED[name]) is not None


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_not_waited_for(make):
    make("recipe.yaml")
    with pytest.raises(KerasllmError, match="cannot be read"):
        load("recipe.yaml")


# Made from the recipes that are shipped.

_VALUES = [
    "",
    "null",
    "[]",
    "{}",
    "-1",
    "1e999",
    ".nan",
    "9" * 400,
    "true",
    "[[[[]]]]",
    "{a: {b: {c: d}}}",
    '"\\0"',
    '"\\ud800"',
    "'%s%s%n'",
    "../../../../etc/passwd",
    "!!binary aGk=",
    "&a *a",
    "*unknown",
    "| \n   text",
    "@x",
    "`x`",
    "\t",
    "x: y: z",
    "\u202e",
    "\ufeff",
    "2020-01-01",
    "0x1F",
    "1:30",
    "no",
    "~",
    "{{ 7*7 }}",
    "$(touch owned)",
]


def mutated(seed: int) -> bytes:
    """Returns a shipped recipe with some of it changed, as the seed says."""
    draw = random.Random(seed)
    text = files.path_of(draw.choice(files.names())).read_text(encoding="utf-8")
    lines = [line.partition("#")[0].rstrip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    for _ in range(draw.randint(0, 3)):
        place = draw.randrange(len(lines))
        key = lines[place].partition(":")[0]
        lines[place] = draw.choice(
            [
                f"{key}: {draw.choice(_VALUES)}",
                f"{key * draw.choice([2, 2000])}: 1",
                f"{draw.choice(_VALUES)}: 1",
                lines[place] + "\n" + lines[place],
                " " * draw.randint(0, 9) + lines[place].strip(),
                lines[place][: draw.randrange(len(lines[place]) + 1)],
                f"? {draw.choice(_VALUES)}\n: {key}",
                f"{key}: {'[' * draw.choice([5, 5000])}",
            ]
        )
    content = "\n".join(lines).encode(errors="surrogatepass")
    if draw.random() < 0.2:
        place = draw.randrange(len(content) + 1)
        content = content[:place] + draw.randbytes(draw.choice([1, 4, 100])) + content[place:]
    return content


def test_mutations_of_recipes_are_taken_or_refused():
    refused = sum(read(mutated(seed)) is not None for seed in range(150))
    # Some change nothing, or nothing that matters.
    assert 75 < refused < 150


@pytest.mark.slow
@pytest.mark.parametrize("part", range(1, 3))
def test_thousands_of_mutations_are_taken_or_refused(part):
    assert sum(read(mutated(seed)) is not None for seed in range(part * 1000, part * 1000 + 1000))
