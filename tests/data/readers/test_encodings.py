"""The encoding of text files: named where it is not UTF-8, and read where it is set."""

import csv
import gzip
import io
import json
import re
import shutil
import subprocess

import pytest

from kerasllm.data.readers.sources import Source
from kerasllm.errors import DataError

TEXTS = {
    "cp1252": ["Le café était très bon", "Je n’ai pas aimé « ça » du tout", "déjà vu", "no accent"],
    "cp1251": ["Это отличный фильм", "Мне совсем не понравилось", "Скучно и долго", "Прекрасно"],
    "koi8_r": ["Это отличный фильм", "Мне совсем не понравилось", "Скучно и долго", "Прекрасно"],
    "cp1253": ["Αυτή είναι μια υπέροχη ταινία", "Δεν μου άρεσε καθόλου", "Βαρετή", "Ωραία"],
    "cp932": ["これは素晴らしい映画です", "好きではありません", "とても長い", "最高でした"],
    "gb18030": ["这是一部很棒的电影", "我一点也不喜欢它", "太长了，很无聊", "非常好看"],
    "cp949": ["이것은 훌륭한 영화입니다", "전혀 마음에 들지 않았어요", "너무 길어요", "최고였어요"],
    "utf-16": ["Le café", "plain", "これは", "no"],
}
LABELS = ["good", "bad", "good", "bad"]


def written(suffix, texts, encoding):
    rows = list(zip(texts, LABELS, strict=True))
    if suffix == "jsonl":
        lines = [
            json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in rows
        ]
        content = "\n".join(lines) + "\n"
    elif suffix == "txt":
        content = "\n".join(texts) + "\n"
    else:
        file = io.StringIO()
        delimiter = "\t" if suffix == "tsv" else ","
        csv.writer(file, delimiter=delimiter).writerows([("text", "label"), *rows])
        content = file.getvalue()
    return content.encode(encoding)


def read(path, **options):
    batches = list(Source(path, labelled=path.suffix != ".txt", **options).batches())
    return [text for batch in batches for text in batch.texts]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "txt", "csv.gz"])
@pytest.mark.parametrize("encoding", TEXTS)
def test_another_encoding_is_named_and_read(tmp_path, suffix, encoding):
    path = tmp_path / f"my data.{suffix}"
    content = written(suffix.removesuffix(".gz"), TEXTS[encoding], encoding)
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    with pytest.raises(DataError) as caught:
        read(path, on_bad_row="skip")
    error = caught.value
    assert "The file is not UTF-8; it looks like" in error.what
    named = re.search(
        r"--set data\.encoding=(\S+) \(evaluate, predict, data: --encoding \1\)", error.fix
    )
    assert named[1] == encoding
    line = error.where.rpartition(":")[2]
    assert f"in which its line {line} is '" in error.what, "so that the guess can be judged"
    texts = read(path, encoding=named[1])
    assert texts == TEXTS[encoding]
    assert Source(path, encoding=encoding, labelled="txt" not in suffix).fingerprint


@pytest.mark.skipif(shutil.which("iconv") is None, reason="needs iconv")
@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
@pytest.mark.parametrize("encoding", TEXTS)
def test_the_command_that_converts_works(tmp_path, monkeypatch, suffix, encoding):
    monkeypatch.chdir(tmp_path)
    content = written("csv", TEXTS[encoding], encoding)
    path = tmp_path / f"it's mine.{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    with pytest.raises(DataError) as caught:
        read(path)
    subprocess.run(re.search("`(.*)`", caught.value.fix)[1], shell=True, check=True)
    assert read(tmp_path / "utf8_it's mine.csv") == TEXTS[encoding]


def test_one_broken_row_among_ascii_is_of_an_encoding(tmp_path):
    path = tmp_path / "s.csv"
    path.write_bytes(b"text,label\nwin \xa31,spam\nwin 2,spam\nhi,ham\nho,ham\n")
    with pytest.raises(DataError, match="it looks like CP1252, in which its line 2 is 'win £1,"):
        read(path, on_bad_row="skip")
    assert read(path, encoding="cp1252") == ["win £1", "win 2", "hi", "ho"]
    assert read(path, encoding="utf-8", on_bad_row="skip") == ["win 2", "hi", "ho"]


def test_utf8_with_broken_bytes_is_no_other_encoding(tmp_path):
    path = tmp_path / "a.csv"
    for broken in ("é,1\nü,0\nä,1\n".encode() + b"caf\xe9,1\n", b"text \xff,1\nb,0\n"):
        path.write_bytes(b"text,label\n" + broken)
        with pytest.raises(DataError, match="1 row is bad"):
            read(path)


def test_bytes_that_an_encoding_lacks_are_bad_rows(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\ncaf\xe9,1\n\x81,0\nb,0\n")
    source = Source(path, encoding="cp1252", on_bad_row="skip")
    assert [text for batch in source.batches() for text in batch.texts] == ["café", "b"]
    assert source.bad_rows == [(str(path), 3, "byte 0x81 at column 1 is not cp1252")]
    path.write_bytes("text,label\na,1\n".encode("utf-16")[:-1])
    with pytest.raises(DataError, match="cannot be read as utf-16"):
        read(path, encoding="utf-16")


def test_utf8_is_not_garbled_by_the_encoding_of_other_files(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\ncafé,1\nthé,0\nété,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="The file is UTF-8") as caught:
        read(path, encoding="cp1252")
    assert "data.encoding=utf-8" in caught.value.fix
    assert read(path, encoding="utf-8") == read(path, encoding="UTF8") == ["café", "thé", "été"]
    assert Source(path, encoding="utf-8").fingerprint == Source(path).fingerprint


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "txt"])
@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_other_line_ends(tmp_path, encoding, suffix, end):
    texts = ["one", "déjà", "three", "four"]
    content = written(suffix, texts, encoding).decode(encoding)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content.replace("\r\n", "\n").replace("\n", end).encode(encoding))
    assert read(path, encoding=None if encoding == "utf-8" else encoding) == texts


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "txt"])
def test_byte_order_marks_go_wherever_a_file_was_joined(tmp_path, suffix):
    once = b"\xef\xbb\xbf" + written(suffix, TEXTS["cp1252"], "utf-8")
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(once + once)
    assert read(path) == TEXTS["cp1252"] * 2


def test_a_byte_order_mark_in_a_quoted_name(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes('"\ufefftext",label\na,1\n'.encode())
    assert read(path) == ["a"]
