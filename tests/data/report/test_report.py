"""A report on files: each planted fault is found, with its place, and nothing else is."""

import csv
import functools
import json
import re
from pathlib import Path

import pytest

import kerasllm
from kerasllm.data.report.report import make_report
from kerasllm.data.report.rows import record_rows, rows_of_files
from kerasllm.errors import DataError


@functools.cache
def sentences() -> list[str]:
    book = Path(kerasllm.__file__).with_name("data") / "starter" / "moby_dick.txt"
    found = re.split(r"(?<=[.!?])\s+", " ".join(book.read_text(encoding="utf-8").split()))
    return [one for one in found if 60 < len(one) < 160 and one.isascii()]


def text(number: int) -> str:
    """Returns a sentence that is like no other."""
    return sentences()[number]


def write(path, rows, header=("text", "label")):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


@pytest.fixture
def clean():
    return [(text(number), "ab"[number % 2]) for number in range(60)]


def found(train, test=None):
    parts = {"train": rows_of_files(train)}
    if test:
        parts["test"] = rows_of_files(test, "test", like=parts["train"])
    return {one["kind"]: one for one in make_report(parts).as_json()["findings"]}


def test_clean_rows_have_no_finding(tmp_path, clean):
    train = write(tmp_path / "train.csv", clean[:40])
    test = write(tmp_path / "test.csv", clean[40:])
    assert found(train, test) == {}


def test_repeats_within_and_across_parts(tmp_path, clean):
    rows = [*clean[:40], clean[3], ("  " + clean[5][0] + " ", "a" if clean[5][1] == "b" else "b")]
    train = write(tmp_path / "train.csv", rows)
    near = clean[9][0].upper() + " So."
    test = write(tmp_path / "test.csv", [*clean[40:], clean[7], (near, clean[9][1])])
    kinds = found(train, test)
    assert set(kinds) == {"leak_test", "conflicts", "duplicates", "near_leak_test"}
    assert kinds["leak_test"]["places"] == [f"{test}:22"]
    assert kinds["leak_test"]["gravity"] == "wrong"
    assert kinds["leak_test"]["share"] == round(1 / 22, 4)
    assert kinds["conflicts"]["places"] == [f"{train}:7", f"{train}:43"]
    assert kinds["duplicates"]["places"] == [f"{train}:42", f"{train}:43"]
    assert kinds["near_leak_test"]["places"] == [f"{test}:23"]


def test_damaged_texts_are_ranked_below_leaks_and_shown_without_personal_data(tmp_path, clean):
    rows = [
        *clean,
        ("cafÃ© " + text(100), "a"),
        ("<p>" + text(101) + "</p>", "b"),
        (text(102) + " ann@example.org", "a"),
        (text(103) + " 4111 1111 1111 1111", "b"),
        ("", "a"),
        ("...", "b"),
        ("Der Ausschuss des alten Hafens hat sich gestern auf einen neuen Plan geeinigt.", "a"),
    ]
    train = write(tmp_path / "train.csv", rows)
    report = make_report({"train": rows_of_files(train)})
    said = json.dumps(report.as_json())
    kinds = {one["kind"]: one for one in json.loads(said)["findings"]}
    places = {kind: one["places"] for kind, one in kinds.items()}
    assert places == {
        "unusable": [f"{train}:66: the text is empty"],
        "garbled": [f"{train}:62"],
        "card": [f"{train}:65"],
        "no_words": [f"{train}:67"],
        "markup": [f"{train}:63"],
        "email": [f"{train}:64"],
        "languages": [f"{train}:68"],
    }
    assert "4111" not in said and "ann@" not in said
    gravities = [one["gravity"] for one in kinds.values()]
    assert gravities == sorted(gravities, key=("wrong", "harmful", "notable").index)


def test_labels_in_one_part_and_those_that_look_alike(tmp_path, clean):
    train = write(tmp_path / "train.csv", [*clean[:40], (text(100), "B")])
    test = write(tmp_path / "test.csv", [*clean[40:], (text(101), "c")])
    kinds = found(train, test)
    assert kinds["look_alike_labels"]["groups"] == [["b", "B"]]
    assert kinds["look_alike_labels"]["places"] == [f"{train}:42"]
    assert kinds["label_in_one_part"]["places"]


def test_conversations_and_plain_text(tmp_path):
    rows = [{"messages": [{"role": "user", "content": text(number)},
                          {"role": "assistant", "content": text(number + 500)}]}
            for number in range(20)]  # fmt: skip
    rows.append(rows[4])
    rows.append({"messages": rows[5]["messages"][:1]})
    file = tmp_path / "chat.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    kinds = found(str(file))
    assert kinds["duplicates"]["places"] == [f"{file}:21"]
    assert "no answer to train on" in kinds["unusable"]["places"][0]
    book = tmp_path / "book.txt"
    passages = [text(number) + "\n" + text(number + 100) for number in range(20)]
    book.write_text("\n\n".join([*passages, "CHAPTER", passages[2], "CHAPTER"]))
    kinds = found(str(book))
    assert kinds["duplicates"]["places"] == [f"{book}:63"]


