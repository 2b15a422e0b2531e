"""Stores that are joined from shards are those that one process makes."""

import json
from pathlib import Path

import pytest

from kerasllm.data import shards
from kerasllm.data.chat.conversations import Counts, open_conversations
from kerasllm.data.chat.templates import built_in
from kerasllm.data.documents import Documents, open_documents
from kerasllm.data.readers.sources import Source
from kerasllm.data.token_store import open_or_build
from kerasllm.data.tokenizers import from_folder
from tests.data.test_token_store import CodePoints
from tests.toy import toy_rows, write_csv

TOY = from_folder(Path(__file__).parents[1] / "reference" / "chat")


class Texts(CodePoints):
    """Code points, with a token that ends a text."""

    end_of_text_id = 2
    start_token, end_token = "\x01", "\x02"
    special_tokens = {}


def in_this_process(make):
    """Writes shards without other processes, as each of two would."""

    def write(fingerprint, files):
        for number in range(2):
            with shards.writing(fingerprint, files[number::2]):
                make()

    return write


@pytest.fixture
def parts(tmp_path):
    for number in range(3):
        write_csv(tmp_path / f"part-{number}.csv", toy_rows(30 + number, seed=number))
    with open(tmp_path / "part-1.csv", "a") as file:
        file.write(",negative\n")
    return tmp_path


def test_the_joined_store_is_the_same_file(parts):
    def make(folder="joined"):
        source = Source(str(parts / "part-*.csv"), on_bad_row="skip")
        return open_or_build(source, CodePoints(), 64, folder=parts / folder)

    alone = make("alone")
    with shards.made_by(in_this_process(make)):
        joined = make()
    assert joined.path.read_bytes() == alone.path.read_bytes()
    assert joined.skipped == 1 and not list((parts / "joined").glob("*.shards"))


def test_what_was_broken_off_continues(parts):
    asked = []

    def make():
        return open_or_build(
            Source(str(parts / "part-*.csv"), on_bad_row="skip"),
            CodePoints(),
            64,
            folder=parts / "tokens",
        )

    def breaks(fingerprint, files):
        with shards.writing(fingerprint, files[:2]):
            make()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), shards.made_by(breaks):
        make()

    def continues(fingerprint, files):
        asked.extend(files)
        in_this_process(make)(fingerprint, files)

    with shards.made_by(continues):
        assert len(make()) == 30 + 31 + 32
    assert asked == [2]


def test_documents_that_are_cut_for_validation(tmp_path):
    tokenizer = Texts()
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"text {number}\n" * (20 + number))
    rows = [json.dumps({"text": f"row {number}"}) for number in range(40)]
    (tmp_path / "more.jsonl").write_text("\n".join(rows))
    files = [str(tmp_path / name) for name in ("0.txt", "more.jsonl", "1.txt", "2.txt")]

    def make(folder="joined"):
        train, held = Documents(files).cut(0.3)
        return [open_documents(part, tokenizer, folder=tmp_path / folder) for part in (train, held)]

    alone = make("alone")
    with shards.made_by(in_this_process(make)):
        joined = make()
    for one, other in zip(joined, alone, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()


def test_conversations_are_counted_over_all_files(tmp_path):
    for number in range(3):
        rows = [{"prompt": f"question {row}", "completion": "x" * row} for row in range(number, 9)]
        (tmp_path / f"{number}.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def make(folder="joined"):
        return open_conversations(
            str(tmp_path / "*.jsonl"),
            TOY,
            built_in("plain", TOY),
            max_length=60,
            folder=tmp_path / folder,
            on_bad_row="skip",
        )

    alone = make("alone")
    with shards.made_by(in_this_process(make)):
        joined = make()
    assert Counts.of(joined) == Counts.of(alone)
    assert [joined.where(row) for row in range(len(joined))] == [
        alone.where(row) for row in range(len(alone))
    ]
