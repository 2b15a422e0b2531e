"""Folders as data: the parts that Spark and Ray write, hidden files, kinds, splits."""

import shlex
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerasllm.data.documents import Documents
from kerasllm.data.readers.files import find_files
from kerasllm.data.readers.sources import Source
from kerasllm.errors import DataError

CSV = "text,label\na good one,1\na bad one,0\n"
HIDDEN = (
    ".git/objects/ab/note.txt", ".git/config.txt", ".ipynb_checkpoints/poem-checkpoint.txt",
    "__MACOSX/._poem.txt", ".DS_Store", "_SUCCESS", "_temporary/0/part-0.txt", ".poem.txt.crc",
)  # fmt: skip


def make(folder, *names, content=CSV):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def names(found, folder):
    return [file.path.removeprefix(f"{folder}/") for file in found]


def refusal(spec, **options):
    with pytest.raises(DataError) as caught:
        find_files(spec, "train", **options)
    return caught.value


@pytest.fixture(params=["", "file://"])
def prefix(request):
    return request.param


def test_parts_of_parquet_are_read_as_one(tmp_path, prefix):
    folder = tmp_path / "out.parquet"
    make(folder, "_SUCCESS", "._SUCCESS.crc", "_temporary/0/part-00007.parquet", content="")
    for part in range(3):
        table = pa.table({"text": [f"text {part}"], "label": [part % 2]})
        pq.write_table(table, folder / f"part-0000{part}-41c0.snappy.parquet")
    source = Source(f"{prefix}{folder}/")
    assert [batch.texts for batch in source.batches()] == [["text 0"], ["text 1"], ["text 2"]]
    (remark,) = source.remarks
    assert remark.startswith("3 hidden files or folders were left out: ")
    assert "_SUCCESS" in remark


def test_parts_in_folders_below(tmp_path, prefix):
    make(tmp_path, "b/part-0.csv", "a/part-1.csv.gz", "a/part-0.csv")
    assert names(find_files(f"{prefix}{tmp_path}", "train"), tmp_path) == [
        "a/part-0.csv",
        "a/part-1.csv.gz",
        "b/part-0.csv",
    ]


@pytest.mark.parametrize("pattern", ["", "/*.txt", "/**/*.txt", "/*/*.txt"])
def test_hidden_files_are_left_out_everywhere(tmp_path, prefix, pattern):
    make(tmp_path, "poem.txt", "below/verse.txt", *HIDDEN, content="A line.\n")
    found = find_files(f"{prefix}{tmp_path}{pattern}", "train")
    assert set(names(found, tmp_path)) <= {"poem.txt", "below/verse.txt"}
    if pattern != "/*.txt":
        (remark,) = found.remarks
        assert "left out" in remark


def test_a_language_model_reads_no_hidden_files(tmp_path):
    make(tmp_path, "poem.txt", "notes.md", *HIDDEN, content="A line.\n")
    documents = Documents(tmp_path)
    assert [name.rpartition("/")[2] for name in documents.files] == ["notes.md", "poem.txt"]
    assert "hidden" in documents.remarks[0]


def test_what_is_asked_for_is_not_hidden(tmp_path, prefix):
    make(tmp_path, ".cache/data/a.csv", ".cache/data/_b.csv", ".cache/data/.c.csv")
    root = f"{prefix}{tmp_path}/.cache"
    assert names(find_files(f"{root}/data", "train"), tmp_path) == [".cache/data/a.csv"]
    assert names(find_files(f"{root}/**/*.csv", "train"), tmp_path) == [".cache/data/a.csv"]
    assert names(find_files(f"{root}/data/_*.csv", "train"), tmp_path) == [".cache/data/_b.csv"]
    assert names(find_files(f"{root}/data/.c.csv", "train"), tmp_path) == [".cache/data/.c.csv"]


def test_a_pattern_that_matches_hidden_files_alone(tmp_path):
    make(tmp_path, ".a.csv")
    assert refusal(f"{tmp_path}/*.csv").what == "The pattern matches no file but hidden ones"


def test_what_tells_of_the_data_is_no_data(tmp_path):
    make(tmp_path, "a.jsonl", "README.md", "LICENSE.txt", "dataset_info.json", "make.py")
    found = find_files(tmp_path, "train")
    assert names(found, tmp_path) == ["a.jsonl"]
    assert found.remarks == [
        "4 other files were left out: LICENSE.txt, README.md, dataset_info.json and 1 more"
    ]


def test_files_of_several_kinds_are_refused(tmp_path):
    make(tmp_path, "a.csv", "b.csv", "c.jsonl")
    error = refusal(tmp_path)
    assert error.what == "The folder holds files of several kinds: 2 csv, 1 jsonl"
    assert error.fix.endswith(f"'{tmp_path}/*.csv'")
    make(tmp_path, "d.txt")
    assert names(find_files(tmp_path, "train", preferred="text"), tmp_path) == ["d.txt"]
    # A path cannot lead into an archive.
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("a.csv", "c.jsonl"):
            archive.writestr(name, "text\n")
    assert "unpack it" in refusal(tmp_path / "all.zip").fix


def test_a_folder_without_data(tmp_path):
    make(tmp_path, "model.bin")
    error = refusal(tmp_path)
    assert error.what == "The folder holds no data files; it holds model.bin"
    assert ".parquet" in error.fix
    assert "all its files are hidden" in refusal(make(tmp_path / "x", ".a.csv")).what


def test_a_folder_that_holds_splits(tmp_path):
    make(tmp_path, "data/train-0.csv", "data/train-1.csv", "data/validation-0.csv", "test/a.csv")
    found = {part: names(find_files(tmp_path, part), tmp_path) for part in ("train", "test")}
    assert found == {"train": ["data/train-0.csv", "data/train-1.csv"], "test": ["test/a.csv"]}
    remark = find_files(tmp_path, "validation").remarks[0]
    assert remark == (
        "the files of the split 'validation' are read: data/validation-0.csv; not test, train"
    )
    make(tmp_path, "more.csv")
    assert len(find_files(tmp_path, "train")) == 5, "not all files name a split"


def test_a_split_that_a_folder_lacks(tmp_path):
    make(tmp_path, "train.csv", "test.csv")
    with pytest.raises(DataError, match="holds the splits test and train, and no validation data"):
        find_files(tmp_path, "validation")


@pytest.mark.parametrize("parts", [("",), ("train/", "test/")])
def test_a_data_set_that_was_saved_to_disk_is_refused_with_what_converts_it(tmp_path, parts):
    files = [
        f"{part}{name}"
        for part in parts
        for name in ("data-00000-of-00001.arrow", "state.json", "dataset_info.json")
    ]
    make(tmp_path / "saved", *files, *["dataset_dict.json"] * (len(parts) > 1), content="{}")
    error = refusal(str(tmp_path / "saved"))
    assert "in Arrow's format" in error.what
    code = shlex.split(error.fix.split("`")[1])[-1]
    compile(code, "advice", "exec")
    assert f"load_from_disk('{tmp_path}/saved')" in code and "to_parquet" in code
