"""Data on an S3 server, spoken to over the loopback as a real one is."""

import gzip
import io
import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerasllm.data.documents import Documents
from kerasllm.data.readers.files import find_files
from kerasllm.data.readers.sources import Source
from kerasllm.errors import DataError
from kerasllm.storage import cache, open_place, told
from tests.storage.servers import KEY, SECRET, gcs_server

ROWS = b"text,label\na good one,1\na bad one,0\n"


def texts(spec, **options):
    return [text for batch in Source(spec, **options).batches() for text in batch.texts]


def refusal(spec):
    with pytest.raises(DataError) as caught:
        find_files(spec, "train")
    return caught.value


@pytest.fixture
def downloads(monkeypatch):
    """The addresses of what is downloaded."""
    found, download = [], cache._download

    def noted(part, address, *args):
        found.append(address)
        return download(part, address, *args)

    monkeypatch.setattr(cache, "_download", noted)
    return found


def test_a_file_reads_like_one_here(s3, tmp_path):
    s3.put("bucket", "data/my reviews.csv", ROWS)
    (tmp_path / "a.csv").write_bytes(ROWS)
    source = Source("s3://bucket/data/my%20reviews.csv")
    assert source.files == ("s3://bucket/data/my%20reviews.csv",)
    assert texts("s3://bucket/data/my reviews.csv") == ["a good one", "a bad one"]
    assert source.fingerprint == Source(tmp_path / "a.csv").fingerprint


def test_globs_and_compressed_files(s3):
    s3.put("bucket", "in/a.csv.gz", gzip.compress(ROWS))
    s3.put("bucket", "in/deep/b.csv", ROWS)
    s3.put("bucket", "in/.git/c.csv", ROWS)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("d.csv", ROWS)
    s3.put("bucket", "in/all.zip", packed.getvalue())
    found = find_files("s3://bucket/in/**/*.csv*", "train")
    assert [file.name for file in found] == [
        "s3://bucket/in/a.csv.gz",
        "s3://bucket/in/deep/b.csv",
    ]
    assert found.remarks == ["1 hidden file or folder was left out: .git/c.csv"]
    assert Source("s3://bucket/in/*.zip").files == ("s3://bucket/in/all.zip/d.csv",)
    assert len(texts(found)) == 4
    assert "matches no file" in refusal("s3://bucket/in/*.parquet").what


def test_a_folder_that_spark_wrote(s3):
    for part in range(3):
        table, sink = pa.table({"text": [f"text {part}"], "label": ["x"]}), io.BytesIO()
        pq.write_table(table, sink)
        s3.put("bucket", f"out/part-0000{part}-c0.snappy.parquet", sink.getvalue())
    s3.put("bucket", "out/_SUCCESS", b"")
    source = Source("s3://bucket/out/")
    assert [batch.texts for batch in source.batches()] == [["text 0"], ["text 1"], ["text 2"]]
    assert source.remarks == ["1 hidden file or folder was left out: _SUCCESS"]
    assert source.files[0] == "s3://bucket/out/part-00000-c0.snappy.parquet"


def test_a_folder_of_texts(s3):
    s3.put("bucket", "books/a.txt", b"A line.\n")
    s3.put("bucket", "books/.ipynb_checkpoints/a-checkpoint.txt", b"A line.\n")
    s3.put("bucket", "books/cover.jpg", b"...")
    documents = Documents("s3://bucket/books")
    assert documents.files == ("s3://bucket/books/a.txt",)
    assert [document.text for document in documents] == ["A line.\n"]
    assert len(documents.remarks) == 2


