"""Tests of files of tagged words, in every layout."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerasllm.data.readers.class_labels import with_class_names
from kerasllm.data.readers.tagged_source import TaggedSource
from kerasllm.errors import DataError


def write(path, content, encoding="utf-8"):
    data = content if isinstance(content, bytes) else content.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def sentences(spec, **options):
    source = TaggedSource(spec, **options)
    found = list(source.sentences())
    for one in found:
        assert len(one.words) == len(one.tags)
    return [([one.text[a:b] for a, b in one.words], one.tags, one.line) for one in found]


# CoNLL columns


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tabs.conll", "Anna\tB-PER\nran\tO\n\nHome\tO\n"),
        ("spaces.txt", "Anna B-PER\nran O\n\nHome O"),
        (
            "four.txt",
            "-DOCSTART- -X- -X- O\n\nAnna NNP B-NP B-PER\nran VBD B-VP O\n\nHome NN B O\n",
        ),
        ("crlf.bio", "Anna\tB-PER\r\nran\tO\r\n\r\nHome\tO\r\n\r\n\r\n"),
        ("lone_tab.conll.gz", "Anna\tB-PER\nran\tO\n\t\nHome\tO\n   \n"),
        ("bom", "\ufeffAnna\tB-PER\nran\tO\n\nHome\tO\n"),
    ],
)
def test_columns_of_any_kind(tmp_path, name, content):
    found = sentences(write(tmp_path / name, content))
    assert [one[:2] for one in found] == [(["Anna", "ran"], ["B-PER", "O"]), (["Home"], ["O"])]


def test_the_column_of_the_tag_is_chosen(tmp_path):
    file = write(tmp_path / "a.txt", "Anna NNP B-NP B-PER\nran VBD B-VP O\n")
    assert sentences(file, tag_column=1)[0][1] == ["NNP", "VBD"]
    assert sentences(file, tag_column=-2)[0][1] == ["B-NP", "B-VP"]
    for wrong in (0, 4, -5):
        with pytest.raises(DataError, match=f"no column {wrong} of tags: the file has 4"):
            TaggedSource(file, tag_column=wrong)


def test_words_may_look_like_comments_and_separators(tmp_path):
    file = write(tmp_path / "a.conll", "#\tO\n1/2\tO\na_b\tB-X\n# = x\tO\n\nx\tO\n")
    assert sentences(file)[0][0] == ["#", "1/2", "a_b", "# = x"]


def test_conll_u_reads_words_and_parts_of_speech(tmp_path):
    rest = "\t_" * 5
    lines = [
        "# sent_id = 1",
        "# text = Can't stop",
        f"1-2\tCan't\t_\t_\t_{rest}",
        f"1\tCa\tcan\tAUX\tMD{rest}",
        f"2\tn't\tnot\tPART\tRB{rest}",
        f"3\tstop\tstop\tVERB\tVB{rest}",
        f"3.1\tgone\tgo\tVERB\tVB{rest}",
    ]
    file = write(tmp_path / "a.conllu", "\n".join(lines) + "\n\n")
    assert sentences(file) == [(["Ca", "n't", "stop"], ["AUX", "PART", "VERB"], 4)]
    assert sentences(file, tag_column=4)[0][1] == ["MD", "RB", "VB"]


def test_a_line_with_another_number_of_columns_is_refused_or_skipped_with_its_place(tmp_path):
    file = write(tmp_path / "a.conll", "a\tO\nb\tO\n\nc\tO\nd\n\ne\t\n\nf\tO\n")
    with pytest.raises(DataError) as refused:
        list(TaggedSource(file).sentences())
    assert f"{file}:5: 1 column, where other lines have 2\n" in str(refused.value)
    assert str(refused.value.where).endswith(f"{file}:7: the tag is empty")
    source = TaggedSource(file, on_bad_row="skip")
    assert [one.text for one in source.sentences()] == ["a b", "f"]
    assert source.bad_row_count == 2
    assert source.noted["skipped_reasons"] == {"wrong number of fields": 1, "empty label": 1}


def test_broken_bytes_and_encodings(tmp_path):
    file = write(tmp_path / "a.conll", b"caf\xe9s\tO\nna\xefve\tO\n\nb\tO\n")
    with pytest.raises(DataError, match="not UTF-8"):
        list(TaggedSource(file).sentences())
    assert sentences(file, encoding="cp1252")[0][0] == ["cafés", "naïve"]


def test_what_holds_no_tags_is_refused_with_what_to_write(tmp_path):
    with pytest.raises(DataError, match="no tagged words: its lines have one column"):
        TaggedSource(write(tmp_path / "a.txt", "word\nanother\n"))
    with pytest.raises(DataError, match="not read from .csv files"):
        TaggedSource(write(tmp_path / "a.csv", "text,label\na,b\n"))
    with pytest.raises(DataError, match="is empty"):
        TaggedSource(write(tmp_path / "b.txt", "\n\n"))


def test_a_folder_and_a_glob(tmp_path):
    for name in ("train.conll", "test.conll"):
        write(tmp_path / name, f"{name}\tO\n")
    assert sentences(tmp_path, split="test")[0][0] == ["test.conll"]
    assert len(sentences(str(tmp_path / "*.conll"))) == 2


# word/tag


def test_tagged_text_of_brown(tmp_path):
    content = "\n\n\tThe/at Fulton/np-tl 1/2/cd said/vbd ./.\n\n\n\tNo/rb //. \n"
    found = sentences(write(tmp_path / "ca01", content))
    assert found == [
        (["The", "Fulton", "1/2", "said", "."], ["at", "np-tl", "cd", "vbd", "."], 3),
        (["No", "/"], ["rb", "."], 6),
    ]


def test_a_word_without_a_tag_is_bad(tmp_path):
    file = write(tmp_path / "a.txt", "a/x b/y c/z d/x\ne/x f/\ng/y h/x i/z j/y k/x l/x m/x n/x\n")
    with pytest.raises(DataError, match="1 row is bad") as refused:
        list(TaggedSource(file).sentences())
    assert f"{file}:2: 'f/' has no tag" in str(refused.value)


# Records


def jsonl(path, *records):
    return write(path, "".join(json.dumps(record) + "\n" for record in records))


def test_tokens_and_tags(tmp_path):
    file = jsonl(
        tmp_path / "a.jsonl", {"id": 1, "tokens": ["Anna", "ran"], "ner_tags": ["B-P", "O"]}
    )
    assert sentences(file) == [(["Anna", "ran"], ["B-P", "O"], 1)]
    file = jsonl(tmp_path / "b.jsonl", {"w": ["Anna", "ran"], "x": [1, 0]})
    found = sentences(file, text="w", label="x", label_names={"0": "O", "1": "B-P"})
    assert found[0][1] == ["B-P", "O"]
    with pytest.raises(DataError, match="numbers .*data.label_names"):
        list(TaggedSource(file, text="w", label="x").sentences())


def test_parquet_has_the_names_of_numbers_in_its_schema(tmp_path):
    table = pa.table({"tokens": [["Anna", "ran"]], "ner_tags": [[1, 0]]})
    metadata = with_class_names({}, {"ner_tags": ["O", "B-P"]})
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    assert sentences(tmp_path / "a.parquet") == [(["Anna", "ran"], ["B-P", "O"], 1)]


def test_records_that_do_not_fit_are_bad(tmp_path):
    good = {"tokens": ["a"], "tags": ["O"]}
    bad = [
        {"tokens": ["a"], "tags": ["O", "O"]},
        {"tokens": [], "tags": []},
        {"tokens": ["a"], "tags": [None]},
        {"tokens": ["a"]},
    ]
    file = jsonl(tmp_path / "a.jsonl", good, *bad)
    source = TaggedSource(file, on_bad_row="skip")
    assert len(list(source.sentences())) == 1
    assert [why for _, _, why in source.bad_rows] == [
        "1 words and 2 tags",
        "the words are an empty list, where a list of strings is expected",
        "a tag is null",
        "no key 'tags' (available keys: 'tokens')",
    ]


TEXT = "Anna Maria saw 🎉 Paris."


@pytest.mark.parametrize(
    "record",
    [
        {"text": TEXT, "entities": [{"start": 0, "end": 10, "label": "P"},
                                    {"start": 17, "end": 22, "label": "L"}]},
        # doccano, old and new
        {"text": TEXT, "label": [[17, 22, "L"], [0, 10, "P"]]},
        {"text": TEXT, "entities": [{"id": 1, "start_offset": 0, "end_offset": 10, "label": "P"},
                                    {"id": 2, "start_offset": 17, "end_offset": 22, "label": "L"}],
         "relations": []},
        # spaCy's Doc.to_json, Prodigy
        {"text": TEXT, "ents": [{"start": 0, "end": 10, "label": "P"},
                                {"start": 17, "end": 22, "label": "L"}],
         "tokens": [{"id": 0, "start": 0, "end": 4}]},
        {"text": TEXT, "spans": [{"start": 0, "end": 11, "label": "P"},
                                 {"start": 17, "end": 22, "label": "L"}]},
        # Label Studio: offsets of JavaScript, in which the emoji counts twice
        {"data": {"text": TEXT}, "annotations": [
            {"was_cancelled": True, "result": []},
            {"result": [
                {"type": "labels", "to_name": "text", "value":
                 {"start": 0, "end": 10, "text": "Anna Maria", "labels": ["P"]}},
                {"type": "labels", "to_name": "text", "value":
                 {"start": 18, "end": 23, "text": "Paris", "labels": ["L"]}}]}]},
        {"text": TEXT, "label": [
            {"start": 0, "end": 10, "text": "Anna Maria", "labels": ["P"]},
            {"start": 18, "end": 23, "text": "Paris", "labels": ["L"]}]},
    ],
)  # fmt: skip
def test_texts_with_spans(tmp_path, record):
    expected = (
        ["Anna", "Maria", "saw", "🎉", "Paris", "."],
        ["B-P", "I-P", "O", "O", "B-L", "O"],
    )
    assert sentences(jsonl(tmp_path / "a.jsonl", record))[0][:2] == expected
    assert sentences(write(tmp_path / "b.json", json.dumps([record], indent=1)))[0][:2] == expected


@pytest.mark.parametrize(
    ("spans", "why"),
    [
        ([[0, 10, "P"], [5, 14, "Q"]], "overlap"),
        ([[0, 3, "P"]], "ends within a word: 'Ann|a Maria saw '"),
        ([[2, 4, "P"]], "begins within a word"),
        ([[0, 99, "P"]], "is not within the text"),
        ([[4, 5, "P"]], "nothing but white space"),
        ([[3, 3, "P"]], "is not within the text"),
    ],
)
def test_spans_that_overlap_or_are_misaligned_are_refused_or_counted(tmp_path, spans, why):
    good = {"text": TEXT, "label": [[0, 4, "P"]]}
    file = jsonl(tmp_path / "a.jsonl", good, {"text": TEXT, "label": spans})
    with pytest.raises(DataError) as refused:
        list(TaggedSource(file).sentences())
    assert f"{file}:2:" in str(refused.value) and why in str(refused.value)
    source = TaggedSource(file, on_bad_row="skip")
    assert len(list(source.sentences())) == 1
    assert source.noted["skipped_reasons"] == {"spans that overlap or are misaligned": 1}


def test_keys_that_are_not_there_are_refused(tmp_path):
    file = jsonl(tmp_path / "a.jsonl", {"question": "?", "answer": 3})
    with pytest.raises(DataError, match="Neither words with their tags nor a text with spans"):
        TaggedSource(file)
    with pytest.raises(DataError, match="no key 'x'"):
        TaggedSource(file, text="x")


def test_the_fingerprint_knows_how_files_are_read(tmp_path):
    file = write(tmp_path / "a.txt", "Anna NNP B-PER\n")
    assert TaggedSource(file).fingerprint == TaggedSource(str(file)).fingerprint
    assert TaggedSource(file).fingerprint != TaggedSource(file, tag_column=1).fingerprint
