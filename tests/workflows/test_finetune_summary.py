"""What `finetune` says at its end: this command apart from the whole run, and what was kept."""

import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.cli.main import cli
from kerasllm.data.batch_plan import plan_batches
from kerasllm.recipe import load
from kerasllm.run import Run, shell_word
from kerasllm.tasks.task import task_of
from kerasllm.workflows import finetune_summary as summary

TIMING = {
    "steps": 68,
    "train_seconds": 282.1,
    "tokens_per_second": 1234.4,
    "padding": 0.031,
    "total_seconds": 223.9,
}


def job(*settings, steps=42, done=35):
    recipe = load("bert_cls", settings)
    return SimpleNamespace(
        recipe=recipe,
        task=task_of(recipe),
        steps=steps,
        warmup_steps=4,
        plan=SimpleNamespace(steps=7),
        model=SimpleNamespace(steps_done=done),
    )


@pytest.mark.parametrize("at_once", [True, False])
def test_warnings_are_shown_once(at_once):
    lines = []
    report = SimpleNamespace(heading=lines.append, facts=lines.append, line=lines.append)
    rows = SimpleNamespace(train=[1, 2])
    of_task = SimpleNamespace(
        facts=lambda *_: SimpleNamespace(facts=[], tables=[], remarks=["1 bad row was skipped"])
    )
    few = SimpleNamespace(recipe=None, data=rows, task=of_task, checked=SimpleNamespace(lines=list))
    (warning,) = summary.show_data(report, few, warnings=at_once)
    assert "only 2 training examples" in warning and "1 bad row was skipped" in lines
    assert (warning in lines) == at_once, "plan shows them at its end"


def training(recipe, *settings, epoch, warmup=1):
    recipe = load(recipe, settings)
    steps = epoch * recipe.training.epochs
    most = recipe.training.max_steps or steps
    return SimpleNamespace(
        recipe=recipe,
        steps=min(steps, most),
        warmup_steps=warmup,
        plan=SimpleNamespace(steps=epoch),
    )


def test_a_training_of_a_few_steps_is_warned_of():
    (warning,) = summary.training_warnings(training("bert_cls", "training.epochs=1", epoch=3))
    assert warning.startswith("warning: only 3 training steps, 1 of warm-up: too few")
    assert "training.epochs" in warning and "training.batch_size (now 32)" in warning
    for fine in (
        training("bert_cls", "training.epochs=1", epoch=20),
        training("bert_cls", "training.max_steps=3", epoch=20),
    ):
        assert summary.training_warnings(fine) == []


def test_a_new_model_at_the_rate_of_a_pretrained_one_is_warned_of():
    new = training("summarize", "model.preset=new", epoch=100)
    (warning,) = summary.training_warnings(new)
    assert "5e-05 is for pretrained models" in warning
    assert "--set training.learning_rate=1e-3" in warning
    for recipe in ("summarize", "translate", "gpt_lm", "mlm_scratch", "bert_cls"):
        assert summary.training_warnings(training(recipe, epoch=100)) == []


def test_a_large_weight_that_a_mesh_does_not_split_is_warned_of():
    def weight(name, *shape):
        return SimpleNamespace(path=f"layer/{name}", shape=shape, dtype="float32")

    weights = [weight("table", 2048, 256), weight("kernel", 256, 1024), weight("bias", 256)]

    def on(**mesh):
        model, strategy = SimpleNamespace(variables=weights), SimpleNamespace(shape=mesh)
        return summary.layout_warnings(SimpleNamespace(model=model, strategy=strategy))

    (warning,) = on(data=1, model=3)
    assert "each of 3 devices holds all of 2 large weights" in warning
    assert "layer/table, 2048 x 256" in warning
    assert on(data=2, model=2) == []
    one_device = SimpleNamespace(strategy=tf.distribute.get_strategy())
    assert summary.layout_warnings(one_device) == []


