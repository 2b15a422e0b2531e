"""`kerasllm compress`: what it prints, and what it refuses without a traceback."""

import json

import pytest


def test_it_prints_both_models_and_where_the_smaller_one_is(kerasllm, toy_run, tmp_path):
    to_small = ("--method", "int8", "--output", tmp_path / "small")
    result = kerasllm("compress", toy_run, *to_small, "--json")
    assert result.status == 0
    # Alone on stdout.
    found = json.loads(result.out)
    assert found["run"] == str(tmp_path / "small") and {"before", "after"} <= found.keys()
    for shown in ("before", "after", "size, MB", "examples/s", "accuracy", "same prediction"):
        assert shown in result.err
    assert "within the limit of 2.00%" in result.err and str(tmp_path / "small") in result.err
    again = kerasllm("compress", toy_run, *to_small)
    assert again.status == 2 and "never overwritten" in again.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "either --method or --recipe"),
        (["--method", "int8", "--recipe", "compress_int8"], "either --method or --recipe"),
        (["--method", "int2"], "use int8, int4, gptq, awq, prune, distill"),
        (["--recipe", "compress_int2"], "did you mean compress_int"),
        (["--recipe", "bert_cls"], "does not compress models"),
        (["--method", "int8", "--limit", "much"], "limit: expected a number from 0 to below 1"),
        (["--method", "distill", "--set", "student.layer=1"], "did you mean student.layers"),
        (["--method", "distill", "--set", "student.layers=2"], "fewer layers than its teacher"),
        (["--method", "prune", "--set", "pruning.end=0"], "pruning.end: expected"),
    ],
)
def test_what_it_cannot_do_is_refused(kerasllm, toy_run, tmp_path, arguments, said):
    result = kerasllm("compress", toy_run, *arguments, "--output", tmp_path / "small")
    assert result.status == 2 and said in result.err
    assert not (tmp_path / "small" / "metrics.json").exists()


def test_a_folder_that_is_no_run_is_refused(kerasllm, tmp_path):
    result = kerasllm("compress", tmp_path, "--method", "int8")
    assert result.status == 2 and "not a run" in result.err


def test_training_with_a_recipe_of_compression_names_the_verb(kerasllm):
    result = kerasllm("finetune", "--recipe", "compress_prune")
    assert result.status == 2 and "kerasllm compress RUN --recipe compress_prune" in result.err
