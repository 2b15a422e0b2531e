"""`import kerasllm`: light, and its public names are seen by people, editors and type checkers."""

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import kerasllm

PACKAGE = Path(kerasllm.__file__).parent
LAZY = ["", "data", "distribution", "generation", "models", "recipe", "training"]


def run(code, **environment):
    kept = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**kept, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done


def test_import_is_light():
    slow = ["tensorflow", "keras", "numpy", "pandas", "pyarrow", "pydantic", "yaml", "rich"]
    done = run(
        "import sys, time\nbefore = time.process_time()\nimport kerasllm\n"
        "seconds = time.process_time() - before\n"
        "dir(kerasllm), kerasllm.__all__, kerasllm.__version__, kerasllm.errors, kerasllm.data\n"
        f"print([name for name in {slow} if name in sys.modules], seconds < 0.1)"
    )
    assert done.stdout == "[] True\n"


def test_names_are_listed():
    expected = {"finetune", "load", "TextClassifier", "CausalLM", "FineTunedModel", "KerasllmError"}
    expected |= {"models", "training", "data", "recipe", "distribution", "evaluation", "workflows"}
    expected |= {"bert_classifier", "gpt_causal_lm", "TrainedModel", "errors"}
    assert expected <= set(kerasllm.__all__) <= set(dir(kerasllm))
    assert "__version__" in dir(kerasllm) and "os" not in dir(kerasllm)
    with pytest.raises(AttributeError, match="has no attribute 'finetun'"):
        kerasllm.finetun


def test_every_name_resolves_and_a_strategy_is_at_hand():
    packages = [f"kerasllm.{name}".rstrip(".") for name in LAZY]
    done = run(
        "import importlib, json\nimport kerasllm\n"
        "strategy = kerasllm.distribution.strategy('mirrored')\n"
        "found = {}\n"
        f"for package in {packages}:\n"
        "    module = importlib.import_module(package)\n"
        "    found[package] = [n for n in module.__all__ if getattr(module, n) is not None]\n"
        "    assert sorted(found[package]) == sorted(module.__all__)\n"
        "print(json.dumps([strategy.num_replicas_in_sync, found]))"
    )
    replicas, found = json.loads(done.stdout.splitlines()[-1])
    assert replicas == 1 and set(found) == set(packages) and all(found.values())
    # Nothing of TensorFlow's notices, though nobody asked for silence.
    assert done.stderr == ""


@pytest.mark.parametrize("name", LAZY)
def test_type_checkers_see_the_names_that_there_are(name):
    file = PACKAGE / name / "__init__.py"
    imported = [
        alias.asname
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    ]
    package = importlib.import_module(f"kerasllm.{name}".rstrip("."))
    assert sorted(imported) == sorted(package.__all__)


def test_types_are_shipped():
    assert (PACKAGE / "py.typed").is_file()
