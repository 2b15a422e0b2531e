"""What the package declares: what it imports, its extras, and the pins of its tools."""

import ast
import configparser
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Packages that are called otherwise than their modules.
OTHERWISE = {"google": "protobuf", "mlflow": "mlflow-skinny", "yaml": "pyyaml"}
# With jinja2, keras-hub, pydantic and uvicorn, which say so in what they offer.
COME_ALONG = {"h11", "kagglehub", "markupsafe", "pydantic-core"}
# Read where a user has them: tables, notebooks, and exports that are run by what they are for.
OF_USERS = {"ipython", "pandas", "torch", "transformers"}


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    found = configparser.ConfigParser()
    found.read(ROOT / "setup.cfg", encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def extras(setup) -> dict[str, set[str]]:
    """The packages of each extra, those of the extras in it left out."""
    return {name: names_of(value) for name, value in setup["options.extras_require"].items()}


def names_of(requirements: str) -> set[str]:
    lines = [line for line in requirements.splitlines() if not line.startswith("#")]
    names = [re.match(r"[\w.-]+(\[[\w-]+\])?", line.strip()) for line in lines if line.strip()]
    return {_normal(name[0]) for name in names if not name[0].startswith("kerasllm[")}


def _normal(name: str) -> str:
    return re.sub(r"\[.*|[-_.]+", lambda mark: "-" if mark[0][0] != "[" else "", name).lower()


def imported() -> set[str]:
    """The third-party modules that the package imports anywhere, also within functions."""
    found = set()
    for file in (ROOT / "kerasllm").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"kerasllm"}


def test_what_is_imported_is_declared_and_the_reverse(setup, extras):
    apart = {"dev", "docs", "garden", "gpu", "test"}
    optional = set().union(*(extras[name] for name in extras.keys() - apart))
    required = names_of(setup["options"]["install_requires"])
    assert not required & optional
    names = {OTHERWISE.get(module, _normal(module)) for module in imported()}
    assert names - required - optional == COME_ALONG | OF_USERS
    assert required - names == set()


def test_each_extra_that_a_message_or_a_page_names_exists(extras):
    files = [
        ROOT / "README.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "kerasllm").rglob("*.py"),
        *(ROOT / "recipes").glob("*.yaml"),
    ]
    named = {
        name.strip()
        for file in files
        for names in re.findall(r"kerasllm\[([a-z0-9_, -]+)\]", file.read_text(encoding="utf-8"))
        for name in names.split(",")
    }
    assert named and named <= extras.keys()


def test_all_holds_every_feature_that_installs_beside_the_others(setup):
    # Model Garden needs an older TensorFlow; the GPU and JAX depend on the machine.
    apart = {"all", "dev", "docs", "garden", "gpu", "jax", "notebooks", "test"}
    wanted = set(setup["options.extras_require"]) - apart
    assert set(re.findall(r"kerasllm\[(\w+)\]", setup["options.extras_require"]["all"])) == wanted


def test_one_version_of_ruff_formats_for_all(extras, setup):
    pinned = re.search(r"ruff ==([\d.]+)", setup["options.extras_require"]["dev"])[1]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert f"rev: v{pinned}" in hooks
    lowest = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["target-version"]
    assert setup["options"]["python_requires"].startswith(f">=3.{lowest.removeprefix('py3')}")
