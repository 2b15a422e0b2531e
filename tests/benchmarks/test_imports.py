"""The benchmarks, which no test runs as a whole, use names that the package has."""

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FILES = sorted(
    file for file in BENCHMARKS.rglob("*.py") if not any(p.startswith(".") for p in file.parts)
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(BENCHMARKS)))
def test_what_a_benchmark_imports_is_there(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kerasllm"):
            module = importlib.import_module(node.module)
            for name in (each.name for each in node.names):
                # A module may not have been imported by its package yet.
                found = hasattr(module, name) or importlib.util.find_spec(f"{node.module}.{name}")
                assert found, f"{node.module} has no {name}"
