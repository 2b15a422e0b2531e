"""Data sets of the Hugging Face hub, which the loopback speaks as here."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerasllm.data.readers.files import find_files
from kerasllm.data.readers.sources import Source
from kerasllm.errors import DataError
from tests.storage.servers import serve_dataset


def parquet(*texts):
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": texts, "label": ["x"] * len(texts)}), sink)
    return sink.getvalue()


@pytest.fixture
def hub(web, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    return web


def texts(spec, split="train"):
    return [text for batch in Source(spec, split=split).batches() for text in batch.texts]


def test_a_data_set_by_its_splits(hub):
    serve_dataset(
        hub,
        "owner/reviews",
        {
            "README.md": b"# Reviews",
            ".gitattributes": b"",
            "data/train-00000-of-00002.parquet": parquet("a", "b"),
            "data/train-00001-of-00002.parquet": parquet("c"),
            "data/test-00000-of-00001.parquet": parquet("d"),
        },
    )
    assert texts("hf://datasets/owner/reviews") == ["a", "b", "c"]
    assert texts("hf://datasets/owner/reviews", "test") == ["d"]
    assert texts("hf://datasets/owner/reviews/data/*-00001-of-*.parquet") == ["c"]
    assert texts("hf://datasets/owner/reviews@main/data/test-00000-of-00001.parquet") == ["d"]
    (file,) = find_files("hf://datasets/owner/reviews", "test")
    assert file.name == "hf://datasets/owner/reviews/data/test-00000-of-00001.parquet"


def test_a_data_set_that_the_hub_keeps_in_parquet(hub):
    serve_dataset(hub, "owner/old", {"README.md": b"", "old.py": b"raise SystemExit"})
    converted = {"default/train/0000.parquet": parquet("a"), "default/test/0.parquet": parquet("b")}
    serve_dataset(hub, "owner/old", converted, "refs/convert/parquet")
    assert texts("hf://datasets/owner/old") == ["a"]
    assert texts("hf://datasets/owner/old", "test") == ["b"]


def test_one_of_several_configurations_must_be_named(hub):
    files = {f"{name}/train-0.parquet": parquet(name) for name in ("cola", "sst2")}
    serve_dataset(hub, "owner/glue", files)
    with pytest.raises(DataError, match="several configurations: cola, sst2") as caught:
        find_files("hf://datasets/owner/glue", "train")
    assert caught.value.fix == "name one of them: hf://datasets/owner/glue/cola"
    assert texts("hf://datasets/owner/glue/sst2") == ["sst2"]


def test_what_the_hub_does_not_have(hub):
    with pytest.raises(DataError, match="no public data set of this name"):
        find_files("hf://datasets/owner/none", "train")
    serve_dataset(hub, "owner/reviews", {"a.parquet": parquet("a")})
    with pytest.raises(DataError, match="The file does not exist"):
        find_files("hf://datasets/owner/reviews/b.parquet", "train")
    with pytest.raises(DataError, match="not of the form") as caught:
        find_files("hf://owner/reviews", "train")
    assert "datasets/" in caught.value.fix
