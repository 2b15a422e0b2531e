"""What a type checker sees of the public names: read by mypy in .ci/run, never run.

Each line that is wrong is marked so, and mypy reports a mark that it does not need: an annotation
that became vague fails as one that became wrong.
"""

from pathlib import Path
from typing import Any, assert_type

import pandas as pd

import kerasllm
from kerasllm.recipe import WholeRecipe


def jobs() -> None:
    run = kerasllm.finetune("bert_cls", train=[{"text": "a", "label": "b"}], output=Path("my_run"))
    assert_type(run, kerasllm.TrainedModel)
    assert_type(kerasllm.load("my_run"), kerasllm.TrainedModel)
    kerasllm.finetune("bert_cls", training={"epochs": 2}, model={"lora": {"rank": 8}})
    kerasllm.finetune("bert_cls", training=2)  # type: ignore[arg-type]
    kerasllm.finetune(3)  # type: ignore[arg-type]
    kerasllm.finetune("bert_cls", resume="yes")  # type: ignore[arg-type]
    kerasllm.load(None)  # type: ignore[arg-type]


def trained(run: kerasllm.TrainedModel) -> None:
    assert_type(run.path, Path | None)
    assert_type(run.recipe, WholeRecipe | None)
    assert_type(run.metrics, dict[str, Any])
    assert_type(run.history(), pd.DataFrame)
    assert_type(run.history(as_dicts=True)[0]["step"] is None, bool)
    assert_type(run.predict(["a"]), list[dict[str, Any]])
    assert_type(run.generate("a"), str)
    assert_type(run.generate(["a", "b"], max_new_tokens=8), list[str])
    assert_type(run.generate([[{"role": "user", "content": "a"}]]), list[str])
    assert_type(run.export("onnx").folder, Path)
    run.generate("a", temperature="hot")  # type: ignore[call-overload]
    run.export(3)  # type: ignore[arg-type]
    run.evaluate("test.csv", labels="stars")  # type: ignore[call-arg]
    run.evaluat("test.csv")  # type: ignore[attr-defined]


def names() -> None:
    kerasllm.TextClassifer  # type: ignore[attr-defined]
    kerasllm.distribution.strategy(2)  # type: ignore[arg-type]
    kerasllm.recipe.load(3)  # type: ignore[arg-type]
    assert_type(kerasllm.recipe.load("bert_cls", {"training": {"epochs": 2}}), WholeRecipe)
    assert_type(kerasllm.recipe.names(), list[str])
    assert_type(kerasllm.__version__, str)
    assert_type(kerasllm.KerasllmError("what").fix, str | None)


def models() -> None:
    model = kerasllm.bert_classifier("minilm_l6_en_uncased", labels=["a", "b"])
    assert_type(model, kerasllm.TextClassifier)
    kerasllm.bert_classifier(3)  # type: ignore[arg-type]
    trained = kerasllm.TextClassifier.from_preset("my_run", labels=["a", "b"], precision="float32")
    assert_type(trained.classify(["a"]), list[dict[str, Any]])
    kerasllm.TextClassifier.from_preset(["my_run"])  # type: ignore[arg-type]
    writer = kerasllm.CausalLM.from_preset("my_chat", lora={"rank": 8})
    assert_type(writer.generate("a"), str | list[str])
    writer.generate("a", max_new_tokens="many")  # type: ignore[arg-type]


def datasets() -> None:
    data = kerasllm.Dataset.from_files("reviews.csv", text="review", label="stars")
    assert_type(data.split(0.1), tuple[kerasllm.Dataset, kerasllm.Dataset])
    assert_type(len(data), int)
    assert_type(data.counts, dict[str, int])
    kerasllm.Dataset.from_lists(3)  # type: ignore[arg-type]
    data.split("a tenth")  # type: ignore[arg-type]
