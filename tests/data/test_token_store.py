"""A token store gives back what the tokenizer gave, whenever and however often it is opened."""

import hashlib
import os
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasllm.data import token_file
from kerasllm.data.readers.sources import RowBatch, Source
from kerasllm.data.stored_tokens import TokenStore
from kerasllm.data.token_file import DamagedFileError
from kerasllm.data.token_store import open_or_build
from kerasllm.data.tokenizers import Tokenizer
from kerasllm.errors import DataError, JobError


class Rows:
    """A source of rows that are given: `batches` of `(file, texts, labels)`."""

    def __init__(self, *batches, name="rows"):
        self.given = batches
        self.files = ("a.csv", "b.csv")
        self.on_bad_row = "error"
        self.bad_row_count, self.bad_rows = 0, []
        self.fingerprint = hashlib.sha256(repr((name, batches)).encode()).hexdigest()

    def batches(self, rows=8192):
        for file, texts, labels in self.given:
            lines = np.arange(2, len(texts) + 2, dtype=np.int64) * 10
            yield RowBatch(list(texts), labels and list(labels), file, lines)


class CodePoints(Tokenizer):
    """A token a character: its code point."""

    def __init__(self, shift=0):
        super().__init__(
            start_token_id=1,
            end_token_id=2,
            pad_token_id=0,
            description="code points",
            identity=shift,
        )

    def _tokenize(self, texts):
        offsets = np.cumsum([0, *map(len, texts)])
        return np.array([ord(letter) for letter in "".join(texts)], np.int32), offsets


def expected_row(text, max_length):
    return [1, *map(ord, text[: max_length - 2]), 2]


REVIEWS = Rows((0, ["good", "", "bad film"], ["1", "2", "1"]), (1, ["so-so"], ["3"]))


def test_skipped_rows_are_told_again_when_the_store_is_used_again(tmp_path):
    file = tmp_path / "reviews.csv"
    file.write_text("text,label\ngood,1\n,1\nbad,0\ndull,\n")
    for reused in (False, True):
        source = Source(file, on_bad_row="skip")
        store = open_or_build(source, CodePoints(), 8, folder=tmp_path)
        assert (store.reused, len(store), store.skipped) == (reused, 2, 2)
        assert store.skipped_rows[0] == (str(file), 3, "the text is empty")


def test_a_store_that_left_rows_out_is_not_used_where_they_are_refused(tmp_path):
    file = tmp_path / "reviews.csv"
    file.write_text("text,label\ngood,1\n,1\nbad,0\n")
    open_or_build(Source(file, on_bad_row="skip"), CodePoints(), 8, folder=tmp_path)
    with pytest.raises(DataError, match="1 row is bad"):
        open_or_build(Source(file), CodePoints(), 8, folder=tmp_path)


@st.composite
def sources(draw):
    labelled = draw(st.booleans())
    texts = st.lists(st.text(max_size=20), max_size=12)
    batches = []
    for rows in draw(st.lists(texts, max_size=5)):
        labels = st.lists(st.text(max_size=5), min_size=len(rows), max_size=len(rows))
        batches.append((draw(st.integers(0, 1)), rows, draw(labels) if labelled else None))
    return Rows(*batches)


@settings(max_examples=60, deadline=None)
@given(source=sources(), max_length=st.integers(3, 30), data=st.data())
def test_rows_come_back_as_the_tokenizer_gave_them(tmp_path_factory, source, max_length, data):
    folder = tmp_path_factory.mktemp("tokens")
    built = open_or_build(source, CodePoints(), max_length, folder=folder)
    opened = open_or_build(source, CodePoints(), max_length, folder=folder)
    assert (built.reused, opened.reused) == (False, True)

    texts = [text for _, rows, _ in source.given for text in rows]
    labels = [label for _, _, row_labels in source.given for label in row_labels or ()]
    places = [
        (source.files[file], (row + 2) * 10)
        for file, rows, _ in source.given
        for row in range(len(rows))
    ]
    rows = st.integers(0, max(len(texts) - 1, 0))
    order = data.draw(st.lists(rows, max_size=20 if texts else 0))
    length = max_length + data.draw(st.integers(0, 3))
    for store in (built, opened):
        assert len(store) == len(texts)
        assert store.lengths.dtype == np.int32
        assert store.lengths.tolist() == [len(expected_row(text, max_length)) for text in texts]
        assert (store.labels.to_pylist() if store.labels else []) == labels
        assert [store.where(row) for row in range(len(texts))] == places
        gathered = store.gather(order, length, pad_id=-7)
        assert (gathered.shape, gathered.dtype) == ((len(order), length), np.int32)
        for row, ids in zip(order, gathered.tolist()):
            expected = expected_row(texts[row], max_length)
            assert ids == expected + [-7] * (length - len(expected))


