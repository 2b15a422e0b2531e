"""`kerasllm data`: reports, and data in other forms."""

import csv
import json
import re

import pytest

from kerasllm.cli.main import main


@pytest.fixture
def run(capsys):
    """Runs a command, and returns its status, stdout and stderr."""

    def command(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return command


@pytest.fixture
def reviews(tmp_path):
    path = tmp_path / "reviews.csv"
    rows = [
        (f"film number {n} was {'good' if n % 2 else 'dull'} to the end", n % 2) for n in range(40)
    ]
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("review", "stars"), *rows, rows[0], ("[bold]ann@ex.org", 1)])
    return path


def test_a_report_fits_80_columns_and_begins_with_what_is_wrong(run, reviews, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = run("data", "report", reviews, "--test", reviews.parent / "reviews*.csv")
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    assert " 1. wrong: 42 rows of test (100.0%) are in train too" in out
    assert "ann@" not in out


def test_json_is_one_object_alone_on_stdout(run, reviews):
    status, out, _ = run("data", "report", reviews, "--json")
    report = json.loads(out)
    assert status == 0
    assert report["parts"]["train"]["rows"] == 42
    assert "duplicates" in [one["kind"] for one in report["findings"]]


def test_columns_and_mistakes(run, reviews):
    assert run("data", "report", reviews, "--text", "review", "--label", "stars")[0] == 0
    status, _, err = run("data", "report", reviews, "--text", "body")
    assert status == 2 and "body" in err
    assert run("data", "report")[0] == 2
    assert run("data", "report", reviews.parent / "none.csv")[0] == 2


def test_a_recipe_tells_how_its_data_are_read(run):
    status, out, _ = run("data", "report", "--recipe", "gpt_lm", "--json")
    assert status == 0
    assert json.loads(out)["parts"]["train"]["noun"] == "passage"


def test_a_page_and_a_cleaned_copy(run, reviews, tmp_path):
    page, copy = tmp_path / "not" / "there.html", tmp_path / "clean.csv"
    status, _, err = run("data", "report", reviews, "--html", page, "--fix", copy)
    assert status == 0 and page.read_text().startswith("<!doctype html>")
    assert "1 row was left out (the text of an earlier row: 1)" in err
    assert len(copy.read_text().splitlines()) == 42
    status, out, err = run("data", "report", reviews, "--html", reviews / "page.html")
    assert status == 2 and "directory cannot be made" in err and not out, "before the report"
    status, _, err = run("data", "report", reviews, "--fix", reviews)
    assert status == 2 and "also an input file" in err


def test_columns_that_are_not_read_are_named(run, tmp_path):
    path = tmp_path / "more.csv"
    lines = [f"{number},a film number {number},{number % 2}" for number in range(20)]
    path.write_text("id,text,label\n" + "\n".join(lines) + "\n")
    _, out, _ = run("data", "report", path)
    assert "text 'text', label 'label' (single label); not read: 'id'" in out


def test_convert_tells_what_it_wrote(run, reviews, tmp_path):
    status, _, err = run("data", "convert", reviews, "--output", tmp_path / "reviews.parquet")
    assert status == 0
    assert "42 rows, each read again and compared; columns review, stars" in err
    assert run("data", "convert", reviews, "--output", reviews)[0] == 2
    assert run("data", "convert", reviews, "--output", tmp_path / "reviews.xlsx")[0] == 2


def test_prepare_needs_a_recipe(run):
    status, _, err = run("data", "prepare")
    assert status == 2 and "--recipe" in err


@pytest.mark.parametrize("command", [("report",), ("convert", "--output", "out.jsonl")])
def test_the_encoding_is_named_as_the_error_tells(run, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    lines = [f"Le café numéro {number} est là,{number % 2}" for number in range(20)]
    (tmp_path / "old.csv").write_bytes(("text,label\n" + "\n".join(lines) + "\n").encode("cp1252"))
    status, _, err = run("data", *command, "old.csv")
    assert status == 2
    named = re.search(r"\(evaluate, predict, data: (--encoding \S+)\)", " ".join(err.split()))
    assert run("data", *command, "old.csv", *named[1].split())[0] == 0
