"""Keys, formats and methods of other tools: each is refused with ours, which work."""

import re
import shlex

import pytest

from kerasllm import aliases, recipe
from kerasllm.cli.main import _VERBS
from kerasllm.cli.main import cli as command_line
from kerasllm.errors import RecipeError
from kerasllm.export.formats import FORMATS
from kerasllm.recipe.compression import METHODS
from kerasllm.recipe.schema import known_keys

LORA = recipe.load("gpt_sft_lora")
# A value that their key takes, where 4 is none.
VALUES = {
    **dict.fromkeys(("bf16", "fp16", "load_in_4bit", "load_in_8bit", "tf32"), "true"),
    **dict.fromkeys(("lr_scheduler_type", "schedule", "lr_scheduler", "scheduler"), "cosine"),
    "lr_schedule": "constant_with_warmup",
    **dict.fromkeys(("optim", "optimizer"), "adamw_torch"),
    **dict.fromkeys(("mixed_precision", "dtype", "torch_dtype", "precision"), "bf16"),
    **dict.fromkeys(("evaluation_strategy", "eval_strategy"), "epoch"),
    **dict.fromkeys(("use_dora", "use_rslora", "jit_compile", "torch_compile", "compile"), "true"),
    **dict.fromkeys(("gradient_checkpointing", "enable_activation_checkpointing", "remat"), "true"),
    **dict.fromkeys(("strategy", "distribution_strategy"), "ddp"),
    "label_smoothing_factor": "0.1",
    "metric_for_best_model": "eval_loss",
}


def refused(name, setting):
    with pytest.raises(RecipeError) as caught:
        recipe.load(name, [setting])
    return caught.value


def test_no_alias_is_a_word_of_ours():
    assert not set(aliases.VERBS) & set(_VERBS)
    assert not set(aliases.FORMATS) & set(FORMATS)
    assert not set(aliases.METHODS) & set(METHODS)
    assert set(aliases.FORMATS.values()) <= set(FORMATS)
    assert set(aliases.METHODS.values()) <= set(METHODS)
    for verb, options in aliases.OPTIONS.items():
        ours = {name for one in command_line.get_command(None, verb).params for name in one.opts}
        for theirs, option in options.items():
            assert f"--{theirs.replace('_', '-')}" not in ours, (verb, theirs)
            assert option == "RUN" or option.split(" ")[0] in ours, (verb, option)


@pytest.mark.parametrize("theirs", aliases.KEYS)
def test_a_key_of_another_tool_is_answered_with_a_setting_that_works(theirs):
    key = aliases.KEYS[theirs]
    value = VALUES.get(theirs, "0.3" if "dropout" in theirs or "split" in theirs else "4")
    ours = tuple((key.ours or "").split("."))
    name = "gpt_sft_lora" if ours in known_keys(type(LORA)) else "bert_cls"
    error = refused(name, f"{theirs}={value}")
    assert error.what == f"unknown key {theirs}"
    if key.ours is None:
        assert error.fix.startswith(key.note)
        return
    typed = shlex.split(re.search(r"type (--set .+?)( \(|$)", error.fix)[1])
    assert error.fix.startswith(f"did you mean {key.ours}?") and typed[0] == "--set"
    if typed[1].partition("=")[2].isdecimal() and "data." in typed[1]:
        return
    settings = [typed[1]]
    if theirs in ("lora_target_modules", "target_modules", "lora_attn_modules", "modules_to_save"):
        settings = [f"{key.ours}=[query]"]
    loaded = recipe.load(name, [*settings, *(["model.lora.rank=4"] if "lora" in key.ours else [])])
    section, _, rest = key.ours.partition(".")
    assert rest.partition(".")[0] in type(getattr(loaded, section)).model_fields


@pytest.mark.parametrize(
    ("written", "fix"),
    [
        ("training: {per_device_train_batch_size: 8}", "write `batch_size: 8` under training"),
        ("bf16: true", "write `precision: mixed_bfloat16` under training"),
        ("model: {lora: {r: 4}}", "write `rank: 4` under model.lora"),
        ("target_modules: [query, value]", "write `targets: [query, value]` under model.lora"),
        ("lr_scheduler_type: reduce_on_plateau", "write `schedule: linear` under training"),
        ("output_dir: my run", "type --output 'my run'"),
        ("num_labels: 3", "leave it out"),
    ],
)
def test_in_a_file_it_is_answered_with_the_line_to_write(tmp_path, written, fix):
    path = tmp_path / "mine.yaml"
    path.write_text(f"task: text_classification\n{written}\ndata: {{train: a.csv}}\n")
    problem = next(one for one in recipe.validate(path) if "unknown key" in one.what)
    assert fix in problem.fix and problem.where == f"{path}:2"


def test_a_key_that_the_task_lacks_is_answered_as_before():
    assert "rematerialize" not in str(refused("bert_cls", "gradient_checkpointing=true"))
