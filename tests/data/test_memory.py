"""What stays in memory of a training's rows is a few bytes of each, whatever their texts."""

import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from kerasllm.data.sequences import full_blocks, packed_rows
from kerasllm.data.stored_tokens import TokenStore
from kerasllm.data.token_store import open_or_write, row_batch

# The number of the row, 4 bytes, and where it stands in the epoch, 4; its length, 2 at most, and
# its class, 1; and 20 of each batch.
KEPT = 12
# A row of the store, 4 bytes, the first token and how many, 1 each in texts this short, and the
# first piece of each row; and for a moment lengths, order, packs.
KEPT_TEXT, PEAK_TEXT = 8, 48
# With what the allocator has not given back. A row's tokens alone are 64 bytes, and are not in it.
RESIDENT = 64

_PREPARE = """
import json, resource, sys, tracemalloc
from kerasllm.data.batch_plan import EpochPlans
from kerasllm.data.examples import Examples
from kerasllm.data.labels import Labels
from kerasllm.data.split import split_stratified
from kerasllm.data.stored_labels import encode_labels
from kerasllm.data.stored_tokens import TokenStore

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

def prepare(path):
    store = TokenStore(path)
    examples = Examples.of(store, encode_labels(store, Labels(["0", "1"])))
    kept, held_out = split_stratified(examples.labels, 0.1, 0)
    train = examples.take(kept)
    plans = EpochPlans(train.lengths, 32, 16, seed=0)
    for step in range(200):
        plan = plans(0)
        train.batch(plan.rows(step), int(plan.widths[step]), ("token_ids", "padding_mask"), 0)
    return train, plans

few, many = sys.argv[1:]
kept = prepare(few)
before = resident()
tracemalloc.start()
kept = prepare(many)
print(json.dumps([tracemalloc.get_traced_memory()[0], resident() - before]))
"""


def write_store(folder, rows):
    """Writes a store of rows of 16 tokens."""

    def batches():
        for start in range(0, rows, 8192):
            count = min(8192, rows - start)
            ids = np.arange(count * 16, dtype=np.int32)
            offsets = np.arange(count + 1) * 16
            columns = {"label": pa.array([str(row % 2) for row in range(count)])}
            yield row_batch(ids, offsets, 0, np.arange(count), columns=columns)

    return open_or_write([rows], batches, ["rows.csv"], folder=folder).path


def test_a_row_takes_a_few_bytes_of_memory(tmp_path):
    few, many = 20_000, 1_000_000
    paths = [write_store(tmp_path, rows) for rows in (few, many)]
    done = subprocess.run(
        [sys.executable, "-c", _PREPARE, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
    )
    kept, resident = json.loads(done.stdout.splitlines()[-1])
    assert kept / many < KEPT
    assert resident / (many - few) < RESIDENT


@pytest.mark.parametrize("cut", [full_blocks, packed_rows])
def test_a_text_takes_a_few_bytes_of_memory(tmp_path, cut):
    rows = 500_000
    store = TokenStore(write_store(tmp_path, rows))
    cut(TokenStore(write_store(tmp_path, 1_000)), 128)
    # Once more where it is too much: threads that earlier tests left behind may allocate meanwhile.
    readings = []
    for _ in range(2):
        tracemalloc.start()
        try:
            sequences = cut(store, 128)
            readings.append(tracemalloc.get_traced_memory())
        finally:
            tracemalloc.stop()
        if readings[0][0] / rows < KEPT_TEXT and readings[0][1] / rows < PEAK_TEXT:
            break
    kept, peak = map(min, zip(*readings))
    assert len(sequences) == (-(-15 * rows // 128) if cut is full_blocks else rows // 8)
    assert kept / rows < KEPT_TEXT and peak / rows < PEAK_TEXT


def test_lengths_and_rows_are_read_from_the_file_each_time(tmp_path):
    store = TokenStore(write_store(tmp_path, 10_000))
    assert store.lengths.tolist() == [16] * 10_000
    rows = store.gather([9_999, 0, 8_192], length=18, pad_id=-1)
    assert rows[:, :2].tolist() == [[1807 * 16, 1807 * 16 + 1], [0, 1], [0, 1]]
    assert rows[:, 16:].tolist() == [[-1, -1]] * 3
