"""The files of a model are those that were written, or it is not used."""

import os
import shutil

import pytest

from kerasllm.errors import PresetError
from kerasllm.models import digests, presets


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "model.weights.h5").write_bytes(os.urandom(1000))
    (tmp_path / "sub" / "vocabulary.txt").write_text("a\nb\n")
    digests.write_record(tmp_path, tmp_path / "not there")
    return tmp_path


def flip(path):
    state, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))


def test_a_flipped_bit_is_found(folder):
    digests.verify_recorded(folder)
    flip(folder / "model.weights.h5")
    with pytest.raises(PresetError, match=r"model.weights.h5 has a wrong checksum"):
        digests.verify_recorded(folder)
    flip(folder / "model.weights.h5")
    digests.verify_recorded(folder)
    (folder / "sub" / "vocabulary.txt").unlink()
    with pytest.raises(PresetError, match=r"vocabulary.txt is missing(.|\n)*delete SHA256SUMS"):
        digests.verify_recorded(folder)
    (folder / digests.RECORD).unlink()
    digests.verify_recorded(folder)


def test_a_record_is_written_again_and_may_leave_files_out(folder):
    before = (folder / digests.RECORD).read_text()
    assert len(before.splitlines()) == 2
    digests.write_record(folder)
    assert (folder / digests.RECORD).read_text() == before
    (folder / "notes.txt").write_text("my own")
    digests.verify_recorded(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "sub/../../secret"])
def test_a_record_reaches_no_other_folder(folder, name):
    (folder / digests.RECORD).write_text(f"{'0' * 64}  {name}\n")
    with pytest.raises(PresetError, match="names a file outside the folder"):
        digests.verify_recorded(folder)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"one\n", b"\0"])
def test_a_broken_record_is_refused(folder, content):
    (folder / digests.RECORD).write_bytes(content)
    with pytest.raises(PresetError, match="no readable SHA256SUMS"):
        digests.verify_recorded(folder)


def test_a_run_whose_model_was_changed_is_not_used(toy_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(toy_run, run)
    weights = run / "model" / "model.weights.h5"
    assert "model.weights.h5" in (run / "model" / digests.RECORD).read_text()
    presets.resolve(run)
    flip(weights)
    for preset in (run, run / "model", str(run)):
        with pytest.raises(PresetError, match="model.weights.h5 has a wrong checksum"):
            presets.resolve(preset)
