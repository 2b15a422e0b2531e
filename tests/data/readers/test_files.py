"""From what a user writes to files: paths, globs, addresses, bundled names."""

import csv
import gzip
import os
import time
from pathlib import Path

import pytest

from kerasllm.data import starters
from kerasllm.data.readers import data_file
from kerasllm.data.readers.files import find_files
from kerasllm.data.readers.sources import Source
from kerasllm.data.starters import STARTERS
from kerasllm.errors import DataError

ROW = "text,label\na,1\n"


@pytest.fixture
def folder(tmp_path):
    for name in ("b.csv", "a.csv", "sub/c.csv", "sub/deep/d.csv", "notes.md", "x [1].csv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(ROW)
    (tmp_path / "z.csv").mkdir()
    return tmp_path


def names(spec):
    return [os.path.basename(file.name) for file in find_files(spec, "train")]


def refusal(spec, split="train"):
    with pytest.raises(DataError) as caught:
        Source(spec, split=split)
    return caught.value


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_globs_are_sorted_and_find_files_only(folder, prefix):
    root = prefix + str(folder)
    assert names(f"{root}/*.csv") == ["a.csv", "b.csv", "x [1].csv"]
    assert names(f"{root}/[b-c].csv") == ["b.csv"]
    assert names(f"{root}/*/*.csv") == ["c.csv"]
    assert names(f"{root}/sub/**/*.csv") == ["c.csv", "d.csv"]
    assert names([f"{root}/sub/*.csv", f"{root}/a.csv"]) == ["c.csv", "a.csv"]
    assert refusal(f"{root}/*.parquet").what == "The pattern matches no file"
    assert refusal(f"{root}/nowhere/*.csv").what == "The pattern matches no file"


def test_a_file_may_look_like_a_glob(folder):
    assert names(folder / "x [1].csv") == ["x [1].csv"]


def test_paths_start_from_home_and_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder / "sub")
    monkeypatch.setenv("HOME", str(folder))
    assert names(["c.csv", "~/a.csv"]) == ["c.csv", "a.csv"]


def test_a_missing_file(folder):
    error = refusal(folder / "aa.csv")
    assert error.what == "The file does not exist" and error.fix.endswith(f"{folder}/a.csv?")
    assert "nor does its folder" in refusal(folder / "none" / "a.csv").what


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    assert "pipe" in refusal(tmp_path / "pipe.csv").what


def test_a_file_that_may_not_be_read(folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert refusal(folder / "a.csv").what == "The file cannot be opened: Permission denied"


@pytest.mark.parametrize("spec", ["", [], [""], ["a.csv", ""]])
def test_no_file_given(spec):
    assert refusal(spec).what == "No data file was given"


def test_a_file_given_twice(folder, monkeypatch):
    assert "given twice" in refusal([folder / "a.csv", f"{folder}/*.csv"]).what
    monkeypatch.chdir(folder)
    assert "given twice" in refusal(["a.csv", folder / "sub" / ".." / "a.csv"]).what


@pytest.mark.parametrize("name", ["data.xlsx", "data", "data.gz", "data.parquet.gz"])
def test_an_unknown_suffix(tmp_path, name):
    (tmp_path / name).write_text(ROW)
    error = refusal(tmp_path / name)
    assert "is not known" in error.what and error.where.endswith(name)
    expected = {"data.parquet.gz": "unpack it"}.get(name, ".csv .tsv .jsonl")
    assert expected in error.fix


def test_suffixes_in_capitals(tmp_path):
    (tmp_path / "DATA.CSV").write_text(ROW)
    (tmp_path / "DATA.TSV.GZ").write_bytes(gzip.compress(b"text\tlabel\nb\t2\n"))
    source = Source([tmp_path / "DATA.CSV", tmp_path / "DATA.TSV.GZ"])
    assert [batch.texts for batch in source.batches()] == [["a"], ["b"]]


# Addresses


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_an_address_reads_like_a_path(tmp_path, suffix):
    path = tmp_path / f"my data.{suffix}"
    if suffix == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"text": ["a"], "label": ["1"]}), path)
    else:
        path.write_bytes(gzip.compress(ROW.encode()) if suffix == "csv.gz" else ROW.encode())
    address = f"file://{str(path).replace(' ', '%20')}"
    source = Source(address)
    (batch,) = source.batches()
    assert (batch.texts, batch.labels, source.files) == (["a"], ["1"], (address,))
    assert source.fingerprint == Source(path).fingerprint


def test_addresses_that_cannot_be_opened(tmp_path, monkeypatch):
    assert refusal(f"file://{tmp_path}/none.csv").what == "The file does not exist"
    error = refusal(f"file://{tmp_path}/a b.csv")
    assert "cannot be opened" in error.what and "%20" in error.fix
    error = refusal("ftp://somewhere/a.csv")
    assert "ftp://" in error.what and "s3://, gs://, hdfs://, abfs://" in error.fix

    from pyarrow import fs

    class Broken:
        @staticmethod
        def from_uri(uri):
            raise OSError("Unable to load libjvm\nsearched here\nand there")

    monkeypatch.setattr(fs, "FileSystem", Broken)
    for scheme in ("gs", "hdfs"):
        error = refusal(f"{scheme}://bucket/a.csv")
        assert error.what == "The address cannot be opened: Unable to load libjvm"
        assert "credentials" in error.fix and error.where == f"{scheme}://bucket/a.csv"


