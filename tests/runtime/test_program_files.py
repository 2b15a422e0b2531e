"""Compiled programs that are kept are whole, few enough, and this user's alone."""

import os

import pytest

from kerasllm.runtime import program_files


def bit_flipped(content):
    return content[:50] + bytes([content[50] ^ 4]) + content[51:]


@pytest.mark.parametrize(
    "damage", [bit_flipped, lambda content: content[:-1], lambda content: b"", lambda _: b"x" * 9]
)
def test_a_damaged_program_is_deleted(tmp_path, damage):
    for name in ("good.pb", "bad.pb"):
        (tmp_path / name).write_bytes(os.urandom(100))
    program_files.record(tmp_path)
    bad = tmp_path / "bad.pb"
    state = bad.stat()
    bad.write_bytes(damage(bad.read_bytes()))
    os.utime(bad, ns=(state.st_atime_ns, state.st_mtime_ns))
    # A record is of the program as it was written.
    program_files.record(tmp_path)
    assert program_files.check(tmp_path) == ["bad.pb"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.pb", "good.pb.sha256"]


def test_a_program_that_nobody_recorded_is_deleted(tmp_path):
    (tmp_path / "new.pb").write_bytes(b"program")
    (tmp_path / "other.pb").write_bytes(b"program")
    (tmp_path / "other.pb.sha256").write_bytes(b"\xff\xfe")
    assert program_files.check(tmp_path) == ["new.pb", "other.pb"]
    assert not list(tmp_path.iterdir())


def test_the_programs_not_used_for_longest_are_forgotten(tmp_path):
    for age in range(4):
        path = tmp_path / f"{age}.pb"
        path.write_bytes(bytes(100))
        os.utime(path, (1e9 - age, 1e9 - age))
    # It was read since.
    os.utime(tmp_path / "3.pb", (1e9 - 0.5, 1e9 - 3))
    program_files.record(tmp_path)
    os.utime(tmp_path / "3.pb", (1e9 - 0.5, 1e9 - 3))
    for age in range(3):
        os.utime(tmp_path / f"{age}.pb", (1e9 - age, 1e9 - age))
    program_files.forget_old(tmp_path, 250)
    assert sorted(path.name for path in tmp_path.glob("*.pb")) == ["0.pb", "3.pb"]
    assert program_files.check(tmp_path) == []


def test_only_a_folder_of_this_users_own_is_trusted(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    assert program_files.why_not_trusted(tmp_path) is None
    for mode in (0o720, 0o702, 0o1777):
        tmp_path.chmod(mode)
        assert "others can write" in program_files.why_not_trusted(tmp_path)
    tmp_path.chmod(0o700)
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    assert "belongs to another user" in program_files.why_not_trusted(tmp_path)


def test_what_was_compiled_is_noted_until_a_program_is_gone(tmp_path):
    assert program_files.noted(tmp_path) == set()
    for name in ("norm 16x32", "drop 16x32"):
        program_files.note(tmp_path, name)
    assert program_files.noted(tmp_path) == {"norm 16x32", "drop 16x32"}
    (tmp_path / "one.pb").write_bytes(b"of nobody")
    program_files.check(tmp_path)
    assert program_files.noted(tmp_path) == set()