def test_a_folder_for_each_class(s3, tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("pos/1.txt", "pos/2.txt", "neg/1.txt"):
            s3.put("bucket", f"in/{name}", name.encode())
            archive.writestr(name, name)
    (tmp_path / "in.zip").write_bytes(packed.getvalue())
    for spec in ("s3://bucket/in", f"{tmp_path}/in.zip"):
        source = Source(spec)
        assert source.files == (f"{spec}/neg", f"{spec}/pos")
        assert [(b.labels, b.texts) for b in source.batches()] == [
            (["neg"], ["neg/1.txt"]),
            (["pos", "pos"], ["pos/1.txt", "pos/2.txt"]),
        ]


def test_a_file_is_fetched_once_until_it_changes(s3, downloads):
    s3.put("bucket", "a.csv", ROWS)
    told_of = []
    with told(told_of.append):
        assert texts("s3://bucket/a.csv") == texts("s3://bucket/a.csv")
    assert downloads == ["s3://bucket/a.csv"]
    assert told_of == ["downloading s3://bucket/a.csv, 0.0 MB"]
    s3.put("bucket", "a.csv", ROWS.replace(b"good", b"fine"))
    assert texts("s3://bucket/a.csv") == ["a fine one", "a bad one"]
    assert len(downloads) == 2


def test_what_was_damaged_in_the_cache_is_fetched_again(s3, own_cache, downloads):
    s3.put("bucket", "a.csv", ROWS)
    (file,) = find_files("s3://bucket/a.csv", "train")
    damaged = bytearray(ROWS)
    damaged[15] ^= 1
    Path(file.path).write_bytes(damaged)
    os.utime(file.path, ns=(1, 1))
    assert texts("s3://bucket/a.csv") == ["a good one", "a bad one"]
    assert len(downloads) == 2


def test_a_download_that_broke_is_resumed(s3, own_cache, monkeypatch):
    content = b"text,label\n" + b"some text,1\n" * 200_000
    s3.put("bucket", "a.csv", content)
    monkeypatch.setattr(cache, "_PAUSE", 0.001)
    monkeypatch.setattr(cache, "PIECE", 1 << 20)
    opened, kept = [], cache.kept

    def breaking(address, name, version, size, open_at, *args):
        def broken(place):
            opened.append(place)
            stream, at = open_at(place)
            if len(opened) < 3:
                read, calls = stream.read, []

                class Stream:
                    close = stream.close

                    def read(self, size):
                        calls.append(size)
                        if len(calls) > 1:
                            raise cache.BrokenDownload("the connection broke")
                        return read(size)

                return Stream(), at
            return stream, at

        return kept(address, name, version, size, broken, *args)

    monkeypatch.setattr(cache, "kept", breaking)
    (file,) = find_files("s3://bucket/a.csv", "train")
    assert Path(file.path).read_bytes() == content
    assert opened == [0, 1 << 20, 2 << 20]


def test_what_is_not_there(s3):
    error = refusal("s3://bucket/none.csv")
    assert (error.what, error.where) == ("The file does not exist", "s3://bucket/none.csv")
    assert "S3 has no option 'regoin'" in refusal("s3://bucket/a.csv?regoin=eu").what


def test_credentials_that_were_wrong_are_forgotten(s3):
    s3.put("bucket", "a.csv", ROWS)
    assert "no option" in refusal("s3://bucket/a.csv?acces_key=x").what
    assert len(texts("s3://bucket/a.csv")) == 2


def test_what_cannot_be_read_is_not_fetched(s3, downloads):
    s3.put("bucket", "in/model.bin", b"large")
    for spec in ("s3://bucket/in/model.bin", "s3://bucket/in/*"):
        error = refusal(spec)
        assert "'.bin' is not known" in error.what and error.where == "s3://bucket/in/model.bin"
    assert not downloads


def test_a_cache_that_cannot_be_written(s3, monkeypatch, downloads):
    s3.put("bucket", "a.csv", ROWS)

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    error = refusal("s3://bucket/a.csv")
    assert error.what == "The cache cannot be written: No space left on device"
    assert "KERASLLM_CACHE" in error.fix and len(downloads) == 1


@pytest.mark.parametrize("where", ["userinfo", "options", "profile", "endpoint option"])
def test_credentials_by_the_usual_means_stay_hidden(s3, where, monkeypatch, tmp_path):
    s3.put("bucket", "in/a.csv", ROWS)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    address = "s3://bucket/in/*.csv"
    if where == "userinfo":
        spec = f"s3://{KEY}:{SECRET}@bucket/in/*.csv"
    elif where == "options":
        spec = f"{address}?access_key={KEY}&secret_key={SECRET}"
    elif where == "profile":
        (tmp_path / "credentials").write_text(
            f"[work]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
        )
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        monkeypatch.setenv("AWS_PROFILE", "work")
        spec = address
    else:
        monkeypatch.delenv("AWS_ENDPOINT_URL")
        endpoint = f"?endpoint_override={s3.url.partition('://')[2]}&scheme=http"
        spec = f"s3://{KEY}:{SECRET}@bucket/in/*.csv{endpoint}"
    source = Source(spec)
    assert texts(spec) == ["a good one", "a bad one"]
    shown = [*source.files, repr(source.__dict__)]
    for folder, _, names in os.walk(tmp_path / "cache"):
        shown += [folder, *names]
        shown += [Path(folder, name).read_text() for name in names]
    assert not any(KEY in text or SECRET in text for text in shown)
    assert source.files[0].startswith("s3://bucket/in/a.csv")


def test_google_cloud_storage(own_cache):
    pytest.importorskip("gcp_storage_emulator")
    with gcs_server() as options:
        folder = open_place(f"gs://anonymous@bucket/in?{options}")
        for name in ("part-0.csv", "part-1.csv", "_SUCCESS"):
            folder.write(name, ROWS)
        for end in ("/", "/*.csv"):
            source = Source(f"gs://anonymous@bucket/in{end}?{options}")
            assert source.files[1] == f"gs://anonymous@bucket/in/part-1.csv?{options}"
            assert sum(map(len, source.batches())) == 4
        assert "does not exist" in refusal(f"gs://anonymous@bucket/none.csv?{options}").what
        folder.delete("part-0.csv")
        assert folder.files() == ["_SUCCESS", "part-1.csv"]


@pytest.mark.parametrize(
    ("address", "path", "options"),
    [
        ("abfs://box@me.dfs.core.windows.net/in/a%20b.csv", "box/in/a b.csv", {}),
        ("abfs://box:k%3D@me.dfs.core.windows.net/a.csv", "box/a.csv", {"account_key": "k="}),
        ("abfss://me.blob.core.windows.net/box/a.csv", "box/a.csv", {}),
        ("abfs://me:k/e+y==@box/a.csv", "box/a.csv", {"account_key": "k/e+y=="}),
        (
            "abfs://me:key@127.0.0.1:10000/box/a.csv?enable_tls=false",
            "box/a.csv",
            {
                "account_key": "key",
                "blob_storage_authority": "127.0.0.1:10000",
                "blob_storage_scheme": "http",
                "dfs_storage_authority": "127.0.0.1:10000",
                "dfs_storage_scheme": "http",
            },
        ),
    ],
)
def test_addresses_of_azure(address, path, options, monkeypatch):
    from pyarrow import fs

    from kerasllm.addresses import Address
    from kerasllm.storage.azure import open_azure

    for name in ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fs, "AzureFileSystem", lambda **options: options)
    filesystem, found = open_azure(Address.parse(address))
    given = {name: value for name, value in filesystem.items() if value}
    assert (given, found) == ({"account_name": "me", **options}, path)
