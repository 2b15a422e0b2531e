"""What Tab completes: verbs, recipes, runs, formats, methods, presets; and how soon."""

import os
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete

from kerasllm.cli.main import cli

SLOW = {"tensorflow", "keras", "pyarrow", "rich", "numpy"}


def completed(*words: str) -> list[str]:
    *before, incomplete = words
    found = ShellComplete(cli, {}, "kerasllm", "_KERASLLM_COMPLETE").get_completions(
        list(before), incomplete
    )
    return [f"<{one.type}>" if one.type != "plain" else one.value for one in found]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["fine"], ["finetune"]),
        (["finetune", "--recipe", "bert"], ["bert_cls"]),
        (["finetune", "--recipe", "gpt_sft_"], ["gpt_sft_lora", "gpt_sft_qlora"]),
        (["finetune", "--recipe", "mine."], ["<file>"]),
        (["finetune", "--strategy", "m"], ["mirrored", "multi_worker"]),
        (["launch", "--strategy", ""], ["multi_worker", "sharded"]),
        (["evaluate", "a_run", "--strategy", "sharded:f"], ["sharded:fsdp"]),
        (["recipes", "s"], ["schema", "show"]),
        (["recipes", "show", "qa"], ["qa"]),
        (["export", "a_run", "--format", "on"], ["onnx"]),
        (["compress", "a_run", "--method", "int"], ["int8", "int4"]),
        (["presets", "fetch", "minilm"], ["minilm_l6_en_uncased"]),
        (["tune", "--recipe", "bert_cls", "--tri"], ["--trials"]),
    ],
)
def test_names_are_completed(words, found):
    assert completed(*words) == found


def test_runs_are_completed_where_they_lie(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for run in ("my_run", "runs/bert_cls/2026-11-30-1200", "runs/qa/seeds/seed-0", "else/where/a"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "recipe.yaml").write_text("task: x\n", encoding="utf-8")
    (tmp_path / "runs" / "empty").mkdir()
    every = ["my_run", "runs/bert_cls/2026-11-30-1200", "runs/qa/seeds/seed-0"]
    for verb in ("evaluate", "predict", "export", "compress", "serve", "report", "track push"):
        assert completed(*verb.split(), "") == every, verb
    assert completed("evaluate", "runs/q") == ["runs/qa/seeds/seed-0"]
    assert completed("compare", "my_run", "else/") == ["else/where/a"]
    assert completed("evaluate", "/no/such/") == completed("evaluate", "nothing") == ["<dir>"]


def test_a_shell_completes_and_waits_for_nothing_slow(tmp_path):
    """As the script that click writes for bash asks."""
    words = {"COMP_WORDS": "kerasllm finetune --recipe ber", "COMP_CWORD": "3"}
    code = (
        "import sys, atexit\nfrom kerasllm.cli.main import main\n"
        f"atexit.register(lambda: print(sorted({SLOW} & set(sys.modules)), file=sys.stderr))\n"
        "main([])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **words, "_KERASLLM_COMPLETE": "bash_complete"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "plain,bert_cls\n"
    assert done.stderr == "[]\n"