def test_a_network_that_fails_while_reading(folder, monkeypatch):
    source = Source(folder / "a.csv")

    class Failing(data_file.io.BytesIO):
        def readinto(self, buffer):
            raise OSError(110, "Connection timed out")

    monkeypatch.setattr(data_file.DataFile, "open", lambda self: Failing(b"text"))
    with pytest.raises(DataError, match="Reading failed: Connection timed out"):
        list(source.batches())


# Bundled data


def test_a_starter_is_read_by_name():
    train = Source("starter:movie_reviews")
    test = Source("starter:movie_reviews", split="test")
    assert (train.files, test.files) == (
        ("starter:movie_reviews/train",),
        ("starter:movie_reviews/test",),
    )
    assert train.label_names == {"0": "negative", "1": "positive"}
    assert sum(map(len, train.batches())) == 8049
    assert sum(map(len, test.batches())) == 2023
    assert {label for batch in test.batches() for label in batch.labels} == {"0", "1"}
    named = Source("starter:movie_reviews/test", split="train")
    assert named.fingerprint == test.fingerprint


@pytest.mark.parametrize(
    ("name", "kind", "train", "test"),
    [
        ("paraphrases", "single_label", 3363, 911),
        ("sentence_similarity", "regression", 5738, 1500),
        ("emotions", "multi_label", 10_000, 2000),
    ],
)
def test_starters_of_each_problem(name, kind, train, test):
    texts = {}
    for part, count in (("train", train), ("test", test)):
        source = Source(f"starter:{name}", split=part, text_pair="auto")
        rows = [
            row
            for batch in source.batches()
            for row in zip(batch.texts, batch.pairs or batch.texts, batch.targets, strict=True)
        ]
        assert (source.problem.kind, len(rows)) == (kind, count)
        texts[part] = {frozenset(row[:2]) for row in rows}
    assert not texts["train"] & texts["test"], "no text of the test part is trained on"


def test_paraphrases_are_made_of_the_scored_pairs():
    from tests.reference.make_starters import paraphrases

    for part in ("train", "test"):
        scored = Source(f"starter:sentence_similarity/{part}", text_pair="auto")
        pairs = [
            row
            for batch in scored.batches()
            for row in zip(batch.texts, batch.pairs, batch.targets, strict=True)
        ]
        source = Source(f"starter:paraphrases/{part}", text_pair="auto")
        assert paraphrases({part: pairs})[part] == [
            row
            for batch in source.batches()
            for row in zip(batch.texts, batch.pairs, batch.targets, strict=True)
        ]


def test_starters_and_files_mix(tmp_path):
    path = tmp_path / "more.csv"
    path.write_text(ROW)
    mixed = Source(["starter:movie_reviews", path])
    assert mixed.label_names is None
    assert sum(map(len, mixed.batches())) == 8050


def test_unknown_starters_and_parts():
    error = refusal("starter:movie_review")
    assert "no bundled data set 'movie_review'" in error.what
    assert "did you mean starter:movie_reviews?" in error.fix
    assert "bundled: starter:movie_reviews" in refusal("starter:").fix
    error = refusal("starter:movie_reviews", split="validation")
    assert "no part 'validation'" in error.what
    assert "starter:movie_reviews/train and starter:movie_reviews/test" in error.fix
    assert "split off" in error.fix
    assert "no part 'dev'" in refusal("starter:movie_reviews/dev").what


def test_every_starter_is_whole_and_has_its_notice():
    folder = Path(starters.__file__).parent / "starter"
    notice = (folder / "NOTICE.md").read_text()
    bundled = {name for starter in STARTERS.values() for name in starter.files.values()}
    assert {path.name for path in folder.iterdir()} == bundled | {"NOTICE.md"}
    for name, starter in STARTERS.items():
        assert f"## {name}" in notice and starter.licence in notice
        for file in starter.files.values():
            assert file in notice
            if starter.label_names is None:
                continue
            with (folder / file).open(newline="") as stream:
                labels = {row["label"] for row in csv.DictReader(stream)}
            assert labels == set(starter.label_names)


def test_folders_that_link_to_each_other_are_entered_once(tmp_path, monkeypatch):
    """A search that follows such links enters 2^40 folders."""
    monkeypatch.chdir(tmp_path)
    for name in ("d/a.csv", "d/v1/b.csv", "d/.hidden/c.csv", "elsewhere/e.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text,label\nx,y\n")
    for link, target in {"one": ".", "two": ".", "latest": "v1", "self": "self"}.items():
        (tmp_path / "d" / link).symlink_to(target)
    (tmp_path / "d/other").symlink_to("../elsewhere")
    begun = time.monotonic()
    for pattern in ("d/**/*.csv", str(tmp_path / "d/**/*.csv"), "**/d/**/*.csv"):
        found = sorted(os.path.relpath(file.name) for file in find_files(pattern, "train"))
        assert found == ["d/a.csv", "d/other/e.csv", "d/v1/b.csv"], pattern
    assert time.monotonic() - begun < 5