def test_a_new_model_is_shown_by_the_word_that_the_key_takes():
    lines = []
    report = SimpleNamespace(heading=lines.append, facts=lines.append, line=lines.append)
    summary.show_recipe(report, load("summarize", ["model.preset=new"]), "summarize")
    assert ("model.preset", "new  (in summarize: bart_base_en)") in lines[1]
    summary.show_recipe(report, load("translate", ["model.preset=t5_small"]), "translate")
    assert ("model.preset", "t5_small  (in translate: new)") in lines[4]


def test_the_padding_of_the_plan_is_that_of_the_training():
    plan = plan_batches(np.full(20, 10), 16, np.array([10]), seed=0)
    said = summary._padding(plan)
    assert said == (
        "37.5% of 320 tokens per epoch (200 are real), the last batch padded with 12 examples of "
        "weight 0"
    )
    full = plan_batches(np.full(32, 10), 16, np.array([10]), seed=0)
    assert summary._padding(full) == "0.0% of 320 tokens per epoch (320 are real)"


def test_the_steps_before_a_resume_are_told_apart():
    assert summary._trained(TIMING, None) == (
        "trained 68 steps in 282.1 s: 1,234 real tokens/s, 3.1% padding; 223.9 s in all"
    )
    resumed = SimpleNamespace(step=67, state={"states": {"monitor": {"seconds": 180.0}}})
    assert summary._trained(TIMING, resumed) == (
        "trained 1 step in 102.1 s, after 67 steps in 180.0 s before it was resumed: 1,234 real "
        "tokens/s, 3.1% padding; this command took 223.9 s"
    )


def test_time_is_called_compiling_only_where_something_is_compiled():
    timing = {"import_seconds": 4.0, "first_use_seconds": 6.0}
    assert summary._before_and_after(timing) == "import 4.0 s, first steps 6.0 s"
    assert "compile 6.0 s" in summary._before_and_after({"compile_seconds": 6.0})


@pytest.mark.parametrize(
    ("done", "end"), [(35, "was stopped at step 35 of 42"), (42, "finished at step 42 of 42")]
)
def test_early_stopping_says_what_it_kept_and_by_which_metric(done, end):
    stopped = job("training.early_stopping={patience: 2, metric: macro_f1}", done=done)
    validation = SimpleNamespace(best_step=21, result={"macro_f1": 0.95})
    said = summary.kept_by_early_stopping(stopped, validation)
    assert (
        "restored the weights of step 21 (epoch 3): validation macro F1 0.9500 was the best" in said
    )
    assert said.endswith(f"training {end}")


def test_the_curve_of_the_rate_has_its_peak_and_what_was_before_a_resume():
    rates = dict(summary.learning_rates(job("training.learning_rate=1e-3"), [], 0))
    assert rates[4] == pytest.approx(1e-3) and rates[1] == pytest.approx(0.25e-3)
    assert max(rates) == 35
    rows = [{"step": 10, "learning_rate": 5.0}, {"step": 20, "validation": {}}]
    rates = summary.learning_rates(job(), rows, 20)
    assert rates[0] == (10, 5.0) and [step for step, _ in rates[1:]] == list(range(21, 36))
    assert summary.learning_rates(job(), rows, 35) == [(10, 5.0)]


@pytest.mark.parametrize("folder", ['my runs/it\'s "a" $HOME', "-x", "ü; rm *", "plain"])
@pytest.mark.parametrize("recipe", ["bert_cls", "gpt_lm"])
def test_the_commands_that_come_next_can_be_typed(folder, recipe, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run = Run(folder)
    for _, command in task_of(load(recipe)).next_steps(run):
        program, verb, *arguments = shlex.split(command)
        command = cli.get_command(None, verb)
        context = command.make_context(verb, arguments)
        assert program == "kerasllm" and Path(context.params["run"]) == run.path
        assert "rm" not in context.params.get("texts", ())


def test_a_path_is_a_word_of_a_command():
    assert [shell_word(each) for each in ("a/b", "a b", "-x")] == ["a/b", "'a b'", "./-x"]
