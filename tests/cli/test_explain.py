"""`kerasllm explain`: words with their scores, for people and for programs."""

import json
import shutil

import pytest

TEXT = "dull film with a weak plot and it is awful ."


def test_json_has_words_with_their_characters_and_what_checks_them(kerasllm, toy_run):
    result = kerasllm("explain", toy_run, TEXT, "a good great strong film .", "--json")
    assert result.status == 0
    found, other = map(json.loads, result.out.splitlines())
    assert found["text"] == TEXT and found["target"] == "negative" and other["target"] == "positive"
    assert [word["word"] for word in found["words"]] == TEXT.split()
    assert all(TEXT[word["start"] : word["end"]] == word["word"] for word in found["words"])
    strongest = sorted(found["words"], key=lambda word: -word["score"])[:2]
    assert {word["word"] for word in strongest} == {"dull", "weak"}
    total = sum(word["score"] for word in found["words"]) + found["other"]
    moved = found["value"] - found["baseline_value"]
    assert total == pytest.approx(moved + found["completeness_error"], abs=1e-4)
    assert abs(found["relative_error"]) < 0.01
    area = found["faithfulness"]
    assert area["deletion"] < area["random"] < area["insertion"] and area["orders"] == 10
    assert -1 <= found["occlusion_agreement"] <= 1


def test_in_a_terminal_without_colours_the_words_are_in_a_table(kerasllm, toy_run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = kerasllm("explain", toy_run, TEXT)
    assert result.status == 0 and "\x1b" not in result.out
    assert max(map(len, result.out.splitlines())) <= 80
    for words in (
        "words that moved the logit of negative",
        TEXT,
        "completeness error",
        "random order",
    ):
        assert words in result.out


def test_another_label_can_be_explained(kerasllm, toy_run):
    found = json.loads(kerasllm("explain", toy_run, TEXT, "--target", "positive", "--json").out)
    scores = {word["word"]: word["score"] for word in found["words"]}
    assert found["target"] == "positive" and scores["dull"] < 0 and scores["weak"] < 0


def test_what_cannot_be_explained_is_refused(kerasllm, toy_run, tmp_path):
    result = kerasllm("explain", toy_run, TEXT, "--target", "Positive")
    assert result.status == 2 and "did you mean positive?" in result.err
    assert kerasllm("explain", toy_run, " ").status == 2
    assert "There are no texts" in kerasllm("explain", toy_run).err
    result = kerasllm("explain", toy_run, TEXT, "--output", tmp_path / "a.pdf")
    assert result.status == 2 and ".html" in result.err
    result = kerasllm("explain", toy_run, TEXT, "--steps", "2", "--max-error", "1e-9")
    assert result.status == 1 and "use more steps: --steps 4" in result.err


def test_a_long_text_is_explained_as_far_as_it_is_read(kerasllm, toy_run):
    found = json.loads(kerasllm("explain", toy_run, "good film " * 40, "--json").out)
    scores = [word["score"] for word in found["words"]]
    assert len(scores) == 80 and None not in scores[:30] and set(scores[30:]) == {None}
    assert "50 of 80 words are not read" in found["remarks"][0]


def test_other_methods_say_what_they_are(kerasllm, toy_run):
    found = json.loads(kerasllm("explain", toy_run, TEXT, "--method", "occlusion", "--json").out)
    assert all(word["score"] == word["occlusion"] for word in found["words"])
    assert found["completeness_error"] is None
    found = json.loads(kerasllm("explain", toy_run, TEXT, "--method", "attention", "--json").out)
    assert "not what the output depends on" in found["remarks"][0]
    for layer in found["attention"]:
        assert all(sum(row) == pytest.approx(1, abs=1e-4) for row in layer)
    shown = kerasllm("explain", toy_run, TEXT, "--method", "attention").out
    assert "which is not an explanation" in " ".join(shown.split())


def test_nothing_in_a_text_acts_on_a_terminal_or_a_page(kerasllm, toy_run, tmp_path):
    text = "good \x1b[31mfilm\u202e <script>alert(1)</script> שלום עולם 😀 $x$ 電影"
    result = kerasllm("explain", toy_run, text)
    assert result.status == 0 and "\x1b" not in result.out and "\u202e" not in result.out
    for name in ("a.html", "a.png", "a.json"):
        assert kerasllm("explain", toy_run, text, "--output", tmp_path / name).status == 0
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;" in page and "\u202e" not in page and "\x1b" not in page
    assert "שלום" in page and "default-src 'none'" in page
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))[0]["text"] == text


def test_mistakes_are_kept_for_the_report_of_the_run(kerasllm, toy_run, tmp_path, monkeypatch):
    from kerasllm.reports import run_facts

    run = shutil.copytree(toy_run, tmp_path / "run")
    # The toy model makes none.
    mistakes = [{"file": "test.csv", "line": 2, "text": TEXT}]
    monkeypatch.setattr(run_facts, "facts_for_report", lambda path: {"mistakes": mistakes})
    result = kerasllm("explain", run, "--mistakes", "--json")
    assert result.status == 0 and "report.html" in result.err
    kept = json.loads((run / "explanations.json").read_text(encoding="utf-8"))
    [output] = kept["test.csv:2"]
    assert "".join(text for text, _ in output["words"]) == TEXT
    assert max(abs(weight) for _, weight in output["words"]) == 1
    assert kerasllm("explain", run, "--mistakes", TEXT).status == 2


def test_the_words_that_move_each_class_most(kerasllm, toy_run):
    result = kerasllm("explain", toy_run, "--global", "--limit", "12", "--json")
    assert result.status == 0, result.err
    classes = {found["group"]: found for found in map(json.loads, result.out.splitlines())}
    assert set(classes) == {"negative", "positive"}
    words = {word["word"] for word in classes["negative"]["up"][:3]}
    assert words & {"bad", "dull", "weak", "awful"}
    assert all(word["count"] >= word["texts"] > 0 for word in classes["negative"]["up"])
