"""Compressed files and zip archives."""

import bz2
import gzip
import io
import lzma
import zipfile

import pytest
import zstandard

from kerasllm.data.documents import Documents
from kerasllm.data.readers.files import find_files
from kerasllm.data.readers.records import records
from kerasllm.data.readers.sources import Source
from kerasllm.errors import DataError


def zipped(content: bytes, name: str = "data.csv") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


PACK = {
    "gz": gzip.compress,
    "zst": zstandard.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}
CONTENTS = {
    "csv": b'text,label\n"a, and\nmore",1\nb,0\n',
    "tsv": b"text\tlabel\na\t1\nb\t0\n",
    "jsonl": b'{"text": "a", "label": "1"}\n{"text": "b", "label": "0"}\n',
    "txt": b"a\nb\n",
}


def rows(path, labelled=True):
    return [
        (text, line)
        for batch in Source(path, labelled=labelled).batches()
        for text, line in zip(batch.texts, batch.lines, strict=True)
    ]


@pytest.mark.parametrize("suffix", CONTENTS)
@pytest.mark.parametrize("packing", [*PACK, "zip"])
def test_packed_files_read_like_plain_ones(tmp_path, packing, suffix):
    plain, packed = tmp_path / f"a.{suffix}", tmp_path / f"a.{suffix}.{packing}"
    plain.write_bytes(CONTENTS[suffix])
    packed.write_bytes(PACK.get(packing, lambda raw: zipped(raw, plain.name))(CONTENTS[suffix]))
    labelled = suffix != "txt"
    assert rows(packed, labelled) == rows(plain, labelled)
    if packing == "zip":
        assert Source(packed, labelled=labelled).files == (f"{packed}/{plain.name}",)


@pytest.mark.parametrize("packing", PACK)
def test_records_and_documents_are_unpacked(tmp_path, packing):
    path = tmp_path / f"a.json.{packing}"
    path.write_bytes(PACK[packing](b'[{"prompt": "a"}]'))
    assert [row for _, row, _ in records(find_files(path, "train")[0])] == [{"prompt": "a"}]
    path = tmp_path / f"a.txt.{packing}"
    path.write_bytes(PACK[packing](b"A line.\nAnd one more.\n"))
    assert [document.text for document in Documents(tmp_path / "*.txt.*")] == [
        "A line.\nAnd one more.\n"
    ]


@pytest.mark.parametrize("packing", [*PACK, "zip"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_damage_is_told(tmp_path, packing, damage):
    path = tmp_path / f"a.txt.{packing}"
    whole = "".join(f"line {number * 7919 % 10007}\n" for number in range(20_000)).encode()
    packed = bytearray(PACK.get(packing, lambda raw: zipped(raw, "a.txt"))(whole))
    if damage == "cut":
        del packed[len(packed) // 2 :]
    else:
        middle = len(packed) // 2
        packed[middle : middle + 40] = bytes(40)
    path.write_bytes(packed)
    with pytest.raises(DataError, match="truncated or damaged|cannot be opened") as caught:
        rows(path, labelled=False)
    assert "copy or download it again" in caught.value.fix


def test_a_file_that_is_not_packed_is_told_from_a_damaged_one(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(b"text,label\na,b\n")
    with pytest.raises(DataError, match="not gzip-compressed") as caught:
        rows(path)
    assert "without .gz" in caught.value.fix
    path.write_bytes(PACK["gz"](b"text,label\na,b\n") + b"more")
    with pytest.raises(DataError, match="damaged"):
        rows(path)


def test_several_frames_of_zstandard(tmp_path):
    path = tmp_path / "a.txt.zst"
    path.write_bytes(zstandard.compress(b"a\n") + zstandard.compress(b"b\n"))
    assert rows(path, labelled=False) == [("a", 1), ("b", 2)]


def test_an_archive_is_read_as_a_folder(tmp_path):
    path = tmp_path / "reviews.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("out/part-1.csv", "text,label\nb,0\n")
        archive.writestr("out/part-0.csv.gz", gzip.compress(b"text,label\na,1\n"))
        archive.writestr("__MACOSX/out/._part-0.csv", b"\x00")
        archive.writestr("out/README.md", "Reviews.")
    source = Source(path)
    assert source.files == (f"{path}/out/part-0.csv.gz", f"{path}/out/part-1.csv")
    assert [batch.texts for batch in source.batches()] == [["a"], ["b"]]
    assert [remark.partition(" was")[0] for remark in source.remarks] == [
        "1 hidden file or folder",
        "1 other file",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["reviews.zip"], "nothing is unpacked"


@pytest.mark.parametrize("name", ["../a.csv", "/etc/a.csv", "b/../../a.csv", "..\\a.csv"])
def test_a_path_out_of_an_archive_is_refused(tmp_path, name):
    path = tmp_path / "a.zip"
    path.write_bytes(zipped(b"text,label\na,1\n", name))
    with pytest.raises(DataError, match="with a path that leads outside it"):
        Source(path)


def test_archives_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be opened"):
        Source(path)
    path.write_bytes(zipped(b"PAR1", "a.parquet"))
    with pytest.raises(DataError, match=r"'\.parquet' is not known") as caught:
        Source(path)
    assert "unpack it" in caught.value.fix
    locked = bytearray(zipped(b"text,label\na,1\n"))
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(locked)
    with pytest.raises(DataError, match="The archive is encrypted"):
        Source(path)
