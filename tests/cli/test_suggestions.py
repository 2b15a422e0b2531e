"""A command line in another tool's words is refused with the whole command to type."""

import shlex

import pytest

from kerasllm import aliases, recipe
from kerasllm.cli.main import cli as command_line


@pytest.mark.parametrize("theirs", aliases.VERBS)
def test_a_verb_of_another_tool_is_answered_with_a_command_there_is(kerasllm, theirs):
    result = kerasllm(theirs)
    assert result.status == 2 and f"There is no command {theirs!r}" in result.err
    command = shlex.split(result.err.split("type: kerasllm ")[1])
    verb = command_line.get_command(None, command[0])
    if hasattr(verb, "commands"):
        assert command[1] in verb.commands
    if "--recipe" in command:
        assert command[command.index("--recipe") + 1] in recipe.names()


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        ("eval my_run --data a.csv", "evaluate my_run --data a.csv"),
        ("train --recipe bert_cls", "finetune --recipe bert_cls"),
        ("merge my_run", "export my_run --format transformers"),
        ("infer my_run 'a film'", "predict my_run 'a film'"),
        ("quantize my_run --bits 8", "compress my_run --method int8"),
        (
            "finetune --config bert_cls --model x/ --epochs=2 --bf16 --lr 1e-4 --report_to wandb",
            (
                "finetune --recipe bert_cls --set model.preset=x/ --set training.epochs=2 "
                "--set training.precision=mixed_bfloat16 --set training.learning_rate=1e-4"
            ),
        ),
        (
            "finetune --recipe bert_cls --num-train-epochs 3 --seed 1 --output_dir 'my run'",
            "finetune --recipe bert_cls --set training.epochs=3 --seed 1 --output 'my run'",
        ),
        ("predict --model my_run --file a.txt", "predict my_run --input a.txt"),
        ("evaluate my_run --dataset a.csv", "evaluate my_run --data a.csv"),
        ("compress my_run --quantization 4bit", "compress my_run --method int4"),
        ("export my_run --to hf", "export my_run --format transformers"),
        ("generate x --prompt a --max_tokens 5", "generate x --prompt a --max-new-tokens 5"),
    ],
)
def test_the_whole_command_is_suggested(kerasllm, typed, command):
    result = kerasllm(*shlex.split(typed))
    assert result.status == 2
    assert result.err.strip().endswith(f"type: kerasllm {command}")


def test_a_suggestion_works_when_followed(kerasllm, toy_run):
    result = kerasllm("eval", toy_run, "--json")
    followed = kerasllm(*shlex.split(result.err.split("type: kerasllm ")[1]))
    assert followed.status == 0 and '"accuracy"' in followed.out
    result = kerasllm("infer", toy_run, "a good film")
    followed = kerasllm(*shlex.split(result.err.split("type: kerasllm ")[1]))
    assert followed.status == 0 and "positive" in followed.out


def test_formats_and_methods_of_other_tools(kerasllm, toy_run):
    result = kerasllm("export", toy_run, "--format", "hf")
    assert result.status == 2 and "type --format transformers" in result.err
    result = kerasllm("compress", toy_run, "--method", "4bit")
    assert result.status == 2 and "type --method int4" in result.err


def test_an_option_that_no_tool_has_is_answered_as_before(kerasllm):
    result = kerasllm("finetune", "--recipe", "bert_cls", "--epochs", "2", "--zzz")
    assert result.status == 2 and "No such option" in result.err and "type:" not in result.err
