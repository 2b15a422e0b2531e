"""The tests that comments and documents name are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_NAMED = re.compile(r"\btests/[\w/]*\w\.py\b")


def test_every_test_that_is_named_exists():
    files = [*ROOT.glob("*.md")]
    for folder in ("kerasllm", "docs", "benchmarks", "recipes", "notebooks", "tests"):
        for suffix in ("py", "md", "yaml"):
            found = (ROOT / folder).rglob(f"*.{suffix}")
            # Not those of the environment that benchmarks/peers/setup.sh makes.
            files += [file for file in found if ".venv" not in file.parts]
    named = {
        (name, file.relative_to(ROOT).as_posix())
        for file in files
        for name in _NAMED.findall(file.read_text(encoding="utf-8"))
        # NAME.py stands for any name.
        if not Path(name).stem.isupper()
    }
    assert ("tests/generation/test_generator.py", "kerasllm/generation/weights.py") in named
    assert not {(name, file) for name, file in named if not (ROOT / name).is_file()}