def test_a_bundled_data_set(tmp_path):
    source = Source("starter:movie_reviews", split="test")
    store = open_or_build(source, CodePoints(), 64, folder=tmp_path / "new" / "folder")
    rows = next(source.batches(100))
    assert store.labels.slice(0, 100).to_pylist() == rows.labels
    assert store.where(42) == ("starter:movie_reviews/test", rows.lines[42])
    assert store.gather([42], 64, 0)[0, : store.lengths[42]].tolist() == expected_row(
        rows.texts[42], 64
    )


def test_the_file_is_an_arrow_file_named_by_the_fingerprint(tmp_path):
    store = open_or_build(REVIEWS, CodePoints(), 8, folder=tmp_path)
    assert store.path == tmp_path / f"{store.fingerprint}.arrow"
    assert os.listdir(tmp_path) == [store.path.name]
    table = pa.ipc.open_file(store.path).read_all()
    assert table.column("token_ids").to_pylist()[3] == expected_row("so-so", 8)
    assert table.select(["column:label", "file", "line"]).to_pylist()[3] == {
        "column:label": "3",
        "file": 1,
        "line": 20,
    }


def test_a_missing_label_stays_missing(tmp_path):
    store = open_or_build(Rows((0, ["a", "b"], ["1", None])), CodePoints(), 8, folder=tmp_path)
    assert store.labels.to_pylist() == ["1", None]


def test_what_decides_the_ids_decides_the_fingerprint(tmp_path):
    stores = [
        open_or_build(source, tokenizer, max_length, folder=tmp_path)
        for source, tokenizer, max_length in (
            (REVIEWS, CodePoints(), 8),
            (REVIEWS, CodePoints(), 9),
            (REVIEWS, CodePoints(shift=1), 8),
            (Rows(*REVIEWS.given, name="other"), CodePoints(), 8),
        )
    ]
    assert len({store.fingerprint for store in stores}) == 4
    assert not any(store.reused for store in stores)


def test_progress_counts_the_rows_done(tmp_path):
    counts = []
    open_or_build(REVIEWS, CodePoints(), 8, folder=tmp_path, progress=counts.append)
    assert counts == [3, 4]
    open_or_build(REVIEWS, CodePoints(), 8, folder=tmp_path, progress=counts.append)
    assert counts == [3, 4]


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 0.3, 0.7, 0.9, -8, -1])
def test_a_truncated_file_is_rebuilt(tmp_path, kept):
    whole = open_or_build(REVIEWS, CodePoints(), 8, folder=tmp_path)
    size = whole.path.stat().st_size
    with whole.path.open("r+b") as file:
        file.truncate(int(kept * size) if isinstance(kept, float) else kept % size)
    with pytest.raises(DamagedFileError):
        TokenStore(whole.path)
    store = open_or_build(REVIEWS, CodePoints(), 8, folder=tmp_path)
    assert not store.reused and str(store.path) in store.damage
    assert store.gather([2], 8, 0).tolist() == [expected_row("bad film", 8)]
    assert open_or_build(REVIEWS, CodePoints(), 8, folder=tmp_path).reused