def test_a_folder_of_texts_for_each_class_has_labels(tmp_path):
    for name in ("pos", "neg"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.txt").write_text(f"a {name} film\n\nin two passages")
    rows = rows_of_files(str(tmp_path))
    assert [(row.label, len(row.texts)) for row in rows] == [("neg", 1), ("pos", 1)]


def test_lengths_in_tokens_and_what_is_cut(tmp_path, clean):
    train = write(tmp_path / "train.csv", [*clean, (" ".join(map(text, range(100, 110))), "a")])
    counted = lambda rows: [sum(len(t.split()) for t in texts) + 2 for texts in rows]  # noqa: E731
    report = make_report(
        {"train": rows_of_files(train)}, lengths=counted, max_length=60, empty_length=2
    )
    facts = report.describe_parts()["train"]["lengths"]
    assert (facts["unit"], facts["cut"]) == ("tokens", 1) and facts["most"] > 100
    assert [finding.kind for finding in report.findings] == ["cut"]
    assert report.findings[0].rows.tolist() == [60]


def test_scores(tmp_path, clean):
    rows = [(one, number / 7) for number, (one, _) in enumerate(clean)]
    train = write(tmp_path / "train.csv", [*rows, (clean[0][0], 0.01), (clean[1][0], 8.0)])
    report = make_report({"train": rows_of_files(train)}).as_json()
    assert report["parts"]["train"]["scores"]["most"] == pytest.approx(59 / 7, abs=1e-3)
    kinds = {one["kind"]: one for one in report["findings"]}
    assert kinds["conflicts"]["places"] == [f"{train}:3", f"{train}:63"]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_column_beside_instructions_is_no_label(tmp_path, suffix):
    # As pandas writes databricks-dolly-15k, with its index.
    header = ("", "instruction", "context", "response", "category")
    rows = [(str(n), text(n), "", text(n + 40), "open_qa") for n in range(40)]
    path = write(tmp_path / "dolly.csv", rows, header)
    if suffix == "jsonl":
        path = tmp_path / "dolly.jsonl"
        lines = (json.dumps(dict(zip(header, row))) + "\n" for row in rows)
        path.write_text("".join(lines), encoding="utf-8")
    read = rows_of_files(str(path))
    assert [row.texts for row in read] == [(text(n), text(n + 40)) for n in range(40)]
    assert read.noun == "conversation" and not read.bad_count


def test_reasons_with_an_apostrophe_are_whole(tmp_path):
    path = tmp_path / "answers.jsonl"
    row = {"messages": [{"role": "assistant", "content": "Hello"}]}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    title = found(str(path))["unusable"]["title"]
    assert "message … is the assistant's, where the user's is expected (1)" in title


def test_columns_beside_a_conversation_are_named(tmp_path):
    path = tmp_path / "answers.jsonl"
    rows = [
        {"question": text(1), "reasoning": text(2), "answer": text(3)},
        {"instruction": text(4), "output": text(5)},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert rows_of_files(str(path)).read_as.endswith("assistant 'answer'; not read: 'reasoning'")


def test_messages_in_a_table_are_conversations(tmp_path):
    row = json.dumps(
        [{"role": "user", "content": text(1)}, {"role": "assistant", "content": text(2)}]
    )
    read = rows_of_files(write(tmp_path / "talks.csv", [(row,)], ("messages",)))
    assert [row.texts for row in read] == [(text(1), text(2))]


def test_columns_of_which_two_could_be_the_response_are_refused_as_in_a_training(tmp_path):
    row = {"question": "What is it about?", "answer": "A film.", "response": "A whale."}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match="'response' and 'answer' could each be the res") as error:
        rows_of_files(str(path))
    assert "--recipe gpt_sft_lora --set data.response=response, or answer" in error.value.fix
    assert rows_of_files(str(path), text="answer").read_as.startswith("text 'answer'")
    assert record_rows(str(path), "train", response="answer").noun == "conversation"
    path.write_text(json.dumps({**row, "label": "a"}) + "\n")
    assert rows_of_files(str(path)).problem == "single_label", "labelled rows are a table"


def test_how_the_files_are_read_is_told(tmp_path):
    path = tmp_path / "a.csv"
    rows = "".join(f"the film, number {n};{'ab'[n % 2]}\n" for n in range(60))
    path.write_text("My survey\n\ntext;label\n" + rows)
    part = make_report({"train": rows_of_files(str(path))}).as_json()["parts"]["train"]
    assert part["rows"] == 60
    assert any("with semicolons between its fields" in remark for remark in part["remarks"])
    assert any("'My survey'" in remark for remark in part["remarks"])
