"""What XLA compiled is there for the next process."""

import os
import subprocess
import sys

import pytest
import tensorflow as tf

from kerasllm.runtime import xla_cache

CODE = """
import kerasllm
from kerasllm.runtime.startup import import_tensorflow
import_tensorflow()
import tensorflow as tf
print(float(tf.function(lambda x: tf.sin(x) + x, jit_compile=True)(tf.ones([8]))[0]))
"""


def run(folder, first="kerasllm") -> str:
    environment = {**os.environ, "KERASLLM_CACHE": str(folder)}
    environment.pop("TF_XLA_FLAGS", None)
    done = subprocess.run(
        [sys.executable, "-c", f"import {first}\n{CODE}"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("first", ["kerasllm", "keras"])
def test_the_next_process_finds_the_program_and_compiles_a_damaged_one_again(tmp_path, first):
    found = []
    for _ in range(2):
        said = run(tmp_path, first)
        found.append((said, {path: path.stat().st_mtime_ns for path in tmp_path.glob("xla/*/*")}))
    assert found[0] == found[1]
    assert found[0][0].startswith("1.84")
    (folder,) = (tmp_path / "xla").iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    program, checksum = sorted(folder.iterdir())
    assert checksum.name == f"{program.name}.sha256"
    content = bytearray(program.read_bytes())
    content[len(content) // 2] ^= 1
    program.write_bytes(content)
    assert run(tmp_path, first) == said
    assert program.read_bytes() != content and checksum.is_file()


@pytest.fixture
def untouched(monkeypatch, tmp_path):
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path))
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_clustering_debug")
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_max_hlo_modules=1")
    monkeypatch.setattr(xla_cache, "is_started", lambda: False)
    monkeypatch.setattr(xla_cache, "_late", False)
    monkeypatch.setattr(xla_cache, "_refused", None)
    monkeypatch.setattr(xla_cache, "_look_after", lambda folder: None)
    return tmp_path


def test_flags_that_are_set_stay(untouched):
    folder = xla_cache.set_flags()
    assert folder.parent == untouched / "xla" and folder.is_dir()
    flags = os.environ["TF_XLA_FLAGS"].split()
    assert flags == ["--tf_xla_clustering_debug", f"--tf_xla_persistent_cache_directory={folder}"]
    assert os.environ["XLA_FLAGS"].startswith("--xla_dump_max_hlo_modules=1 --xla_cpu_")
    assert xla_cache.calls_at_once()
    os.environ["XLA_FLAGS"] = "--xla_cpu_experimental_ynn_fusion_type=reduce"
    assert not xla_cache.calls_at_once()
    assert xla_cache.set_flags() is None


@pytest.mark.parametrize("version", ["2.20.0", "not installed"])
def test_xla_is_given_no_flag_that_it_does_not_know(untouched, monkeypatch, version):
    monkeypatch.setattr(xla_cache, "versions", lambda: {"tensorflow": version})
    monkeypatch.delenv("XLA_FLAGS")
    xla_cache.set_flags()
    assert "XLA_FLAGS" not in os.environ
    assert not xla_cache.calls_at_once()


def test_switches_leave_the_flags(untouched, monkeypatch):
    monkeypatch.setenv("KERASLLM_XLA_FLAGS", "0")
    monkeypatch.setenv("KERASLLM_XLA_CACHE", "off")
    assert xla_cache.set_flags() is None
    assert os.environ["XLA_FLAGS"] == "--xla_dump_max_hlo_modules=1"
    assert os.environ["TF_XLA_FLAGS"] == "--tf_xla_clustering_debug"
    assert not xla_cache.calls_at_once()


@pytest.mark.parametrize("too_late", [False, True])
def test_flags_that_xla_may_not_have_read_are_tried_out(untouched, monkeypatch, too_late):
    monkeypatch.setattr(xla_cache, "is_started", lambda: True)
    monkeypatch.setattr(xla_cache, "_reduces_by_ynn", lambda: too_late)
    # TensorFlow reads where programs are kept at its first operation.
    assert xla_cache.set_flags() is None
    assert os.environ["TF_XLA_FLAGS"] == "--tf_xla_clustering_debug"
    assert xla_cache.calls_at_once() is not too_late


CODE_OF_A_REDUCTION = """
import os
import tensorflow as tf
if {late}:
    tf.function(lambda x: x + 1, jit_compile=True)(1.0)
from kerasllm.runtime import xla_cache
print(xla_cache.is_started())
tf.constant(1) + 1
print(xla_cache.is_started())
print(xla_cache.calls_at_once())
"""


@pytest.mark.parametrize("late", [False, True])
def test_xla_reads_its_flags_when_it_first_compiles(late):
    environment = {**os.environ}
    environment.pop("XLA_FLAGS", None)
    done = subprocess.run(
        [sys.executable, "-c", CODE_OF_A_REDUCTION.format(late=late)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    supported = tuple(map(int, tf.__version__.split(".")[:2])) >= (2, 21)
    assert done.stdout.split() == [str(late), "True", str(supported and not late)]


def test_nothing_is_kept_where_it_cannot_be(untouched, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(untouched / "with space"))
    assert xla_cache.set_flags() is None
    (untouched / "file").touch()
    monkeypatch.setenv("KERASLLM_CACHE", str(untouched / "file"))
    assert xla_cache.set_flags() is None
    monkeypatch.setenv("KERASLLM_CACHE", str(untouched))
    monkeypatch.setattr(xla_cache, "_LEAST_FREE_BYTES", 1 << 60)
    assert xla_cache.set_flags() is None
    assert os.environ["TF_XLA_FLAGS"] == "--tf_xla_clustering_debug"


def test_a_folder_that_others_may_write_to_is_refused(untouched):
    folder = xla_cache.set_flags()
    os.environ["TF_XLA_FLAGS"] = ""
    folder.chmod(0o770)
    assert xla_cache.set_flags() is None
    assert f"chmod go-w {folder}" in xla_cache.refused()
    folder.chmod(0o700)
    assert xla_cache.set_flags() == folder and xla_cache.refused() is None