@settings(max_examples=150, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_a_changed_byte_never_changes_a_row(tmp_path_factory, place, change):
    folder = tmp_path_factory.mktemp("tokens")
    whole = open_or_build(REVIEWS, CodePoints(), 8, folder=folder)
    content = bytearray(whole.path.read_bytes())
    content[int(place * len(content))] ^= change
    whole.path.write_bytes(content)
    store = open_or_build(REVIEWS, CodePoints(), 8, folder=folder)
    assert store.reused == (store.damage is None)
    texts = ["good", "", "bad film", "so-so"]
    for row, text in enumerate(texts):
        assert store.gather([row], store.lengths[row], 0).tolist() == [expected_row(text, 8)]
    assert store.labels.to_pylist() == ["1", "2", "1", "3"]
    assert [store.where(row) for row in range(4)] == [
        *[("a.csv", 20), ("a.csv", 30), ("a.csv", 40), ("b.csv", 20)]
    ]


def test_a_changed_byte_of_the_remarks_is_seen(tmp_path):
    path = open_or_build(REVIEWS, CodePoints(), 8, folder=tmp_path).path
    content = path.read_bytes()
    remarks = b'[0, [], {"revised": false, "skipped_labels": {}, "unlabelled": {}}]'
    start = content.index(remarks)
    for place in range(start, start + len(remarks)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        store = open_or_build(REVIEWS, CodePoints(), 8, folder=tmp_path)
        assert "the remarks do not match their checksum" in store.damage
        assert not store.reused and store.skipped == 0


def test_a_changed_value_is_seen(tmp_path):
    path = open_or_build(REVIEWS, CodePoints(), 8, folder=tmp_path).path
    ids = np.array([ord(letter) for letter in "good"], np.int32).tobytes()
    content = path.read_bytes()
    assert ids in content
    path.write_bytes(content.replace(ids, b"x" * len(ids)))
    store = open_or_build(REVIEWS, CodePoints(), 8, folder=tmp_path)
    assert "does not match the checksum" in store.damage


def test_the_file_of_another_store_is_not_used(tmp_path):
    path = open_or_build(REVIEWS, CodePoints(), 8, folder=tmp_path).path
    other = open_or_build(REVIEWS, CodePoints(), 9, folder=tmp_path)
    other.path.write_bytes(path.read_bytes())
    assert (
        "it holds the tokens of" in open_or_build(REVIEWS, CodePoints(), 9, folder=tmp_path).damage
    )


def test_rows_that_are_not_there_and_lengths_that_do_not_fit(tmp_path):
    store = open_or_build(REVIEWS, CodePoints(), 8, folder=tmp_path)
    for rows in ([4], [-1], [0, 9]):
        with pytest.raises(IndexError, match="The store has 4 rows"):
            store.gather(rows, 8, 0)
    with pytest.raises(IndexError):
        store.where(4)
    with pytest.raises(ValueError, match="Row 2 has 8 tokens. Received: length=7"):
        store.gather([0, 2], 7, 0)


@pytest.mark.parametrize("error", [DataError("line 7 is broken"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_store_that_was_not_finished(tmp_path, error):
    class Breaks(Rows):
        def batches(self, rows=8192):
            yield from super().batches()
            raise error

    with pytest.raises(type(error)):
        open_or_build(Breaks(*REVIEWS.given), CodePoints(), 8, folder=tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_reported_and_nothing_is_left(tmp_path, monkeypatch):
    def open_on_a_full_disk(path, mode, buffering):
        open(path, mode).close()
        return open("/dev/full", "wb", buffering)

    monkeypatch.setattr(token_file, "open", open_on_a_full_disk, raising=False)
    with pytest.raises(JobError) as caught:
        open_or_build(REVIEWS, CodePoints(), 8, folder=tmp_path)
    assert caught.value.exit_status == 1
    message = str(caught.value)
    assert "There is no space left for the token ids" in message
    assert str(tmp_path) in message and "KERASLLM_CACHE" in message
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(JobError, match="cannot be written") as caught:
        open_or_build(REVIEWS, CodePoints(), 8, folder=tmp_path / "file" / "tokens")
    assert "make the folder writable" in caught.value.fix


def test_of_two_builders_at_once_one_makes_the_store_and_the_other_waits(tmp_path):
    began = threading.Event()
    read = []

    class Slow(Rows):
        def batches(self, rows=8192):
            read.append(1)
            began.set()
            time.sleep(0.5)
            yield from super().batches()

    source = Slow(*REVIEWS.given)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(open_or_build, source, CodePoints(), 8, folder=tmp_path)
        assert began.wait(timeout=30)
        second = pool.submit(open_or_build, source, CodePoints(), 8, folder=tmp_path)
        stores = [first.result(), second.result()]
    assert len(read) == 1 and [store.reused for store in stores] == [False, True]
    for store in stores:
        assert store.gather([0, 3], 8, 0).tolist() == [
            [*expected_row(text, 8), *[0] * (6 - len(text))] for text in ("good", "so-so")
        ]
    assert os.listdir(tmp_path) == [stores[0].path.name]


def test_memory_does_not_grow_with_the_rows(tmp_path):
    class Many(Rows):
        def batches(self, rows=8192):
            for _ in range(25):
                yield from super().batches()

    source = Many((0, ["x" * 60] * 8000, ["1"] * 8000), name="many")
    arrow_before, arrow_peak = pa.total_allocated_bytes(), 0

    def watch(rows):
        nonlocal arrow_peak
        arrow_peak = max(arrow_peak, pa.total_allocated_bytes() - arrow_before)

    tracemalloc.start()
    try:
        store = open_or_build(source, CodePoints(), 128, folder=tmp_path, progress=watch)
        store.gather(np.arange(0, 200_000, 1000), 128, 0)
        python_peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = store.path.stat().st_size
    assert len(store) == 200_000 and size > 50e6
    assert python_peak < 0.4 * size and arrow_peak < 0.1 * size
