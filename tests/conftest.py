"""Settings and fixtures that every test shares."""

import os

# Before TensorFlow is imported by any test.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import gc
import json
import sys
from contextlib import contextmanager
from pathlib import Path

# It reads the environment once, which tests change.
import huggingface_hub.constants  # noqa: F401
import hypothesis
import pytest

from tests.storage.fixtures import own_cache, s3, s3_of_session, web  # noqa: F401
from tests.toy import save_toy_preset, toy_rows, write_csv
from tests.toy_language_model import book_settings

# How long an example takes says more about the machine than about the code. CI draws the same
# examples each time, so that it fails for the change it looks at; a developer draws new ones.
hypothesis.settings.register_profile(
    "kerasllm", deadline=None, derandomize="CI" in os.environ, database=None
)
hypothesis.settings.load_profile("kerasllm")


# Grappler takes a quarter of the suite's time, to make graphs fast that run a few times. It stays
# on in all processes that tests start, which are the commands, strategies and exports.
OPTIMIZES_GRAPHS = os.environ.get("KERASLLM_TESTS_GRAPPLER") == "1"

# Each process takes a file at a time: a long one at the end would leave the others idle.
_FIRST = (
    "test_sharded.py",
    "test_equal_numbers.py",
    "test_readme.py",
    "test_every_task.py",
    "test_finetune.py",
    "test_other_heads.py",
    "test_same_numbers.py",
    "test_keras_habits.py",
    "test_xla_cache.py",
    "test_under_strategies.py",
    "test_ordinary.py",
    "test_compress_problems.py",
    "test_saved_model.py",
    "test_threads.py",
    "test_recorded.py",
    "test_resume.py",
    "test_max_steps.py",
    "test_classification_problems.py",
)


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(_FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def pytest_collection_finish():
    # All that was imported stays, a million objects: each search for garbage among them takes half
    # a second, some hundred times.
    gc.collect()
    gc.freeze()
    # Tracing makes objects by the hundred thousand, and nearly all of them stay.
    gc.set_threshold(20_000, 10, 10)
    if not OPTIMIZES_GRAPHS and "tensorflow" in sys.modules:
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture(scope="session")
def toy_preset(tmp_path_factory) -> Path:
    """The folder of a toy encoder, of one layer."""
    return save_toy_preset(tmp_path_factory.mktemp("preset") / "toy", num_layers=1)


@pytest.fixture(scope="session")
def deep_toy_preset(tmp_path_factory) -> Path:
    """The folder of a toy encoder of two layers, which takes half as long again to trace."""
    return save_toy_preset(tmp_path_factory.mktemp("preset") / "deep", num_layers=2)


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory) -> Path:
    """A cache folder for the whole session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def toy_data(tmp_path) -> Path:
    """A folder with train.csv, test.csv, and a file of texts without labels."""
    write_csv(tmp_path / "train.csv", toy_rows(240))
    write_csv(tmp_path / "test.csv", toy_rows(60, seed=1))
    texts = [text for text, _ in toy_rows(20, seed=2)]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory, toy_preset, session_cache) -> Path:
    """A finished run of the toy encoder on the toy reviews."""
    from kerasllm.recipe import load
    from kerasllm.workflows.finetune import finetune

    folder = tmp_path_factory.mktemp("toy_run")
    write_csv(folder / "train.csv", toy_rows(240))
    write_csv(folder / "test.csv", toy_rows(60, seed=1))
    recipe = load("bert_cls", toy_settings(folder, toy_preset))
    with cached_in(session_cache):
        return finetune(recipe, name="bert_cls", output=folder / "run").path


@pytest.fixture(scope="session")
def toy_language_model(tmp_path_factory, session_cache) -> Path:
    """A finished run of a toy GPT-2 from scratch on the beginning of Moby Dick."""
    from kerasllm.recipe import load
    from kerasllm.workflows.finetune import finetune

    folder = tmp_path_factory.mktemp("toy_language_model")
    recipe = load("gpt_lm", book_settings(folder))
    with cached_in(session_cache):
        return finetune(recipe, name="gpt_lm", output=folder / "run").path


@contextmanager
def cached_in(folder: Path):
    """Lets kerasllm cache in a folder, for what is made once a session."""
    kept = os.environ.get("KERASLLM_CACHE")
    os.environ["KERASLLM_CACHE"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("KERASLLM_CACHE") if kept is None else os.environ.update(KERASLLM_CACHE=kept)


def toy_settings(folder: Path, preset: Path) -> list[str]:
    """Returns the overrides that make `bert_cls` a toy run of a few seconds that learns."""
    settings = {
        "data.train": str(folder / "train.csv"),
        "data.test": str(folder / "test.csv"),
        "model.preset": str(preset),
        "model.dropout": 0.0,
        "data.buckets": 4,
        "data.max_length": 32,
        "training.epochs": 6,
        "training.learning_rate": 5e-3,
        "training.precision": "float32",
        "training.log_every": 5,
    }
    return [f"{key}={json.dumps(value)}" for key, value in settings.items()]
